"""A kernel that applies an expression to arrays, for tests of the machine code of pointwise ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from striate.codegen.elements import load_element, store_element
from striate.codegen.emitter import Emitter, Value, storage
from striate.codegen.expression import Expression
from striate.codegen.kernel import Buffer, Step
from striate.codegen.pointwise import Instruction
from striate.dtype import DType
from striate.target import Target
from tests.codegen.harness import aligned, run


@dataclass(frozen=True, slots=True)
class Apply:
    """out[i] = expression(in_0[i], ...) for i < n; words: n, the inputs, the output.

    Attributes:
        expression: with one result.
        lanes: elements at a time; the last ones with a mask, or one by one for one lane.
    """

    expression: Expression
    lanes: int

    @property
    def name(self) -> str:
        return f"apply_{self.expression.body[-1].op}_{self.lanes}"

    def emit(self, e: Emitter) -> None:
        n = e.number(0)
        dtypes = self.expression.arguments
        target = self.expression.dtype(self.expression.results[0])
        inputs = [e.pointer(1 + i) for i in range(len(dtypes))]
        out = e.pointer(1 + len(dtypes))
        first, last = e.share(n)

        def part(i: Value, mask: Value | None) -> None:
            xs = [
                load_element(e, e.at(p, i, storage(d)), d, self.lanes, mask)
                for p, d in zip(inputs, dtypes, strict=True)
            ]
            (y,) = self.expression.emit(e, xs)
            store_element(e, y, e.at(out, i, storage(target)), target, mask)

        count = e.b.sub(last, first)
        rest = e.b.urem(count, e.index(self.lanes))
        whole = e.b.sub(last, rest)
        e.each(first, whole, lambda i: part(i, None), self.lanes)
        if self.lanes > 1:
            with e.when(e.b.icmp_signed(">", rest, e.index(0))):
                part(whole, e.first_lanes(rest, self.lanes))


def single(op: str, result: DType, *arguments: DType, attr: Any = None) -> Expression:
    """The expression of one op."""
    n = len(arguments)
    return Expression(arguments, (Instruction(op, result, tuple(range(n)), attr),), (n,))


def step(
    expression: Expression, lanes: int, xs: Sequence[NDArray[Any]]
) -> tuple[Step, dict[Buffer, NDArray[Any]], NDArray[Any]]:
    """(the step, its arrays, the output) for inputs of one length, copied."""
    n = xs[0].size
    arrays = {}
    for x in xs:
        copy = aligned((n,), x.dtype)
        copy[:] = x
        arrays[Buffer(copy.nbytes)] = copy
    out = aligned((n,), expression.dtype(expression.results[0]).numpy)
    buffer = Buffer(out.nbytes)
    words = (n, *arrays, buffer)
    arrays[buffer] = out
    return Step(Apply(expression, lanes), words, (buffer,)), arrays, out


def applied(
    expression: Expression,
    *xs: NDArray[Any],
    lanes: int = 16,
    threads: int = 1,
    target: Target | None = None,
) -> NDArray[Any]:
    """The expression of arrays of one length."""
    one, arrays, out = step(expression, lanes, xs)
    run([one], arrays, threads, target)
    return out
