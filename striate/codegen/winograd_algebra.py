"""Winograd's (Cook and Toom's) short convolutions, in exact rational numbers, from their points.

    y = AT ((G w) * (BT x)),      y[i] = sum over k of w[k] x[i + k],      0 <= i < m, 0 <= k < r

needs n = m + r - 1 products, one per point: polynomials are evaluated at n - 1 numbers and at
infinity, multiplied there, and interpolated. Here it is the transposed algorithm, which is as exact
and takes windows of x.

A tile of one output less leaves out the last point. G is the same for both tiles, so they share
transformed weights; what differs by that point stands in BT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import combinations
from math import prod, sqrt
from typing import Any

Matrix = tuple[tuple[Fraction, ...], ...]

MAGNITUDES = tuple(Fraction(*p) for p in ((1, 1), (2, 1), (1, 2), (3, 2), (2, 3)))


@dataclass(frozen=True)
class Algorithm:
    """F(m, r) with the points infinity, points[0], points[1], ...

    Attributes:
        outputs: m > 0.
        taps: r > 0.
        points: m + r - 2 different numbers; empty and without meaning if m is 1, when the products
            are those of the definition.
    """

    outputs: int
    taps: int
    points: tuple[Fraction, ...]

    @property
    def products(self) -> int:
        """n"""
        return self.outputs + self.taps - 1

    @property
    def plain(self) -> bool:
        """Whether it is the definition itself."""
        return self.outputs == 1

    def shortened(self, short: bool) -> Algorithm:
        """F(m - 1, r) without the last point if `short`, else the algorithm itself."""
        return Algorithm(self.outputs - 1, self.taps, self.points[:-1]) if short else self

    def shorter(self) -> Algorithm:
        """F(m, r - 1) without the last point: AT is the same but for the last column."""
        return Algorithm(self.outputs, self.taps - 1, self.points[:-1])

    def weights(self) -> Matrix:
        """G [n][r]"""
        if self.plain:
            return _identity(self.taps)
        rows = [
            tuple(p**k / _distance(p, self.points) for k in range(self.taps)) for p in self.points
        ]
        return (tuple(Fraction(k == self.taps - 1) for k in range(self.taps)), *rows)

    def inputs(self, short: bool = False) -> Matrix:
        """BT [n][n], or that of a tile of m - 1 outputs, [n - 1][n - 1], for the same G."""
        if self.plain:
            return _identity(self.taps)
        points = self.shortened(short).points
        rows = [_polynomial(points)]
        for p in points:
            scale = _distance(p, self.points) / _distance(p, points)
            rows.append((*(scale * c for c in _polynomial([q for q in points if q != p])), *_ZERO))
        return tuple(rows)

    def results(self, short: bool = False) -> Matrix:
        """AT [m][n], or that of a tile of m - 1 outputs, [m - 1][n - 1]."""
        if self.plain:
            return ((Fraction(1),) * self.taps,)
        m, points = self.outputs - short, self.points[: len(self.points) - short]
        return tuple((Fraction(i == m - 1), *(p**i for p in points)) for i in range(m))

    @cached_property
    def amplification(self) -> float:
        """The root mean square of rounding errors in y over that of one rounding, for random x and
        w: how much more is lost than in the definition.
        """
        if self.plain:
            return 1.0
        points: Any = tuple(map(float, self.points))  # rational numbers take several times as long
        near = replace(self, points=points)
        squares = [
            _square(g) * _square(b) for g, b in zip(near.weights(), near.inputs(), strict=True)
        ]
        rows = (
            sum(float(a) ** 2 * s for a, s in zip(row, squares, strict=True))
            for row in near.results()
        )
        return sqrt(max(rows))


_ZERO = (Fraction(0),)


def _identity(n: int) -> Matrix:
    return tuple(tuple(Fraction(i == j) for j in range(n)) for i in range(n))


def _square(row: Sequence[Fraction]) -> float:
    return sum(float(c) ** 2 for c in row)


def _distance(p: Fraction, points: Sequence[Fraction]) -> Fraction:
    """The product of the distances to the other points."""
    return prod((p - q for q in points if q != p), start=Fraction(1))


def _polynomial(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """The coefficients of the product of (t - root), the constant first."""
    c = [Fraction(1)]
    for root in roots:
        c = [lower - root * upper for lower, upper in zip([*_ZERO, *c], [*c, *_ZERO], strict=True)]
    return tuple(c)


@lru_cache(maxsize=256)
def winograd(outputs: int, taps: int) -> Algorithm:
    """F(outputs, taps) with those points that lose least: pairs p, -p, then 0 if one is left. A
    pair shares its multiplications.

    >>> winograd(2, 3).points
    (Fraction(1, 1), Fraction(-1, 1), Fraction(0, 1))
    >>> winograd(4, 3).products
    6
    """
    count = outputs + taps - 2
    if outputs == 1:
        return Algorithm(outputs, taps, ())
    choices = [
        Algorithm(outputs, taps, (*(s * p for p in pairs for s in (1, -1)), *_ZERO[: count % 2]))
        for pairs in combinations(MAGNITUDES, count // 2)
    ]
    return min(choices, key=lambda a: a.amplification)


def longest(taps: int) -> int:
    """The largest m for which there are points."""
    return 2 * len(MAGNITUDES) + 3 - taps
