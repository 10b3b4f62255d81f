"""Convolutions of images of a few pixels against the definition: targets, threads, guard pages."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import pytest

import striate as st
from striate.codegen.epilogue import Epilogue
from striate.codegen.expression import Expression
from striate.codegen.kernel import STREAM, Buffer, Step, View
from striate.codegen.machine import host_target
from striate.codegen.pointwise import Instruction
from striate.codegen.small import (
    IMAGES,
    small_conv,
    small_supports,
    small_weight_gradient,
    small_weight_supports,
)
from striate.dtype import DType, bfloat16, compute_dtype, float32, float64
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.target import Target
from tests.codegen.guard import TARGETS, copy_of, run_everywhere
from tests.codegen.test_dense import Array, Case, blocked, window


class Small(Case):
    """A convolution by the kernels for small images."""

    def steps(
        self,
        target: Target,
        x: Buffer,
        w: View,
        y: Buffer,
        epilogue: Epilogue | None,
        operands: Sequence[Buffer],
    ) -> list[Step]:
        assert small_supports(target, self.spec, self.dtype, self.x_block, self.y_block)
        return small_conv(
            target, self.spec, self.dtype, x, self.x_block, w, y, self.y_block, epilogue, operands
        )


def spec_of(rng: np.random.Generator, dtype: DType) -> ConvSpec:
    """A random one that is taken."""
    target = host_target()
    while True:
        c, k = (int(rng.choice([1, 3, 8, 16, 32, 37, 64, 90])) for _ in range(2))
        windows = tuple(window(rng) for _ in range(int(rng.integers(1, 4))))
        spec = ConvSpec(int(rng.integers(1, 4)), 1, c, k, windows)
        if small_supports(target, spec, dtype, 1, 1):
            return spec


def blocks_of(rng: np.random.Generator, n: int) -> int:
    return int(rng.choice([b for b in (1, 4, 8, 16, n) if n % b == 0]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=repr)
@pytest.mark.parametrize("order", ["forward", "adjoint", "any"])
def test_any_small_image(target: Target, dtype: DType, order: str) -> None:
    rng = np.random.default_rng(dtype.bits + target.vector_bytes)
    for _ in range(3):
        spec = spec_of(rng, dtype)
        rank = len(spec.windows)
        axes = {
            "forward": tuple(range(3 + rank)),
            "adjoint": (0, 2, 1, *range(3, 3 + rank)),
            "any": tuple(int(i) for i in rng.permutation(3 + rank)),
        }[order]
        blocks = [blocks_of(rng, n) for n in (spec.in_features, spec.out_features)]
        Small(spec, *blocks, dtype, target, axes).check()


def square(size: int, kernel: int, stride: int = 1) -> tuple[Window, Window]:
    t = Window.of(size, kernel, stride=stride, padding=(kernel // 2, kernel // 2))
    return t, t


WHOLE = ConvSpec(3, 1, 64, 20, square(1, 1))


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 2, 1, 3, 4)], ids=["dots", "sums"])
@pytest.mark.parametrize(
    "spec", [WHOLE, ConvSpec(2, 1, 16, 24, square(2, 3)), ConvSpec(1, 1, 16, 24, square(4, 3, 2))]
)
def test_an_epilogue(spec: ConvSpec, order: tuple[int, ...]) -> None:
    """relu(acc + bias + residual)"""
    for block in (1, 4):
        case = Small(spec, block, block, order=order)
        rng = np.random.default_rng(5)
        bias = rng.standard_normal(spec.out_features).astype(np.float32)
        residual = rng.standard_normal(spec.out_shape).astype(np.float32)
        body = (
            Instruction("add", float32, (0, 1)),
            Instruction("add", float32, (3, 2)),
            Instruction("literal", float32, (), 0.0),
            Instruction("maximum", float32, (4, 5)),
        )
        epilogue = Epilogue(
            Expression((float32,) * 3, body, (6,)), ("channel", "tensor"), (float32,) * 2
        )
        operands = bias, np.ascontiguousarray(blocked(residual, block))
        y = case.run(epilogue, operands)
        whole = bias.reshape(-1, *[1] * (y.ndim - 3)) + residual
        want = np.maximum(case.expected() + whole, 0)
        assert np.abs(y - want).max() <= case.tolerance() + 1e-5


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 2, 1, 3, 4)], ids=["dots", "sums"])
def test_padding_meets_no_infinite_weight(order: tuple[int, ...]) -> None:
    case = Small(ConvSpec(2, 1, 16, 8, square(2, 3)), 1, 1, order=order)
    case.w[0, 3, 5, 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        y, want = case.run(), case.expected()
    assert np.isfinite(want[:, :, 3]).any() and not np.isfinite(want[:, :, 3]).all()
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(y[finite], want[finite], atol=1e-4)


# ---- weight gradients ----------------------------------------------------------------------


def gradient(
    spec: ConvSpec, dtype: DType, target: Target, blocks: Sequence[int], x: Array, g: Array
) -> Array:
    """dw: [1, K, C, *W]"""
    assert small_weight_supports(target, spec, dtype, *blocks)
    arrays = [np.ascontiguousarray(blocked(a, b)) for a, b in zip((x, g), blocks, strict=True)]
    bx, bg = [Buffer(a.nbytes) for a in arrays]
    out = np.empty(spec.rhs_shape, dtype.numpy)
    dw = Buffer(out.nbytes)
    view = View(dw, 0, tuple(s // dtype.itemsize for s in out.strides))
    steps = small_weight_gradient(target, spec, dtype, bx, blocks[0], bg, blocks[1], view)
    made = {b: ((b.nbytes,), np.dtype(np.uint8)) for s in steps for b in s.writes}
    made[dw] = (spec.rhs_shape, dtype.numpy)
    given = {bx: copy_of(arrays[0]), bg: copy_of(arrays[1])}
    return run_everywhere(steps, given, made, target)[dw]


def expected(spec: ConvSpec, x: Array, g: Array) -> Array:
    x, g = x.astype(np.float64), g.astype(np.float64)
    dw = CONV.reference(spec.rhs_adjoint(), x.swapaxes(0, 2), np.moveaxis(g, 0, 2))
    return np.moveaxis(dw, 0, 2)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=repr)
def test_any_weight_gradient(target: Target, dtype: DType) -> None:
    rng = np.random.default_rng(dtype.bits + target.vector_bytes)
    for _ in range(4):
        spec = spec_of(rng, dtype)
        x, g = (
            rng.standard_normal(s).astype(dtype.numpy) for s in (spec.lhs_shape, spec.out_shape)
        )
        blocks = [blocks_of(rng, n) for n in (spec.in_features, spec.out_features)]
        dw = gradient(spec, dtype, target, blocks, x, g).astype(np.float64)
        want = expected(spec, x, g)
        terms = spec.batch * prod(t.out_size for t in spec.windows)
        eps = float(np.finfo(compute_dtype(dtype).numpy).eps)
        most = float(np.abs(x.astype(np.float64)).max() * np.abs(g.astype(np.float64)).max())
        slack = np.abs(want) * 2.0**-8 if dtype is bfloat16 else 0.0
        assert (np.abs(dw - want) <= 2 * eps * (terms + 1) * most + slack).all(), spec


def test_a_large_weight_gradient_is_streamed() -> None:
    spec = ConvSpec(1, 1, 512, 515, square(2, 3))
    assert prod(spec.rhs_shape) * 4 >= STREAM
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal(s).astype(np.float32) for s in (spec.lhs_shape, spec.out_shape))
    dw = gradient(spec, float32, host_target(), (1, 1), x, g)
    np.testing.assert_allclose(dw, expected(spec, x, g), atol=1e-4)


def test_a_gradient_that_is_infinite_meets_no_padding() -> None:
    rng = np.random.default_rng(0)
    spec = ConvSpec(2, 1, 16, 8, square(2, 3))
    x, g = (rng.standard_normal(s).astype(np.float32) for s in (spec.lhs_shape, spec.out_shape))
    g[0, 0, 2, 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        dw, want = gradient(spec, float32, host_target(), (1, 1), x, g), expected(spec, x, g)
    assert np.isfinite(want[:, 2]).any() and not np.isfinite(want[:, 2]).all()
    np.testing.assert_array_equal(np.isfinite(dw), np.isfinite(want))


# ---- whole plans ---------------------------------------------------------------------------


def kernels(f: object, *args: st.Array) -> str:
    return str(st.jit(f).profile(*args))  # type: ignore[arg-type]


def test_which_kernels_are_taken() -> None:
    x, w = st.ones((1, 64, 2, 2)), st.ones((32, 64, 3, 3))
    g = st.ones((1, 32, 2, 2))

    def pull(i: int) -> object:
        def f(x: st.Array, w: st.Array, g: st.Array) -> st.Array:
            return st.vjp(lambda x, w: st.conv(x, w, padding=1), x, w)[1](g)[i]

        return f

    assert "row_dots" in kernels(lambda x, w: st.conv(x, w, padding=1), x, w)
    assert "row_sums" in kernels(pull(0), x, w, g)
    assert "row_products" in kernels(pull(1), x, w, g)
    many = 1 + IMAGES // 4
    x, g = st.ones((many, 64, 2, 2)), st.ones((many, 32, 2, 2))
    assert "row_sums" in kernels(pull(0), x, w, g)  # as for one image
    assert "row_products" not in kernels(pull(1), x, w, g)


def test_an_image_is_the_same_in_any_batch() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 64, 2, 2)).astype(np.float32)
    w = rng.standard_normal((33, 64, 3, 3)).astype(np.float32)
    f = st.jit(lambda x, w: st.relu(st.conv(x, w, padding=1)))
    whole = np.asarray(f(x, w))
    for part in (slice(0, 1), slice(3, 6), slice(4, 9)):
        np.testing.assert_array_equal(np.asarray(f(x[part], w)), whole[part])
