"""What is done to a sum before it is stored: bias, activation, residual, a cast.

An epilogue is an `Expression` whose value 0 is the accumulator; each other argument is an operand
that is read at the place of the output. It is applied to the n lanes of one store.
"""

from __future__ import annotations

from dataclasses import dataclass

from striate.codegen.emitter import Emitter, Index, Value, lanes_of, storage, vector
from striate.codegen.expression import Expression
from striate.dtype import DType


@dataclass(frozen=True)
class Epilogue:
    """Operations between the accumulator and the output y.

    Attributes:
        expression: argument 0 is the accumulator, in the dtype of computation; then one argument
            per operand. It has one result, of y's dtype.
        kinds: per operand, `channel` (a vector [G*K]), `tensor` (in the layout of y; not y's own
            memory) or `scalar` ([1]).
        dtypes: per operand.
    """

    expression: Expression
    kinds: tuple[str, ...]
    dtypes: tuple[DType, ...]

    @property
    def result(self) -> DType:
        """The dtype of y."""
        return self.expression.dtype(self.expression.results[0])

    @property
    def is_long(self) -> bool:
        """Whether it has several polynomials: too much code to repeat for each vector of a tile."""
        return self.expression.polynomials > 1


def load_lanes(e: Emitter, p: Value, dtype: DType, lanes: int, mask: Value | None = None) -> Value:
    """`lanes` elements at an address, as they are computed; zero where the mask is false."""
    type = vector(storage(dtype), lanes)
    return e.widen(e.load(p, type) if mask is None else e.load_masked(p, mask, type), dtype)


def store_lanes(
    e: Emitter, value: Value, p: Value, dtype: DType, mask: Value | None = None
) -> None:
    """Write elements where the mask is true, rounded to the dtype."""
    stored = e.narrow(value, dtype)
    if mask is None:
        e.store(stored, p)
    else:
        e.store_masked(stored, p, mask)


class Operands:
    """The operands of an epilogue in a kernel.

    Args:
        e: the emitter.
        epilogue: what they are for.
        pointers: their addresses.
    """

    def __init__(self, e: Emitter, epilogue: Epilogue, pointers: list[Value]) -> None:
        self.e, self.epilogue, self.pointers = e, epilogue, pointers

    def at_channel(self, channel: Index, lanes: int, mask: Value | None) -> list[Value | None]:
        """What does not depend on the pixel, for `lanes` channels from this one."""
        e, found = self.e, []
        rows = zip(self.epilogue.kinds, self.epilogue.dtypes, self.pointers, strict=True)
        for kind, dtype, p in rows:
            value = None
            if kind == "channel":
                value = load_lanes(e, e.at(p, channel, storage(dtype)), dtype, lanes, mask)
            elif kind == "scalar":
                value = e.splat(load_lanes(e, p, dtype, 1), lanes)
            found.append(value)
        return found

    def apply(
        self, acc: Value, fixed: list[Value | None], offset: Index, mask: Value | None
    ) -> Value:
        """The result for an accumulator whose first lane is element `offset` of y."""
        e, values, lanes = self.e, [acc], lanes_of(acc.type)
        for known, dtype, p in zip(fixed, self.epilogue.dtypes, self.pointers, strict=True):
            place = e.at(p, offset, storage(dtype))
            values.append(load_lanes(e, place, dtype, lanes, mask) if known is None else known)
        return self.epilogue.expression.emit(e, values)[0]
