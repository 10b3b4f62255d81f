"""x^y: of floats by exp(y log x), of integers by squaring; and hypot.

In float64 the logarithm and its product with y are unevaluated sums of two floats, since an error
of d in the exponent is a relative error of d in the result (Dekker, "A floating-point technique
for extending the available precision", Numer. Math. 18, 1971):

    log m = 2 s (1 + z/3 + z^2 (1/5 + ...)),  s = (m - 1) / (m + 1),  z = s^2

float32 is computed in plain float64.
"""

from __future__ import annotations

from math import inf, nan

from llvmlite import ir

from striate.codegen.emitter import I1, Emitter, Value, lanes_of, scalar_of
from striate.codegen.exponential import LN2_DOUBLE, exp
from striate.codegen.floats import (
    horner,
    is_negative,
    is_single,
    product_of,
    sum_of,
    wide,
)
from striate.codegen.logarithm import is_tiny, log, split

# (log(m)/s - 2 - 2z/3) / z^2 in z on [0, 0.02944]: relative error of log 3.9e-20
_TAIL = (
    0.13091209299085624, 0.13268911636115088, 0.15386205026833893, 0.18181797032113997,
    0.22222222368666725, 0.2857142857096982, 0.4000000000000044,
)  # fmt: skip
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)


def _long_log(e: Emitter, x: Value) -> tuple[Value, Value]:
    """log(x) as a sum of two float64 for x > 0, normal and finite."""
    b, two = e.b, e.const(x.type, 2)
    k, m = split(e, x)
    f = b.fsub(m, e.const(x.type, 1))
    d = b.fadd(f, two)
    d_low = b.fsub(f, b.fsub(d, two))
    s = b.fdiv(f, d)
    p, p_low = product_of(e, s, d)
    left = b.fsub(b.fsub(b.fsub(f, p), p_low), b.fmul(s, d_low))
    s_low = b.fdiv(left, d)
    z, z_low = product_of(e, s, s)
    z_low = e.muladd(b.fmul(two, s), s_low, z_low)
    q = b.fmul(z, horner(e, z, _TAIL))
    c, c_low = sum_of(e, e.const(x.type, _TWO_THIRDS[0]), q)
    c_low = b.fadd(c_low, e.const(x.type, _TWO_THIRDS[1]))
    w, w_low = product_of(e, z, c)
    w_low = b.fadd(w_low, e.muladd(z, c_low, b.fmul(z_low, c)))
    v, v_low = sum_of(e, two, w)
    v_low = b.fadd(v_low, w_low)
    y, y_low = product_of(e, s, v)
    y_low = b.fadd(y_low, e.muladd(s, v_low, b.fmul(s_low, v)))
    hi, lo = (e.const(x.type, part) for part in LN2_DOUBLE)
    whole, rest = sum_of(e, b.fmul(k, hi), y)
    return whole, b.fadd(rest, e.muladd(k, lo, y_low))


def _magnitude(e: Emitter, x: Value, y: Value) -> Value:
    """x^y for x >= 0 in float64."""
    b = e.b
    high, low = _long_log(e, x)
    zero, infinite = e.const(x.type, 0), e.const(x.type, inf)
    normal = b.and_(b.fcmp_ordered("<", x, infinite), b.not_(is_tiny(e, x)))
    high = b.select(normal, high, b.select(is_tiny(e, x), e.const(x.type, -inf), x))
    low = b.select(normal, low, zero)
    p, p_low = product_of(e, y, high)
    p_low = e.muladd(y, low, p_low)
    moderate = b.fcmp_ordered("<", e.unary("fabs", p), e.const(x.type, 800))
    return exp(e, p, rest=b.select(moderate, p_low, zero))


