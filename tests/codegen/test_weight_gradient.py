"""Weight gradients in machine code against the contraction itself in float64."""

from __future__ import annotations

import re
from itertools import product
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.kernel import Buffer, View, emit
from striate.codegen.machine import assembly, host_target, named_target
from striate.codegen.weight_gradient import weight_gradient, weight_gradient_supports
from striate.dtype import DType, bfloat16, float32, float64
from striate.ops.conv import ConvSpec
from striate.ops.window import Window
from striate.target import Target
from tests.codegen.guard import TARGETS, Array, run_everywhere

Floats = NDArray[np.float64]
W = Window.of


def contraction(spec: ConvSpec, x: Floats, g: Floats) -> Floats:
    """dw[G, K, C, *W] in float64, one (output, tap) pair of positions at a time."""
    x, g = x.reshape(spec.lhs_shape), g.reshape(spec.out_shape)
    dw = np.zeros(spec.rhs_shape)
    for w in product(*(range(t.kernel_size) for t in spec.windows)):
        pairs = []
        for t, tap in zip(spec.windows, w, strict=True):
            met = ((t.stride * o + t.rhs_dilation * tap - t.pad_lo, o) for o in range(t.out_size))
            met = ((divmod(i, t.lhs_dilation), o) for i, o in met)
            pairs.append([(i, o) for (i, odd), o in met if not odd and 0 <= i < t.in_size])
        for both in product(*pairs):
            ins, outs = tuple(i for i, _ in both), tuple(o for _, o in both)
            dw[(..., *w)] += np.einsum("ngc,ngk->gkc", x[(..., *ins)], g[(..., *outs)])
    return dw


def stored(value: Array, block: int) -> Array:
    """[N, C, *I] as [N, C / block, *I, block], dense."""
    n, channels, *sizes = value.shape
    split = value.reshape(n, channels // block, block, *sizes)
    return np.ascontiguousarray(np.moveaxis(split, 2, -1))


def values(seed: int, spec: ConvSpec, dtype: DType) -> tuple[Array, Array]:
    """x[N, G * C, *I] and g[N, G * K, *O] in the dtype."""
    rng = np.random.default_rng(seed)
    shapes = [(s[0], s[1] * s[2], *s[3:]) for s in (spec.lhs_shape, spec.out_shape)]
    x, g = (rng.uniform(-1, 1, shape).astype(dtype.numpy) for shape in shapes)
    return x, g


def gradient(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    x: Array,
    g: Array,
    blocks: tuple[int, int],
    order: tuple[int, ...] | None = None,
) -> Array:
    """What the machine code gives; `order` is that of the axes of dw in memory."""
    xs, gs = stored(x, blocks[0]), stored(g, blocks[1])
    shape = spec.rhs_shape
    order = order or tuple(range(len(shape)))
    inside = tuple(shape[i] for i in order)
    back = [order.index(i) for i in range(len(order))]
    strides = tuple(prod(inside[i + 1 :]) for i in back)
    at = [Buffer(a.nbytes) for a in (xs, gs)]
    dw = View(Buffer(prod(shape) * dtype.itemsize), 0, strides)
    assert weight_gradient_supports(target, spec, dtype, *blocks)
    steps = weight_gradient(target, spec, dtype, at[0], blocks[0], at[1], blocks[1], dw)
    given = dict(zip(at, (xs, gs), strict=True))
    made = {dw.buffer: (inside, dtype.numpy)}
    return run_everywhere(steps, given, made, target)[dw.buffer].transpose(back)


def check(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    blocks: tuple[int, int],
    order: tuple[int, ...] | None = None,
) -> None:
    """One case: within the derived tolerance, and the same bits for any number of threads."""
    x, g = values(1, spec, dtype)
    want = contraction(spec, x.astype(np.float64), g.astype(np.float64))
    got = gradient(target, spec, dtype, x, g, blocks, order)
    terms = spec.batch * prod(t.out_size for t in spec.windows)
    eps = 2.0**-53 if dtype is float64 else 2.0**-24
    rounding = 2.0**-8 * np.abs(want) if dtype is bfloat16 else 0.0
    error = np.abs(got.astype(np.float64) - want)
    assert (error <= 2 * eps * (terms + 1) + rounding).all(), (spec, blocks, error.max())


SPECS = {
    "3x3": ConvSpec(2, 1, 32, 32, (W(8, 3, padding=(1, 1)), W(9, 3, padding=(1, 1)))),
    "strided": ConvSpec(
        3, 2, 16, 48, (W(7, 3, padding=(1, 1), stride=2), W(9, 2, padding=(1, 0), rhs_dilation=2))
    ),
    "flipped": ConvSpec(2, 1, 16, 16, (W(9, 3, rhs_dilation=-2, padding=(2, 0)),)),
    "1d": ConvSpec(2, 1, 16, 16, (W(200, 5, stride=3, padding=(2, 2)),)),
    "transposed": ConvSpec(
        2,
        1,
        16,
        32,
        (
            W(5, 3, lhs_dilation=2, padding=(1, 2)),
            W(6, 3, lhs_dilation=3, stride=2, padding=(1, 2)),
        ),
    ),
    "3d": ConvSpec(1, 1, 16, 32, (W(3, 3, padding=(1, 1)), W(4, 2), W(4, 3, padding=(1, 1)))),
    "pointwise": ConvSpec(3, 2, 48, 80, (W(6, 1), W(7, 1))),
    "pointwise strided": ConvSpec(3, 1, 16, 48, (W(6, 1, stride=2), W(7, 1, stride=2))),
    "matrices": ConvSpec(37, 1, 48, 64),
    "cropped": ConvSpec(2, 1, 16, 16, (W(9, 3, padding=(-1, -2)), W(3, 5, padding=(3, 1)))),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_blocks(target: Target, spec: ConvSpec) -> None:
    block = target.lanes(32)
    check(target, spec, float32, (block, block))


@pytest.mark.parametrize("blocks", [(1, 1), (8, 4), (4, 8), (16, 2), (48, 16), (96, 160)])
def test_layouts(blocks: tuple[int, int]) -> None:
    check(host_target(), SPECS["pointwise"], float32, blocks)


def test_a_block_of_several_groups() -> None:
    spec = ConvSpec(2, 2, 4, 8, (W(9, 3),))
    check(host_target(), spec, float32, (8, 16))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float64, bfloat16], ids=str)
