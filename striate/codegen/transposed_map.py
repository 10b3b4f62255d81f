"""Loops over arrays of which some are contiguous along another axis than what is written.

    out_j[i] = expression_j(in_0[i], in_1[i], ...)         i in a box of any rank

As `loops.Map`, with axes (outer..., p, q): outputs are contiguous along q, some inputs along p.
Such an input is read in squares, V vectors along p, and transposed in registers. The last square of
an axis moves back until it fits: what it shares with the one before is written twice, the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from striate.codegen.elements import load_element, store_element
from striate.codegen.emitter import Emitter, Index, Value, lanes_of, storage, vector
from striate.codegen.expression import Expression, emit_instruction
from striate.codegen.loops import (
    UNIT_ELEMENTS,
    Access,
    Walk,
    Words,
    each_unit,
    spread,
    vector_lanes,
)
from striate.codegen.transposition import transposed

ACROSS = "1s"  # the last steps of an input that is contiguous along p
STRIP = 128  # at most so many elements of an axis in a unit, if the other is long as well


def transposed_axes(
    sizes: Sequence[int], inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
) -> tuple[int, int] | None:
    """The axes p and q of a box whose arrays have these strides; None: there are no squares."""
    for q in range(len(sizes)):
        if sizes[q] < 4 or any(s[q] != 1 for s in outputs):
            continue
        for p in range(len(sizes)):
            across = [s[p] == 1 and s[q] not in (0, 1) for s in inputs]
            if p == q or sizes[p] < 4 or not any(across):
                continue
            if all(a or s[q] in (0, 1) for a, s in zip(across, inputs, strict=True)):
                return p, q
    return None


def chunks(p: int, q: int) -> tuple[int, int]:
    """The parts of p and q that a unit of work has: whole squares but for the last."""
    if q <= STRIP:
        return -(-UNIT_ELEMENTS // q // 16) * 16, q
    if p <= STRIP:
        return p, -(-UNIT_ELEMENTS // p // 16) * 16
    return UNIT_ELEMENTS // STRIP, STRIP


@dataclass(frozen=True, slots=True)
class TransposedMap:
    """out[i] = expression(in[i]) for i in (outer..., P, Q).

    Words: as `loops.Map`.

    Attributes:
        outer: how many outer axes there are.
        side: 4, 8 or 16: lanes of the largest square that fits.
        inputs: the arrays that are read, as the expression's arguments.
        expression: what is computed.
        outputs: the arrays that are written, as the expression's results; contiguous along q.
        stream: they go past the caches; every place with q a multiple of `side` is at a multiple of
            `side`, and Q is one.
    """

    outer: int
    side: int
    inputs: tuple[Access, ...]
    expression: Expression
    outputs: tuple[Access, ...]
    stream: bool = False

    @property
    def name(self) -> str:
        """As `transposed_multiply_add_f32`."""
        ops = [ins.op for ins in self.expression.body if ins.op != "literal"]
        short = "_".join(ops[-3:]) or "copy"
        return f"transposed_{short}_{self.outputs[0].dtype.short}"

    def emit(self, e: Emitter) -> None:
        """The loops over units and squares."""
        words = Words(e)
        sizes = [words.number() for _ in range(self.outer)]
        P, Q, chunk_p, chunk_q = (words.number() for _ in range(4))
        arrays = [words.walk(a) for a in (*self.inputs, *self.outputs)]
        side = min(self.side, vector_lanes(e, self.expression, self.inputs))

        def unit(walks: list[Walk], p0: Value, p1: Value, q0: Value, q1: Value) -> None:
            def strip(q: Value) -> None:
                q = e.smaller(q, e.add(Q, -side))
                here = [w.moved(self.outer + 1, q) for w in walks]

                def square(p: Value) -> None:
                    p = e.smaller(p, e.add(P, -side))
                    self._square(e, side, [w.moved(self.outer, p) for w in here])

                e.each(p0, p1, square, step=side)

            e.each(q0, q1, strip, step=side)

        each_unit(e, sizes, (P, Q), (chunk_p, chunk_q), arrays, unit)
        if self.stream:
            e.publish()

    def _square(self, e: Emitter, side: int, walks: list[Walk]) -> None:
        """The places [0, side) of p and of q, from where the arrays are."""
        n, expression = len(self.inputs), self.expression
        p, q = self.outer, self.outer + 1
        columns: list[list[Value] | None] = []  # per input that is contiguous along p: its rows
        for w in walks[:n]:
            dtype = w.access.dtype
            if w.access.steps[-2:] != ACROSS:
                columns.append(None)
                continue
            raw = vector(storage(dtype), side)
            loaded = [e.load(w.moved(q, j).base, raw) for j in range(side)]
            columns.append([e.widen(row, dtype) for row in transposed(e, loaded)])
        for i in range(side):
            there = [w.moved(p, i) for w in walks]
            values = [
                _row(e, w, side) if column is None else column[i]
                for w, column in zip(there[:n], columns, strict=True)
            ]
            for ins in expression.body:
                args = [(values[a], expression.dtype(a)) for a in ins.args]
                width = max((lanes_of(v.type) for v, _ in args), default=1)
                wide = [(spread(e, v, width), d) for v, d in args]
                values.append(emit_instruction(e, ins, wide))
            for w, r in zip(there[n:], expression.results, strict=True):
                value = spread(e, values[r], side)
                store_element(e, value, w.base, w.access.dtype, stream=self.stream)


def _row(e: Emitter, w: Walk, side: int) -> Value:
    """The value along q of an array that is contiguous there, or does not move."""
    lanes: Index = side if w.access.steps[-1] == "1" else 1
    return load_element(e, w.base, w.access.dtype, lanes)
