"""Pooling."""

from __future__ import annotations

from math import prod

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.onnx.operators.windows import padding, per_axis, spatial_rank
from striate.onnx.registry import Call, operator


@operator("MaxPool")
def max_pool(node: Call, x: Array) -> Array | tuple[Array, Array]:
    rank = spatial_rank(x)
    window = per_axis(node, "kernel_shape", rank)
    found: tuple[Array, Array] = st.max_pool(
        x,
        _required(node, window),
        stride=per_axis(node, "strides", rank),
        padding=padding(node, rank),
        dilation=per_axis(node, "dilations", rank),
        ceil_mode=bool(node.int("ceil_mode", 0)),
        return_indices=True,
    )
    values, index = found
    if node.outputs < 2:
        return values
    return values, _whole_index(x, index, column_major=bool(node.int("storage_order", 0)))


def _required(node: Call, window: list[int]) -> tuple[int, ...]:
    node.ints("kernel_shape")
    return tuple(window)


def _whole_index(x: Array, index: Array, column_major: bool) -> Array:
    """Indices into one image and channel [N, C, *O] as indices into all of x [N, C, *I]; column
    major, the first spatial axis is the one that varies most quickly.
    """
    sizes = x.shape[2:]
    if column_major:
        parts = [index // prod(sizes[a + 1 :]) % n * prod(sizes[:a]) for a, n in enumerate(sizes)]
        index = sum(parts[1:], parts[0])
    images = np.arange(prod(x.shape[:2])).reshape(*x.shape[:2], *(1,) * len(sizes))
    return index + images * prod(sizes)


@operator("AveragePool")
def average_pool(node: Call, x: Array) -> Array:
    rank = spatial_rank(x)
    return st.avg_pool(
        x,
        _required(node, per_axis(node, "kernel_shape", rank)),
        stride=per_axis(node, "strides", rank),
        padding=padding(node, rank),
        dilation=per_axis(node, "dilations", rank),
        ceil_mode=bool(node.int("ceil_mode", 0)),
        count_include_pad=bool(node.int("count_include_pad", 0)),
    )


def _spatial(x: Array) -> tuple[int, ...]:
    return tuple(range(2, 2 + spatial_rank(x)))


@operator("GlobalAveragePool")
def global_average_pool(node: Call, x: Array) -> Array:
    return st.mean(x, _spatial(x), keepdims=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Call, x: Array) -> Array:
    axes = _spatial(x)
    if 0 in x.shape[2:]:
        raise ShapeError(f"nothing to reduce over in {x.type}")
    return st.max(x, axes, keepdims=True)


def _order(node: Call) -> int:
    p: int = node.int("p", 2)
    if p < 1:
        raise ShapeError(f"p must be at least 1, got {p}")
    return p


@operator("LpPool")
def lp_pool(node: Call, x: Array) -> Array:
    """(sum of |x|**p) ** (1/p); zeros are added where `ceil_mode` runs over the end."""
    rank, p = spatial_rank(x), _order(node)
    window = _required(node, per_axis(node, "kernel_shape", rank))
    powers = st.abs(x) ** p
    means = st.avg_pool(
        powers,
        window,
        stride=per_axis(node, "strides", rank),
        padding=padding(node, rank),
        dilation=per_axis(node, "dilations", rank),
        ceil_mode=bool(node.int("ceil_mode", 0)),
        divisor_override=1,
    )
    return st.pow(means, 1 / p)


@operator("GlobalLpPool")
def global_lp_pool(node: Call, x: Array) -> Array:
    p = _order(node)
    return st.pow(st.sum(st.abs(x) ** p, _spatial(x), keepdims=True), 1 / p)


@operator("MaxUnpool", known=(2,))
def max_unpool(node: Call, x: Array, index: Array, shape: Array | None = None) -> Array:
    """Zeros with every x at its index, which counts within the tensor that the pads leave."""
    rank = spatial_rank(x)
    window = _required(node, per_axis(node, "kernel_shape", rank))
    strides, pads = per_axis(node, "strides", rank), padding(node, rank)
    if index.shape != x.shape or isinstance(pads, str):
        raise ShapeError(f"wants an index for each value and pads in numbers, got {index.type}")
    whole = [
        (n - 1) * s + k - lo - hi
        for n, s, k, (lo, hi) in zip(x.shape[2:], strides, window, pads, strict=True)
    ]
    own = (*x.shape[:2], *whole)
    given = tuple(node.known_ints(shape, "output_shape")) if shape is not None else own
    if len(given) != x.ndim or given[:2] != x.shape[:2] or min(given) < 0:
        raise ShapeError(f"output_shape {given} is none for {x.type}")
    flat = st.put_add(x.reshape(-1), _into(index.reshape(-1), own, given), prod(given))
    return flat.reshape(*given)


def _into(index: Array, own: tuple[int, ...], given: tuple[int, ...]) -> Array:
    """Flat indices into a tensor as flat indices into a larger one at the same places."""
    if own == given:
        return index
    parts = [index // prod(own[a + 1 :]) % n * prod(given[a + 1 :]) for a, n in enumerate(own)]
    return sum(parts[1:], parts[0])
