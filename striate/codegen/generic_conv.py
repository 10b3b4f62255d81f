"""The convolution that serves every shape, stride and dtype: the definition, compiled.

    y[n, g, k, o] = sum over c and taps t of x[n, g, c, i] * w[g, k, c, t],   i = s*o + b*t - p

An axis with `lhs_dilation` is split into its dense phases first, so no zero is ever multiplied;
outputs of no phase are zeroed. The live taps of an output are a range on each axis, found by
division: padding is not visited, and work is outputs + multiply-adds, however large the window.

One axis is vectorised: features k or pixels o (a sum per lane), or c or the last tap (lanes are
added at the end). A tile of several k shares what is loaded from x. Each output is one sum in a
fixed order; long float sums are sums of partial sums, so that their error grows as the root of
their length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from math import isqrt, prod
from typing import Literal

from striate.codegen.boxes import Operand, address, copy_step, fill_step
from striate.codegen.emitter import I64, Emitter, Value, element, storage, vector
from striate.codegen.kernel import Buffer, Step, Table, View, Word
from striate.codegen.phases import Dense, Line, pieces, unravel
from striate.dtype import DType, bfloat16
from striate.ops.conv import ConvSpec
from striate.target import Target
from striate.transform.views import dense_strides

LONG = 1 << 12  # terms of a float sum above which it is made of partial sums
AXES = 19  # the first word of the axes
ROW = 9  # numbers of a phase
REUSED = 16  # outputs of an image that a weight meets, from which on it is worth packing
ITEMS = 64  # pieces of work that are enough for a team
Axis = Literal["k", "o", "c", "t"]


@dataclass(frozen=True)
class Level:
    """One loop of a reduction: an index i in [start, stop) is the element at i * step."""

    start: Value
    stop: Value
    x_step: Value
    w_step: Value


@dataclass(frozen=True)
class GenericConv:
    """A convolution of any sizes.

    Words: x, w, y; N, G, K, C; strides of x over n, g, c, of w over g, k, c, of y over n, g, k;
    features and outputs of one piece of work; length of a partial sum's outermost loop; then per
    axis: inputs, strides of x, w and y, number of phases, and their table, ROW numbers each.

    Attributes:
        dtype: of x, w and y.
        rank: number of spatial axes.
        axis: what the lanes are: features k, outputs o of the last axis, input features c, or taps
            t of the last axis.
        lanes: how many.
        tile: how many vectors of k, or single k for the other axes, are computed together.
        joined: whether the lanes of x, of w and of y stand side by side, where they are vectors.
        split: the loop of the reduction that is cut into partial sums, if any.
    """

    dtype: DType
    rank: int
    axis: Axis
    lanes: int
    tile: int
    joined: tuple[bool, bool, bool]
    split: int | None = None

    @property
    def name(self) -> str:
        """`conv2d_f32_k16x4`"""
        return f"conv{self.rank}d_{self.dtype.short}_{self.axis}{self.lanes}x{self.tile}"

    def emit(self, e: Emitter) -> None:
        """Every product of one phase per axis is a dense convolution."""

        def phases(lines: list[Line]) -> None:
            d = len(lines)
            if d == self.rank:
                _Dense(self, e, lines).emit()
                return
            inputs, x, w, y, count = (e.number(AXES + 6 * d + i) for i in range(5))
            table = e.pointer(AXES + 6 * d + 5)

            def phase(i: Value) -> None:
                row = [e.load(e.at(table, e.add(e.mul(i, ROW), j), I64), I64) for j in range(ROW)]
                o, o_step, outputs, t, t_step, taps, stride, dilation, pad = row
                first = e.mul(w, t), e.mul(y, o)
                steps = x, e.mul(w, t_step), e.mul(y, o_step)
                line = Line(inputs, outputs, taps, stride, dilation, pad, *steps, *first)
                phases([*lines, line])

            e.each(0, count, phase)

        phases([])


@dataclass(frozen=True)
class Place:
    """Outputs that are computed at one place, for the features k in [first, last).

    Attributes:
        first, last: the features.
        levels: the loops over taps.
        x, w, y: offsets of input tap 0, of weights and of outputs.
        count: how many lanes are outputs, where lanes are outputs and some may not be or may meet
            padding; else None.
        i: with `count`, the input position of tap 0 of the first lane.
    """

    first: Value
    last: Value
    levels: tuple[Level, ...]
    x: Value
    w: Value
    y: Value
    count: Value | None = None
    i: Value | None = None


class _Dense:
    """Emits one dense convolution: all outputs of one phase per axis."""

    def __init__(self, kernel: GenericConv, e: Emitter, lines: list[Line]) -> None:
        self.kernel, self.e, self.lines = kernel, e, lines
        self.axis, self.lanes = kernel.axis, kernel.lanes
        self.unit = kernel.lanes if kernel.axis == "k" else 1  # features of one sum
        self.x, self.w, self.y = (e.pointer(i) for i in range(3))
        self.sizes = [e.number(i) for i in range(3, 7)]
        self.xn, self.xg, self.xc, self.wg, self.wk, self.wc, self.yn, self.yg, self.yk = (
            e.number(i) for i in range(7, 16)
        )
        self.features, self.outputs, self.chunk = (e.number(i) for i in range(16, 19))
        self.stored = storage(kernel.dtype)
        self.sum = vector(element(kernel.dtype), kernel.lanes)

    def emit(self) -> None:
        """A thread's share: blocks of features and outputs."""
        e = self.e
        N, G, K, _ = self.sizes
        shape = [N, G, pieces(e, K, self.features)]
        shape += [line.outputs for line in self.lines[:-1]]
        shape += [pieces(e, line.outputs, self.outputs) for line in self.lines[-1:]]
        total = e.index(1)
        for n in shape:
            total = e.mul(total, n)
        e.each(*e.share(total), lambda i: self._item(*unravel(e, i, shape)))

    def _item(self, n: Value, g: Value, block: Value, *at: Value) -> None:
        """One block of features at outputs `at`, the last of which is a block too."""
        e = self.e
        first = e.mul(block, self.features)
        last = e.smaller(e.add(first, self.features), self.sizes[2])
        x = e.add(e.mul(n, self.xn), e.mul(g, self.xg))
        w = e.add(e.mul(g, self.wg), *(line.w_first for line in self.lines))
        y = e.add(e.mul(n, self.yn), e.mul(g, self.yg), *(line.y_first for line in self.lines))
        levels = []
        for line, o in zip(self.lines[:-1], at, strict=False):
            i = e.b.sub(e.mul(line.stride, o), line.pad)
            levels.append(Level(*line.live(e, i, i), e.mul(line.dilation, line.x), line.w))
            x, y = e.add(x, e.mul(i, line.x)), e.add(y, e.mul(o, line.y))
        place = Place(first, last, tuple(levels), x, w, y)
        if not self.lines:
            self._features(place)
            return
        start = e.mul(at[-1], self.outputs)
        stop = e.smaller(e.add(start, self.outputs), self.lines[-1].outputs)
        step = self.lanes if self.axis == "o" else 1
        e.each(start, stop, lambda o: self._outputs(place, o, e.b.sub(stop, o)), step)

    def _outputs(self, place: Place, o: Value, left: Value) -> None:
        """Outputs o, o + 1, ... of the last axis: one, or a vector, at most `left`."""
        e, line = self.e, self.lines[-1]
        i = e.b.sub(e.mul(line.stride, o), line.pad)
        steps = e.mul(line.dilation, line.x), line.w
        x, y = e.add(place.x, e.mul(i, line.x)), e.add(place.y, e.mul(o, line.y))

        def features(start: Value, stop: Value, count: Value | None) -> None:
            levels = (*place.levels, Level(start, stop, *steps))
            self._features(replace(place, levels=levels, x=x, y=y, count=count, i=i))

        if self.axis != "o":
            features(*line.live(e, i, i), None)
            return
        count = e.smaller(left, self.lanes)
        end = e.add(i, e.mul(line.stride, e.add(count, -1)))
        low, high = e.smaller(i, end), e.larger(i, end)
        reach = e.add(high, e.mul(line.dilation, e.add(line.taps, -1)))
        whole = [
            e.b.icmp_signed(">=", low, e.index(0)),
            e.b.icmp_signed("<", reach, line.inputs),
            e.b.icmp_signed("==", count, e.index(self.lanes)),
        ]
        with e.either(reduce(e.b.and_, whole)) as (inside, border):
            with inside:
                features(e.index(0), line.taps, None)
            with border:
                features(*line.live(e, low, high), count)

    def _features(self, place: Place) -> None:
        """All features of a place, in tiles and then one sum after another."""
        e, tile = self.e, self.kernel.tile
        step = self.unit * tile
        rest = place.first
        if step > 1:
            rest = e.b.sub(place.last, e.b.urem(e.b.sub(place.last, place.first), e.index(step)))
            e.each(place.first, rest, lambda k: self._sums(place, k, tile, None), step)
        e.each(rest, place.last, lambda k: self._sums(place, k, 1, place.last), self.unit)

    def _sums(self, place: Place, k: Value, tile: int, last: Value | None) -> None:
        """`tile` sums from feature k on, which ends at `last` if that is given."""
        e = self.e
        channels = Level(e.index(0), self.sizes[3], self.xc, self.wc)
        order = [*place.levels, channels]
        if self.axis == "t":
            order = [*place.levels[:-1], channels, place.levels[-1]]
        mask = None
        if self.axis == "k" and last is not None:
            mask = e.first_lanes(e.b.sub(last, k), self.lanes)
        w = e.add(place.w, e.mul(k, self.wk))
        sums = [e.const(self.sum, 0)] * tile
        sums = self._reduce(place, order, 0, place.x, w, mask, sums)
        if place.count is not None:
            mask = e.first_lanes(place.count, self.lanes)
        for j, total in enumerate(sums):
            y = e.add(place.y, e.mul(e.add(k, j * self.unit), self.yk))
            self._write(total, e.at(self.y, y, self.stored), mask)

    def _reduce(
        self,
        place: Place,
        order: list[Level],
        depth: int,
        x: Value,
        w: Value,
        mask: Value | None,
        sums: list[Value],
    ) -> list[Value]:
        """The sums, plus all terms of the loops from `depth` on."""
        e = self.e
        level = order[depth]
        innermost = depth == len(order) - 1

        def body(i: Value, sums: list[Value], mask: Value | None) -> list[Value]:
            if place.count is not None and depth == len(self.lines) - 1:
                mask = self._inside(place, i)
            xi, wi = e.add(x, e.mul(i, level.x_step)), e.add(w, e.mul(i, level.w_step))
            if innermost:
                return self._terms(level, xi, wi, mask, sums)
            return self._reduce(place, order, depth + 1, xi, wi, mask, sums)

        def part(start: Value, stop: Value, sums: list[Value]) -> list[Value]:
            if not innermost or self.axis not in "ct":
                return e.loop(start, stop, 1, sums, lambda i, s: body(i, s, mask))
            n = e.larger(e.b.sub(stop, start), 0)
            whole = e.b.sub(e.add(start, n), e.b.urem(n, e.index(self.lanes)))
            sums = e.loop(start, whole, self.lanes, sums, lambda i, s: body(i, s, None))

            def tail(i: Value, sums: list[Value]) -> list[Value]:
                return body(i, sums, e.first_lanes(e.b.sub(stop, i), self.lanes))

            return e.loop(whole, stop, self.lanes, sums, tail)

        if depth != self.kernel.split:
            return part(level.start, level.stop, sums)

        def partial(i: Value, sums: list[Value]) -> list[Value]:
            stop = e.smaller(e.add(i, self.chunk), level.stop)
            zeros = [e.const(self.sum, 0)] * len(sums)
            return [e.b.fadd(a, p) for a, p in zip(sums, part(i, stop, zeros), strict=True)]

        return e.loop(level.start, level.stop, self.chunk, sums, partial)

    def _inside(self, place: Place, tap: Value) -> Value:
        """Which lanes are outputs and see an input through a tap."""
        e, line = self.e, self.lines[-1]
        first = e.add(place.i, e.mul(tap, line.dilation))
        steps = e.b.mul(e.ramp(self.lanes), e.splat(line.stride, self.lanes))
        position = e.b.add(e.splat(first, self.lanes), steps)
        inside = e.b.icmp_unsigned("<", position, e.splat(line.inputs, self.lanes))
        return e.b.and_(inside, e.first_lanes(place.count, self.lanes))

    def _terms(
        self, level: Level, x: Value, w: Value, mask: Value | None, sums: list[Value]
    ) -> list[Value]:
        """One term, or one vector of terms, for each sum; `mask` says which lanes have one."""
        e = self.e
        x_step = level.x_step
        if self.axis == "o":
            x_step = e.mul(self.lines[-1].stride, self.lines[-1].x)
        found = []
        xs = self._read(self.x, x, x_step, self.kernel.joined[0], mask, self.axis != "k")
        w_step = self.wk if self.axis == "k" else level.w_step
        for j, total in enumerate(sums):
            at = e.add(w, e.mul(self.wk, j * self.unit))
            ws = self._read(self.w, at, w_step, self.kernel.joined[1], mask, self.axis != "o")
            new = e.muladd(xs, ws, total)
            if self.axis == "o" and mask is not None:  # padding is not multiplied, not even by inf
                new = e.b.select(mask, new, total)
            found.append(new)
        return found

    def _read(
        self, base: Value, i: Value, step: Value, joined: bool, mask: Value | None, lanes: bool
    ) -> Value:
        """Lanes i, i + step, ... of an operand, or element i in every lane."""
        e, dtype = self.e, self.kernel.dtype
        p = e.at(base, i, self.stored)
        if not lanes:
            return e.splat(e.widen(e.load(p, self.stored), dtype), self.lanes)
        type = vector(self.stored, self.lanes)
        if not joined:
            every = e.first_lanes(self.lanes, self.lanes) if mask is None else mask
            return e.widen(e.gather(p, step, every, type), dtype)
        return e.widen(e.load(p, type) if mask is None else e.load_masked(p, mask, type), dtype)

    def _write(self, total: Value, p: Value, mask: Value | None) -> None:
        """Store the outputs of one sum."""
        e, dtype = self.e, self.kernel.dtype
        if self.axis in "ct":
            e.store(e.narrow(e.total(total), dtype), p)
            return
        stored = e.narrow(total, dtype)
        if not self.kernel.joined[2]:
            every = e.first_lanes(self.lanes, self.lanes) if mask is None else mask
            step = self.yk if self.axis == "k" else self.lines[-1].y
            e.scatter(stored, p, step, every)
        elif mask is None:
            e.store(stored, p)
        else:
            e.store_masked(stored, p, mask)


