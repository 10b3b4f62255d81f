"""Copies around the weight gradient: operands into packed panels, and sums into dw.

    panel: [positions of a block, lanes of channels], in the type that is computed in

Lanes behind the last channel hold anything: what is computed from them is dropped.

Sums stand as [rows, lanes of k], where a row is a (channel, tap) pair; dw wants each k's row: a
transposition, by squares of one vector by one vector in registers where dw is contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llvmlite import ir

from striate.codegen.emitter import (
    I32,
    I64,
    Emitter,
    Value,
    element,
    lanes_of,
    size_of,
    storage,
    vector,
)
from striate.codegen.transposition import transposed
from striate.dtype import DType

# How channels stand in memory: b % lanes == 0 or all in one block; in blocks of 2, 4, 8 < lanes; or
# each in a plane of its own. `gather`: planes whose rows are not contiguous.
Packing = Literal["lanes", "parts", "planes", "gather"]


@dataclass(frozen=True, slots=True)
class Range:
    """The positions [first, stop) of one axis, with elements from one to the next."""

    first: Value
    stop: Value
    stride: Value
    packed: Value


@dataclass(frozen=True, slots=True)
class Panel:
    """Channels to be packed.

    Attributes:
        dtype: as stored.
        packing: how they stand in memory.
        at: the address of position 0 of channel 0.
        to: the address of the panel, where position (first, ...) goes.
        vectors: how many vectors of channels the panel has.
        channel, channels: the first of the panel, and the end of its group.
        block, block_stride: channel c stands at c // block * block_stride + c % block.
        part: lanes that are contiguous, where the packing is `parts`.
    """

    dtype: DType
    packing: Packing
    at: Value
    to: Value
    vectors: int
    channel: Value
    channels: Value
    block: Value
    block_stride: Value
    part: int


def pack(e: Emitter, panel: Panel, axes: Sequence[Range]) -> None:
    """Copy a panel; writes up to a vector's number of positions behind it."""
    one = element(panel.dtype)
    lanes = e.target.vector_bytes // size_of(one)
    step = lanes * panel.vectors
    b, stored = e.b, storage(panel.dtype)

    last = panel.part if panel.packing == "parts" else 1  # what is read beyond must exist

    def source(channel: Value) -> Value:
        """The address of position 0 of a channel, or of the last one (the last part's first)."""
        channel = e.smaller(channel, e.add(panel.channels, -last))
        at = b.mul(b.sdiv(channel, panel.block), panel.block_stride)
        return e.at(panel.at, e.add(at, b.srem(channel, panel.block)), stored)

    def rows(at: Any, to: Value, axes: Sequence[Range], body: Row) -> None:
        """body(offset, address in the panel, innermost axis) for each row of the box."""
        first, *inner = axes
        if not inner:
            body(at, to, first)
            return

        def row(i: Value) -> None:
            down = e.mul(b.sub(i, first.first), first.packed)
            rows(e.add(at, e.mul(i, first.stride)), e.at(to, down, one), inner, body)

        e.each(first.first, first.stop, row)

    def pack_vector(v: Value) -> None:
        channel = e.add(panel.channel, e.mul(v, lanes))
        if panel.packing == "planes":
            planes = [source(e.add(channel, i)) for i in range(lanes)]
            body = _transposed(e, panel, planes, step)
        else:
            part = {"lanes": lanes, "parts": panel.part, "gather": 1}[panel.packing]
            left = b.sub(panel.channels, channel)
            parts = [source(e.add(channel, i)) for i in range(0, lanes, part)]
            body = _gathered(e, panel, parts, left, step)
        rows(0, e.at(panel.to, e.mul(v, lanes), one), axes, body)

    e.each(0, panel.vectors, pack_vector)


Row = Callable[[Any, Value, Range], None]


def _transposed(e: Emitter, panel: Panel, planes: Sequence[Value], step: int) -> Row:
    """A row of positions of `lanes` planes, by squares; `step` elements of the panel a position."""
    stored, one, lanes = storage(panel.dtype), element(panel.dtype), len(planes)
    vec = vector(stored, lanes)

    def row(at: Value, to: Value, axis: Range) -> None:
        def square(i: Value) -> None:
            left = e.b.sub(axis.stop, i)
            start = e.add(at, e.mul(i, axis.stride))
            ps = [e.at(p, start, stored) for p in planes]
            some = e.first_lanes(left, lanes)
            loaded = e.choose(
                e.b.icmp_signed(">=", left, e.index(lanes)),
                lambda: [e.load(p, vec) for p in ps],
                lambda: [e.load_masked(p, some, vec) for p in ps],
            )
            columns = transposed(e, [e.widen(x, panel.dtype) for x in loaded])
            down = e.mul(e.b.sub(i, axis.first), step)
            for j, column in enumerate(columns):
                e.store(column, e.at(to, e.add(down, j * step), one))

        e.each(axis.first, axis.stop, square, lanes)

    return row


