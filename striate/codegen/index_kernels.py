"""The kernels of indexing: gathers, scatters, and the last writer of every place.

    gather   out[a, j, b]         = x[a, i, b]      x: [A, n, B]
    scatter  out[a, i, b]        += x[a, j, b]      out: [A, n, B], zero before

for an index i of (a, j) or of (a, j, b) in [-n, n). An index out of range is written to `fault` as
(1, index), and 0 is used instead. Two threads of a scatter never have one place: they share A and
B, or each owns a range of n and passes over all indices, so that sums are in the order of j.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from striate.codegen.elements import load_element
from striate.codegen.emitter import (
    I8,
    I64,
    Emitter,
    Index,
    Value,
    element,
    size_of,
    storage,
    vector,
)
from striate.codegen.ordering import comparable
from striate.dtype import DType, bfloat16, bool_


def plus(e: Emitter, dtype: DType, x: Value, y: Value) -> Value:
    """The sum of two loaded elements; of bools, as bytes, whether one is true."""
    if dtype is bool_:
        return e.b.or_(x, y)
    return e.b.fadd(x, y) if dtype.is_floating else e.b.add(x, y)


def _given(e: Emitter, p: Value, dtype: DType) -> Value:
    """The integer at p as an i64."""
    given = e.load(p, storage(dtype))
    if dtype.bits == 64:
        return given
    return e.b.sext(given, I64) if dtype.kind == "i" else e.b.zext(given, I64)


def _checked(
    e: Emitter, p: Value, dtype: DType, n: Value, fault: Value, negative: bool = True
) -> Value:
    """The index at p in [0, n): a negative one counts from the end, a wrong one is reported."""
    i = given = _given(e, p, dtype)
    if negative and dtype.kind == "i":
        i = e.b.select(e.b.icmp_signed("<", given, e.index(0)), e.b.add(given, n), given)
    bad = e.b.icmp_unsigned(">=", i, n)
    with e.b.if_then(bad, likely=False):
        e.store(e.index(1), fault)
        e.store(given, e.at(fault, 1, I64))
    return e.b.select(bad, e.index(0), i)


def _pieces(
    e: Emitter, outer: Value, inner: Value, body: Callable[[Value, Value, Value], object]
) -> None:
    """This thread's part of outer * inner pieces, as body(a, first, last + 1 of the inner)."""
    first, stop = e.share(e.b.mul(outer, inner))
    with e.when(e.b.icmp_signed("<", first, stop)):
        last = e.b.udiv(e.b.sub(stop, e.index(1)), inner)

        def run(a: Value) -> None:
            start = e.b.mul(a, inner)
            body(
                a,
                e.larger(e.b.sub(first, start), 0),
                e.smaller(e.b.sub(stop, start), inner),
            )

        e.each(e.b.udiv(first, inner), e.add(last, 1), run)


def _row(
    e: Emitter, start: Index, stop: Value, lanes: int, body: Callable[[Value, int], object]
) -> None:
    """body(i, number of lanes) over [start, stop): vectors, then single elements."""
    start = e.index(start)
    count = e.b.sub(stop, start)
    whole = e.add(start, e.b.sub(count, e.b.srem(count, e.index(lanes))))
    e.each(start, whole, lambda i: body(i, lanes), lanes)
    e.each(whole, stop, lambda i: body(i, 1))