# ---- the choice of axis, and the words ------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
    axis: Axis
    size: int
    joined: tuple[bool, bool, bool]
    weight: float  # what a lane is worth

    def worth(self, lanes: int) -> float:
        """The share of a vector that does useful work, times its worth."""
        return self.weight * self.size / (-(-self.size // lanes) * lanes)


def _choose(
    spec: ConvSpec, rows: list[list[Dense]], x: View, w: View, y: View, lanes: int
) -> _Choice:
    """The axis of the lanes."""
    K, C = spec.out_features, spec.in_features
    packs = prod(t.out_size for t in spec.windows) >= REUSED
    joined = (False, w.strides[1] == 1 or packs, y.strides[2] == 1)
    worth = 1.0 if w.strides[1] == 1 else 0.8 if packs else 0.3
    choices = [_Choice("k", K, joined, worth if joined[2] else 0.8 * worth)]
    if x.strides[2] == w.strides[2] == 1:
        choices.append(_Choice("c", C, (True, True, False), 0.8))
    if rows:
        last = rows[-1]
        side = all(r.stride * x.strides[-1] == 1 or r.outputs == 1 for r in last)
        joined = (side, False, all(r.step * y.strides[-1] == 1 or r.outputs == 1 for r in last))
        size = min(spec.windows[-1].out_size, max(r.outputs for r in last))
        choices.append(_Choice("o", size, joined, 0.9 if side else 0.3))
        if all(r.dilation * x.strides[-1] == r.tap_step * w.strides[-1] == 1 for r in last):
            choices.append(_Choice("t", max(r.taps for r in last), (True, True, False), 0.7))
    return max(choices, key=lambda c: c.worth(lanes))


def _by_features(spec: ConvSpec, dtype: DType, w: View) -> tuple[View, list[Step]]:
    """Weights [G, K, C, *W] as a new buffer [G, *W, C, K]."""
    g, k, c, *taps = spec.rhs_shape
    wg, wk, wc, *ws = w.strides
    shape = (g, *taps, c, k)
    pg, *ps, pc, pk = dense_strides(shape)
    buffer = Buffer(prod(shape) * dtype.itemsize, "packed weights")
    source = View(w.buffer, w.offset, (wg, *ws, wc, wk))
    target = View(buffer, 0, dense_strides(shape))
    steps = copy_step(shape, Operand(dtype, source), Operand(dtype, target))
    return View(buffer, 0, (pg, pk, pc, *ps)), steps


def _partial_sums(lengths: list[int], vectors: bool, lanes: int) -> tuple[int | None, int]:
    """(loop to cut, length of a piece) so that a sum has about as many pieces as terms in one."""
    if prod(lengths) // (lanes if vectors else 1) <= LONG:
        return None, 1
    wanted = isqrt(prod(lengths))
    inner = 1
    for depth in range(len(lengths) - 1, -1, -1):
        if inner * lengths[depth] >= wanted or depth == 0:
            piece = max(1, wanted // inner)
            if vectors and depth == len(lengths) - 1:
                piece = -(-piece // lanes) * lanes
            return depth, piece
        inner *= lengths[depth]
    return None, 1


def _power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


def generic_conv(
    target: Target, spec: ConvSpec, dtype: DType, x: View, w: View, y: View
) -> list[Step]:
    """y[N, G, K, *O] = conv(x[N, G, C, *I], w[G, K, C, *W]) as in `ops.conv`, for every spec.

    Sums are int32, int64 (both wrap around), float64, or float32 for float32 and bfloat16. The
    steps must run in order; no element of y may stand twice or in x or w.
    """
    if 0 in spec.out_shape:
        return []
    empty = 0 in spec.lhs_shape or 0 in spec.rhs_shape
    rows = [[] if empty else [Dense.of(f) for f in t.live_phases()] for t in spec.windows]
    covered = all(
        sum(r.outputs for r in rs) == t.out_size for rs, t in zip(rows, spec.windows, strict=True)
    )
    steps = [] if covered and not empty else fill_step(spec.out_shape, Operand(dtype, y), 0)
    if empty or not all(rows):
        return steps
    full = max(2, target.lanes(32 if dtype is bfloat16 else dtype.bits))
    choice = _choose(spec, rows, x, w, y, full)
    old = (y.buffer,) if steps else ()
    if choice.axis == "k" and choice.joined[1] and w.strides[1] != 1:
        w, packing = _by_features(spec, dtype, w)
        steps += packing
    lanes = max(2, min(full, _power_of_two(choice.size)))
    sums = -(-spec.out_features // lanes) if choice.axis == "k" else spec.out_features
    tile = next(t for t in (8, 4, 2, 1) if t <= max(1, sums))
    lengths = [max(r.taps for r in rs) for rs in rows]
    lengths.insert(len(lengths) - (choice.axis == "t"), spec.in_features)
    vectors = choice.axis in "ct"
    split, piece = _partial_sums(lengths, vectors, lanes) if dtype.is_floating else (None, 1)
    kernel = GenericConv(dtype, len(rows), choice.axis, lanes, tile, choice.joined, split)

    lines = spec.batch * spec.groups * prod(t.out_size for t in spec.windows[:-1])
    unit = lanes if choice.axis == "o" else 1
    outputs = spec.windows[-1].out_size if rows else 1
    outputs = max(1, outputs * lines // ITEMS if lines < ITEMS else outputs)
    outputs = -(-outputs // unit) * unit
    lines *= -(-spec.windows[-1].out_size // outputs) if rows else 1
    unit = tile * (lanes if choice.axis == "k" else 1)
    features = max(1, spec.out_features * lines // ITEMS if lines < ITEMS else spec.out_features)
    features = -(-features // unit) * unit

    words: list[Word] = [address(v, dtype) for v in (x, w, y)]
    words += [spec.batch, spec.groups, spec.out_features, spec.in_features]
    words += [*x.strides[:3], *w.strides[:3], *y.strides[:3], features, outputs, piece]
    for d, (t, rs) in enumerate(zip(spec.windows, rows, strict=True)):
        words += [t.in_size, x.strides[3 + d], w.strides[3 + d], y.strides[3 + d], len(rs)]
        words.append(Table(tuple(n for r in rs for n in r)))
    label, small = f"generic conv over {choice.axis}", spec.macs < 1 << 14
    return [*steps, Step(kernel, tuple(words), (y.buffer,), label, spec.macs, small, old)]
