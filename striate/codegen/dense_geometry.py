"""How a convolution becomes dense parts, and a part becomes packed tiles.

A part is a box of axes, the batch first, each a list of taps:  i = stride * o + offsets[t].
Dilated inputs are split into phases, so every part is dense; taps that see padding only are
dropped; axes that can be walked as one are merged.

In a packed tile an axis is planes x positions. A class of taps whose offsets agree modulo the
stride shares a plane, and a tap is a shift in it; or each tap has a plane of its own, and then the
positions are exactly the outputs. Axes of the latter kind can be walked as one long run of pixels
together with the axis before them: that is how 7x7 maps fill the registers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from striate.ops.conv import ConvSpec
from striate.ops.window import Phase, Window


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a part: output o meets input `stride * o + offsets[t]` through tap t.

    Attributes:
        in_size, out_size: numbers of inputs and outputs.
        stride: > 0.
        offsets: of the taps, in inputs.
        taps: which taps of the kernel these are.
        x_step, y_step: elements between neighbours in x and in y.
    """

    in_size: int
    out_size: int
    stride: int
    offsets: tuple[int, ...]
    taps: tuple[int, ...]
    x_step: int
    y_step: int

    @property
    def inside(self) -> bool:
        """Whether no tap ever touches padding."""
        last = self.stride * (self.out_size - 1)
        return all(t >= 0 and last + t < self.in_size for t in self.offsets)

    @property
    def plain(self) -> bool:
        """Whether output o is made of input o alone."""
        return self.stride == 1 and self.offsets == (0,) and self.in_size == self.out_size


@dataclass(frozen=True, slots=True)
class Part:
    """A dense part of a convolution.

    Attributes:
        axes: the batch, then what is left of the spatial axes.
        taps: per spatial axis of the convolution, the taps of the kernel; all empty where y is
            zero.
        x_offset, y_offset: of the first element, in elements.
    """

    axes: tuple[Axis, ...]
    taps: tuple[tuple[int, ...], ...]
    x_offset: int
    y_offset: int

    @property
    def live(self) -> bool:
        """Whether anything is summed."""
        return all(self.taps)


def _axis(phase: Phase, size: int, in_size: int, x_step: int, y_step: int) -> tuple[Axis, int]:
    """The axis of a phase, and the element of y at which it begins; `size` is the number of
    outputs of all phases.
    """
    outs = range(size)[phase.out]
    y_step, y_offset = y_step * outs.step, outs.start * y_step
    t = phase.window
    if t is None or phase.kernel is None:
        return Axis(in_size, len(outs), 1, (), (), x_step, y_step), y_offset
    first, step = phase.kernel.start or 0, phase.kernel.step or 1
    stride, shift = t.stride, -t.pad_lo
    if stride < 0:  # walk the outputs backwards
        shift += stride * (t.out_size - 1)
        y_offset += y_step * (t.out_size - 1)
        stride, y_step = -stride, -y_step
    live = [k for k in range(t.kernel_size) if t.outputs_of(k)]
    return Axis(
        in_size,
        t.out_size,
        stride,
        tuple(t.rhs_dilation * k + shift for k in live),
        tuple(first + step * k for k in live),
        x_step,
        y_step,
    ), y_offset


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    """Neighbouring plain axes that are dense in x and y, as one."""
    done: list[Axis] = []
    for axis in axes:
        before = done[-1] if done else None
        if (
            before
            and before.plain
            and axis.plain
            and before.x_step == axis.in_size * axis.x_step
            and before.y_step == axis.out_size * axis.y_step
        ):
            size = before.out_size * axis.out_size
            done[-1] = replace(axis, in_size=size, out_size=size)
        else:
            done.append(axis)
    return done


def _phases(window: Window) -> Iterator[Phase]:
    if window.in_size and window.kernel_size:
        return window.phases()
    return iter((Phase(slice(0, None, 1), None, None),))


def count_parts(spec: ConvSpec) -> int:
    """The number of parts, in time that does not depend on it."""
    return prod(max(1, min(abs(t.lhs_dilation), t.out_size)) for t in spec.windows)


def split(spec: ConvSpec, x_block: int, y_block: int) -> list[Part]:
    """The dense parts of x: [N, G*C/xb, *I, xb] -> y: [N, G*K/yb, *O, yb]; they tile y."""
    if 0 in spec.out_shape:
        return []
    windows = spec.windows
    insides, outsides = [t.in_size for t in windows], [t.out_size for t in windows]
    batch = Axis(
        spec.batch,
        spec.batch,
        1,
        (0,),
        (0,),
        spec.groups * spec.in_features * prod(insides),
        spec.groups * spec.out_features * prod(outsides),
    )
    parts = []
    for phases in itertools.product(*(_phases(t) for t in windows)):
        axes, x_offset, y_offset = [batch], 0, 0
        for j, phase in enumerate(phases):
            x_step = x_block * prod(insides[j + 1 :])
            y_step = y_block * prod(outsides[j + 1 :])
            axis, start = _axis(phase, outsides[j], insides[j], x_step, y_step)
            y_offset += start
            axes.append(axis)
        taps = tuple(a.taps for a in axes[1:])
        if not all(taps) or not spec.in_features:
            taps = tuple(() for _ in taps)
            axes = [replace(a, in_size=a.out_size, offsets=(0,), stride=1) for a in axes]
        kept = [axes[0]]
        for axis in axes[1:]:
            if axis.out_size == len(axis.offsets) == 1:
                x_offset += axis.offsets[0] * axis.x_step
            else:
                kept.append(axis)
        parts.append(Part(tuple(_merged(kept)), taps, x_offset, y_offset))
    return parts


@dataclass(frozen=True, slots=True)
class Planes:
    """An axis of a packed tile.

    Attributes:
        offsets: per plane, the input of its first position for the tile's first output at 0.
        places: per tap, (plane, shift).
        extra: positions of a plane beyond the outputs.
    """

    offsets: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    extra: int

    def positions(self, outputs: int) -> int:
        """Positions of all planes for a tile of so many outputs."""
        return len(self.offsets) * (outputs + self.extra)


def by_tap(axis: Axis) -> Planes:
    """One plane per tap."""
    return Planes(axis.offsets, tuple((i, 0) for i in range(len(axis.offsets))), 0)


def by_class(axis: Axis) -> Planes:
    """One plane per class of offsets modulo the stride."""
    least: dict[int, int] = {}
    for offset in axis.offsets:
        shift, rest = divmod(offset, axis.stride)
        least[rest] = min(shift, least.get(rest, shift))
    order = sorted(least)
    places = [divmod(offset, axis.stride) for offset in axis.offsets]
    return Planes(
        tuple(rest + axis.stride * least[rest] for rest in order),
        tuple((order.index(rest), shift - least[rest]) for shift, rest in places),
        max(shift - least[rest] for shift, rest in places),
    )


def planes(axis: Axis, outputs: int) -> Planes:
    """The smaller of the two for a tile of so many outputs."""
    return min(by_class(axis), by_tap(axis), key=lambda p: p.positions(outputs))
