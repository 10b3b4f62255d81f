"""What a pool looks at: its arguments, normalised once to channels-first and one `Window` an axis.

Window o of an axis holds the elements i = stride*o + dilation*k - pad_lo, 0 <= k < kernel, that
exist. Invariant of a `Pooling`: every window holds at least one element, so that a maximum always
has an index and a mean never divides by zero. With pads below the window's extent only windows
that begin in the padding can break it, where the dilation is larger than the axis:

    window o is empty  <=>  (stride*o - pad_lo) mod dilation >= in_size

and how many there are is a difference of two sums of floors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from striate.errors import DTypeError, RangeError, ShapeError
from striate.ir.graph import Node
from striate.ops.convolution import (
    Ints,
    PaddingLike,
    channels_first,
    move_channels,
    pads_of,
    per_axis,
)
from striate.ops.movement import reshape, slice_axes
from striate.ops.operand import Operand, as_node
from striate.ops.window import LIMIT, Window


@dataclass(frozen=True, slots=True)
class Layout:
    """How the caller wrote [N, C, *I].

    Attributes:
        first: channels stand before the spatial axes.
        single: there is no batch axis.
    """

    first: bool
    single: bool

    def restore(self, y: Node) -> Node:
        """[N, C, *O] in the caller's layout."""
        y = y if self.first else move_channels(y, False)
        return reshape(y, y.shape[1:]) if self.single else y


@dataclass(frozen=True, slots=True)
class Pooling:
    """One call of a pool, normalised.

    Attributes:
        x: [N, C, *I], cropped where the padding was negative.
        windows: one per spatial axis; all dense and increasing.
        pads: (lo, hi) per axis, >= 0.
        crops: (lo, hi) per axis, how much of the caller's input is not in `x`.
        layout: of the caller's input.
    """

    x: Node
    windows: tuple[Window, ...]
    pads: tuple[tuple[int, int], ...]
    crops: tuple[tuple[int, int], ...]
    layout: Layout

    @property
    def out_shape(self) -> tuple[int, ...]:
        """[N, C, *O]"""
        return (*self.x.shape[:2], *(w.out_size for w in self.windows))


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


