"""Loops over strided arrays: one kernel evaluates an `Expression` at every place of a box.

    out_j[i] = expression_j(in_0[i], in_1[i], ...)         i in a box of any rank

Axes are (outer..., p, q). A unit of work is one place of the outer axes with a chunk of p and of q;
units are shared among threads. Lanes of a vector run along q: either q has a fixed small size (a
block of channels: no loop at all), or it is a loop with a tail. An input that does not move along
an axis is loaded, and what depends on it computed, outside of that axis' loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from striate.codegen.elements import load_element, store_element
from striate.codegen.emitter import Emitter, Index, Value, element, lanes_of, size_of, storage
from striate.codegen.expression import Expression, emit_instruction
from striate.codegen.floats import from_registers, register
from striate.dtype import DType, compute_dtype

TOGETHER = 4  # vectors whose long chains of instructions are interleaved, to wait less
UNIT_ELEMENTS = 8192  # elements of a unit of work: enough to pay for its start
UNIT, ROW, LANE = range(3)  # where a value is computed: per unit, per p, per q


@dataclass(frozen=True, slots=True)
class Access:
    """How a kernel walks over an array.

    Attributes:
        dtype: of the array.
        steps: per axis of the loops `0` (does not move), `1` (the next element; along q only) or
            `s` (a stride that is a word).
    """

    dtype: DType
    steps: str


class Words:
    """Reads the words of a kernel in order."""

    def __init__(self, e: Emitter) -> None:
        self.e = e
        self.i = 0

    def number(self) -> Value:
        """The next word, as an i64."""
        self.i += 1
        return self.e.number(self.i - 1)

    def pointer(self) -> Value:
        """The next word, as an address."""
        self.i += 1
        return self.e.pointer(self.i - 1)

    def walk(self, access: Access) -> Walk:
        """The next array: its address, then a stride per `s`."""
        base = self.pointer()
        strides: list[Index] = [
            self.number() if step == "s" else int(step) for step in access.steps
        ]
        return Walk(self.e, access, base, strides)


@dataclass(slots=True)
class Walk:
    """An array in a kernel: the address of the current place, and the strides of its axes."""

    e: Emitter
    access: Access
    base: Value
    strides: list[Index]

    def moved(self, axis: int, i: Index) -> Walk:
        """The array, seen from index i of an axis."""
        if self.access.steps[axis] == "0":
            return self
        offset = self.e.mul(i, self.strides[axis])
        base = self.e.at(self.base, offset, storage(self.access.dtype))
        return Walk(self.e, self.access, base, self.strides)

    def load(self, lanes: int, mask: Value | None = None) -> Value:
        """The value here: a scalar where q does not move, else `lanes` values along q."""
        e, dtype, step = self.e, self.access.dtype, self.access.steps[-1]
        if step == "0" or lanes == 1:
            return load_element(e, self.base, dtype, 1)
        if step == "1":
            return load_element(e, self.base, dtype, lanes, mask)
        assert mask is None, "strided lanes have a scalar tail"
        return gather(e, [load_element(e, self.moved(-1, i).base, dtype, 1) for i in range(lanes)])

    def store(self, value: Value, mask: Value | None = None, stream: bool = False) -> None:
        """Write a value here."""
        e, dtype, lanes = self.e, self.access.dtype, lanes_of(value.type)
        if lanes == 1 or self.access.steps[-1] == "1":
            store_element(e, value, self.base, dtype, mask, stream)
            return
        assert mask is None, "strided lanes have a scalar tail"
        for i in range(lanes):
            one = e.b.extract_element(value, e.index(i))
            store_element(e, one, self.moved(-1, i).base, dtype)


@dataclass(slots=True)
class Rows:
    """An array, seen from several neighbouring places at once: their vectors one after another."""

    walks: list[Walk]

    def load(self, lanes: int, mask: Value | None = None) -> Value:
        """As `Walk.load`, each `lanes` values."""
        e = self.walks[0].e
        loaded = [w.load(lanes, mask) for w in self.walks]
        if len(loaded) == 1:
            return loaded[0]
        return from_registers(e, [spread(e, x, lanes) for x in loaded], lanes * len(loaded))

    def store(self, value: Value, stream: bool = False) -> None:
        """Write their lanes of a value."""
        lanes = lanes_of(value.type) // len(self.walks)
        for i, w in enumerate(self.walks):
            w.store(register(w.e, value, i * lanes, lanes), stream=stream)


def gather(e: Emitter, scalars: Sequence[Value]) -> Value:
    """A vector of these scalars."""
    out = e.undefined(scalars[0].type, len(scalars))
    for i, x in enumerate(scalars):
        out = e.b.insert_element(out, x, e.index(i))
    return out


class Evaluation:
    """The values of an expression, computed level by level as the loops are entered."""

    def __init__(self, e: Emitter, expression: Expression, levels: Sequence[int]) -> None:
        self.e = e
        self.expression = expression
        self.levels = [*levels]
        for ins in expression.body:
            self.levels.append(max((self.levels[a] for a in ins.args), default=UNIT))
        self.values: dict[int, Value] = {}

    def enter(
        self, level: int, walks: Sequence[Walk | Rows], lanes: int, mask: Value | None = None
    ) -> None:
        """Load and compute everything of this level; deeper values are forgotten."""
        self.values = {i: v for i, v in self.values.items() if self.levels[i] < level}
        count = len(walks)
        for i, walk in enumerate(walks):
            if self.levels[i] == level:
                self.values[i] = walk.load(lanes, mask)
        for i, ins in enumerate(self.expression.body, start=count):
            if self.levels[i] != level:
                continue
            args = [(self.values[a], self.expression.dtype(a)) for a in ins.args]
            width = max((lanes_of(v.type) for v, _ in args), default=1)
            wide = [(spread(self.e, v, width), d) for v, d in args]
            self.values[i] = emit_instruction(self.e, ins, wide)

    def results(self, lanes: int) -> list[Value]:
        """The results, each with this many lanes."""
        return [spread(self.e, self.values[r], lanes) for r in self.expression.results]


def spread(e: Emitter, x: Value, lanes: int) -> Value:
    """`x`, repeated until it has `lanes`: where it was computed, so that no loop repeats that."""
    have = lanes_of(x.type)
    if have == lanes:
        return x

    def repeated() -> Value:
        if have == 1:
            return e.splat(x, lanes)
        return from_registers(e, [x] * (lanes // have), lanes)

    if isinstance(x, ir.Instruction):
        with e.b.goto_block(x.parent):
            return repeated()
    return repeated()


def vector_lanes(e: Emitter, expression: Expression, inputs: Sequence[Access]) -> int:
    """Lanes of a vector register for the widest value that varies along q."""
    varies = [a.steps[-1] != "0" for a in inputs]
    for ins in expression.body:
        varies.append(any(varies[a] for a in ins.args))
    wide = [element(compute_dtype(expression.dtype(i))) for i, moves in enumerate(varies) if moves]
    return e.target.vector_bytes // max([4, *(size_of(t) for t in wide)])


def each_unit(
    e: Emitter,
    outer: Sequence[Value],
    sizes: tuple[Value, Value],
    chunks: tuple[Value, Value | None],
    arrays: Sequence[Walk],
    body: Callable[[list[Walk], Value, Value, Value, Value], None],
) -> None:
    """body(arrays, p0, p1, q0, q1) for this thread's units: a place of the outer axes, with a chunk
    of p and one of q, which is whole where its chunk is None.
    """
    b = e.b
    (P, Q), (chunk_p, chunk_q) = sizes, chunks

    def parts(n: Value, chunk: Value) -> Value:
        return b.udiv(e.add(n, chunk, -1), chunk)

    count_p = parts(P, chunk_p)
    count_q = e.index(1) if chunk_q is None else parts(Q, chunk_q)
    units = e.mul(count_p, count_q)
    for n in outer:
        units = e.mul(units, n)
    first, last = e.share(units)

    def unit(at: Value) -> None:
        walks, q0, q1 = [*arrays], e.index(0), Q
        if chunk_q is not None:
            q0, at = e.mul(b.urem(at, count_q), chunk_q), b.udiv(at, count_q)
            q1 = e.smaller(Q, e.add(q0, chunk_q))
        p0, at = e.mul(b.urem(at, count_p), chunk_p), b.udiv(at, count_p)
        for axis in reversed(range(len(outer))):
            i, at = b.urem(at, outer[axis]), b.udiv(at, outer[axis])
            walks = [w.moved(axis, i) for w in walks]
        body(walks, p0, e.smaller(P, e.add(p0, chunk_p)), q0, q1)

    e.each(first, last, unit)


@dataclass(frozen=True, slots=True)
class Map:
    """out[i] = expression(in[i]) for i in (outer..., P, Q).

    Words: the sizes of the outer axes, P, Q, the chunks of P and Q, then per input and per output
    its address and a stride per `s`.

    Attributes:
        outer: how many outer axes there are.
        inner: the size of q where it is fixed, else 0.
        inputs: the arrays that are read, as the expression's arguments.
        expression: what is computed.
        outputs: the arrays that are written, as the expression's results.
        stream: they go past the caches; every place of q = 0 is at a multiple of q's size.
    """

    outer: int
    inner: int
    inputs: tuple[Access, ...]
    expression: Expression
    outputs: tuple[Access, ...]
    stream: bool = False

    @property
    def name(self) -> str:
        """As `map_multiply_add_f32`."""
        ops = [ins.op for ins in self.expression.body if ins.op != "literal"]
        short = "_".join(ops[-3:]) or "copy"
        return f"map_{short}_{self.outputs[0].dtype.short}"

    def emit(self, e: Emitter) -> None:
        """The loops over units, p and q."""
        words = Words(e)
        sizes = [words.number() for _ in range(self.outer)]
        P, Q, chunk_p, chunk_q = (words.number() for _ in range(4))
        arrays = [words.walk(a) for a in (*self.inputs, *self.outputs)]
        levels = [input_level(a.steps, bool(self.inner)) for a in self.inputs]
        evaluation = Evaluation(e, self.expression, levels)

        def unit(walks: list[Walk], p0: Value, p1: Value, q0: Value, q1: Value) -> None:
            if self.inner:
                self._blocks(e, evaluation, walks, p0, p1)
            else:
                self._rows(e, evaluation, walks, p0, p1, q0, q1)

        each_unit(e, sizes, (P, Q), (chunk_p, None if self.inner else chunk_q), arrays, unit)
        if self.stream:
            e.publish()

    def _blocks(
        self, e: Emitter, evaluation: Evaluation, walks: list[Walk], p0: Value, p1: Value
    ) -> None:
        """q has a fixed size: no loop along it."""
        widest = vector_lanes(e, self.expression, self.inputs)
        lanes = min(self.inner, widest)
        for q in range(0, self.inner, lanes):
            here = [w.moved(self.outer + 1, q) for w in walks]
            n = len(self.inputs)
            evaluation.enter(UNIT, here[:n], lanes)

            def rows(p: Value, count: int, here: list[Walk] = here, n: int = n) -> None:
                there = [
                    Rows([w.moved(self.outer, e.add(p, i)) for i in range(count)]) for w in here
                ]
                evaluation.enter(ROW, there[:n], lanes)
                for w, value in zip(there[n:], evaluation.results(lanes * count), strict=True):
                    w.store(value, stream=self.stream)

            end = p0
            if self.expression.polynomials:
                end = e.add(p0, e.b.and_(e.b.sub(p1, p0), e.index(-TOGETHER)))
                e.each(p0, end, lambda p: rows(p, TOGETHER), TOGETHER)
            e.each(end, p1, lambda p: rows(p, 1))

    def _rows(
        self,
        e: Emitter,
        evaluation: Evaluation,
        walks: list[Walk],
        p0: Value,
        p1: Value,
        q0: Value,
        q1: Value,
    ) -> None:
        """q is a loop over vectors, with a tail."""
        n = len(self.inputs)
        lanes = vector_lanes(e, self.expression, self.inputs)
        strided = any(a.steps[-1] == "s" for a in (*self.inputs, *self.outputs))
        evaluation.enter(UNIT, walks[:n], 1)

        def row(p: Value) -> None:
            there = [w.moved(self.outer, p) for w in walks]
            evaluation.enter(ROW, there[:n], 1)

            def place(q: Value, width: int, mask: Value | None) -> None:
                here = [w.moved(self.outer + 1, q) for w in there]
                evaluation.enter(LANE, here[:n], width, mask)
                for w, value in zip(here[n:], evaluation.results(width), strict=True):
                    w.store(value, mask)

            together = TOGETHER if self.expression.polynomials and not strided else 1
            masked = e.target.masks and not strided
            along_lanes(e, q0, q1, lanes, place, masked, together)

        e.each(p0, p1, row)


def along_lanes(
    e: Emitter,
    start: Value,
    stop: Value,
    lanes: int,
    place: Callable[[Value, int, Value | None], None],
    masked: bool,
    together: int = 1,
) -> None:
    """place(i, lanes, None) along whole vectors, then the rest under a mask or one by one.

    `together` vectors are one place first, as long as there are so many.
    """
    if lanes == 1:
        e.each(start, stop, lambda i: place(i, 1, None))
        return
    if together > 1:
        wide = lanes * together
        end = e.add(start, e.b.and_(e.b.sub(stop, start), e.index(-wide)))
        e.each(start, end, lambda i: place(i, wide, None), step=wide)
        start = end
    whole = e.b.and_(e.b.sub(stop, start), e.index(-lanes))
    end = e.add(start, whole)
    e.each(start, end, lambda i: place(i, lanes, None), step=lanes)
    if masked:
        with e.when(e.b.icmp_signed("<", end, stop)):
            place(end, lanes, e.first_lanes(e.b.sub(stop, end), lanes))
    else:
        e.each(end, stop, lambda i: place(i, 1, None))


def input_level(steps: str, fixed: bool) -> int:
    """The deepest loop along which an array moves."""
    if steps[-1] != "0" and not fixed:
        return LANE
    return ROW if steps[-2] != "0" else UNIT
