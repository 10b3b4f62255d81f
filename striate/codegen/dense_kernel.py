"""The dense contraction: pack a tile of x, run all panels of w over it.

    y[p, k] = sum over entries (channels, tap) and c of  x[p + entry, c] * w[entry, c, k]

The register tile is MR pixels x NR vectors of output channels. A run-time table gives the address
of every entry relative to the pixel, so one kernel serves every rank, kernel size, dilation, flip
and phase. Weights are a contiguous stream [entry][c][NR*V]. Padding is zeros of the packed tile; if
a weight is not finite, an exact loop skips the padding instead (`0 * inf`).

Pixels of a run are a constant step apart. The last tile of a run moves left and computes some
outputs twice, with the same result. While a panel is used, the next one is fetched into L2: weights
of small maps come from memory, and would be waited for otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

from llvmlite import ir

from striate.codegen.emitter import (
    I1,
    I32,
    I64,
    POINTER,
    Emitter,
    Index,
    Value,
    element,
    storage,
    vector,
)
from striate.codegen.epilogue import Epilogue, Operands, store_lanes
from striate.codegen.pack import TilePack, pack_area
from striate.codegen.transposition import transposed
from striate.codegen.words import Words
from striate.dtype import DType

_BASE = (
    "x w y scratch scratch_each flags mask entries entry_count mask_entries aheads y_run groups "
    "features panels panel_size x_group x_block blocks subs block_pitch y_group y_block flag_count"
)
AHEAD = 4  # pixels of a register tile from which on there is time to fetch weights ahead
_AXIS = "out tiles in stride x_step y_step planes plane_pitch pitch extra offsets"


@dataclass(frozen=True)
class DenseKernel:
    """One dense part, every group and image.

    Attributes:
        dtype: of x; sums are float32 for bfloat16.
        mr, nr: the register tile.
        block: channels of a packed block.
        unit: channels of an entry, a divisor of the block: what the innermost loop unrolls.
        tail: channels of the last sub-block of x, 0 if it is full.
        axes: the number of axes, the batch included.
        run: the axis at which a run of pixels begins.
        packed: whether x is packed; else entries are offsets in x itself.
        padded: whether a tap may see padding.
        y_block, granule: the block of y (0: all channels side by side), lanes of one store.
        along: whether neighbouring pixels of a run are neighbours in y.
        ragged: the last panel has fewer channels.
        epilogue: what is stored of a sum.
    """

    dtype: DType
    mr: int
    nr: int
    block: int
    unit: int
    tail: int
    axes: int
    run: int
    packed: bool
    padded: bool
    y_block: int
    granule: int
    along: bool
    ragged: bool
    epilogue: Epilogue | None = None

    @property
    def name(self) -> str:
        """`dense_f32_14x2_b16`"""
        return f"dense_{self.dtype.short}_{self.mr}x{self.nr}_b{self.block}"

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        operands = self.epilogue.kinds if self.epilogue else ()
        return (
            *_BASE.split(),
            *(f"{name}{j}" for j in range(self.axes) for name in _AXIS.split()),
            *(f"operand{i}" for i in range(len(operands))),
        )

    def emit(self, e: Emitter) -> None:
        """The whole kernel."""
        Dense(e, self).emit()


class Dense:
    """The emission of one kernel: what its parts share."""

    def __init__(self, e: Emitter, kernel: DenseKernel) -> None:
        self.e, self.k = e, kernel
        self.scalar = element(kernel.dtype)
        self.lanes = e.target.vector_bytes * 8 // (64 if kernel.dtype.bits == 64 else 32)
        self.wide = vector(self.scalar, self.lanes)
        self.width = kernel.nr * self.lanes
        self.n = Words(e, kernel.words)
        self.y_dtype = kernel.epilogue.result if kernel.epilogue else kernel.dtype
        self.operands: Operands | None = None
        self.stack: Value = None
        self.ahead: Value = None
        self.ahead_step: Value = None
        if kernel.epilogue:
            pointers = [self.n.pointer(f"operand{i}") for i in range(len(kernel.epilogue.kinds))]
            self.operands = Operands(e, kernel.epilogue, pointers)

    def emit(self) -> None:
        """Share (group, tile, panel) among threads; pack each tile once."""
        e, k, n = self.e, self.k, self.n
        tiles: Value = e.index(1)
        for j in range(k.axes):
            tiles = e.mul(tiles, n.number(f"tiles{j}"))
        panels = n.number("panels")
        first, last = e.share(e.mul(e.mul(n.number("groups"), tiles), panels))
        flagged = self.any_flag() if k.padded else None

        def tile(gt: Value) -> None:
            g, t = e.b.udiv(gt, tiles), e.b.urem(gt, tiles)
            starts, lengths = self.box(t)
            source = e.at(n.pointer("x"), e.mul(g, n.number("x_group")), storage(k.dtype))
            pack = TilePack(e, k.dtype, k.block, k.tail, k.axes, n, starts, lengths)
            if k.packed:
                pack.copy(source)
                if flagged is not None:
                    with e.when(flagged):
                        pack.mask()
            begin = e.larger(0, e.b.sub(first, e.mul(gt, panels)))
            end = e.smaller(panels, e.b.sub(last, e.mul(gt, panels)))
            e.each(begin, end, lambda p: self.panel(g, p, starts, lengths, source, flagged))

        stop = e.b.udiv(e.b.add(last, e.b.sub(panels, e.index(1))), panels)
        e.each(e.b.udiv(first, panels), stop, tile)

    def box(self, t: Value) -> tuple[list[Value], list[Value]]:
        """(first output, number of outputs) per axis of tile t."""
        e, n = self.e, self.n
        starts, lengths = [], []
        for j in reversed(range(self.k.axes)):
            tiles, size = n.number(f"tiles{j}"), n.number(f"out{j}")
            i, t = e.b.urem(t, tiles), e.b.udiv(t, tiles)
            start = e.b.udiv(e.mul(i, size), tiles)
            starts.append(start)
            lengths.append(e.b.sub(e.b.udiv(e.mul(e.add(i, 1), size), tiles), start))
        return starts[::-1], lengths[::-1]

    def any_flag(self) -> Value:
        """Whether a weight is not finite."""
        e, flags = self.e, self.n.pointer("flags")

        def gather(i: Value, carried: list[Value]) -> list[Value]:
            return [e.b.or_(carried[0], e.load(e.at(flags, i, I64), I64))]

        found = e.loop(0, self.n.number("flag_count"), 1, [e.index(0)], gather)[0]
        return e.b.icmp_unsigned("!=", found, e.index(0))

    # ---- one panel of output channels over a tile --------------------------------------

    def panel(
        self,
        g: Value,
        p: Value,
        starts: list[Value],
        lengths: list[Value],
        source: Value,
        flagged: Value | None,
    ) -> None:
        """All runs of a tile, for NR vectors of output channels."""
        e, k, n = self.e, self.k, self.n
        index = e.add(e.mul(g, n.number("panels")), p)
        weights = e.at(n.pointer("w"), e.mul(index, n.number("panel_size")), self.scalar)
        y_base = e.mul(g, n.number("y_group"))
        inner: Value = lengths[k.run]
        for j in range(k.run + 1, k.axes):
            inner = e.mul(inner, n.number(f"out{j}"))
        if k.mr >= AHEAD:
            self.look_ahead(weights, lengths, inner)
        pixels = pack_area(e, n, self.scalar) if k.packed else source

        def runs(j: int, x: Value, y: Value) -> None:
            """Positions of the axes before the run; x in pixels or elements, y in elements."""
            step = n.number(f"y_step{j}")
            if k.packed:
                x_step, start = n.number(f"pitch{j}"), e.index(0)
            else:
                x_step = e.mul(n.number(f"x_step{j}"), n.number(f"stride{j}"))
                start = e.mul(starts[j], x_step)
            if j == k.run:
                self.line(
                    e.add(x, start), e.add(y, e.mul(starts[j], step)), inner, weights, pixels,
                    g, p, flagged,
                )  # fmt: skip
                return
            e.each(
                0,
                lengths[j],
                lambda i: runs(
                    j + 1,
                    e.add(x, start, e.mul(i, x_step)),
                    e.add(y, e.mul(e.add(starts[j], i), step)),
                ),
            )

        runs(0, e.index(0), y_base)

    def look_ahead(self, weights: Value, lengths: list[Value], inner: Value) -> None:
        """Fetch the next panel into L2 meanwhile: a little with every entry of every tile."""
        e, k, n = self.e, self.k, self.n
        tiles = e.b.udiv(e.add(inner, k.mr - 1), e.index(k.mr))
        for j in range(k.run):
            tiles = e.mul(tiles, lengths[j])
        entries = e.larger(1, e.mul(tiles, n.number("entry_count")))
        size = n.number("panel_size")
        if self.ahead is None:
            with e.b.goto_entry_block():
                self.ahead = e.b.alloca(POINTER)
        e.store(e.at(weights, size, self.scalar), self.ahead)
        self.ahead_step = e.b.udiv(e.add(size, e.b.sub(entries, e.index(1))), entries)

    def line(
        self,
        x: Value,
        y: Value,
        size: Value,
        weights: Value,
        pixels: Value,
        g: Value,
        p: Value,
        flagged: Value | None,
    ) -> None:
        """A run of `size` pixels, MR at a time; the last tile moves left."""
        e, k = self.e, self.k
        base = e.at(pixels, e.mul(x, k.block if k.packed else 1), self.scalar)

        def fast() -> None:
            def tile(i: Value) -> None:
                q = e.smaller(i, e.b.sub(size, e.index(k.mr)))
                start = e.at(base, e.mul(q, k.block), self.scalar)
                self.store(self.sums(start, weights), q, y, g, p)

            e.each(0, size, tile, k.mr)

        if flagged is None:
            fast()
            return
        with e.either(flagged) as (exact, usual):
            with exact:
                e.each(0, size, lambda q: self.store(self.exact(base, weights, x, q), q, y, g, p))
            with usual:
                fast()

    def sums(self, x: Value, weights: Value) -> list[list[Value]]:
        """The micro-kernel: [MR][NR] sums over all entries."""
        e, k = self.e, self.k
        entries = self.n.pointer("entries")
        zero = [e.const(self.wide, 0)] * (k.mr * k.nr)
        looking = [] if self.ahead is None else [e.load(self.ahead, POINTER)]

        def entry(i: Value, carried: list[Value]) -> list[Value]:
            w, *acc = carried
            ahead = [acc.pop() for _ in looking]
            for p in ahead:
                e.prefetch(p, level=2)
            xs = e.at(x, e.load(e.at(entries, i, I64), I64), self.scalar)
            if not k.packed:
                self.next_pixels(x, i)
            for c in range(k.unit):
                row = self.weight_row(w, c)
                for m in range(k.mr):
                    value = e.load(e.at(xs, m * k.block + c, self.scalar), self.scalar)
                    lanes = e.splat(value, self.lanes)
                    for j in range(k.nr):
                        acc[m * k.nr + j] = e.muladd(lanes, row[j], acc[m * k.nr + j])
            ahead = [e.at(p, self.ahead_step, self.scalar) for p in ahead]
            return [e.at(w, k.unit * self.width, self.scalar), *acc, *ahead]

        count = self.n.number("entry_count")
        acc = e.loop(0, count, 1, [weights, *zero, *looking], entry, hot=True)[1:]
        if looking:
            e.store(acc.pop(), self.ahead)
        return [acc[m * k.nr : (m + 1) * k.nr] for m in range(k.mr)]

    def next_pixels(self, x: Value, i: Value) -> None:
        """Fetch this entry's part of the next MR pixels of its block."""
        e, k = self.e, self.k
        place = e.load(e.at(self.n.pointer("aheads"), i, I64), I64)
        per_block = k.block // k.unit
        for m in range(0, k.mr, per_block):
            e.prefetch(e.at(x, e.add(place, m * k.block), storage(k.dtype)))

    def weight_row(self, w: Value, c: int) -> list[Value]:
        """The NR vectors of weights of channel c of an entry."""
        e, align = self.e, self.e.target.vector_bytes
        return [
            e.load(e.at(w, c * self.width + j * self.lanes, self.scalar), self.wide, align)
            for j in range(self.k.nr)
        ]

    def exact(self, base: Value, weights: Value, x: Value, q: Value) -> list[list[Value]]:
        """[1][NR] sums of one pixel, without those taps that see padding."""
        e, k, n = self.e, self.k, self.n
        entries, steps = n.pointer("entries"), n.pointer("mask_entries")
        mask = e.at(pack_area(e, n, self.scalar), e.add(n.number("mask"), x, q), self.scalar)
        pixel = e.at(base, e.mul(q, k.block), self.scalar)

        def entry(i: Value, acc: list[Value]) -> list[Value]:
            place = e.load(e.at(steps, i, I64), I64)
            inside = e.load(e.at(mask, place, self.scalar), self.scalar)
            xs = e.at(pixel, e.load(e.at(entries, i, I64), I64), self.scalar)
            w = e.at(weights, e.mul(i, k.unit * self.width), self.scalar)

            def add() -> list[Value]:
                new = [*acc]
                for c in range(k.unit):
                    value = e.splat(e.load(e.at(xs, c, self.scalar), self.scalar), self.lanes)
                    for j, row in enumerate(self.weight_row(w, c)):
                        new[j] = e.muladd(value, row, new[j])
                return new

            seen = e.b.fcmp_ordered("!=", inside, e.const(self.scalar, 0))
            return e.choose(seen, add, lambda: acc)

        zero = [e.const(self.wide, 0)] * k.nr
        return [e.loop(0, n.number("entry_count"), 1, zero, entry)]

    # ---- the store ---------------------------------------------------------------------

    def store(self, sums: list[list[Value]], q: Value, y: Value, g: Value, p: Value) -> None:
        """Sums [m][NR] of the pixels q, q + 1, ... to y, through the epilogue."""
        e, k, n = self.e, self.k, self.n
        if k.along and len(sums) > 1:
            self.store_along(sums, e.add(y, q), g, p)
            return
        if k.y_block and k.granule <= 2:
            self.store_apart(sums, q, y, g, p)
            return
        if k.epilogue and k.epilogue.is_long and len(sums) > 1:
            stack = self.on_stack(sums)

            def pixel(m: Value) -> None:
                row = e.at(stack, e.mul(m, k.nr), self.wide)
                ones = [e.load(e.at(row, j, self.wide), self.wide) for j in range(k.nr)]
                self.store([ones], e.add(q, m), y, g, p)

            e.each(0, len(sums), pixel)
            return
        run = n.pointer("y_run")
        places = [e.add(y, e.load(e.at(run, e.add(q, m), I64), I64)) for m in range(len(sums))]
        first = e.mul(p, self.width)
        for j in range(k.nr):
            for part in range(0, self.lanes, k.granule):
                at = e.add(first, j * self.lanes + part)
                left = e.b.sub(n.number("features"), at)

                def pixels(
                    mask: Value | None, j: int = j, part: int = part, at: Value = at
                ) -> None:
                    channel = self.channel_offset(at)
                    whole = e.add(e.mul(g, n.number("features")), at)
                    ops = self.operands
                    fixed = ops.at_channel(whole, k.granule, mask) if ops else []
                    for m, place in enumerate(places):
                        value = self.lanes_from(sums[m][j], part)
                        self.write(value, e.add(place, channel), fixed, mask)

                if not k.ragged:
                    pixels(None)
                elif k.y_block == 0:
                    pixels(e.first_lanes(left, k.granule))
                else:
                    with e.when(e.b.icmp_signed(">", left, e.index(0))):
                        pixels(None)

    def on_stack(self, sums: list[list[Value]]) -> Value:
        """The address of sums [m][NR] that loops can walk over."""
        e, k = self.e, self.k
        if self.stack is None:
            with e.b.goto_entry_block():
                self.stack = e.b.alloca(self.wide, k.mr * k.nr)
        for i, value in enumerate(v for row in sums for v in row):
            e.store(value, e.at(self.stack, i, self.wide))
        return self.stack

    def store_apart(self, sums: list[list[Value]], q: Value, y: Value, g: Value, p: Value) -> None:
        """The same where neither pixels nor channels are neighbours: loops, by way of the stack."""
        e, k, n = self.e, self.k, self.n
        stack = self.on_stack(sums)
        features = n.number("features")
        first = e.mul(p, self.width)
        count = e.smaller(e.b.sub(features, first), self.width)

        def pixel(m: Value) -> None:
            place = e.add(y, e.load(e.at(n.pointer("y_run"), e.add(q, m), I64), I64))

            def channels(c: Value) -> None:
                at = e.add(first, c)
                whole = e.add(e.mul(g, features), at)
                ops = self.operands
                fixed = ops.at_channel(whole, k.granule, None) if ops else []
                from_ = e.at(stack, e.add(e.mul(m, self.width), c), self.scalar)
                value = e.load(from_, vector(self.scalar, k.granule))
                self.write(value, e.add(place, self.channel_offset(at)), fixed, None)

            e.each(0, count, channels, k.granule)

        e.each(0, len(sums), pixel)

    def store_along(self, sums: list[list[Value]], y: Value, g: Value, p: Value) -> None:
        """The same where pixels are neighbours in y and channels are not: sums are transposed."""
        e, k, n = self.e, self.k, self.n
        features, v = n.number("features"), self.lanes
        for j, m in product(range(k.nr), range(0, len(sums), v)):
            column = [row[j] for row in sums[m : m + v]]
            mask = None
            if len(column) < v:
                mask = ir.Constant(ir.VectorType(I1, v), [i < len(column) for i in range(v)])
                column += [e.const(self.wide, 0)] * (v - len(column))
            for i, value in enumerate(transposed(e, column)):
                channel = e.add(e.mul(p, self.width), j * v + i)

                def pixels(channel: Value = channel, value: Value = value, m: int = m) -> None:
                    offset = e.add(y, m, self.channel_offset(channel))
                    fixed: list[Value | None] = []
                    if self.operands:
                        whole = e.add(e.mul(g, features), channel)
                        ones = self.operands.at_channel(whole, 1, None)
                        fixed = [one and e.splat(one, v) for one in ones]
                    self.write(value, offset, fixed, mask)  # noqa: B023

                if k.ragged:
                    with e.when(e.b.icmp_signed("<", channel, features)):
                        pixels()
                else:
                    pixels()

    def channel_offset(self, channel: Value) -> Value:
        """Where in y a channel of a group stands."""
        e, block = self.e, self.k.y_block
        if block == 0:
            return channel
        size = e.index(block)
        outer = e.mul(e.b.udiv(channel, size), self.n.number("y_block"))
        return e.add(outer, e.b.urem(channel, size))

    def lanes_from(self, value: Value, first: int) -> Value:
        """`granule` lanes of a vector."""
        e, size = self.e, self.k.granule
        if size == self.lanes:
            return value
        if size == 1:
            return e.b.extract_element(value, e.index(first))
        order = ir.Constant(ir.VectorType(I32, size), list(range(first, first + size)))
        return e.b.shuffle_vector(value, value, order)

    def write(
        self, value: Value, offset: Index, fixed: list[Value | None], mask: Value | None
    ) -> None:
        """Store the lanes of one value, from element `offset` of y."""
        e = self.e
        if self.operands:
            value = self.operands.apply(value, fixed, offset, mask)
        place = e.at(self.n.pointer("y"), offset, storage(self.y_dtype))
        store_lanes(e, value, place, self.y_dtype, mask)
