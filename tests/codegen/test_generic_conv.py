"""The convolution of every shape against its definition in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from striate.codegen.generic_conv import LONG, GenericConv, generic_conv
from striate.codegen.kernel import Buffer, Step, View
from striate.codegen.machine import host_target
from striate.dtype import DType, bfloat16, float32, float64, int32, int64
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.target import Target
from tests.codegen.guard import TARGETS, Array, guarded, run_everywhere, values

Arrange = Callable[[int], tuple[int, ...]]


def laid_out(
    rng: np.random.Generator, shape: tuple[int, ...], order: tuple[int, ...], mixed: bool
) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """(shape of the memory, offset, strides) of a value whose axes stand in this order; `mixed`:
    some axes run backwards, and some have gaps.
    """
    strides, offset, step = [0] * len(shape), 0, 1
    for axis in reversed(order):
        gap = int(rng.integers(1, 3)) if mixed else 1
        back = mixed and rng.integers(3) == 0
        strides[axis] = -step * gap if back else step * gap
        offset += step * gap * (shape[axis] - 1) if back and shape[axis] else 0
        step *= gap * shape[axis]
    return (step,), offset, tuple(strides)


def strided(memory: Array, view: View, shape: tuple[int, ...]) -> Array:
    """The elements of a view."""
    bytes_ = tuple(s * memory.itemsize for s in view.strides)
    if 0 in shape:
        return np.zeros(shape, memory.dtype)
    return np.lib.stride_tricks.as_strided(memory[view.offset :], shape, bytes_)


def check(
    spec: ConvSpec,
    dtype: DType,
    target: Target,
    rng: np.random.Generator,
    orders: tuple[tuple[int, ...] | None, ...] = (None, None, None),
    mixed: bool = False,
) -> list[Step]:
    """Compare with the definition in float64 (or in the integers), and return the steps."""
    memory, views, sides = [], [], []
    shapes = (spec.lhs_shape, spec.rhs_shape, spec.out_shape)
    for shape, order in zip(shapes, orders, strict=True):
        whole, offset, strides = laid_out(rng, shape, order or tuple(range(len(shape))), mixed)
        memory.append(whole)
        views.append(View(Buffer(whole[0] * dtype.itemsize), offset, strides))
    for m, v, shape in zip(memory[:2], views[:2], shapes[:2], strict=True):
        a = guarded(m, dtype.numpy)
        strided(a, v, shape)[...] = values(rng, shape, dtype)
        sides.append(a)
    steps = generic_conv(target, spec, dtype, *views)
    if 0 in spec.out_shape:
        assert not steps
        return steps
    xb, wb, yb = (v.buffer for v in views)
    out = run_everywhere(
        steps, {xb: sides[0], wb: sides[1]}, {yb: (memory[2], dtype.numpy)}, target
    )
    y = strided(out[yb], views[2], spec.out_shape)
    x, w = (strided(a, v, s) for a, v, s in zip(sides, views[:2], shapes[:2], strict=True))
    if dtype.is_floating:
        x, w = x.astype(np.float64), w.astype(np.float64)
    wanted = CONV.reference(spec, x, w)
    if not dtype.is_floating:
        assert np.array_equal(y, wanted)
        return steps
    eps = np.finfo(np.float64 if dtype is float64 else np.float32).eps
    terms = spec.in_features * int(np.prod([t.kernel_size for t in spec.windows]))
    size = np.abs(x).max(initial=0) * np.abs(w).max(initial=0)
    tolerance = 2 * eps * (terms + 1) * size
    rounding = np.abs(wanted) * 2.0**-8 if dtype is bfloat16 else 0.0
    assert (np.abs(y.astype(np.float64) - wanted) <= tolerance + rounding).all()
    return steps


def random_window(rng: np.random.Generator, largest: int) -> Window:
    """Any relation: signs, gaps, crops, and kernels larger than the input or the output."""
    size = [int(n) for n in rng.integers(1, largest + 1, 3)]
    if rng.integers(12) == 0:
        size[int(rng.integers(3))] = 0
    stride, lhs, rhs = (rng.choice([1, 1, 2, 3], 3) * rng.choice([1, 1, -1], 3)).tolist()
    # somewhere between the two ends at which nothing meets
    pad = stride * (size[1] // 2) + rhs * (size[2] // 2) - lhs * (size[0] // 2)
    return Window(*size, stride, lhs, rhs, pad + int(rng.integers(-2, 3)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16, int32, int64], ids=str)
def test_every_relation(target: Target, dtype: DType) -> None:
    rng = np.random.default_rng(dtype.bits + target.vector_bytes)
    for _ in range(4):
        rank = int(rng.integers(0, 4))
        windows = tuple(random_window(rng, (40, 12, 6)[rank - 1]) for _ in range(rank))
        spec = ConvSpec(*(int(n) for n in rng.integers(1, (9, 20, 6, 4)[rank] + 1, 4)), windows)
        orders = tuple(tuple(rng.permutation(3 + rank).tolist()) for _ in range(3))
        check(spec, dtype, target, rng, orders, mixed=bool(rng.integers(2)))


LAYER = ConvSpec(2, 1, 11, 19, (Window.of(9, 3, padding=(1, 1)), Window.of(23, 3, padding=(1, 1))))
LAST = (0, 1, 3, 4, 2)  # channels last
LANES = {
    "o": (LAYER, (None, None, None)),
    "k": (LAYER, (LAST, (0, 3, 4, 2, 1), LAST)),
    "c": (ConvSpec(5, 2, 37, 9), (None, None, None)),
    "t": (
        ConvSpec(3, 1, 4, 2, (Window.of(22, 19), Window.of(25, 19, stride=2, padding=(1, 1)))),
        (None, None, None),
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", LANES)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16, int32], ids=str)
def test_each_axis_of_lanes(target: Target, axis: str, dtype: DType) -> None:
    spec, orders = LANES[axis]
    steps = check(spec, dtype, target, np.random.default_rng(0), orders)
    kernel = steps[-1].kernel
    assert isinstance(kernel, GenericConv) and kernel.axis == axis


def test_adjoints_of_a_strided_layer() -> None:
    rng = np.random.default_rng(1)
    axis = Window.of(17, 3, stride=2, padding=(1, 0), rhs_dilation=2)
    spec = ConvSpec(2, 2, 5, 7, (axis, axis))
    for s in (spec, spec.lhs_adjoint(), spec.rhs_adjoint(), spec.lhs_adjoint().rhs_adjoint()):
        check(s, float32, host_target(), rng)


def test_huge_windows_are_not_walked() -> None:
    """A kernel and an output of 2**40 positions of which few meet: only what meets is visited."""
    rng = np.random.default_rng(2)
    far = Window(5, 3, 4, 1 << 40, 1 << 20, 1 << 39, 1 << 39)
    check(ConvSpec(1, 1, 2, 3, (far, Window.of(4, 2))), float32, host_target(), rng)
    many = Window(3, 4, 5000, 1, 1, 1, 4998)
    steps = check(ConvSpec(1, 1, 2, 3, (many,)), float32, host_target(), rng)
    assert len(steps) == 1


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_padding_is_not_multiplied(dtype: DType) -> None:
    """An infinite weight that meets only padding leaves no NaN."""
    for order in ((0, 1, 2, 3), (0, 2, 3, 1)):
        axis = Window.of(20, 3, padding=(1, 1))
        spec = ConvSpec(1, 1, 2, 3, (axis,))
        x, w = np.ones(spec.lhs_shape, dtype.numpy), np.ones(spec.rhs_shape, dtype.numpy)
        w[..., 0] = np.inf
        back = tuple(np.argsort(order))
        stored = {"x": x.transpose(order).copy(), "w": w, "y": np.zeros(spec.out_shape)}
        buffers = {name: Buffer(0) for name in stored}
        strides = (np.array(stored["x"].strides)[list(back)] // dtype.itemsize).tolist()
        views = (
            View(buffers["x"], 0, tuple(strides)),
            View(buffers["w"], 0, (18, 6, 3, 1)),
            View(buffers["y"], 0, (60, 60, 20, 1)),
        )
        out = run_everywhere(
            generic_conv(host_target(), spec, dtype, *views),
            {buffers["x"]: stored["x"], buffers["w"]: w},
            {buffers["y"]: (spec.out_shape, dtype.numpy)},
        )
        y = out[buffers["y"]]
        assert (y[..., 0] == 4).all() and (y[..., 1:] == np.inf).all()


def test_long_sums_are_accurate() -> None:
    """The error of a sum of n equal terms grows as its root, not as n."""
    n = 1 << 20
    spec = ConvSpec(1, 1, n, 2)
    x, w, y = (Buffer(0) for _ in range(3))
    steps = generic_conv(
        host_target(),
        spec,
        float32,
        View(x, 0, (n, n, 1)),
        View(w, 0, (2 * n, 1, 2)),
        View(y, 0, (2, 2, 1)),
    )
    kernel = steps[0].kernel
    assert isinstance(kernel, GenericConv) and kernel.split is not None and n > LONG
    ones, weights = np.ones((1, 1, n), np.float32), np.full((n, 2), 0.1, np.float32)
    out = run_everywhere(steps, {x: ones, w: weights}, {y: ((2,), np.float32)})
    wanted = n * np.float64(np.float32(0.1))
    assert abs(out[y] - wanted).max() < 2e-5 * wanted


def test_another_size_has_the_same_code() -> None:
    kernels = set()
    for n, size in ((1, 32), (4, 48)):
        spec = ConvSpec(n, 1, 4, 8, (Window.of(size, 3), Window.of(size, 3, padding=(1, 1))))
        steps = check(spec, float32, host_target(), np.random.default_rng(0))
        kernels.add(repr(steps[0].kernel))
    assert len(kernels) == 1
