"""Floats as bits and as sums: what elementary functions are made of.

A float of p bits is sign, exponent and p - 1 bits of mantissa. Exact tricks live here: adding
1.5 * 2**(p-1) rounds to an integer, which is then the low bits; adding n to the exponent field
multiplies by 2**n; a sum or product of two floats is a float plus its rounding error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from striate.codegen.emitter import (
    F32,
    F64,
    I1,
    I8,
    I16,
    I32,
    I64,
    Emitter,
    Value,
    lanes_of,
    scalar_of,
    vector,
)


@dataclass(frozen=True, slots=True)
class Format:
    """Of an IEEE format: bits of its mantissa with the leading one, its largest exponent."""

    precision: int
    bias: int

    @property
    def magic(self) -> float:
        """1.5 * 2**(p-1): a sum with it is an integer, rounded to nearest even."""
        return 1.5 * 2.0 ** (self.precision - 1)


_FORMATS = {True: Format(24, 127), False: Format(53, 1023)}


def format_of(x: Value) -> Format:
    """The format of a value's lanes."""
    return _FORMATS[scalar_of(x.type) == F32]


def is_single(x: Value) -> bool:
    """Whether the lanes are float32."""
    return bool(scalar_of(x.type) == F32)


def bits_of(e: Emitter, x: Value) -> Value:
    """The bits of a float as an integer of its width."""
    return e.b.bitcast(x, vector(I32 if is_single(x) else I64, lanes_of(x.type)))


def like(e: Emitter, bits: Value, x: Value) -> Value:
    """Bits as a float of the type of x."""
    return e.b.bitcast(bits, x.type)


def is_negative(e: Emitter, x: Value) -> Value:
    """Whether the sign bit is set: of -0 and of NaN too."""
    bits = bits_of(e, x)
    return e.b.icmp_signed("<", bits, e.const(bits.type, 0))


def with_sign(e: Emitter, x: Value, sign: Value) -> Value:
    """|x| with the sign bit of `sign`."""
    return e.binary("copysign", x, sign)


def horner(e: Emitter, x: Value, coefficients: Sequence[float]) -> Value:
    """The polynomial with these coefficients, the highest power first."""
    y = e.const(x.type, coefficients[0])
    for c in coefficients[1:]:
        y = e.muladd(y, x, e.const(x.type, c))
    return y


def round_by_magic(e: Emitter, x: Value, factor: float) -> tuple[Value, Value]:
    """(n, bits): the integer nearest to x * factor (below 2**(p-2)), and bits that end in it."""
    magic = e.const(x.type, format_of(x).magic)
    shifted = e.muladd(x, e.const(x.type, factor), magic)
    return e.b.fsub(shifted, magic), bits_of(e, shifted)


def shift_exponent(e: Emitter, x: Value, n: Value) -> Value:
    """x * 2**n for integers n, where x and the result are normal (or both are garbage)."""
    up = e.b.shl(n, e.const(n.type, format_of(x).precision - 1))
    return like(e, e.b.add(bits_of(e, x), up), x)


def has_scalef(e: Emitter) -> bool:
    """Whether the target multiplies by 2**n in one instruction, for every n and x."""
    return e.target.name == "x86-64-v4"


def scalef(e: Emitter, x: Value, n: Value) -> Value:
    """x * 2**n for integers n that are floats (AVX-512), by registers of 16 bytes or more."""

    def scaled(name: str, mask: Value, rounding: list[Value], y: Value, m: Value) -> Value:
        return e.intrinsic(f"llvm.x86.avx512.mask.scalef.{name}", y.type, y, m, y, mask, *rounding)

    return _by_registers(e, scaled, x, n)


def has_reciprocal(e: Emitter, x: Value) -> bool:
    """Whether division is better done by `reciprocal14`."""
    return has_scalef(e) and is_single(x)


def quotient(e: Emitter, x: Value, y: Value) -> Value:
    """x / y to an ulp, where neither y nor 1/y nor x/y is near the ends of the format.

    A division of 16 float32 occupies the divider for 16 cycles. A reciprocal to 14 bits and one
    correction by the remainder (Markstein, "Computation of elementary functions on the IBM RISC
    System/6000 processor", 1990) take five instructions.
    """
    if not has_reciprocal(e, x):
        return e.b.fdiv(x, y)
    r = reciprocal14(e, y)
    q = e.b.fmul(x, r)
    return e.muladd(e.muladd(e.b.fneg(y), q, x), r, q)


