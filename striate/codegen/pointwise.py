"""The machine code of every pointwise op: a function of values (scalars or vectors) per op name.

`POINTWISE[op](e, instruction, values, dtypes)` is the op on each lane, with the meaning of the
op's NumPy reference, special values included; a scalar beside vectors is taken for every lane. A
bool is an i1, a bfloat16 a float: the caller rounds results (`round_to`). Nothing here is undefined
for any input, and nothing needs a symbol from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from llvmlite import ir

from striate.codegen.division import (
    floor_divide,
    remainder,
    signed_floor_divide,
    signed_remainder,
    unsigned_floor_divide,
    unsigned_remainder,
)
from striate.codegen.emitter import I1, I32, Emitter, Value, element, lanes_of, suffix, vector
from striate.codegen.error_function import erf
from striate.codegen.exponential import cosh, exp, expm1, sigmoid, sinh, tanh
from striate.codegen.floats import is_negative, wide
from striate.codegen.logarithm import acosh, asinh, atanh, log, log1p, log2, log10
from striate.codegen.power import hypot, integer_power, power, signed_power
from striate.codegen.trigonometric import acos, asin, atan, atan2, cos, sin, tan
from striate.dtype import DType, bfloat16, bool_, float64


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation.

    Attributes:
        op: the name of a pointwise op (`add`, `exp`, `where`, `cast`), or `literal`.
        dtype: of the result.
        args: numbers of the values that it takes.
        attr: of a `literal` the number, or its repr (which keeps -0.0 and NaN apart); else None.
    """

    op: str
    dtype: DType
    args: tuple[int, ...] = ()
    attr: Any = None


# (emitter, instruction, values, their dtypes) -> value
Rule = Callable[[Emitter, Instruction, Sequence[Value], Sequence[DType]], Value]


def round_to(e: Emitter, x: Value, dtype: DType) -> Value:
    """`x`, rounded to what bfloat16 can hold if that is the dtype; NaN stays NaN."""
    return e.widen(e.narrow(x, dtype), dtype) if dtype is bfloat16 else x


# ---- the ways to make a rule ---------------------------------------------------------------


def _spread(e: Emitter, xs: Sequence[Value]) -> list[Value]:
    """The values with as many lanes as the widest has."""
    n = max((lanes_of(x.type) for x in xs), default=1)
    spread = []
    for x in xs:
        if lanes_of(x.type) == n:
            spread.append(x)
        elif isinstance(x, ir.Constant):
            spread.append(e.const(vector(x.type, n), x.constant))
        else:
            spread.append(e.splat(x, n))
    return spread


def _rule(fn: Callable[..., Value]) -> Rule:
    """A function of values alone."""
    return lambda e, ins, xs, ds: fn(e, *_spread(e, xs))


def _by_kind(
    floats: Callable[..., Value] | None = None,
    signed: Callable[..., Value] | None = None,
    unsigned: Callable[..., Value] | None = None,
    bools: Callable[..., Value] | None = None,
) -> Rule:
    """A function of values that depends on the kind of their dtype; signed also serves unsigned."""
    table = {"f": floats, "i": signed, "u": unsigned or signed, "b": bools}

    def rule(e: Emitter, ins: Instruction, xs: Sequence[Value], ds: Sequence[DType]) -> Value:
        fn = table[ds[0].kind]
        assert fn is not None, f"{ins.op} of {ds[0]}"
        return fn(e, *_spread(e, xs))

    return rule


def _build(name: str) -> Callable[..., Value]:
    """An instruction of LLVM."""
    return lambda e, *xs: getattr(e.b, name)(*xs)


def _binary(name: str) -> Callable[..., Value]:
    """An intrinsic of two values."""
    return lambda e, x, y: e.binary(name, x, y)


def _unary(name: str) -> Callable[..., Value]:
    """An intrinsic of one value."""
    return lambda e, x: e.unary(name, x)


def _same(e: Emitter, x: Value) -> Value:
    return x


def _compare(op: str) -> Rule:
    """A comparison; with NaN only `!=` is true."""

    def of_floats(e: Emitter, x: Value, y: Value) -> Value:
        return (e.b.fcmp_unordered if op == "!=" else e.b.fcmp_ordered)(op, x, y)

    def of_unsigned(e: Emitter, x: Value, y: Value) -> Value:
        return e.b.icmp_unsigned(op, x, y)

    return _by_kind(of_floats, lambda e, x, y: e.b.icmp_signed(op, x, y), of_unsigned, of_unsigned)


