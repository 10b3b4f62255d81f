"""sin, cos, tan and their inverses, in float64 (float32 is computed so and rounded).

    x = n pi/2 + r,  |r| <= pi/4:  n mod 4 says which of +-sin r, +-cos r is wanted

Up to LIMIT, n pi/2 is subtracted in three parts of which the first two products are exact (Cody &
Waite). Beyond it each lane multiplies its mantissa by those 192 bits of 2/pi that matter (Payne &
Hanek, "Radian reduction for trigonometric functions", SIGNUM 1983). Polynomials are minimax for
the relative error of sin r, cos r, asin s and atan t.
"""

from __future__ import annotations

from math import pi

from striate.codegen.emitter import Emitter, Value
from striate.codegen.floats import any_lane, horner, is_negative, round_by_magic, with_sign
from striate.codegen.huge import reduce_huge

# (sin(r) - r) / r^3 in r^2: error 3.6e-21; (cos(r) - 1 + r^2/2) / r^4 in r^2: error 7.7e-23
_SIN = (
    -7.57802330923347e-13, 1.605835773616401e-10, -2.5052104891742706e-08, 2.755731921437719e-06,
    -0.00019841269841256137, 0.008333333333333325, -0.16666666666666666,
)  # fmt: skip
_COS = (
    4.740799433384849e-14, -1.1470358346574067e-11, 2.0876754990919755e-09, -2.755731921838661e-07,
    2.480158730157905e-05, -0.0013888888888888883, 0.041666666666666664,
)  # fmt: skip
# (asin(s) - s) / s^3 in s^2 for s <= 1/2: error 1.9e-18
_ASIN = (
    0.032716104992628794, -0.021020611366463028, 0.021629907625841303, 0.0037806898721589877,
    0.010748063106253558, 0.011407153960013853, 0.013979471035624124, 0.017351756627622412,
    0.022372204933035867, 0.030381943144576908, 0.04464285716363594, 0.07499999999984511,
    0.16666666666666702,
)  # fmt: skip
# (atan(t) - t) / t^3 in t^2 for t <= sqrt(2) - 1: error 2.4e-18
_ATAN = (
    -0.017814206318168282, 0.038002117957521585, -0.050378942863994164, 0.05847852366047784,
    -0.06663144226563246, 0.07692068519389865, -0.09090898547465195, 0.11111110824512699,
    -0.14285714281348197, 0.19999999999969026, -0.3333333333333327,
)  # fmt: skip
LIMIT = 2.0**20
HALF_PI_PARTS = (
    1.5707963267341256,
    6.077100506303966e-11,
    2.0222662487959506e-21,
)  # two of 33 bits, and the rest
PI_LOW = 1.2246467991473532e-16  # pi - the nearest float64


def _reduced(e: Emitter, x: Value) -> tuple[Value, Value]:
    """(r, integers whose lowest two bits are n mod 4); NaN for what is not finite."""
    a = e.unary("fabs", x)
    n, bits = round_by_magic(e, x, 2 / pi)
    r = x
    for part in HALF_PI_PARTS:
        r = e.muladd(n, e.const(x.type, -part), r)
    huge = e.b.fcmp_unordered(">", a, e.const(x.type, LIMIT))
    r, bits = e.choose(
        any_lane(e, huge), lambda: reduce_huge(e, x, huge, r, bits), lambda: [r, bits]
    )
    return r, bits


def _sin_of(e: Emitter, r: Value) -> Value:
    z = e.b.fmul(r, r)
    return e.muladd(e.b.fmul(z, r), horner(e, z, _SIN), r)


def _cos_of(e: Emitter, r: Value) -> Value:
    z = e.b.fmul(r, r)
    half = e.const(r.type, 0.5)
    top = e.muladd(e.b.fneg(z), half, e.const(r.type, 1))
    lost = e.b.fsub(e.b.fsub(e.const(r.type, 1), top), e.b.fmul(z, half))
    return e.b.fadd(top, e.muladd(e.b.fmul(z, z), horner(e, z, _COS), lost))


def _bit(e: Emitter, bits: Value, i: int) -> Value:
    masked = e.b.and_(bits, e.const(bits.type, 1 << i))
    return e.b.icmp_unsigned("!=", masked, e.const(bits.type, 0))


def _wave(e: Emitter, x: Value, quarter: int) -> Value:
    """sin(x + quarter * pi/2)."""
    r, bits = _reduced(e, x)
    bits = e.b.add(bits, e.const(bits.type, quarter))
    y = e.b.select(_bit(e, bits, 0), _cos_of(e, r), _sin_of(e, r))
    return e.b.select(_bit(e, bits, 1), e.b.fneg(y), y)


def sin(e: Emitter, x: Value) -> Value:
    """The sine; of -0 it is -0."""
    y = _wave(e, x, 0)
    return e.b.select(e.b.fcmp_ordered("==", x, e.const(x.type, 0)), x, y)


def cos(e: Emitter, x: Value) -> Value:
    """The cosine."""
    return _wave(e, x, 1)


