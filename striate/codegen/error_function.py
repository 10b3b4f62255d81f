"""erf. float32 by two polynomials, float64 by Cody's rational approximations (`ops.special`).

    float32, a = |x|:  erf x = x + x E(x^2) up to 0.85,   erf a = 1 - 2^L(a) above

2^L = 2^n 2^f with |f| <= 1/2 needs few bits, since erfc(0.85) = 0.23; above 3.95 erf is 1. All
polynomials are minimax: E for the relative error, L for the absolute error of erf.
"""

from __future__ import annotations

from math import pi, sqrt

from striate.codegen.emitter import Emitter, Value
from striate.codegen.exponential import exp
from striate.codegen.floats import horner, is_single, round_by_magic, shift_exponent, with_sign
from striate.ops.special import _LARGE, _MIDDLE, _SMALL

# erf(a)/a - 1 in a^2 up to 0.85^2: relative error of erf 6.1e-9
_NEAR = (
    -0.0006315128994174302, 0.005051094572991133, -0.02680254727602005, 0.11282717436552048,
    -0.3761257231235504, 0.12837916612625122,
)  # fmt: skip
# log2(erfc(a)) on [0.84, 3.95]: absolute error of erf 2.1e-9
_FAR = (
    0.0002936592500191182, -0.004496731795370579, 0.03248434513807297, -0.15079475939273834,
    -0.9183036684989929, -1.627449631690979, -0.00014989466581027955,
)  # fmt: skip
# 2^f on |f| <= 0.5005: relative error 7.5e-8
_POWER = (
    0.0013276358367875218, 0.009675655514001846, 0.05550714582204819, 0.24022117257118225,
    0.6931469440460205, 1.0000001192092896,
)  # fmt: skip
# R - 1 for a small argument, which loses less than R
_SMALL_LESS_1 = (tuple(p - q for p, q in zip(*_SMALL, strict=True)), _SMALL[1])


def erf(e: Emitter, x: Value) -> Value:
    """The error function."""
    return _single(e, x) if is_single(x) else _double(e, x)


def _single(e: Emitter, x: Value) -> Value:
    b = e.b
    a, one, last = e.unary("fabs", x), e.const(x.type, 1), e.const(x.type, 3.95)
    near = e.muladd(x, horner(e, b.fmul(x, x), _NEAR), x)
    exponent = horner(e, b.select(b.fcmp_ordered(">", a, last), last, a), _FAR)
    n, bits = round_by_magic(e, exponent, 1.0)
    complement = shift_exponent(e, horner(e, b.fsub(exponent, n), _POWER), bits)
    far = with_sign(e, b.fsub(one, complement), x)
    return b.select(b.fcmp_ordered(">", a, e.const(x.type, 0.85)), far, near)  # NaN is near


def _double(e: Emitter, x: Value) -> Value:
    """Cody's three pieces, by y = |x|; the first as y + y (R(y^2) - 1)."""
    b = e.b
    a, one = e.unary("fabs", x), e.const(x.type, 1)
    last = e.const(x.type, 6)
    y = b.select(b.fcmp_ordered(">", a, last), last, a)
    small = b.fcmp_unordered("<=", y, e.const(x.type, 0.5))
    middle = b.fcmp_ordered("<=", y, e.const(x.type, 4))
    square = b.fmul(y, y)
    inverse = b.fdiv(one, b.select(middle, one, y))
    t = b.fmul(inverse, inverse)
    tops, bottoms = (
        [
            horner(e, v, piece[i])
            for v, piece in ((square, _SMALL_LESS_1), (y, _MIDDLE), (t, _LARGE))
        ]
        for i in (0, 1)
    )
    upper, lower = (b.select(small, p[0], b.select(middle, p[1], p[2])) for p in (tops, bottoms))
    ratio = b.fdiv(upper, lower)
    tail = b.fmul(inverse, e.muladd(b.fneg(t), ratio, e.const(x.type, 1 / sqrt(pi))))
    decay = exp(e, b.fneg(square), bounded=True)
    far = b.fsub(one, b.fmul(decay, b.select(middle, ratio, tail)))
    return with_sign(e, b.select(small, e.muladd(y, ratio, y), far), x)