def power(e: Emitter, x: Value, y: Value) -> Value:
    """x^y with the special values of C's pow."""
    b = e.b
    a, one = e.unary("fabs", x), e.const(x.type, 1)
    short = wide(lambda e, a, y: exp(e, e.b.fmul(y, log(e, a))))
    r = short(e, a, y) if is_single(x) else _magnitude(e, a, y)
    whole = b.fcmp_ordered("==", e.unary("trunc", y), y)
    half = b.fmul(y, e.const(x.type, 0.5))
    odd = b.and_(whole, b.fcmp_ordered("!=", e.unary("trunc", half), half))
    r = b.select(b.and_(odd, is_negative(e, x)), b.fneg(r), r)
    below = b.and_(b.fcmp_ordered("<", x, e.const(x.type, 0)),
                   b.fcmp_ordered(">", x, e.const(x.type, -inf)))  # fmt: skip
    r = b.select(b.and_(below, b.not_(whole)), e.const(x.type, nan), r)
    endless = b.fcmp_ordered("==", e.unary("fabs", y), e.const(x.type, inf))
    unit = b.or_(
        b.or_(b.fcmp_ordered("==", x, one), b.fcmp_ordered("==", y, e.const(x.type, 0))),
        b.and_(b.fcmp_ordered("==", a, one), endless),
    )
    return b.select(unit, one, r)


def integer_power(e: Emitter, x: Value, y: Value) -> Value:
    """x^y modulo 2^bits for y >= 0."""
    b, n = e.b, lanes_of(x.type)
    one = scalar_of(x.type)
    every = y if n == 1 else e.intrinsic(f"llvm.vector.reduce.or.v{n}i{one.width}", one, y)
    zeros = e.intrinsic(f"llvm.ctlz.i{one.width}", one, every, ir.Constant(I1, 0))
    bits = b.zext(b.sub(ir.Constant(one, one.width), zeros), e.thread.type) if one.width < 64 else (
        b.sub(ir.Constant(one, one.width), zeros)
    )  # fmt: skip

    def step(i: Value, carried: list[Value]) -> list[Value]:
        result, base, rest = carried
        odd = b.trunc(rest, ir.VectorType(I1, n) if n > 1 else I1)
        result = b.select(odd, b.mul(result, base), result)
        return [result, b.mul(base, base), b.lshr(rest, e.const(rest.type, 1))]

    return e.loop(0, bits, 1, [e.const(x.type, 1), x, y], step)[0]


def signed_power(e: Emitter, x: Value, y: Value) -> Value:
    """x^y modulo 2^bits; for y < 0 the exact value without its fraction, and 0 of 0.

    NumPy raises on negative exponents.
    """
    b = e.b
    zero, one, minus = (e.const(x.type, v) for v in (0, 1, -1))
    r = integer_power(e, x, y)
    odd = b.select(b.icmp_signed("!=", b.and_(y, one), zero), minus, one)
    inverse = b.select(b.icmp_signed("==", x, minus), odd, zero)
    inverse = b.select(b.icmp_signed("==", x, one), one, inverse)
    return b.select(b.icmp_signed("<", y, zero), inverse, r)


def hypot(e: Emitter, x: Value, y: Value) -> Value:
    """sqrt(x^2 + y^2) in float64, scaled by a power of two where squares would not fit."""
    b = e.b
    u, v = e.unary("fabs", x), e.unary("fabs", y)
    infinite = e.const(x.type, inf)
    endless = b.or_(b.fcmp_ordered("==", u, infinite), b.fcmp_ordered("==", v, infinite))
    top = b.select(b.fcmp_ordered(">", u, v), u, v)
    one = e.const(x.type, 1)
    big = b.fcmp_ordered(">", top, e.const(x.type, 2.0**500))
    small = b.fcmp_ordered("<", top, e.const(x.type, 2.0**-450))
    down, up = e.const(x.type, 2.0**-600), e.const(x.type, 2.0**600)
    scale = b.select(big, down, b.select(small, up, one))
    back = b.select(big, up, b.select(small, down, one))
    u, v = b.fmul(u, scale), b.fmul(v, scale)
    y = b.fmul(e.unary("sqrt", e.muladd(u, u, b.fmul(v, v))), back)
    return b.select(endless, infinite, y)
