"""floor_divide and remainder, of integers and of floats, as NumPy has them.

Integers: division by 0 gives 0, the lowest number by -1 wraps around; neither reaches LLVM, where
they are undefined. Floats: the exact remainder of |x| by |y| comes from subtractions q |y| with q
so short that each product and difference is exact, as often as it takes (once, mostly).
"""

from __future__ import annotations

from math import inf, nan

from striate.codegen.emitter import Emitter, Value
from striate.codegen.floats import any_lane, halves, is_single, with_sign

# ---- integers ------------------------------------------------------------------------------


def _signed_parts(e: Emitter, x: Value, y: Value) -> tuple[Value, Value, Value]:
    """(quotient, remainder) towards minus infinity by y, by 1 where y is 0 or -1, and that y."""
    b = e.b
    zero, one, minus = (e.const(x.type, v) for v in (0, 1, -1))
    special = b.or_(b.icmp_signed("==", y, zero), b.icmp_signed("==", y, minus))
    safe = b.select(special, one, y)
    q = b.sdiv(x, safe)
    r = b.sub(x, b.mul(q, safe))
    below = b.and_(b.icmp_signed("!=", r, zero), b.icmp_signed("<", b.xor(r, safe), zero))
    return b.select(below, b.add(q, minus), q), b.select(below, b.add(r, safe), r), special


def signed_floor_divide(e: Emitter, x: Value, y: Value) -> Value:
    """The largest integer at most x / y."""
    q, _, _ = _signed_parts(e, x, y)
    zero = e.const(x.type, 0)
    q = e.b.select(e.b.icmp_signed("==", y, e.const(x.type, -1)), e.b.sub(zero, x), q)
    return e.b.select(e.b.icmp_signed("==", y, zero), zero, q)


def signed_remainder(e: Emitter, x: Value, y: Value) -> Value:
    """x - y * floor(x / y): 0 for y = 0 and y = -1."""
    _, r, special = _signed_parts(e, x, y)
    return e.b.select(special, e.const(x.type, 0), r)


def unsigned_floor_divide(e: Emitter, x: Value, y: Value) -> Value:
    """x / y without its fraction."""
    zero = e.const(x.type, 0)
    none = e.b.icmp_unsigned("==", y, zero)
    return e.b.select(none, zero, e.b.udiv(x, e.b.select(none, e.const(x.type, 1), y)))


def unsigned_remainder(e: Emitter, x: Value, y: Value) -> Value:
    """What x / y leaves."""
    zero = e.const(x.type, 0)
    none = e.b.icmp_unsigned("==", y, zero)
    return e.b.select(none, zero, e.b.urem(x, e.b.select(none, e.const(x.type, 1), y)))


# ---- floats --------------------------------------------------------------------------------


def _modulo(e: Emitter, x: Value, y: Value) -> Value:
    """x - y trunc(x / y), exactly, with the sign of x; NaN for an infinite x, and for y = 0."""
    b = e.b
    size, step = e.unary("fabs", x), e.unary("fabs", y)
    valid = b.and_(b.fcmp_ordered("<", size, e.const(x.type, inf)),
                   b.fcmp_ordered(">", step, e.const(x.type, 0)))  # fmt: skip
    rest = _subtract_multiples(e, b.select(valid, size, e.const(x.type, 0)), step)
    return b.select(valid, with_sign(e, rest, x), e.const(x.type, nan))


def _subtract_multiples(e: Emitter, a: Value, y: Value) -> Value:
    """a modulo y for finite a >= 0, y > 0."""
    b, one = e.b, e.const(a.type, 1)
    entry = b.block
    head, inside, after = (e.function.append_basic_block(n) for n in ("rest", "subtract", "done"))
    b.branch(head)
    b.position_at_end(head)
    rest = b.phi(a.type)
    rest.add_incoming(a, entry)
    more = b.fcmp_ordered(">=", rest, y)
    b.cbranch(any_lane(e, more), inside, after)
    b.position_at_end(inside)
    far = 100 if is_single(a) else 900  # y 2^far where that is no more than a: quotients are finite
    down, up = e.const(a.type, 2.0**-far), e.const(a.type, 2.0**far)
    step = y
    for _ in range(2):
        above = b.fcmp_ordered(">=", b.fmul(rest, down), step)
        step = b.select(above, b.fmul(step, up), step)
    lower = e.const(a.type, 1 - 2.0 ** (-22 if is_single(a) else -51))
    quotient, _ = halves(e, b.fmul(b.fdiv(rest, step), lower))  # not above the true one
    quotient = e.unary("trunc", quotient)
    quotient = b.select(b.fcmp_ordered("<", quotient, one), one, quotient)
    high, low = halves(e, step)
    less = b.fsub(b.fsub(rest, b.fmul(quotient, high)), b.fmul(quotient, low))
    rest.add_incoming(b.select(more, less, rest), b.block)
    b.branch(head)
    b.position_at_end(after)
    return rest


def _divided(e: Emitter, x: Value, y: Value) -> tuple[Value, Value]:
    """(whole quotient before the last rounding, remainder with the sign of y)."""
    b = e.b
    zero = e.const(x.type, 0)
    r = _modulo(e, x, y)
    q = b.fdiv(b.fsub(x, r), y)
    exact = b.fcmp_ordered("==", r, zero)
    other = b.xor(b.fcmp_ordered("<", y, zero), b.fcmp_ordered("<", r, zero))
    other = b.and_(other, b.not_(exact))
    r = b.select(other, b.fadd(r, y), b.select(exact, with_sign(e, zero, y), r))
    return b.select(other, b.fsub(q, e.const(x.type, 1)), q), r


def remainder(e: Emitter, x: Value, y: Value) -> Value:
    """x - y * floor(x / y), with the sign of y; NaN for an infinite x, and for y = 0."""
    return _divided(e, x, y)[1]


def floor_divide(e: Emitter, x: Value, y: Value) -> Value:
    """floor(x / y), and x / y for y = 0."""
    b = e.b
    zero, half = e.const(x.type, 0), e.const(x.type, 0.5)
    q, _ = _divided(e, x, y)
    ratio = b.fdiv(x, y)
    floor = e.unary("floor", q)
    up = b.fcmp_ordered(">", b.fsub(q, floor), half)
    floor = b.select(up, b.fadd(floor, e.const(x.type, 1)), floor)
    floor = b.select(b.fcmp_ordered("==", q, zero), with_sign(e, zero, ratio), floor)
    return b.select(b.fcmp_ordered("==", y, zero), ratio, floor)
