"""Reading and writing by index."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import DTypeError, ShapeError
from striate.ir.types import normalize_axis
from striate.onnx.operators.reduction import neutral, product
from striate.onnx.registry import Call, operator


@operator("Gather")
def gather(node: Call, x: Array, indices: Array) -> Array:
    """x [*A, n, *B], indices [*I] -> [*A, *I, *B]."""
    axis = normalize_axis("axis", node.int("axis", 0), x.ndim)
    y = st.take(x, indices.reshape(-1), axis)
    return y.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("GatherElements")
def gather_elements(node: Call, x: Array, indices: Array) -> Array:
    """Indices may have fewer elements than x along the other axes."""
    axis = normalize_axis("axis", node.int("axis", 0), x.ndim)
    return st.take_along_axis(_cropped(x, indices, axis), indices, axis)


def _cropped(x: Array, indices: Array, axis: int) -> Array:
    """x without what lies beyond the indices along the other axes."""
    if indices.ndim != x.ndim:
        raise ShapeError(f"the indices must have the {x.ndim} axes of {x.type}, got {indices.type}")
    return x[tuple(slice(None) if a == axis else slice(n) for a, n in enumerate(indices.shape))]


def _flat(indices: Array, sizes: Sequence[int]) -> Array:
    """Indices [*Q, k] into axes of these k sizes as indices [*Q] into all of them as one."""
    steps = np.asarray([prod(sizes[a + 1 :]) for a in range(len(sizes))], np.int64)
    index = indices.astype("int64")
    positive = st.where(index < 0, index + np.asarray(sizes, np.int64), index)
    return st.sum(positive * steps, -1)


def _check_nd(x: Array, indices: Array, batch: int) -> int:
    """How many axes of x the indices [*Q, k] name."""
    if not indices.ndim or not indices.dtype.is_integer:
        raise DTypeError(f"the indices must be integers [*Q, k], got {indices.type}")
    depth = indices.shape[-1]
    if not 1 <= depth <= x.ndim - batch:
        raise ShapeError(f"indices {indices.type} name {depth} axes of {x.type}, from axis {batch}")
    return depth


@operator("GatherND")
def gather_nd(node: Call, x: Array, indices: Array) -> Array:
    """x [*B, *D, *R], indices [*B, *Q, k] into the k axes *D -> [*B, *Q, *R]."""
    batch = node.int("batch_dims", 0)
    if not 0 <= batch < min(x.ndim, indices.ndim) or x.shape[:batch] != indices.shape[:batch]:
        raise ShapeError(f"batch_dims is {batch}, for {x.type} and {indices.type}")
    depth = _check_nd(x, indices, batch)
    lead, named = x.shape[:batch], x.shape[batch : batch + depth]
    rest = x.shape[batch + depth :]
    index = _flat(indices, named)
    images = np.arange(prod(lead)).reshape(*lead, *(1,) * (index.ndim - batch))
    rows = x.reshape(prod(lead) * prod(named), *rest)
    found = st.take(rows, (index + images * prod(named)).reshape(-1), 0)
    return found.reshape(*index.shape, *rest)


# ---- writing -------------------------------------------------------------------------------


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Call, x: Array, indices: Array, updates: Array) -> Array:
    """x with updates written at indices along an axis, both [*S] with the rank of x."""
    axis = normalize_axis("axis", node.int("axis", 0), x.ndim)
    if indices.shape != updates.shape or indices.ndim != x.ndim:
        raise ShapeError(f"{x.type}, indices {indices.type} and updates {updates.type} do not fit")
    n = x.shape[axis]
    inner = _cropped(x, indices, axis)
    rest = tuple((0, m - k) for m, k in zip(x.shape, inner.shape, strict=True))
    index = st.moveaxis(indices, axis, -1)
    moved = st.moveaxis(updates, axis, -1)
    if any(hi < 0 for _, hi in rest):
        raise ShapeError(f"indices {indices.type} are larger than {x.type}")
    lead = index.shape[:-1]
    # Each row is a vector of its own: one flat vector of rows, indexed by (row, index).
    rows = np.arange(prod(lead)).reshape(*lead, 1) * n
    wrapped = st.where(index < 0, index + n, index)
    target = st.moveaxis(inner, axis, -1)
    flat = _written(
        node.string("reduction", "none"),
        target.reshape(-1),
        (wrapped + rows).reshape(-1),
        moved.reshape(-1),
    )
    written = st.moveaxis(flat.reshape(*target.shape), -1, axis)
    if not any(hi for _, hi in rest):
        return written
    inside = st.pad(st.full(written.shape, True, "bool"), rest, value=False)
    return st.where(inside, st.pad(written, rest), x)


@operator("ScatterND")
def scatter_nd(node: Call, x: Array, indices: Array, updates: Array) -> Array:
    """x [*D, *R] with updates [*Q, *R] written at indices [*Q, k] into the k axes *D."""
    depth = _check_nd(x, indices, 0)
    if updates.shape != (*indices.shape[:-1], *x.shape[depth:]):
        raise ShapeError(
            f"the updates of {x.type} at {indices.type} must have shape "
            f"{(*indices.shape[:-1], *x.shape[depth:])}, got {updates.type}"
        )
    rest = x.shape[depth:]
    rows = x.reshape(prod(x.shape[:depth]), *rest)
    index = _flat(indices, x.shape[:depth]).reshape(-1)
    new = updates.reshape(index.size, *rest)
    return _written(node.string("reduction", "none"), rows, index, new).reshape(*x.shape)


def _written(how: str, rows: Array, index: Array, new: Array) -> Array:
    """rows [n, *R] with new [m, *R] written at index [m], or combined with what is there.

    An index that comes twice, which ONNX forbids for `none`, gets the sum.
    """
    n = rows.shape[0]
    if how == "add":
        return rows + st.put_add(new, index, n).astype(rows.dtype)
    if how == "none":
        return st.where(
            _spread(st.put_add(st.ones(index.shape, "int64"), index, n) > 0, rows),
            st.put_add(_numbers(new), index, n).astype(rows.dtype),
            rows,
        )
    combine = {
        "mul": (product, st.multiply),
        "max": (st.max, st.maximum),
        "min": (st.min, st.minimum),
    }
    if how not in combine:
        raise ShapeError(f"reduction must be none, add, mul, max or min, got {how!r}")
    # Every row looks at every update: an index may come several times.
    along, pair = combine[how]
    mine = st.expand_dims(index, 1) == np.arange(n)  # [m, n]
    mine = mine.reshape(*mine.shape, *(1,) * (rows.ndim - 1))
    spread = st.where(mine, st.expand_dims(new, 1), neutral(how, rows.dtype))  # [m, n, *R]
    return pair(rows, along(spread, 0).astype(rows.dtype)) if index.size else rows


def _spread(mask: Array, rows: Array) -> Array:
    return mask.reshape(-1, *(1,) * (rows.ndim - 1))


def _numbers(x: Array) -> Array:
    return x.astype("uint8") if x.dtype.kind == "b" else x