def _gathered(e: Emitter, panel: Panel, parts: Sequence[Value], left: Value, step: int) -> Row:
    """A row of positions whose channels stand in contiguous parts."""
    stored, one = storage(panel.dtype), element(panel.dtype)
    lanes = e.target.vector_bytes // size_of(one)
    vec = vector(stored, lanes // len(parts))

    def row(at: Value, to: Value, axis: Range) -> None:
        def copy(load: Callable[[Value], Value]) -> None:
            def position(i: Value) -> None:
                start = e.add(at, e.mul(i, axis.stride))
                pieces = [load(e.at(p, start, stored)) for p in parts]
                while len(pieces) > 1:
                    pieces = [_joined(e, *pieces[i : i + 2]) for i in range(0, len(pieces), 2)]
                down = e.mul(e.b.sub(i, axis.first), step)
                e.store(e.widen(pieces[0], panel.dtype), e.at(to, down, one))

            e.each(axis.first, axis.stop, position)

        if len(parts) > 1:
            copy(lambda p: e.load(p, vec))
            return
        with e.either(e.b.icmp_signed(">=", left, e.index(lanes))) as (full, some):
            with full:
                copy(lambda p: e.load(p, vec))
            with some:
                mask = e.first_lanes(left, lanes)
                copy(lambda p: e.load_masked(p, mask, vec))

    return row


def _joined(e: Emitter, x: Value, y: Value) -> Value:
    """The lanes of x, then those of y; two scalars are a vector of two."""
    n = lanes_of(x.type)
    if n == 1:
        first = e.b.insert_element(e.undefined(x.type, 2), x, ir.Constant(I32, 0))
        return e.b.insert_element(first, y, ir.Constant(I32, 1))
    order = ir.Constant(ir.VectorType(I32, 2 * n), list(range(2 * n)))
    return e.b.shuffle_vector(x, y, order)


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one tile of features: for each (channel, tap) some vectors of features.

    Attributes:
        dtype: of dw.
        at: the address of the first tap of the first channel and its first feature, number
            `feature` of `features`; a vector's number of rows behind the last can be read.
        vectors: of features in a row.
        channels: how many.
        taps: the (first, stop) of those that are here, of `all_taps`.
        feature, features: see `at`.
    """

    dtype: DType
    at: Value
    vectors: int
    channels: Value
    taps: tuple[Value, Value]
    all_taps: Value
    feature: Value
    features: Value


def store_dense(e: Emitter, sums: Sums, dw: Value, step: Value) -> None:
    """dw[k * step + c * taps + tap] for the features k of the tile; `dw` is where its first goes,
    with the first channel and tap 0.
    """
    one, stored = element(sums.dtype), storage(sums.dtype)
    lanes = e.target.vector_bytes // size_of(one)
    vec, b = vector(one, lanes), e.b

    def square(v: Value, j: Value, stop: Value, shift: Value) -> None:
        rows = [
            e.at(sums.at, e.add(e.mul(e.add(j, i), sums.vectors), v), vec) for i in range(lanes)
        ]
        columns = transposed(e, [e.load(p, vec, e.target.vector_bytes) for p in rows])
        left = b.sub(stop, j)
        whole = b.icmp_signed(">=", left, e.index(lanes))
        for i, column in enumerate(columns):
            k = e.add(e.mul(v, lanes), i)
            inside = b.icmp_signed("<", e.add(sums.feature, k), sums.features)
            p = e.at(dw, e.add(b.mul(step, k), j, shift), stored)
            value = e.narrow(column, sums.dtype)
            with e.when(inside), e.either(whole) as (full, part):
                with full:
                    e.store(value, p)
                with part:
                    e.store_masked(value, p, e.first_lanes(left, lanes))

    def run(c: Value) -> None:
        """The rows that follow one another in dw: of a channel, or with all taps of all."""
        start = b.mul(c, some)
        shift = e.add(b.mul(c, sums.all_taps), sums.taps[0], e.mul(start, -1))
        stop = e.add(start, length)

        def vectors(v: Value) -> None:
            e.each(start, stop, lambda j: square(v, j, stop, shift), lanes)

        e.each(0, sums.vectors, vectors)

    some = b.sub(sums.taps[1], sums.taps[0])
    every = b.icmp_signed("==", some, sums.all_taps)
    length = b.select(every, b.mul(sums.channels, some), some)
    e.each(0, b.select(every, e.index(1), sums.channels), run)


def store_strided(
    e: Emitter, sums: Sums, dw: Value, strides: tuple[Value, Value], where: Value
) -> None:
    """dw[k * strides[0] + c * strides[1] + where[tap]], one element at a time."""
    one, stored = element(sums.dtype), storage(sums.dtype)
    width = sums.vectors * (e.target.vector_bytes // size_of(one))

    def store(c: Value, tap: Value) -> None:
        row = e.mul(e.add(e.b.mul(c, some), e.b.sub(tap, sums.taps[0])), width)
        to = e.add(e.b.mul(c, strides[1]), e.load(e.at(where, tap, I64), I64))

        def feature(k: Value) -> None:
            value = e.load(e.at(sums.at, e.add(row, k), one), one)
            p = e.at(dw, e.add(to, e.b.mul(k, strides[0])), stored)
            e.store(e.narrow(value, sums.dtype), p)

        e.each(0, e.smaller(width, e.b.sub(sums.features, sums.feature)), feature)

    some = e.b.sub(sums.taps[1], sums.taps[0])
    e.each(0, sums.channels, lambda c: e.each(*sums.taps, lambda tap: store(c, tap)))