def rank_of(op: str, name: str, value: object, rank: int, or_none: bool = False) -> int:
    """The number of spatial axes that `value` says: its length, or `rank` if it is for all axes.

    Raises:
        DTypeError: `value` is neither an integer nor a sequence.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value)
    if isinstance(value, int | np.integer) or (value is None and or_none):
        return rank
    raise DTypeError(f"{op}: {name} must be an integer or a tuple of integers, got {value!r}")


def channels_in_front(
    op: str, x: Operand, name: str, value: object, data_format: str, *, or_none: bool = False
) -> tuple[Node, Layout]:
    """x as [N, C, *I] with every spatial axis >= 1; the rank comes from `value`, called `name`.

    Raises:
        ShapeError: the number of axes does not fit, or a spatial axis is empty.
        DTypeError: `value` is neither an integer nor a sequence.
    """
    x = as_node(x)
    rank = rank_of(op, name, value, x.ndim - 2, or_none)
    if rank < 1 or x.ndim not in (rank + 1, rank + 2):
        if rank >= 1 and isinstance(value, Sequence):
            wanted = (
                f"{name} {value} is for {rank} spatial axes, so x must have {rank + 2} axes (or "
                f"{rank + 1} without a batch)"
            )
        else:
            wanted = "x must have 3 axes or more, [N, C, *I]"
            wanted += "" if value is None else f"; without a batch, {name} must be a tuple"
        raise ShapeError(f"{op}: {wanted}, got x {x.type}")
    layout = Layout(channels_first(op, data_format, rank), x.ndim == rank + 1)
    given = x.type
    if layout.single:
        x = reshape(x, (1, *x.shape))
    x = x if layout.first else move_channels(x, True)
    for axis, n in enumerate(x.shape[2:]):
        if n == 0:
            raise ShapeError(f"{op}: spatial axis {axis} of x {given} has size 0: nothing to pool")
    return x, layout


def pooling(
    op: str,
    x: Operand,
    window: Ints,
    stride: Ints | None,
    padding: PaddingLike,
    dilation: Ints,
    ceil_mode: bool,
    data_format: str,
) -> Pooling:
    """The normal form of a pool's arguments.

    Raises:
        ShapeError: ranks, window parameters, padding or strings do not fit; or a window would
            hold no element of the input.
        DTypeError: a window parameter is not an integer.
        RangeError: numbers beyond 2**63 - 1.
    """
    x, layout = channels_in_front(op, x, "window", window, data_format)
    rank = x.ndim - 2
    kernel = per_axis(op, "window", window, rank, 1)
    strides = kernel if stride is None else per_axis(op, "stride", stride, rank, 1)
    dilations = per_axis(op, "dilation", dilation, rank, 1)
    signed = pads_of(op, padding, x.shape[2:], kernel, strides, dilations)
    crops = tuple((max(0, -lo), max(0, -hi)) for lo, hi in signed)
    pads = tuple((max(0, lo), max(0, hi)) for lo, hi in signed)
    for axis, ((lo, hi), n) in enumerate(zip(crops, x.shape[2:], strict=True)):
        if lo + hi >= n:
            raise ShapeError(
                f"{op}: negative padding crops {lo} + {hi} elements of the {n} of spatial axis "
                f"{axis}: nothing is left to pool"
            )
    kept = [slice(lo, n - hi) for (lo, hi), n in zip(crops, x.shape[2:], strict=True)]
    x = slice_axes(x, [slice(None), slice(None), *kept])
    windows = []
    for axis, (n, k, s, p, d) in enumerate(
        zip(x.shape[2:], kernel, strides, pads, dilations, strict=True)
    ):
        try:
            windows.append(_window(n, k, s, p, d, ceil_mode))
        except (ShapeError, RangeError) as error:
            raise type(error)(f"{op}: spatial axis {axis} of size {n}: {error}") from None
    return Pooling(x, tuple(windows), pads, crops, layout)


def _window(n: int, k: int, s: int, pads: tuple[int, int], d: int, ceil_mode: bool) -> Window:
    """The window of one axis; with `ceil_mode` the last one may run over the end, but must begin
    within the input or the padding before it (PyTorch's rule).

    Raises:
        ShapeError: the window does not fit, or some windows hold no element.
        RangeError: numbers beyond 2**63 - 1.
    """
    lo, hi = pads
    extent = (k - 1) * d + 1
    named = f"a window of {k} with dilation {d} spans {extent}"
    if extent > LIMIT:
        raise RangeError(f"{named}, which is beyond the limit {LIMIT} (2**63 - 1)")
    if max(lo, hi) >= extent:
        raise ShapeError(f"{named}; padding ({lo}, {hi}) must be less, or a window holds only it")
    out = (n + lo + hi - extent + (s - 1 if ceil_mode else 0)) // s + 1
    if ceil_mode and (out - 1) * s >= n + lo:
        out -= 1
    if out < 1:
        raise ShapeError(f"{named}, more than the padded input of {n + lo + hi}")
    window = Window(n, out, k, stride=s, rhs_dilation=d, pad_lo=lo)
    empty = _count_empty(window)
    if empty:
        raise ShapeError(
            f"{named} with steps wider than the input of {n}: with padding ({lo}, {hi}) and "
            f"stride {s}, {empty} of the {out} windows hold only padding"
        )
    return window


def _count_empty(w: Window) -> int:
    """How many windows hold no element."""
    n, d = w.in_size, w.rhs_dilation
    early = min(w.out_size, ceil_div(w.pad_lo, w.stride))  # windows that begin in the padding
    if d <= n:
        return 0
    return _floor_sum(early, w.stride, d - n - w.pad_lo, d) - _floor_sum(
        early, w.stride, -w.pad_lo, d
    )


def _floor_sum(count: int, a: int, b: int, m: int) -> int:
    """sum of floor((a*i + b) / m) for i < count, by Euclid's steps; a, m > 0."""
    total = 0
    while count > 0:
        total += count * (count - 1) // 2 * (a // m) + count * (b // m)
        a, b = a % m, b % m
        top = a * count + b
        count, a, b, m = top // m, m, top % m, a
    return total
