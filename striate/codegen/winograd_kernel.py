"""Convolution by Winograd's algorithms, fused: a block of tiles goes from x to y at once.

    V[s, c, t]  =  BT x BT'           of every tile t of the block, per slot s (a point per axis)
    M[s, t, k]  =  sum over c of  V[s, c, t] * U[s, c, k]
    y[t, k]     =  AT M AT'           through the epilogue

V and M lie in scratch memory of the thread. U, the transformed weights, comes from a step of its
own. An axis is cut into tiles that differ by at most one output, so no tile is ragged; the shorter
ones lack the last slot, and tiles are ordered so that those of a slot stand together.

Each product is a sum over channels in order, whatever the block, so an image is the same in any
batch. Where a result is not finite, the tile is computed again from the definition: padding meets
no infinite weight, and a NaN reaches those outputs only that see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from llvmlite import ir

from striate.codegen.emitter import F32, Emitter, Index, Value, storage, vector
from striate.codegen.epilogue import Epilogue, Operands, store_lanes
from striate.codegen.separable import Line, nest, separable
from striate.codegen.winograd_algebra import Algorithm, winograd
from striate.codegen.words import Words
from striate.dtype import DType, float32

_BASE = (
    "x y u w scratch scratch_each m_area line_area patch features channel_blocks panels "
    "panel_group panel_groups images image_blocks x_image y_image x_plane y_plane v_slot v_row "
    "m_slot m_row"
)
_AXIS = "long tiles blocks in x_step y_step shift"


@dataclass(frozen=True)
class WinogradKernel:
    """A dense convolution of stride 1, float32, in blocks of a vector's lanes of channels.

    Attributes:
        outputs, taps: per axis, of the algorithm and of the kernel.
        short: per axis, whether there are tiles of one output less.
        mr, nr: the register tile: tiles, and vectors of features.
        ragged: the last panel has fewer features.
        epilogue: what is stored of a sum.
    """

    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    short: tuple[bool, ...]
    mr: int
    nr: int
    ragged: bool
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
        return (
            *_BASE.split(),
            *(f"{name}{j}" for j in range(len(self.taps)) for name in _AXIS.split()),
            *(f"operand{i}" for i in range(len(operands))),
        )

    def emit(self, e: Emitter) -> None:
        """The whole kernel."""
        Winograd(e, self).emit()


@dataclass(frozen=True, slots=True)
class Box:
    """The tiles of a block.

    Attributes:
        image, images: the first and how many.
        firsts, long, short: per axis, the first tile, how many are long, how many short.
    """

    image: Value
    images: Value
    firsts: list[Value]
    long: list[Value]
    short: list[Value]


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: its number in the block, its image; per axis the first output, and whether it is
    short.
    """

    number: Value
    image: Value
    starts: list[Value]
    short: list[Value]


