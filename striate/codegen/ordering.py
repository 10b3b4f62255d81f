"""The order of values in maxima and minima.

NaN comes before everything, whatever its sign; of equals the first stays, and 0.0 equals -0.0.
Values are compared as they are computed with (bfloat16 as float32), bool as its byte, and are
stored again as they were: nothing is rounded.
"""

from __future__ import annotations

from llvmlite import ir

from striate.codegen.emitter import I1, Emitter, Index, Value, storage, vector
from striate.dtype import DType, bool_, uint8


def comparable(dtype: DType) -> DType:
    """The dtype with the same bytes and order that is compared."""
    return uint8 if dtype is bool_ else dtype


def load_strided(e: Emitter, p: Value, dtype: DType, lanes: int, stride: Index) -> Value:
    """Lane i is the element at p + i * stride, in elements; lanes > 1."""
    every = ir.Constant(ir.VectorType(I1, lanes), [1] * lanes)
    return e.widen(e.gather(p, stride, every, vector(storage(dtype), lanes)), dtype)


def worst(dtype: DType, largest: bool = True) -> float | int:
    """The value that loses to all others (or equals them)."""
    if dtype.is_floating:
        return float("-inf" if largest else "inf")
    low = -(1 << (dtype.bits - 1)) if dtype.kind == "i" else 0
    return low if largest else low + (1 << dtype.bits) - 1


def wins(
    e: Emitter, dtype: DType, x: Value, best: Value, largest: bool = True, ordered: bool = False
) -> Value:
    """Where `x`, which comes later, replaces `best`; `ordered`: neither is NaN."""
    sign = ">" if largest else "<"
    if not dtype.is_floating:
        return (e.b.icmp_signed if dtype.kind == "i" else e.b.icmp_unsigned)(sign, x, best)
    if ordered:
        return e.b.fcmp_ordered(sign, x, best)
    beats = e.b.fcmp_unordered(sign, x, best)  # true too if x is NaN
    return e.b.and_(beats, e.b.fcmp_ordered("ord", best, best))


def ties(e: Emitter, dtype: DType, x: Value, y: Value, ordered: bool = False) -> Value:
    """Where the two are equal, or both NaN; `ordered`: neither is."""
    if not dtype.is_floating:
        return e.b.icmp_signed("==", x, y)
    equal = e.b.fcmp_ordered("==", x, y)
    if ordered:
        return equal
    both = e.b.and_(e.b.fcmp_unordered("uno", x, x), e.b.fcmp_unordered("uno", y, y))
    return e.b.or_(equal, both)
