"""Einsum: products of any operands, summed over labelled axes.

Operands are combined two at a time, from the left. Labels of both that are still needed are a
batch, labels of both that are not are contracted by a matrix product, and what only one operand
has is summed before, if nothing needs it.
"""

from __future__ import annotations

from math import prod

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.onnx.registry import Call, operator


@operator("Einsum")
def einsum(node: Call, *operands: Array) -> Array:
    equation = node.string("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"equation {equation!r} is for {len(terms)} operands, got {len(operands)}")
    rank = max(_ellipsis(t, x) for t, x in zip(terms, operands, strict=True))
    extra = [f"...{k}" for k in range(rank)]
    labels = [
        _labels(t, extra[rank - _ellipsis(t, x) :]) for t, x in zip(terms, operands, strict=True)
    ]
    if arrow:
        wanted = _labels(right, extra)
    else:
        flat = [n for row in labels for n in row]
        wanted = extra + sorted(n for n in set(flat) if flat.count(n) == 1 and n not in extra)
    if len(set(wanted)) != len(wanted) or not set(wanted) <= {n for row in labels for n in row}:
        raise ShapeError(
            f"equation {equation!r}: the result has labels that no operand has, or twice"
        )
    pairs = [_diagonal(x, row) for x, row in zip(operands, labels, strict=True)]
    x, names = pairs[0]
    for k, (y, others) in enumerate(pairs[1:], start=1):
        later = {n for _, row in pairs[k + 1 :] for n in row} | set(wanted)
        x, names = _product(x, names, y, others, later)
    x, names = _summed(x, names, set(wanted))
    return x.transpose(*(names.index(n) for n in wanted)) if names != wanted else x


def _ellipsis(term: str, x: Array) -> int:
    """How many axes the dots of a term stand for.

    Raises:
        ShapeError: the term has not the rank of its operand.
    """
    letters = len(term.replace("...", ""))
    count = x.ndim - letters
    if count < 0 or (count and "..." not in term):
        raise ShapeError(f"equation: the term {term!r} does not fit {x.type}")
    return count


def _labels(term: str, extra: list[str]) -> list[str]:
    before, dots, after = term.partition("...")
    names = [*before, *(extra if dots else []), *after]
    if any(not (n.isalpha() or n.startswith("...")) for n in names):
        raise ShapeError(f"equation: labels must be letters, got the term {term!r}")
    return names


def _diagonal(x: Array, names: list[str]) -> tuple[Array, list[str]]:
    """A label that comes twice reads the diagonal of its axes."""
    while len(set(names)) != len(names):
        second = next(k for k, n in enumerate(names) if n in names[:k])
        first = names.index(names[second])
        n = x.shape[first]
        if x.shape[second] != n:
            raise ShapeError(f"equation: {names[first]!r} has sizes {n} and {x.shape[second]}")
        others = [a for a in range(x.ndim) if a not in (first, second)]
        rest = [x.shape[a] for a in others]
        flat = x.transpose(first, second, *others).reshape(n * n, *rest)
        x = st.moveaxis(st.take(flat, np.arange(n) * (n + 1), 0), 0, first)
        names = [label for k, label in enumerate(names) if k != second]
    return x, names


def _summed(x: Array, names: list[str], kept: set[str]) -> tuple[Array, list[str]]:
    axes = tuple(k for k, n in enumerate(names) if n not in kept)
    y = st.sum(x, axes).astype(x.dtype) if axes else x
    return y, [n for n in names if n in kept]


def _product(
    x: Array, a: list[str], y: Array, b: list[str], later: set[str]
) -> tuple[Array, list[str]]:
    """One operand of two: a matrix product, batched over what both have and something needs."""
    x, a = _summed(x, a, later | set(b))
    y, b = _summed(y, b, later | set(a))
    x, y = _stretched(x, a, y, b), _stretched(y, b, x, a)
    sizes = dict(zip((*a, *b), (*x.shape, *y.shape), strict=True))
    batch = [n for n in a if n in b and n in later]
    inner = [n for n in a if n in b and n not in later]
    rows, columns = [n for n in a if n not in b], [n for n in b if n not in a]

    def grouped(z: Array, own: list[str], *groups: list[str]) -> Array:
        order = [own.index(n) for group in groups for n in group]
        return z.transpose(*order).reshape(*(prod(sizes[n] for n in group) for group in groups))

    z = st.matmul(grouped(x, a, batch, rows, inner), grouped(y, b, batch, inner, columns))
    names = [*batch, *rows, *columns]
    return z.reshape(*(sizes[n] for n in names)), names


def _stretched(x: Array, a: list[str], y: Array, b: list[str]) -> Array:
    """x with axes of size 1 as large as those of y with the same label.

    Raises:
        ShapeError: two sizes differ and neither is 1.
    """
    other = dict(zip(b, y.shape, strict=True))
    shape = []
    for name, n in zip(a, x.shape, strict=True):
        m = other.get(name, n)
        if n != m and 1 not in (n, m):
            raise ShapeError(f"equation: {name!r} has sizes {n} and {m}")
        shape.append(max(n, m) if 0 not in (n, m) else 0)
    return st.broadcast_to(x, shape)
