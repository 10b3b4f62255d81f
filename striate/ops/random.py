"""Random numbers as a function: `random_uniform(key)`, with the bits of Philox4x32-10.

    counter = (block, step), key = mix(seed) + draw * odd,  both of 64-bit halves
    y[i] = the word (float64: the pair of words) number i of the stream block = 0, 1, 2, ...

For one seed no two of (step, draw, block) share a counter and key, so no numbers repeat, and y[i]
depends on the key and i alone: not on the shape, the order or the number of threads.
Method: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from striate.dtype import DType, as_dtype, float32, float64, int64
from striate.errors import DTypeError, ShapeError
from striate.ir.graph import Node, Op, Value, apply
from striate.ir.types import TensorType
from striate.ops.operand import Operand, as_node

Words = NDArray[np.uint64]  # each below 2**32

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1
_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10
_CHUNK = 1 << 14  # blocks at a time: the words of one chunk stay in cache


def philox(counter: Sequence[Words], key: tuple[int, int]) -> list[Words]:
    """Philox4x32-10: four words from four words of counter [n] each and two words of key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p, q = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1 = (q >> _HALF) ^ c1 ^ np.uint64(k0), q & _MASK
        c2, c3 = (p >> _HALF) ^ c3 ^ np.uint64(k1), p & _MASK
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def _mix(x: int) -> int:
    """The finaliser of SplitMix64: a bijection of 64 bits in which each bit moves all others."""
    x &= 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 31)


def words(key: Value, start: int, stop: int) -> Words:
    """The words 4*start ... 4*stop of the stream of a key i64[3] = (seed, step, draw)."""
    seed, step, draw = (int(v) for v in key)
    mixed = (_mix(seed) + draw * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    block = np.arange(start, stop, dtype=np.uint64)
    high = np.uint64(step & 0xFFFFFFFFFFFFFFFF)
    whole = np.broadcast_to(high, block.shape)
    counter = [block & _MASK, block >> _HALF, whole & _MASK, whole >> _HALF]
    return np.stack(philox(counter, (mixed & 0xFFFFFFFF, mixed >> 32)), axis=1).reshape(-1)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Shape and dtype (float32 or float64) of the numbers."""

    shape: tuple[int, ...]
    dtype: DType


def _infer(attrs: Uniform, key: TensorType) -> TensorType:
    if key.dtype is not int64 or key.shape != (3,):
        raise ShapeError(f"random_uniform: the key must be i64[3], got {key}")
    if attrs.dtype not in (float32, float64):
        raise DTypeError(f"random_uniform: makes float32 and float64, got {attrs.dtype.name}")
    return TensorType(attrs.shape, attrs.dtype)


def _reference(attrs: Uniform, key: Value) -> Value:
    size = prod(attrs.shape)
    single = attrs.dtype is float32
    per_block = 4 if single else 2
    y = np.empty(size, attrs.dtype.numpy)
    for start in range(0, -(-size // per_block), _CHUNK):
        w = words(key, start, min(start + _CHUNK, -(-size // per_block)))
        if single:
            part = (w >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)
        else:
            bits = (w[0::2] << _HALF | w[1::2]) >> np.uint64(11)
            part = bits.astype(np.float64) * 2.0**-53
        at = start * per_block
        y[at : at + part.size] = part[: size - at]
    return y.reshape(attrs.shape)


RANDOM_UNIFORM = Op("random_uniform", _infer, _reference)


def random_uniform(key: Operand, shape: Sequence[int], dtype: object = float32) -> Node:
    """Numbers uniform in [0, 1): float32 with 24 bits, float64 with 53.

    Args:
        key: i64[3], (seed, step, draw).
        shape: of the result.
        dtype: float32 or float64.

    Raises:
        ShapeError: the key is not i64[3], or a size is negative.
        DTypeError: another dtype.
    """
    attrs = Uniform(tuple(int(n) for n in shape), as_dtype(dtype))
    return apply(RANDOM_UNIFORM, (as_node(key),), attrs)
