"""MAX, MIN, ARGMAX and ARGMIN over the last axis: x[*S, n] -> [*S].

A long row is reduced along itself: every lane keeps the first extreme of its elements, in several
independent vectors, and a tree joins them, the smaller index first among equals. Short rows lie
across the lanes, one row a lane. A vector that would run over the end begins earlier instead: an
element that is met twice changes no extreme.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from llvmlite import ir

from striate.codegen.elements import load_element, store_element
from striate.codegen.emitter import I32, I64, Emitter, Index, Value, element, storage, vector
from striate.codegen.kernel import Buffer, Step
from striate.codegen.ordering import comparable, load_strided, ties, wins, worst
from striate.dtype import DType
from striate.ir.types import TensorType

UNROLL = 4  # independent vectors: the latency of a comparison and a choice
LONG = 128  # bytes of a row from which it is reduced along itself; twice that for positions
SMALL = 1 << 14  # elements: too few to share
Best = list[Value]  # [values] or [values, positions]


def extreme(op_name: str, x: Buffer, x_type: TensorType, out: Buffer) -> list[Step]:
    """`max`, `min`, `argmax` or `argmin` of x[*S, n] along its last axis, n > 0, any dtype.

    Args:
        op_name: the name of the op.
        x: [*S, n].
        x_type: of x.
        out: [*S] of x's dtype, or i64 for positions.
    """
    rows, n, dtype = prod(x_type.shape[:-1]), x_type.shape[-1], comparable(x_type.dtype)
    if not rows:
        return []
    index = op_name.startswith("arg")
    across = n * dtype.itemsize < (64 if rows < 8 else LONG << index)
    kernel = Extreme(
        dtype,
        largest=op_name.endswith("max"),
        index=index,
        limit=power_of_two(rows if across else n),
        across=across,
        wide=dtype.bits == 64 or n >= 1 << 31,
    )
    small = x_type.size < SMALL
    return [Step(kernel, (x, out, rows, n), (out,), f"{op_name} {x_type}", single=small)]


def power_of_two(n: int) -> int:
    """The largest power of two that is not more than n, and at most 64: a limit of lanes."""
    return 1 << min(6, n.bit_length() - 1)


@dataclass(frozen=True)
class Extreme:
    """x[rows, n] -> [rows]. Words: x, out, rows, n.

    Attributes:
        dtype: of x, not bool.
        largest: maxima, else minima.
        index: i64 positions, else values.
        limit: lanes at most; as many rows there are `across`, else as many elements in a row.
        across: one row a lane.
        wide: positions are computed in 64 bits.
    """

    dtype: DType
    largest: bool
    index: bool
    limit: int
    across: bool
    wide: bool

    @property
    def name(self) -> str:
        """As `argmax_f32_16`."""
        op = ("arg" if self.index else "") + ("max" if self.largest else "min")
        return f"{op}_{self.dtype.short}_{self.limit}{'_across' if self.across else ''}"

    def emit(self, e: Emitter) -> None:
        """Rows, or blocks of rows, are shared."""
        x, out, rows, n = e.pointer(0), e.pointer(1), e.number(2), e.number(3)
        bits = max(32, self.dtype.bits) if self.index or self.dtype.is_floating else self.dtype.bits
        fitted = replace(self, limit=min(self.limit, e.target.lanes(bits)))
        (fitted.emit_across if self.across else fitted.emit_along)(e, x, out, rows, n)

    # ---- one row a lane ----------------------------------------------------------------

    def emit_across(self, e: Emitter, x: Value, out: Value, rows: Value, n: Value) -> None:
        """Blocks of `limit` rows; the last may overlap the one before."""
        one, size = storage(self.dtype), self.limit

        def block(i: Value) -> None:
            row = e.smaller(e.mul(i, size), e.b.sub(rows, e.index(size)))
            start = e.at(x, e.mul(row, n), one)

            def step(j: Value, best: Best) -> Best:
                if size == 1:
                    new = [load_element(e, e.at(start, j, one), self.dtype)]
                else:
                    new = [load_strided(e, e.at(start, j, one), self.dtype, size, n)]
                if self.index:
                    new.append(e.splat(self.position(e, j), size))
                return self.later(e, best, new)

            first = e.splat(self.position(e, 0), size)
            self.store(e, out, row, e.loop(0, n, 1, self.begin(e, first), step))

        e.each(*e.share(e.b.udiv(e.add(rows, size - 1), e.index(size))), block)

    # ---- along a row -------------------------------------------------------------------

    def emit_along(self, e: Emitter, x: Value, out: Value, rows: Value, n: Value) -> None:
        """Row by row."""
        one = storage(self.dtype)
        e.each(
            *e.share(rows),
            lambda i: self.store(e, out, i, self.along(e, e.at(x, e.mul(i, n), one), n)),
        )

    def along(self, e: Emitter, p: Value, n: Value) -> Best:
        """The best of one row of n >= limit elements, in one lane."""
        size, one = self.limit, storage(self.dtype)
        ramp = ir.Constant(vector(I64 if self.wide else I32, size), [*range(size)])

        def load(j: Index) -> Best:
            x = load_element(e, e.at(p, j, one), self.dtype, size)
            at = e.splat(self.position(e, j), size)
            return [x, e.b.add(at, ramp)] if self.index else [x]

        def stripe(j: Value, carried: list[Value]) -> list[Value]:
            out: list[Value] = []
            for u in range(UNROLL):
                old = carried[u * width : (u + 1) * width]
                out += self.later(e, old, load(e.add(j, u * size)))
            return out

        begin = self.begin(e, ramp)
        width = len(begin)
        whole = e.b.sub(n, e.b.urem(n, e.index(UNROLL * size)))
        found = e.loop(0, whole, UNROLL * size, begin * UNROLL, stripe)
        best = found[:width]
        for u in range(1, UNROLL):
            best = self.joined(e, best, found[u * width : (u + 1) * width])
        last = e.b.sub(n, e.index(size))
        best = e.loop(
            whole, n, size, best, lambda j, old: self.later(e, old, load(e.smaller(j, last)))
        )
        while size > 1:  # a tree over the lanes
            size //= 2
            best = self.joined(e, *(self.part(e, best, start, size) for start in (0, size)))
        return best

    def part(self, e: Emitter, best: Best, start: int, size: int) -> Best:
        """`size` lanes from `start`."""
        if size == 1:
            return [e.b.extract_element(x, ir.Constant(I32, start)) for x in best]
        lanes = ir.Constant(ir.VectorType(I32, size), [*range(start, start + size)])
        return [e.b.shuffle_vector(x, x, lanes) for x in best]

    # ---- choices -----------------------------------------------------------------------

    def begin(self, e: Emitter, first: Value) -> Best:
        """What any element replaces or equals, at the first position of each lane."""
        x = e.const(vector(element(self.dtype), self.limit), worst(self.dtype, self.largest))
        return [x, first] if self.index else [x]

    def later(self, e: Emitter, best: Best, new: Best) -> Best:
        """`new` where it is better than `best`, which came before it."""
        take = wins(e, self.dtype, new[0], best[0], self.largest)
        return [e.b.select(take, x, y) for x, y in zip(new, best, strict=True)]

    def joined(self, e: Emitter, a: Best, b: Best) -> Best:
        """The better of two, the smaller index first among equals."""
        take = wins(e, self.dtype, b[0], a[0], self.largest)
        if self.index:
            sooner = e.b.icmp_signed("<", b[1], a[1])
            take = e.b.or_(take, e.b.and_(ties(e, self.dtype, b[0], a[0]), sooner))
        return [e.b.select(take, y, x) for x, y in zip(a, b, strict=True)]

    def position(self, e: Emitter, j: Index) -> Value:
        """An index as it is carried."""
        return e.index(j) if self.wide else e.b.trunc(e.index(j), I32)

    def store(self, e: Emitter, out: Value, row: Value, best: Best) -> None:
        """Write one row's best, or one of each lane."""
        if not self.index:
            store_element(e, best[0], e.at(out, row, storage(self.dtype)), self.dtype)
            return
        lanes = self.limit if self.across else 1
        at = best[1] if self.wide else e.b.sext(best[1], vector(I64, lanes))
        e.store(at, e.at(out, row, I64))
