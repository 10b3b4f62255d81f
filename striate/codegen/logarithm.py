"""log and what follows from it: log1p, log2, log10, asinh, acosh, atanh.

    x = 2^k m,  m = 1 + f in [sqrt(1/2), sqrt(2)),    log x = k ln 2 + log(1 + f)

    float32: log(1 + f) = f - f^2/2 + f^3 P(f)
    float64: log(1 + f) = f - (h - s (h + z R(z))),  s = f / (2 + f), z = s^2, h = f^2/2

the second from log(1 + f) = 2 artanh(s) (as in the C library of 4.3BSD). P and R are minimax
polynomials for the relative error of the result. Denormals count as zero.
"""

from __future__ import annotations

from math import inf, log as ln, nan

from striate.codegen.emitter import Emitter, Value
from striate.codegen.exponential import ln2_of
from striate.codegen.floats import bits_of, format_of, horner, is_single, like, with_sign

# P on [sqrt(1/2) - 1, sqrt(2) - 1]: relative error 7.5e-10
_SINGLE = (
    0.06746642291545868, -0.11675652116537094, 0.11888162046670914, -0.1240558847784996,
    0.14219552278518677, -0.1666799634695053, 0.2000211924314499, -0.25000008940696716,
    0.3333331346511841,
)  # fmt: skip
# R on [0, 0.02944]: relative error 2.3e-18
_DOUBLE = (
    0.14810520022231355, 0.1531316437187615, 0.18183571541297017, 0.22222199090890915,
    0.28571428729284815, 0.39999999999519825, 0.666666666666671,
)  # fmt: skip
# the bits of sqrt(1/2), with the mantissa's lower half (or more) zero
_ROOT_HALF = {True: 0x3F350000, False: 0x3FE6A09E00000000}
_TINY = {True: 2.0**-126, False: 2.0**-1022}
_LOG10_2 = (0.30102999566361177, 3.694239077158931e-13)  # in two parts, as ln 2 is


def split(e: Emitter, x: Value) -> tuple[Value, Value]:
    """(k, m) as floats with x = 2^k m and m in [sqrt(1/2), sqrt(2)), for x positive and normal."""
    bits = bits_of(e, x)
    places = e.const(bits.type, format_of(x).precision - 1)
    root = e.const(bits.type, _ROOT_HALF[is_single(x)])
    k = e.b.ashr(e.b.sub(bits, root), places)
    m = like(e, e.b.sub(bits, e.b.shl(k, places)), x)
    return e.b.sitofp(k, x.type), m


def _of_mantissa(e: Emitter, f: Value, rest: Value | None) -> Value:
    """log(1 + f) + rest for 1 + f in [sqrt(1/2), sqrt(2))."""
    half = e.const(f.type, 0.5)
    if is_single(f):
        z = e.b.fmul(f, f)
        y = e.b.fmul(e.b.fmul(f, z), horner(e, f, _SINGLE))
        y = y if rest is None else e.b.fadd(y, rest)
        return e.b.fadd(f, e.muladd(z, e.const(f.type, -0.5), y))
    s = e.b.fdiv(f, e.b.fadd(f, e.const(f.type, 2)))
    z, h = e.b.fmul(s, s), e.b.fmul(half, e.b.fmul(f, f))
    tail = e.b.fmul(s, e.muladd(z, horner(e, z, _DOUBLE), h))
    tail = tail if rest is None else e.b.fadd(tail, rest)
    return e.b.fsub(f, e.b.fsub(h, tail))


def _special(e: Emitter, x: Value, y: Value) -> Value:
    """y = log(x), and what it is at 0, infinity, NaN and below 0."""
    b, tiny = e.b, _TINY[is_single(x)]
    y = b.select(b.fcmp_ordered("<", x, e.const(x.type, inf)), y, x)
    zero = b.fcmp_ordered(">", x, e.const(x.type, -tiny))
    low = b.select(zero, e.const(x.type, -inf), e.const(x.type, nan))
    return b.select(b.fcmp_ordered("<", x, e.const(x.type, tiny)), low, y)


