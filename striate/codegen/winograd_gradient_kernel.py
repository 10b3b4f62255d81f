"""Weight gradients by Winograd's algorithms: F(r, m), whose outputs are the taps.

    V[s, c, t]  =  BT x BT',    Y[s, k, t]  =  G g G'            of every tile t of g, per slot s
    dw[k, c]    =  AT ( sum over t of  V[s, c, t] * Y[s, k, t] ) AT'

Tiles are cut into parts, by their number alone, each with sums of its own [c][tap][NR*V] per panel
of features: a piece of work is a panel in a part. A part goes block by block, so that V and Y of a
block stay in the caches while all pairs of channels pass over them: all panels over a chunk of V.

A second kernel adds the parts, in order, puts the taps of all classes into one order, and writes
dw. Where that is not finite it computes the sums again from the definition, in which padding meets
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from llvmlite import ir

from striate.codegen.emitter import F32, I64, Emitter, Index, Value, vector
from striate.codegen.phases import floor_div
from striate.codegen.separable import Line, nest, separable
from striate.codegen.weight_gradient_copy import Sums, store_dense, store_strided
from striate.codegen.winograd_algebra import winograd
from striate.codegen.winograd_tiles import (
    BOX_AXIS_WORDS,
    BOX_WORDS,
    SOURCE_AXIS_WORDS,
    SOURCE_WORDS,
    Shape,
    TileTransform,
    Tiling,
    slot_number,
)
from striate.codegen.words import Words
from striate.dtype import float32


def _source_words(rank: int) -> tuple[str, ...]:
    """The words of x and g."""
    return tuple(
        f"{operand}_{name}"
        for operand in ("x", "g")
        for name in (
            *SOURCE_WORDS,
            *(f"{name}{j}" for j in range(rank) for name in SOURCE_AXIS_WORDS),
        )
    )


@dataclass(frozen=True)
class WinogradGradient:
    """The sums of all parts, float32, in blocks of a vector's lanes of channels of a group.

    Attributes:
        outputs, taps: per axis, of a long tile and of the kernel.
        short: per axis, whether there are tiles of one output less.
        mr, nr: the register tile: channels of x, and vectors of features.
    """

    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    short: tuple[bool, ...]
    mr: int
    nr: int

    @property
    def name(self) -> str:
        """`winograd_gradient_f3x3_4x4_8x2`"""
        sizes = ["x".join(map(str, n)) for n in (self.taps, self.outputs)]
        return f"winograd_gradient_f{sizes[0]}_{sizes[1]}_{self.mr}x{self.nr}"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        rank = len(self.taps)
        base = (
            "x g sums scratch scratch_each g_area m_area patch parts panels own_panels "
            "channel_blocks classes chunk x_slot x_row g_slot g_row"
        )
        return (
            *base.split(),
            *BOX_WORDS,
            *(f"{name}{j}" for j in range(rank) for name in BOX_AXIS_WORDS),
            *_source_words(rank),
        )

    def emit(self, e: Emitter) -> None:
        """The whole kernel."""
        _Gradient(e, self).emit()


class _Gradient:
    """The emission of the sums: what its parts share."""

    def __init__(self, e: Emitter, kernel: WinogradGradient) -> None:
        self.e, self.k, self.n = e, kernel, Words(e, kernel.words)
        self.lanes = e.target.lanes(32)
        self.wide = vector(F32, self.lanes)
        sizes = zip(kernel.outputs, kernel.taps, kernel.short, strict=True)
        long = [winograd(r, m) for m, r, _ in sizes]
        short = [a.shorter() if s else None for a, s in zip(long, kernel.short, strict=True)]
        self.lines = [Line(a.results()) for a in long]
        self.slots = [a.products for a in long]
        each = e.mul(e.thread, self.n.number("scratch_each"))
        self.v = e.at(self.n.pointer("scratch"), each, F32)
        self.y = e.at(self.v, self.n.number("g_area"), F32)
        self.m = e.at(self.v, self.n.number("m_area"), F32)
        zero = e.at(self.v, self.n.number("patch"), F32)
        e.store(e.const(self.wide, 0), zero, e.target.vector_bytes)
        self.patch = e.at(zero, self.lanes, F32)
        self.tiling = Tiling(e, self.n, kernel.short)
        pairs = list(zip(long, short, strict=True))
        of_x = [Shape(a.inputs(), b.inputs() if b else None) for a, b in pairs]
        of_g = [Shape(a.weights(), b.weights() if b else None) for a, b in pairs]
        self.of_x = TileTransform(e, self.n, "x", of_x, self.v, zero, self.patch)
        self.of_g = TileTransform(e, self.n, "g", of_g, self.y, zero, self.patch)

    def emit(self) -> None:
        """Share (part, panel of features) among threads."""
        e, n = self.e, self.n
        panels, parts = n.number("panels"), n.number("parts")
        blocks = self.tiling.blocks()
        first, last = e.share(e.mul(parts, panels))

        def part(p: Value) -> None:
            begin = e.larger(0, e.b.sub(first, e.mul(p, panels)))
            end = e.smaller(panels, e.b.sub(last, e.mul(p, panels)))
            start = e.b.udiv(e.mul(p, blocks), parts)
            stop = e.b.udiv(e.mul(e.add(p, 1), blocks), parts)
            e.each(
                start, stop, lambda b: self.block(p, b, e.b.icmp_signed("==", b, start), begin, end)
            )

        whole = e.b.udiv(e.add(last, e.b.sub(panels, e.index(1))), panels)
        e.each(e.b.udiv(first, panels), whole, part)

    def block(self, p: Value, b: Value, fresh: Value, begin: Value, end: Value) -> None:
        """What the tiles of block b give to the panels begin <= k < end of part p."""
        e, n = self.e, self.n
        box = self.tiling.box(b)
        blocks, classes = n.number("channel_blocks"), n.number("classes")
        low, high = (e.mul(k, self.k.nr) for k in (begin, end))

        def features(k: Value) -> None:
            row = e.b.sub(k, low)
            self.tiling.each(box, lambda t: self.of_g.block(k, 0, t, row))

        e.each(low, high, features)
        runs = self.tiling.runs(box)
        rows = self.lanes // self.k.mr
        each = prod(self.k.taps) * self.k.nr  # vectors of a channel

        def pair(k: Value, i: Value, start: Value) -> None:
            channel = e.mul(e.add(e.mul(start, rows), i), self.k.mr)
            at = e.add(e.mul(p, n.number("panels")), k)
            at = e.add(e.mul(e.mul(at, blocks), self.lanes), channel)
            sums = e.at(n.pointer("sums"), e.mul(at, each), self.wide)
            self.pair(runs, e.b.sub(k, begin), e.mul(i, self.k.mr), sums, fresh)

        def group(g: Value) -> None:
            low = e.larger(begin, e.mul(g, own))
            high = e.smaller(end, e.mul(e.add(g, 1), own))

            def chunk(start: Value) -> None:
                stop = e.smaller(e.add(start, n.number("chunk")), blocks)

                def channels(c: Value) -> None:
                    at, row = e.add(e.mul(g, blocks), c), e.b.sub(c, start)
                    plane, of = e.b.udiv(at, classes), e.b.urem(at, classes)
                    self.tiling.each(box, lambda t: self.of_x.block(plane, of, t, row))

                e.each(start, stop, channels)
                count = e.mul(e.b.sub(stop, start), rows)
                e.each(low, high, lambda k: e.each(0, count, lambda i: pair(k, i, start)))

            e.each(0, blocks, chunk, n.number("chunk"))

        own = n.number("own_panels")
        e.each(e.b.udiv(begin, own), e.b.udiv(e.add(end, own, -1), own), group)

    def pair(
        self,
        runs: list[list[tuple[Value, Value]]],
        k: Value,
        channel: Value,
        sums: Value,
        fresh: Value,
    ) -> None:
        """MR channels of V from this one, and panel k of Y: what they give joins `sums`."""
        e, n = self.e, self.n
        mr, nr = self.k.mr, self.k.nr
        block = e.mul(e.b.udiv(channel, e.index(self.lanes)), n.number("x_row"))
        v = e.at(self.v, e.add(block, e.b.urem(channel, e.index(self.lanes))), F32)
        y = e.at(self.y, e.mul(e.mul(k, nr), n.number("g_row")), F32)
        pitch = mr * nr + 1  # odd: slots do not meet in one set of the cache

        def slot(where: list[Index], _: list[Value]) -> list[Value]:
            s = slot_number(e, self.slots, where)
            within = [self.tiling.with_slot(r, where, self.slots) for r in runs]
            acc = self.products(
                e.at(v, e.mul(s, n.number("x_slot")), F32),
                e.at(y, e.mul(s, n.number("g_slot")), F32),
                within,
            )
            to = e.at(self.m, e.mul(s, pitch), self.wide)
            for i, value in enumerate(acc):
                e.store(value, e.at(to, i, self.wide), e.target.vector_bytes)
            return []

        nest(e, [e.index(s) for s in self.slots], (), slot)
        steps = [prod(self.slots[j + 1 :]) * pitch for j in range(len(self.slots))]
        taps = prod(self.k.taps)

        def inverse(i: Value) -> None:
            row, j = e.b.udiv(i, e.index(nr)), e.b.urem(i, e.index(nr))
            to = e.at(sums, e.add(e.mul(row, taps * nr), j), self.wide)

            def put(where: list[Index], values: list[Value], _: list[Value]) -> list[Value]:
                for a, value in enumerate(values):
                    tap = slot_number(e, self.k.taps, [*where, a])
                    place = e.at(to, e.mul(tap, nr), self.wide)
                    old = e.load(place, self.wide, e.target.vector_bytes)
                    old = e.b.select(fresh, e.const(self.wide, 0), old)
                    e.store(e.b.fadd(old, value), place, e.target.vector_bytes)
                return []

            source = e.at(self.m, i, self.wide)
            separable(e, self.lines, source, steps, self.patch, self.wide, put)

        e.each(0, mr * nr, inverse)

    def products(self, v: Value, y: Value, within: list[tuple[Value, Value]]) -> list[Value]:
        """The micro-kernel: [MR * NR] sums over the tiles of one or two runs."""
        e, mr, nr = self.e, self.k.mr, self.k.nr
        row = self.n.number("g_row")

        def tile(t: Value, acc: list[Value]) -> list[Value]:
            at = e.mul(t, self.lanes)
            features = [
                e.load(e.at(y, e.add(at, e.mul(row, j)), F32), self.wide, e.target.vector_bytes)
                for j in range(nr)
            ]
            new = []
            for i in range(mr):
                one = e.splat(e.load(e.at(v, e.add(at, i), F32), F32), self.lanes)
                new += [e.muladd(one, features[j], acc[i * nr + j]) for j in range(nr)]
            return new

        def run(r: Value, acc: list[Value]) -> list[Value]:
            later = e.b.icmp_signed(">", r, e.index(0))
            first, end = (e.b.select(later, within[-1][i], within[0][i]) for i in range(2))
            return e.loop(first, end, 1, acc, tile)

        zero = [e.const(self.wide, 0)] * (mr * nr)
        if len(within) == 1:
            return e.loop(*within[0], 1, zero, tile)
        return e.loop(0, len(within), 1, zero, run)


@dataclass(frozen=True)
class WinogradGradientStore:
    """dw[G, K, C, *W] from the sums of all parts.

    Attributes:
        taps, class_taps: per axis, of the kernel and of a class.
        mr, nr: the register tile of the definition: channels and vectors of features.
        dense: dw[g, k] is contiguous over (c, tap) for each k.
    """

    taps: tuple[int, ...]
    class_taps: tuple[int, ...]
    mr: int
    nr: int
    dense: bool

    @property
    def name(self) -> str:
        """`winograd_gradient_store`"""
        return "winograd_gradient_store"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        base = (
            "x g dw sums scratch scratch_each where rows parts panels own_panels channel_blocks "
            "classes features images dw_group dw_feature dw_channel x_image x_plane g_image g_plane"
        )
        axis = "x_size x_step x_stride x_reach g_size g_step"
        per_axis = (f"{name}{j}" for j in range(len(self.taps)) for name in axis.split())
        return (*base.split(), *per_axis)

    def emit(self, e: Emitter) -> None:
        """Share (panel, block of channels) among threads."""
        n = Words(e, self.words)
        first, last = e.share(e.mul(n.number("panels"), n.number("channel_blocks")))
        e.each(first, last, lambda item: _Store(e, self, n, item).emit())


class _Store:
    """The emission of one piece of work: all taps of a block of channels and a panel."""

    def __init__(self, e: Emitter, kernel: WinogradGradientStore, n: Words, item: Value) -> None:
        self.e, self.k, self.n, self.item = e, kernel, n, item
        self.lanes = e.target.lanes(32)
        self.wide = vector(F32, self.lanes)
        blocks, own = n.number("channel_blocks"), n.number("own_panels")
        self.panel, self.block = e.b.udiv(item, blocks), e.b.urem(item, blocks)
        self.group, self.own = e.b.udiv(self.panel, own), e.b.urem(self.panel, own)
        self.area = e.at(n.pointer("scratch"), e.mul(e.thread, n.number("scratch_each")), F32)

    def emit(self) -> None:
        """Add the parts, look at the result, write it."""
        e, n, k = self.e, self.n, self.k
        bad = self.add_parts()
        lost = e.b.bitcast(e.b.fcmp_unordered("uno", bad, bad), ir.IntType(self.lanes))
        with e.when(e.b.icmp_unsigned("!=", lost, ir.Constant(lost.type, 0))):
            nest(e, [e.index(self.lanes // k.mr), *map(e.index, k.taps)], (), self.exact)
        feature = e.mul(self.own, k.nr * self.lanes)
        taps = e.index(prod(k.taps))
        sums = Sums(
            float32,
            self.area,
            k.nr,
            e.index(self.lanes),
            (e.index(0), taps),
            taps,
            feature,
            n.number("features"),
        )
        steps = n.number("dw_feature"), n.number("dw_channel")
        start = e.add(
            e.mul(self.group, n.number("dw_group")),
            e.mul(feature, steps[0]),
            e.mul(e.mul(self.block, self.lanes), steps[1]),
        )
        dw = e.at(n.pointer("dw"), start, F32)
        if k.dense:
            store_dense(e, sums, dw, steps[0])
        else:
            store_strided(e, sums, dw, steps, n.pointer("where"))

    def add_parts(self) -> Value:
        """The sums of all parts as [lane][tap][NR*V] in scratch memory; a vector that is NaN where
        one is not finite.
        """
        e, n, k = self.e, self.n, self.k
        classes, taps = n.number("classes"), prod(k.class_taps)
        size = self.lanes * taps * k.nr  # vectors of a class
        part = e.mul(n.number("panels"), e.mul(n.number("channel_blocks"), e.mul(classes, size)))
        source = e.at(n.pointer("sums"), e.mul(self.item, e.mul(classes, size)), self.wide)
        align = e.target.vector_bytes

        def row(where: list[Index], bad: list[Value]) -> list[Value]:
            of, lane, tap = where
            to = e.load(e.at(n.pointer("rows"), e.add(e.mul(of, taps), tap), I64), I64)
            here = e.mul(e.add(e.mul(of, self.lanes * taps), e.mul(lane, taps), tap), k.nr)
            there = e.mul(e.add(e.mul(lane, prod(k.taps)), to), k.nr)

            def vectors() -> list[Value]:
                def one(j: Value, bad: list[Value]) -> list[Value]:
                    def add(p: Value, total: list[Value]) -> list[Value]:
                        at = e.at(source, e.add(e.mul(p, part), here, j), self.wide)
                        return [e.b.fadd(total[0], e.load(at, self.wide, align))]

                    first = e.load(e.at(source, e.add(here, j), self.wide), self.wide, align)
                    (total,) = e.loop(1, n.number("parts"), 1, [first], add)
                    e.store(total, e.at(self.area, e.add(there, j), self.wide), align)
                    return [e.muladd(total, e.const(self.wide, 0), bad[0])]

                return e.loop(0, k.nr, 1, bad, one)

            return e.choose(e.b.icmp_signed(">=", to, e.index(0)), vectors, lambda: bad)

        counts = [classes, e.index(self.lanes), e.index(taps)]
        return nest(e, counts, [e.const(self.wide, 0)], row)[0]

    def exact(self, where: list[Index], _: list[Value]) -> list[Value]:
        """MR channels at one tap, by the definition."""
        e, n, k = self.e, self.n, self.k
        quarter, *tap = where
        channel = e.mul(quarter, k.mr)
        ranges, reach = [], []
        for j, t in enumerate(tap):
            stride = n.number(f"x_stride{j}")
            at = e.load(e.at(n.pointer(f"x_reach{j}"), t, I64), I64)  # of output 0
            low = e.larger(0, e.b.neg(floor_div(e, at, stride)))
            last = floor_div(e, e.add(n.number(f"x_size{j}"), e.b.neg(at), -1), stride)
            high = e.smaller(n.number(f"g_size{j}"), e.add(last, 1))
            ranges.append((low, e.larger(high, low)))
            reach.append(at)
        blocks = [e.mul(e.mul(self.panel, k.nr), n.number("g_plane")), n.number("g_plane")]
        block = e.add(e.mul(self.group, n.number("channel_blocks")), self.block)
        x0 = e.add(e.mul(block, n.number("x_plane")), channel)

        def pixel(at: list[Index], acc: list[Value]) -> list[Value]:
            image, *outs = at
            x = e.add(x0, e.mul(image, n.number("x_image")))
            g = e.add(blocks[0], e.mul(image, n.number("g_image")))
            for j, i in enumerate(outs):
                o = e.add(ranges[j][0], i)
                steps = [e.mul(n.number(f"{name}_step{j}"), self.lanes) for name in ("x", "g")]
                place = e.add(e.mul(o, n.number(f"x_stride{j}")), reach[j])
                x = e.add(x, e.mul(place, steps[0]))
                g = e.add(g, e.mul(o, steps[1]))
            features = [
                e.load(
                    e.at(n.pointer("g"), e.add(g, e.mul(blocks[1], j)), F32),
                    self.wide,
                    e.target.vector_bytes,
                )
                for j in range(k.nr)
            ]
            new = []
            for i in range(k.mr):
                one = e.load(e.at(n.pointer("x"), e.add(x, i), F32), F32)
                wide = e.splat(one, self.lanes)
                new += [e.muladd(wide, f, acc[i * k.nr + j]) for j, f in enumerate(features)]
            return new

        counts = [n.number("images"), *(e.b.sub(high, low) for low, high in ranges)]
        zero = [e.const(self.wide, 0)] * (k.mr * k.nr)
        sums = nest(e, counts, zero, pixel)
        number = slot_number(e, k.taps, tap)
        for i in range(k.mr):
            row = e.add(e.mul(e.add(channel, i), prod(k.taps)), number)
            for j in range(k.nr):
                place = e.at(self.area, e.add(e.mul(row, k.nr), j), self.wide)
                e.store(sums[i * k.nr + j], place, e.target.vector_bytes)
        return []
