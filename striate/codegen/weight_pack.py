"""Packing of weights: w[G, K, C, *W] at any strides -> [group][panel][block][tap][c][NR*V].

A row is a (block, tap, c), its columns are the features of a panel; zeros stand where there is no
channel. A piece of work is a chunk of channels of one panel. How it is read depends on what is
contiguous in memory:

    features    NR loads of V neighbours per row
    lines       V neighbouring rows of V features each, transposed in registers
    gather      else

One flag per piece records whether a weight is not finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from striate.codegen.dense_plan import Channels
from striate.codegen.emitter import I64, Emitter, Value, element, storage, vector
from striate.codegen.epilogue import load_lanes
from striate.codegen.transposition import transposed
from striate.codegen.words import Words
from striate.dtype import DType

Mode = Literal["features", "lines", "gather"]
CHUNK = 1024  # rows of a piece of work, about
GAP = 3  # elements of a line that may be skipped at once
SUMS = 4  # chains of additions that look for what is not finite


@dataclass(frozen=True, slots=True)
class Rows:
    """A chunk of channels, the same for every panel.

    Attributes:
        mode: how it is read.
        chunks: how many there are in a group.
        count: rows of a chunk.
        channels: channels of a chunk.
        sources: per row, its element from the chunk's first, or None for zeros.
        starts, sizes: per line, its first element and the number of elements.
        length: elements of the longest line, rounded up to whole vectors.
        targets: per line and element, the row, or -1.
    """

    mode: Mode
    chunks: int
    count: int
    channels: int
    sources: tuple[int | None, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    length: int
    targets: tuple[int, ...]

    @property
    def padded(self) -> bool:
        """Whether there are rows of zeros."""
        return None in self.sources


@lru_cache(maxsize=256)
def rows_of(
    channels: Channels,
    x_block: int,
    taps: tuple[int | None, ...],
    channel_step: int,
    feature_step: int,
    lanes: int,
) -> Rows:
    """How to read the weights of a group; `taps` are offsets in elements, None for zeros."""
    blocks, size, subs = channels.blocks, channels.size, channels.subs
    per_block = subs * size * len(taps)
    fits = [d for d in range(1, 65) if blocks % d == 0 and d * per_block <= CHUNK]
    merged = max(fits, default=1)
    sources: list[int | None] = [None] * (merged * per_block)
    for c in range(merged * x_block):
        block, within = divmod(c, x_block)
        sub, lane = divmod(within, size)
        for t, tap in enumerate(taps):
            if tap is None:
                continue
            row = ((block * subs + sub) * len(taps) + t) * size + lane
            sources[row] = c * channel_step + tap
    lines: list[list[tuple[int, int]]] = []
    for at, row in sorted((at, row) for row, at in enumerate(sources) if at is not None):
        if lines and 0 < at - lines[-1][-1][0] <= GAP:
            lines[-1].append((at, row))
        else:
            lines.append([(at, row)])
    sizes = tuple(line[-1][0] - line[0][0] + 1 for line in lines)
    length = -(-max(sizes) // lanes) * lanes
    targets = [-1] * (len(lines) * length)
    for i, line in enumerate(lines):
        for at, row in line:
            targets[i * length + at - line[0][0]] = row
    mode: Mode = "gather"
    if feature_step == 1:
        mode = "features"
    elif 4 * len(sources) >= sum(-(-s // lanes) * lanes for s in sizes):
        mode = "lines"
    return Rows(
        mode,
        blocks // merged,
        len(sources),
        merged * x_block,
        tuple(sources),
        tuple(line[0][0] for line in lines),
        sizes,
        length,
        tuple(targets),
    )


_COMMON = (
    "w out flags groups panels chunks vectors features rows group_step vector_step feature_step "
    "chunk_step"
)
_OWN = {"features": "sources", "gather": "sources", "lines": "lines starts sizes length targets"}
NO_SOURCE = -(1 << 63)


@dataclass(frozen=True)
class WeightPack:
    """One piece of work per (group, panel, chunk).

    Attributes:
        dtype: of w; bfloat16 is widened to float32.
        mode: how chunks are read.
        padded: whether there are rows of zeros.
    """

    dtype: DType
    mode: Mode
    padded: bool

    @property
    def name(self) -> str:
        """`pack_weights_f32_lines`"""
        return f"pack_weights_{self.dtype.short}_{self.mode}"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        return (*_COMMON.split(), *_OWN[self.mode].split())

    def emit(self, e: Emitter) -> None:
        """The whole kernel."""
        n = Words(e, self.words)
        chunks, panels = n.number("chunks"), n.number("panels")
        first, last = e.share(e.mul(e.mul(n.number("groups"), panels), chunks))
        e.each(first, last, lambda item: Piece(e, self, n, item).emit())


class Piece:
    """The emission of one piece of work."""

    def __init__(self, e: Emitter, kernel: WeightPack, n: Words, item: Value) -> None:
        self.e, self.k, self.n, self.item = e, kernel, n, item
        self.scalar, self.stored = element(kernel.dtype), storage(kernel.dtype)
        self.lanes = e.target.vector_bytes * 8 // (64 if kernel.dtype.bits == 64 else 32)
        self.wide = vector(self.scalar, self.lanes)
        chunks, panels = n.number("chunks"), n.number("panels")
        self.step, self.width = n.number("feature_step"), e.mul(n.number("vectors"), self.lanes)
        above, chunk = e.b.udiv(item, chunks), e.b.urem(item, chunks)
        group, panel = e.b.udiv(above, panels), e.b.urem(above, panels)
        self.first = e.mul(panel, self.width)
        self.source = e.add(
            e.mul(group, n.number("group_step")),
            e.mul(e.mul(panel, n.number("vectors")), n.number("vector_step")),
            e.mul(chunk, n.number("chunk_step")),
        )
        self.out = e.at(
            n.pointer("out"), e.mul(item, e.mul(n.number("rows"), self.width)), self.scalar
        )

    def emit(self) -> None:
        """Pack the chunk and set its flag."""
        e, k, n = self.e, self.k, self.n
        if k.mode == "lines" and k.padded:
            zero = e.const(self.wide, 0)
            e.each(0, e.mul(n.number("rows"), self.width), lambda i: self.put(zero, i), self.lanes)
        read = self.line if k.mode == "lines" else self.row
        count = n.number("lines" if k.mode == "lines" else "rows")
        sums = [e.const(self.wide, 0)] * SUMS
        sums = e.loop(
            0,
            n.number("vectors"),
            1,
            sums,
            lambda j, sums: e.loop(0, count, 1, sums, lambda i, sums: read(i, j, sums)),
        )
        total = sums[0]
        for other in sums[1:]:
            total = e.b.fadd(total, other)
        bits = e.b.sext(e.b.fcmp_unordered("uno", total, total), vector(I64, self.lanes))
        flag = e.intrinsic(f"llvm.vector.reduce.or.v{self.lanes}i64", I64, bits)
        e.store(flag, e.at(n.pointer("flags"), self.item, I64))

    def put(self, value: Value, at: Value) -> None:
        """Store a vector at an element of the packed chunk."""
        self.e.store(value, self.e.at(self.out, at, self.scalar), self.e.target.vector_bytes)

    def seen(self, value: Value, total: Value) -> Value:
        """`total`, or NaN in the lanes in which the value is not finite."""
        return self.e.muladd(value, self.e.const(self.wide, 0), total)

    def left(self, j: Value) -> Value:
        """The number of features from vector j of the panel on."""
        e = self.e
        return e.b.sub(self.n.number("features"), e.add(self.first, e.mul(j, self.lanes)))

    def row(self, i: Value, j: Value, sums: list[Value]) -> list[Value]:
        """Vector j of row i: neighbours or gathered."""
        e, k = self.e, self.k
        at = e.load(e.at(self.n.pointer("sources"), i, I64), I64)
        mask = e.first_lanes(self.left(j), self.lanes)
        place = e.add(self.source, e.mul(j, self.n.number("vector_step")), at)

        def read() -> list[Value]:
            p = e.at(self.n.pointer("w"), place, self.stored)
            if k.mode == "features":
                return [load_lanes(e, p, k.dtype, self.lanes, mask)]
            stored = vector(self.stored, self.lanes)
            return [e.widen(e.gather(p, self.step, mask, stored), k.dtype)]

        if k.padded:
            there = e.b.icmp_signed("!=", at, e.index(NO_SOURCE))
            value = e.choose(there, read, lambda: [e.const(self.wide, 0)])[0]
        else:
            value = read()[0]
        self.put(value, e.add(e.mul(i, self.width), e.mul(j, self.lanes)))
        return [*sums[1:], self.seen(value, sums[0])]

    def line(self, i: Value, j: Value, sums: list[Value]) -> list[Value]:
        """Vector j of all rows of line i."""
        e, n, v = self.e, self.n, self.lanes
        start = e.load(e.at(n.pointer("starts"), i, I64), I64)
        size = e.load(e.at(n.pointer("sizes"), i, I64), I64)
        left, length = self.left(j), n.number("length")
        source = e.add(self.source, e.mul(j, n.number("vector_step")), start)

        def square(at: Value, sums: list[Value]) -> list[Value]:
            rows, sums = [], [*sums]
            there = e.first_lanes(e.b.sub(size, at), v)
            nothing = e.const(there.type, 0)
            for f in range(v):
                p = e.at(n.pointer("w"), e.add(source, e.mul(self.step, f), at), self.stored)
                known = e.b.icmp_signed(">", left, e.index(f))
                mask = e.b.select(known, there, nothing)
                rows.append(load_lanes(e, p, self.k.dtype, v, mask))
                sums[f % SUMS] = self.seen(rows[f], sums[f % SUMS])
            targets = e.at(n.pointer("targets"), e.add(e.mul(i, length), at), I64)
            for r, value in enumerate(transposed(e, rows)):
                row = e.load(e.at(targets, r, I64), I64)
                with e.when(e.b.icmp_signed(">=", row, e.index(0))):
                    self.put(value, e.add(e.mul(row, self.width), e.mul(j, v)))
            return sums

        return e.loop(0, size, v, sums, square)
