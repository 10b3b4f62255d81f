"""A constant matrix times vectors of registers, in few instructions.

Two rows that agree but for signs share their even and odd part; two columns that do, the sum and
the difference of their vectors. That halves the multiplications of a pair of points p, -p.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from striate.codegen.emitter import Emitter, Value

Row = Sequence[Fraction]


def linear_map(e: Emitter, matrix: Sequence[Row], vectors: Sequence[Value]) -> list[Value]:
    """matrix [m][n] times n vectors: m vectors."""
    done = dict(mapped_rows(e, matrix, vectors))
    return [done[i] for i in range(len(done))]


def mapped_rows(
    e: Emitter, matrix: Sequence[Row], vectors: Sequence[Value]
) -> Iterator[tuple[int, Value]]:
    """(i, row i of the result), each as soon as it is computed: it may be used before the next."""
    rows, values = _folded([list(r) for r in matrix], list(vectors), e)
    done: set[int] = set()
    for i, row in enumerate(rows):
        if i in done:
            continue
        j = next((j for j in range(i + 1, len(rows)) if _twins(row, rows[j])), None)
        if j is None:
            yield i, combination(e, row, values)
            continue
        even = [a if a == b else Fraction(0) for a, b in zip(row, rows[j], strict=True)]
        odd = [a if a != b else Fraction(0) for a, b in zip(row, rows[j], strict=True)]
        first, second = combination(e, even, values), combination(e, odd, values)
        done.add(j)
        yield i, e.b.fadd(first, second)
        yield j, e.b.fsub(first, second)


def _twins(x: Row, y: Row) -> bool:
    """Whether two rows have the same magnitudes, some with the same and some with other signs."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a or b]
    if any(abs(a) != abs(b) for a, b in pairs):
        return False
    same = sum(a == b for a, b in pairs)
    return 0 < same < len(pairs) and len(pairs) > 2


def _folded(
    rows: list[list[Fraction]], values: list[Value], e: Emitter
) -> tuple[list[list[Fraction]], list[Value]]:
    """The same product with twin columns replaced by those of their sum and difference."""
    columns = [list(c) for c in zip(*rows, strict=True)]
    for i in range(len(columns)):
        for j in range(i + 1, len(columns)):
            if _twins(columns[i], columns[j]):
                x, y = values[i], values[j]
                values[i], values[j] = e.b.fadd(x, y), e.b.fsub(x, y)
                pairs = list(zip(columns[i], columns[j], strict=True))
                columns[i] = [a if a == b else Fraction(0) for a, b in pairs]
                columns[j] = [a if a != b else Fraction(0) for a, b in pairs]
                break
    return [list(r) for r in zip(*columns, strict=True)], values


def combination(e: Emitter, coefficients: Row, values: Sequence[Value]) -> Value:
    """The sum of coefficient times value."""
    terms = [(c, v) for c, v in zip(coefficients, values, strict=True) if c]
    if not terms:
        return e.const(values[0].type, 0)
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
