"""The machine code of every pointwise op: a function of values (scalars or vectors) per op name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from striate.codegen.emitter import Emitter, Value, element
from striate.dtype import DType, bfloat16


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation.

    Attributes:
        op: the name of a pointwise op (`add`, `exp`, `where`, `cast`), or `literal`.
        dtype: of the result.
        args: numbers of the values that it takes.
        attr: the number of a `literal`, else None.
    """

    op: str
    dtype: DType
    args: tuple[int, ...] = ()
    attr: Any = None


# (emitter, instruction, values, their dtypes) -> value
Rule = Callable[[Emitter, Instruction, Sequence[Value], Sequence[DType]], Value]


def round_to(e: Emitter, x: Value, dtype: DType) -> Value:
    """`x`, rounded to what bfloat16 can hold if that is the dtype."""
    if dtype is bfloat16:
        raise NotImplementedError
    return x


def _literal(e: Emitter, ins: Instruction, xs: Sequence[Value], ds: Sequence[DType]) -> Value:
    return e.const(element(ins.dtype), ins.attr)


def _add(e: Emitter, ins: Instruction, xs: Sequence[Value], ds: Sequence[DType]) -> Value:
    return e.b.fadd(*xs) if ds[0].is_floating else e.b.add(*xs)


POINTWISE: dict[str, Rule] = {"literal": _literal, "add": _add}
