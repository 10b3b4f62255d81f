"""TAKE, PUT_ADD, TAKE_ALONG_AXIS, SCATTER_ADD and LAST_WRITER on dense row-major buffers.

With the indexed axis between the axes before and behind it:

    gather   out[a, j, b]         = x[a, i, b]      x: [A, n, B]
    scatter  out[a, i, b]        += x[a, j, b]      out: [A, n, B], zero before

for i = index[j] (`take`, `put_add`) or i = index[a, j, b] (the others), i in [-n, n). An index out
of range is written to `fault` as (1, index), and 0 is used instead. A scatter adds in the order of
j, and no place has two threads: they share A and B, or else each owns a range of n and passes over
all indices. So sums do not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

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
from striate.codegen.kernel import ALIGNMENT, Buffer, Scratch, Step, Word
from striate.codegen.ordering import comparable
from striate.dtype import DType, bfloat16, bool_, int8, int16, int32, int64
from striate.ir.types import TensorType
from striate.ops.index import Indexing

SMALL = 1 << 13  # elements: too few to share
PIECE = 64  # bytes of an inner row that a thread takes at least
ROWS = 8  # pieces from which they are shared, and not the places
_BYTES = {1: int8, 2: int16, 4: int32, 8: int64}  # a dtype to copy elements of a size with


def take(
    attrs: Indexing,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
) -> list[Step]:
    """x[*A, n, *B] at index[m] -> out[*A, m, *B]; `fault` i64[2]. See ops/index.py."""
    a, b = _around(x_type.shape, attrs.axis)
    sizes = (a, attrs.size, index_type.size, b)
    return _gather("take", x, x_type, index, index_type, out, fault, sizes, (0, 1))


def take_along_axis(
    attrs: Indexing,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
) -> list[Step]:
    """x[*A, n, *B] at index[*A, m, *B] -> out[*A, m, *B]; `fault` i64[2]."""
    a, b = _around(x_type.shape, attrs.axis)
    m = index_type.shape[attrs.axis]
    strides = (m, 1) if b == 1 else None
    name = "take_along_axis"
    return _gather(name, x, x_type, index, index_type, out, fault, (a, attrs.size, m, b), strides)


def put_add(
    attrs: Indexing,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
) -> list[Step]:
    """Zeros out[*A, n, *B] plus x[*A, m, *B] at index[m]; `fault` i64[2]. Bools are or-ed."""
    a, b = _around(x_type.shape, attrs.axis)
    sizes = (a, attrs.size, index_type.size, b)
    return _scatter("put_add", x, x_type, index, index_type, out, fault, sizes, (0, 1))


def scatter_add(
    attrs: Indexing,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
) -> list[Step]:
    """Zeros out[*A, n, *B] plus x[*A, m, *B] at index[*A, m, *B]; `fault` i64[2]."""
    a, b = _around(x_type.shape, attrs.axis)
    m = index_type.shape[attrs.axis]
    strides = (m, 1) if b == 1 else None
    sizes = (a, attrs.size, m, b)
    return _scatter("scatter_add", x, x_type, index, index_type, out, fault, sizes, strides)


def last_writer(
    size: int, index: Buffer, index_type: TensorType, out: Buffer, fault: Buffer
) -> list[Step]:
    """index[*B, m] in [0, size) -> bool[*B, m]: no later place of the row has the same index."""
    if not index_type.size:
        return []
    m = index_type.shape[-1]
    rows = index_type.size // m
    small = rows == 1 or index_type.size < SMALL
    owners = Scratch(_aligned(8 * max(1, size)))
    words = (index, out, fault, owners, rows, size, m, owners.nbytes)
    kernel = LastWriter(index_type.dtype)
    return [Step(kernel, words, (out, fault), f"last_writer {index_type}", single=small)]


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Elements before and behind an axis."""
    return prod(shape[:axis]), prod(shape[axis + 1 :])


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _rows(b: int, strides: tuple[int, int] | None) -> str:
    """How many elements an index is for: `one`, the `whole` row b, or `each` has its own."""
    return "one" if b == 1 else "each" if strides is None else "whole"


