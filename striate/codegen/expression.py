"""Chains of pointwise operations as values: what a loop computes at one place, or in V lanes.

An `Expression` is a list of instructions in single assignment. Value number i is argument i for
i < len(arguments), and the result of instruction i - len(arguments) after that. It says nothing
about loops or memory: it is emitted on scalars or vectors alike, inside elementwise loops,
reductions and the epilogues of convolutions.

Between instructions a bool is an i1 and a bfloat16 is a float that bfloat16 can hold: every result
of that dtype is rounded, as the reference does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from striate.codegen.emitter import Emitter, Value
from striate.codegen.pointwise import POINTWISE, Instruction, round_to
from striate.dtype import DType
from striate.transform.fuse import COSTS, SIMPLE


@dataclass(frozen=True, slots=True)
class Expression:
    """Instructions on arguments.

    Attributes:
        arguments: the dtypes of the values that are given.
        body: the instructions, in an order in which each follows what it takes.
        results: numbers of the values that are wanted.
    """

    arguments: tuple[DType, ...]
    body: tuple[Instruction, ...]
    results: tuple[int, ...]

    @property
    def polynomials(self) -> int:
        """How many of its operations are elementary functions, of many instructions each."""
        few = {*SIMPLE, *COSTS, "literal"}
        return sum(i.op not in few for i in self.body)

    def dtype(self, i: int) -> DType:
        """The dtype of value number i."""
        n = len(self.arguments)
        return self.arguments[i] if i < n else self.body[i - n].dtype

    def emit(self, e: Emitter, arguments: Sequence[Value]) -> list[Value]:
        """The results, for these arguments: all scalars or all vectors of one length."""
        values = [*arguments]
        for ins in self.body:
            values.append(emit_instruction(e, ins, [(values[a], self.dtype(a)) for a in ins.args]))
        return [values[r] for r in self.results]


def emit_instruction(e: Emitter, ins: Instruction, args: Sequence[tuple[Value, DType]]) -> Value:
    """The value of one instruction on (value, dtype) pairs; a `literal` is a scalar."""
    dtypes = [d for _, d in args]
    value = POINTWISE[ins.op](e, ins, [v for v, _ in args], dtypes)
    return round_to(e, value, ins.dtype)
