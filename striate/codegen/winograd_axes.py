"""Axes of a convolution as sets of axes without stride and dilation, and how these become tiles.

    i = stride * o + dilation * t + shift

With g their greatest common divisor, outputs that are dilation/g apart see taps that are stride/g
apart through inputs that are stride * dilation / g apart: each class of outputs and of taps is a
convolution of stride 1 on inputs that far apart (polyphase decomposition). Classes of outputs are
more tiles, classes of taps are more channels of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd, prod

from striate.dtype import DType, float32
from striate.ops.conv import ConvSpec
from striate.ops.window import Window
from striate.target import Target

GROUP = 64  # channels and features of a group from which on its products are long enough to pay
SAVED = 2.0  # products of the definition per product: less does not pay where taps have classes
MOST_CLASSES = 9  # of taps, of all axes: more are many channels for few products


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: output o meets input `stride * o + dilation * t + shift` through tap t of `taps`.

    Attributes:
        in_size, out_size: numbers of inputs and outputs.
        taps: which taps of the kernel these are, in the order of the inputs that they meet.
        shift: of the first.
        stride, dilation: > 0.
    """

    in_size: int
    out_size: int
    taps: tuple[int, ...]
    shift: int
    stride: int = 1
    dilation: int = 1

    @classmethod
    def of(cls, window: Window) -> Axis | None:
        """The axis of a window without `lhs_dilation`, flipped or not; None if outputs run against
        inputs.
        """
        t = window.canonical()
        if t.stride < 1 or t.lhs_dilation != 1:
            return None
        taps, shift, dilation = tuple(range(t.kernel_size)), -t.pad_lo, t.rhs_dilation
        if dilation < 0:
            taps, shift, dilation = taps[::-1], shift + dilation * (t.kernel_size - 1), -dilation
        return cls(t.in_size, t.out_size, taps, shift, t.stride, dilation)

    @property
    def plain(self) -> bool:
        """Whether there is neither stride nor dilation."""
        return self.stride == self.dilation == 1

    @property
    def pace(self) -> int:
        """Outputs between neighbours of a class."""
        return self.dilation // gcd(self.stride, self.dilation)

    @property
    def gap(self) -> int:
        """Inputs between neighbours of a class."""
        return self.stride * self.pace

    @property
    def _between(self) -> int:
        """Taps between neighbours of a class."""
        return self.stride // gcd(self.stride, self.dilation)

    @property
    def classes(self) -> int:
        """Classes of taps."""
        return min(self._between, len(self.taps))

    @property
    def width(self) -> int:
        """Taps of the largest class."""
        return -(-len(self.taps) // self._between)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Outputs of each class of outputs."""
        return tuple(
            len(range(r, self.out_size, self.pace)) for r in range(min(self.pace, self.out_size))
        )

    def taps_of(self, c: int) -> tuple[int | None, ...]:
        """The taps of a class, None for those that it lacks."""
        own: tuple[int | None, ...] = self.taps[c :: self._between]
        return own + (None,) * (self.width - len(own))

    def shift_of(self, c: int) -> int:
        """The input that output 0 meets through the first tap of a class."""
        return self.shift + self.dilation * c


def dense_axes(spec: ConvSpec) -> tuple[Axis, ...] | None:
    """The axes of a convolution; None if one has inputs apart, or outputs against inputs."""
    found = [Axis.of(t) for t in spec.windows]
    return None if None in found else tuple(a for a in found if a is not None)


def has_vectors(target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int) -> bool:
    """Whether the kernels of these algorithms fit a convolution: float32 in blocks of a vector's
    lanes, one to three axes, none empty, and products that are long enough: there is one group, or
    each has many channels.
    """
    lanes = target.lanes(32)
    return (
        dtype is float32
        and x_block == y_block == lanes
        and spec.in_features % lanes == spec.out_features % lanes == 0
        and (spec.groups == 1 or min(spec.in_features, spec.out_features) >= GROUP)
        and 0 < len(spec.windows) <= 3
        and 0 not in (*spec.lhs_shape, *spec.rhs_shape, *spec.out_shape)
    )


def classes(axes: Sequence[Axis]) -> list[tuple[int, ...]]:
    """The classes of taps of all axes, the last one's fastest."""
    return list(product(*(range(a.classes) for a in axes)))


def channels_of(spec: ConvSpec, axes: Sequence[Axis]) -> int:
    """Channels of a group, each class of taps with its own."""
    return spec.in_features * prod(a.classes for a in axes)


def saves(axes: Sequence[Axis], tiles: Sequence[Tiles]) -> bool:
    """Whether enough products are saved: classes of taps have more weights than the kernel."""
    many = prod(a.classes for a in axes)
    plain = prod(a.out_size * len(a.taps) for a in axes)
    return many == 1 or SAVED * many * prod(t.products for t in tiles) <= plain


@dataclass(frozen=True, slots=True)
class Tiles:
    """How an axis is cut into tiles: `long` of m outputs, then `short` of m - 1.

    Attributes:
        outputs: m, of the long ones.
        taps: r
        long, short: how many.
        sizes: outputs of each class of outputs.
    """

    outputs: int
    taps: int
    long: int
    short: int
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, size: int | tuple[int, ...], most: int, taps: int) -> Tiles:
        """As few tiles of at most `most` outputs as cover `size`, as equal as can be; or several
        classes of outputs.
        """
        sizes = (size,) if isinstance(size, int) else size
        for m in range(most, 0, -1):
            counts = [-(-n // m) for n in sizes]
            shorts = [c * m - n for c, n in zip(counts, sizes, strict=True)]
            long = sum(counts) - sum(shorts)
            if long and all(s <= c for s, c in zip(shorts, counts, strict=True)):
                return cls(m, taps, long, sum(shorts), sizes)
        raise AssertionError("tiles of one output cover everything")

    @property
    def count(self) -> int:
        """All tiles."""
        return self.long + self.short

    @property
    def slots(self) -> int:
        """n"""
        return self.outputs + self.taps - 1

    @property
    def products(self) -> int:
        """Products of all tiles."""
        return self.long * self.slots + self.short * (self.slots - 1)

    def starts(self, axis: Axis) -> tuple[int, ...]:
        """The first output of each tile."""
        long: list[int] = []
        short: list[int] = []
        for r, size in enumerate(self.sizes):
            count = -(-size // self.outputs)
            longs = size - count * (self.outputs - 1)
            for i in range(count):
                at = i * self.outputs - max(0, i - longs)
                (long if i < longs else short).append(r + axis.pace * at)
        return (*long, *short)
