"""A small box of vectors, transformed along one axis after another.

Along each axis every line of the box is multiplied by one matrix (`linear_map`); between axes the
box lies in scratch memory, which is in L1. Lines are run-time loops, so code is short for any rank.
An axis may be short (see `winograd_algebra`): then both matrices are there, and a flag chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from striate.codegen.emitter import Emitter, Index, Value
from striate.codegen.linear_map import linear_map
from striate.codegen.winograd_algebra import Matrix

Put = Callable[[list[Index], list[Value], list[Value]], list[Value]]
Find = Callable[[list[Index], int], list[Value]]


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


def scratch_vectors(lines: Sequence[tuple[int, int]]) -> int:
    """Vectors of scratch memory for axes of so many (inputs, outputs)."""
    return sum(
        prod(out for _, out in lines[: a + 1]) * prod(size for size, _ in lines[a + 1 :])
        for a in range(len(lines) - 1)
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
    whole: Value = None,
    find: Find | None = None,
) -> list[Value]:
    """Transform the box at `source`, an address; `steps` count vectors. Unless `whole`, an i1, is
    true, `find(indices, n)` gives the addresses of n elements along the first axis, at these
    indices of the others.

    `put(indices, values, carried)` gets the results line by line: the indices of all axes but the
    last, and the values along the last. What it returns is carried to the next line.
    """
    full = [(len(line.matrix[0]), len(line.matrix)) for line in lines]
    last = len(lines) - 1
    for a, line in enumerate(lines):
        shape = [out for _, out in full[: a + 1]] + [size for size, _ in full[a + 1 :]]
        pitches = [prod(shape[j + 1 :]) for j in range(len(shape))]
        counts = [other.size(e, j > a) for j, other in enumerate(lines)]

        def run(
            where: list[Index],
            carried: list[Value],
            a: int = a,
            line: Line = line,
            pitches: list[int] = pitches,
            source: Value = source,
            target: Value = scratch,
            steps: Sequence[Index] = steps,
        ) -> list[Value]:
            others = [j for j in range(len(lines)) if j != a]
            start = e.add(0, *(e.mul(i, steps[j]) for i, j in zip(where, others, strict=True)))

            def near(count: int) -> list[Value]:
                places = (e.add(start, e.mul(i, steps[a])) for i in range(count))
                return [e.at(source, place, wide) for place in places]

            def load(places: list[Value]) -> list[Value]:
                return [e.load(p, wide, e.target.vector_bytes) for p in places]

            def values(matrix: Matrix) -> list[Value]:
                n = len(matrix[0])
                if a or find is None:
                    return linear_map(e, matrix, load(near(n)))
                loaded = e.choose(whole, lambda: load(near(n)), lambda: load(find(where, n)))
                return linear_map(e, matrix, loaded)

            def finish(matrix: Matrix) -> list[Value]:
                results = values(matrix)
                if a == last:
                    return put(where, results, carried)
                for i, value in enumerate(results):
                    place = e.add(
                        i * pitches[a],
                        *(e.mul(w, pitches[j]) for w, j in zip(where, others, strict=True)),
                    )
                    e.store(value, e.at(target, place, wide), e.target.vector_bytes)
                return carried

            if line.short is None:
                return finish(line.matrix)
            short = line.short
            return e.choose(line.flag, lambda: finish(short), lambda: finish(line.matrix))

        outer = [counts[j] for j in range(len(lines)) if j != a]
        if a == last:
            return nest(e, outer, carried, run)
        nest(e, outer, (), run)
        source, steps = scratch, pitches
        scratch = e.at(scratch, prod(shape), wide)
    raise AssertionError("a box has axes")


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
