"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import striate as st
from striate.core.array import Array
from striate.dtype import DType
from striate.errors import ShapeError
from striate.ir.types import normalize_axes, normalize_axis
from striate.onnx.operators.movement import axes_of
from striate.onnx.registry import Call, operator


def neutral(how: str, dtype: DType) -> Any:
    """The number that a reduction of nothing gives."""
    if how == "mul":
        return 1
    if dtype.is_floating:
        return -np.inf if how == "max" else np.inf
    if dtype.kind == "b":
        return how == "min"
    info = np.iinfo(dtype.name)
    return int(info.min if how == "max" else info.max)


def product(x: Array, axis: Any, *, keepdims: bool = False) -> Array:
    """The product over some axes, by halves."""
    axes = normalize_axes("prod", axis, x.ndim)
    for a in axes:
        while x.shape[a] > 1:
            half = x.shape[a] // 2
            first, second, *odd = st.split(x, [half, half, *[1] * (x.shape[a] % 2)], a)
            x = st.concat([first * second, *odd], a)
        if x.shape[a] == 0:
            x = st.ones(tuple(1 if k == a else n for k, n in enumerate(x.shape)), x.dtype)
    return x if keepdims else st.squeeze(x, axes)


def _extreme(how: str, fn: Callable[..., Array]) -> Callable[..., Array]:
    """A maximum or minimum that is neutral where there is nothing."""

    def run(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        if all(x.shape[a] for a in axes):
            return fn(x, axes, keepdims=keepdims)
        shape = st.sum(x, axes, keepdims=keepdims).shape
        return st.full(shape, neutral(how, x.dtype), x.dtype)

    return run


def _log_sum_exp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    if all(x.shape[a] for a in axes):
        return st.logsumexp(x, axes, keepdims=keepdims)
    return st.log(st.sum(x, axes, keepdims=keepdims))


_REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...], bool], Array]] = {
    "ReduceSum": lambda x, axes, keep: st.sum(x, axes, keepdims=keep),
    "ReduceMean": lambda x, axes, keep: st.mean(x, axes, keepdims=keep),
    "ReduceProd": lambda x, axes, keep: product(x, axes, keepdims=keep),
    "ReduceMax": _extreme("max", st.max),
    "ReduceMin": _extreme("min", st.min),
    "ReduceL1": lambda x, axes, keep: st.sum(st.abs(x), axes, keepdims=keep),
    "ReduceL2": lambda x, axes, keep: st.sqrt(st.sum(st.square(x), axes, keepdims=keep)),
    "ReduceSumSquare": lambda x, axes, keep: st.sum(st.square(x), axes, keepdims=keep),
    "ReduceLogSum": lambda x, axes, keep: st.log(st.sum(x, axes, keepdims=keep)),
    "ReduceLogSumExp": _log_sum_exp,
}


def _enter(name: str, fn: Callable[[Array, tuple[int, ...], bool], Array]) -> None:
    @operator(name, known=(1,))
    def run(node: Call, x: Array, axes: Array | None = None) -> Array:
        """Axes are an attribute or, since opset 18 (13 for the sum), an input; none are all."""
        found = axes_of(node, axes) or (() if node.int("noop_with_empty_axes", 0) else None)
        which = normalize_axes("axes", None if found is None else tuple(found), x.ndim)
        return fn(x, which, bool(node.int("keepdims", 1))).astype(x.dtype)


for _name, _fn in _REDUCTIONS.items():
    _enter(_name, _fn)


def _position(node: Call, x: Array, find: Callable[..., Array]) -> Array:
    axis = normalize_axis("axis", node.int("axis", 0), x.ndim)
    keepdims = bool(node.int("keepdims", 1))
    if x.shape[axis] == 0:
        raise ShapeError(f"axis {axis} of {x.type} is empty")
    if node.int("select_last_index", 0):
        return x.shape[axis] - 1 - find(st.flip(x, axis), axis, keepdims=keepdims)
    return find(x, axis, keepdims=keepdims)


@operator("ArgMax")
def argmax(node: Call, x: Array) -> Array:
    return _position(node, x, st.argmax)


@operator("ArgMin")
def argmin(node: Call, x: Array) -> Array:
    return _position(node, x, st.argmin)
