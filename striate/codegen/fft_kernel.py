"""Depthwise convolution by overlap-save: a window of x, transformed, times the filter's transform.

    y[o] = sum over t of w[t] x[o + t]    is, at every root z of the window's polynomial,
    Y(z) = X(z) times the conjugate of W(z)

since z^-1 is the conjugate of z. A window of N inputs gives the N - K + 1 outputs whose taps all
lie in it. Lanes are channels; or, where channels do not stand in vectors, windows side by side.
Leading stages go over the whole window, in L2; then each block of it that fits in L1 is
transformed, multiplied and transformed back. A leading axis is all leading stages.

A window depends on the image alone, never on the batch. Where a result is not finite, its tile is
computed again from the definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from striate.codegen.emitter import Emitter, Index, Value, element, vector
from striate.codegen.epilogue import Epilogue
from striate.codegen.fft_passes import Complex, Passes
from striate.codegen.fft_windows import AXIS_WORDS, SOURCE_WORDS, Place, Windows
from striate.codegen.words import Words
from striate.dtype import DType

TRANSFORM_WORDS = (
    "outer_stages",
    "outer_count",
    "outer_constants",
    "inner_stages",
    "inner_count",
    "inner_constants",
    "inner_step",
    "blocks",
    "block_length",
    "last_constants",
)
_BASE = ("scratch", "scratch_each", "u", "images", "channels")


class Transform:
    """A window in scratch memory, transformed.

    Args:
        e: the emitter.
        n: words, among them `TRANSFORM_WORDS`: tables of stages and of constants, how many stages,
            the constants of a block, blocks and their elements, and where a block's constants of
            the last stage begin.
        wide: the vector type.
    """

    def __init__(self, e: Emitter, n: Words, wide: Value) -> None:
        self.e, self.n, self.passes = e, n, Passes(e, wide)

    def outer(self, area: Value, forward: bool) -> None:
        """The leading stages."""
        n = self.n
        stages, constants = n.pointer("outer_stages"), n.pointer("outer_constants")
        self.passes.run(area, stages, n.number("outer_count"), constants, forward)

    def block(self, b: Value) -> Value:
        """The constants of block b."""
        n, e = self.n, self.e
        at = e.mul(b, n.number("inner_step"))
        return e.at(n.pointer("inner_constants"), at, self.passes.scalar)

    def inner(self, area: Value, constants: Value, forward: bool, last: int) -> None:
        """The stages of a block but the last, and `last` of that."""
        n = self.n
        count = self.e.add(n.number("inner_count"), last)
        self.passes.run(area, n.pointer("inner_stages"), count, constants, forward)


@dataclass(frozen=True)
class FftWeights:
    """The transforms of the filters, divided by the length: U [channel][element][2][lanes].

    Attributes:
        dtype: float32 or float64.
        rank: number of axes.
        lanes: channels of a vector.
    """

    dtype: DType
    rank: int
    lanes: int

    @property
    def name(self) -> str:
        """`fft_weights1d_f32_16`"""
        return f"fft_weights{self.rank}d_{self.dtype.short}_{self.lanes}"

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        axes = (f"{name}{j}" for j in range(self.rank) for name in AXIS_WORDS)
        return (*_BASE, *TRANSFORM_WORDS, *SOURCE_WORDS, "scale", *axes)

    def emit(self, e: Emitter) -> None:
        """A thread's share: channels."""
        n = Words(e, self.words)
        wide = vector(element(self.dtype), self.lanes)
        transform = Transform(e, n, wide)
        windows = Windows(e, n, self.dtype, self.rank, self.lanes, 1, None)
        area = e.at(n.pointer("scratch"), e.mul(e.thread, n.number("scratch_each")), wide)
        scalar = transform.passes.scalar
        scale = e.splat(e.load(n.pointer("scale"), scalar), self.lanes)

        def channel(c: Value) -> None:
            windows.read(area, windows.place(e.index(0), c, [e.index(0)] * self.rank))
            transform.outer(area, True)
            length = n.number("block_length")
            u = e.at(n.pointer("u"), e.mul(c, e.mul(e.mul(n.number("blocks"), length), 2)), wide)

            def block(b: Value) -> None:
                first = e.mul(e.mul(b, length), 2)
                here, to = e.at(area, first, wide), e.at(u, first, wide)
                transform.inner(here, transform.block(b), True, 1)

                def one(p: Value) -> None:
                    x = transform.passes.load(here, p)
                    value = e.b.fmul(x[0], scale), e.b.fmul(x[1], scale)
                    transform.passes.store(to, p, value)

                e.each(0, length, one)

            e.each(0, n.number("blocks"), block)

        first, last = e.share(n.number("channels"))
        e.each(first, last, channel)


