"""The kernel of weight gradients: sums over pixels in registers, taps and channels outside.

    dw[k, c, tap] = sum over pixels m of x[c, x_steps . m + x_shift[tap]] * g[k, g_steps . m + ...]

A pixel is a point m of a box of axes, the batch among them. A register tile is `rows` channels c by
`vectors` vectors of features k: a pixel costs `vectors` loads of g and `rows` broadcasts of x. The
box is cut into blocks whose operands stay in the caches while every tile of a unit (some k by some
c, all taps) passes over them; each tile's sum then joins `sums`, which the unit has for itself:

    sums: [tiles of k, channels c, taps of the unit, vectors * lanes of k]

Nothing is added in an order that depends on the unit, so units may be cut to the number of threads.
A tap's pixels are bounded by what lies inside of both operands: padding is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from striate.codegen.emitter import (
    I1,
    I8,
    I64,
    Emitter,
    Index,
    Value,
    element,
    size_of,
    storage,
    vector,
)
from striate.codegen.weight_gradient_copy import (
    Packing,
    Panel,
    Range,
    Sums,
    pack,
    store_dense,
    store_strided,
)
from striate.dtype import DType

# The words, in order; then AXIS for each axis. Strides count elements.
WORDS = (
    "x",
    "g",
    "dw",
    "scratch",  # per thread: sums, then packed x, then packed g
    "scratch_bytes",
    "x_packed",  # offsets in bytes into a thread's scratch
    "g_packed",
    "tap_table",  # [taps, 2 + 2 * axes]: offsets into x and g, then (first, stop) of each axis
    "unit_table",  # [UNIT_LIMIT, 3]: tiles of k, blocks of c, taps of a unit, by threads - 1
    "where_table",  # [taps]: where a tap stands in dw
    "groups",
    "channels",  # per group, as the next three
    "features",
    "channel_blocks",
    "feature_tiles",
    "taps",
    "x_group",  # 0 if packed
    "x_row",  # distance of two channels, where that is not 1
    "x_panel",  # distance of two blocks of `x_lanes` channels, packed or not
    "g_group",
    "g_panel",  # distance of two tiles of features
    "g_vector",  # distance of two vectors of features
    "dw_group",
    "dw_feature",
    "dw_channel",
)
AXIS = ("size", "step", "x_step", "g_step")
# Of each packed operand, x before g. Channel c of a group is number first + c of `channels`.
SOURCE = ("first", "channels", "block", "block_stride")
# Of each packed operand, for each axis: pixel m uses the positions mult * m + (low .. high) that
# are inside of 0 .. size - 1.
POSITIONS = ("mult", "low", "high", "size", "stride", "packed")
UNIT_LIMIT = 64  # a team of more threads is served as one of this many


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range [first, stop): of pixels of one axis in a block, or of parts of a unit."""

    first: Value
    stop: Value