def tan(e: Emitter, x: Value) -> Value:
    """sin r / cos r, or -cos r / sin r."""
    r, bits = _reduced(e, x)
    s, c, odd = _sin_of(e, r), _cos_of(e, r), _bit(e, bits, 0)
    y = e.b.fdiv(e.b.select(odd, e.b.fneg(c), s), e.b.select(odd, s, c))
    return e.b.select(e.b.fcmp_ordered("==", x, e.const(x.type, 0)), x, y)


# ---- inverses ------------------------------------------------------------------------------


def _asin_parts(e: Emitter, a: Value) -> tuple[Value, Value, Value]:
    """(a <= 1/2, s, asin s - s) with s = a there, else sqrt((1 - a) / 2)."""
    half = e.const(a.type, 0.5)
    small = e.b.fcmp_ordered("<=", a, half)
    z = e.b.select(small, e.b.fmul(a, a), e.b.fmul(half, e.b.fsub(e.const(a.type, 1), a)))
    s = e.b.select(small, a, e.unary("sqrt", z))
    return small, s, e.b.fmul(e.b.fmul(s, z), horner(e, z, _ASIN))


def asin(e: Emitter, x: Value) -> Value:
    """pi/2 - 2 asin(sqrt((1 - |x|)/2)) above 1/2."""
    b = e.b
    small, s, rest = _asin_parts(e, e.unary("fabs", x))
    two = e.const(x.type, -2)
    low = e.muladd(rest, two, e.const(x.type, PI_LOW / 2))
    large = b.fadd(e.const(x.type, pi / 2), e.muladd(s, two, low))
    return with_sign(e, b.select(small, b.fadd(s, rest), large), x)


def acos(e: Emitter, x: Value) -> Value:
    """pi/2 - asin x; 2 asin(sqrt((1 - x)/2)) above 1/2, and pi minus that of -x below -1/2."""
    b, two = e.b, e.const(x.type, 2)
    small, s, rest = _asin_parts(e, e.unary("fabs", x))
    near = b.fadd(with_sign(e, s, x), with_sign(e, rest, x))
    quarter, low = e.const(x.type, pi / 2), e.const(x.type, PI_LOW / 2)
    middle = b.fadd(quarter, b.fsub(low, near))
    end = b.fmul(two, b.fadd(s, rest))
    other = b.fadd(e.const(x.type, pi), b.fsub(e.const(x.type, PI_LOW), end))
    return b.select(small, middle, b.select(is_negative(e, x), other, end))


def _angle(e: Emitter, y: Value, x: Value) -> Value:
    """atan(y / x) for y, x >= 0, not both zero or infinite, whose sum is finite."""
    b = e.b
    steep = b.fcmp_ordered(">", y, b.fmul(x, e.const(x.type, 2.414213562373095)))
    middle = b.fcmp_ordered(">", y, b.fmul(x, e.const(x.type, 0.4142135623730950)))
    upper = b.select(steep, b.fneg(x), b.select(middle, b.fsub(y, x), y))
    lower = b.select(steep, y, b.select(middle, b.fadd(y, x), x))
    t = b.fdiv(upper, lower)
    z = b.fmul(t, t)
    zero = e.const(x.type, 0)

    def base(size: float) -> Value:
        parts = [e.const(x.type, f * size) for f in (0.5, 0.25)]
        return b.select(steep, parts[0], b.select(middle, parts[1], zero))

    rest = e.muladd(b.fmul(t, z), horner(e, z, _ATAN), base(PI_LOW))
    return b.fadd(base(pi), b.fadd(t, rest))


def atan(e: Emitter, x: Value) -> Value:
    """The angle of (1, x) in [-pi/2, pi/2]."""
    return with_sign(e, _angle(e, e.unary("fabs", x), e.const(x.type, 1)), x)


def atan2(e: Emitter, y: Value, x: Value) -> Value:
    """The angle of the point (x, y); signs of zeros and infinities count."""
    b = e.b
    one, infinite = e.const(x.type, 1), e.const(x.type, float("inf"))
    u, v = e.unary("fabs", y), e.unary("fabs", x)
    top = b.select(b.fcmp_ordered(">", u, v), u, v)
    big = b.fcmp_ordered(">", top, e.const(x.type, 2.0**1000))
    small = b.fcmp_ordered("<", top, e.const(x.type, 2.0**-900))
    scale = b.select(
        big, e.const(x.type, 2.0**-100), b.select(small, e.const(x.type, 2.0**100), one)
    )
    both = b.and_(b.fcmp_ordered("==", u, infinite), b.fcmp_ordered("==", v, infinite))
    u = b.select(both, one, b.fmul(u, scale))
    v = b.select(both, one, b.fmul(v, scale))
    v = b.select(b.fcmp_ordered("==", top, e.const(x.type, 0)), one, v)
    angle = _angle(e, u, v)
    other = b.fadd(e.const(x.type, pi), b.fsub(e.const(x.type, PI_LOW), angle))
    return with_sign(e, b.select(is_negative(e, x), other, angle), y)
