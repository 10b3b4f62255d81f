"""Grouped and depthwise convolutions in blocks against the definition in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from striate.codegen import grouped
from striate.codegen.epilogue import Epilogue
from striate.codegen.expression import Expression
from striate.codegen.grouped import (
    grouped_conv,
    grouped_supports,
    grouped_weight_gradient,
    grouped_weight_supports,
)
from striate.codegen.kernel import Buffer, View
from striate.codegen.machine import host_target
from striate.codegen.pointwise import Instruction
from striate.dtype import DType, bfloat16, float32, float64, int32
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.target import Target
from striate.transform.views import dense_strides
from tests.codegen.guard import TARGETS, Array, run_everywhere, values


def blocked(x: Array, block: int) -> Array:
    """[N, G, C, *I] -> [N, G*C/block, *I, block]."""
    n, g, c, *size = x.shape
    split = x.reshape(n, g * c // block, block, *size)
    return np.ascontiguousarray(np.moveaxis(split, 2, -1))


def logical(x: Array, shape: tuple[int, ...]) -> Array:
    """[N, G*C/block, *I, block] -> [N, G, C, *I]."""
    return np.moveaxis(x, -1, 2).reshape(shape)


def close(y: Array, wanted: Array, spec: ConvSpec, dtype: DType, size: float) -> bool:
    eps = np.finfo(np.float64 if dtype is float64 else np.float32).eps
    terms = spec.in_features * int(np.prod([t.kernel_size for t in spec.windows]))
    rounding = np.abs(wanted) * 2.0**-8 if dtype is bfloat16 else 0.0
    error = np.abs(y.astype(np.float64) - wanted)
    return bool((error <= 2 * eps * (terms + 1) * size + rounding).all())


def check(spec: ConvSpec, dtype: DType, target: Target, x_block: int, y_block: int) -> None:
    rng = np.random.default_rng(spec.macs)
    assert grouped_supports(target, spec, dtype, x_block, y_block)
    x, w = (values(rng, s, dtype) for s in (spec.lhs_shape, spec.rhs_shape))
    xb, wb, yb = (Buffer(0) for _ in range(3))
    wv = View(wb, 0, dense_strides(spec.rhs_shape))
    steps = grouped_conv(target, spec, dtype, xb, x_block, wv, yb, y_block)
    n, g, k, *size = spec.out_shape
    made = {yb: ((n, g * k // y_block, *size, y_block), dtype.numpy)}
    out = run_everywhere(steps, {xb: blocked(x, x_block), wb: w}, made, target)
    x, w = x.astype(np.float64), w.astype(np.float64)
    wanted = CONV.reference(spec, x, w)
    largest = np.abs(x).max(initial=0) * np.abs(w).max(initial=0)
    assert close(logical(out[yb], spec.out_shape), wanted, spec, dtype, largest)


def check_gradient(
    spec: ConvSpec, dtype: DType, target: Target, x_block: int, g_block: int
) -> None:
    rng = np.random.default_rng(spec.macs)
    assert grouped_weight_supports(target, spec, dtype, x_block, g_block)
    x, g = (values(rng, s, dtype) for s in (spec.lhs_shape, spec.out_shape))
    xb, gb, wb = (Buffer(0) for _ in range(3))
    dw = View(wb, 0, dense_strides(spec.rhs_shape))
    steps = grouped_weight_gradient(target, spec, dtype, xb, x_block, gb, g_block, dw)
    given = {xb: blocked(x, x_block), gb: blocked(g, g_block)}
    out = run_everywhere(steps, given, {wb: (spec.rhs_shape, dtype.numpy)}, target)
    x, g = x.astype(np.float64), g.astype(np.float64)
    order = (1, 2, 0, *range(3, x.ndim))
    adjoint = spec.rhs_adjoint()
    wanted = CONV.reference(adjoint, x.swapaxes(0, 2), g.transpose(order)).transpose(order)
    largest = np.abs(x).max(initial=0) * np.abs(g).max(initial=0)
    assert close(out[wb], wanted, adjoint, dtype, largest)


def full(target: Target, dtype: DType) -> int:
    return target.lanes(max(32, dtype.bits))


LAYERS = {
    "1d": lambda: (Window.of(300, 5, padding=(2, 2)),),
    "2d": lambda: (Window.of(9, 3, padding=(1, 1)), Window.of(17, 3, padding=(1, 1))),
    "3d": lambda: (Window.of(4, 3, padding=(1, 1)), Window.of(5, 2), Window.of(6, 3)),
    "stride": lambda: (Window.of(9, 3, stride=2, padding=(1, 1)),) * 2,
    "dilation": lambda: (Window.of(12, 3, padding=(2, 2), rhs_dilation=2),) * 2,
    "large": lambda: (Window.of(7, 13, padding=(6, 6)), Window.of(10, 15, padding=(7, 7))),
    "crop": lambda: (Window.of(9, 2, padding=(-1, -2)), Window.of(9, 2, padding=(-2, 3))),
    "far": lambda: (Window.of(2, 3, padding=(4, 4)), Window.of(3, 3, padding=(5, 5))),
}


DTYPES = [float32, float64, bfloat16]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", LAYERS)
def test_depthwise(target: Target, layer: str) -> None:
    dtype = DTYPES[list(LAYERS).index(layer) % 3]
    b = full(target, dtype)
    spec = ConvSpec(2, 2 * b, 1, 1, LAYERS[layer]())
    check(spec, dtype, target, b, b)
    check(spec.lhs_adjoint(), dtype, target, b, b)
    check_gradient(spec, dtype, target, b, b)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("dtype", "c", "k", "x_block", "g_block"),
    [
        (float32, 4, 4, 4, 8),
        (float32, 2, 1, 8, 4),
        (float32, 1, 2, 2, 4),
        (float64, 2, 2, 4, 8),
        (bfloat16, 4, 2, 16, 8),
    ],
    ids=str,
)
def test_grouped(target: Target, dtype: DType, c: int, k: int, x_block: int, g_block: int) -> None:
    spec = ConvSpec(3, 16, c, k, LAYERS["2d"]())
    check(spec, dtype, target, x_block, g_block)
    check_gradient(spec, dtype, target, x_block, g_block)


def test_which_are_supported() -> None:
    host, axis = host_target(), Window.of(9, 3)
    assert not grouped_supports(host, ConvSpec(1, 8, 16, 16, (axis,)), float32, 4, 4)
    assert not grouped_supports(host, ConvSpec(1, 8, 3, 3, (axis,)), float32, 3, 3)
    assert not grouped_supports(host, ConvSpec(1, 8, 1, 1, (axis,)), float32, 1, 1)
    assert not grouped_supports(host, ConvSpec(1, 8, 1, 1, ()), float32, 4, 4)
    assert not grouped_supports(host, ConvSpec(1, 8, 1, 1, (axis,)), int32, 4, 4)
    adjoint = ConvSpec(1, 8, 1, 1, (Window.of(9, 3, stride=2),)).lhs_adjoint()
    assert grouped_supports(host, adjoint, float32, 4, 4)
    assert not grouped_weight_supports(host, adjoint, float32, 4, 4)


@pytest.mark.parametrize("size", [7, 40])
def test_padding_is_not_multiplied(size: int) -> None:
    """An infinite weight that meets only padding leaves no NaN."""
    axis = Window.of(size, 3, padding=(1, 1))
    spec = ConvSpec(1, 4, 1, 1, (axis, axis))
    x, w, y = (Buffer(0) for _ in range(3))
    weights = np.ones(spec.rhs_shape, np.float32)
    weights[..., 0, :] = weights[..., 0] = np.inf
    wv = View(w, 0, dense_strides(spec.rhs_shape))
    out = run_everywhere(
        grouped_conv(host_target(), spec, float32, x, 4, wv, y, 4),
        {x: np.ones((1, 1, size, size, 4), np.float32), w: weights},
        {y: ((1, 1, size, size, 4), np.float32)},
    )[y]
    assert (out[:, :, 0, 0] == 4).all() and np.isinf(out[:, :, 1:]).all()


def test_average_pooling_and_an_epilogue() -> None:
    """Weights that are one number, and bias + residual after the sum."""
    spec = ConvSpec(2, 8, 1, 1, (Window.of(9, 3, stride=2),) * 2)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(spec.lhs_shape, np.float32)
    bias = rng.standard_normal(8, np.float32)
    residual = rng.standard_normal(spec.out_shape, np.float32)
    body = (Instruction("add", float32, (0, 1)), Instruction("add", float32, (3, 2)))
    epilogue = Epilogue(
        Expression((float32,) * 3, body, (4,)), ("channel", "tensor"), (float32, float32)
    )
    xb, wb, bb, rb, yb = (Buffer(0) for _ in range(5))
    steps = grouped_conv(
        host_target(), spec, float32, xb, 4, View(wb, 0, (0,) * 5), yb, 4, epilogue, (bb, rb)
    )
    assert len(steps) == 1
    given = {xb: blocked(x, 4), wb: np.full(1, 1 / 9, np.float32), bb: bias}
    given[rb] = blocked(residual, 4)
    y = run_everywhere(steps, given, {yb: ((2, 2, 4, 4, 4), np.float32)})[yb]
    w = np.full(spec.rhs_shape, 1 / 9, np.float32)
    wanted = CONV.reference(spec, x, w) + bias[:, None, None, None] + residual
    assert np.allclose(logical(y, spec.out_shape), wanted, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch() -> None:
    rng = np.random.default_rng(0)
    axis = Window.of(20, 3, padding=(1, 1))
    x = rng.standard_normal((5, 8, 1, 20, 20), np.float32)
    w = rng.standard_normal((8, 1, 1, 3, 3), np.float32)
    outs = []
    for n in (5, 1):
        spec = ConvSpec(n, 8, 1, 1, (axis, axis))
        xb, wb, yb = (Buffer(0) for _ in range(3))
        wv = View(wb, 0, dense_strides(spec.rhs_shape))
        steps = grouped_conv(host_target(), spec, float32, xb, 8, wv, yb, 8)
        given = {xb: blocked(x[:n], 8), wb: w}
        outs.append(run_everywhere(steps, given, {yb: ((n, 1, 20, 20, 8), np.float32)})[yb])
    assert outs[0][:1].tobytes() == outs[1].tobytes()


def test_streaming_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ConvSpec(2, 16, 1, 1, (Window.of(9, 3, stride=2), Window.of(17, 3, padding=(1, 1))))
    monkeypatch.setattr(grouped, "STREAM", 0)
    b = full(host_target(), float32)
    check(spec, float32, host_target(), b, b)
