"""Values [N, C, *I] as blocks of channels [N, C/b, *I, b], and back, in the ops of movement.

Where b does not divide C, the last block is filled with zeros.
"""

from __future__ import annotations

import numpy as np

from striate.ir.graph import Node, Value
from striate.ops.movement import pad, reshape, slice_axes, transpose
from striate.ops.rearrange import concat


def block(x: Node, b: int) -> Node:
    """[N, C, *I] -> [N, C/b, *I, b]"""
    n, c, *rest = x.shape
    split = reshape(x, (n, c // b, b, *rest))
    return transpose(split, (0, 1, *range(3, split.ndim), 2))


def unblock(x: Node) -> Node:
    """[N, C/b, *I, b] -> [N, C, *I]"""
    n, c, *rest, b = x.shape
    return reshape(transpose(x, (0, 1, x.ndim - 1, *range(2, x.ndim - 1))), (n, c * b, *rest))


def block_value(x: Value, b: int) -> Value:
    """What `block` computes."""
    n, c, *rest = x.shape
    return np.moveaxis(x.reshape(n, c // b, b, *rest), 2, -1)


def unblock_value(x: Value) -> Value:
    """What `unblock` computes."""
    n, c, *rest, b = x.shape
    return np.moveaxis(x, -1, 2).reshape(n, c * b, *rest)


def _part(x: Node, axis: int, start: int, stop: int) -> Node:
    """Elements [start, stop) of an axis."""
    spans = [slice(None)] * x.ndim
    spans[axis] = slice(start, stop)
    return slice_axes(x, spans)


def fill_blocks(x: Node, b: int) -> Node:
    """[N, C, *I] -> [N, ceil(C/b), *I, b], the whole blocks copied once."""
    c = x.shape[1]
    whole = c // b * b
    if whole == c:
        return block(x, b)
    rest = block(_part(x, 1, whole, c), c - whole)
    last = pad(rest, [*[(0, 0)] * (rest.ndim - 1), (0, b - c + whole)])
    return concat([block(_part(x, 1, 0, whole), b), last], 1) if whole else last