@dataclass(frozen=True)
class Gather:
    """out[a, j, b] = x[a, i, b]. Words: x, index, out, fault, A, n, m, B, strides of the index.

    Attributes:
        dtype: integers of the elements' size.
        index: dtype of the indices.
        rows: B is `one`; or the index is the same for a `whole` row b; or there is one for `each`
            element.
    """

    dtype: DType
    index: DType
    rows: str

    @property
    def name(self) -> str:
        """As `gather_whole_i32_i64`."""
        return f"gather_{self.rows}_{self.dtype.short}_{self.index.short}"

    def emit(self, e: Emitter) -> None:
        """The pairs (a, j) are shared."""
        x, index, out, fault = (e.pointer(i) for i in range(4))
        outer, n, m, inner, pitch, step = (e.number(i) for i in range(4, 10))
        one, many = storage(self.dtype), storage(self.index)

        def move(to: Value, source: Value, lanes: int = 1) -> None:
            e.store(e.load(source, vector(one, lanes)), to)

        def rows(a: Value, first: Value, stop: Value) -> None:
            source = e.at(x, e.mul(e.mul(a, n), inner), one)
            target = e.at(out, e.mul(e.mul(a, m), inner), one)
            indices = e.at(index, e.mul(a, pitch), many)

            def row(j: Value) -> None:
                at = e.at(indices, e.mul(j, step), many)
                if self.rows == "one":
                    i = _checked(e, at, self.index, n, fault)
                    move(e.at(target, j, one), e.at(source, i, one))
                    return
                to = e.at(target, e.mul(j, inner), one)
                if self.rows == "whole":
                    i = _checked(e, at, self.index, n, fault)
                    back = e.at(source, e.mul(i, inner), one)
                    lanes = e.target.lanes(self.dtype.bits)
                    _row(
                        e,
                        0,
                        inner,
                        lanes,
                        lambda b, k: move(e.at(to, b, one), e.at(back, b, one), k),
                    )
                    return

                def cell(b: Value) -> None:
                    i = _checked(e, e.at(at, b, many), self.index, n, fault)
                    move(e.at(to, b, one), e.at(source, e.add(e.mul(i, inner), b), one))

                e.each(0, inner, cell)

            e.each(first, stop, row)

        _pieces(e, outer, m, rows)