def is_tiny(e: Emitter, x: Value) -> Value:
    """Whether x is zero or denormal."""
    return e.b.fcmp_ordered("<", e.unary("fabs", x), e.const(x.type, _TINY[is_single(x)]))


def log(e: Emitter, x: Value) -> Value:
    """The natural logarithm."""
    k, m = split(e, x)
    hi, lo = ln2_of(x)
    rest = e.b.fmul(k, e.const(x.type, lo))
    y = _of_mantissa(e, e.b.fsub(m, e.const(x.type, 1)), rest)
    return _special(e, x, e.muladd(k, e.const(x.type, hi), y))


def log2(e: Emitter, x: Value) -> Value:
    """The logarithm to the base 2: k + log(m) / ln 2."""
    k, m = split(e, x)
    y = _of_mantissa(e, e.b.fsub(m, e.const(x.type, 1)), None)
    return _special(e, x, e.muladd(y, e.const(x.type, 1 / ln(2)), k))


def log10(e: Emitter, x: Value) -> Value:
    """The logarithm to the base 10: k log10(2) + log(m) / ln 10."""
    k, m = split(e, x)
    y = _of_mantissa(e, e.b.fsub(m, e.const(x.type, 1)), None)
    hi, lo = (e.const(x.type, v) for v in _LOG10_2)
    y = e.muladd(y, e.const(x.type, 1 / ln(10)), e.b.fmul(k, lo))
    return _special(e, x, e.muladd(k, hi, y))


def log1p(e: Emitter, x: Value) -> Value:
    """log(1 + x): of the rounded sum u, and what the rounding lost, divided by u."""
    b, one = e.b, e.const(x.type, 1)
    u = b.fadd(one, x)
    large = b.fcmp_ordered(">", x, one)
    bigger, smaller = b.select(large, x, one), b.select(large, one, x)
    lost = b.fsub(smaller, b.fsub(u, bigger))
    k, m = split(e, u)
    hi, lo = ln2_of(x)
    rest = e.muladd(k, e.const(x.type, lo), b.fdiv(lost, u))
    y = e.muladd(k, e.const(x.type, hi), _of_mantissa(e, b.fsub(m, one), rest))
    y = b.select(b.fcmp_ordered("==", x, e.const(x.type, 0)), x, y)
    return _special(e, u, y)


def asinh(e: Emitter, x: Value) -> Value:
    """log1p(a + a^2 / (1 + sqrt(1 + a^2))) with a = |x|; log(a) + ln 2 where a^2 is too large."""
    b, one = e.b, e.const(x.type, 1)
    a = e.unary("fabs", x)
    square = b.fmul(a, a)
    near = b.fadd(a, b.fdiv(square, b.fadd(one, e.unary("sqrt", b.fadd(one, square)))))
    return with_sign(e, _log1p_or_twice(e, a, near), x)


def acosh(e: Emitter, x: Value) -> Value:
    """log1p(t + sqrt(2 t + t^2)) with t = x - 1; log(x) + ln 2 where t^2 is too large."""
    b = e.b
    t = b.fsub(x, e.const(x.type, 1))
    near = b.fadd(t, e.unary("sqrt", b.fmul(t, b.fadd(t, e.const(x.type, 2)))))
    y = _log1p_or_twice(e, x, near)
    return b.select(b.fcmp_ordered("<", t, e.const(x.type, 0)), e.const(x.type, nan), y)


def _log1p_or_twice(e: Emitter, a: Value, near: Value) -> Value:
    """log1p(near), and log(2 a) where a > 2^60."""
    large = e.b.fcmp_ordered(">", a, e.const(a.type, 2.0**60))
    y = log1p(e, e.b.select(large, a, near))
    return e.b.select(large, e.b.fadd(y, e.const(a.type, ln(2))), y)


def atanh(e: Emitter, x: Value) -> Value:
    """log1p(2 a / (1 - a)) / 2 with a = |x|."""
    b, a = e.b, e.unary("fabs", x)
    ratio = b.fdiv(b.fadd(a, a), b.fsub(e.const(x.type, 1), a))
    return with_sign(e, b.fmul(e.const(x.type, 0.5), log1p(e, ratio)), x)
