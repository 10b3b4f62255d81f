"""exp and what follows from it: expm1, sinh, cosh, tanh, sigmoid.

    x = n ln 2 + r,  |r| <= ln(2)/2,      e^x = 2^n (1 + r + r^2 q(r)),
    e^x - 1 = 2^n ((r + r^2 q(r)) + (1 - 2^-n))

n comes from a rounding addition, and n ln 2 is subtracted in two parts of which the first is exact
(Cody & Waite, "Software manual for the elementary functions", 1980). q is a minimax polynomial for
the relative error of the result. Below 2^-126 (2^-1022) results are zero, or denormal with AVX-512.
"""

from __future__ import annotations

from math import inf, log

from striate.codegen.emitter import Emitter, Value
from striate.codegen.floats import (
    has_reciprocal,
    has_scalef,
    horner,
    is_single,
    quotient,
    reciprocal14,
    round_by_magic,
    scalef,
    shift_exponent,
    with_sign,
)

# q on |r| <= 0.3469, for exp: relative error 3.1e-9 (float32) and 5.4e-20 (float64)
_EXP_SINGLE = (
    0.0013814467238262296, 0.008368780836462975, 0.04166839271783829, 0.1666651964187622,
    0.4999999403953552,
)  # fmt: skip
_EXP_DOUBLE = (
    2.499996264899895e-08, 2.763037865534939e-07, 2.7557587350398917e-06, 2.4801492762700393e-05,
    0.00019841269504756613, 0.0013888888943922725, 0.008333333333495627, 0.04166666666652919,
    0.1666666666666641, 0.5000000000000011,
)  # fmt: skip
# q for expm1: relative error 2.4e-10 and 2.6e-19
_EXPM1_SINGLE = (
    0.0001984588598133996, 0.0013940719654783607, 0.008333389647305012, 0.04166635870933533,
    0.1666666567325592, 0.5,
)  # fmt: skip
_EXPM1_DOUBLE = (
    2.0875327870886753e-09, 2.5109081387607285e-08, 2.755740294202504e-07, 2.7557244104221582e-06,
    2.480158717184175e-05, 0.00019841269886207913, 0.0013888888888962901, 0.008333333333321608,
    0.041666666666666505, 0.16666666666666677, 0.5,
)  # fmt: skip
# ln 2 in two parts: the first has so few bits that its product with any n is exact
LN2_SINGLE = (0.693359375, -2.12194440054690583e-4)
LN2_DOUBLE = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
# exp is normal from the first number to the second
_RANGE_SINGLE = (-87.33654022216797, 88.72283172607422)
_RANGE_DOUBLE = (-708.396418532264, 709.782712893384)


def ln2_of(x: Value) -> tuple[float, float]:
    """ln 2 in two parts for the format of x."""
    return LN2_SINGLE if is_single(x) else LN2_DOUBLE


def _reduce(e: Emitter, x: Value) -> tuple[Value, Value, Value]:
    """(r, n, bits whose low part is n)."""
    n, bits = round_by_magic(e, x, 1 / log(2))
    hi, lo = ln2_of(x)
    r = e.muladd(n, e.const(x.type, -hi), x)
    return e.muladd(n, e.const(x.type, -lo), r), n, bits


def _upper(e: Emitter, x: Value, y: Value) -> Value:
    """y, and infinity where exp(x) is too large, and NaN where x is."""
    largest = (_RANGE_SINGLE if is_single(x) else _RANGE_DOUBLE)[1]
    fits = e.b.fcmp_ordered("<=", x, e.const(x.type, largest))
    return e.b.select(fits, y, e.b.fadd(x, e.const(x.type, inf)))


def _taylor(x: Value) -> tuple[float, ...]:
    """The polynomial of e^r, from its highest power."""
    return (*(_EXP_SINGLE if is_single(x) else _EXP_DOUBLE), 1.0, 1.0)


def _scaled_exp(e: Emitter, x: Value, rest: Value | None = None) -> Value:
    """e^(x + rest) for |x| up to 120 (800) by `scalef`, whose result may overflow or underflow."""
    r, n, _ = _reduce(e, x)
    r = r if rest is None else e.b.fadd(r, rest)
    return scalef(e, horner(e, r, _taylor(x)), n)


def exp(e: Emitter, x: Value, bounded: bool = False, rest: Value | None = None) -> Value:
    """e^(x + rest), where rest is at most an ulp of x; `bounded` promises that x is at most 88."""
    if has_scalef(e):
        low, high = (e.const(x.type, v) for v in ((-120, 100) if is_single(x) else (-800, 800)))
        x = e.b.select(e.b.fcmp_ordered("<", x, low), low, x)
        if not bounded:
            x = e.b.select(e.b.fcmp_ordered(">", x, high), high, x)
        return _scaled_exp(e, x, rest)
    r, _, bits = _reduce(e, x)
    r = r if rest is None else e.b.fadd(r, rest)
    y = shift_exponent(e, horner(e, r, _taylor(x)), bits)
    least = e.const(x.type, (_RANGE_SINGLE if is_single(x) else _RANGE_DOUBLE)[0])
    y = e.b.select(e.b.fcmp_ordered("<", x, least), e.const(x.type, 0), y)
    if bounded:
        return e.b.select(e.b.fcmp_unordered("uno", x, x), x, y)
    return _upper(e, x, y)