def _gather(
    name: str,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
    sizes: tuple[int, int, int, int],
    strides: tuple[int, int] | None,
) -> list[Step]:
    """`sizes` are A, n, m, B; `strides` of the index over (a, j), or None if it has all axes."""
    a, n, m, b = sizes
    if not index_type.size:
        return []
    if strides and not a * n * b:  # nothing to read: the indices are only checked
        a, b = 1, 0
    elif not a * n * b:
        a, m, b, strides = 1, index_type.size, 0, (0, 1)
    kernel = Gather(_BYTES[x_type.dtype.itemsize], index_type.dtype, _rows(b, strides))
    words = (x, index, out, fault, a, n, m, b, *(strides or (m * b, b)))
    small = a * m * b < SMALL
    return [Step(kernel, words, (out, fault), f"{name} {x_type}", single=small)]


def _scatter(
    name: str,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
    sizes: tuple[int, int, int, int],
    strides: tuple[int, int] | None,
) -> list[Step]:
    """`sizes` are A, n, m, B; `strides` of the index over (a, j), or None if it has all axes."""
    a, n, m, b = sizes
    dtype = x_type.dtype
    if not a * n * b:
        if not index_type.size:
            return []
        kernel: Gather | Scatter = Gather(_BYTES[dtype.itemsize], index_type.dtype, "whole")
        words: tuple[Word, ...] = (x, index, out, fault, 1, n, index_type.size, 0, 0, 1)
        return [Step(kernel, words, (out, fault), f"{name} {x_type}", single=True)]
    grain = min(b, max(1, PIECE // dtype.itemsize))
    owned = a * -(-b // grain) < ROWS and dtype is not bfloat16
    kernel = Scatter(dtype, index_type.dtype, _rows(b, strides), owned)
    sums = Scratch(_aligned(4 * n * grain if dtype is bfloat16 else 1))
    words = (x, index, out, fault, sums, a, n, m, b, *(strides or (m * b, b)), grain, sums.nbytes)
    small = a * max(m, n) * b < SMALL
    return [Step(kernel, words, (out, fault), f"{name} {x_type}", single=small)]


# ---- what all kernels do -------------------------------------------------------------------


def _checked(
    e: Emitter, p: Value, dtype: DType, n: Value, fault: Value, negative: bool = True
) -> Value:
    """The index at p in [0, n): a negative one counts from the end, a wrong one is reported."""
    given = e.load(p, storage(dtype))
    if dtype.bits < 64:
        given = e.b.sext(given, I64) if dtype.kind == "i" else e.b.zext(given, I64)
    i = given
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


# ---- kernels -------------------------------------------------------------------------------


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
    """

    dtype: DType
    index: DType
    rows: str
    owned: bool

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

        def zero(i: Value) -> None:
            row = e.at(sums, e.mul(i, line), wide)
            _row(
                e,
                b0,
                b1,
                lanes,
                lambda b, k: e.store(e.const(vector(wide, k), 0), e.at(row, b, wide)),
            )

        def place(at: Value, b: Value, k: int, value: Value) -> None:
            to = e.at(e.at(sums, e.mul(at, line), wide), b, wide)
            e.store(self.plus(e, e.load(to, vector(wide, k)), value), to)

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
                i = _checked(e, at, self.index, n, e.pointer(3))
                owned(i, lambda: place(i, b0, 1, value_of(j, b0, 1)))
                return
            if self.rows == "whole":
                i = _checked(e, at, self.index, n, e.pointer(3))
                owned(
                    i,
                    lambda: _row(e, b0, b1, lanes, lambda b, k: place(i, b, k, value_of(j, b, k))),
                )
                return

            def cell(b: Value) -> None:
                i = _checked(e, e.at(at, b, many), self.index, n, e.pointer(3))
                owned(i, lambda: place(i, b, 1, value_of(j, b, 1)))

            e.each(b0, b1, cell)

        def finish(i: Value) -> None:
            row = e.at(sums, e.mul(i, line), wide)
            to = e.at(out, e.mul(i, inner), one)

            def some(b: Value, k: int) -> None:
                value = e.load(e.at(row, b, wide), vector(wide, k))
                e.store(e.narrow(value, self.dtype), e.at(to, b, one))

            _row(e, b0, b1, lanes, some)

        e.each(n0, n1, zero)
        e.each(0, m, row)
        if rounded:
            e.each(n0, n1, finish)

    def plus(self, e: Emitter, x: Value, y: Value) -> Value:
        """The sum, of bools whether one is true."""
        if self.dtype is bool_:
            return e.b.or_(x, y)
        return e.b.fadd(x, y) if self.dtype.is_floating else e.b.add(x, y)


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