def test_dtypes(target: Target, dtype: DType) -> None:
    check(target, SPECS["strided"], dtype, (8, 8))
    check(target, SPECS["flipped"], dtype, (1, 16))


@pytest.mark.parametrize("target", TARGETS)
def test_odd_channels_in_plain_layouts(target: Target) -> None:
    axis = W(7, 3, padding=(1, 1), stride=2)
    check(target, ConvSpec(2, 1, 3, 20, (axis, axis)), float32, (1, 1))
    check(target, ConvSpec(2, 2, 5, 7, (axis, W(4, 1, stride=3))), float32, (10, 14))
    check(target, ConvSpec(5, 1, 13, 10), float32, (13, 10))
    check(target, ConvSpec(5, 1, 13, 10), bfloat16, (1, 1))


def test_any_strides_of_the_result() -> None:
    check(host_target(), SPECS["strided"], float32, (16, 16), (3, 0, 4, 2, 1))
    check(host_target(), SPECS["matrices"], float32, (48, 64), (2, 0, 1))


def test_infinite_values_stay_where_they_belong() -> None:
    spec = ConvSpec(1, 1, 16, 16, (W(5, 3, padding=(1, 1)), W(6, 3, padding=(1, 1))))
    x, g = values(2, spec, float32)
    g[0, 3, 0, 0] = np.inf  # the first output meets padding at tap 0 of either axis
    for blocks in ((16, 16), (1, 1)):
        got = gradient(host_target(), spec, float32, x, g, blocks)
        finite = np.isfinite(got)
        assert finite[0, 3, :, 0].all() and finite[0, 3, :, :, 0].all()
        assert not finite[0, 3, :, 1:, 1:].any() and finite[0, 4:].all()
        assert not np.isnan(got).any()


def test_nothing_to_add_is_zero() -> None:
    spec = ConvSpec(0, 1, 16, 16, (W(5, 3),))
    x, g = values(3, spec, float32)
    assert not gradient(host_target(), spec, float32, x, g, (16, 16)).any()


def test_what_others_have_to_do() -> None:
    depthwise = ConvSpec(2, 32, 1, 1, (W(9, 3),))
    assert not weight_gradient_supports(host_target(), depthwise, float32, 16, 16)
    assert not weight_gradient_supports(host_target(), SPECS["3x3"], float32, 6, 16)


def test_the_inner_loop_keeps_its_sums_in_registers() -> None:
    target = named_target("x86-64-v4")
    x, g, dw = (Buffer(0) for _ in range(3))
    view = View(dw, 0, (0, 288, 9, 3, 1))
    (step,) = weight_gradient(target, SPECS["3x3"], float32, x, 16, g, 16, view)
    blocks = re.split(r"\n\.LBB|\n# %bb", assembly(emit(step.kernel, target), target))
    inner = [text for text in blocks if text.count("vfmadd") == 16]
    assert inner and not any("rsp" in text for text in inner)
