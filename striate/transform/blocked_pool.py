"""Max pooling on blocks of channels: x [N, C/b, *I, b], and what it chose.

A choice is remembered as the number of a tap in its window, in row-major order, in a byte; where
windows have too many taps for that to pay, as a position in the plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from striate.dtype import int32, uint8
from striate.ir.graph import Op, Value
from striate.ir.types import TensorType
from striate.ops.index import SCATTER_ADD, Indexing
from striate.ops.pool import ARGMAX_POOL
from striate.ops.window import Window
from striate.transform.channel_blocks import block_value, unblock_value


@dataclass(frozen=True, slots=True)
class BlockedPool:
    """Windows of max pooling on [N, C/b, *I, b].

    Attributes:
        windows: one per spatial axis.
        counted: indices are the numbers of taps, u8, in place of positions, i32.
    """

    windows: tuple[Window, ...]
    counted: bool = False

    def taps(self, position: Value) -> Value:
        """Positions [N, C, *O] in a plane as the numbers of taps."""
        places = np.unravel_index(position, [w.in_size for w in self.windows])
        taps = []
        for i, (w, place) in enumerate(zip(self.windows, places, strict=True)):
            o = np.arange(w.out_size).reshape(-1, *[1] * (len(places) - 1 - i))
            taps.append((place + w.pad_lo - w.stride * o) // w.rhs_dilation)
        return np.ravel_multi_index(taps, [w.kernel_size for w in self.windows])

    def positions(self, tap: Value) -> Value:
        """The inverse of `taps`."""
        taps = np.unravel_index(tap, [w.kernel_size for w in self.windows])
        places = []
        for i, (w, t) in enumerate(zip(self.windows, taps, strict=True)):
            o = np.arange(w.out_size).reshape(-1, *[1] * (len(taps) - 1 - i))
            places.append(w.stride * o + w.rhs_dilation * t - w.pad_lo)
        return np.ravel_multi_index(places, [w.in_size for w in self.windows])

    def resized(self, shape: tuple[int, ...], sizes: Sequence[int]) -> tuple[int, ...]:
        """The blocked shape with these spatial sizes."""
        return (*shape[:2], *sizes, shape[-1])


def _argmax_reference(attrs: BlockedPool, x: Value) -> Value:
    index = ARGMAX_POOL.reference(attrs.windows, unblock_value(x))
    index = attrs.taps(index).astype(np.uint8) if attrs.counted else index.astype(np.int32)
    return np.ascontiguousarray(block_value(index, x.shape[-1]))


def _max_reference(attrs: BlockedPool, x: Value) -> Value:
    plain = unblock_value(x)
    index = ARGMAX_POOL.reference(attrs.windows, plain)
    flat = plain.reshape(*plain.shape[:2], -1)
    y = np.take_along_axis(flat, index.reshape(*index.shape[:2], -1), 2).reshape(index.shape)
    return np.ascontiguousarray(block_value(y, x.shape[-1]))


def _pool_gradient_reference(attrs: BlockedPool, g: Value, index: Value) -> Value:
    plain, at = unblock_value(g), unblock_value(index)
    at = attrs.positions(at) if attrs.counted else at
    sizes = [w.in_size for w in attrs.windows]
    y = SCATTER_ADD.reference(
        Indexing(2, prod(sizes)),
        plain.reshape(*plain.shape[:2], -1),
        at.reshape(*at.shape[:2], -1).astype(np.int64),
    )
    return np.ascontiguousarray(block_value(y.reshape(*y.shape[:2], *sizes), g.shape[-1]))


BLOCKED_ARGMAX_POOL = Op(
    "blocked_argmax_pool",
    lambda a, x: TensorType(
        a.resized(x.shape, [w.out_size for w in a.windows]), uint8 if a.counted else int32
    ),
    _argmax_reference,
)
BLOCKED_MAX_POOL = Op(
    "blocked_max_pool",
    lambda a, x: x.with_shape(a.resized(x.shape, [w.out_size for w in a.windows])),
    _max_reference,
)
BLOCKED_POOL_GRADIENT = Op(
    "blocked_pool_gradient",
    lambda a, g, index: g.with_shape(a.resized(g.shape, [w.in_size for w in a.windows])),
    _pool_gradient_reference,
)
