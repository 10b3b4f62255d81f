"""Convolution by Winograd's algorithms, fused: a block of tiles goes from x to y at once.

    V[s, c, t]  =  BT x BT'           of every tile t of the block, per slot s (a point per axis)
    M[s, t, k]  =  sum over c of  V[s, c, t] * U[s, c, k]
    y[t, k]     =  AT M AT'           through the epilogue

V and M lie in scratch memory of the thread. U, the transformed weights, comes from a step of its
own, and products fetch the next part of it while they read one; or, where it is large, it is made
for one panel of features and some channels at a time, in L2: the same numbers, which then never go
to memory. An axis is cut into tiles that differ by at most one output, so no tile is ragged.

Each product is a sum over channels in order, whatever the block, so an image is the same in any
batch. Where a result is not finite, the tile is computed again from the definition: padding meets
no infinite weight, and a NaN reaches those outputs only that see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from llvmlite import ir

from striate.codegen.emitter import F32, I64, Emitter, Index, Value, storage, vector
from striate.codegen.epilogue import Epilogue, Operands, store_lanes
from striate.codegen.separable import Line, nest, separable
from striate.codegen.winograd_algebra import Algorithm, winograd
from striate.codegen.winograd_few import FewTiles, few_products
from striate.codegen.winograd_tiles import (
    BOX_AXIS_WORDS,
    BOX_WORDS,
    SOURCE_AXIS_WORDS,
    SOURCE_WORDS,
    Shape,
    Tile,
    TileTransform,
    Tiling,
    slot_number,
)
from striate.codegen.winograd_weights import transform_block
from striate.codegen.words import Words
from striate.dtype import DType, float32

Ranges = list[tuple[Value, Value]]

_BASE = (
    "x y u w scratch scratch_each m_area u_area patch features channel_blocks classes chunk panels "
    "panel_group panel_groups own_panels y_image y_plane x_slot x_row m_slot m_row"
)


@dataclass(frozen=True)
class WinogradKernel:
    """A convolution in float32, in blocks of a vector's lanes of channels of a group.

    Attributes:
        outputs, taps: per axis, of the algorithm and of the kernel.
        short: per axis, whether there are tiles of one output less.
        mr, nr: the register tile: tiles, and vectors of features.
        ragged: the last panel has fewer features.
        fused: the weights are transformed here, and `u` is not read.
        chunked: some channels are summed after others, so that their weights stay in L1.
        ahead: lines of the next weights that a register tile fetches per block of channels.
        few: where it is given, so few tiles are a block, and the weights are transformed in
            registers: NR is 1.
        epilogue: what is stored of a sum.
    """

    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    short: tuple[bool, ...]
    mr: int
    nr: int
    ragged: bool
    fused: bool
    chunked: bool
    ahead: int
    few: FewTiles | None = None
    epilogue: Epilogue | None = None

    @property
    def name(self) -> str:
        """`winograd_f4x4_3x3_14x2`"""
        sizes = ["x".join(map(str, n)) for n in (self.outputs, self.taps)]
        return f"winograd_f{sizes[0]}_{sizes[1]}_{self.mr}x{self.nr}"

    @property
    def algorithms(self) -> list[Algorithm]:
        """One per axis."""
        return [winograd(m, r) for m, r in zip(self.outputs, self.taps, strict=True)]

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        operands = self.epilogue.kinds if self.epilogue else ()
        per_axis = (
            *BOX_AXIS_WORDS,
            *(f"x_{name}" for name in SOURCE_AXIS_WORDS),
            "class_taps",
            "y_step",
            "y_gap",
        )
        return (
            *_BASE.split(),
            *BOX_WORDS,
            *(f"x_{name}" for name in SOURCE_WORDS),
            *(f"{name}{j}" for j in range(len(self.taps)) for name in per_axis),
            *(f"operand{i}" for i in range(len(operands))),
        )

    def emit(self, e: Emitter) -> None:
        """The whole kernel."""
        Winograd(e, self).emit()


class Winograd:
    """The emission of one kernel: what its parts share."""

    def __init__(self, e: Emitter, kernel: WinogradKernel) -> None:
        self.e, self.k, self.n = e, kernel, Words(e, kernel.words)
        self.lanes = e.target.lanes(32)
        self.wide = vector(F32, self.lanes)
        self.algorithms = kernel.algorithms
        self.slots = [a.products for a in self.algorithms]
        self.width = kernel.nr * self.lanes
        self.y_dtype: DType = kernel.epilogue.result if kernel.epilogue else float32
        self.operands: Operands | None = None
        if kernel.epilogue:
            pointers = [self.n.pointer(f"operand{i}") for i in range(len(kernel.epilogue.kinds))]
            self.operands = Operands(e, kernel.epilogue, pointers)
        each = e.mul(e.thread, self.n.number("scratch_each"))
        self.v = e.at(self.n.pointer("scratch"), each, F32)
        self.m = e.at(self.v, self.n.number("m_area"), F32)
        zero = e.at(self.v, self.n.number("patch"), F32)
        e.store(e.const(self.wide, 0), zero, e.target.vector_bytes)
        self.patch = e.at(zero, self.lanes, F32)
        self.tiling = Tiling(e, self.n, kernel.short)
        shapes = [
            Shape(a.inputs(), a.inputs(True) if s else None)
            for a, s in zip(self.algorithms, kernel.short, strict=True)
        ]
        self.x = TileTransform(e, self.n, "x", shapes, self.v, zero, self.patch)

    def emit(self) -> None:
        """Share (block, group of panels) among threads; transform the tiles of a block once."""
        e, n, k = self.e, self.n, self.k
        groups = n.number("panel_groups")
        first, last = e.share(e.mul(self.tiling.blocks(), groups))

        def block(b: Value) -> None:
            box = self.tiling.box(b)
            begin = e.larger(0, e.b.sub(first, e.mul(b, groups)))
            end = e.smaller(groups, e.b.sub(last, e.mul(b, groups)))
            classes = n.number("classes")

            def channels(c: Value) -> None:
                plane, of = e.b.udiv(c, classes), e.b.urem(c, classes)
                self.tiling.each(box, lambda tile: self.x.block(plane, of, tile, c))

            first_panel = e.mul(begin, n.number("panel_group"))
            last_panel = e.smaller(e.mul(end, n.number("panel_group")), n.number("panels"))
            after = self.channel(e.add(last_panel, n.number("own_panels"), -1))
            e.each(self.channel(first_panel), after, channels)

            def group(g: Value) -> None:
                start = e.mul(g, n.number("panel_group"))
                stop = e.smaller(e.add(start, n.number("panel_group")), n.number("panels"))
                ranges = self.tiling.ranges(box)
                if k.few:
                    e.each(start, stop, lambda p: self.few(p, e.b.sub(p, start)))
                elif k.fused:
                    e.each(start, stop, lambda p: self.chunks(ranges, p, start))
                else:
                    self.products(ranges, start, stop)

                def panel(p: Value) -> None:
                    row = e.b.sub(p, start)
                    self.tiling.each(box, lambda tile: self.results(tile, p, row))

                e.each(start, stop, panel)

            e.each(begin, end, group)

        stop = e.b.udiv(e.add(last, e.b.sub(groups, e.index(1))), groups)
        e.each(e.b.udiv(first, groups), stop, block)

    def channel(self, p: Value) -> Value:
        """The first block of channels that panel p sums: those of its group."""
        e, n = self.e, self.n
        return e.mul(e.b.udiv(p, n.number("own_panels")), n.number("channel_blocks"))

    def load(self, p: Value) -> Value:
        """A vector at an address that is a multiple of its size."""
        return self.e.load(p, self.wide, self.e.target.vector_bytes)

    # ---- V to M ------------------------------------------------------------------------

    def products(self, ranges: Ranges, start: Value, stop: Value) -> None:
        """All slots of the panels start <= p < stop."""
        e, n = self.e, self.n
        blocks, chunk = n.number("channel_blocks"), n.number("chunk")
        each = self.lanes * self.k.nr

        def slot(where: list[Index], _: list[Value]) -> list[Value]:
            s = slot_number(e, self.slots, where)
            within = self.tiling.with_slot(ranges, where, self.slots)

            def panel(p: Value) -> None:
                at = e.add(e.mul(p, prod(self.slots)), s)
                size = e.add(e.mul(blocks, each), 1)
                u = e.at(n.pointer("u"), e.mul(at, size), self.wide)

                def some(first: Value) -> None:
                    last = e.smaller(e.add(first, chunk), blocks)
                    weights = e.at(u, e.mul(first, each), self.wide)
                    self.tiles(within, s, p, e.b.sub(p, start), weights, first, last)

                e.each(0, blocks, some, chunk)

            e.each(start, stop, panel)
            return []

        nest(e, [e.index(s) for s in self.slots], (), slot)

    def chunks(self, ranges: Ranges, p: Value, start: Value) -> None:
        """All slots of panel p, some channels after others, whose U is made first."""
        e, n, k = self.e, self.n, self.k
        blocks, chunk = n.number("channel_blocks"), n.number("chunk")
        each, taps = self.lanes * k.nr, prod(k.taps)
        area = e.at(self.v, n.number("u_area"), F32)
        slot_size = e.add(e.mul(chunk, each), 1)  # odd: slots do not meet in one set of a cache

        def some(first: Value) -> None:
            last = e.smaller(e.add(first, chunk), blocks)

            def block(c: Value) -> None:
                at = e.mul(e.add(e.mul(p, blocks), c), taps * each)
                source = e.at(n.pointer("w"), at, self.wide)
                to = e.at(area, e.mul(e.b.sub(c, first), each), self.wide)
                transform_block(e, self.algorithms, each, source, to, slot_size, self.patch)

            e.each(first, last, block)

            def slot(where: list[Index], _: list[Value]) -> list[Value]:
                s = slot_number(e, self.slots, where)
                within = self.tiling.with_slot(ranges, where, self.slots)
                u = e.at(area, e.mul(s, slot_size), self.wide)
                self.tiles(within, s, p, e.b.sub(p, start), u, first, last)
                return []

            nest(e, [e.index(s) for s in self.slots], (), slot)

        e.each(0, blocks, some, chunk)

    def few(self, p: Value, row: Value) -> None:
        """All slots of panel p and of few tiles."""
        e, n, few = self.e, self.n, self.k.few
        assert few
        panel = e.mul(e.mul(p, n.number("channel_blocks")), prod(self.k.taps) * self.lanes)
        w = e.at(n.pointer("w"), panel, self.wide)
        m = e.at(self.m, e.mul(row, n.number("m_row")), F32)
        few_products(e, n, self.algorithms, few, self.v, w, m)

    def tiles(
        self,
        within: tuple[Value, Value],
        s: Value,
        p: Value,
        row: Value,
        u: Value,
        first: Value,
        last: Value,
    ) -> None:
        """M of slot s and panel p for these tiles and blocks of channels of its group; the first
        blocks begin the sums. `row` is where M is.
        """
        e, n, k = self.e, self.n, self.k
        block = e.add(self.channel(p), first)
        at = e.add(e.mul(s, n.number("x_slot")), e.mul(block, n.number("x_row")))
        v = e.at(self.v, at, F32)
        to = e.at(self.m, e.add(e.mul(s, n.number("m_slot")), e.mul(row, n.number("m_row"))), F32)
        begins = e.b.icmp_signed("==", first, e.index(0))
        zero = e.const(self.wide, 0)

        def tile(t: Value) -> None:  # the last may reach beyond, where nobody reads
            target = e.at(to, e.mul(t, self.width), F32)
            places = [e.at(target, i, self.wide) for i in range(k.mr * k.nr)]
            sums = [zero] * len(places)
            if k.chunked:
                sums = e.choose(begins, lambda: sums, lambda: [self.load(p) for p in places])
            lines = e.mul(e.b.udiv(e.b.sub(t, within[0]), e.index(k.mr)), k.ahead)
            ahead = e.add(e.mul(n.number("chunk"), self.lanes * k.nr), lines)
            source = e.at(v, e.mul(t, self.lanes), F32)
            sums = self.sums(source, u, e.mul(ahead, self.lanes), sums, e.b.sub(last, first))
            for value, place in zip(sums, places, strict=True):
                e.store(value, place, e.target.vector_bytes)

        e.each(*within, tile, k.mr)

    def sums(
        self, v: Value, u: Value, ahead: Value, sums: list[Value], blocks: Value
    ) -> list[Value]:
        """The micro-kernel: [MR * NR] sums, and what these blocks of channels add. With each block
        it fetches lines of the next product's weights, from `ahead` elements behind these.
        """
        e, k, n = self.e, self.k, self.n
        row = n.number("x_row")

        def block(_: Value, carried: list[Value]) -> list[Value]:
            v, u, *acc = carried
            for c in range(self.lanes):
                for i in range(k.ahead * c // self.lanes, k.ahead * (c + 1) // self.lanes):
                    e.prefetch(e.at(u, e.add(ahead, i * self.lanes), F32), 2)
                weights = [
                    self.load(e.at(u, c * self.width + j * self.lanes, F32)) for j in range(k.nr)
                ]
                for m in range(k.mr):
                    value = e.load(e.at(v, m * self.lanes + c, F32), F32)
                    lanes = e.splat(value, self.lanes)
                    for j in range(k.nr):
                        acc[m * k.nr + j] = e.muladd(lanes, weights[j], acc[m * k.nr + j])
            return [e.at(v, row, F32), e.at(u, self.lanes * self.width, F32), *acc]

        return e.loop(0, blocks, 1, [v, u, *sums], block)[2:]

    # ---- M to y ------------------------------------------------------------------------

    def results(self, tile: Tile, p: Value, row: Value) -> None:
        """The features of panel p of one tile."""
        e, n = self.e, self.n
        m = e.add(e.mul(row, n.number("m_row")), e.mul(tile.number, self.width))

        def vectors(j: Value) -> None:
            feature = e.add(e.mul(p, self.width), e.mul(j, self.lanes))
            source = e.at(self.m, e.add(m, e.mul(j, self.lanes)), F32)
            if not self.k.ragged:
                self.outputs(tile, p, j, feature, source)
                return
            with e.when(e.b.icmp_signed("<", feature, n.number("features"))):
                self.outputs(tile, p, j, feature, source)

        e.each(0, self.k.nr, vectors)

    def outputs(self, tile: Tile, p: Value, j: Value, feature: Value, source: Value) -> None:
        """One vector of features of one tile."""
        e, n = self.e, self.n
        plane = e.mul(e.b.udiv(feature, e.index(self.lanes)), n.number("y_plane"))
        first = e.add(
            e.mul(tile.image, n.number("y_image")),
            plane,
            *(e.mul(o, n.number(f"y_step{i}")) for i, o in enumerate(tile.starts)),
        )
        fixed = self.operands.at_channel(feature, self.lanes, None) if self.operands else []
        vectors = e.b.udiv(n.number("m_slot"), e.index(self.lanes))
        steps = [e.mul(vectors, prod(self.slots[i + 1 :])) for i in range(len(self.slots))]

        def put(where: list[Index], values: list[Value], carried: list[Value]) -> list[Value]:
            (bad,) = carried
            for i, value in enumerate(values):
                bad = e.muladd(value, e.const(self.wide, 0), bad)
                self.write(value, self.place(first, [*where, i]), fixed)
            return [bad]

        lines = [
            Line(a.results(), a.results(True) if s else None, flag)
            for a, s, flag in zip(self.algorithms, self.k.short, tile.short, strict=True)
        ]
        zero = e.const(self.wide, 0)
        (bad,) = separable(e, lines, source, steps, self.patch, self.wide, put, [zero])
        lost = e.b.bitcast(e.b.fcmp_unordered("uno", bad, bad), ir.IntType(self.lanes))
        with e.when(e.b.icmp_unsigned("!=", lost, ir.Constant(lost.type, 0))):
            self.exact(tile, p, j, first, fixed)

    def place(self, first: Value, where: Sequence[Index]) -> Value:
        """The element of y of an output of a tile."""
        e = self.e
        return e.add(first, *(e.mul(i, self.n.number(f"y_gap{j}")) for j, i in enumerate(where)))

    def write(self, value: Value, offset: Value, fixed: list[Value | None]) -> None:
        """Store one vector from element `offset` of y."""
        e = self.e
        if self.operands:
            value = self.operands.apply(value, fixed, offset, None)
        place = e.at(self.n.pointer("y"), offset, storage(self.y_dtype))
        store_lanes(e, value, place, self.y_dtype)

    def exact(
        self, tile: Tile, p: Value, j: Value, first: Value, fixed: list[Value | None]
    ) -> None:
        """The outputs of a tile by the definition."""
        e, n, k = self.e, self.n, self.k
        counts = [
            e.b.select(s, e.index(m - 1), e.index(m))
            for m, s in zip(k.outputs, tile.short, strict=True)
        ]
        taps = prod(k.taps)
        panel = e.mul(e.mul(p, n.number("channel_blocks")), taps * self.lanes * self.width)
        w = e.at(n.pointer("w"), e.add(panel, e.mul(j, self.lanes)), F32)
        image = e.mul(tile.image, n.number("x_image"))

        classes, blocks = n.number("classes"), n.number("channel_blocks")
        axes = range(len(k.taps))

        def output(where: list[Index], _: list[Value]) -> list[Value]:
            ins = [
                e.add(
                    e.mul(tile.starts[i], n.number(f"x_stride{i}")),
                    e.mul(place, n.number(f"x_gap{i}")),
                )
                for i, place in enumerate(where)
            ]

            def tap(at: list[Index], carried: list[Value]) -> list[Value]:
                c, *tap = at
                of = e.b.urem(c, classes)
                plane = e.b.udiv(e.add(self.channel(p), c), classes)
                seen = e.b.icmp_unsigned("==", e.index(0), e.index(0))
                offset = e.add(image, e.mul(plane, n.number("x_plane")))
                for i in axes:
                    has = e.load(e.at(n.pointer(f"class_taps{i}"), of, I64), I64)
                    shift = e.add(self.x.shift(i, of), e.mul(tap[i], n.number(f"x_gap{i}")))
                    place = e.add(ins[i], shift)
                    seen = e.b.and_(seen, e.b.icmp_unsigned("<", tap[i], has))
                    seen = e.b.and_(seen, e.b.icmp_unsigned("<", place, n.number(f"x_size{i}")))
                    step = e.mul(n.number(f"x_step{i}"), self.lanes)
                    offset = e.add(offset, e.mul(place, step))
                block = e.add(e.mul(c, taps), slot_number(e, k.taps, tap))

                def add() -> list[Value]:
                    (acc,) = carried
                    rows = e.at(w, e.mul(block, self.lanes * self.width), F32)
                    for i in range(self.lanes):
                        one = e.load(e.at(n.pointer("x"), e.add(offset, i), F32), F32)
                        row = self.load(e.at(rows, i * self.width, F32))
                        acc = e.muladd(e.splat(one, self.lanes), row, acc)
                    return [acc]

                return e.choose(seen, add, lambda: carried)

            outer = [blocks, *map(e.index, k.taps)]
            (acc,) = nest(e, outer, [e.const(self.wide, 0)], tap)
            self.write(acc, self.place(first, where), fixed)
            return []

        nest(e, counts, (), output)
