"""The dense phases of a convolution's axes, in numbers and in code.

    i = stride * o + dilation * t - pad,    dilation > 0

relates an input i, an output o and a tap t of a phase (`ops.window.Phase`). A negative dilation is
a positive one with the taps in reverse, so the live taps of an output are always a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from striate.codegen.emitter import Emitter, Index, Value
from striate.ops.window import Phase


class Dense(NamedTuple):
    """A phase of one axis: outputs `first + o * step` see the taps `tap_first + t * tap_step`."""

    first: int
    step: int
    outputs: int
    tap_first: int
    tap_step: int
    taps: int
    stride: int
    dilation: int
    pad: int

    @staticmethod
    def of(phase: Phase) -> Dense:
        """A live phase, with a positive dilation."""
        assert phase.window is not None and phase.kernel is not None
        t = phase.window.canonical()
        tap, step, dilation, pad = (
            phase.kernel.start,
            phase.kernel.step or 1,
            t.rhs_dilation,
            t.pad_lo,
        )
        if dilation < 0:
            last = t.kernel_size - 1
            tap, step, dilation, pad = tap + last * step, -step, -dilation, pad - dilation * last
        out = phase.out
        return Dense(
            out.start, out.step or 1, t.out_size, tap, step, t.kernel_size, t.stride, dilation, pad
        )


def floor_div(e: Emitter, a: Value, b: Value) -> Value:
    """The floor of a / b, for b > 0."""
    down = e.b.select(e.b.icmp_signed("<", a, e.index(0)), e.add(b, -1), e.index(0))
    return e.b.sdiv(e.b.sub(a, down), b)


def pieces(e: Emitter, n: Index, size: Index) -> Value:
    """How many pieces of a size n things make."""
    return e.b.udiv(e.add(n, size, -1), e.index(size))


def unravel(e: Emitter, i: Value, sizes: Sequence[Index]) -> list[Value]:
    """The indices of item i of an array of this shape, row-major."""
    found = []
    for size in reversed(sizes[1:]):
        found.append(e.b.urem(i, e.index(size)))
        i = e.b.udiv(i, e.index(size))
    return [i, *reversed(found)]


@dataclass(frozen=True)
class Line:
    """One axis of a dense phase, in words: i = stride * o + dilation * t - pad, dilation > 0."""

    inputs: Value
    outputs: Value
    taps: Value
    stride: Value
    dilation: Value
    pad: Value
    x: Value  # elements between inputs
    w: Value  # between taps of the phase
    y: Value  # between outputs of the phase
    w_first: Value  # offset of the first tap of the phase
    y_first: Value

    def live(self, e: Emitter, low: Value, high: Value) -> tuple[Value, Value]:
        """The taps [first, last + 1) that see an input for some output whose tap 0 stands in
        [low, high].
        """
        first = e.b.neg(floor_div(e, high, self.dilation))
        last = floor_div(e, e.add(self.inputs, e.b.neg(low), -1), self.dilation)
        return e.larger(first, 0), e.smaller(e.add(last, 1), self.taps)
