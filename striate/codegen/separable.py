"""A small box of vectors, transformed along one axis after another.

Along each axis every line of the box is multiplied by one matrix (`linear_map`). The last two axes
are done in registers, for one group of rows of the first matrix after another: all that is kept of
a plane is what these rows give. For the axes before them the box lies in scratch memory, which is
in L1, and lines are run-time loops. An axis may be short (see `winograd_algebra`): then both
matrices are there, and a flag chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from striate.codegen.emitter import Emitter, Index, Value
from striate.codegen.linear_map import group_rows, linear_map, row_groups
from striate.codegen.winograd_algebra import Matrix

Put = Callable[[list[Index], list[Value], list[Value]], list[Value]]


@dataclass(frozen=True, slots=True)
class Line:
    """What is done along one axis.

    Attributes:
        matrix: [outputs][inputs].
        short: the matrix of a short axis, if it may be one.
        flag: i1, whether it is.
    """

    matrix: Matrix
    short: Matrix | None = None
    flag: Value = None

    def size(self, e: Emitter, inputs: bool) -> Index:
        """The number of inputs or of outputs."""
        long = len(self.matrix[0] if inputs else self.matrix)
        if self.short is None:
            return long
        short = len(self.short[0] if inputs else self.short)
        return e.b.select(self.flag, e.index(short), e.index(long))

    def choose(self, e: Emitter, run: Callable[[Matrix], list[Value]]) -> list[Value]:
        """What `run` gives for the matrix that holds."""
        if self.short is None:
            return run(self.matrix)
        short = self.short
        return e.choose(self.flag, lambda: run(short), lambda: run(self.matrix))


def scratch_vectors(lines: Sequence[tuple[int, int]]) -> int:
    """Vectors of scratch memory for axes of so many (inputs, outputs)."""
    return sum(
        prod(out for _, out in lines[: a + 1]) * prod(size for size, _ in lines[a + 1 :])
        for a in range(len(lines) - 2)
    )


def separable(
    e: Emitter,
    lines: Sequence[Line],
    source: Value,
    steps: Sequence[Index],
    scratch: Value,
    wide: Value,
    put: Put,
    carried: Sequence[Value] = (),
) -> list[Value]:
    """Transform the box at `source`, an address; `steps` count vectors.

    `put(indices, values, carried)` gets the results line by line: the indices of all axes but the
    last, and the values along the last. What it returns is carried to the next line.
    """
    full = [(len(line.matrix[0]), len(line.matrix)) for line in lines]
    for a in range(len(lines) - 2):
        shape = [out for _, out in full[: a + 1]] + [size for size, _ in full[a + 1 :]]
        pitches = [prod(shape[j + 1 :]) for j in range(len(shape))]
        _along(e, lines, a, source, steps, scratch, pitches, wide)
        source, steps = scratch, pitches
        scratch = e.at(scratch, prod(shape), wide)

    def plane(where: list[Index], carried: list[Value]) -> list[Value]:
        start = e.add(0, *(e.mul(i, s) for i, s in zip(where, steps, strict=False)))
        inner = list(steps[len(where) :])
        return _plane(e, lines[-2:], e.at(source, start, wide), inner, where, wide, put, carried)

    return nest(e, [line.size(e, inputs=False) for line in lines[:-2]], carried, plane)


def _along(
    e: Emitter,
    lines: Sequence[Line],
    axis: int,
    source: Value,
    steps: Sequence[Index],
    target: Value,
    pitches: Sequence[int],
    wide: Value,
) -> None:
    """Transform along one axis, from memory to memory; the axes before it are done."""
    others = [j for j in range(len(lines)) if j != axis]

    def run(where: list[Index], _: list[Value]) -> list[Value]:
        def places(base: Value, steps: Sequence[Index], count: int) -> list[Value]:
            start = e.add(0, *(e.mul(i, steps[j]) for i, j in zip(where, others, strict=True)))
            return [e.at(base, e.add(start, e.mul(i, steps[axis])), wide) for i in range(count)]

        def finish(matrix: Matrix) -> list[Value]:
            align = e.target.vector_bytes
            vectors = [e.load(p, wide, align) for p in places(source, steps, len(matrix[0]))]
            results = linear_map(e, matrix, vectors)
            for value, place in zip(results, places(target, pitches, len(results)), strict=True):
                e.store(value, place, align)
            return []

        return lines[axis].choose(e, finish)

    nest(e, [lines[j].size(e, inputs=j > axis) for j in others], (), run)


def _plane(
    e: Emitter,
    lines: Sequence[Line],
    source: Value,
    steps: Sequence[Index],
    outer: list[Index],
    wide: Value,
    put: Put,
    carried: list[Value],
) -> list[Value]:
    """Transform along the last two axes, or the only one."""
    last = lines[-1]

    def load(i: int, j: int) -> Value:
        place = e.add(e.mul(i, steps[0]) if len(lines) > 1 else 0, e.mul(j, steps[-1]))
        return e.load(e.at(source, place, wide), wide, e.target.vector_bytes)

    def only(matrix: Matrix) -> list[Value]:
        vectors = [load(0, j) for j in range(len(matrix[0]))]
        return put(outer, linear_map(e, matrix, vectors), carried)

    def both(first: Matrix, second: Matrix) -> list[Value]:
        now = carried
        for group in row_groups(first):
            columns = [
                list(group_rows(e, group, {i: load(i, j) for i in group.columns}))
                for j in range(len(second[0]))
            ]
            for i, line in zip(group.rows, zip(*columns, strict=True), strict=True):
                now = put([*outer, i], linear_map(e, second, line), now)
        return now

    if len(lines) == 1:
        return last.choose(e, only)
    return lines[0].choose(e, lambda first: last.choose(e, lambda second: both(first, second)))


def nest(
    e: Emitter,
    counts: Sequence[Index],
    carried: Sequence[Value],
    body: Callable[[list[Index], list[Value]], Sequence[Value]],
) -> list[Value]:
    """Loops over a box, the last index fastest: carried = body(indices, carried)."""
    if not counts:
        return list(body([], list(carried)))
    return e.loop(
        0,
        counts[0],
        1,
        carried,
        lambda i, c: nest(e, counts[1:], c, lambda rest, c: body([i, *rest], c)),
    )