@dataclass(frozen=True, slots=True)
class Place:
    """A tap, and its rows of `sums` for the channels of a block: row, row + step, ..."""

    tap: Value
    row: Value
    step: Value


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is brought into L2 while a block of channels and a tap are summed.

    Attributes:
        x, g: elements from here to what is wanted next of x and g.
        part: how many such (channels, tap) came before this one with these features.
        first_tap: whether it is the first tap of these channels.
    """

    x: Value
    g: Value
    part: Value
    first_tap: Value


@dataclass(frozen=True, slots=True)
class WeightGradientKernel:
    """The sums of one range of features.

    Attributes:
        dtype: of x, g and dw.
        axes: number of axes of pixels.
        rows, vectors: the register tile: channels, and vectors of features.
        x_lanes: channels that stand together in x, or in packed x; a multiple of `rows`.
        chains: sets of sums, for pixels modulo their number.
        planes: channels of x stand in planes of their own, unpacked.
        x_packing, g_packing: how an operand is copied into scratch first, or None.
        x_part, g_part: contiguous channels of an operand whose packing is `parts`.
        dense: dw[k] is contiguous over (c, tap) for each k.
    """

    dtype: DType
    axes: int
    rows: int
    vectors: int
    x_lanes: int
    chains: int = 1
    planes: bool = False
    x_packing: Packing | None = None
    g_packing: Packing | None = None
    x_part: int = 0
    g_part: int = 0
    dense: bool = True

    @property
    def name(self) -> str:
        """As `weight_gradient_f32_8x2`."""
        return f"weight_gradient_{self.dtype.short}_{self.rows}x{self.vectors}"

    def emit(self, e: Emitter) -> None:
        """Share the units (group, tiles of k, blocks of c, taps) and compute each."""
        _Emission(self, e).run()


class _Emission:
    """The state of emitting one kernel."""

    def __init__(self, kernel: WeightGradientKernel, e: Emitter) -> None:
        self.kernel, self.e = kernel, e
        self.one, self.stored = element(kernel.dtype), storage(kernel.dtype)
        self.lanes = e.target.vector_bytes // size_of(self.one)
        self.vec = vector(self.one, self.lanes)
        self.width = kernel.vectors * self.lanes
        self.w = {
            name: e.pointer(i) if i < 4 or name.endswith("_table") else e.number(i)
            for i, name in enumerate(WORDS)
        }
        at = len(WORDS)

        def group(names: tuple[str, ...]) -> dict[str, Value]:
            nonlocal at
            at += len(names)
            return {n: e.number(at - len(names) + i) for i, n in enumerate(names)}

        self.axes = [group(AXIS) for _ in range(kernel.axes)]
        self.packed = {
            name: (group(SOURCE), [group(POSITIONS) for _ in range(kernel.axes)])
            for name, packing in (("x", kernel.x_packing), ("g", kernel.g_packing))
            if packing
        }

    def run(self) -> None:
        e, b, w = self.e, self.e.b, self.w
        row = e.mul(e.add(e.smaller(e.threads, UNIT_LIMIT), -1), 3)
        sizes = [w["feature_tiles"], w["channel_blocks"], w["taps"]]
        parts = [self._entry("unit_table", e.add(row, i)) for i in range(3)]
        counts = [b.sdiv(e.add(n, p, -1), p) for n, p in zip(sizes, parts, strict=True)]
        self.sums = e.at(w["scratch"], e.mul(w["scratch_bytes"], e.thread), I8)

        def unit(u: Value) -> None:
            ranges = []
            for n, part, count in zip(sizes, parts, counts, strict=True):
                first = b.mul(b.srem(u, count), part)
                ranges.append(Bounds(first, e.smaller(e.add(first, part), n)))
                u = b.sdiv(u, count)
            self._unit(u, *ranges)

        total = w["groups"]
        for count in counts:
            total = b.mul(total, count)
        first, last = e.share(total)
        e.each(first, last, unit)

    def _entry(self, table: str, i: Value) -> Value:
        return self.e.load(self.e.at(self.w[table], i, I64), I64)

    def _unit(self, group: Value, ks: Bounds, cs: Bounds, taps: Bounds) -> None:
        """sums[ks, cs, taps] over all blocks of pixels, then into dw."""
        e, b, w = self.e, self.e.b, self.w
        span = e.mul(b.sub(cs.stop, cs.first), self.kernel.x_lanes)  # channels
        depth = b.sub(taps.stop, taps.first)
        rows = b.mul(span, depth)
        size = e.mul(b.mul(b.sub(ks.stop, ks.first), rows), self.kernel.vectors)
        zero = e.const(self.vec, 0)
        align = e.target.vector_bytes
        e.each(0, size, lambda i: e.store(zero, e.at(self.sums, i, self.vec), align))

        def block(bounds: list[Bounds]) -> None:
            x = self._operand("x", group, cs, bounds)
            g = self._operand("g", group, ks, bounds)
            ahead = self._following(bounds)

            def tile(k: Value, c: Value, tap: Value) -> None:
                gk = e.at(g, b.mul(k, w["g_panel"]), self.one)
                xc = e.at(x, b.mul(c, w["x_panel"]), self.one)
                channel = e.mul(b.sub(c, cs.first), self.kernel.x_lanes)
                turn = b.sub(tap, taps.first)
                row = e.add(b.mul(b.sub(k, ks.first), rows), b.mul(channel, depth), turn)
                part = e.add(b.mul(b.sub(c, cs.first), depth), turn)
                last = b.icmp_signed("==", e.add(k, 1), ks.stop)
                back = e.mul(b.sub(ks.first, k), w["g_panel"])
                g_ahead = b.select(last, b.add(back, ahead["g"]), w["g_panel"])
                x_ahead = b.select(last, ahead["x"], e.index(0))
                at = Place(tap, row, depth)
                first_tap = b.icmp_signed("==", tap, taps.first)
                self._tap(xc, gk, at, bounds, Ahead(x_ahead, g_ahead, part, first_tap))

            def channels(k: Value, c: Value) -> None:
                e.each(taps.first, taps.stop, lambda tap: tile(k, c, tap))

            e.each(
                ks.first,
                ks.stop,
                lambda k: e.each(cs.first, cs.stop, lambda c: channels(k, c)),
            )

        self._blocks(block, [])
        first = e.mul(cs.first, self.kernel.x_lanes)
        wanted = b.sub(e.smaller(e.add(first, span), w["channels"]), first)
        start = e.add(b.mul(group, w["dw_group"]), b.mul(first, w["dw_channel"]))

        def store(k: Value) -> None:
            feature = e.mul(k, self.width)
            at = e.mul(b.mul(b.sub(k, ks.first), rows), self.kernel.vectors)
            to = e.add(start, b.mul(feature, w["dw_feature"]))
            sums = Sums(
                self.kernel.dtype,
                e.at(self.sums, at, self.vec),
                self.kernel.vectors,
                wanted,
                (taps.first, taps.stop),
                w["taps"],
                feature,
                w["features"],
            )
            dw = e.at(w["dw"], to, self.stored)
            if self.kernel.dense:
                store_dense(e, sums, dw, w["dw_feature"])
            else:
                strides = w["dw_feature"], w["dw_channel"]
                store_strided(e, sums, dw, strides, w["where_table"])

        e.each(ks.first, ks.stop, store)

    def _blocks(self, body: Callable[[list[Bounds]], None], bounds: list[Bounds]) -> None:
        """The nest of loops over blocks of pixels."""
        e = self.e
        if len(bounds) == len(self.axes):
            body(bounds)
            return
        axis = self.axes[len(bounds)]

        def part(m: Value) -> None:
            stop = e.smaller(e.add(m, axis["step"]), axis["size"])
            self._blocks(body, [*bounds, Bounds(m, stop)])

        e.each(0, axis["size"], part, axis["step"])

    def _following(self, bounds: Sequence[Bounds]) -> dict[str, Value]:
        """Elements of x and of g from this block of pixels to the next one."""
        e, b = self.e, self.e.b
        found = {"x": e.index(0), "g": e.index(0)}
        carry: Value = ir.Constant(I1, 1)  # all inner axes are at their end
        for within, axis in zip(reversed(bounds), reversed(self.axes), strict=True):
            more = b.icmp_signed("<", within.stop, axis["size"])
            move = b.select(more, axis["step"], e.mul(within.first, -1))
            move = b.select(carry, move, e.index(0))
            carry = b.and_(carry, b.not_(more))
            found = {n: e.add(d, b.mul(move, axis[f"{n}_step"])) for n, d in found.items()}
        return found

    def _operand(self, name: str, group: Value, panels: Bounds, bounds: Sequence[Bounds]) -> Value:
        """Where pixel 0 of panel 0 of an operand stands, or would; these panels of the block are
        there, packed if they have to be.
        """
        e, b, w, kernel = self.e, self.e.b, self.w, self.kernel
        packing = kernel.x_packing if name == "x" else kernel.g_packing
        if packing is None:
            return e.at(w[name], b.mul(group, w[f"{name}_group"]), self.one)
        source, positions = self.packed[name]
        to = e.at(self.sums, w[f"{name}_packed"], I8)
        width = kernel.x_lanes if name == "x" else self.width
        axes, origin = [], e.mul(panels.first, w[f"{name}_panel"])
        for within, axis in zip(bounds, positions, strict=True):
            ends = [b.mul(axis["mult"], m) for m in (within.first, e.add(within.stop, -1))]
            low = e.larger(e.add(e.smaller(*ends), axis["low"]), 0)
            high = e.smaller(e.add(e.larger(*ends), axis["high"], 1), axis["size"])
            axes.append(Range(low, high, axis["stride"], axis["packed"]))
            origin = e.add(origin, b.mul(low, axis["packed"]))
        start = e.add(b.mul(group, source["channels"]), source["first"])

        def panel(i: Value) -> None:
            channel = e.add(start, e.mul(i, width))
            p = e.at(to, b.mul(b.sub(i, panels.first), w[f"{name}_panel"]), self.one)
            end = b.mul(e.add(group, 1), source["channels"])
            part = kernel.x_part if name == "x" else kernel.g_part
            vectors = width // self.lanes
            where = (w[name], p, vectors, channel, end, source["block"], source["block_stride"])
            pack(e, Panel(kernel.dtype, packing, *where, part), axes)

        e.each(panels.first, panels.stop, panel)
        return e.at(to, b.sub(e.index(0), origin), self.one)

    def _tap(self, x: Value, g: Value, place: Place, block: Sequence[Bounds], ahead: Ahead) -> None:
        """One tap of a block of channels: its sums over the pixels of the block join `sums`."""
        e, b, kernel = self.e, self.e.b, self.kernel
        at = e.mul(place.tap, 2 + 2 * kernel.axes)
        x = e.at(x, self._entry("tap_table", at), self.one)
        g = e.at(g, self._entry("tap_table", e.add(at, 1)), self.one)
        bounds = []
        for j, within in enumerate(block):
            first = self._entry("tap_table", e.add(at, 2 + 2 * j))
            stop = self._entry("tap_table", e.add(at, 3 + 2 * j))
            bounds.append(Bounds(e.larger(first, within.first), e.smaller(stop, within.stop)))
        rows, parts = kernel.rows, kernel.x_lanes // kernel.rows

        def tile(i: Value) -> None:
            zeros = [e.const(self.vec, 0)] * (rows * kernel.vectors * kernel.chains)
            of_x = b.and_(ahead.first_tap, b.icmp_signed("==", i, e.index(0)))
            turn = e.smaller(e.add(e.mul(ahead.part, parts - 1), i), kernel.vectors - 1)
            x_next = e.at(x, ahead.x, self.one)
            g_next = e.at(g, e.add(ahead.g, b.mul(turn, self.w["g_vector"])), self.one)
            fetch = b.select(of_x, x_next, g_next)
            steps = [b.select(of_x, a["x_step"], a["g_step"]) for a in self.axes]
            first = e.at(x, self._channel(e.mul(i, rows)), self.one)
            sums = self._pixels([first, g, fetch], bounds, steps, zeros)
            while len(sums) > rows * kernel.vectors:  # the chains, in order
                chain = sums[rows * kernel.vectors :]
                added = [e.b.fadd(p, q) for p, q in zip(sums, chain, strict=False)]
                sums = [*added, *chain[rows * kernel.vectors :]]
            top = e.mul(e.add(place.row, e.mul(i, e.mul(place.step, rows))), kernel.vectors)
            down = e.mul(place.step, kernel.vectors)
            for r in range(rows):
                for v in range(kernel.vectors):
                    p = e.at(self.sums, e.add(top, e.mul(down, r), v), self.vec)
                    old = e.load(p, self.vec, e.target.vector_bytes)
                    new = e.b.fadd(old, sums[r * kernel.vectors + v])
                    e.store(new, p, e.target.vector_bytes)

        e.each(0, parts, tile)

    def _pixels(
        self,
        at: Sequence[Value],
        bounds: Sequence[Bounds],
        fetch_steps: Sequence[Value],
        sums: list[Value],
    ) -> list[Value]:
        """The sums, and the products of all pixels in the bounds added to them, in order; `at` are
        the addresses of x, of g, and of what is fetched for later.
        """
        e = self.e
        axis = self.axes[len(self.axes) - len(bounds)]
        first, stop = bounds[0].first, bounds[0].stop
        steps = (axis["x_step"], axis["g_step"], fetch_steps[0])

        def moved(at: Sequence[Value], m: Value) -> list[Value]:
            return [e.at(p, e.mul(m, s), self.one) for p, s in zip(at, steps, strict=True)]

        if len(bounds) > 1:

            def row(m: Value, sums: list[Value]) -> list[Value]:
                return self._pixels(moved(at, m), bounds[1:], fetch_steps[1:], sums)

            return e.loop(first, stop, 1, sums, row)

        chains = self.kernel.chains
        size = len(sums) // chains

        def pixels(count: int) -> Callable[[Value, list[Value]], list[Value]]:
            def body(m: Value, carried: list[Value]) -> list[Value]:
                here, acc = carried[:3], carried[3:]
                for i in range(0, count * size, size):
                    e.prefetch(here[2], 2)
                    acc[i : i + size] = self._products(here[0], here[1], acc[i : i + size])
                    here = moved(here, 1)
                return [*here, *acc]

            return body

        carried = [*moved(at, first), *sums]
        if chains > 1:
            whole = e.b.sub(stop, e.b.srem(e.larger(e.b.sub(stop, first), 0), e.index(chains)))
            carried = e.loop(first, whole, chains, carried, pixels(chains))
            first = e.larger(first, whole)
        return e.loop(first, stop, 1, carried, pixels(1))[3:]

    def _channel(self, r: Index) -> Index:
        """Elements from channel 0 of a block to channel r."""
        return self.e.mul(self.w["x_row"], r) if self.kernel.planes else r

    def _products(self, x: Value, g: Value, acc: list[Value]) -> list[Value]:
        """One pixel: acc[r, v] + x[r] * g[v]."""
        e, n = self.e, self.kernel.vectors
        gs = []
        for v in range(n):
            gs.append(e.load(e.at(g, e.mul(self.w["g_vector"], v), self.one), self.vec))
        new = []
        for r in range(self.kernel.rows):
            xr = e.splat(e.load(e.at(x, self._channel(r), self.one), self.one), self.lanes)
            new += [e.muladd(xr, gs[v], acc[r * n + v]) for v in range(n)]
        return new