@dataclass(frozen=True)
class FftConv:
    """A depthwise convolution of stride 1.

    Attributes:
        dtype: float32 or float64.
        rank: number of axes.
        lanes: channels of a vector.
        together: windows of a vector; that or `lanes` is 1.
        epilogue: what is stored of a sum.
    """

    dtype: DType
    rank: int
    lanes: int
    together: int
    epilogue: Epilogue | None = None

    @property
    def name(self) -> str:
        """`fft1d_f32_16x1`"""
        return f"fft{self.rank}d_{self.dtype.short}_{self.lanes}x{self.together}"

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        axes = (f"{name}{j}" for j in range(self.rank) for name in AXIS_WORDS)
        operands = (f"operand{i}" for i in range(len(self.epilogue.kinds if self.epilogue else ())))
        return (*_BASE, "y", "w", *TRANSFORM_WORDS, *SOURCE_WORDS, *axes, *operands)

    def emit(self, e: Emitter) -> None:
        """A thread's share: windows of all images and channels."""
        n = Words(e, self.words)
        count = self.lanes * self.together
        wide = vector(element(self.dtype), count)
        transform = Transform(e, n, wide)
        windows = Windows(e, n, self.dtype, self.rank, self.lanes, self.together, self.epilogue)
        area = e.at(n.pointer("scratch"), e.mul(e.thread, n.number("scratch_each")), wide)
        channels, length = n.number("channels"), n.number("block_length")
        tiles = [n.number(f"tiles{j}") for j in range(self.rank)]
        each: Index = 1
        for t in tiles:
            each = e.mul(t, each)

        def item(i: Value) -> None:
            rest = e.b.urem(i, each)
            numbers: list[Value] = []
            for t in reversed(tiles):
                numbers.insert(0, e.b.urem(rest, t))
                rest = e.b.udiv(rest, t)
            plane = e.b.udiv(i, each)
            place = windows.place(e.b.udiv(plane, channels), e.b.urem(plane, channels), numbers)
            windows.read(area, place)
            self._convolve(e, n, transform, area, place, length)
            windows.write(area, place)

        first, last = e.share(e.mul(e.mul(n.number("images"), channels), each))
        e.each(first, last, item)

    def _convolve(
        self, e: Emitter, n: Words, transform: Transform, area: Value, place: Place, length: Value
    ) -> None:
        passes = transform.passes
        scalar = vector(element(self.dtype), self.lanes)  # of U
        size = e.mul(e.mul(n.number("blocks"), length), 2)
        u = e.at(n.pointer("u"), e.mul(place.channel, size), scalar)
        transform.outer(area, True)

        def block(b: Value) -> None:
            first = e.mul(e.mul(b, length), 2)
            here, weights = e.at(area, first, passes.wide), e.at(u, first, scalar)
            constants = transform.block(b)
            transform.inner(here, constants, True, 0)

            def product(node: Value, q: int, x: Complex) -> Complex:
                at = e.add(e.mul(node, 8), 2 * q)
                z = [e.load(e.at(weights, e.add(at, i), scalar), scalar) for i in (0, 1)]
                real, imaginary = (e.splat(v, self.together) for v in z)
                return passes.times_conjugate(x, (real, imaginary))

            table = e.at(constants, n.number("last_constants"), passes.scalar)
            passes.middle(here, e.b.udiv(length, e.index(4)), table, product)
            transform.inner(here, constants, False, 0)

        e.each(0, n.number("blocks"), block)
        transform.outer(area, False)