# ---- literals, casts, selection ------------------------------------------------------------


def _literal(e: Emitter, ins: Instruction, xs: Sequence[Value], ds: Sequence[DType]) -> Value:
    number = float(ins.attr) if ins.dtype.is_floating else int(ins.attr)
    return round_to(e, e.const(element(ins.dtype), number), ins.dtype)


def _cast(e: Emitter, ins: Instruction, xs: Sequence[Value], ds: Sequence[DType]) -> Value:
    (x,), (source,), target = xs, ds, ins.dtype
    b, type = e.b, vector(element(target), lanes_of(x.type))
    if x.type == type and source.kind == target.kind:
        return x
    if source.is_floating:
        if target is bool_:
            return b.fcmp_unordered("!=", x, e.const(x.type, 0))
        if target.is_integer:
            return _saturate(e, x, target)
        return b.fpext(x, type) if target is float64 else b.fptrunc(x, type)
    if target is bool_:
        return b.icmp_unsigned("!=", x, e.const(x.type, 0))
    if target.is_floating:
        return b.sitofp(x, type) if source.kind == "i" else b.uitofp(x, type)
    if target.bits <= source.bits and source is not bool_:
        return x if target.bits == source.bits else b.trunc(x, type)
    return b.sext(x, type) if source.kind == "i" else b.zext(x, type)


def _saturate(e: Emitter, x: Value, target: DType) -> Value:
    """A float as an integer: truncated, NaN is 0, and what is too large is the largest."""
    b, n = e.b, lanes_of(x.type)
    lo = 0 if target.kind == "u" else -(1 << (target.bits - 1))
    hi = lo + (1 << target.bits) - 1
    low, high = e.const(x.type, lo), e.const(x.type, hi)  # of 32 and 64 bits hi rounds to hi + 1
    inside = b.and_(b.fcmp_ordered(">", x, e.const(x.type, lo - 1 if target.bits < 32 else lo)),
                    b.fcmp_ordered("<", x, high))  # fmt: skip
    safe = b.select(inside, x, e.const(x.type, 0))
    if target.bits < 32:
        y = b.trunc(b.fptosi(safe, vector(I32, n)), vector(element(target), n))
    else:
        y = b.fptosi(safe, vector(element(target), n))
    y = b.select(b.fcmp_ordered(">=", x, high), e.const(y.type, hi), y)
    return b.select(b.fcmp_ordered("<=", x, low), e.const(y.type, lo), y)


def _where(e: Emitter, condition: Value, x: Value, y: Value) -> Value:
    return e.b.select(condition, x, y)


def _extreme(op: str) -> Callable[..., Value]:
    """The larger (`>`) or smaller (`<`) float; NaN if either is."""

    def fn(e: Emitter, x: Value, y: Value) -> Value:
        b = e.b
        if _number(x):
            return b.select(b.fcmp_ordered(op, x, y), x, y)
        best = b.select(b.fcmp_unordered(op, x, y), x, y)  # x if x is NaN, y if only y is
        return best if _number(y) else b.select(b.fcmp_unordered("uno", y, y), y, best)

    return fn


def _number(x: Value) -> bool:
    """Whether it is a constant other than NaN."""
    return isinstance(x, ir.Constant) and "0x7ff8" not in x.get_reference()


# ---- signs and steps -----------------------------------------------------------------------


def _negative_integer(e: Emitter, x: Value) -> Value:
    return e.b.sub(e.const(x.type, 0), x)


def _abs_integer(e: Emitter, x: Value) -> Value:
    type = x.type
    return e.intrinsic(f"llvm.abs.{suffix(type)}", type, x, ir.Constant(I1, 0))


def _sign(e: Emitter, x: Value) -> Value:
    one, zero, minus = (e.const(x.type, v) for v in (1, 0, -1))
    y = e.b.select(e.b.fcmp_ordered("<", x, zero), minus, e.b.fadd(x, zero))  # -0 becomes 0
    return e.b.select(e.b.fcmp_ordered(">", x, zero), one, y)