def _expm1(e: Emitter, x: Value) -> Value:
    """e^x - 1 for x from -40 (float32: -17) to where e^x overflows; the sign of 0 is lost."""
    single = is_single(x)
    r, _, bits = _reduce(e, x)
    q = horner(e, r, _EXPM1_SINGLE if single else _EXPM1_DOUBLE)
    p = e.muladd(e.b.fmul(r, r), q, r)
    half = e.const(x.type, 0.5)
    scale = shift_exponent(e, half, bits)  # 2^(n-1), which is finite where 2^n may not be
    y = e.muladd(p, scale, e.b.fsub(scale, half))
    return e.b.fadd(y, y)


def expm1(e: Emitter, x: Value) -> Value:
    """e^x - 1."""
    low = e.const(x.type, -17 if is_single(x) else -40)
    inside = e.b.select(e.b.fcmp_ordered("<", x, low), low, x)
    return with_sign(e, _upper(e, x, _expm1(e, inside)), x)


def tanh(e: Emitter, x: Value) -> Value:
    """t / (t + 2) with t = e^2|x| - 1."""
    single = is_single(x)
    a = e.unary("fabs", x)
    last = e.const(x.type, 9.5 if single else 20)  # where it is 1 to the last bit
    a = e.b.select(e.b.fcmp_ordered(">", a, last), last, a)
    t = _expm1(e, e.b.fadd(a, a))
    d = e.b.fadd(t, e.const(x.type, 2))
    y = quotient(e, t, d)
    if single:  # what the sum lost is worth a correction, with 1/d taken for 0.45 where it counts
        lost = e.b.fsub(t, e.b.fsub(d, e.const(x.type, 2)))
        better = e.muladd(e.b.fmul(y, lost), e.const(x.type, -0.45), y)
        y = e.b.select(e.b.fcmp_ordered("<", t, e.const(x.type, 1)), better, y)
    return with_sign(e, y, x)


def sigmoid(e: Emitter, x: Value) -> Value:
    """1 / (1 + e^-x), which is 0 below -88, or 1 / (1 + t) and t / (1 + t) with t = e^-|x|."""
    zero, one = e.const(x.type, 0), e.const(x.type, 1)
    if has_reciprocal(e, x):
        low, high = e.const(x.type, -88), e.const(x.type, 120)
        x = e.b.select(e.b.fcmp_ordered("<", x, low), low, x)
        x = e.b.select(e.b.fcmp_ordered(">", x, high), high, x)
        t = _scaled_exp(e, e.b.fneg(x))
        y = reciprocal14(e, e.b.fadd(one, t))
        rest = e.muladd(e.b.fneg(t), y, e.b.fsub(one, y))  # with t, since 1 + t is rounded
        return e.muladd(rest, y, y)
    t = exp(e, e.b.fneg(e.unary("fabs", x)), bounded=True)
    upper = e.b.select(e.b.fcmp_ordered("<", x, zero), t, one)
    d = e.b.fadd(one, t)
    y = e.b.fdiv(upper, d)
    if is_single(x):  # what the sum lost is worth a correction, with 1/d taken for 3/4
        lost = e.b.fsub(t, e.b.fsub(d, one))
        y = e.muladd(e.b.fmul(y, lost), e.const(x.type, -0.75), y)
    return y


def _half_exp(e: Emitter, x: Value) -> Value:
    """e^x / 2 for x >= 0, infinite only where that is too large."""
    r, _, bits = _reduce(e, x)
    y = shift_exponent(e, horner(e, r, _taylor(x)), e.b.sub(bits, e.const(bits.type, 1)))
    largest = 89.41598510742188 if is_single(x) else 710.475860073943
    fits = e.b.fcmp_ordered("<=", x, e.const(x.type, largest))
    return e.b.select(fits, y, e.b.fadd(x, e.const(x.type, inf)))


def cosh(e: Emitter, x: Value) -> Value:
    """h + 1/(4h) with h = e^|x| / 2."""
    h = _half_exp(e, e.unary("fabs", x))
    return e.b.fadd(h, e.b.fdiv(e.const(x.type, 0.25), h))


def sinh(e: Emitter, x: Value) -> Value:
    """h - 1/(4h) with h = e^|x| / 2, and (t + t/(t + 1)) / 2 with t = e^|x| - 1 below 1."""
    a, one = e.unary("fabs", x), e.const(x.type, 1)
    small = e.b.fcmp_ordered("<", a, one)
    h = _half_exp(e, a)
    large = e.b.fsub(h, e.b.fdiv(e.const(x.type, 0.25), h))
    t = _expm1(e, e.b.select(small, a, one))
    near = e.b.fmul(e.const(x.type, 0.5), e.b.fadd(t, e.b.fdiv(t, e.b.fadd(t, one))))
    return with_sign(e, e.b.select(small, near, large), x)
