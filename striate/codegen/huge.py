"""Reduction modulo pi/2 of huge float64 numbers, lane by lane: 192 bits of 2/pi per number.

    |x| = m 2^q, m an integer of 53 bits:   |x| 2/pi mod 4 = m W 2^-190 mod 4 + tiny

where W are the 192 bits of 2/pi from the one of weight 2^(1-q) on: those above only add multiples
of 4, those below less than 2^-137. The closest that a float64 comes to a multiple of pi/2 is about
2^-61, so more than 70 bits remain (Payne & Hanek, SIGNUM 1983).
"""

from __future__ import annotations

from functools import cache
from math import pi

from llvmlite import ir

from striate.codegen.emitter import F64, I1, I64, Emitter, Value, lanes_of

I128 = ir.IntType(128)
_WORDS = 21  # of 64 bits: q is at most 971, and one word of zeros comes first
_HALF_PI_LOW = 6.123233995736766e-17  # pi/2 - the nearest float64


def _arctan_inverse(n: int, one: int) -> int:
    """arctan(1/n) in units of 1/one, by its series."""
    total, term, k = 0, one // n, 1
    while term:
        total += term // k if k % 4 == 1 else -(term // k)
        term //= n * n
        k += 2
    return total


@cache
def two_over_pi() -> tuple[int, ...]:
    """A word of zeros and the bits of 2/pi, the first words first (pi by Machin's formula)."""
    bits = 64 * (_WORDS - 1)
    one = 1 << (bits + 64)
    circle = 4 * (4 * _arctan_inverse(5, one) - _arctan_inverse(239, one))
    fraction = (2 * one << bits) // circle
    mask = (1 << 64) - 1
    return (0, *((fraction >> shift) & mask for shift in range(bits - 64, -1, -64)))


def _table(e: Emitter) -> Value:
    known = e.module.globals.get("two_over_pi")
    if known is None:
        type = ir.ArrayType(I64, _WORDS)
        known = ir.GlobalVariable(e.module, type, "two_over_pi")
        known.linkage, known.global_constant = "internal", True
        known.initializer = ir.Constant(type, [w - (w >> 63 << 64) for w in two_over_pi()])
    return known


def reduce_huge(e: Emitter, x: Value, huge: Value, r: Value, n: Value) -> list[Value]:
    """[r, n] with the lanes in which `huge` holds replaced: x = n pi/2 + r modulo 2 pi."""
    lanes = lanes_of(x.type)
    if lanes == 1:
        return _one(e, x)

    def lane(i: Value, carried: list[Value]) -> list[Value]:
        def reduce() -> list[Value]:
            one, quarter = _one(e, e.b.extract_element(x, i))
            return [
                e.b.insert_element(carried[0], one, i),
                e.b.insert_element(carried[1], quarter, i),
            ]

        return e.choose(e.b.extract_element(huge, i), reduce, lambda: carried)

    return e.loop(0, lanes, 1, [r, n], lane)


def _one(e: Emitter, x: Value) -> list[Value]:
    """[r, n] of one number above 2^20; NaN if it is not finite."""
    b = e.b
    bits = b.bitcast(x, I64)
    field = b.and_(b.lshr(bits, e.index(52)), e.index(0x7FF))
    m = b.or_(b.and_(bits, e.index((1 << 52) - 1)), e.index(1 << 52))
    # the bit of weight 2^-i stands at 63 + i in the table; the first is i = q - 1, q = field - 1075
    limited = e.smaller(e.larger(field, 1043), 2046)
    first = b.add(limited, e.index(63 - 1 - 1075))
    word, shift = b.lshr(first, e.index(6)), b.and_(first, e.index(63))
    table = _table(e)
    words = [e.load(e.at(table, e.add(word, i), I64), I64) for i in range(4)]
    w0, w1, w2 = (
        e.intrinsic("llvm.fshl.i64", I64, words[i], words[i + 1], shift) for i in range(3)
    )

    def double(v: Value) -> Value:
        return b.zext(v, I128)

    half_word = ir.Constant(I128, 64)
    top = b.shl(double(b.mul(m, w0)), half_word)
    low = b.lshr(b.mul(double(m), double(w2)), half_word)
    product = b.add(b.add(top, b.mul(double(m), double(w1))), low)  # in units of 2^-126
    rounded = b.add(product, ir.Constant(I128, 1 << 125))
    quarter = b.trunc(b.lshr(rounded, ir.Constant(I128, 126)), I64)
    rest = b.sub(product, b.shl(double(quarter), ir.Constant(I128, 126)))
    below = b.icmp_signed("<", rest, ir.Constant(I128, 0))
    size = b.select(below, b.neg(rest), rest)
    zeros = e.intrinsic("llvm.ctlz.i128", I128, size, ir.Constant(I1, 0))
    zeros = b.select(b.icmp_unsigned(">", zeros, ir.Constant(I128, 126)), half_word, zeros)
    size = b.shl(size, zeros)
    high = b.trunc(b.lshr(size, half_word), I64)
    upper = b.and_(high, e.index(-(1 << 11)))  # 53 bits, and the 64 after them
    lower = b.or_(b.shl(b.and_(high, e.index((1 << 11) - 1)), e.index(53)),
                  b.lshr(b.trunc(size, I64), e.index(11)))  # fmt: skip
    place = b.shl(b.sub(e.index(1023), b.trunc(zeros, I64)), e.index(52))
    unit = b.bitcast(place, F64)  # 2^-zeros
    u = b.fmul(b.uitofp(upper, F64), e.const(F64, 2.0**-62))
    v = b.fmul(b.uitofp(lower, F64), e.const(F64, 2.0 ** -(62 + 53)))
    tail = e.muladd(u, e.const(F64, _HALF_PI_LOW), b.fmul(v, e.const(F64, pi / 2)))
    y = b.fmul(e.muladd(u, e.const(F64, pi / 2), tail), unit)
    negative = b.icmp_signed("<", bits, e.index(0))
    y = b.select(b.xor(below, negative), b.fneg(y), y)
    finite = b.icmp_unsigned("<", field, e.index(0x7FF))
    quarter = b.select(negative, b.neg(quarter), quarter)
    return [b.select(finite, y, e.const(F64, float("nan"))), quarter]
