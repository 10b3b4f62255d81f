"""The windows of overlap-save, between values in memory and vectors in scratch memory.

A row of a window is M elements: input p of the last axis is the real part of element p, input p + M
its imaginary part. Lanes are channels, which stand side by side in memory, or windows, one hop from
each other, which are transposed on the way. What is outside of the image is zero in a window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from striate.codegen.emitter import Emitter, Index, Value, element, lanes_of, storage, vector
from striate.codegen.epilogue import Epilogue, Operands, load_lanes, store_lanes
from striate.codegen.separable import nest
from striate.codegen.transposition import transposed
from striate.codegen.words import Words
from striate.dtype import DType

SOURCE_WORDS = ("x", "x_image", "x_plane", "y_image", "y_plane")
AXIS_WORDS = (
    "size", "step", "shift", "window", "taps", "outs", "y_step", "hop", "tiles", "w_step",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window is.

    Attributes:
        image, channel: the channel in vectors of `lanes`.
        outs: its first output, per axis.
    """

    image: Value
    channel: Value
    outs: list[Value]


class Windows:
    """Reads and writes windows.

    Args:
        e: the emitter.
        n: words: `SOURCE_WORDS` (x, and elements between images and vectors of channels), y, w
            [channel][taps][lanes], and `AXIS_WORDS` of every axis: inputs, positions between two,
            which of them output 0 meets through tap 0, the window's length, taps, outputs,
            positions between two, outputs of a tile, tiles, taps between two of w.
        dtype: of x and y.
        rank: number of axes.
        lanes, together: channels and windows of a vector; one of them is 1.
        epilogue: what is stored of a sum.
    """

    def __init__(
        self,
        e: Emitter,
        n: Words,
        dtype: DType,
        rank: int,
        lanes: int,
        together: int,
        epilogue: Epilogue | None,
    ) -> None:
        self.e, self.n, self.dtype, self.rank = e, n, dtype, rank
        self.lanes, self.together = lanes, together
        self.wide = vector(element(dtype), lanes * together)
        self.half = e.b.udiv(n.number(f"window{rank - 1}"), e.index(2))
        self.result = epilogue.result if epilogue else dtype
        self.operands: Operands | None = None
        if epilogue:
            pointers = [n.pointer(f"operand{i}") for i in range(len(epilogue.kinds))]
            self.operands = Operands(e, epilogue, pointers)

    def axis(self, name: str, j: int | None = None) -> Value:
        """A word of an axis, by default the last."""
        return self.n.number(f"{name}{self.rank - 1 if j is None else j}")

    def place(self, image: Value, channel: Value, tiles: list[Value]) -> Place:
        """The window of these tiles; the last axis counts vectors of tiles."""
        e = self.e
        outs = [e.mul(t, self.axis("hop", j)) for j, t in enumerate(tiles)]
        outs[-1] = e.mul(outs[-1], self.together)
        return Place(image, channel, outs)

    def rows(self, body: Callable[[list[Index], Value], None]) -> None:
        """body(where on the leading axes, number of the row)"""
        e = self.e
        sizes = [self.axis("window", j) for j in range(self.rank - 1)]

        def row(where: list[Index], carried: list[Value]) -> list[Value]:
            body(where, carried[0])
            return [e.add(carried[0], 1)]

        nest(e, sizes, [e.index(0)], row)

    def vector(self, area: Value, row: Value, h: Value, p: Value) -> Value:
        """The address of element p of a half of a row."""
        e = self.e
        at = e.add(e.mul(e.mul(row, self.half), 2), e.mul(p, 2), h)
        return e.at(area, at, self.wide)

    def keep(self, value: Value, p: Value) -> None:
        """Store a vector in scratch memory."""
        self.e.store(value, p, lanes_of(self.wide) * self.dtype.itemsize)

    def fetch(self, p: Value) -> Value:
        """Load a vector from scratch memory."""
        return self.e.load(p, self.wide, lanes_of(self.wide) * self.dtype.itemsize)

    # ---- x to a window -----------------------------------------------------------------

    def read(self, area: Value, place: Place) -> None:
        """Bring a window to scratch memory."""
        e, n = self.e, self.n
        starts = [e.add(o, self.axis("shift", j)) for j, o in enumerate(place.outs)]
        base = e.add(
            e.mul(place.image, n.number("x_image")), e.mul(place.channel, n.number("x_plane"))
        )

        def row(where: list[Index], number: Value) -> None:
            seen, at = e.b.icmp_unsigned("==", e.index(0), e.index(0)), base
            for j, i in enumerate(where):
                position = e.add(starts[j], i)
                inside = e.b.icmp_unsigned("<", position, self.axis("size", j))
                seen = e.b.and_(seen, inside)
                at = e.add(at, e.mul(e.mul(position, self.axis("step", j)), self.lanes))
            inputs = e.b.select(seen, self.axis("size"), e.index(0))
            x = e.at(n.pointer("x"), at, storage(self.dtype))
            each = self._channels if self.together == 1 else self._transposed
            e.each(0, 2, lambda h: each(area, number, h, x, starts[-1], inputs))

        self.rows(row)

    def _channels(
        self, area: Value, row: Value, h: Value, x: Value, start: Value, inputs: Value
    ) -> None:
        """Half a row, whose input p is position start + p."""
        e, step = self.e, self.e.mul(self.axis("step"), self.lanes)
        begin = e.add(start, e.mul(h, self.half))
        low = e.smaller(e.larger(e.b.neg(begin), 0), self.half)
        high = e.larger(e.smaller(e.b.sub(inputs, begin), self.half), low)
        zero = e.const(self.wide, 0)
        e.each(0, low, lambda p: self.keep(zero, self.vector(area, row, h, p)))

        def one(p: Value) -> None:
            source = e.at(x, e.mul(e.add(begin, p), step), storage(self.dtype))
            value = load_lanes(e, source, self.dtype, self.lanes)
            self.keep(value, self.vector(area, row, h, p))

        e.each(low, high, one)
        e.each(high, self.half, lambda p: self.keep(zero, self.vector(area, row, h, p)))

    def _transposed(
        self, area: Value, row: Value, h: Value, x: Value, start: Value, inputs: Value
    ) -> None:
        """Half a row of windows, V elements of V windows at a time."""
        e, v, hop = self.e, self.together, self.axis("hop")
        begin = e.add(start, e.mul(h, self.half))

        def some(p: Value) -> None:
            first = e.add(begin, p)
            firsts = [e.add(first, e.mul(hop, lane)) for lane in range(v)]
            places = [e.at(x, at, storage(self.dtype)) for at in firsts]
            whole = e.b.and_(
                e.b.icmp_signed(">=", first, e.index(0)),
                e.b.icmp_signed("<=", e.add(firsts[-1], v), inputs),
            )

            def masked() -> list[Value]:
                found = []
                for at, source in zip(firsts, places, strict=True):
                    positions = e.b.add(e.splat(at, v), e.ramp(v))
                    mask = e.b.icmp_unsigned("<", positions, e.splat(inputs, v))
                    found.append(load_lanes(e, source, self.dtype, v, mask))
                return found

            loaded = e.choose(
                whole, lambda: [load_lanes(e, s, self.dtype, v) for s in places], masked
            )
            for i, value in enumerate(transposed(e, loaded)):
                self.keep(value, self.vector(area, row, h, e.add(p, i)))

        e.each(0, self.half, some, v)

    # ---- a window to y -----------------------------------------------------------------

    def write(self, area: Value, place: Place) -> None:
        """Store the outputs of a window; those of a window that is not finite by the definition."""
        e, n = self.e, self.n
        base = e.add(
            e.mul(place.image, n.number("y_image")), e.mul(place.channel, n.number("y_plane"))
        )
        counts = [
            e.smaller(self.axis("hop", j), e.b.sub(self.axis("outs", j), place.outs[j]))
            for j in range(self.rank - 1)
        ]
        fixed: list[Value | None] = []
        if self.operands:
            channel = e.mul(place.channel, self.lanes)
            found = self.operands.at_channel(channel, self.lanes, None)
            fixed = [None if f is None else e.splat(f, self.together) for f in found]
        each = self._from_channels if self.together == 1 else self._from_transposed

        def row(where: list[Index], carried: list[Value]) -> list[Value]:
            number: Value = e.index(0)
            for j, i in enumerate(where):
                number = e.add(e.mul(number, self.axis("window", j)), i)
            y = e.add(
                base, *(self._offset(j, e.add(place.outs[j], i)) for j, i in enumerate(where))
            )
            return e.loop(
                0, 2, 1, carried, lambda h, c: [each(area, number, h, y, place, fixed, c[0])]
            )

        (bad,) = nest(e, counts, [e.const(self.wide, 0)], row)
        lost = e.b.bitcast(e.b.fcmp_unordered("uno", bad, bad), ir.IntType(lanes_of(self.wide)))
        with e.when(e.b.icmp_unsigned("!=", lost, ir.Constant(lost.type, 0))):
            self._exact(place, counts, base)

    def _offset(self, j: int, o: Index) -> Value:
        """Elements of y before output o of an axis."""
        return self.e.mul(self.e.mul(o, self.axis("y_step", j)), self.lanes)

    def _store(
        self, value: Value, at: Value, fixed: list[Value | None], mask: Value | None
    ) -> None:
        e = self.e
        if self.operands:
            value = self.operands.apply(value, fixed, at, mask)
        place = e.at(self.n.pointer("y"), at, storage(self.result))
        store_lanes(e, value, place, self.result, mask)

    def _from_channels(
        self,
        area: Value,
        row: Value,
        h: Value,
        y: Value,
        place: Place,
        fixed: list[Value | None],
        bad: Value,
    ) -> Value:
        """Half a row; `bad`, not a number where a result is not finite."""
        e, first = self.e, self.e.mul(h, self.half)
        count = e.smaller(self.axis("hop"), e.b.sub(self.axis("outs"), place.outs[-1]))

        def one(p: Value, carried: list[Value]) -> list[Value]:
            value = self.fetch(self.vector(area, row, h, p))
            o = e.add(place.outs[-1], first, p)
            self._store(value, e.add(y, self._offset(self.rank - 1, o)), fixed, None)
            return [e.muladd(value, e.const(self.wide, 0), carried[0])]

        return e.loop(0, e.smaller(e.b.sub(count, first), self.half), 1, [bad], one)[0]

    def _from_transposed(
        self,
        area: Value,
        row: Value,
        h: Value,
        y: Value,
        place: Place,
        fixed: list[Value | None],
        bad: Value,
    ) -> Value:
        """The same, V elements of V windows at a time, through the memory that they are in."""
        e, v, hop = self.e, self.together, self.axis("hop")
        first = e.mul(h, self.half)

        def some(p: Value, carried: list[Value]) -> list[Value]:
            places = [self.vector(area, row, h, e.add(p, i)) for i in range(v)]
            turned = transposed(e, [self.fetch(at) for at in places])
            for at, value in zip(places, turned, strict=True):
                self.keep(value, at)

            def lane(i: Value, carried: list[Value]) -> list[Value]:
                value = self.fetch(self.vector(area, row, h, e.add(p, i)))
                o = e.add(place.outs[-1], e.mul(i, hop))
                count = e.smaller(hop, e.b.sub(self.axis("outs"), o))
                position = e.add(first, p)
                mask = e.first_lanes(e.b.sub(count, position), v)
                at = e.add(y, self._offset(self.rank - 1, e.add(o, position)))
                self._store(value, at, fixed, mask)
                kept = e.b.select(mask, value, e.const(self.wide, 0))
                return [e.muladd(kept, e.const(self.wide, 0), carried[0])]

            return e.loop(0, v, 1, carried, lane)

        return e.loop(0, e.smaller(e.b.sub(hop, first), self.half), v, [bad], some)[0]

    # ---- the definition ----------------------------------------------------------------

    def _exact(self, place: Place, counts: list[Value], base: Value) -> None:
        """The outputs of a window, or of all windows of the vector, by the definition."""
        e, n = self.e, self.n
        type, last = vector(element(self.dtype), self.lanes), self.rank - 1
        taps: Value = e.index(1)
        for j in range(self.rank):
            taps = e.mul(taps, self.axis("taps", j))
        w = e.at(n.pointer("w"), e.mul(place.channel, taps), type)
        x = e.add(
            e.mul(place.image, n.number("x_image")), e.mul(place.channel, n.number("x_plane"))
        )
        fixed: list[Value | None] = []
        if self.operands:
            fixed = self.operands.at_channel(e.mul(place.channel, self.lanes), self.lanes, None)

        def total(j: int, outs: list[Value], source: Value, weights: Value, acc: Value) -> Value:
            """acc plus the terms of the axes from j on."""
            if j == self.rank:
                one = load_lanes(
                    e, e.at(n.pointer("x"), source, storage(self.dtype)), self.dtype, self.lanes
                )
                return e.muladd(one, e.load(e.at(w, weights, type), type), acc)
            start = e.add(outs[j], self.axis("shift", j))
            first = e.larger(e.b.neg(start), 0)
            stop = e.smaller(self.axis("taps", j), e.b.sub(self.axis("size", j), start))
            step = e.mul(self.axis("step", j), self.lanes)

            def tap(t: Value, carried: list[Value]) -> list[Value]:
                at = e.add(source, e.mul(e.add(start, t), step))
                to = e.add(weights, e.mul(t, self.axis("w_step", j)))
                return [total(j + 1, outs, at, to, carried[0])]

            return e.loop(first, stop, 1, [acc], tap)[0]

        def window(lane: Value) -> None:
            first = e.add(place.outs[last], e.mul(lane, self.axis("hop")))
            count = e.smaller(self.axis("hop"), e.b.sub(self.axis("outs"), first))

            def output(where: list[Index], _: list[Value]) -> list[Value]:
                outs = [e.add(o, i) for o, i in zip([*place.outs[:-1], first], where, strict=True)]
                value = total(0, outs, x, e.index(0), e.const(type, 0))
                at = e.add(base, *(self._offset(j, o) for j, o in enumerate(outs)))
                self._store(value, at, fixed, None)
                return []

            nest(e, [*counts, count], (), output)

        e.each(0, self.together, window)
