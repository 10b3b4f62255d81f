"""Convolutions with few channels a group: vector lanes hold the channels of several groups.

    y[lanes (g, k)] += x[lanes (g, c)], permuted so that each lane has its group's channel c
                       * w[lanes (g, k)] of that c and tap

Depthwise convolution is C = K = 1, where nothing is permuted. Layouts are [N, channels/b, *I, b],
weights [channels/lanes, *W, C, lanes]. A tile is `cols` outputs of the last axis in registers; run-
time loops go over the taps of the other axes, then each input column of a tap row is loaded once
and given to every output that needs it. Padding is not in memory: rows outside of the image are
skipped by the bounds of the loops; columns are checked where a tap row leaves the image. The last
tile of a line moves left until it fits. The order of a sum is a matter of its place in the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from striate.codegen.elements import load_element
from striate.codegen.emitter import I32, Emitter, Value, element, lanes_of, storage, vector
from striate.codegen.epilogue import Epilogue, Operands
from striate.codegen.phases import floor_div
from striate.dtype import DType

AHEAD = 3584  # bytes between what is computed and what is prefetched, in layers that leave cache
TOGETHER = 4  # columns whose channels are summed in turn, so that sums need not wait
AXES = 11  # the first word of the axes
AXIS_WORDS = 9
CHUNK = 8  # tiles of one piece of work on a line without other axes


@dataclass(frozen=True)
class Axis:
    """The words of one axis: i = stride * o + dilation * t - pad; steps are in elements."""

    inputs: Value
    outputs: Value
    taps: Value
    stride: Value
    dilation: Value
    pad: Value
    x_step: Value  # between inputs
    w_step: Value  # between taps
    y_step: Value  # between outputs

    def live(self, e: Emitter, i: Value, dilated: bool) -> tuple[Value, Value]:
        """The taps [first, last) that see an input, where tap 0 stands at i."""
        first, room = e.b.neg(i), e.b.sub(self.inputs, i)
        if dilated:
            first = e.b.neg(floor_div(e, i, self.dilation))
            room = e.add(floor_div(e, e.add(room, -1), self.dilation), 1)
        return e.larger(first, 0), e.smaller(room, self.taps)


Levels = tuple[tuple[Value, Value], ...]  # live taps of the axes before the last


def read_axes(e: Emitter, first: int, rank: int) -> list[Axis]:
    """The axes that stand in words `first`, ..."""
    return [
        Axis(*(e.number(first + AXIS_WORDS * d + j) for j in range(AXIS_WORDS)))
        for d in range(rank)
    ]


def place(e: Emitter, s: Value, lanes: int, block: int, size: Value) -> Value:
    """Where vector s of `lanes` channels begins in an image, whose blocks have `size` elements."""
    pieces = block // lanes
    if pieces == 1:
        return e.mul(s, size)
    whole, part = e.b.udiv(s, e.index(pieces)), e.b.urem(s, e.index(pieces))
    return e.add(e.mul(whole, size), e.mul(part, lanes))


def permuted(e: Emitter, x: Value, feature: int, groups: tuple[int, int]) -> Value:
    """Lanes (g, c) -> lanes (g, k): channel c of its group, in every lane."""
    c, k = groups
    if groups == (1, 1):
        return x
    count = lanes_of(x.type)
    if count == 1:
        return e.splat(x, k)
    lanes = [(lane // k) * c + feature for lane in range(count // c * k)]
    return e.b.shuffle_vector(x, x, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


@dataclass(frozen=True)
class LaneConv:
    """One dense phase of a convolution with few channels a group.

    Words: x, w, y; images, vectors of output channels; elements of an image of x and of y, of a
    block of x, of y and of a vector's weights; first element of y; then, per axis, those of `Axis`;
    then the operands.

    Attributes:
        dtype: of x and w.
        rank: number of spatial axes, > 0.
        lanes: output channels of a vector; a multiple of K.
        blocks: of channels in x and y.
        groups: (C, K), the channels of a group.
        cols: outputs of a tile; no line is shorter.
        taps, stride, dilation, step: of the last axis: it has a multiple of `taps` taps, and `step`
            outputs of y between its outputs.
        lhs: (a, m), where outputs o from a multiple of a on see inputs i with
            a * i = stride * o + dilation * t - m: the input gradient of a strided convolution.
        edges: the columns [low, high) inside of the image, of a line's only tile or of its first
            and its last, all others being whole; None: any tile may leave the image anywhere.
        dilated: whether another axis has a dilation.
        uniform: all weights are one number, w[0].
        stream: x and y do not fit in cache: prefetch x, and store y around the cache.
        epilogue: what is done to a sum before it is stored.
    """

    dtype: DType
    rank: int
    lanes: int
    blocks: tuple[int, int]
    groups: tuple[int, int]
    cols: int
    taps: int
    stride: int
    dilation: int
    step: int = 1
    lhs: tuple[int, int] = (1, 0)
    edges: tuple[tuple[int, int], ...] | None = None
    dilated: bool = False
    uniform: bool = False
    stream: bool = False
    epilogue: Epilogue | None = None

    @property
    def name(self) -> str:
        """`grouped2d_f32_4x4_16x14_taps3s1`"""
        c, k = self.groups
        kind = "depthwise" if c == k == 1 else "grouped"
        size = f"{self.lanes}x{self.cols}_taps{self.taps}s{self.stride}"
        return f"{kind}{self.rank}d_{self.dtype.short}_{c}x{k}_{size}"

    def users(self) -> dict[int, list[tuple[int, int]]]:
        """The (output, tap) pairs of a tile that see each input column, through one chunk."""
        a, m = self.lhs
        found: dict[int, list[tuple[int, int]]] = {}
        for q in range(self.cols):
            for t in range(self.taps):
                column, between = divmod(q * self.stride + t * self.dilation - m, a)
                if not between:
                    found.setdefault(column, []).append((q, t))
        return dict(sorted(found.items()))

    @property
    def span(self) -> int:
        """Input columns that a tile's outputs see through one chunk of taps."""
        return max(self.users(), default=0) + 1

    def emit(self, e: Emitter) -> None:
        """A thread's share: rows of outputs."""
        _LaneConv(self, e).emit()


