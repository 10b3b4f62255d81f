"""The tiles of a block, and their transforms: what Winograd kernels share.

Outputs of a tile may be apart, and elements of x, as `winograd_axes` says; and x may have several
classes of taps, each with its own elements for a tile.

A block is a box of images and of tiles along each axis. Its tiles are numbered class by class, a
class being a choice of long or short along each axis that has short tiles: in an order in which
those that are long along an axis follow one another, since they alone have its last slot. (For
three such axes that is so for two runs of them, not for one: see `Tiling.runs`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from striate.codegen.emitter import F32, I64, Emitter, Index, Value, vector
from striate.codegen.separable import Line, nest, scratch_vectors, separable
from striate.codegen.winograd_algebra import Matrix
from striate.codegen.words import Words

BOX_WORDS = ("images", "image_blocks")
BOX_AXIS_WORDS = ("long", "tiles", "blocks", "starts")


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


class Tiling:
    """How outputs are cut into tiles; the words `starts` have the first output of each tile.

    Args:
        e: the emitter.
        n: words, among them `BOX_WORDS` and, per axis j, `BOX_AXIS_WORDS` with j.
        short: per axis, whether there are short tiles.
    """

    def __init__(self, e: Emitter, n: Words, short: Sequence[bool]) -> None:
        self.e, self.n = e, n
        self.rank = len(short)
        self.shorts = [j for j in range(self.rank) if short[j]]

    def blocks(self) -> Value:
        """The number of blocks."""
        e, blocks = self.e, self.n.number("image_blocks")
        for j in range(self.rank):
            blocks = e.mul(blocks, self.n.number(f"blocks{j}"))
        return blocks

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
            if j in self.shorts:
                middle = e.larger(e.smaller(n.number(f"long{j}"), stop), start)
            firsts.append(start)
            long.append(e.b.sub(middle, start))
            short.append(e.b.sub(stop, middle))
        image, end = part(n.number("images"), n.number("image_blocks"))
        return Box(image, e.b.sub(end, image), firsts[::-1], long[::-1], short[::-1])

    def each(self, box: Box, body: Callable[[Tile], object]) -> None:
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
                    at = e.at(n.pointer(f"starts{j}"), e.add(starts[j], place), I64)
                    outs.append(e.load(at, I64))
                body(Tile(carried[0], e.add(box.image, image), outs, flags))
                return [e.add(carried[0], 1)]

            return nest(e, [box.images, *counts], carried, tile)

        e.loop(0, count, 1, [e.index(0)], one_class)

    def _classes(self) -> list[dict[int, int]]:
        """{axis: 1 if short} of each class, in order: a Gray code."""
        count = 1 << len(self.shorts)
        codes = [(i ^ (i >> 1)) for i in ((k - 1) % count for k in range(count))]
        return [{j: code >> bit & 1 for bit, j in enumerate(self.shorts)} for code in codes]

    def runs(self, box: Box) -> list[list[tuple[Value, Value]]]:
        """(first, last + 1) tile for each set of short axes whose last slot is wanted, the sets as
        bits: once, or where there are three short axes twice, of which the second may be empty.
        """
        e, classes = self.e, self._classes()
        ends = [e.index(0)]
        for one in classes:
            size = box.images
            for j in range(self.rank):
                size = e.mul(size, box.short[j] if one.get(j) else box.long[j])
            ends.append(e.add(ends[-1], size))
        found: list[list[tuple[Value, Value]]] = [[] for _ in range(1 + (len(self.shorts) > 2))]
        for bits in range(1 << len(self.shorts)):
            asked = [j for bit, j in enumerate(self.shorts) if bits >> bit & 1]
            have = [i for i, one in enumerate(classes) if not any(one[j] for j in asked)]
            starts = [i for i in have if i - 1 not in have]
            stops = [i + 1 for i in have if i + 1 not in have]
            for r, run in enumerate(found):
                start, stop = (starts[r], stops[r]) if r < len(starts) else (stops[-1], stops[-1])
                run.append((ends[start], ends[stop]))
        return found

    def ranges(self, box: Box) -> list[tuple[Value, Value]]:
        """The runs as one: where they are two, with tiles between them that have no such slot."""
        return [(run[0][0], run[-1][1]) for run in zip(*self.runs(box), strict=True)]

    def with_slot(
        self, ranges: list[tuple[Value, Value]], where: Sequence[Index], slots: Sequence[int]
    ) -> tuple[Value, Value]:
        """The range of the tiles that have a slot."""
        e = self.e
        for j in reversed(self.shorts):
            last = e.b.icmp_signed("==", where[j], e.index(slots[j] - 1))
            half = len(ranges) // 2
            ranges = [
                (e.b.select(last, b[0], a[0]), e.b.select(last, b[1], a[1]))
                for a, b in zip(ranges[:half], ranges[half:], strict=True)
            ]
        ((first, end),) = ranges
        return first, end


@dataclass(frozen=True, slots=True)
class Shape:
    """What is read of a tile along one axis, and what becomes of it.

    Attributes:
        matrix, short: [slots][elements], of a long and of a short tile (None if there are none).
    """

    matrix: Matrix
    short: Matrix | None


SOURCE_WORDS = ("image", "plane")
SOURCE_AXIS_WORDS = ("size", "step", "stride", "gap", "shifts")


class TileTransform:
    """Tiles of an operand, transformed: operand [N, blocks, *I, V] -> area [slot][block][tile][V].

    Args:
        e: the emitter.
        n: words, among them the operand, NAME_ + `SOURCE_WORDS`, and per axis j
            NAME_ + `SOURCE_AXIS_WORDS` + j: its size, positions between neighbours, steps from one
            output's element to the next's, steps between elements of a tile, and per class where
            the element of output 0 stands; `NAME_slot` and `NAME_row`, elements between slots and
            between blocks of the area.
        name: of the operand.
        shapes: per axis.
        area: where the result goes.
        zero: the address of a vector of zeros, for what is outside.
        edge: scratch, for so many vectors as `edge_vectors` says.
    """

    def __init__(
        self,
        e: Emitter,
        n: Words,
        name: str,
        shapes: Sequence[Shape],
        area: Value,
        zero: Value,
        edge: Value,
    ) -> None:
        self.e, self.n, self.name, self.shapes, self.area = e, n, name, shapes, area
        self.lanes = e.target.lanes(32)
        self.wide = vector(F32, self.lanes)
        self.sizes = [len(s.matrix[0]) for s in shapes]
        self.slots = [len(s.matrix) for s in shapes]
        self.zero, self.edge = zero, edge
        self.lines = e.at(edge, prod(self.sizes), self.wide)

    def word(self, name: str) -> Value:
        """A word of this operand."""
        return self.n.number(f"{self.name}_{name}")

    def shift(self, j: int, of: Index) -> Value:
        """Where the element of output 0 stands along an axis, in a class of taps."""
        return self.e.load(self.e.at(self.n.pointer(f"{self.name}_shifts{j}"), of, I64), I64)

    def block(self, c: Value, of: Index, tile: Tile, row: Value) -> None:
        """Block c of channels of one tile, for a class; `row` is its number in the area."""
        e = self.e
        extents = [
            e.index(size) if s.short is None else e.b.select(flag, e.index(size - 1), e.index(size))
            for size, s, flag in zip(self.sizes, self.shapes, tile.short, strict=True)
        ]
        rank = range(len(self.sizes))
        starts = [
            e.add(e.mul(o, self.word(f"stride{j}")), self.shift(j, of))
            for j, o in enumerate(tile.starts)
        ]
        offset = e.add(e.mul(tile.image, self.word("image")), e.mul(c, self.word("plane")))
        gaps = [self.word(f"gap{j}") for j in rank]
        steps = [e.mul(self.word(f"step{j}"), gaps[j]) for j in rank]
        inside = e.b.icmp_unsigned("==", e.index(0), e.index(0))
        for j, start in enumerate(starts):
            end = e.add(start, e.mul(e.add(extents[j], -1), gaps[j]))
            low = e.b.icmp_signed(">=", start, e.index(0))
            high = e.b.icmp_signed("<", end, self.word(f"size{j}"))
            inside = e.b.and_(inside, e.b.and_(low, high))
            offset = e.add(offset, e.mul(e.mul(start, self.word(f"step{j}")), self.lanes))
        x = e.at(self.n.pointer(self.name), offset, F32)

        pitches = [prod(self.sizes[j + 1 :]) for j in rank]

        def copy() -> list[Value]:
            self.copy(x, starts, gaps, steps, pitches)
            return [self.edge, *map(e.index, pitches)]

        source, *steps = e.choose(inside, lambda: [x, *steps], copy)
        target = e.at(
            self.area, e.add(e.mul(row, self.word("row")), e.mul(tile.number, self.lanes)), F32
        )

        def put(where: list[Index], values: list[Value], _: list[Value]) -> list[Value]:
            for i, value in enumerate(values):
                slot = e.mul(slot_number(e, self.slots, [*where, i]), self.word("slot"))
                e.store(value, e.at(target, slot, F32), e.target.vector_bytes)
            return []

        lines = [Line(s.matrix, s.short, f) for s, f in zip(self.shapes, tile.short, strict=True)]
        separable(e, lines, source, steps, self.lines, self.wide, put)

    def copy(
        self,
        x: Value,
        starts: Sequence[Value],
        gaps: Sequence[Value],
        steps: Sequence[Index],
        pitches: Sequence[int],
    ) -> None:
        """A tile that is partly outside, with zeros there."""
        e = self.e

        def inner(j: int, i: Index) -> Value:
            return e.b.icmp_unsigned(
                "<", e.add(starts[j], e.mul(i, gaps[j])), self.word(f"size{j}")
            )

        def line(where: list[Index], _: list[Value]) -> list[Value]:
            seen = e.b.icmp_unsigned("==", e.index(0), e.index(0))
            for j, i in enumerate(where):
                seen = e.b.and_(seen, inner(j, i))
            source = e.add(0, *(e.mul(i, steps[j]) for j, i in enumerate(where)))
            to = e.add(0, *(e.mul(i, pitches[j]) for j, i in enumerate(where)))
            for i in range(self.sizes[-1]):
                at = e.at(x, e.add(source, e.mul(i, steps[-1])), self.wide)
                at = e.b.select(e.b.and_(seen, inner(len(where), i)), at, self.zero)
                value = e.load(at, self.wide, e.target.vector_bytes)
                e.store(value, e.at(self.edge, e.add(to, i), self.wide), e.target.vector_bytes)
            return []

        nest(e, [e.index(n) for n in self.sizes[:-1]], (), line)


def edge_vectors(lines: Sequence[tuple[int, int]]) -> int:
    """Vectors of scratch memory of a `TileTransform` of so many (elements, slots) per axis."""
    return prod(size for size, _ in lines) + scratch_vectors(lines)


def slot_number(e: Emitter, slots: Sequence[int], where: Sequence[Index]) -> Value:
    """The number of a slot."""
    return e.add(0, *(e.mul(i, prod(slots[j + 1 :])) for j, i in enumerate(where)))
