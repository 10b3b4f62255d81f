"""Packing of a tile of x, with its padding: a copy, in which bfloat16 becomes float32.

x -> [channel block][plane, ...][position, ...][c]          zeros where there is no input
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from striate.codegen.emitter import I32, I64, Emitter, Index, Value, element, storage, vector
from striate.codegen.epilogue import load_lanes
from striate.codegen.words import Words
from striate.dtype import DType


def pack_area(e: Emitter, n: Words, scalar: object) -> Value:
    """The scratch memory of this thread."""
    return e.at(n.pointer("scratch"), e.mul(e.thread, n.number("scratch_each")), scalar)


class TilePack:
    """Packs one tile of x: the words are those of a `DenseKernel`.

    Args:
        e: the emitter.
        dtype: of x.
        block, tail: channels of a packed block; of the last sub-block of x, 0 if it is full.
        axes: their number.
        n: the words.
        starts, lengths: per axis, the first output of the tile and how many there are.
    """

    def __init__(
        self,
        e: Emitter,
        dtype: DType,
        block: int,
        tail: int,
        axes: int,
        n: Words,
        starts: list[Value],
        lengths: list[Value],
    ) -> None:
        self.e, self.dtype, self.block, self.tail, self.axes, self.n = (
            e,
            dtype,
            block,
            tail,
            axes,
            n,
        )
        self.scalar = element(dtype)
        self.lanes = e.target.vector_bytes * 8 // (64 if dtype.bits == 64 else 32)
        self.starts = starts
        self.counts = [e.add(length, n.number(f"extra{j}")) for j, length in enumerate(lengths)]
        self.area = pack_area(e, n, self.scalar)

    def copy(self, source: Value) -> None:
        """All channel blocks of the group that begins at `source`."""
        e, n = self.e, self.n
        subs = n.number("subs")
        wide = vector(self.scalar, self.block)

        def block(i: Value, sub: Value, lanes: int) -> None:
            x = e.add(e.mul(i, n.number("x_block")), e.mul(sub, self.block))
            place = e.mul(e.add(e.mul(i, subs), sub), n.number("block_pitch"))
            base = e.at(self.area, e.mul(place, self.block), self.scalar)

            def put(position: Value, at: Value) -> None:
                p = e.at(source, e.add(x, at), storage(self.dtype))
                value = load_lanes(e, p, self.dtype, lanes)
                if lanes < self.block:
                    e.store(e.const(wide, 0), e.at(base, e.mul(position, self.block), self.scalar))
                e.store(value, e.at(base, e.mul(position, self.block), self.scalar))

            def several(position: Value, at: Value, step: int) -> None:
                """`lanes` positions whose elements are 1, 2 or 4 apart."""
                v = self.lanes
                p = e.at(source, e.add(x, at), storage(self.dtype))
                parts = [
                    load_lanes(e, e.at(p, i * v, storage(self.dtype)), self.dtype, v)
                    for i in range(step)
                ]
                picks = ir.Constant(ir.VectorType(I32, v), list(range(0, 2 * v, 2)))
                while len(parts) > 1:  # every other element of every two
                    pairs = zip(parts[::2], parts[1::2], strict=True)
                    parts = [e.b.shuffle_vector(*pair, picks) for pair in pairs]
                e.store(parts[0], e.at(base, position, self.scalar))

            def clear(position: Value) -> None:
                e.store(e.const(wide, 0), e.at(base, e.mul(position, self.block), self.scalar))

            self.walk(put, clear, several if self.block == 1 else None)

        full = e.b.sub(subs, e.index(1)) if self.tail else subs

        def blocks(i: Value) -> None:
            e.each(0, full, lambda sub: block(i, sub, self.block))
            if self.tail:
                block(i, full, self.tail)

        e.each(0, n.number("blocks"), blocks)

    def mask(self) -> None:
        """One number per position: 1 for an input, 0 for padding."""
        e = self.e
        base = e.at(self.area, self.n.number("mask"), self.scalar)
        one, zero = e.const(self.scalar, 1), e.const(self.scalar, 0)
        self.walk(
            lambda position, at: e.store(one, e.at(base, position, self.scalar)),
            lambda position: e.store(zero, e.at(base, position, self.scalar)),
        )

    def walk(
        self,
        put: Callable[[Value, Value], object],
        clear: Callable[[Value], object],
        several: Callable[[Value, Value, int], object] | None = None,
    ) -> None:
        """Visit every position of the tile with the element of x that stands there, or none.

        `several` does as many at once as a vector has lanes, 1, 2 or 4 elements apart.
        """
        e, n = self.e, self.n

        def level(j: int, position: Index, at: Index, inside: Value) -> None:
            stride, size = n.number(f"stride{j}"), n.number(f"in{j}")
            step, pitch = n.number(f"x_step{j}"), n.number(f"pitch{j}")

            def plane(i: Value) -> None:
                offset = e.load(e.at(n.pointer(f"offsets{j}"), i, I64), I64)
                first = e.add(e.mul(stride, self.starts[j]), offset)
                base = e.add(position, e.mul(i, n.number(f"plane_pitch{j}")))
                if j == self.axes - 1:
                    row(base, e.add(at, e.mul(first, step)), first, stride, size, step, inside)
                    return

                def place(l: Value) -> None:
                    i = e.add(first, e.mul(stride, l))
                    seen = e.b.and_(inside, e.b.icmp_unsigned("<", i, size))
                    level(j + 1, e.add(base, e.mul(l, pitch)), e.add(at, e.mul(i, step)), seen)

                e.each(0, self.counts[j], place)

            e.each(0, n.number(f"planes{j}"), plane)

        def row(
            base: Value, at: Value, first: Value, stride: Value, size: Value, step: Value, ok: Value
        ) -> None:
            count = self.counts[-1]
            less = e.b.sub(stride, e.index(1))
            low = e.b.sdiv(e.add(e.b.neg(first), less), stride)  # ceil(-first / stride)
            high = e.b.sdiv(e.add(e.b.sub(size, first), less), stride)
            low = e.smaller(e.larger(low, 0), count)
            high = e.larger(e.smaller(high, count), low)
            low, high = (e.b.select(ok, v, count) for v in (low, high))
            jump = e.mul(step, stride)
            e.each(0, low, lambda l: clear(e.add(base, l)))
            if several is not None:
                low = neighbours(base, at, low, high, jump, several)
            e.each(low, high, lambda l: put(e.add(base, l), e.add(at, e.mul(l, jump))))
            e.each(high, count, lambda l: clear(e.add(base, l)))

        def neighbours(
            base: Value,
            at: Value,
            low: Value,
            high: Value,
            jump: Value,
            several: Callable[[Value, Value, int], object],
        ) -> Value:
            """Whole vectors of a row; the first position that is left. What stands between elements
            is read too, so the last position is left to others.
            """
            for step in (1, 2, 4):
                size = e.b.sub(high, e.add(low, min(step - 1, 1)))
                whole = e.add(low, e.b.and_(e.larger(size, 0), e.index(-self.lanes)))
                fits = e.b.icmp_signed("==", jump, e.index(step))
                stop = e.b.select(fits, whole, low)

                def vectors(l: Value, step: int = step) -> None:
                    several(e.add(base, l), e.add(at, e.mul(l, step)), step)

                e.each(low, stop, vectors, self.lanes)
                low = stop
            return low

        level(0, 0, 0, e.b.icmp_unsigned("==", e.index(0), e.index(0)))
