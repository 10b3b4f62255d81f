"""Normalisation: over what the mean runs, as in `nn.norm`, which does the arithmetic."""

from __future__ import annotations

from math import prod

import striate as st
from striate.core.array import Array
from striate.dtype import compute_dtype
from striate.errors import ShapeError
from striate.ir.types import normalize_axis
from striate.nn.norm import moments, normalize
from striate.onnx.registry import Call, operator


def _wide(x: Array) -> Array:
    return x.astype(compute_dtype(x.dtype))


def _along_channels(x: Array, *vectors: Array) -> tuple[int, ...]:
    """The shape of a vector [C] beside x [N, C, *I].

    Raises:
        ShapeError: x has no channels, or a vector has not one element per channel.
    """
    if x.ndim < 2:
        raise ShapeError(f"wants x [N, C, *I], got {x.type}")
    for v in vectors:
        if v.shape != (x.shape[1],):
            raise ShapeError(f"wants one value for each of the {x.shape[1]} channels, got {v.type}")
    return (1, -1, *(1,) * (x.ndim - 2))


@operator("BatchNormalization")
def batch_normalization(
    node: Call, x: Array, scale: Array, bias: Array, mean: Array, var: Array
) -> Array | tuple[Array, Array, Array]:
    """By the running statistics; by those of the batch if the node says so, which returns the moved
    ones, or in training mode, which assigns them. The variance kept is the biased one.
    """
    shape = _along_channels(x, scale, bias, mean, var)
    eps = node.float("epsilon", 1e-5)
    by_node = bool(node.int("training_mode", 0)) and node.opset >= 14
    if not by_node and not node.training:
        known = (_wide(mean).reshape(*shape), _wide(var).reshape(*shape))
        y = normalize(_wide(x), known, eps, scale, bias, shape).astype(x.dtype)
        return y
    axes = (0, *range(2, x.ndim))
    batch = moments(_wide(x), axes)
    y = normalize(_wide(x), batch, eps, scale, bias, shape).astype(x.dtype)
    keep = node.float("momentum", 0.9)
    moved = tuple(
        (old * keep + new.reshape(-1) * (1 - keep)).astype(old.dtype)
        for old, new in zip((mean, var), batch, strict=True)
    )
    if by_node:
        return y, *moved
    for old, new in zip((mean, var), moved, strict=True):
        old.assign(new)
    return y


@operator("InstanceNormalization")
def instance_normalization(node: Call, x: Array, scale: Array, bias: Array) -> Array:
    shape = _along_channels(x, scale, bias)
    wide = _wide(x)
    found = moments(wide, tuple(range(2, x.ndim)))
    return normalize(wide, found, node.float("epsilon", 1e-5), scale, bias, shape).astype(x.dtype)


@operator("GroupNormalization")
def group_normalization(node: Call, x: Array, scale: Array, bias: Array) -> Array:
    """Opset 18 has one scale and bias per group, opset 21 one per channel."""
    groups = node.int("num_groups")
    shape = _along_channels(x)
    channels = x.shape[1]
    if groups < 1 or channels % groups:
        raise ShapeError(f"the {channels} channels of {x.type} do not divide into {groups} groups")
    wanted = groups if node.opset < 21 else channels
    for v in (scale, bias):
        if v.shape != (wanted,):
            raise ShapeError(f"wants {wanted} values of scale and bias, got {v.type}")
    if node.opset < 21:
        scale, bias = (st.repeat(v, channels // groups) for v in (scale, bias))
    wide = _wide(x).reshape(x.shape[0], groups, -1)
    mean, var = moments(wide, (2,))
    y = ((wide - mean) * st.rsqrt(var + node.float("epsilon", 1e-5))).reshape(*x.shape)
    y = y * _wide(scale).reshape(*shape) + _wide(bias).reshape(*shape)
    return y.astype(x.dtype)


def _last_axes(node: Call, x: Array) -> tuple[int, ...]:
    first = normalize_axis("axis", node.int("axis", -1), x.ndim)
    return tuple(range(first, x.ndim))


@operator("LayerNormalization")
def layer_normalization(
    node: Call, x: Array, scale: Array, bias: Array | None = None
) -> tuple[Array, Array, Array]:
    """(y, mean, 1 / standard deviation), over the axes from `axis` on."""
    wide = _wide(x)
    mean, var = moments(wide, _last_axes(node, x))
    inverse = st.rsqrt(var + node.float("epsilon", 1e-5))
    y = ((wide - mean) * inverse).astype(x.dtype) * scale
    return (y if bias is None else y + bias), mean, inverse


@operator("RMSNormalization")
def rms_normalization(node: Call, x: Array, scale: Array) -> Array:
    wide = _wide(x)
    square = st.mean(st.square(wide), _last_axes(node, x), keepdims=True)
    return (wide * st.rsqrt(square + node.float("epsilon", 1e-5))).astype(x.dtype) * scale


@operator("LRN")
def lrn(node: Call, x: Array) -> Array:
    """x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ** beta.

    Method: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks".
    """
    size = node.int("size")
    if x.ndim < 2 or size < 1:
        raise ShapeError(f"wants x [N, C, *I] and size >= 1, got {x.type} and {size}")
    n, c = x.shape[:2]
    squares = st.square(_wide(x)).reshape(n, 1, c, prod(x.shape[2:]))
    before = (size - 1) // 2
    window = st.ones((1, 1, size, 1), squares.dtype)
    total = st.conv(squares, window, padding=[(before, size - 1 - before), (0, 0)]).reshape(
        *x.shape
    )
    base = total * (node.float("alpha", 1e-4) / size) + node.float("bias", 1.0)
    return (x * st.pow(base, -node.float("beta", 0.75))).astype(x.dtype)


@operator("LpNormalization")
def lp_normalization(node: Call, x: Array) -> Array:
    """x / its p-norm along an axis; 0 where the norm is 0."""
    axis, p = node.int("axis", -1), node.int("p", 2)
    if p not in (1, 2):
        raise ShapeError(f"p must be 1 or 2, got {p}")
    if p == 1:
        norm = st.sum(st.abs(x), axis, keepdims=True)
    else:
        norm = st.sqrt(st.sum(st.square(x), axis, keepdims=True))
    return st.where(norm == 0, 0.0, x / st.where(norm == 0, 1.0, norm))


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Call, x: Array) -> Array:
    axes = tuple(node.ints("axes", [0, 2, 3]))
    if any(not -x.ndim <= a < x.ndim for a in axes):
        raise ShapeError(f"axes {list(axes)} are not all axes of {x.type}")
    centered = x - st.mean(x, axes, keepdims=True)
    deviation = st.sqrt(st.mean(centered * centered, axes, keepdims=True))
    return centered / (deviation + 1e-9)
