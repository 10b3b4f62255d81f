"""The dense contraction against the definition: random shapes, targets, threads, guard pages."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.dense import dense_conv, dense_supports, pack_weights
from striate.codegen.dense_kernel import DenseKernel
from striate.codegen.epilogue import Epilogue
from striate.codegen.expression import Expression
from striate.codegen.kernel import Buffer, Step, View, emit
from striate.codegen.machine import assembly, host_target, named_target, unscheduled
from striate.codegen.pointwise import Instruction
from striate.dtype import DType, bfloat16, compute_dtype, float32, float64
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.target import Target
from tests.codegen.guard import TARGETS, copy_of, run_everywhere

Array = NDArray[np.generic]


def blocked(a: Array, block: int) -> Array:
    """[N, G, C, *I] -> [N, G*C/b, *I, b]"""
    n, g, c, *size = a.shape
    return np.moveaxis(a.reshape(n, g * c // block, block, *size), 2, -1)


@dataclass
class Case:
    """A convolution on data. `order` lays the weights out as if [G, K, C, *W] had been transposed
    that way.
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
        self.x = rng.standard_normal(self.spec.lhs_shape).astype(kind)
        self.w = rng.standard_normal(self.spec.rhs_shape).astype(kind)

    def run(
        self,
        epilogue: Epilogue | None = None,
        operands: Sequence[Array] = (),
        kind: DType | None = None,
    ) -> Array:
        """y: [N, G, K, *O], bitwise the same for 1, 2, 3 and 5 threads."""
        spec, item = self.spec, self.dtype.itemsize
        order = self.order or tuple(range(self.w.ndim))
        memory = np.ascontiguousarray(self.w.transpose(order))
        strides = memory.transpose(np.argsort(order)).strides
        arrays = [np.ascontiguousarray(blocked(self.x, self.x_block)), memory, *operands]
        x, w, *rest = buffers = [Buffer(a.nbytes) for a in arrays]
        view = View(w, 0, tuple(s // item for s in strides))
        n, g, k, *size = spec.out_shape
        shape = (n, g * k // self.y_block, *size, self.y_block)
        y = Buffer(prod(shape) * (kind or self.dtype).itemsize)
        target = self.target or host_target()
        steps = self.steps(target, x, view, y, epilogue, rest)
        bytes_of = {b: ((b.nbytes,), np.dtype(np.uint8)) for s in steps for b in s.writes}
        made = {b: m for b, m in bytes_of.items() if b.nbytes}
        made[y] = (shape, (kind or self.dtype).numpy)
        given = {b: copy_of(a) for b, a in zip(buffers, arrays, strict=True)}
        out = run_everywhere(steps, given, made, target)[y]
        return np.moveaxis(out, -1, 2).reshape(spec.out_shape)

    def steps(
        self,
        target: Target,
        x: Buffer,
        w: View,
        y: Buffer,
        epilogue: Epilogue | None,
        operands: Sequence[Buffer],
    ) -> list[Step]:
        """By the kernels that are tested."""
        args = target, self.spec, self.dtype
        assert dense_supports(*args, self.x_block, self.y_block)
        packed, steps = pack_weights(*args, w, self.x_block, self.y_block)
        return steps + dense_conv(
            *args, x, self.x_block, packed, w, y, self.y_block, epilogue, operands
        )

    def expected(self) -> Array:
        """y: f64[N, G, K, *O]"""
        return CONV.reference(self.spec, self.x.astype(np.float64), self.w.astype(np.float64))

    def tolerance(self) -> float:
        """2 * eps * (k + 1) * max|x| * max|w|"""
        terms = self.spec.in_features * prod(t.kernel_size for t in self.spec.windows)
        if not self.x.size or not self.w.size:
            return 0.0
        x, w = (float(np.abs(a.astype(np.float64)).max()) for a in (self.x, self.w))
        eps = float(np.finfo(compute_dtype(self.dtype).numpy).eps)
        return 2 * eps * (terms + 1) * x * w

    def check(self) -> Array:
        """Compare with the definition; bfloat16 may be half a unit off for its rounding."""
        y, expected = self.run(), self.expected()
        slack = np.abs(expected) * 2.0**-8 if self.dtype is bfloat16 else 0.0
        error = np.abs(y.astype(np.float64) - expected)
        assert (error <= self.tolerance() + slack).all(), (self.spec, error.max())
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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_any_shape(target: Target, dtype: DType, seed: int) -> None:
    random_case(1000 * seed + dtype.bits + target.vector_bytes, target, dtype).check()


def square(size: int, kernel: int, stride: int = 1) -> tuple[Window, Window]:
    t = Window.of(size, kernel, stride=stride, padding=(kernel // 2, kernel // 2))
    return t, t


@pytest.mark.parametrize(
    ("spec", "blocks"),
    [
        (ConvSpec(2, 1, 32, 48, square(14, 3)), (16, 16)),
        (ConvSpec(1, 2, 16, 16, square(7, 3)), (8, 16)),
        (ConvSpec(2, 1, 64, 32, square(10, 1)), (16, 8)),
        (ConvSpec(1, 1, 16, 64, square(20, 1, 2)), (16, 16)),
        (ConvSpec(1, 1, 3, 32, square(30, 7, 2)), (1, 16)),
        (ConvSpec(2, 1, 20, 33, square(9, 3)), (1, 1)),
        (ConvSpec(1, 1, 3, 16, (Window.of(72, 4, stride=4),) * 2), (1, 16)),
        (ConvSpec(2, 1, 16, 32, square(14, 3, 2)).lhs_adjoint(), (16, 16)),
        (ConvSpec(1, 1, 16, 16, square(1, 3)), (16, 16)),
        (ConvSpec(50, 1, 100, 70), (100, 70)),
        (ConvSpec(1, 1, 40, 300), (40, 300)),
        (ConvSpec(2, 1, 8208, 16), (8208, 16)),
        (ConvSpec(1, 1, 8, 8, (*square(6, 3), Window.of(5, 2), Window.of(4, 3))), (8, 8)),
    ],
    ids=str,
)
def test_what_networks_have(spec: ConvSpec, blocks: tuple[int, int]) -> None:
    Case(spec, *blocks).check()


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(0, 1, 4, 4, square(5, 3)),
        ConvSpec(2, 1, 0, 4, square(5, 3)),
        ConvSpec(2, 1, 4, 0, square(5, 3)),
        ConvSpec(2, 0, 4, 4, square(5, 3)),
        ConvSpec(1, 1, 4, 4, (Window(0, 3, 2, pad_lo=1),)),
        ConvSpec(1, 1, 4, 4, (Window(3, 2, 0),)),
        ConvSpec(1, 1, 4, 4, (Window(3, 2, 2, pad_lo=-9),)),
        ConvSpec(1, 1, 4, 4, (Window(3, 7, 2, lhs_dilation=6, pad_lo=3, rhs_dilation=6),)),
    ],
    ids=str,
)
def test_nothing_to_sum(spec: ConvSpec) -> None:
    Case(spec, 1, 1).check()
    Case(spec, 4 if spec.in_features else 1, 4 if spec.out_features else 1).check()


@pytest.mark.parametrize("blocks", [(8, 8), (1, 1)])
@pytest.mark.parametrize("stored", [float32, bfloat16], ids=repr)
def test_epilogue(blocks: tuple[int, int], stored: DType) -> None:
    """relu(acc * scale + bias + residual), rounded to the dtype of y."""
    case = Case(ConvSpec(2, 2, 16, 24, square(9, 3)), *blocks)
    rng = np.random.default_rng(5)
    bias = rng.standard_normal(48).astype(np.float32)
    residual = rng.standard_normal(case.spec.out_shape).astype(np.float32)
    scale = np.float32([0.5])
    f = float32
    body = [
        Instruction("multiply", f, (0, 3)),
        Instruction("add", f, (4, 1)),
        Instruction("add", f, (5, 2)),
        Instruction("literal", f, (), 0.0),
        Instruction("maximum", f, (6, 7)),
        Instruction("cast", stored, (8,)),
    ]
    expression = Expression((f,) * 4, tuple(body), (9,))
    epilogue = Epilogue(expression, ("channel", "tensor", "scalar"), (f, f, f))
    operands = [bias, np.ascontiguousarray(blocked(residual, blocks[1])), scale]
    y = case.run(epilogue, operands, stored).astype(np.float64)
    acc = case.run().astype(np.float32)
    wanted = np.maximum(acc * scale + bias.reshape(1, 2, 24, 1, 1) + residual, 0)
    assert y.shape == wanted.shape and (y > 0).any() and (y == 0).any()
    assert np.array_equal(y, wanted.astype(stored.numpy).astype(np.float64))


@pytest.mark.parametrize("blocks", [(16, 16), (8, 8), (1, 1), (16, 48)])
def test_an_epilogue_that_is_long(blocks: tuple[int, int]) -> None:
    """erf(acc + bias) + exp(-residual^2): a loop over the pixels of a tile."""
    case = Case(ConvSpec(2, 1, 16, 48, square(9, 3)), *blocks)
    rng = np.random.default_rng(6)
    bias = rng.standard_normal(48).astype(np.float32)
    residual = rng.standard_normal(case.spec.out_shape).astype(np.float32)
    f = float32
    body = [
        Instruction("add", f, (0, 1)),
        Instruction("erf", f, (3,)),
        Instruction("multiply", f, (2, 2)),
        Instruction("negative", f, (5,)),
        Instruction("exp", f, (6,)),
        Instruction("add", f, (4, 7)),
    ]
    epilogue = Epilogue(Expression((f,) * 3, tuple(body), (8,)), ("channel", "tensor"), (f, f))
    assert epilogue.is_long
    y = case.run(epilogue, [bias, np.ascontiguousarray(blocked(residual, blocks[1]))], f)
    acc = case.run().astype(np.float32) + bias.reshape(1, 1, 48, 1, 1)
    wanted = np.vectorize(math.erf)(acc) + np.exp(-(residual.astype(np.float64) ** 2))
    assert np.abs(y - wanted).max() <= 8 * 2.0**-24 * 2  # sums of two values up to 1


@pytest.mark.parametrize("blocks", [(8, 8), (1, 1)])
def test_weights_that_are_not_finite_do_not_meet_padding(blocks: tuple[int, int]) -> None:
    case = Case(ConvSpec(2, 1, 16, 24, square(8, 3)), *blocks)
    atol = case.tolerance()
    case.w[0, 3, 2, 0, 0], case.w[0, 20, 9, 2, 1] = np.inf, np.nan
    y, expected = case.run(), case.expected()
    assert np.isfinite(y[:, 0, 3, 0]).all() and np.isnan(y[:, 0, 20, :-1]).all()
    assert not np.isfinite(y[:, 0, 3, 1:, 1:]).any() and np.isfinite(y[:, 0, 20, -1]).all()
    finite = np.isfinite(expected)
    assert np.allclose(y[finite], expected[finite], rtol=0, atol=atol)
    assert np.array_equal(y[~finite], expected[~finite], equal_nan=True)


@pytest.mark.parametrize("windows", [square(7, 3), square(1, 3), square(4, 1), ()], ids=str)
def test_an_image_is_the_same_in_any_batch(windows: tuple[Window, ...]) -> None:
    case = Case(ConvSpec(5, 1, 32, 48, windows), 32 if not windows else 16, 16)
    y = case.run()
    for i in range(5):
        one = Case(replace(case.spec, batch=1), case.x_block, 16)
        one.x, one.w = case.x[i : i + 1], case.w
        assert one.run().tobytes() == y[i : i + 1].tobytes()


@pytest.mark.parametrize("name", ["x86-64-v4", "x86-64-v3"])
@pytest.mark.parametrize("tile", [(14, 2), (6, 2), (4, 3)])
def test_the_inner_loop_is_fmas_and_no_stack(name: str, tile: tuple[int, int]) -> None:
    target, (mr, nr) = named_target(name), tile
    if target.registers <= mr * nr:
        pytest.skip(f"{mr}x{nr} needs more than {target.registers} registers")
    lanes = target.lanes(32)
    kernel = DenseKernel(float32, mr, nr, lanes, 1, 0, 3, 2, True, True, lanes, lanes, False, False)
    unscheduled()
    text = assembly(emit(kernel, target), target)
    blocks = re.split(r"^\.?\w+:", text, flags=re.M)
    inner = max(blocks, key=lambda b: len(re.findall(r"vfn?madd", b)))
    assert len(re.findall(r"vfn?madd\w*ps", inner)) == mr * nr
    assert not re.search(r"ps.*%r[sb]p", inner)
    assert len(re.findall(r"vbroadcastss", inner)) == mr


def test_it_is_generated_for_other_processors() -> None:
    kernel = DenseKernel(float32, 14, 2, 4, 1, 0, 3, 2, True, True, 4, 4, False, False)
    text = assembly(emit(kernel, named_target("aarch64")), named_target("aarch64"))
    inner = max(re.split(r"^\.?\w+:", text, flags=re.M), key=lambda b: b.count("fmla"))
    assert inner.count("fmla") == 28 and "[sp" not in inner


def test_what_is_refused() -> None:
    target, spec = host_target(), ConvSpec(1, 1, 16, 16, square(8, 3))
    assert dense_supports(target, spec, float32, 16, 16)
    assert not dense_supports(target, spec, float32, 5, 16)
    many = Window(3, 500, 3, lhs_dilation=200)
    assert not dense_supports(target, replace(spec, windows=(many,)), float32, 16, 16)
