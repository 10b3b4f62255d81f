"""Stages of Fourier transforms on vectors in memory, in place: see `fft_algebra`.

Element p stands at vectors 2p (real part) and 2p + 1 (imaginary part); lanes are transforms that
have nothing to do with each other. A pass goes over the nodes of a stage, whose constants it loads
once, and over the elements of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from striate.codegen.emitter import I64, Emitter, Index, Value, lanes_of, scalar_of, size_of
from striate.codegen.fft_algebra import STAGE_WORDS

Complex = tuple[Value, Value]


class Passes:
    """Emits passes.

    Args:
        e: the emitter.
        wide: the vector type.
    """

    def __init__(self, e: Emitter, wide: Value) -> None:
        self.e, self.wide, self.scalar = e, wide, scalar_of(wide)
        self.align = lanes_of(wide) * size_of(self.scalar)

    # ---- memory ------------------------------------------------------------------------

    def load(self, base: Value, p: Index) -> Complex:
        """Element p."""
        e, at = self.e, self.e.mul(p, 2)
        first, second = (e.at(base, e.add(at, i), self.wide) for i in (0, 1))
        return e.load(first, self.wide, self.align), e.load(second, self.wide, self.align)

    def store(self, base: Value, p: Index, value: Complex) -> None:
        """Write element p."""
        e, at = self.e, self.e.mul(p, 2)
        for i, part in enumerate(value):
            e.store(part, e.at(base, e.add(at, i), self.wide), self.align)

    def constants(self, table: Value, radix: int) -> list[Complex]:
        """z, z^2, ... z^(r-1) of a node, in every lane."""
        e = self.e

        def one(i: int) -> Value:
            return e.splat(e.load(e.at(table, i, self.scalar), self.scalar), lanes_of(self.wide))

        return [(one(2 * q), one(2 * q + 1)) for q in range(radix - 1)]

    # ---- arithmetic --------------------------------------------------------------------

    def plus(self, x: Complex, y: Complex) -> Complex:
        """x + y"""
        return self.e.b.fadd(x[0], y[0]), self.e.b.fadd(x[1], y[1])

    def minus(self, x: Complex, y: Complex) -> Complex:
        """x - y"""
        return self.e.b.fsub(x[0], y[0]), self.e.b.fsub(x[1], y[1])

    def times(self, x: Complex, z: Complex) -> Complex:
        """x z"""
        e = self.e
        real = e.muladd(e.b.fneg(x[1]), z[1], e.b.fmul(x[0], z[0]))
        return real, e.muladd(x[1], z[0], e.b.fmul(x[0], z[1]))

    def times_conjugate(self, x: Complex, z: Complex) -> Complex:
        """x times the conjugate of z"""
        e = self.e
        imaginary = e.muladd(e.b.fneg(x[0]), z[1], e.b.fmul(x[1], z[0]))
        return e.muladd(x[1], z[1], e.b.fmul(x[0], z[0])), imaginary

    def fourth(self, x: Sequence[Complex]) -> list[Complex]:
        """sum over q of x[q] i^(jq), for j = 0, 1, 2, 3"""
        b = self.e.b
        even, odd = self.plus(x[0], x[2]), self.plus(x[1], x[3])
        other, turned = self.minus(x[0], x[2]), self.minus(x[1], x[3])
        first = b.fsub(other[0], turned[1]), b.fadd(other[1], turned[0])
        third = b.fadd(other[0], turned[1]), b.fsub(other[1], turned[0])
        return [self.plus(even, odd), first, self.minus(even, odd), third]

    def down(self, parts: Sequence[Complex], z: Sequence[Complex]) -> list[Complex]:
        """From the parts of a polynomial to those modulo the factors."""
        first, *rest = parts
        moved = [first, *(self.times(p, q) for p, q in zip(rest, z, strict=True))]
        if len(parts) == 2:
            return [self.plus(*moved), self.minus(*moved)]
        return self.fourth(moved)

    def up(self, parts: Sequence[Complex], z: Sequence[Complex]) -> list[Complex]:
        """Backward, times r."""
        if len(parts) == 2:
            first, *rest = self.plus(*parts), self.minus(*parts)
        else:
            first, third, second, one = self.fourth(parts)
            rest = [one, second, third]
        return [first, *(self.times_conjugate(p, q) for p, q in zip(rest, z, strict=True))]

    # ---- passes ------------------------------------------------------------------------

    def run(
        self, area: Value, stages: Value, count: Value, constants: Value, forward: bool
    ) -> None:
        """Stages of a table, in order or backward, on the elements at `area`."""
        e = self.e

        def stage(i: Value) -> None:
            row = i if forward else e.b.sub(e.add(count, -1), i)
            numbers = [
                e.load(e.at(stages, e.add(e.mul(row, STAGE_WORDS), j), I64), I64)
                for j in range(STAGE_WORDS)
            ]
            radix, nodes, part, first = numbers
            table = e.at(constants, first, self.scalar)
            with e.either(e.b.icmp_unsigned("==", radix, e.index(2))) as (two, four):
                for r, arm in ((2, two), (4, four)):
                    with arm:
                        self._stage(area, r, nodes, part, table, self.down if forward else self.up)

        e.each(0, count, stage)

    def _stage(
        self,
        area: Value,
        radix: int,
        nodes: Value,
        part: Value,
        table: Value,
        change: Callable[[Sequence[Complex], Sequence[Complex]], list[Complex]],
    ) -> None:
        e = self.e

        def node(j: Value) -> None:
            z = self.constants(e.at(table, e.mul(j, 2 * (radix - 1)), self.scalar), radix)
            first = e.at(area, e.mul(e.mul(j, part), 2 * radix), self.wide)

            def element(p: Value) -> None:
                places = [e.add(p, e.mul(part, q)) for q in range(radix)]
                new = change([self.load(first, at) for at in places], z)
                for at, value in zip(places, new, strict=True):
                    self.store(first, at, value)

            e.each(0, part, element)

        e.each(0, nodes, node)

    def middle(
        self,
        area: Value,
        nodes: Value,
        table: Value,
        product: Callable[[Value, int, Complex], Complex],
    ) -> None:
        """The last stage, of radix 4, what is done at each root, and the stage backward.

        `product(j, q, x)`: the new value for x, at root q of node j.
        """
        e = self.e

        def node(j: Value) -> None:
            z = self.constants(e.at(table, e.mul(j, 6), self.scalar), 4)
            first = e.at(area, e.mul(j, 8), self.wide)
            values = self.down([self.load(first, q) for q in range(4)], z)
            values = self.up([product(j, q, x) for q, x in enumerate(values)], z)
            for q, value in enumerate(values):
                self.store(first, q, value)

        e.each(0, nodes, node)