class _LaneConv:
    """Emits a `LaneConv`."""

    def __init__(self, kernel: LaneConv, e: Emitter) -> None:
        self.kernel, self.e = kernel, e
        self.c, self.k = kernel.groups
        self.x, self.w, self.y = (e.pointer(i) for i in range(3))
        self.images, self.count, self.xn, self.yn, self.xb, self.yb, self.wb, self.first = (
            e.number(i) for i in range(3, AXES)
        )
        self.axes = read_axes(e, AXES, kernel.rank)
        self.stored = storage(kernel.dtype)
        self.out = kernel.epilogue.result if kernel.epilogue else kernel.dtype
        self.sum = vector(element(kernel.dtype), kernel.lanes)
        self.operands = None
        if kernel.epilogue:
            first = AXES + AXIS_WORDS * kernel.rank
            pointers = [e.pointer(first + i) for i in range(len(kernel.epilogue.kinds))]
            self.operands = Operands(e, kernel.epilogue, pointers)
        if kernel.uniform:
            weight = e.widen(e.load(self.w, self.stored), kernel.dtype)
            self.weight = e.splat(weight, kernel.lanes)

    def emit(self) -> None:
        """A thread's rows, block after block in the order of memory."""
        e, lanes = self.e, self.kernel.lanes
        lines, chunk = self.axes[0].outputs, self.kernel.cols * CHUNK
        if self.kernel.rank == 1:  # pieces of the only line, the last of which takes the rest
            lines = e.larger(e.b.udiv(lines, e.index(chunk)), 1)
        first, last = e.share(e.mul(e.mul(self.images, self.count), lines))

        def block(b: Value) -> None:
            start = e.mul(b, lines)
            low, high = e.larger(e.b.sub(first, start), 0), e.smaller(e.b.sub(last, start), lines)
            n, s = e.b.udiv(b, self.count), e.b.urem(b, self.count)
            x_lanes = lanes // self.k * self.c
            x = e.add(e.mul(n, self.xn), place(e, s, x_lanes, self.kernel.blocks[0], self.xb))
            y = e.add(e.mul(n, self.yn), place(e, s, lanes, self.kernel.blocks[1], self.yb))
            y, w = e.add(y, self.first), e.mul(s, self.wb)
            self.fixed: list[Value | None] = []
            if self.operands:
                self.fixed = self.operands.at_channel(e.mul(s, lanes), lanes, None)

            def line(i: Value) -> None:
                if self.kernel.rank > 1:
                    self._outer((), i, x, w, y)
                    return
                outputs, begin = self.axes[0].outputs, e.mul(i, chunk)
                is_last = e.b.icmp_signed("==", e.add(i, 1), lines)
                self._line((), begin, e.b.select(is_last, outputs, e.add(begin, chunk)), x, w, y)

            e.each(low, high, line)

        e.each(e.b.udiv(first, lines), e.b.udiv(e.add(last, lines, -1), lines), block)
        if self.kernel.stream:
            e.publish()

    def _outer(self, levels: Levels, o: Value, x: Value, w: Value, y: Value) -> None:
        """Output o of the axis after those of `levels`, and all outputs of the axes after it."""
        e, axis = self.e, self.axes[len(levels)]
        i = e.b.sub(e.mul(axis.stride, o), axis.pad)
        x, y = e.add(x, e.mul(i, axis.x_step)), e.add(y, e.mul(o, axis.y_step))
        levels = (*levels, axis.live(e, i, self.kernel.dilated))
        following = self.axes[len(levels)]
        if len(levels) == self.kernel.rank - 1:
            self._line(levels, e.index(0), following.outputs, x, w, y)
        else:
            e.each(0, following.outputs, lambda o: self._outer(levels, o, x, w, y))

    def _line(
        self, levels: Levels, start: Value, stop: Value, x: Value, w: Value, y: Value
    ) -> None:
        """Outputs [start, stop) of the last axis, in tiles."""
        e, cols = self.e, self.kernel.cols
        latest, edges = e.add(stop, -cols), self.kernel.edges
        if edges is None:
            e.each(start, stop, lambda o: self._tile(levels, e.smaller(o, latest), x, w, y), cols)
            return
        self._tile(levels, e.index(0), x, w, y, edges[0])
        if len(edges) == 2:
            whole = 0, self.kernel.span
            e.each(cols, latest, lambda o: self._tile(levels, o, x, w, y, whole), cols)
            self._tile(levels, latest, x, w, y, edges[1])

    def _tile(
        self,
        levels: Levels,
        o: Value,
        x: Value,
        w: Value,
        y: Value,
        seen: tuple[int, int] | None = None,
    ) -> None:
        """`cols` outputs from o on; `seen`: the columns inside of the image, if that is known."""
        e, kernel, axis = self.e, self.kernel, self.axes[-1]
        a, _ = kernel.lhs
        i = e.b.sub(e.mul(e.b.udiv(o, e.index(a)) if a > 1 else o, kernel.stride), axis.pad)
        x = e.add(x, e.mul(i, kernel.blocks[0]))
        if kernel.stream:
            self._prefetch(levels, x)
        sums = self._taps(levels, seen, 0, i, x, w, [e.const(self.sum, 0)] * kernel.cols)
        step = kernel.step * kernel.blocks[1]
        first = e.add(y, e.mul(o, step))
        for q, total in enumerate(sums):
            at = e.add(first, q * step)
            done = total
            if self.operands:
                done = self.operands.apply(total, self.fixed, at, None)
            stored, place = e.narrow(done, self.out), e.at(self.y, at, storage(self.out))
            whole = kernel.lanes == kernel.blocks[1]
            if kernel.stream and whole:
                e.stream(stored, place)
            else:
                e.store(stored, place, kernel.lanes * self.out.itemsize if whole else None)

    def _prefetch(self, levels: Levels, x: Value) -> None:
        """The lines of memory, AHEAD of this tile, that no tile above has brought."""
        e, kernel = self.e, self.kernel
        itemsize = kernel.dtype.itemsize
        rows = [x]
        if levels:
            axis = self.axes[-2]
            rows = [
                e.add(x, e.mul(e.mul(axis.dilation, e.add(axis.taps, -1 - r)), axis.x_step))
                for r in range(kernel.stride)
            ]
        for row in rows:
            for byte in range(0, kernel.cols * kernel.stride * kernel.blocks[0] * itemsize, 64):
                ahead = (byte + AHEAD) // itemsize
                e.prefetch(e.at(self.x, e.add(row, ahead), self.stored), level=2)

    def _taps(
        self,
        levels: Levels,
        seen: tuple[int, int] | None,
        depth: int,
        i: Value,
        x: Value,
        w: Value,
        sums: list[Value],
    ) -> list[Value]:
        """The sums plus all taps, of the axes from `depth` on."""
        e, axis = self.e, self.axes[depth]
        if depth < len(levels):
            step = e.mul(axis.dilation, axis.x_step)
            return e.loop(
                *levels[depth], 1, sums,
                lambda t, sums: self._taps(
                    levels, seen, depth + 1, i,
                    e.add(x, e.mul(t, step)), e.add(w, e.mul(t, axis.w_step)), sums,
                ),
            )  # fmt: skip
        if seen is not None:
            return self._columns(seen, i, x, w, sums)
        return e.loop(
            0, axis.taps, self.kernel.taps, sums,
            lambda t, sums: self._columns(
                seen, e.add(i, e.mul(t, self.kernel.dilation)),
                e.add(x, e.mul(t, self.kernel.dilation * self.kernel.blocks[0])),
                e.add(w, e.mul(t, self.c * self.kernel.lanes)), sums,
            ),
        )  # fmt: skip

    def _columns(
        self, seen: tuple[int, int] | None, i: Value, x: Value, w: Value, sums: list[Value]
    ) -> list[Value]:
        """The sums plus one chunk of taps of the last axis, whose first tap stands at i."""
        e, kernel, axis = self.e, self.kernel, self.axes[-1]
        users = kernel.users()
        weights = [[self.weight] * self.c for _ in range(kernel.taps)] if kernel.uniform else [
            [self._weight(e.add(w, (t * self.c + f) * kernel.lanes)) for f in range(self.c)]
            for t in range(kernel.taps)
        ]  # fmt: skip

        def columns(together: Sequence[int], sums: list[Value]) -> list[Value]:
            sums = [*sums]
            lanes = []
            for c in together:
                p = e.at(self.x, e.add(x, c * kernel.blocks[0]), self.stored)
                lanes.append(load_element(e, p, kernel.dtype, kernel.lanes // self.k * self.c))
            for f in range(self.c):
                for c, loaded in zip(together, lanes, strict=True):
                    term = permuted(e, loaded, f, kernel.groups)
                    for q, t in users[c]:
                        sums[q] = e.muladd(term, weights[t][f], sums[q])
            return sums

        def whole() -> list[Value]:
            found = sums
            low, high = seen or (0, kernel.span)
            inside = [c for c in users if low <= c < high]
            together = 1 if self.c == 1 else TOGETHER
            for first in range(0, len(inside), together):
                found = columns(inside[first : first + together], found)
            return found

        def border() -> list[Value]:
            found = [*sums]
            for c in users:
                mine = sorted({q for q, _ in users[c]})
                present = e.b.icmp_unsigned("<", e.add(i, c), axis.inputs)

                def then(c: int = c, mine: list[int] = mine) -> list[Value]:
                    new = columns((c,), found)
                    return [new[q] for q in mine]

                def otherwise(mine: list[int] = mine) -> list[Value]:
                    return [found[q] for q in mine]

                for q, value in zip(mine, e.choose(present, then, otherwise), strict=True):
                    found[q] = value
            return found

        if seen is not None:
            return whole()
        inside = e.b.and_(
            e.b.icmp_signed(">=", i, e.index(0)),
            e.b.icmp_signed("<", e.add(i, kernel.span - 1), axis.inputs),
        )
        return e.choose(inside, whole, border)

    def _weight(self, at: Value) -> Value:
        p = self.e.at(self.w, at, self.stored)
        return load_element(self.e, p, self.kernel.dtype, self.kernel.lanes)
