"""Fourier transforms as a tree of polynomial remainders, and their constants.

    y^L - z^r  =  product over j < r of  (y^(L/r) - z e(j/r)),      e(a) = exp(2 pi i a)

A polynomial modulo the left side is, by its r parts p_q of length L/r, known modulo each factor:
sum over q of p_q (z e(j/r))^q. A stage does that for all its nodes, each with one z, in place;
after the last there are values at the roots, in the order of the leaves. The inverse goes backward.
No order is ever reversed, since products do not care for it.

Real x of length 2M modulo x^(2M) + 1 is complex: x^M is i, so that element p + M is the imaginary
part of element p. The tree begins with y^M - i, angle 1/4, and nothing is wasted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import cos, pi, prod, sin

from striate.dtype import DType, float64

ROOT = Fraction(1, 4)  # the angle of i, in turns
STAGE_WORDS = 4  # radix, nodes, length of a part, first number of its constants


@dataclass(frozen=True, slots=True)
class Stage:
    """One level of the tree, or of the subtree of a block.

    Attributes:
        radix: r, 2 or 4.
        nodes: how many.
        part: L / r.
    """

    radix: int
    nodes: int
    part: int

    @property
    def constants(self) -> int:
        """Real numbers in its table: r - 1 complex ones a node."""
        return 2 * (self.radix - 1) * self.nodes


def radices(length: int) -> list[int]:
    """Of a transform of so many elements, a power of two: fours, and one two where it must be."""
    assert length > 0 and length & (length - 1) == 0, length
    levels = length.bit_length() - 1
    return [2] * (levels % 2) + [4] * (levels // 2)


def stages(length: int, factors: Sequence[int]) -> list[Stage]:
    """The first stages of a transform."""
    found, nodes = [], 1
    for r in factors:
        found.append(Stage(r, nodes, length // (nodes * r)))
        nodes *= r
    return found


def root(angle: Fraction) -> tuple[float, float]:
    """e(angle), to the last bit but one: the angle is first brought to at most an eighth."""
    angle -= angle.__floor__()
    quarter, rest = divmod(angle, Fraction(1, 4))
    swap = rest > Fraction(1, 8)
    small = 2 * pi * float(Fraction(1, 4) - rest if swap else rest)
    x, y = (sin(small), cos(small)) if swap else (cos(small), sin(small))
    for _ in range(int(quarter)):
        x, y = -y, x
    return x, y


def constants(angles: Sequence[Fraction], radix: int) -> list[float]:
    """z, z^2, ... z^(r-1) of nodes y^L - e(angle), with z^r = e(angle): pairs of real numbers."""
    return [v for a in angles for q in range(1, radix) for v in root(a * q / radix)]


def children(angles: Sequence[Fraction], radix: int) -> list[Fraction]:
    """The angles of the nodes below."""
    return [(a + j) / radix for a in angles for j in range(radix)]


@lru_cache(maxsize=64)
def tables(factors: tuple[int, ...], outer: int) -> tuple[list[float], list[float]]:
    """The constants of the first `outer` stages, stage by stage, and those of the stages within
    each of the blocks that they leave, block by block.
    """
    angles, first = [ROOT], []
    for r in factors[:outer]:
        first += constants(angles, r)
        angles = children(angles, r)
    rest = []
    for angle in angles:
        below = [angle]
        for r in factors[outer:]:
            rest += constants(below, r)
            below = children(below, r)
    return first, rest


def packed(values: Sequence[float], dtype: DType) -> tuple[int, ...]:
    """Numbers of a dtype as they stand in memory, in i64s."""
    wide = dtype is float64
    count = len(values) + (0 if wide else len(values) % 2)
    raw = struct.pack(f"<{len(values)}{'d' if wide else 'f'}", *values)
    raw += b"\0" * (count * dtype.itemsize - len(raw))
    return struct.unpack(f"<{len(raw) // 8}q", raw)


def rows(found: Sequence[Stage], inner: int = 1) -> tuple[int, ...]:
    """Stages as a table of `STAGE_WORDS` numbers each, where every element is `inner` ones."""
    out: list[int] = []
    at = 0
    for s in found:
        out += [s.radix, s.nodes, s.part * inner, at]
        at += s.constants
    return tuple(out)


def size(factors: Sequence[int]) -> int:
    """Elements."""
    return prod(factors)
