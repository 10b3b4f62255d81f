"""Winograd's products for a few tiles: transformed weights go from registers into sums.

Where a weight meets one to four tiles only, as in the last layers at batch one, to write U and to
read it costs more than to use it. So for one vector of features a row of slots (all along the last
axis) at a time has its sums of all tiles in registers, and U's row is made anew for each channel
from the taps, which some channels at a time are in L1: the same numbers as in U.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from striate.codegen.emitter import F32, Emitter, Value, vector
from striate.codegen.linear_map import linear_map, mapped_rows
from striate.codegen.winograd_algebra import Algorithm
from striate.codegen.winograd_tiles import slot_number
from striate.codegen.words import Words

SPARE = 7  # registers for a row of U while it is made
MOST_ROWS = 8


@dataclass(frozen=True, slots=True)
class FewTiles:
    """How many tiles there are.

    Attributes:
        shorts: the axes that have short tiles.
        ranges: the (first, stop) tiles that have the last slot of a set of them, sets as bits.
    """

    shorts: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, images: int, long: Sequence[int], short: Sequence[int]) -> FewTiles:
        """For so many long and short tiles along each axis, in the order of `winograd_tiles`."""
        shorts = tuple(j for j, n in enumerate(short) if n)
        count = 1 << len(shorts)
        codes = [i ^ (i >> 1) for i in ((k - 1) % count for k in range(count))]
        ends = [0]
        for code in codes:
            sizes = [
                short[j] if j in shorts and code >> shorts.index(j) & 1 else n
                for j, n in enumerate(long)
            ]
            ends.append(ends[-1] + images * prod(sizes))
        found = []
        for bits in range(count):
            have = [k for k, code in enumerate(codes) if not code & bits]
            found.append((ends[have[0]], ends[have[-1] + 1]))
        return cls(shorts, tuple(found))

    @property
    def count(self) -> int:
        """All tiles."""
        return self.ranges[0][1]

    def tiles(self, where: Sequence[int], slots: Sequence[int]) -> range:
        """The tiles that have a slot."""
        bits = sum(1 << i for i, j in enumerate(self.shorts) if where[j] == slots[j] - 1)
        return range(*self.ranges[bits])


def few_products(
    e: Emitter,
    n: Words,
    algorithms: Sequence[Algorithm],
    few: FewTiles,
    v: Value,
    w: Value,
    m: Value,
) -> None:
    """M of one vector of features, from `w`, its [block][tap][c][V], and `v`: all slots and tiles.

    The words are those of `winograd_kernel`.
    """
    lanes, align = e.target.lanes(32), e.target.vector_bytes
    wide = vector(F32, lanes)
    blocks, chunk = n.number("channel_blocks"), n.number("chunk")
    taps, slots = [a.taps for a in algorithms], [a.products for a in algorithms]
    matrices = [a.weights() for a in algorithms]
    size = prod(taps) * lanes  # vectors of a block
    rows = list(product(*(range(s) for s in slots[:-1])))
    fetched = -(-prod(taps) // len(rows))  # per row and channel, of the block a chunk later

    def combined(row: Sequence[int], weights: list[Value]) -> list[Value]:
        """[last taps] of the taps of a channel, along the other axes at the points of a row."""
        for matrix, i in zip(matrices, row, strict=False):
            rest = len(weights) // len(matrix[0])
            weights = [linear_map(e, matrix, weights[j::rest])[i] for j in range(rest)]
        return weights

    def one_row(number: int, row: Sequence[int], first: Value, last: Value) -> None:
        tiles = [few.tiles([*row, b], slots) for b in range(slots[-1])]
        starts = [sum(map(len, tiles[:b])) for b in range(slots[-1])]
        at = [slot_number(e, slots, [*row, b]) for b in range(slots[-1])]
        sources = [e.at(v, e.mul(s, n.number("x_slot")), F32) for s in at]
        targets = [e.at(m, e.mul(s, n.number("m_slot")), F32) for s in at]
        places = [e.at(p, t * lanes, F32) for p, ts in zip(targets, tiles, strict=True) for t in ts]

        def block(c: Value, sums: list[Value]) -> list[Value]:
            weights = e.at(w, e.mul(c, size), wide)
            ahead = e.at(weights, e.add(e.mul(chunk, size), number * fetched * lanes), wide)
            columns = [e.at(s, e.mul(c, n.number("x_row")), F32) for s in sources]

            def channel(i: Value, sums: list[Value]) -> list[Value]:
                for k in range(fetched):
                    e.prefetch(e.at(ahead, e.add(i, k * lanes), wide), 2)
                here = [e.at(weights, e.add(i, k * lanes), wide) for k in range(prod(taps))]
                points = combined(row, [e.load(p, wide, align) for p in here])
                sums = list(sums)
                for b, u in mapped_rows(e, matrices[-1], points):
                    for k, t in enumerate(tiles[b], starts[b]):
                        x = e.load(e.at(columns[b], e.add(i, t * lanes), F32), F32)
                        sums[k] = e.muladd(e.splat(x, lanes), u, sums[k])
                return sums

            return e.loop(0, lanes, 1, sums, channel)

        sums = e.choose(
            e.b.icmp_signed("==", first, e.index(0)),
            lambda: [e.const(wide, 0)] * len(places),
            lambda: [e.load(p, wide, align) for p in places],
        )
        for value, place in zip(e.loop(first, last, 1, sums, block), places, strict=True):
            e.store(value, place, align)

    def some(first: Value) -> None:
        last = e.smaller(e.add(first, chunk), blocks)
        for number, row in enumerate(rows):
            one_row(number, row, first, last)

    e.each(0, blocks, some, chunk)
