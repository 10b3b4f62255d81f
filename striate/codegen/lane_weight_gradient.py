"""Weight gradients with few channels a group: the lanes of `lane_conv`, summed over images.

    dw[tap, c, lanes (g, k)] = sum over n, o of x[lanes (g, c)], permuted, * g[lanes (g, k)]

Registers hold the sums of `rows` x `taps` taps of the last two axes (and all c) while a part of the
images passes; a tile of `cols` cotangents is loaded once for all of them, and each input column of
a row once for the taps that it meets. Parts are a matter of shape, never of threads: they are
stored one after another, and a second step adds them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from striate.codegen.elements import load_element
from striate.codegen.emitter import Emitter, Value, element, lanes_of, storage, vector
from striate.codegen.lane_conv import permuted, place, read_axes
from striate.codegen.phases import pieces, unravel
from striate.dtype import DType

AXES = 12  # the first word of the axes

Tile = tuple[int, int, int]  # outputs, and the columns [low, high) inside of the image


@dataclass(frozen=True)
class LaneWeightGradient:
    """Sums of every part: [parts, vectors, *W, C, lanes], in the dtype of computation.

    Words: x, g, sums; images, vectors of output channels, parts; elements of an image of x and of
    g, of a block of x and of g, of a vector's and of a part's sums; then, per axis, those of
    `lane_conv.Axis`, where `w` is sums and `y` is g.

    Attributes:
        dtype: of x and g.
        rank: number of spatial axes, > 0.
        lanes: output channels of a vector; a multiple of K.
        blocks: of channels in x and g.
        groups: (C, K), the channels of a group.
        rows, taps: of the window's last two axes, summed together; the last axis has a multiple.
        cols: outputs of a tile.
        stride, dilation: of the last axis.
        edges: the only tile of a line, or its first and its last, all others being whole; None: a
            tile may leave the image anywhere, and what is left of a line is done one by one.
    """

    dtype: DType
    rank: int
    lanes: int
    blocks: tuple[int, int]
    groups: tuple[int, int]
    rows: int
    taps: int
    cols: int
    stride: int
    dilation: int
    edges: tuple[Tile, ...] | None = None

    @property
    def name(self) -> str:
        """`grouped2d_gradient_f32_4x4_16x14_taps1x3s1`"""
        c, k = self.groups
        kind = "depthwise" if c == k == 1 else "grouped"
        size = f"{self.lanes}x{self.cols}_taps{self.rows}x{self.taps}s{self.stride}"
        return f"{kind}{self.rank}d_gradient_{self.dtype.short}_{c}x{k}_{size}"

    def emit(self, e: Emitter) -> None:
        """A thread's share: sums of some taps, over a part, of a vector of channels."""
        _Gradient(self, e).emit()


@dataclass(frozen=True)
class _Pass:
    """What one pass over a part is about.

    Attributes:
        low, high: its lines: places of (image, output of the first axis).
        taps: the tap of each axis; for the last two, the first one.
    """

    low: Value
    high: Value
    taps: tuple[Value, ...]


