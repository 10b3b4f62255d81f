"""Strided views: which nodes are only another way to walk over the memory of a node before them.

Transposes, flips, slices and broadcasts always are; a reshape is where the strides of the axes that
it merges or splits fit. So these ops cost nothing: whoever reads such a node reads its base.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from striate.ir.graph import Node
from striate.ops.movement import ALIAS, BROADCAST_TO, FLIP, RESHAPE, SLICE, TRANSPOSE
from striate.ops.reduce import STOP_GRADIENT


class StridedView(NamedTuple):
    """A node as memory of another.

    Attributes:
        base: the node whose dense row-major value is walked over.
        offset: of the first element, in elements.
        strides: per axis of the node, in elements; 0 repeats, negative runs backward.
    """

    base: Node
    offset: int
    strides: tuple[int, ...]


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides, in elements.

    >>> dense_strides((2, 3, 4))
    (12, 4, 1)
    """
    return _dense_strides(tuple(shape))


@lru_cache(maxsize=4096)
def _dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether these are the row-major strides of the shape, axes of size 1 left out."""
    wanted = dense_strides(shape)
    if strides == wanted:
        return True
    return 0 in shape or all(
        n == 1 or s == w for n, s, w in zip(shape, strides, wanted, strict=True)
    )


def whole(node: Node) -> StridedView:
    """A node as its own base."""
    return StridedView(node, 0, dense_strides(node.shape))


def view_through(node: Node, of: StridedView) -> StridedView | None:
    """The view that `node` is of its input's view `of`; None if it is no view."""
    op, x = node.op, node.inputs[0] if node.inputs else None
    if x is None:
        return None
    if op is ALIAS or op is STOP_GRADIENT:
        return of
    if op is TRANSPOSE:
        return StridedView(of.base, of.offset, tuple(of.strides[a] for a in node.attrs))
    if op is BROADCAST_TO:
        lead = node.ndim - x.ndim
        steps = [
            0 if m != n else s
            for m, n, s in zip(x.shape, node.shape[lead:], of.strides, strict=True)
        ]
        return StridedView(of.base, of.offset, (*[0] * lead, *steps))
    if op is FLIP:
        offset = of.offset + sum(max(x.shape[a] - 1, 0) * of.strides[a] for a in node.attrs)
        turned = tuple(-s if a in node.attrs else s for a, s in enumerate(of.strides))
        return StridedView(of.base, offset, turned)
    if op is SLICE:
        offset = of.offset + sum(p.start * s for p, s in zip(node.attrs, of.strides, strict=True))
        steps = [p.step * s for p, s in zip(node.attrs, of.strides, strict=True)]
        return StridedView(of.base, offset, tuple(steps))
    if op is RESHAPE:
        strides = reshaped(x.shape, of.strides, node.shape)
        return None if strides is None else StridedView(of.base, of.offset, strides)
    return None


def reshaped(
    shape: Sequence[int], strides: Sequence[int], wanted: Sequence[int]
) -> tuple[int, ...] | None:
    """The strides of `wanted` over the memory of (shape, strides), if there are any."""
    if 0 in wanted:
        return dense_strides(wanted)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    merged: list[tuple[int, int]] = []  # runs that can be walked with one stride
    for n, s in old:
        if merged and merged[-1][1] == n * s:
            merged[-1] = (merged[-1][0] * n, s)
        else:
            merged.append((n, s))
    result = [0] * len(wanted)
    runs = list(merged)
    axis = len(wanted) - 1
    while runs:
        n, s = runs.pop()
        while n > 1:
            while axis >= 0 and wanted[axis] == 1:
                axis -= 1
            if axis < 0 or n % wanted[axis]:
                return None
            result[axis] = s
            s *= wanted[axis]
            n //= wanted[axis]
            axis -= 1
    return tuple(result)
