"""Random numbers: Philox4x32-10 on many counters at once, bit for bit as `ops.random`.

A lane of 64 bits holds one 32-bit word, so that a product of two words is one multiplication. L
lanes are L blocks, of which each gives four float32 or two float64; they are interleaved into the
order of the stream. Number i depends on the key and i alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from llvmlite import ir

from striate.codegen.emitter import F32, F64, I32, I64, Emitter, Value, lanes_of, vector
from striate.codegen.kernel import Buffer, Step
from striate.dtype import DType, float32
from striate.ops.random import Uniform

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = (1 << 32) - 1
_SMALL = 1 << 12  # numbers that one thread makes sooner than it could call the others


@dataclass(frozen=True, slots=True)
class RandomUniform:
    """y[i] for i < n; words: n, the key i64[3] = (seed, step, draw), y.

    Attributes:
        dtype: float32 or float64.
    """

    dtype: DType

    @property
    def name(self) -> str:
        """As a C identifier."""
        return f"random_uniform_{self.dtype.short}"

    def emit(self, e: Emitter) -> None:
        """A thread makes a range of the pieces of L blocks; the last piece may be cut short."""
        n, key, out = e.number(0), e.pointer(1), e.pointer(2)
        seed, step, draw = (e.load(e.at(key, i, I64), I64) for i in range(3))
        mixed = e.b.add(_mix(e, seed), e.b.mul(draw, e.index(0x9E3779B97F4A7C15)))
        lanes = e.target.lanes(64)
        type = F32 if self.dtype is float32 else F64
        piece = lanes * (4 if self.dtype is float32 else 2)
        first, last = e.share(e.b.udiv(e.add(n, piece - 1), e.index(piece)))

        def make(i: Value) -> None:
            numbers = self._numbers(e, e.mul(i, lanes), step, mixed)
            start = e.mul(i, piece)
            p, rest = e.at(out, start, type), e.b.sub(n, start)
            with e.either(e.b.icmp_signed(">=", rest, e.index(piece))) as (whole, cut):
                with whole:
                    e.store(numbers, p)
                with cut:
                    e.store_masked(numbers, p, e.first_lanes(rest, piece))

        e.each(first, last, make)

    def _numbers(self, e: Emitter, block: Value, step: Value, key: Value) -> Value:
        """The numbers of the blocks from this one on, one block per 64-bit lane."""
        b, lanes = e.b, e.target.lanes(64)
        type = vector(I64, lanes)
        ramp = ir.Constant(type, list(range(lanes)))
        blocks, high = b.add(e.splat(block, lanes), ramp), e.splat(step, lanes)
        counter = [half for x in (blocks, high) for half in _halves(e, x)]
        words = _philox(e, counter, _halves(e, key))
        if self.dtype is float32:
            eight = e.const(type, 8)
            short = [b.trunc(b.lshr(w, eight), vector(I32, lanes)) for w in words]
            floats = [b.sitofp(w, vector(F32, lanes)) for w in short]  # 24 bits: exact
            return _interleave(e, [b.fmul(x, e.const(x.type, 2.0**-24)) for x in floats])
        half, eleven = e.const(type, 32), e.const(type, 11)
        pairs = [b.or_(b.shl(words[i], half), words[i + 1]) for i in (0, 2)]
        doubles = [b.sitofp(b.lshr(w, eleven), vector(F64, lanes)) for w in pairs]
        return _interleave(e, [b.fmul(x, e.const(x.type, 2.0**-53)) for x in doubles])


def _mix(e: Emitter, x: Value) -> Value:
    """The finaliser of SplitMix64."""
    b = e.b
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = b.mul(b.xor(x, b.lshr(x, e.index(shift))), e.const(I64, factor))
    return b.xor(x, b.lshr(x, e.index(31)))


def _halves(e: Emitter, x: Value) -> list[Value]:
    """The lower and the upper 32 bits, each in a lane of 64."""
    return [e.b.and_(x, e.const(x.type, _MASK)), e.b.lshr(x, e.const(x.type, 32))]


def _philox(e: Emitter, counter: list[Value], key: list[Value]) -> list[Value]:
    """Four words per lane from four words of counter and two of key.

    Between rounds the upper half of a lane is of no account: a product takes the lower halves.
    """
    b = e.b
    c0, c1, c2, c3 = counter
    lanes, half, mask = lanes_of(c0.type), e.const(c0.type, 32), e.const(c0.type, _MASK)
    for _ in range(_ROUNDS):
        p, q = (
            b.mul(b.and_(c, mask), e.const(c.type, m))
            for c, m in zip((c0, c2), _MULTIPLIERS, strict=True)
        )
        k0, k1 = (e.splat(k, lanes) for k in key)
        c0, c1 = b.xor(b.xor(b.lshr(q, half), c1), k0), q
        c2, c3 = b.xor(b.xor(b.lshr(p, half), c3), k1), p
        key = [
            b.and_(b.add(k, e.index(w)), e.index(_MASK)) for k, w in zip(key, _WEYL, strict=True)
        ]
    return [b.and_(c, mask) for c in (c0, c1, c2, c3)]


def _interleave(e: Emitter, parts: list[Value]) -> Value:
    """Lane i of part j becomes lane i * len(parts) + j."""
    while len(parts) > 1:  # the first and the second half of the parts, pair by pair
        half = len(parts) // 2
        n = lanes_of(parts[0].type)
        order = [i + n * side for i in range(n) for side in (0, 1)]
        mask = ir.Constant(ir.VectorType(I32, 2 * n), order)
        parts = [
            e.b.shuffle_vector(x, y, mask) for x, y in zip(parts[:half], parts[half:], strict=True)
        ]
    return parts[0]


def random_uniform(attrs: Uniform, key: Buffer, out: Buffer) -> list[Step]:
    """The steps that fill `out` with uniform numbers of the stream of the key i64[3].

    Method: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
    """
    n = prod(attrs.shape)
    return [
        Step(
            RandomUniform(attrs.dtype),
            (n, key, out),
            (out,),
            label=f"random_uniform {attrs.dtype.short}{list(attrs.shape)}",
            single=n <= _SMALL,
        )
    ]