def _sign_signed(e: Emitter, x: Value) -> Value:
    one, zero, minus = (e.const(x.type, v) for v in (1, 0, -1))
    y = e.b.select(e.b.icmp_signed("<", x, zero), minus, zero)
    return e.b.select(e.b.icmp_signed(">", x, zero), one, y)


def _sign_unsigned(e: Emitter, x: Value) -> Value:
    zero = e.const(x.type, 0)
    return e.b.select(e.b.icmp_unsigned("!=", x, zero), e.const(x.type, 1), zero)


def _isnan(e: Emitter, x: Value) -> Value:
    return e.b.fcmp_unordered("uno", x, x)


def _isinf(e: Emitter, x: Value) -> Value:
    return e.b.fcmp_ordered("==", e.unary("fabs", x), e.const(x.type, inf))


def _reciprocal(e: Emitter, x: Value) -> Value:
    return e.b.fdiv(e.const(x.type, 1), x)


def _rsqrt(e: Emitter, x: Value) -> Value:
    return _reciprocal(e, e.unary("sqrt", x))


POINTWISE: dict[str, Rule] = {
    "literal": _literal,
    "cast": _cast,
    "where": _rule(_where),
    "stop_gradient": _rule(_same),
    "alias": _rule(_same),
    "add": _by_kind(_build("fadd"), _build("add")),
    "subtract": _by_kind(_build("fsub"), _build("sub")),
    "multiply": _by_kind(_build("fmul"), _build("mul")),
    "divide": _rule(_build("fdiv")),
    "maximum": _by_kind(_extreme(">"), _binary("smax"), _binary("umax"), _build("or_")),
    "minimum": _by_kind(_extreme("<"), _binary("smin"), _binary("umin"), _build("and_")),
    "floor_divide": _by_kind(floor_divide, signed_floor_divide, unsigned_floor_divide),
    "remainder": _by_kind(remainder, signed_remainder, unsigned_remainder),
    "negative": _by_kind(_build("fneg"), _negative_integer),
    "equal": _compare("=="),
    "not_equal": _compare("!="),
    "less": _compare("<"),
    "less_equal": _compare("<="),
    "logical_and": _rule(_build("and_")),
    "logical_or": _rule(_build("or_")),
    "logical_xor": _rule(_build("xor")),
    "logical_not": _rule(_build("not_")),
    "bitwise_and": _rule(_build("and_")),
    "bitwise_or": _rule(_build("or_")),
    "bitwise_xor": _rule(_build("xor")),
    "bitwise_invert": _rule(_build("not_")),
    "isnan": _rule(_isnan),
    "isinf": _rule(_isinf),
    "signbit": _rule(lambda e, x: is_negative(e, x)),
    "abs": _by_kind(_unary("fabs"), _abs_integer, _same),
    "sign": _by_kind(_sign, _sign_signed, _sign_unsigned),
    "square": _by_kind(lambda e, x: e.b.fmul(x, x), lambda e, x: e.b.mul(x, x)),
    "reciprocal": _rule(_reciprocal),
    "sqrt": _rule(_unary("sqrt")),
    "rsqrt": _rule(_rsqrt),
    "floor": _by_kind(_unary("floor"), _same),
    "ceil": _by_kind(_unary("ceil"), _same),
    "trunc": _by_kind(_unary("trunc"), _same),
    "round": _by_kind(_unary("roundeven"), _same),
    "exp": _rule(exp),
    "expm1": _rule(expm1),
    "sinh": _rule(wide(sinh)),
    "cosh": _rule(wide(cosh)),
    "tanh": _rule(tanh),
    "sigmoid": _rule(sigmoid),
    "erf": _rule(erf),
    "pow": _by_kind(power, signed_power, integer_power),
    "hypot": _rule(wide(hypot)),
    "sin": _rule(wide(sin)),
    "cos": _rule(wide(cos)),
    "tan": _rule(wide(tan)),
    "asin": _rule(wide(asin)),
    "acos": _rule(wide(acos)),
    "atan": _rule(wide(atan)),
    "atan2": _rule(wide(atan2)),
    "log": _rule(log),
    "log1p": _rule(log1p),
    "log2": _rule(wide(log2)),
    "log10": _rule(wide(log10)),
    "asinh": _rule(wide(asinh)),
    "acosh": _rule(wide(acosh)),
    "atanh": _rule(wide(atanh)),
}