class Winograd:
    """The emission of one kernel: what its parts share."""

    def __init__(self, e: Emitter, kernel: WinogradKernel) -> None:
        self.e, self.k, self.n = e, kernel, Words(e, kernel.words)
        self.lanes = e.target.lanes(32)
        self.wide = vector(F32, self.lanes)
        self.rank = len(kernel.taps)
        self.sizes = [a.products for a in kernel.algorithms]
        self.slots = prod(self.sizes)
        self.width = kernel.nr * self.lanes
        self.shorts = [j for j in range(self.rank) if kernel.short[j]]
        self.y_dtype: DType = kernel.epilogue.result if kernel.epilogue else float32
        self.operands: Operands | None = None
        if kernel.epilogue:
            pointers = [self.n.pointer(f"operand{i}") for i in range(len(kernel.epilogue.kinds))]
            self.operands = Operands(e, kernel.epilogue, pointers)
        self.v = e.at(
            self.n.pointer("scratch"), e.mul(e.thread, self.n.number("scratch_each")), F32
        )
        self.m = e.at(self.v, self.n.number("m_area"), F32)
        self.line_area = e.at(self.v, self.n.number("line_area"), F32)

    # ---- blocks and tiles --------------------------------------------------------------

    def emit(self) -> None:
        """Share (block, group of panels) among threads; transform the tiles of a block once."""
        e, n = self.e, self.n
        groups = n.number("panel_groups")
        blocks = n.number("image_blocks")
        for j in range(self.rank):
            blocks = e.mul(blocks, n.number(f"blocks{j}"))
        first, last = e.share(e.mul(blocks, groups))

        def block(b: Value) -> None:
            box = self.box(b)
            begin = e.larger(0, e.b.sub(first, e.mul(b, groups)))
            end = e.smaller(groups, e.b.sub(last, e.mul(b, groups)))
            e.each(
                0,
                n.number("channel_blocks"),
                lambda c: self.each_tile(box, lambda tile: self.transform(c, tile)),
            )

            def group(g: Value) -> None:
                start = e.mul(g, n.number("panel_group"))
                stop = e.smaller(e.add(start, n.number("panel_group")), n.number("panels"))
                self.products(box, start, stop)
                e.each(
                    start,
                    stop,
                    lambda p: self.each_tile(
                        box, lambda tile: self.results(tile, p, e.b.sub(p, start))
                    ),
                )

            e.each(begin, end, group)

        e.each(
            e.b.udiv(first, groups),
            e.b.udiv(e.add(last, e.b.sub(groups, e.index(1))), groups),
            block,
        )

    def box(self, b: Value) -> Box:
        """The tiles of block b."""
        e, n = self.e, self.n

        def part(size: Value, parts: Value) -> tuple[Value, Value]:
            nonlocal b
            i, b = e.b.urem(b, parts), e.b.udiv(b, parts)
            start = e.b.udiv(e.mul(i, size), parts)
            return start, e.b.udiv(e.mul(e.add(i, 1), size), parts)

        firsts, long, short = [], [], []
        for j in reversed(range(self.rank)):
            start, stop = part(n.number(f"tiles{j}"), n.number(f"blocks{j}"))
            middle = stop
            if self.k.short[j]:
                middle = e.larger(e.smaller(n.number(f"long{j}"), stop), start)
            firsts.append(start)
            long.append(e.b.sub(middle, start))
            short.append(e.b.sub(stop, middle))
        image, end = part(n.number("images"), n.number("image_blocks"))
        return Box(image, e.b.sub(end, image), firsts[::-1], long[::-1], short[::-1])

    def classes(self) -> list[dict[int, int]]:
        """{axis: 1 if short} of each class of tiles, in order: a Gray code, in which the tiles that
        are long along an axis stand together (if at most two axes have short tiles).
        """
        count = 1 << len(self.shorts)
        codes = [(i ^ (i >> 1)) for i in ((k - 1) % count for k in range(count))]
        return [{j: code >> bit & 1 for bit, j in enumerate(self.shorts)} for code in codes]

    def each_tile(self, box: Box, body: Callable[[Tile], object]) -> None:
        """Visit the tiles of a block in order."""
        e, n = self.e, self.n
        count = 1 << len(self.shorts)

        def one_class(k: Value, carried: list[Value]) -> list[Value]:
            i = e.b.urem(e.add(k, count - 1), e.index(count))
            code = e.b.xor(i, e.b.lshr(i, e.index(1)))
            flags, starts, counts = [], [], []
            for j in range(self.rank):
                flag, first, size = e.index(0), box.firsts[j], box.long[j]
                if j in self.shorts:
                    bit = e.b.lshr(code, e.index(self.shorts.index(j)))
                    flag = e.b.and_(bit, e.index(1))
                    is_short = e.b.icmp_unsigned("!=", flag, e.index(0))
                    first = e.b.select(is_short, e.add(first, size), first)
                    size = e.b.select(is_short, box.short[j], size)
                flags.append(e.b.icmp_unsigned("!=", flag, e.index(0)))
                starts.append(first)
                counts.append(size)

            def tile(where: list[Index], carried: list[Value]) -> list[Value]:
                image, *places = where
                outs = []
                for j, place in enumerate(places):
                    i = e.add(starts[j], place)
                    o = e.mul(i, self.k.outputs[j])
                    if self.k.short[j]:
                        o = e.b.sub(o, e.larger(0, e.b.sub(i, n.number(f"long{j}"))))
                    outs.append(o)
                body(Tile(carried[0], e.add(box.image, image), outs, flags))
                return [e.add(carried[0], 1)]

            return nest(e, [box.images, *counts], carried, tile)

        e.loop(0, count, 1, [e.index(0)], one_class)

    def ranges(self, box: Box) -> list[tuple[Value, Value]]:
        """(first, last + 1) tile for each set of short axes whose last slot is wanted, the sets as
        bits.
        """
        e, classes = self.e, self.classes()
        ends = [e.index(0)]
        for one in classes:
            size = box.images
            for j in range(self.rank):
                size = e.mul(size, box.short[j] if one.get(j) else box.long[j])
            ends.append(e.add(ends[-1], size))
        found = []
        for bits in range(1 << len(self.shorts)):
            asked = [j for bit, j in enumerate(self.shorts) if bits >> bit & 1]
            have = [i for i, one in enumerate(classes) if not any(one[j] for j in asked)]
            found.append((ends[have[0]], ends[have[-1] + 1]))
        return found

    # ---- x to V ------------------------------------------------------------------------

    def extents(self, tile: Tile) -> list[Value]:
        """Inputs of a tile along each axis, which are also its slots."""
        e = self.e
        return [
            e.b.select(tile.short[j], e.index(size - 1), e.index(size))
            for j, size in enumerate(self.sizes)
        ]

    def transform(self, c: Value, tile: Tile) -> None:
        """Block c of channels of one tile."""
        e, n = self.e, self.n
        extents = self.extents(tile)
        starts = [e.add(o, n.number(f"shift{j}")) for j, o in enumerate(tile.starts)]
        inside = e.b.icmp_unsigned("==", e.index(0), e.index(0))
        offset = e.add(e.mul(tile.image, n.number("x_image")), e.mul(c, n.number("x_plane")))
        steps = [n.number(f"x_step{j}") for j in range(self.rank)]
        for j, start in enumerate(starts):
            room = e.b.sub(n.number(f"in{j}"), extents[j])
            fits = e.b.and_(
                e.b.icmp_signed(">=", start, e.index(0)), e.b.icmp_signed("<=", start, room)
            )
            inside = e.b.and_(inside, fits)
            offset = e.add(offset, e.mul(e.mul(start, steps[j]), self.lanes))
        x = e.at(n.pointer("x"), offset, F32)
        patch = e.at(self.v, n.number("patch"), F32)
        pitches = [e.index(prod(self.sizes[j + 1 :])) for j in range(self.rank)]

        def copied() -> list[Value]:
            def one(where: list[Index], _: list[Value]) -> list[Value]:
                seen = e.b.icmp_unsigned("==", e.index(0), e.index(0))
                for j, i in enumerate(where):
                    at = e.add(starts[j], i)
                    seen = e.b.and_(seen, e.b.icmp_unsigned("<", at, n.number(f"in{j}")))
                place = e.add(0, *(e.mul(i, s) for i, s in zip(where, steps, strict=True)))
                value = e.choose(
                    seen,
                    lambda: [self.load(e.at(x, place, self.wide))],
                    lambda: [e.const(self.wide, 0)],
                )[0]
                to = e.add(0, *(e.mul(i, p) for i, p in zip(where, pitches, strict=True)))
                self.store(value, e.at(patch, to, self.wide))
                return []

            nest(e, extents, (), one)
            return [patch, *pitches]

        source, *found = e.choose(inside, lambda: [x, *steps], copied)
        target = e.at(
            self.v, e.add(e.mul(c, n.number("v_row")), e.mul(tile.number, self.lanes)), F32
        )
        lines = self.lines(tile, lambda a, short: a.inputs(short))

        def put(where: list[Index], values: list[Value], _: list[Value]) -> list[Value]:
            for i, value in enumerate(values):
                slot = e.mul(self.slot([*where, i]), n.number("v_slot"))
                self.store(value, e.at(target, slot, F32))
            return []

        separable(e, lines, source, found, self.line_area, self.wide, put)

    def lines(self, tile: Tile, matrix: Callable[[Algorithm, bool], object]) -> list[Line]:
        """The matrix of each axis."""
        return [
            Line(
                matrix(a, False),  # type: ignore[arg-type]
                matrix(a, True) if self.k.short[j] else None,  # type: ignore[arg-type]
                tile.short[j],
            )
            for j, a in enumerate(self.k.algorithms)
        ]

    def slot(self, where: Sequence[Index]) -> Value:
        """The number of a slot."""
        e = self.e
        return e.add(0, *(e.mul(i, prod(self.sizes[j + 1 :])) for j, i in enumerate(where)))

    def load(self, p: Value) -> Value:
        """A vector at an address that is a multiple of its size."""
        return self.e.load(p, self.wide, self.e.target.vector_bytes)

    def store(self, value: Value, p: Value) -> None:
        """Write a vector to such an address."""
        self.e.store(value, p, self.e.target.vector_bytes)

    # ---- V to M ------------------------------------------------------------------------

    def products(self, box: Box, start: Value, stop: Value) -> None:
        """All slots of the panels start <= p < stop."""
        e, n, k = self.e, self.n, self.k
        ranges = self.ranges(box)
        chunk = e.mul(n.number("channel_blocks"), self.lanes * self.width)

        def slot(where: list[Index], _: list[Value]) -> list[Value]:
            s = self.slot(where)
            options = ranges
            for j in reversed(self.shorts):
                last = e.b.icmp_signed("==", where[j], e.index(self.sizes[j] - 1))
                half = len(options) // 2
                options = [
                    (e.b.select(last, b[0], a[0]), e.b.select(last, b[1], a[1]))
                    for a, b in zip(options[:half], options[half:], strict=True)
                ]
            ((first, end),) = options
            v = e.at(self.v, e.mul(s, n.number("v_slot")), F32)
            m = e.at(self.m, e.mul(s, n.number("m_slot")), F32)

            def panel(p: Value) -> None:
                at = e.add(e.mul(p, self.slots), s)
                u = e.at(n.pointer("u"), e.mul(at, chunk), F32)
                to = e.at(m, e.mul(e.b.sub(p, start), n.number("m_row")), F32)

                def tiles(t: Value) -> None:
                    q = e.larger(first, e.smaller(t, e.b.sub(end, e.index(k.mr))))
                    sums = self.sums(e.at(v, e.mul(q, self.lanes), F32), u)
                    target = e.at(to, e.mul(q, self.width), F32)
                    for i, value in enumerate(sums):
                        self.store(value, e.at(target, i * self.lanes, F32))

                e.each(first, end, tiles, k.mr)

            e.each(start, stop, panel)
            return []

        nest(e, [e.index(s) for s in self.sizes], (), slot)

    def sums(self, v: Value, u: Value) -> list[Value]:
        """The micro-kernel: [MR * NR] sums over channels."""
        e, k, n = self.e, self.k, self.n
        row = n.number("v_row")

        def block(_: Value, carried: list[Value]) -> list[Value]:
            v, u, *acc = carried
            for c in range(self.lanes):
                weights = [
                    self.load(e.at(u, c * self.width + j * self.lanes, F32)) for j in range(k.nr)
                ]
                for m in range(k.mr):
                    value = e.load(e.at(v, m * self.lanes + c, F32), F32)
                    lanes = e.splat(value, self.lanes)
                    for j in range(k.nr):
                        acc[m * k.nr + j] = e.muladd(lanes, weights[j], acc[m * k.nr + j])
            return [e.at(v, row, F32), e.at(u, self.lanes * self.width, F32), *acc]

        zero = [e.const(self.wide, 0)] * (k.mr * k.nr)
        return e.loop(0, n.number("channel_blocks"), 1, [v, u, *zero], block)[2:]

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
        steps = [e.mul(vectors, prod(self.sizes[i + 1 :])) for i in range(self.rank)]

        def put(where: list[Index], values: list[Value], carried: list[Value]) -> list[Value]:
            (bad,) = carried
            for i, value in enumerate(values):
                bad = e.muladd(value, e.const(self.wide, 0), bad)
                self.write(value, self.place(first, [*where, i]), fixed)
            return [bad]

        lines = self.lines(tile, lambda a, short: a.results(short))
        zero = e.const(self.wide, 0)
        (bad,) = separable(e, lines, source, steps, self.line_area, self.wide, put, [zero])
        lost = e.b.bitcast(e.b.fcmp_unordered("uno", bad, bad), ir.IntType(self.lanes))
        with e.when(e.b.icmp_unsigned("!=", lost, ir.Constant(lost.type, 0))):
            self.exact(tile, p, j, first, fixed)

    def place(self, first: Value, where: Sequence[Index]) -> Value:
        """The element of y of an output of a tile."""
        e = self.e
        return e.add(first, *(e.mul(i, self.n.number(f"y_step{j}")) for j, i in enumerate(where)))

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

        def output(where: list[Index], _: list[Value]) -> list[Value]:
            ins = [
                e.add(tile.starts[i], place, n.number(f"shift{i}")) for i, place in enumerate(where)
            ]

            def tap(at: list[Index], carried: list[Value]) -> list[Value]:
                c, *tap = at
                number = e.add(0, *(e.mul(t, prod(k.taps[i + 1 :])) for i, t in enumerate(tap)))
                places = [e.add(o, t) for o, t in zip(ins, tap, strict=True)]
                seen = e.b.icmp_unsigned("==", e.index(0), e.index(0))
                offset = e.add(
                    e.mul(tile.image, n.number("x_image")), e.mul(c, n.number("x_plane"))
                )
                for i, place in enumerate(places):
                    seen = e.b.and_(seen, e.b.icmp_unsigned("<", place, n.number(f"in{i}")))
                    step = e.mul(n.number(f"x_step{i}"), self.lanes)
                    offset = e.add(offset, e.mul(place, step))
                block = e.mul(e.add(e.mul(c, taps), number), self.lanes * self.width)

                def add() -> list[Value]:
                    (acc,) = carried
                    for i in range(self.lanes):
                        one = e.load(e.at(n.pointer("x"), e.add(offset, i), F32), F32)
                        row = self.load(e.at(w, e.add(block, i * self.width), F32))
                        acc = e.muladd(e.splat(one, self.lanes), row, acc)
                    return [acc]

                return e.choose(seen, add, lambda: carried)

            zero = e.const(self.wide, 0)
            outer = [n.number("channel_blocks"), *map(e.index, k.taps)]
            (acc,) = nest(e, outer, [zero], tap)
            self.write(acc, self.place(first, where), fixed)
            return []

        nest(e, counts, (), output)
