"""The kernel of max pooling: the first largest element of every window, and where it stands.

Work is shared by rows of windows along the last axis. Windows of a row that touch no padding are
taken in tiles (the last tile may overlap the one before: a choice can be made twice), the others
one by one with bounds of their own.

Large windows are separable: the outer axes are reduced first, for the whole row of elements, into
a line of scratch memory, which the windows of the row share. The first of equal elements is then
the one with the smallest position, not the one that comes first.

An index is a position in the plane, or, in 8 bits, the number of the tap in its window: both grow
in row-major order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

from llvmlite import ir

from striate.codegen.elements import load_element, store_element
from striate.codegen.emitter import (
    I1,
    I8,
    I32,
    I64,
    Emitter,
    Index,
    Value,
    element,
    lanes_of,
    storage,
    vector,
)
from striate.codegen.ordering import load_strided, ties, wins, worst
from striate.dtype import DType, int32, int64
from striate.ops.window import Window

STRIPE = 4  # vectors of a line that are reduced at once
MOST_TAPS = 256  # of a window whose index is the number of a tap


class Axis(NamedTuple):
    """A window's numbers: those of the kernel, which are constants, and those of the words; `pitch`
    and `out_pitch` are the spatial strides of x and y.
    """

    stride: Value
    dilation: Value
    size: Value
    out: Value
    kernel: Value
    pad: Value
    pitch: Value
    out_pitch: Value

    def taps(self, e: Emitter, first: Value) -> tuple[Value, Value]:
        """(first, last + 1) of the taps that meet elements, for tap 0 at element `first`."""

        def steps(distance: Value) -> Value:  # rounded up
            up = e.b.add(e.larger(distance, 0), e.b.sub(self.dilation, e.index(1)))
            return e.b.udiv(up, self.dilation)

        low = steps(e.b.sub(e.index(0), first))
        return low, e.smaller(self.kernel, steps(e.b.sub(self.size, first)))

    def tap(self, e: Emitter, i: Value, o: Value) -> Value:
        """The tap through which element i is in window o, which reaches over it; `MOST_TAPS` if
        it is between two of them.
        """
        ahead = e.b.sub(e.b.add(i, self.pad), e.b.mul(o, self.stride))
        on = e.b.icmp_signed("==", e.b.urem(ahead, self.dilation), e.index(0))
        return e.b.select(on, e.b.udiv(ahead, self.dilation), e.index(MOST_TAPS))

    def windows(self, e: Emitter, i: Value) -> tuple[Value, Value]:
        """(first, last + 1) of the windows that reach over element i."""
        ahead = e.b.add(i, self.pad)
        reach = e.b.mul(e.b.sub(self.kernel, e.index(1)), self.dilation)
        first = e.larger(e.b.sub(ahead, reach), 0)
        first = e.b.udiv(e.b.add(first, e.b.sub(self.stride, e.index(1))), self.stride)
        stop = e.b.udiv(e.larger(e.b.add(ahead, self.stride), 0), self.stride)
        return first, e.smaller(self.out, stop)


def steps_of(windows: Sequence[Window]) -> tuple[tuple[int, int], ...]:
    """(stride, dilation) of each axis, which a kernel knows: it divides by them."""
    return tuple((w.stride, w.rhs_dilation) for w in windows)


def axis_words(windows: Sequence[Window]) -> tuple[int, ...]:
    """The words from which `axes` reads."""
    return tuple(n for w in windows for n in (w.in_size, w.out_size, w.kernel_size, w.pad_lo))


def axes(e: Emitter, word: int, steps: Sequence[tuple[int, int]]) -> list[Axis]:
    """The axes of a pool from its words and its `steps_of`."""
    found: list[Axis] = []
    pitch = out_pitch = e.index(1)
    for i in reversed(range(len(steps))):
        n, out, k, p = (e.number(word + 4 * i + j) for j in range(4))
        stride, dilation = (e.index(step) for step in steps[i])
        found.insert(0, Axis(stride, dilation, n, out, k, p, pitch, out_pitch))
        pitch, out_pitch = e.mul(pitch, n), e.mul(out_pitch, out)
    return found


def tap_numbers(e: Emitter, axes: Sequence[Axis]) -> list[Value]:
    """Per axis, how far apart the numbers of two neighbouring taps are."""
    found = [e.index(1)]
    for axis in reversed(axes[1:]):
        found.insert(0, e.mul(found[0], axis.kernel))
    return found


def split(e: Emitter, row: Value, sizes: Sequence[Value]) -> tuple[Value, list[Value]]:
    """(plane, positions) of row number `row` of [planes, *sizes]."""
    places: list[Value] = []
    for size in reversed(sizes):
        places.insert(0, e.b.urem(row, size))
        row = e.b.udiv(row, size)
    return row, places


def each_chunk(
    e: Emitter, block: Value, limit: int, lanes: int, exact: bool, body: Callable[[Index], object]
) -> None:
    """body(first channel) for chunks of `lanes` channels of a block, which has `limit` channels if
    it is `exact`; the last chunk may overlap the one before.
    """
    if exact:
        for c in range(0, limit, lanes):
            body(c)
        return
    last = e.b.sub(block, e.index(lanes))
    e.each(0, block, lambda c: body(e.smaller(c, last)), lanes)


@dataclass(frozen=True)
class MaxPool:
    """Words: x, y, index, planes, block, first and last + 1 of the windows of the last axis that
    touch no padding, scratch memory, its bytes a thread, of which bytes of values, `axis_words`.

    Attributes:
        dtype: of x, not bool.
        limit: lanes at most, a power of two.
        layout: what lies across the lanes: all of a `block`, chunks of `channels`, or `columns`.
        steps: `steps_of` the windows.
        taps: size of the window's last axis, or 0 for any.
        tile: windows at a time, at most: 1, 2 or 4.
        values, index: what is written; indices have 8 bits (numbers of taps), 32 or 64, or 0.
        wide: positions are computed in 64 bits.
        line: lanes at most, a power of two, if the outer axes are reduced first, else 0.
    """

    dtype: DType
    limit: int
    layout: str
    steps: tuple[tuple[int, int], ...]
    taps: int
    tile: int
    values: bool
    index: int
    wide: bool
    line: int

    @property
    def counted(self) -> bool:
        """Whether an index is the number of a tap."""
        return self.index == 8

    @property
    def name(self) -> str:
        """As `max_pool_f32_block_3_2`."""
        kind = ("max" if self.values else "") + ("arg" if self.index else "")
        kind = f"separable_{kind}" if self.line else kind
        stride = self.steps[-1][0]
        return f"{kind}_pool_{self.dtype.short}_{self.layout}_{self.taps or 'n'}_{stride}"

    def emit(self, e: Emitter) -> None:
        """Rows of windows are shared."""
        bits = max(32, self.dtype.bits) if self.index or self.dtype.is_floating else self.dtype.bits
        bits = 64 if self.index and self.wide else bits
        most = e.target.lanes(bits)
        lanes = min(self.limit, most)
        pairs = self.index and e.target.registers < 32  # else maxima and positions would spill
        tile_size = min(self.tile, 2 if pairs else 4)
        every = axes(e, 10, self.steps)
        outer, last = every[:-1], every[-1]
        rows = e.number(3)
        for axis in outer:
            rows = e.b.mul(rows, axis.out)
        plane_size = e.b.mul(every[0].size, every[0].pitch)
        block, first, stop = e.number(4), e.number(5), e.number(6)
        one = storage(self.dtype)

        def row(i: Value) -> None:
            plane, places = split(e, i, [a.out for a in outer])
            starts = [
                e.b.sub(e.b.mul(a.stride, o), a.pad) for a, o in zip(outer, places, strict=True)
            ]
            ranges = [a.taps(e, s) for a, s in zip(outer, starts, strict=True)]
            base = e.add(*(e.mul(s, a.pitch) for a, s in zip(outer, starts, strict=True)), 0)
            x = e.at(e.pointer(0), e.mul(e.mul(plane, plane_size), block), one)
            pool = _Row(self, e, x, every, ranges, base, e.mul(i, last.out), block)
            if self.line:
                pool = pool.reduced(min(self.line, most))
            width = lanes if self.layout == "columns" else tile_size
            end = e.b.sub(stop, e.index(width))

            def tile(o: Value) -> None:
                o = e.smaller(o, end)
                pool.chunks(lanes, lambda c: pool.windows(o, c, lanes, tile_size, None))

            def border(j: Value) -> None:
                inside = e.b.sub(stop, first)
                o = e.b.select(e.b.icmp_signed("<", j, first), j, e.b.add(j, inside))
                taps = last.taps(e, e.b.sub(e.b.mul(last.stride, o), last.pad))
                one_by_one = 1 if self.layout == "columns" else lanes
                pool.chunks(one_by_one, lambda c: pool.windows(o, c, one_by_one, 1, taps))

            e.each(first, stop, tile, width)
            e.each(0, e.b.sub(last.out, e.b.sub(stop, first)), border)

        e.each(*e.share(rows), row)


class Tap(NamedTuple):
    """A tap of a window: its element's distance from the window's origin, in positions, and the
    number by which it is remembered.
    """

    offset: Value
    number: Value


@dataclass(frozen=True)
class _Row:
    """One row of windows, while it is emitted.

    Attributes:
        kernel, e: what is emitted, and where.
        x: address of the plane.
        axes: all of them.
        ranges: taps of the outer axes that meet elements.
        base: where the windows' first row begins in the plane, in positions; may be negative.
        to: where the row begins in y, in positions.
        block: channels in a block.
        lines: if `x` is a line of maxima, the address of their first positions.
    """

    kernel: MaxPool
    e: Emitter
    x: Value
    axes: Sequence[Axis]
    ranges: Sequence[tuple[Value, Value]]
    base: Value
    to: Value
    block: Value
    lines: Value | None = None

    def reduced(self, lanes: int) -> _Row:
        """The same windows on the line of maxima over the outer axes, which is made here:
        x[*I, b] -> values, positions of the elements' rows [I, b] of the last axis.
        """
        e, k, last = self.e, self.kernel, self.axes[-1]
        one, integer = storage(k.dtype), I64 if k.wide else I32
        line = e.at(e.pointer(7), e.mul(e.thread, e.number(8)), I8)
        lines = e.at(line, e.number(9), I8)
        size = e.mul(last.size, self.block)

        def some(i: Value, width: int, count: int) -> None:
            """`count` vectors of elements i, i + 1, .. of the line."""
            starts = [e.add(i, width * n) for n in range(count)]
            first = corner = Tap(self.base, e.index(0) if k.counted else self.base)
            for axis, (low, _) in enumerate(self.ranges):
                first = self.moved(first, axis, low)
            place = self.spread(first.number, width) if k.index else None

            def meet(axis: int, at: Tap, best: list[Value], careful: bool) -> list[Value]:
                if axis == len(self.ranges):
                    return self.better(starts, [at], width, best, careful, contiguous=True)
                return e.loop(
                    *(*self.ranges[axis], 1, best),
                    lambda tap, b: meet(axis + 1, self.moved(at, axis, tap), b, careful),
                )

            best = self.decided(
                width, count, place, lambda best, careful: meet(0, corner, best, careful)
            )
            for n in range(count):
                at = e.add(i, width * n)
                store_element(e, best[n], e.at(line, at, one), k.dtype)
                if k.index:
                    e.store(best[count + n], e.at(lines, at, integer))

        stripe, last_start = lanes * STRIPE, e.b.sub(size, e.index(lanes))
        whole = e.b.sub(size, e.b.urem(size, e.index(stripe)))
        e.each(0, whole, lambda i: some(i, lanes, STRIPE), stripe)
        e.each(whole, size, lambda i: some(e.smaller(i, last_start), lanes, 1), lanes)
        return replace(self, x=line, axes=[last], ranges=[], base=e.index(0), lines=lines)

    def chunks(self, lanes: int, body: Callable[[Index], object]) -> None:
        """body(first channel)."""
        k = self.kernel
        if k.layout == "columns":
            body(0)
        else:
            each_chunk(self.e, self.block, k.limit, lanes, k.layout == "block", body)

    def windows(
        self, o: Value, c: Index, lanes: int, tile: int, taps: tuple[Value, Value] | None
    ) -> None:
        """Windows o, o + 1, .. of channels c, c + 1, ..; `taps` bounds the last axis, or all."""
        e, k, last = self.e, self.kernel, self.axes[-1]
        one = storage(k.dtype)
        origin = e.b.add(self.base, e.b.sub(e.b.mul(last.stride, o), last.pad))
        low, high = taps or (e.index(0), last.kernel)
        origins = [e.add(origin, e.mul(last.stride, t)) for t in range(tile)]
        starts = [e.add(e.mul(i, self.block), c) for i in origins]
        bounds = [*self.ranges, (low, high)]
        begin = corner = Tap(e.index(0), e.index(0))
        for axis, (start, _) in enumerate(bounds):
            begin = self.moved(begin, axis, start)
        place = self.spread(begin.number, lanes) if k.index else None
        if place is not None and self.lines is not None:  # later than any
            bits = 64 if k.wide else 32
            place = e.const(place.type, (1 << (bits - 1)) - 1)

        def meet(axis: int, at: Tap, best: list[Value], careful: bool) -> list[Value]:
            if axis == len(bounds):
                return self.better(starts, [at], lanes, best, careful)
            if axis == len(bounds) - 1 and taps is None and k.taps:
                every = [self.moved(at, axis, tap) for tap in range(k.taps)]
                return self.better(starts, every, lanes, best, careful)
            return e.loop(
                *(*bounds[axis], 1, best),
                lambda tap, b: meet(axis + 1, self.moved(at, axis, tap), b, careful),
            )

        best = self.decided(
            lanes, tile, place, lambda best, careful: meet(0, corner, best, careful)
        )
        for t in range(tile):
            to = e.add(e.mul(e.add(self.to, o, t), self.block), c)
            if k.values:
                store_element(e, best[t], e.at(e.pointer(1), to, one), k.dtype)
            if k.index:
                self.store_index(best[tile + t], origins[t], to, lanes)

    def moved(self, at: Tap, axis: int, taps: Index) -> Tap:
        """The tap so many further along an axis."""
        e, a = self.e, self.axes[axis]
        offset = e.add(at.offset, e.mul(e.mul(a.dilation, a.pitch), taps))
        if not self.kernel.counted:
            return Tap(offset, offset)
        return Tap(offset, e.add(at.number, e.mul(tap_numbers(e, self.axes)[axis], taps)))

    def decided(
        self,
        lanes: int,
        tile: int,
        place: Value | None,
        run: Callable[[list[Value], bool], list[Value]],
    ) -> list[Value]:
        """The maxima of `tile` windows that `run` finds, and their positions if it begins with
        `place`. It looks for the largest as if there were no NaN, and whether there is one. If so,
        positions are found again, carefully.
        """
        e, k = self.e, self.kernel
        begin = [e.const(vector(element(k.dtype), lanes), worst(k.dtype))] * tile
        begin += [] if place is None else [place] * tile
        if not k.dtype.is_floating:
            return run(begin, False)
        found = run(begin + [self.flags(e.const(vector(I1, lanes), 1))] * tile, False)
        best, flags = found[:-tile], found[-tile:]
        if place is None:
            nan = e.const(best[0].type, float("nan"))
            return [e.b.select(self.mask(f), x, nan) for x, f in zip(best, flags, strict=True)]
        every = self.mask(reduce(e.b.and_, flags))
        if lanes > 1:
            bits = e.b.bitcast(every, ir.IntType(lanes))
            every = e.b.icmp_signed("==", bits, e.const(bits.type, -1))
        return e.choose(every, lambda: best, lambda: run(begin, True))

    def flags(self, mask: Value) -> Value:
        """A mask as it is carried: lanes of bits where the processor has no masks."""
        if self.e.target.masks:
            return mask
        bits = 64 if self.kernel.dtype.bits == 64 else 32
        return self.e.b.sext(mask, vector(ir.IntType(bits), lanes_of(mask.type)))

    def mask(self, flags: Value) -> Value:
        """The mask that is carried as flags."""
        if self.e.target.masks:
            return flags
        return self.e.b.icmp_signed("<", flags, self.e.const(flags.type, 0))

    def better(
        self,
        starts: Sequence[Value],
        taps: Sequence[Tap],
        lanes: int,
        best: list[Value],
        careful: bool,
        contiguous: bool = False,
    ) -> list[Value]:
        """The best so far or an element at `taps`, of windows that begin at elements `starts`;
        the lanes are windows (or channels), or `contiguous` elements. Being `careful` is to give
        way to NaN; else the last of `best` become false where there is one.
        """
        e, k, tile = self.e, self.kernel, len(starts)
        step = 1 if contiguous or k.layout != "columns" else k.steps[-1][0]
        best = [*best]
        fars = [e.mul(tap.offset, self.block) for tap in taps]
        places = [self.spread(tap.number, lanes) for tap in taps] if k.index else []
        for t, start in enumerate(starts):
            xs = []
            for n, far in enumerate(fars):
                i = e.add(start, far)
                x = self.load(self.x, i, k.dtype, lanes, step)
                take = wins(e, k.dtype, x, best[t], ordered=not careful)
                if k.index:
                    place = places[n]
                    if self.lines is not None:
                        line = self.load(self.lines, i, int64 if k.wide else int32, lanes, step)
                        place = e.b.add(line, place)
                        equal = ties(e, k.dtype, x, best[t], ordered=not careful)
                        sooner = e.b.icmp_signed("<", place, best[tile + t])
                        take = e.b.or_(take, e.b.and_(equal, sooner))
                    best[tile + t] = e.b.select(take, place, best[tile + t])
                best[t] = e.b.select(take, x, best[t])
                xs.append(x)
            if careful or not k.dtype.is_floating:
                continue
            for n in range(0, len(xs), 2):  # one comparison finds NaN in both
                ordered = e.b.fcmp_ordered("ord", xs[n], xs[min(n + 1, len(xs) - 1)])
                best[t - tile] = e.b.and_(best[t - tile], self.flags(ordered))
        return best

    def load(self, base: Value, i: Value, dtype: DType, lanes: int, step: int) -> Value:
        """Elements i, i + step, .. after `base`."""
        e = self.e
        p = e.at(base, i, storage(dtype))
        if lanes == 1 or step == 1:
            return load_element(e, p, dtype, lanes)
        if step != 2:
            return load_strided(e, p, dtype, lanes, step)
        # elements 0, 2, .., 2 * lanes - 2 and not one more
        front = load_element(e, p, dtype, lanes)
        back = load_element(e, e.at(p, lanes - 1, storage(dtype)), dtype, lanes)
        even = [*range(0, lanes, 2), *range(lanes + 1, 2 * lanes, 2)]
        return e.b.shuffle_vector(front, back, ir.Constant(ir.VectorType(I32, lanes), even))

    def spread(self, i: Value, lanes: int) -> Value:
        """A position in all lanes, as it is carried."""
        return self.e.splat(i if self.kernel.wide else self.e.b.trunc(i, I32), lanes)

    def store_index(self, number: Value, origin: Value, to: Value, lanes: int) -> None:
        """Write the taps, or the positions at them from the origin of each lane's window."""
        e, k = self.e, self.kernel
        at = number if k.counted else e.b.add(number, self.spread(origin, lanes))
        if k.layout == "columns" and lanes > 1 and not k.counted:
            ramp = ir.Constant(at.type, [*range(lanes)])
            at = e.b.add(at, e.b.mul(ramp, self.spread(self.axes[-1].stride, lanes)))
        stored = vector(ir.IntType(k.index), lanes)
        if at.type != stored:
            at = (e.b.sext if k.index == 64 else e.b.trunc)(at, stored)
        e.store(at, e.at(e.pointer(2), to, ir.IntType(k.index)))
