"""A constant matrix times vectors of registers, in few instructions.

Two rows that agree but for signs share their even and odd part; two columns that do, the sum and
the difference of their vectors. That halves the multiplications of a pair of points p, -p. Rows
that share something are a group: groups may be computed at different times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from striate.codegen.emitter import Emitter, Value

Row = Sequence[Fraction]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share what is computed for them.

    Attributes:
        rows: which rows of the matrix, in the order in which they are made.
        columns: which vectors they need.
        twins: columns (i, j) that are replaced by those of the sum and the difference.
        coefficients: of each row, after that.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    twins: tuple[tuple[int, int], ...]
    coefficients: tuple[tuple[Fraction, ...], ...]


@lru_cache(maxsize=256)
def row_groups(matrix: tuple[tuple[Fraction, ...], ...]) -> tuple[Group, ...]:
    """The groups of a matrix, in the order of their first rows."""
    rows, twins = _folded(matrix)
    groups: list[list[int]] = []
    for i, row in enumerate(rows):
        near = [g for g in groups if any(_share(row, rows[j], twins) for j in g)]
        groups = [g for g in groups if g not in near] + [[*(j for g in near for j in g), i]]
    found = []
    for group in sorted(map(sorted, groups)):
        used = {c for i in group for c, a in enumerate(rows[i]) if a} or {0}
        pairs = []
        for pair in reversed(twins):
            if used & {*pair}:
                used |= {*pair}
                pairs.append(pair)
        parts = tuple(rows[i] for i in group)
        found.append(Group(tuple(group), tuple(sorted(used)), tuple(reversed(pairs)), parts))
    return tuple(found)


def group_rows(e: Emitter, group: Group, vectors: Mapping[int, Value]) -> Iterator[Value]:
    """The rows of a group, each as soon as it is computed: it may be used before the next.
    `vectors` has the columns of the group.
    """
    values = dict(vectors)
    used = {c for row in group.coefficients for c, a in enumerate(row) if a}
    for k, (i, j) in enumerate(group.twins):
        wanted = used.union(*group.twins[k + 1 :])
        x, y = values[i], values[j]
        if i in wanted:
            values[i] = e.b.fadd(x, y)
        if j in wanted:
            values[j] = e.b.fsub(x, y)
    done: dict[int, Value] = {}
    for i, row in enumerate(group.coefficients):
        if i in done:
            yield done[i]
            continue
        later = range(i + 1, len(group.coefficients))
        twin = [j for j in later if _twins(row, group.coefficients[j])]
        if not twin:
            yield combination(e, row, values)
            continue
        j = twin[0]
        pairs = list(zip(row, group.coefficients[j], strict=True))
        even = combination(e, [a if a == b else Fraction(0) for a, b in pairs], values)
        odd = combination(e, [a if a != b else Fraction(0) for a, b in pairs], values)
        yield e.b.fadd(even, odd)
        done[j] = e.b.fsub(even, odd)


def linear_map(e: Emitter, matrix: Sequence[Row], vectors: Sequence[Value]) -> list[Value]:
    """matrix [m][n] times n vectors: m vectors."""
    done = dict(mapped_rows(e, matrix, vectors))
    return [done[i] for i in range(len(done))]


def mapped_rows(
    e: Emitter, matrix: Sequence[Row], vectors: Sequence[Value]
) -> Iterator[tuple[int, Value]]:
    """(i, row i of the result), each as soon as it is computed: it may be used before the next."""
    for group in row_groups(tuple(map(tuple, matrix))):
        yield from zip(group.rows, group_rows(e, group, dict(enumerate(vectors))), strict=True)


def _twins(x: Row, y: Row) -> bool:
    """Whether two rows have the same magnitudes, some with the same and some with other signs."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a or b]
    if any(abs(a) != abs(b) for a, b in pairs):
        return False
    same = sum(a == b for a, b in pairs)
    return 0 < same < len(pairs) and len(pairs) > 2


def _share(x: Row, y: Row, twins: Sequence[tuple[int, int]]) -> bool:
    """Whether two rows are twins, or need the same sum or difference."""
    return _twins(x, y) or any(x[c] and y[c] for pair in twins for c in pair)


def _folded(
    matrix: Sequence[Row],
) -> tuple[list[tuple[Fraction, ...]], tuple[tuple[int, int], ...]]:
    """The same product with twin columns replaced by those of their sum and difference; which."""
    columns, found = [list(c) for c in zip(*matrix, strict=True)], []
    for i in range(len(columns)):
        for j in range(i + 1, len(columns)):
            if _twins(columns[i], columns[j]):
                found.append((i, j))
                pairs = list(zip(columns[i], columns[j], strict=True))
                columns[i] = [a if a == b else Fraction(0) for a, b in pairs]
                columns[j] = [a if a != b else Fraction(0) for a, b in pairs]
                break
    return [tuple(r) for r in zip(*columns, strict=True)], tuple(found)


def combination(e: Emitter, coefficients: Row, values: Mapping[int, Value]) -> Value:
    """The sum of coefficient times value."""
    terms = [(c, values[i]) for i, c in enumerate(coefficients) if c]
    if not terms:
        return e.const(next(iter(values.values())).type, 0)
    terms.sort(key=lambda t: (t[0] != 1, abs(t[0]) != 1))
    (c, total), *rest = terms
    if c != 1:
        total = e.b.fmul(total, e.const(total.type, float(c)))
    for c, value in rest:
        if abs(c) == 1:
            total = e.b.fadd(total, value) if c == 1 else e.b.fsub(total, value)
        else:
            total = e.muladd(value, e.const(value.type, float(c)), total)
    return total
