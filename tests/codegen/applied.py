"""A kernel that applies an expression to arrays, for tests of the machine code of pointwise ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from numpy.typing import NDArray

from striate.codegen.elements import load_element, store_element
from striate.codegen.emitter import Emitter, Value, lanes_of, storage
from striate.codegen.expression import Expression
from striate.codegen.kernel import Buffer, Step
from striate.codegen.machine import host_target, named_target
from striate.codegen.pointwise import Instruction
from striate.dtype import DType
from striate.target import Target
from tests.codegen.harness import aligned, run


@dataclass(frozen=True, slots=True)
class Apply:
    """out_j[i] = expression(in_0[i], ...)[j] for i < n; words: n, the inputs, the outputs.

    Attributes:
        expression: what is computed.
        lanes: elements at a time; the last ones with a mask.
    """

    expression: Expression
    lanes: int

    @property
    def name(self) -> str:
        """As a C identifier."""
        return f"apply_{self.expression.body[-1].op}_{self.lanes}"

    def emit(self, e: Emitter) -> None:
        """A thread takes a range of elements."""
        dtypes = self.expression.arguments
        kinds = [self.expression.dtype(r) for r in self.expression.results]
        pointers = [e.pointer(1 + i) for i in range(len(dtypes) + len(kinds))]
        inputs, outputs = pointers[: len(dtypes)], pointers[len(dtypes) :]
        first, last = e.share(e.number(0))

        def part(i: Value, mask: Value | None) -> None:
            xs = [
                load_element(e, e.at(p, i, storage(d)), d, self.lanes, mask)
                for p, d in zip(inputs, dtypes, strict=True)
            ]
            for y, p, d in zip(self.expression.emit(e, xs), outputs, kinds, strict=True):
                literal = lanes_of(y.type) < self.lanes
                whole = e.splat(y, self.lanes) if literal else y
                store_element(e, whole, e.at(p, i, storage(d)), d, mask)

        rest = e.b.urem(e.b.sub(last, first), e.index(self.lanes))
        whole = e.b.sub(last, rest)
        e.each(first, whole, lambda i: part(i, None), self.lanes)
        if self.lanes > 1:
            with e.when(e.b.icmp_signed(">", rest, e.index(0))):
                part(whole, e.first_lanes(rest, self.lanes))


def each_of(
    instructions: Sequence[tuple[str, DType]], *arguments: DType, attr: Any = None
) -> Expression:
    """The results of several ops, (name, dtype of the result), on the same arguments."""
    n = len(arguments)
    body = tuple(Instruction(op, result, tuple(range(n)), attr) for op, result in instructions)
    return Expression(arguments, body, tuple(range(n, n + len(body))))


def step(
    expression: Expression, lanes: int, xs: Sequence[NDArray[Any]]
) -> tuple[Step, dict[Buffer, NDArray[Any]], list[NDArray[Any]]]:
    """(the step, its arrays, the outputs) for inputs of one length, copied."""
    n = xs[0].size
    outs: list[NDArray[Any]] = [
        aligned((n,), expression.dtype(r).numpy) for r in expression.results
    ]
    copies: list[NDArray[Any]] = [aligned((n,), x.dtype) for x in xs]
    for copy, x in zip(copies, xs, strict=True):
        copy[:] = x
    arrays = {Buffer(a.nbytes): a for a in (*copies, *outs)}
    buffers = (*arrays,)
    return Step(Apply(expression, lanes), (n, *buffers), buffers[len(xs) :]), arrays, outs


def applied(
    expression: Expression,
    *xs: NDArray[Any],
    lanes: int = 16,
    threads: int = 1,
    target: Target | None = None,
) -> list[NDArray[Any]]:
    """The results of an expression on arrays of one length."""
    one, arrays, outs = step(expression, lanes, xs)
    run([one], arrays, threads, target)
    return outs


def _runs_here(name: str) -> bool:
    """Whether this machine has all that the target needs: the x86-64 levels are nested."""
    order = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]
    host = host_target().name
    return host in order and order.index(name) <= order.index(host)


TARGETS = [
    pytest.param(
        named_target(name),
        id=name,
        marks=[] if _runs_here(name) else pytest.mark.skip(f"this processor is not {name}"),
    )
    for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2")
]
