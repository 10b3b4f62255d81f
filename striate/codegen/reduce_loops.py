"""Sums over strided arrays: one kernel adds up an `Expression` along some axes of a box.

    out_j[k] = sum over r of expression_j(in_0[k, r], in_1[k, r], ...)

Axes are (outer kept..., reduced..., q), and q is kept (lanes are separate sums) or reduced (lanes
are parts of one sum). The order of additions depends on the sizes alone. Along the last reduced
axis four sums run side by side over at most `BLOCK` places, and their total joins the sum of what
came before: the error grows with the square root of the length, roughly, not with the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from striate.codegen.emitter import F32, F64, Emitter, Value, element, scalar_of, vector
from striate.codegen.expression import Expression
from striate.codegen.loops import (
    LANE,
    ROW,
    UNIT,
    Access,
    Evaluation,
    Walk,
    Words,
    spread,
    vector_lanes,
)
from striate.dtype import compute_dtype

BLOCK = 512
SIDE = 4  # sums that run side by side


@dataclass(frozen=True, slots=True)
class Sum:
    """out[k] = sum of expression(in[k, r]) over r, for (outer kept..., reduced..., Q).

    Words: the sizes of the outer axes, with `parts` the size of a part; the sizes of the reduced
    axes; Q; then per input and per output its address and a stride per `s`. With `parts` the last
    outer axis counts parts of the first reduced axis: partial sums, which another step adds up.

    Attributes:
        outer, reduced: how many axes of each kind there are; reduced > 0.
        kept_lanes: q is kept.
        inner: the size of q where it is fixed (and kept), else 0.
        parts: whether the sums are partial.
        inputs: the arrays that are read; steps along (outer..., reduced..., q), without parts.
        expression: what is added up, in floating or 64-bit integer dtypes.
        outputs: the arrays that are written; steps along (outer..., q).
    """

    outer: int
    reduced: int
    kept_lanes: bool
    inner: int
    parts: bool
    inputs: tuple[Access, ...]
    expression: Expression
    outputs: tuple[Access, ...]

    @property
    def name(self) -> str:
        """As `sum_multiply_f32`."""
        ops = [ins.op for ins in self.expression.body if ins.op != "literal"]
        return "_".join(["sum", *ops[-2:], self.outputs[0].dtype.short])

    def emit(self, e: Emitter) -> None:
        """The loops over units; the sums of each."""
        b, words = e.b, Words(e)
        sizes = [words.number() for _ in range(self.outer)]
        part_size = words.number() if self.parts else None
        reduced = [words.number() for _ in range(self.reduced)]
        Q = words.number()
        ins = [words.walk(a) for a in self.inputs]
        outs = [words.walk(a) for a in self.outputs]
        lanes = vector_lanes(e, self.expression, self.inputs)
        if self.inner:
            lanes = min(lanes, self.inner)
        tiles = b.udiv(e.add(Q, lanes - 1), e.index(lanes)) if self.kept_lanes else e.index(1)
        units = tiles
        for n in sizes:
            units = e.mul(units, n)
        first, last = e.share(units)

        def unit(u: Value) -> None:
            tile, at = b.urem(u, tiles), b.udiv(u, tiles)
            inputs, outputs = ins, outs
            ranges = [(e.index(0), n) for n in reduced]
            for axis in reversed(range(self.outer)):
                i, at = b.urem(at, sizes[axis]), b.udiv(at, sizes[axis])
                outputs = [w.moved(axis, i) for w in outputs]
                if self.parts and axis == self.outer - 1:
                    start = e.mul(i, part_size)
                    ranges[0] = (start, e.smaller(reduced[0], e.add(start, part_size)))
                else:
                    inputs = [w.moved(axis, i) for w in inputs]
            if not self.kept_lanes:
                totals = self._along_lanes(e, inputs, ranges, Q, lanes)
                for w, total in zip(outputs, totals, strict=True):
                    w.store(total)
                return
            q = e.mul(tile, lanes)
            inputs = [w.moved(self._axes, q) for w in inputs]
            outputs = [w.moved(self.outer, q) for w in outputs]
            left = b.sub(Q, q)
            if self.inner and self.inner % lanes == 0:
                self._across_lanes(e, inputs, outputs, ranges, lanes, None)
                return
            with e.either(b.icmp_signed(">=", left, e.index(lanes))) as (whole, rest):
                with whole:
                    self._across_lanes(e, inputs, outputs, ranges, lanes, None)
                with rest:
                    if e.target.masks and not self._strided:
                        mask = e.first_lanes(left, lanes)
                        self._across_lanes(e, inputs, outputs, ranges, lanes, mask)
                    else:
                        e.each(
                            0,
                            left,
                            lambda i: self._across_lanes(
                                e,
                                [w.moved(self._axes, i) for w in inputs],
                                [w.moved(self.outer, i) for w in outputs],
                                ranges,
                                1,
                                None,
                            ),
                        )

        e.each(first, last, unit)

    @property
    def _axes(self) -> int:
        """The index of q among the axes of an input."""
        return self.outer - self.parts + self.reduced

    @property
    def _strided(self) -> bool:
        return any(a.steps[-1] == "s" for a in (*self.inputs, *self.outputs))

    def _levels(self) -> list[int]:
        """UNIT, or ROW for what moves along a reduced axis, or LANE along a reduced q."""
        levels = []
        for a in self.inputs:
            moves = a.steps[self._axes - self.reduced : self._axes]
            level = ROW if moves.strip("0") else UNIT
            levels.append(LANE if not self.kept_lanes and a.steps[-1] != "0" else level)
        return levels

    def _zeros(self, e: Emitter, lanes: int) -> list[Value]:
        kinds = [element(compute_dtype(self.expression.dtype(r))) for r in self.expression.results]
        return [e.const(vector(t, lanes), 0) for t in kinds]

    def _across_lanes(
        self,
        e: Emitter,
        inputs: list[Walk],
        outputs: list[Walk],
        ranges: Sequence[tuple[Value, Value]],
        lanes: int,
        mask: Value | None,
    ) -> None:
        """Separate sums in the lanes of q."""
        evaluation = Evaluation(e, self.expression, self._levels())
        evaluation.enter(UNIT, inputs, lanes, mask)
        zeros = self._zeros(e, lanes)

        def summand(walks: list[Walk]) -> list[Value]:
            evaluation.enter(ROW, walks, lanes, mask)
            return evaluation.results(lanes)

        totals = self._nest(e, inputs, ranges, zeros, summand)
        for w, total in zip(outputs, totals, strict=True):
            w.store(total, mask)

    def _nest(  # type: ignore[no-untyped-def]
        self, e: Emitter, inputs: list[Walk], ranges, zeros: list[Value], summand
    ) -> list[Value]:
        """The sums over all reduced axes of what `summand` gives at a place."""
        first = self._axes - self.reduced

        def level(depth: int, walks: list[Walk], totals: list[Value]) -> list[Value]:
            start, stop = ranges[depth]
            axis = first + depth
            if depth < self.reduced - 1:
                return e.loop(
                    start,
                    stop,
                    1,
                    totals,
                    lambda i, acc: level(depth + 1, [w.moved(axis, i) for w in walks], acc),
                )
            return blocked_sum(
                e, start, stop, totals, zeros, lambda i: summand([w.moved(axis, i) for w in walks])
            )

        return level(0, inputs, zeros)

    def _along_lanes(
        self,
        e: Emitter,
        inputs: list[Walk],
        ranges: Sequence[tuple[Value, Value]],
        Q: Value,
        lanes: int,
    ) -> list[Value]:
        """One sum: q is reduced too, the lanes are parts that are added in the end."""
        evaluation = Evaluation(e, self.expression, self._levels())
        evaluation.enter(UNIT, inputs, 1)
        zeros = [*self._zeros(e, lanes), *self._zeros(e, 1)]  # lanes, and the scalars of the tail
        count = len(zeros) // 2
        first = self._axes - self.reduced

        def row(walks: list[Walk], totals: list[Value]) -> list[Value]:
            evaluation.enter(ROW, walks, 1)

            def place(q: Value, width: int) -> list[Value]:
                evaluation.enter(LANE, [w.moved(self._axes, q) for w in walks], width)
                return [spread(e, v, width) for v in evaluation.results(width)]

            whole = e.b.and_(Q, e.index(-lanes))
            vectors = blocked_sum(
                e,
                e.index(0),
                whole,
                totals[:count],
                zeros[:count],
                lambda q: place(q, lanes),
                lanes,
            )
            scalars = blocked_sum(
                e, whole, Q, totals[count:], zeros[count:], lambda q: place(q, 1), 1
            )
            return [*vectors, *scalars]

        def level(depth: int, walks: list[Walk], totals: list[Value]) -> list[Value]:
            if depth == self.reduced:
                return row(walks, totals)
            start, stop = ranges[depth]
            return e.loop(
                start,
                stop,
                1,
                totals,
                lambda i, acc: level(depth + 1, [w.moved(first + depth, i) for w in walks], acc),
            )

        totals = level(0, inputs, zeros)
        return [
            plus(e, lane_sum(e, v), s) for v, s in zip(totals[:count], totals[count:], strict=True)
        ]


def blocked_sum(  # type: ignore[no-untyped-def]
    e: Emitter, start: Value, stop: Value, totals: list[Value], zeros: list[Value], summand,
    step: int = 1,
) -> list[Value]:  # fmt: skip
    """totals + the sum of summand(i) for i in range(start, stop, step), block by block."""
    n = len(totals)

    def block(first: Value, totals: list[Value]) -> list[Value]:
        last = e.smaller(stop, e.add(first, BLOCK * step))
        many = e.b.and_(e.b.sub(last, first), e.index(-SIDE * step))
        middle = e.add(first, many)

        def side_by_side(i: Value, acc: list[Value]) -> list[Value]:
            new = []
            for j in range(SIDE):
                parts = summand(e.add(i, j * step))
                new += [plus(e, a, x) for a, x in zip(acc[j * n : j * n + n], parts, strict=True)]
            return new

        acc = e.loop(first, middle, SIDE * step, zeros * SIDE, side_by_side)
        pairs = [plus(e, acc[i], acc[n + i]) for i in range(n)]
        others = [plus(e, acc[2 * n + i], acc[3 * n + i]) for i in range(n)]
        sums = [plus(e, x, y) for x, y in zip(pairs, others, strict=True)]
        sums = e.loop(
            middle,
            last,
            step,
            sums,
            lambda i, acc: [plus(e, a, x) for a, x in zip(acc, summand(i), strict=True)],
        )
        return [plus(e, t, s) for t, s in zip(totals, sums, strict=True)]

    return e.loop(start, stop, BLOCK * step, totals, block)


def plus(e: Emitter, x: Value, y: Value) -> Value:
    """x + y, of floats or integers."""
    return e.b.fadd(x, y) if scalar_of(x.type) in (F32, F64) else e.b.add(x, y)


def lane_sum(e: Emitter, x: Value) -> Value:
    """The sum of the lanes, in pairs."""
    if not hasattr(x.type, "count"):
        return x
    parts = [e.b.extract_element(x, e.index(i)) for i in range(x.type.count)]
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [plus(e, parts[i], parts[i + half]) for i in range(half)]
    return parts[0]
