"""Ops that read and write by index: `take` and `take_along_axis`, and their adjoints.

    take(x, i, axis):            y[..., j, ...] = x[..., i[j], ...]     i: one-dimensional
    take_along_axis(x, i, axis): y[..., j, ...] = x[..., i[..., j, ...], ...]

The adjoints add every g into the place that it came from. Indices must lie in [-n, n); a value
outside raises IndexError when the graph runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from striate.errors import DTypeError, ShapeError
from striate.ir.arguments import integer
from striate.ir.graph import Node, Op, Value, apply
from striate.ir.types import TensorType, normalize_axis
from striate.ops.elementwise import cast, equal
from striate.ops.movement import reshape
from striate.ops.operand import Operand, as_node


@dataclass(frozen=True, slots=True)
class Indexing:
    """The indexed axis and its size in the array that is read (or written, for an adjoint)."""

    axis: int
    size: int


def _check(name: str, index: Value, attrs: Indexing) -> Value:
    """Non-negative indices.

    Raises:
        IndexError: one is outside [-size, size).
    """
    n = attrs.size
    if index.size and not (-n <= index.min() and index.max() < n):
        raise index_error(name, attrs, index.max() if index.max() >= n else index.min())
    return np.where(index < 0, index + n, index)


def index_error(name: str, attrs: Indexing, index: int) -> IndexError:
    """What is raised for an index outside of [-size, size)."""
    return IndexError(
        f"{name}: index {index} is out of range for axis {attrs.axis} of size {attrs.size}"
    )


def _integer(name: str, index: TensorType) -> None:
    if not index.dtype.is_integer:
        raise DTypeError(f"{name}: indices must be integers, got {index}")


# ---- take and its adjoint ------------------------------------------------------------------


def _take_infer(attrs: Indexing, x: TensorType, index: TensorType) -> TensorType:
    _integer("take", index)
    if index.ndim != 1:
        raise ShapeError(f"take: indices must have one axis, got {index}")
    return x.with_shape((*x.shape[: attrs.axis], index.shape[0], *x.shape[attrs.axis + 1 :]))


def _put_infer(attrs: Indexing, g: TensorType, index: TensorType) -> TensorType:
    _integer("put_add", index)
    if index.shape != (g.shape[attrs.axis],):
        raise ShapeError(
            f"put_add: wants one index for each of the {g.shape[attrs.axis]} values along axis "
            f"{attrs.axis} of {g}, got {index}"
        )
    return g.with_shape((*g.shape[: attrs.axis], attrs.size, *g.shape[attrs.axis + 1 :]))


def _put_reference(attrs: Indexing, g: Value, index: Value) -> Value:
    rows = np.moveaxis(g, attrs.axis, 0)
    y = np.zeros((attrs.size, *rows.shape[1:]), _wide(g))
    np.add.at(y, _check("take", index, attrs), rows)
    return np.ascontiguousarray(np.moveaxis(y, 0, attrs.axis)).astype(g.dtype, copy=False)


def _wide(x: Value) -> np.dtype[np.generic]:
    return x.dtype if x.dtype.kind in "fiub" else np.dtype(np.float32)


TAKE: Op = Op(
    "take",
    _take_infer,
    lambda attrs, x, index: np.take(x, _check("take", index, attrs), axis=attrs.axis),
    lambda attrs, g, out, x, index: (apply(PUT_ADD, (g, index), attrs), None),
    lambda attrs, t, out, x, index: None if t[0] is None else apply(TAKE, (t[0], index), attrs),
)
PUT_ADD: Op = Op(
    "put_add",
    _put_infer,
    _put_reference,
    lambda attrs, g, out, x, index: (apply(TAKE, (g, index), attrs), None),
    lambda attrs, t, out, x, index: None if t[0] is None else apply(PUT_ADD, (t[0], index), attrs),
)


def take(x: Operand, indices: Operand, axis: int = 0) -> Node:
    """The elements of `x` at `indices` along one axis.

    Args:
        x: [*A, n, *B].
        indices: integers [m] in [-n, n).
        axis: the axis of size n.

    Returns:
        [*A, m, *B].

    Raises:
        DTypeError: the indices are not integers.
        IndexError: an index is out of range (when the value is computed).

    >>> st.take(np.float32([10, 20, 30]), np.array([2, 0])).numpy()
    array([30., 10.], dtype=float32)
    """
    x, index = as_node(x), as_node(indices)
    axis = normalize_axis("take", axis, x.ndim)
    return apply(TAKE, (x, index), Indexing(axis, x.shape[axis]))


def put_add(g: Operand, indices: Operand, size: int, axis: int = 0) -> Node:
    """The adjoint of `take`: zeros with every g[..., j, ...] added at indices[j].

    Args:
        g: values [*A, m, *B].
        indices: integers [m] in [-size, size).
        size: size of `axis` in the result.
        axis: the axis that is indexed.

    Returns:
        [*A, size, *B].

    Raises:
        ShapeError: there is not one index per value, or the size is negative.
        DTypeError: the indices or the size are not integers.
        IndexError: an index is out of range (when the value is computed).
    """
    g, size = as_node(g), integer("put_add", "size", size, 0)
    axis = normalize_axis("put_add", axis, g.ndim)
    return apply(PUT_ADD, (g, as_node(indices)), Indexing(axis, size))


# ---- take_along_axis and its adjoint -------------------------------------------------------


def _gather_infer(attrs: Indexing, x: TensorType, index: TensorType) -> TensorType:
    _integer("take_along_axis", index)
    others = [a for a in range(x.ndim) if a != attrs.axis]
    if index.ndim != x.ndim or any(x.shape[a] != index.shape[a] for a in others):
        raise ShapeError(
            f"take_along_axis: indices must have the shape of the array outside axis {attrs.axis}, "
            f"got {x} and {index}"
        )
    return x.with_shape(index.shape)


def _scatter_infer(attrs: Indexing, g: TensorType, index: TensorType) -> TensorType:
    _integer("scatter_add", index)
    if g.shape != index.shape:
        raise ShapeError(f"scatter_add: values and indices must have one shape, got {g}, {index}")
    return g.with_shape((*g.shape[: attrs.axis], attrs.size, *g.shape[attrs.axis + 1 :]))


def _scatter_reference(attrs: Indexing, g: Value, index: Value) -> Value:
    rows = np.moveaxis(g, attrs.axis, -1)
    where = np.moveaxis(_check("scatter_add", index, attrs), attrs.axis, -1)
    lead = rows.shape[:-1]
    count = int(np.prod(lead))
    flat = (where.reshape(count, where.shape[-1]) + np.arange(count)[:, None] * attrs.size).ravel()
    if g.dtype.kind == "f":  # a float64 histogram is many times faster than np.add.at
        y = np.bincount(flat, rows.reshape(-1), minlength=count * attrs.size)
    else:
        y = np.zeros(count * attrs.size, _wide(g))
        np.add.at(y, flat, rows.reshape(-1))
    y = y.astype(g.dtype, copy=False).reshape(*lead, attrs.size)
    return np.ascontiguousarray(np.moveaxis(y, -1, attrs.axis))


TAKE_ALONG_AXIS: Op = Op(
    "take_along_axis",
    _gather_infer,
    lambda attrs, x, index: np.take_along_axis(
        x, _check("take_along_axis", index, attrs), axis=attrs.axis
    ),
    lambda attrs, g, out, x, index: (apply(SCATTER_ADD, (g, index), attrs), None),
    lambda attrs, t, out, x, index: (
        None if t[0] is None else apply(TAKE_ALONG_AXIS, (t[0], index), attrs)
    ),
)
SCATTER_ADD: Op = Op(
    "scatter_add",
    _scatter_infer,
    _scatter_reference,
    lambda attrs, g, out, x, index: (apply(TAKE_ALONG_AXIS, (g, index), attrs), None),
    lambda attrs, t, out, x, index: (
        None if t[0] is None else apply(SCATTER_ADD, (t[0], index), attrs)
    ),
)


def take_along_axis(x: Operand, indices: Operand, axis: int = -1) -> Node:
    """The elements of `x` at `indices`, which vary over the other axes too.

    Args:
        x: [*A, n, *B].
        indices: integers [*A, m, *B] in [-n, n).
        axis: the axis of size n.

    Returns:
        [*A, m, *B].

    Raises:
        ShapeError: shapes differ outside `axis`.
        DTypeError: the indices are not integers.
        IndexError: an index is out of range (when the value is computed).
    """
    x, index = as_node(x), as_node(indices)
    axis = normalize_axis("take_along_axis", axis, x.ndim)
    return apply(TAKE_ALONG_AXIS, (x, index), Indexing(axis, x.shape[axis]))


def scatter_add(g: Operand, indices: Operand, size: int, axis: int = -1) -> Node:
    """The adjoint of `take_along_axis`: zeros, with each value added at its index.

    Args:
        g: values [*A, m, *B].
        indices: integers [*A, m, *B] in [-size, size).
        size: size of `axis` in the result.
        axis: the axis that is indexed.

    Returns:
        [*A, size, *B].

    Raises:
        ShapeError: the shapes differ, or the size is negative.
        DTypeError: the indices or the size are not integers.
        IndexError: an index is out of range (when the value is computed).
    """
    g, size = as_node(g), integer("scatter_add", "size", size, 0)
    axis = normalize_axis("scatter_add", axis, g.ndim)
    return apply(SCATTER_ADD, (g, as_node(indices)), Indexing(axis, size))


def one_hot(labels: Operand, classes: int, dtype: object = "float32") -> Node:
    """Labels [*S] -> [*S, classes]: 1 where the class is the label, else 0.

    Raises:
        DTypeError: the labels or the number of classes are not integers.
        ShapeError: the number of classes is negative.

    >>> st.one_hot(np.array([0, 2]), 3).numpy()
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    labels = as_node(labels)
    _integer("one_hot", labels.type)
    classes = integer("one_hot", "classes", classes, 0)
    return cast(equal(reshape(labels, (*labels.shape, 1)), np.arange(classes)), dtype)