@dataclass(frozen=True)
class Scatter:
    """out[a, i, b] += x[a, j, b]. Words: x, index, out, fault, scratch, A, n, m, B, strides of the
    index, grain (B is shared in pieces of so many elements), bytes of scratch memory a thread.

    bfloat16 is summed as float32 [n, grain] in scratch memory, rounded once.

    Attributes:
        dtype: of the values.
        index: dtype of the indices.
        rows: as for `Gather`.
        owned: every thread owns a range of n, else of A and B.
        checked: indices may be negative or out of range.
    """

    dtype: DType
    index: DType
    rows: str
    owned: bool
    checked: bool

    @property
    def name(self) -> str:
        """As `scatter_whole_f32_i64`."""
        kind = self.rows + ("_owned" if self.owned else "")
        return f"scatter_{kind}_{self.dtype.short}_{self.index.short}"

    def emit(self, e: Emitter) -> None:
        """Pieces of (a, b), or of n, are shared."""
        outer, n, inner, grain = (e.number(i) for i in (5, 6, 8, 11))
        if self.owned:
            first, stop = e.share(n)
            e.each(0, outer, lambda a: self.part(e, a, e.index(0), inner, first, stop))
            return
        zero = e.index(0)
        pieces = e.b.udiv(e.b.sub(e.b.add(inner, grain), e.index(1)), grain)

        def rows(a: Value, first: Value, stop: Value) -> None:
            if self.dtype is not bfloat16:
                self.part(
                    e, a, e.b.mul(first, grain), e.smaller(e.b.mul(stop, grain), inner), zero, n
                )
                return

            def piece(i: Value) -> None:
                start = e.b.mul(i, grain)
                self.part(e, a, start, e.smaller(e.b.add(start, grain), inner), zero, n)

            e.each(first, stop, piece)

        _pieces(e, outer, pieces, rows)

    def part(self, e: Emitter, a: Value, b0: Value, b1: Value, n0: Value, n1: Value) -> None:
        """out[a, n0:n1, b0:b1]; of bfloat16 a piece at a time."""
        n, m, inner, pitch, step, grain = (e.number(i) for i in (6, 7, 8, 9, 10, 11))
        one, wide, many = storage(self.dtype), element(comparable(self.dtype)), storage(self.index)
        rounded = self.dtype is bfloat16
        source = e.at(e.pointer(0), e.mul(e.mul(a, m), inner), one)
        out = e.at(e.pointer(2), e.mul(e.mul(a, n), inner), one)
        sums, line = out, inner  # sums[i, b] is element i * line + b
        if rounded:  # row i of the scratch memory begins at column b0
            per_thread = e.b.mul(e.thread, e.number(12))
            sums = e.at(e.pointer(4), per_thread, I8)
            sums = e.at(sums, e.b.sub(e.index(0), b0), wide)
            line = grain
        indices = e.at(e.pointer(1), e.mul(a, pitch), many)
        lanes = e.target.lanes(8 * size_of(wide))

        def zero(at: Value, to: Value, k: int) -> None:
            e.store(e.const(vector(wide, k), 0), at)

        def round_off(at: Value, to: Value, k: int) -> None:
            e.store(e.narrow(e.load(at, vector(wide, k)), self.dtype), to)

        def every(body: Callable[[Value, Value, int], object]) -> None:
            """body(address of sums, of out, lanes) for all of [n0:n1, b0:b1]."""
            if self.rows == "one":  # single elements are one row of n
                _row(e, n0, n1, lanes, lambda i, k: body(e.at(sums, i, wide), e.at(out, i, one), k))
                return

            def row(i: Value) -> None:
                at, to = e.at(sums, e.mul(i, line), wide), e.at(out, e.mul(i, inner), one)
                _row(e, b0, b1, lanes, lambda b, k: body(e.at(at, b, wide), e.at(to, b, one), k))

            e.each(n0, n1, row)

        def place(at: Value, b: Value, k: int, value: Value) -> None:
            to = e.at(e.at(sums, e.mul(at, line), wide), b, wide)
            e.store(plus(e, self.dtype, e.load(to, vector(wide, k)), value), to)

        def value_of(j: Value, b: Value, k: int) -> Value:
            p = e.at(e.at(source, e.mul(j, inner), one), b, one)
            return load_element(e, p, comparable(self.dtype), k)

        def owned(i: Value, body: Callable[[], object]) -> None:
            if not self.owned:
                body()
                return
            with e.when(e.b.icmp_unsigned("<", e.b.sub(i, n0), e.b.sub(n1, n0))):
                body()

        def row(j: Value) -> None:
            at = e.at(indices, e.mul(j, step), many)
            if self.rows == "one":
                i = self.place_of(e, at, n)
                owned(i, lambda: place(i, b0, 1, value_of(j, b0, 1)))
                return
            if self.rows == "whole":
                i = self.place_of(e, at, n)
                owned(
                    i,
                    lambda: _row(e, b0, b1, lanes, lambda b, k: place(i, b, k, value_of(j, b, k))),
                )
                return

            def cell(b: Value) -> None:
                i = self.place_of(e, e.at(at, b, many), n)
                owned(i, lambda: place(i, b, 1, value_of(j, b, 1)))

            e.each(b0, b1, cell)

        every(zero)
        e.each(0, m, row)
        if rounded:
            every(round_off)

    def place_of(self, e: Emitter, p: Value, n: Value) -> Value:
        """The index at p."""
        if self.checked:
            return _checked(e, p, self.index, n, e.pointer(3))
        return _given(e, p, self.index)


@dataclass(frozen=True)
class LastWriter:
    """bool[rows, m] of index[rows, m] in [0, size). Words: index, out, fault, scratch i64[size],
    rows, size, m, bytes of scratch memory a thread.
    """

    index: DType

    @property
    def name(self) -> str:
        """As `last_writer_i64`."""
        return f"last_writer_{self.index.short}"

    def emit(self, e: Emitter) -> None:
        """Rows are shared. Every place that is read was written in this row before."""
        index, out, fault, scratch = (e.pointer(i) for i in range(4))
        rows, size, m = (e.number(i) for i in range(4, 7))
        many = storage(self.index)
        owners = e.at(scratch, e.b.mul(e.thread, e.number(7)), I8)

        def row(r: Value) -> None:
            indices, wins = e.at(index, e.mul(r, m), many), e.at(out, e.mul(r, m), I8)

            def owner(j: Value) -> Value:
                i = _checked(e, e.at(indices, j, many), self.index, size, fault, negative=False)
                return e.at(owners, i, I64)

            def last(j: Value) -> None:
                same = e.b.icmp_signed("==", e.load(owner(j), I64), j)
                e.store(e.b.zext(same, I8), e.at(wins, j, I8))

            e.each(0, m, lambda j: e.store(j, owner(j)))
            e.each(0, m, last)

        e.each(*e.share(rows), row)
