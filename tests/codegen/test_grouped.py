"""Grouped and depthwise convolutions in blocks against the definition in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from striate.codegen.boxes import dense_strides
from striate.codegen.grouped import (
    grouped_conv,
    grouped_supports,
    grouped_weight_gradient,
    grouped_weight_supports,
)
from striate.codegen.kernel import Buffer, View
from striate.dtype import DType, bfloat16, float32, float64
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.target import Target
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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_depthwise(target: Target, dtype: DType, layer: str) -> None:
    b = full(target, dtype)
    spec = ConvSpec(2, 2 * b, 1, 1, LAYERS[layer]())
    check(spec, dtype, target, b, b)
    check(spec.lhs_adjoint(), dtype, target, b, b)
    check_gradient(spec, dtype, target, b, b)
