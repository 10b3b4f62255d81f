"""The dense contraction against the definition: random shapes, every target, any threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.dense import Packed, dense_conv, dense_supports, pack_weights
from striate.codegen.epilogue import Epilogue
from striate.codegen.kernel import Buffer, Step, View
from striate.codegen.machine import host_target, named_target
from striate.dtype import DType, bfloat16, compute_dtype, float32, float64
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.target import Target
from tests.codegen.harness import aligned, run

NAMES = ("x86-64-v4", "x86-64-v3", "x86-64-v2")
Array = NDArray[np.generic]


def target_of(name: str) -> Target:
    """The target, if the host can run it."""
    host = host_target().name
    if host not in NAMES or NAMES.index(host) > NAMES.index(name):
        pytest.skip(f"the host is {host}, which cannot run {name}")
    return named_target(name)


def spec_of(
    batch: int, groups: int, features: tuple[int, int], windows: Sequence[Window]
) -> ConvSpec:
    return ConvSpec(batch, groups, *features, tuple(windows))


def blocked(a: Array, block: int) -> Array:
    """[N, G, C, *I] -> [N, G*C/b, *I, b]"""
    n, g, c, *size = a.shape
    return np.moveaxis(a.reshape(n, g * c // block, block, *size), 2, -1)


def stored(a: Array) -> Array:
    """A copy at an aligned address."""
    out = aligned(a.shape, a.dtype)
    out[...] = a
    return out


@dataclass
class Case:
    """A convolution on data: its steps and arrays.

    `order` lays the weights out as if [G, K, C, *W] had been transposed that way.
    """

    spec: ConvSpec
    x_block: int
    y_block: int
    dtype: DType = float32
    target: Target | None = None
    order: tuple[int, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        rng, kind = np.random.default_rng(self.seed), self.dtype.numpy
        self.where = self.target or host_target()
        self.x = rng.standard_normal(self.spec.lhs_shape).astype(kind)
        self.w = rng.standard_normal(self.spec.rhs_shape).astype(kind)

    def run(
        self,
        threads: int = 1,
        epilogue: Epilogue | None = None,
        operands: Sequence[Array] = (),
        kind: DType | None = None,
    ) -> Array:
        """y: [N, G, K, *O]"""
        spec, item = self.spec, self.dtype.itemsize
        x = stored(blocked(self.x, self.x_block))
        order = self.order or tuple(range(self.w.ndim))
        memory = stored(np.ascontiguousarray(self.w.transpose(order)))
        back = memory.transpose(np.argsort(order))
        n, g, k, *size = spec.out_shape
        y = aligned((n, g * k // self.y_block, *size, self.y_block), (kind or self.dtype).numpy)
        y.view(np.uint8)[...] = 0xFF
        arrays: dict[Buffer, Array] = {}

        def buffer(a: Array) -> Buffer:
            b = Buffer(a.nbytes)
            arrays[b] = a
            return b

        view = View(buffer(memory), 0, tuple(s // item for s in back.strides))
        args = self.where, spec, self.dtype
        assert dense_supports(*args, self.x_block, self.y_block)
        packed, steps = pack_weights(*args, view, self.x_block, self.y_block)
        arrays[packed.buffer] = aligned((packed.buffer.nbytes,), np.uint8)
        arrays[packed.buffer][...] = 0xFF
        ops = [buffer(stored(o)) for o in operands]
        steps += self.steps(args, buffer(x), packed, view, buffer(y), epilogue, ops)
        run(steps, arrays, threads, self.where)
        return np.moveaxis(y, -1, 2).reshape(spec.out_shape)

    def steps(
        self,
        args: tuple[Target, ConvSpec, DType],
        x: Buffer,
        packed: Packed,
        view: View,
        y: Buffer,
        epilogue: Epilogue | None,
        operands: Sequence[Buffer],
    ) -> list[Step]:
        """The steps of the contraction, without packing."""
        return dense_conv(*args, x, self.x_block, packed, view, y, self.y_block, epilogue, operands)

    def expected(self) -> Array:
        """y: f64[N, G, K, *O]"""
        x, w = self.x.astype(np.float64), self.w.astype(np.float64)
        return CONV.reference(self.spec, x, w)

    def tolerance(self) -> float:
        """2 * eps * (k + 1) * max|x| * max|w|, and the rounding of the result."""
        spec = self.spec
        terms = spec.in_features * prod(t.kernel_size for t in spec.windows)
        if not self.x.size or not self.w.size:
            return 0.0
        x, w = (np.abs(a.astype(np.float64)).max() for a in (self.x, self.w))
        eps = float(np.finfo(compute_dtype(self.dtype).numpy).eps)
        return 2 * eps * (terms + 1) * x * w

    def check(self, threads: Sequence[int] = (1, 3)) -> Array:
        """Compare with the definition, and bit by bit between numbers of threads."""
        y = self.run(threads[0])
        expected = self.expected()
        slack = np.abs(expected) * 2.0**-8 if self.dtype is bfloat16 else 0.0
        error = np.abs(y.astype(np.float64) - expected)
        assert (error <= self.tolerance() + slack).all(), (self.spec, error.max())
        for n in threads[1:]:
            assert self.run(n).tobytes() == y.tobytes()
        return y


def window(rng: np.random.Generator) -> Window:
    """Any window whatever: sizes, strides, dilations, padding, crops, flips."""
    pick = lambda *options: int(rng.choice(options))  # noqa: E731
    return Window(
        in_size=int(rng.integers(1, 12)),
        out_size=int(rng.integers(1, 12)),
        kernel_size=pick(1, 1, 2, 3, 3, 5),
        stride=pick(1, 1, 1, 2, 3, -1),
        lhs_dilation=pick(1, 1, 1, 1, 2, 3),
        rhs_dilation=pick(1, 1, 1, 2, -1, -2),
        pad_lo=int(rng.integers(-3, 5)),
    )


def random_case(seed: int, target: Target, dtype: DType) -> Case:
    rng = np.random.default_rng(seed)
    lanes = target.lanes(compute_dtype(dtype).bits)
    rank = int(rng.choice([0, 1, 2, 2, 3, 4]))
    c, k = (int(rng.choice([1, 3, 4, 8, lanes, 2 * lanes, 20, 24, 37])) for _ in range(2))
    spec = ConvSpec(
        int(rng.integers(1, 4)) if rank else int(rng.integers(1, 40)),
        int(rng.choice([1, 1, 2])),
        c,
        k,
        tuple(window(rng) for _ in range(rank)),
    )
    divisors = lambda n: [d for d in range(1, n + 1) if n % d == 0]  # noqa: E731
    xb, yb = int(rng.choice(divisors(c))), int(rng.choice(divisors(k)))
    order = tuple(int(i) for i in rng.permutation(3 + rank))
    return Case(spec, xb, yb, dtype, target, order, seed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=repr)
@pytest.mark.parametrize("seed", range(6))
def test_any_shape(name: str, dtype: DType, seed: int) -> None:
    random_case(seed + 100 * dtype.bits, target_of(name), dtype).check()