def reciprocal14(e: Emitter, x: Value) -> Value:
    """1/x with a relative error of at most 2**-14 (AVX-512)."""

    def inverse(name: str, mask: Value, _: list[Value], y: Value) -> Value:
        return e.intrinsic(f"llvm.x86.avx512.rcp14.{name}", y.type, y, y, mask)

    return _by_registers(e, inverse, x)


def _by_registers(e: Emitter, of: Callable[..., Value], x: Value, *others: Value) -> Value:
    """`of(suffix, mask of all lanes, rounding if it is stated, *parts)` for each register of x."""
    single, lanes = is_single(x), lanes_of(x.type)
    kind, least, most = ("ps", 4, 16) if single else ("pd", 2, 8)
    size = next((s for s in (least, 2 * least, most) if lanes <= s), most)
    mask = ir.Constant(I16 if size == 16 else I8, -1)
    rounding = [ir.Constant(I32, 4)] if size == most else []
    name = f"{kind}.{128 * size // least}"
    parts = [
        of(name, mask, rounding, *(register(e, v, start, size) for v in (x, *others)))
        for start in range(0, lanes, size)
    ]
    return from_registers(e, parts, lanes)


def register(e: Emitter, x: Value, start: int, size: int) -> Value:
    """Lanes start ... start + size of x; beyond its last, the last one."""
    lanes = lanes_of(x.type)
    if lanes == size:
        return x
    if lanes == 1:
        return e.b.insert_element(e.undefined(x.type, size), x, ir.Constant(I32, 0))
    indices = [min(i, lanes - 1) for i in range(start, start + size)]
    return e.b.shuffle_vector(x, x, ir.Constant(ir.VectorType(I32, size), indices))


def from_registers(e: Emitter, parts: Sequence[Value], lanes: int) -> Value:
    """The first lanes of the parts, one after another."""
    if lanes == 1:
        return e.b.extract_element(parts[0], ir.Constant(I32, 0))
    whole = [*parts]
    while len(whole) > 1:
        if len(whole) % 2:
            whole.append(whole[-1])
        whole = [
            e.b.shuffle_vector(
                x, y, ir.Constant(ir.VectorType(I32, 2 * lanes_of(x.type)),
                                  list(range(2 * lanes_of(x.type)))),
            )
            for x, y in zip(whole[::2], whole[1::2], strict=True)
        ]  # fmt: skip
    return register(e, whole[0], 0, lanes)


def wide(fn: Callable[..., Value]) -> Callable[..., Value]:
    """A function of float64, made to serve float32 too: rounded once, to within 0.51 ulp."""

    def run(e: Emitter, *xs: Value) -> Value:
        if not is_single(xs[0]):
            return fn(e, *xs)
        double = vector(F64, lanes_of(xs[0].type))
        return e.b.fptrunc(fn(e, *(e.b.fpext(x, double) for x in xs)), xs[0].type)

    return run


# ---- two floats for one number -------------------------------------------------------------


def halves(e: Emitter, x: Value) -> tuple[Value, Value]:
    """x as a sum of two floats of at most half its bits (one more in the second)."""
    precision = format_of(x).precision
    bits = bits_of(e, x)
    high = like(e, e.b.and_(bits, e.const(bits.type, -1 << (precision + 1) // 2)), x)
    return high, e.b.fsub(x, high)


def sum_of(e: Emitter, x: Value, y: Value) -> tuple[Value, Value]:
    """x + y as a rounded sum and its error, for any sizes (Knuth)."""
    b = e.b
    total = b.fadd(x, y)
    part = b.fsub(total, x)
    return total, b.fadd(b.fsub(x, b.fsub(total, part)), b.fsub(y, part))


def product_of(e: Emitter, x: Value, y: Value) -> tuple[Value, Value]:
    """x * y as a rounded product and its error (Dekker, where nothing fuses)."""
    b = e.b
    p = b.fmul(x, y)
    if e.target.name != "x86-64-v2":
        return p, e.fma(x, y, b.fneg(p))
    (u, u_low), (v, v_low) = halves(e, x), halves(e, y)
    error = b.fsub(b.fmul(u, v), p)
    for s, t in ((u, v_low), (u_low, v), (u_low, v_low)):
        error = b.fadd(error, b.fmul(s, t))
    return p, error


def any_lane(e: Emitter, mask: Value) -> Value:
    """Whether the mask is true in any lane."""
    n = lanes_of(mask.type)
    return mask if n == 1 else e.intrinsic(f"llvm.vector.reduce.or.v{n}i1", I1, mask)
