"""Copies around the weight gradient: operands into packed panels, and sums into dw.

Sums stand as [rows, lanes of k], where a row is a (channel, tap) pair; dw wants each k's row:
a transposition, by squares of one vector by one vector in registers where dw is contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llvmlite import ir

from striate.codegen.emitter import I32, I64, Emitter, Value, element, size_of, storage, vector
from striate.dtype import DType

Packing = Literal["lanes", "parts", "planes"]


def transpose(e: Emitter, rows: Sequence[Value]) -> list[Value]:
    """The columns of a square of vectors: result[i][j] = rows[j][i]; their number is 2**n."""
    n, columns = len(rows), list(rows)
    half = n // 2
    while half:
        low = [i if not i & half else n + i - half for i in range(n)]
        high = [i + half if not i & half else n + i for i in range(n)]
        masks = [ir.Constant(ir.VectorType(I32, n), m) for m in (low, high)]
        for i in range(n):
            if not i & half:
                pair = columns[i], columns[i + half]
                columns[i], columns[i + half] = (e.b.shuffle_vector(*pair, m) for m in masks)
        half //= 2
    return columns


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one tile of features: `rows` (channel, tap) pairs by `vectors` of features.

    Attributes:
        dtype: of dw.
        at: the address of row 0, whose first feature is number `feature` of `features`.
        rows: how many rows are wanted; one vector's worth of rows behind them can be read.
        vectors: of features in a row.
        feature, features: see `at`.
    """

    dtype: DType
    at: Value
    rows: Value
    vectors: int
    feature: Value
    features: Value


def store_dense(e: Emitter, sums: Sums, dw: Value, step: Value) -> None:
    """dw[k * step + row] for the features k of the tile; `dw` is the address of its first."""
    one, stored = element(sums.dtype), storage(sums.dtype)
    lanes = e.target.vector_bytes // size_of(one)
    vec, b = vector(one, lanes), e.b

    def square(j: Value, v: int) -> None:
        rows = [
            e.at(sums.at, e.add(e.mul(e.add(j, i), sums.vectors), v), vec) for i in range(lanes)
        ]
        columns = transpose(e, [e.load(p, vec, e.target.vector_bytes) for p in rows])
        left = b.sub(sums.rows, j)
        whole = b.icmp_signed(">=", left, e.index(lanes))
        for i, column in enumerate(columns):
            k = v * lanes + i
            inside = b.icmp_signed("<", e.add(sums.feature, k), sums.features)
            p = e.at(dw, e.add(e.mul(step, k), j), stored)
            value = e.narrow(column, sums.dtype)
            with e.when(inside), e.either(whole) as (full, part):
                with full:
                    e.store(value, p)
                with part:
                    e.store_masked(value, p, e.first_lanes(left, lanes))

    for v in range(sums.vectors):
        e.each(0, sums.rows, lambda j, v=v: square(j, v), lanes)


def store_strided(
    e: Emitter, sums: Sums, dw: Value, step: Value, channel: Value, taps: Value, where: Value
) -> None:
    """dw[k * step + c * channel + where[tap]], one element at a time, for row c * taps + tap."""
    one, stored = element(sums.dtype), storage(sums.dtype)
    lanes = e.target.vector_bytes // size_of(one)
    width = sums.vectors * lanes

    def store(c: Value, tap: Value) -> None:
        row = e.mul(e.add(e.b.mul(c, taps), tap), width)
        to = e.add(e.b.mul(c, channel), e.load(e.at(where, tap, I64), I64))

        def one_feature(k: Value) -> None:
            value = e.load(e.at(sums.at, e.add(row, k), one), one)
            e.store(e.narrow(value, sums.dtype), e.at(dw, e.add(to, e.b.mul(k, step)), stored))

        e.each(0, e.smaller(width, e.b.sub(sums.features, sums.feature)), one_feature)

    channels = e.b.sdiv(sums.rows, taps)
    e.each(0, channels, lambda c: e.each(0, taps, lambda tap: store(c, tap)))
