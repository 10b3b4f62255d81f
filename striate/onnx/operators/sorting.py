"""Operators that order or choose: TopK in the graph; those whose results have a size that depends
on data, by NumPy on known values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.ir.types import normalize_axis
from striate.onnx.registry import Call, operator


def order(x: Array, largest: bool) -> Array:
    """The positions of x [*B, n] along its last axis in order, int64; the first of equals first.

    A bitonic network: log2(n) * (log2(n) + 1) / 2 rounds, each of which compares every element
    with one other. NaN counts as the largest.

    Method: K. E. Batcher, "Sorting networks and their applications" (1968).
    """
    *lead, n = x.shape
    size = 1 << max(n - 1, 0).bit_length()
    value = x.astype("int32") if x.dtype.itemsize == 1 else x
    if x.dtype.is_floating:
        value = st.where(st.isnan(x), np.inf, x)
    index = st.broadcast_to(np.arange(size), (*lead, size))  # those from n on are no elements
    value = st.pad(value, [*((0, 0) for _ in lead), (0, size - n)])
    block = 2
    while block <= size:
        reach = block // 2
        while reach:
            pairs = (*lead, size // (2 * reach), 2, reach)
            v, i = value.reshape(*pairs), index.reshape(*pairs)
            va, vb, ia, ib = v[..., 0, :], v[..., 1, :], i[..., 0, :], i[..., 1, :]
            ahead = ((va > vb) if largest else (va < vb)) | ((va == vb) & (ia < ib))
            first = st.where(ib >= n, (ia < n) | (ia < ib), (ia < n) & ahead)  # a before b
            rows = np.arange(size // (2 * reach)) * 2 * reach
            falling = (rows & block != 0).reshape(-1, 1)  # this block is put in the other order
            keep = first ^ falling
            value = st.stack([st.where(keep, va, vb), st.where(keep, vb, va)], axis=-2)
            index = st.stack([st.where(keep, ia, ib), st.where(keep, ib, ia)], axis=-2)
            value, index = value.reshape(*lead, size), index.reshape(*lead, size)
            reach //= 2
        block *= 2
    return index[..., :n]


@operator("TopK", known=(1,))
def top_k(node: Call, x: Array, k: Array | None = None) -> tuple[Array, Array]:
    """(values, positions) of the first k along an axis, in order."""
    axis = normalize_axis("axis", node.int("axis", -1), x.ndim)
    counts = [node.int("k")] if k is None else node.known_ints(k, "K")
    if len(counts) != 1 or not 0 <= counts[0] <= x.shape[axis]:
        raise ShapeError(
            f"wants one K from 0 to {x.shape[axis]}, the size of axis {axis}: {counts}"
        )
    last = st.moveaxis(x, axis, -1)
    where = order(last, bool(node.int("largest", 1)))[..., : counts[0]]
    values = st.take_along_axis(last, where, -1)
    return st.moveaxis(values, -1, axis), st.moveaxis(where, -1, axis)


# ---- on known values -----------------------------------------------------------------------


@operator("NonZero", known=(0,))
def non_zero(node: Call, x: Array) -> Array:
    """The indices of what is not 0, [rank, m]; a number is taken for a vector of one."""
    found = np.nonzero(np.atleast_1d(node.known(x, "X")))
    return st.asarray(np.stack(found).astype(np.int64)[: max(x.ndim, 0)])


@operator("Compress", known=(1,))
def compress(node: Call, x: Array, condition: Array) -> Array:
    """The slices along an axis, or elements, at which the condition holds."""
    chosen = np.flatnonzero(node.known(condition, "condition"))
    if node.has("axis"):
        axis = normalize_axis("axis", node.int("axis"), x.ndim)
    else:
        x, axis = x.reshape(-1), 0
    if condition.ndim != 1 or condition.size > x.shape[axis]:
        raise ShapeError(f"the condition {condition.type} is longer than axis {axis} of {x.type}")
    return st.take(x, chosen, axis)


@operator("Unique", known=(0,))
def unique(node: Call, x: Array) -> tuple[Array, Array, Array, Array]:
    """(values, where each comes first, which of them each element is, how often each comes)."""
    values = node.known(x, "X")
    axis = normalize_axis("axis", node.int("axis"), x.ndim) if node.has("axis") else None
    found, first, inverse, counts = np.unique(
        values, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    if not node.int("sorted", 1):
        by_place = np.argsort(first, kind="stable")
        rank = np.argsort(by_place)
        found = np.take(found, by_place, axis=0 if axis is None else axis)
        first, counts, inverse = first[by_place], counts[by_place], rank[inverse.reshape(-1)]
    others = (v.reshape(-1).astype(np.int64) for v in (first, inverse, counts))
    return (st.asarray(found), *map(st.asarray, others))  # type: ignore[return-value]


Floats = NDArray[np.float64]


def _corners(boxes: Floats, center: bool) -> Floats:
    """Boxes [m, 4] as (low, low, high, high), whichever corners they were given by."""
    if center:
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        return np.concatenate([middle - half, middle + half], axis=1)
    return np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1
    )


def suppressed(boxes: Floats, scores: Floats, most: int, overlap: float, least: float) -> list[int]:
    """The boxes that stay, best first: none overlaps a better one by more than `overlap` of their
    union; `most` at the most, of those that score above `least`.
    """
    left = np.flatnonzero(scores > least)
    left = left[np.argsort(-scores[left], kind="stable")]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    while left.size and len(kept) < most:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(
            boxes[best, :2], boxes[left, :2]
        )
        shared = np.prod(np.maximum(sides, 0), axis=1)
        union = areas[best] + areas[left] - shared
        ratio = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        left = left[ratio <= overlap]
    return kept


@operator("NonMaxSuppression", known=(0, 1, 2, 3, 4))
def non_max_suppression(
    node: Call,
    boxes: Array,
    scores: Array,
    most: Array | None = None,
    overlap: Array | None = None,
    least: Array | None = None,
) -> Array:
    """boxes [N, m, 4], scores [N, classes, m] -> the boxes that stay, as (image, class, box)."""
    if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.ndim != 3:
        raise ShapeError(
            f"wants boxes [N, m, 4] and scores [N, C, m], got {boxes.type}, {scores.type}"
        )
    if (boxes.shape[0], boxes.shape[1]) != (scores.shape[0], scores.shape[2]):
        raise ShapeError(f"boxes {boxes.type} and scores {scores.type} do not fit")
    limit = 0 if most is None else int(node.known_ints(most, "max_output_boxes_per_class")[0])
    threshold = (
        0.0 if overlap is None else float(node.known(overlap, "iou_threshold").reshape(-1)[0])
    )
    floor = -np.inf if least is None else float(node.known(least, "score_threshold").reshape(-1)[0])
    center = bool(node.int("center_point_box", 0))
    values = node.known(scores, "scores").astype(np.float64)
    rows = []
    for image, own in enumerate(node.known(boxes, "boxes").astype(np.float64)):
        corners = _corners(own, center)
        for category, row in enumerate(values[image]):
            kept = suppressed(corners, row, limit, threshold, floor)
            rows += [(image, category, box) for box in kept]
    return st.asarray(np.array(rows, np.int64).reshape(-1, 3))
