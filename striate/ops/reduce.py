"""Reductions over axes: max, min and their positions, and what is composed of sums and maxima."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from striate.dtype import float32, int64
from striate.errors import ShapeError
from striate.ir.graph import Cotangents, Node, Op, Value, apply
from striate.ir.types import TensorType, normalize_axes, normalize_axis
from striate.ops.elementwise import (
    add,
    cast,
    divide,
    equal,
    isinf,
    logical_not,
    subtract,
    where,
)
from striate.ops.functions import exp, log, sqrt, square
from striate.ops.index import take_along_axis
from striate.ops.movement import reshape, sum_axes, transpose
from striate.ops.operand import Operand, as_node

Axes = int | tuple[int, ...] | None


def _keep(x: Node, reduced: Node, axes: tuple[int, ...], keepdims: bool) -> Node:
    if not keepdims:
        return reduced
    return reshape(reduced, tuple(1 if a in axes else n for a, n in enumerate(x.shape)))


# ---- sums ----------------------------------------------------------------------------------


def sum(x: Operand, axis: Axes = None, *, keepdims: bool = False) -> Node:
    """The sum over some axes (all by default); integers and bools sum in int64.

    >>> st.sum(np.ones((2, 3), np.float32), axis=0).numpy()
    array([2., 2., 2.], dtype=float32)
    """
    x = as_node(x)
    axes = normalize_axes("sum", axis, x.ndim)
    return _keep(x, sum_axes(x, axes), axes, keepdims)


def _float(x: Operand) -> Node:
    x = as_node(x)
    return x if x.type.dtype.is_floating else cast(x, float32)


def mean(x: Operand, axis: Axes = None, *, keepdims: bool = False) -> Node:
    """The mean over some axes (all by default); integers as float32, nothing gives NaN."""
    x = _float(x)
    axes = normalize_axes("mean", axis, x.ndim)
    count = prod(x.shape[a] for a in axes)
    total = sum(x, axes, keepdims=keepdims)
    return total if count == 1 else divide(total, float(count))


def var(x: Operand, axis: Axes = None, *, correction: float = 0.0, keepdims: bool = False) -> Node:
    """The variance over some axes: the sum of squared differences from the mean, divided by
    (number of elements - correction).
    """
    x = _float(x)
    axes = normalize_axes("var", axis, x.ndim)
    d = subtract(x, mean(x, axes, keepdims=True))
    count = float(prod(x.shape[a] for a in axes) - correction)
    return divide(sum(square(d), axes, keepdims=keepdims), count if count > 0 else 0.0)


def std(x: Operand, axis: Axes = None, *, correction: float = 0.0, keepdims: bool = False) -> Node:
    """The standard deviation: the square root of `var`."""
    return sqrt(var(x, axis, correction=correction, keepdims=keepdims))


# ---- extremes ------------------------------------------------------------------------------


def _extreme(name: str, pick: Callable[..., Any], find: Callable[..., Any]) -> tuple[Op, Op]:
    """The op that reduces the last axis by `pick`, and the one that finds the first such place.

    NaN wins. The derivative goes to the first of equal values.
    """

    def check(attrs: None, x: TensorType) -> TensorType:
        if x.shape[-1] == 0:
            raise ShapeError(f"{name}: an axis of size 0 has no {name} (operand {x})")
        return x.with_shape(x.shape[:-1])

    def at(x: Node, t: Node) -> Node:
        index = reshape(apply(arg, (x,)), (*x.shape[:-1], 1))
        return reshape(take_along_axis(t, index), x.shape[:-1])

    def vjp(attrs: None, g: Node, out: Node, x: Node) -> Cotangents:
        index = reshape(apply(arg, (x,)), (*x.shape[:-1], 1))
        first = equal(index, np.arange(x.shape[-1]))
        return (where(first, reshape(g, (*g.shape, 1)), 0),)

    def jvp(attrs: None, tangents: Cotangents, out: Node, x: Node) -> Node | None:
        return None if tangents[0] is None else at(x, tangents[0])

    def index(attrs: None, x: Value) -> Value:
        wide = x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x
        return np.asarray(find(wide, axis=-1), dtype=np.int64)

    def value(attrs: None, x: Value) -> Value:
        return np.asarray(pick(x, axis=-1), dtype=x.dtype)

    arg = Op(f"arg{name}", lambda attrs, x: check(attrs, x).with_dtype(int64), index)
    return Op(name, check, value, vjp, jvp), arg


MAX, ARGMAX = _extreme("max", np.max, np.argmax)
MIN, ARGMIN = _extreme("min", np.min, np.argmin)


def _last(x: Node, axes: tuple[int, ...]) -> Node:
    """Move `axes` to the end and merge them: [*S] -> [*rest, n]."""
    rest = tuple(a for a in range(x.ndim) if a not in axes)
    moved = transpose(x, (*rest, *axes))
    return reshape(moved, (*(x.shape[a] for a in rest), prod(x.shape[a] for a in axes)))


def max(x: Operand, axis: Axes = None, *, keepdims: bool = False) -> Node:
    """The largest value over some axes (all by default); NaN if there is one.

    Its derivative goes to the first of equal values.

    Raises:
        ShapeError: there is nothing to reduce over.
    """
    x = as_node(x)
    axes = normalize_axes("max", axis, x.ndim)
    return _keep(x, apply(MAX, (_last(x, axes),)), axes, keepdims)


def min(x: Operand, axis: Axes = None, *, keepdims: bool = False) -> Node:
    """The smallest value over some axes (all by default); NaN if there is one.

    Its derivative goes to the first of equal values.

    Raises:
        ShapeError: there is nothing to reduce over.
    """
    x = as_node(x)
    axes = normalize_axes("min", axis, x.ndim)
    return _keep(x, apply(MIN, (_last(x, axes),)), axes, keepdims)


def _arg(name: str, op: Op, x: Operand, axis: int | None, keepdims: bool) -> Node:
    x = as_node(x)
    axes = tuple(range(x.ndim)) if axis is None else (normalize_axis(name, axis, x.ndim),)
    return _keep(x, apply(op, (_last(x, axes),)), axes, keepdims)


def argmax(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Node:
    """The position of the first largest value, as int64; of NaN if there is one.

    Raises:
        ShapeError: there is nothing to reduce over.
    """
    return _arg("argmax", ARGMAX, x, axis, keepdims)


def argmin(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Node:
    """The position of the first smallest value, as int64; of NaN if there is one.

    Raises:
        ShapeError: there is nothing to reduce over.
    """
    return _arg("argmin", ARGMIN, x, axis, keepdims)


def all(x: Operand, axis: Axes = None, *, keepdims: bool = False) -> Node:
    """True where every element over some axes is true (not zero); of nothing it is True."""
    x = cast(equal(x, 0), int64)
    return equal(sum(x, axis, keepdims=keepdims), 0)


def any(x: Operand, axis: Axes = None, *, keepdims: bool = False) -> Node:
    """True where some element over some axes is true (not zero); of nothing it is False."""
    x = cast(logical_not(equal(x, 0)), int64)
    return logical_not(equal(sum(x, axis, keepdims=keepdims), 0))


# ---- exponentials --------------------------------------------------------------------------


STOP_GRADIENT: Op = Op("stop_gradient", lambda attrs, x: x, lambda attrs, x: x)


def stop_gradient(x: Operand) -> Node:
    """`x`, taken as a constant by every derivative."""
    return apply(STOP_GRADIENT, (as_node(x),))


def _shift(x: Node, axes: tuple[int, ...]) -> Node:
    """The largest value, kept as axes of size 1, finite and constant: exp(x - it) is at most 1."""
    largest = stop_gradient(max(x, axes, keepdims=True))
    return where(isinf(largest), 0.0, largest)


def logsumexp(x: Operand, axis: Axes = None, *, keepdims: bool = False) -> Node:
    """log(sum(exp(x))) over some axes, without overflow.

    >>> round(st.logsumexp(np.float32([1000.0, 1000.0])).item(), 3)
    1000.693
    """
    x = _float(x)
    axes = normalize_axes("logsumexp", axis, x.ndim)
    shift = _shift(x, axes)
    total = add(log(sum(exp(subtract(x, shift)), axes, keepdims=True)), shift)
    return total if keepdims else reshape(total, sum_axes(x, axes).shape)


def softmax(x: Operand, axis: int = -1) -> Node:
    """exp(x) / sum(exp(x)) along one axis.

    >>> st.softmax(np.float32([0, 0])).numpy()
    array([0.5, 0.5], dtype=float32)
    """
    x = _float(x)
    axes = (normalize_axis("softmax", axis, x.ndim),)
    if x.type.size == 0:
        return x
    e = exp(subtract(x, _shift(x, axes)))
    return divide(e, sum(e, axes, keepdims=True))


def log_softmax(x: Operand, axis: int = -1) -> Node:
    """log(softmax(x)) along one axis, without cancellation."""
    x = _float(x)
    axes = (normalize_axis("log_softmax", axis, x.ndim),)
    if x.type.size == 0:
        return x
    shifted = subtract(x, _shift(x, axes))
    return subtract(shifted, log(sum(exp(shifted), axes, keepdims=True)))