class _Gradient:
    """Emits a `LaneWeightGradient`."""

    def __init__(self, kernel: LaneWeightGradient, e: Emitter) -> None:
        self.kernel, self.e = kernel, e
        self.c, self.k = kernel.groups
        self.x, self.g, self.sums = (e.pointer(i) for i in range(3))
        self.images, self.vectors, self.parts = (e.number(i) for i in range(3, 6))
        self.xn, self.gn, self.xb, self.gb, self.vector, self.part = (
            e.number(i) for i in range(6, AXES)
        )
        self.axes = read_axes(e, AXES, kernel.rank)
        self.stored = storage(kernel.dtype)
        self.sum = vector(element(kernel.dtype), kernel.lanes)
        self.lines = self.axes[0].outputs if kernel.rank > 1 else e.index(1)

    def emit(self) -> None:
        """One piece of work: some taps of one vector of channels, over one part."""
        e, kernel = self.e, self.kernel
        counts = [axis.taps for axis in self.axes]
        counts[-1] = pieces(e, counts[-1], kernel.taps)
        if kernel.rank > 1:
            counts[-2] = pieces(e, counts[-2], kernel.rows)
        shape = [self.parts, self.vectors, *counts]
        total = e.index(1)
        for n in shape:
            total = e.mul(total, n)
        e.each(*e.share(total), lambda i: self._piece(*unravel(e, i, shape)))

    def _piece(self, p: Value, s: Value, *groups: Value) -> None:
        e, kernel = self.e, self.kernel
        lines = e.mul(self.images, self.lines)
        low, high = (e.b.udiv(e.mul(lines, q), self.parts) for q in (p, e.add(p, 1)))
        taps = [*groups]
        taps[-1] = e.mul(taps[-1], kernel.taps)
        if kernel.rank > 1:  # the last group of rows moves up until it fits
            latest = e.add(self.axes[-2].taps, -kernel.rows)
            taps[-2] = e.smaller(e.mul(taps[-2], kernel.rows), latest)
        work = _Pass(low, high, tuple(taps))
        x = place(e, s, kernel.lanes // self.k * self.c, kernel.blocks[0], self.xb)
        g = place(e, s, kernel.lanes, kernel.blocks[1], self.gb)
        sums = [e.const(self.sum, 0)] * (kernel.rows * kernel.taps * self.c)

        def image(n: Value, sums: list[Value]) -> list[Value]:
            first = e.mul(n, self.lines)
            start = e.larger(e.b.sub(low, first), 0)
            stop = e.smaller(e.b.sub(high, first), self.lines)
            xi, gi = e.add(x, e.mul(n, self.xn)), e.add(g, e.mul(n, self.gn))
            if kernel.rank == 1:
                return self._line(work, None, xi, gi, sums)
            return self._outer(work, 0, start, stop, xi, gi, sums)

        end = e.b.udiv(e.add(high, self.lines, -1), self.lines)
        sums = e.loop(e.b.udiv(low, self.lines), end, 1, sums, image)
        at = e.add(e.mul(p, self.part), e.mul(s, self.vector))
        at = e.add(at, *(e.mul(t, a.w_step) for t, a in zip(taps, self.axes, strict=True)))
        one = self.sum.element if lanes_of(self.sum) > 1 else self.sum
        for j, total in enumerate(sums):
            r, within = divmod(j, kernel.taps * self.c)
            offset = e.add(at, within * kernel.lanes)
            if r:
                offset = e.add(offset, e.mul(self.axes[-2].w_step, r))
            e.store(total, e.at(self.sums, offset, one))

    def _outer(
        self,
        work: _Pass,
        depth: int,
        start: Value,
        stop: Value,
        x: Value,
        g: Value,
        sums: list[Value],
    ) -> list[Value]:
        """The sums plus outputs [start, stop) of an axis before the last."""
        e, axis = self.e, self.axes[depth]

        def output(o: Value, sums: list[Value]) -> list[Value]:
            i = e.b.sub(
                e.add(e.mul(axis.stride, o), e.mul(axis.dilation, work.taps[depth])), axis.pad
            )
            xo, go = e.add(x, e.mul(i, axis.x_step)), e.add(g, e.mul(o, axis.y_step))
            if depth == self.kernel.rank - 2:
                return self._line(work, i, xo, go, sums)
            inner = self.axes[depth + 1].outputs
            return e.choose(
                e.b.icmp_unsigned("<", i, axis.inputs),
                lambda: self._outer(work, depth + 1, e.index(0), inner, xo, go, sums),
                lambda: sums,
            )

        return e.loop(start, stop, 1, sums, output)

    def _line(
        self, work: _Pass, row: Value | None, x: Value, g: Value, sums: list[Value]
    ) -> list[Value]:
        """The sums plus one line of outputs, whose first row of taps stands at input `row`."""
        e, kernel, outputs = self.e, self.kernel, self.axes[-1].outputs
        cols, edges = kernel.cols, kernel.edges

        def tile(o: Value, sums: list[Value], count: int, seen: Tile | None) -> list[Value]:
            return self._tile(work, row, o, x, g, sums, count, seen)

        if edges is None:
            rest = e.b.sub(outputs, e.b.urem(outputs, e.index(cols)))
            sums = e.loop(0, rest, cols, sums, lambda o, s: tile(o, s, cols, None))
            return e.loop(rest, outputs, 1, sums, lambda o, s: tile(o, s, 1, None))
        sums = tile(e.index(0), sums, edges[0][0], edges[0])
        if len(edges) == 1:
            return sums
        last = e.add(outputs, -edges[1][0])
        whole = cols, 0, self._span(cols)
        sums = e.loop(cols, last, cols, sums, lambda o, s: tile(o, s, cols, whole))
        return tile(last, sums, edges[1][0], edges[1])

    def _span(self, cols: int) -> int:
        return (cols - 1) * self.kernel.stride + (self.kernel.taps - 1) * self.kernel.dilation + 1

    def _tile(
        self,
        work: _Pass,
        row: Value | None,
        o: Value,
        x: Value,
        g: Value,
        sums: list[Value],
        count: int,
        seen: Tile | None,
    ) -> list[Value]:
        """The sums plus `count` outputs from o on."""
        e, kernel, axis = self.e, self.kernel, self.axes[-1]
        block = kernel.blocks[1]
        i = e.b.sub(e.mul(o, kernel.stride), axis.pad)
        if seen is None:
            i = e.add(i, e.mul(work.taps[-1], kernel.dilation))
        x, g = e.add(x, e.mul(i, kernel.blocks[0])), e.add(g, e.mul(o, block))
        gs = [self._load(self.g, e.add(g, q * block), kernel.lanes) for q in range(count)]
        size = kernel.taps * self.c
        found: list[Value] = []
        for r in range(kernel.rows):
            mine, xr = sums[r * size : (r + 1) * size], x
            if row is None:
                found += self._row(i, xr, gs, mine, seen)
                continue
            up = self.axes[-2]
            if r:
                xr = e.add(x, e.mul(e.mul(up.dilation, r), up.x_step))
            found += e.choose(
                e.b.icmp_unsigned("<", e.add(row, e.mul(up.dilation, r)), up.inputs),
                partial(self._row, i, xr, gs, mine, seen),
                partial(list, mine),
            )
        return found

    def _row(
        self, i: Value, x: Value, gs: list[Value], sums: list[Value], seen: Tile | None
    ) -> list[Value]:
        """The sums of one row of taps plus a tile of outputs, whose first tap stands at i."""
        e, kernel = self.e, self.kernel
        users: dict[int, list[tuple[int, int]]] = {}  # column -> (output, tap)
        for q in range(len(gs)):
            for t in range(kernel.taps):
                users.setdefault(q * kernel.stride + t * kernel.dilation, []).append((q, t))

        def column(c: int, sums: list[Value]) -> list[Value]:
            sums = [*sums]
            lanes = self._load(
                self.x, e.add(x, c * kernel.blocks[0]), kernel.lanes // self.k * self.c
            )
            for f in range(self.c):
                term = permuted(e, lanes, f, kernel.groups)
                for q, t in users[c]:
                    sums[t * self.c + f] = e.muladd(term, gs[q], sums[t * self.c + f])
            return sums

        for c in sorted(users):
            if seen is not None:
                sums = column(c, sums) if seen[1] <= c < seen[2] else sums
            else:
                present = e.b.icmp_unsigned("<", e.add(i, c), self.axes[-1].inputs)
                sums = e.choose(present, partial(column, c, sums), partial(list, sums))
        return sums

    def _load(self, base: Value, at: Value, lanes: int) -> Value:
        return load_element(self.e, self.e.at(base, at, self.stored), self.kernel.dtype, lanes)
