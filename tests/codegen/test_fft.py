"""Convolution by Fourier transforms: its constants; the kernels against float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

import striate as st
from striate.codegen.epilogue import Epilogue
from striate.codegen.expression import Expression
from striate.codegen.fft import Plan, fft_conv, fft_supports, plan_fft
from striate.codegen.fft_algebra import ROOT, children, constants, radices, root, stages, tables
from striate.codegen.kernel import Buffer, View
from striate.codegen.machine import host_target, named_target
from striate.codegen.pointwise import Instruction
from striate.dtype import DType, float32, float64
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.target import Target
from tests.codegen.guard import TARGETS, copy_of, run_everywhere

Array = NDArray[np.generic]
UNIT = {float32: 2.0**-24, float64: 2.0**-53}
BOUND = 8  # in UNIT * the largest sum |x| |w| of an image's channel


# ---- the algebra ---------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 4, 8, 64, 512])
def test_the_tree_ends_at_the_roots(length: int) -> None:
    """The stages on numbers: a polynomial's values at the roots of y^L - i, each once."""
    rng = np.random.default_rng(0)
    p = rng.standard_normal(length) + 1j * rng.standard_normal(length)
    factors = radices(length)
    assert prod(factors) == length
    values, angles = p.copy(), [ROOT]
    for s in stages(length, factors):
        z = np.array(constants(angles, s.radix)).reshape(s.nodes, s.radix - 1, 2)
        powers = np.ones((s.nodes, s.radix, 1), complex)  # z^q
        powers[:, 1:, 0] = z[..., 0] + 1j * z[..., 1]
        parts = values.reshape(s.nodes, s.radix, s.part) * powers
        values = np.fft.ifft(parts, axis=1).reshape(-1) * s.radix  # sum of p_q i^(jq)
        angles = children(angles, s.radix)
    assert len(set(angles)) == length
    assert all((a * length) % 1 == ROOT for a in angles)
    roots = np.array([complex(*root(a)) for a in angles])
    np.testing.assert_allclose(values, np.polyval(p[::-1], roots), rtol=1e-11, atol=1e-11)


def test_roots_are_exact_to_the_last_bits() -> None:
    for k in range(-3, 1000, 7):
        x, y = root(Fraction(k, 997))
        turn = 2 * np.pi * (k % 997) / 997  # rounded: off by 2^-52 of a turn at most
        assert abs(x - np.cos(turn)) < 2e-15
        assert abs(y - np.sin(turn)) < 2e-15
        assert abs(x * x + y * y - 1) < 4e-16
    assert [root(Fraction(k, 4)) for k in range(4)] == [(1, 0), (0, 1), (-1, 0), (0, -1)]
    half = root(Fraction(1, 8))
    assert abs(half[0] - half[1]) <= 2**-53


def test_blocks_have_the_constants_of_their_nodes() -> None:
    """Cut into leading stages and blocks, the constants are those of all stages, reordered."""
    factors = (2, 4, 4)
    whole, _ = tables(factors, 3)
    first, rest = tables(factors, 1)
    blocks = np.array(rest).reshape(2, -1)  # each: one node of 4, then four
    joined = np.concatenate([first, blocks[:, :6].ravel(), blocks[:, 6:].ravel()])
    np.testing.assert_array_equal(joined, whole)


# ---- the kernels ---------------------------------------------------------------------------


class Case:
    """A depthwise convolution on data."""

    def __init__(
        self, spec: ConvSpec, block: int, target: Target, dtype: DType = float32, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.spec, self.block, self.target, self.dtype = spec, block, target, dtype
        self.x = rng.standard_normal(spec.lhs_shape).astype(dtype.numpy)
        self.w = rng.standard_normal(spec.rhs_shape).astype(dtype.numpy)

    def blocked(self, a: Array) -> Array:
        n, g, _, *size = a.shape
        split = a.reshape(n, g // self.block, self.block, *size)
        return np.ascontiguousarray(np.moveaxis(split, 2, -1))

    def plan(self, windows: tuple[int, ...] | None = None) -> Plan:
        plan = plan_fft(self.target, self.spec, self.dtype, self.block)
        assert plan is not None
        return replace(plan, windows=windows) if windows else plan

    def run(
        self,
        windows: tuple[int, ...] | None = None,
        epilogue: Epilogue | None = None,
        operands: Sequence[Array] = (),
    ) -> Array:
        """y: [N, G, 1, *O], bitwise the same for 1, 2, 3 and 5 threads, between guard pages."""
        x, item = self.blocked(self.x), self.dtype.itemsize
        bx, bw, *rest = buffers = [Buffer(a.nbytes) for a in (x, self.w, *operands)]
        n, g, _, *size = self.spec.out_shape
        shape = (n, g // self.block, *size, self.block)
        y = Buffer(item * prod(shape))
        view = View(bw, 0, tuple(s // item for s in self.w.strides))
        steps = fft_conv(
            self.target, self.spec, self.dtype, self.block, bx, view, y, epilogue, rest,
            self.plan(windows),
        )  # fmt: skip
        made = {b: ((b.nbytes,), np.dtype(np.uint8)) for s in steps for b in s.writes}
        made[y] = (shape, np.dtype(self.dtype.numpy))
        given = {b: copy_of(a) for b, a in zip(buffers, (x, self.w, *operands), strict=True)}
        out = run_everywhere(steps, given, made, self.target)[y]
        return np.moveaxis(out, -1, 2).reshape(self.spec.out_shape)

    def expected(self, magnitude: bool = False) -> Array:
        x, w = (a.astype(np.float64) for a in (self.x, self.w))
        if magnitude:
            x, w = abs(x), abs(w)
        with np.errstate(invalid="ignore"):
            return CONV.reference(self.spec, x, w)

    def loss(self, y: Array) -> float:
        """The largest error in units of UNIT * the largest sum |x| |w| of its image's channel."""
        axes = tuple(range(2, y.ndim))
        most = self.expected(True).max(axis=axes, keepdims=True)
        return float(np.max(abs(y - self.expected()) / most) / UNIT[self.dtype])


def spec_of(groups: int, *axes: tuple[int, int, int], batch: int = 1) -> ConvSpec:
    """Axes: (inputs, taps, padding)."""
    windows = tuple(Window.of(n, k, padding=(p, p)) for n, k, p in axes)
    return ConvSpec(batch, groups, 1, 1, windows)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("alone", [False, True], ids=["channels", "windows"])
@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_any_shape(target: Target, alone: bool, dtype: DType) -> None:
    """One axis and two, forward and adjoint, of one window and many, with leading stages."""
    lanes = target.lanes(dtype.bits)
    groups, block = (3, 1) if alone else (2 * lanes, lanes)
    for spec, windows in (
        (spec_of(groups, (300, 40, 20)), (64,)),
        (spec_of(groups, (301, 40, 0), batch=2).lhs_adjoint(), (128,)),
        (spec_of(groups, (1500, 200, 100)), (2048,)),
        (spec_of(groups, (700, 20, 25)), (32,)),
        (spec_of(groups, (20, 11, 5), (50, 15, 3)), (16, 32)),
        (spec_of(groups, (9, 5, 2), (140, 7, 0)).lhs_adjoint(), (32, 64)),
    ):
        case = Case(spec, block, target, dtype)
        assert case.loss(case.run(windows)) < BOUND, (spec, windows)


def test_half_a_vector_of_channels() -> None:
    case = Case(spec_of(4, (200, 30, 3)), 4, host_target())
    assert case.loss(case.run()) < BOUND


@pytest.mark.parametrize("alone", [False, True], ids=["channels", "windows"])
def test_an_epilogue(alone: bool) -> None:
    target = host_target()
    lanes = target.lanes(32)
    case = Case(spec_of(lanes, (200, 30, 15), batch=2), 1 if alone else lanes, target)
    y = case.expected()
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(lanes).astype(np.float32)
    residual = rng.standard_normal(y.shape).astype(np.float32)
    body = (Instruction("add", float32, (0, 1)), Instruction("add", float32, (3, 2)))
    epilogue = Epilogue(
        Expression((float32,) * 3, body, (4,)), ("channel", "tensor"), (float32,) * 2
    )
    got = case.run(None, epilogue, [bias, case.blocked(residual)])
    want = y + bias[:, None, None].astype(np.float64) + residual
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("alone", [False, True], ids=["channels", "windows"])
@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_what_is_not_finite_reaches_those_that_see_it(alone: bool, value: float) -> None:
    """It does not spread over a window, nor does padding meet an infinite weight."""
    target = host_target()
    lanes = target.lanes(32)
    case = Case(spec_of(lanes, (12, 5, 2), (40, 9, 3)), 1 if alone else lanes, target)
    case.x[0, 1, 0, 6, 20] = value
    if value != 3e38:
        case.w[2, 0, 0, 0, 0] = value
    y, want = case.run(), case.expected()
    with np.errstate(over="ignore"):
        want = want.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(want))
    finite = np.isfinite(want) & (abs(want) < 1e30)
    np.testing.assert_allclose(y[finite], want[finite], atol=1e-4 if value != 3e38 else 1e33)


# ---- the choice, and whole plans -----------------------------------------------------------


def test_the_cost_model() -> None:
    """Long filters only; never by the batch; not where there is a stride or a dilation."""
    for target in map(named_target, ("x86-64-v3", "x86-64-v4", "aarch64")):
        lanes = target.lanes(32)

        def chosen(spec: ConvSpec, block: int, target: Target = target) -> bool:
            return fft_supports(target, spec, float32, block, block)

        assert chosen(spec_of(lanes, (4096, 512, 0)), lanes)
        assert chosen(spec_of(1, (4096, 128, 0)), 1)
        assert chosen(spec_of(lanes, (64, 31, 15), (64, 31, 15)), lanes)
        assert not chosen(spec_of(lanes, (4096, 7, 3)), lanes)
        assert not chosen(spec_of(lanes, (56, 7, 3), (56, 7, 3)), lanes)
        for taps in (32, 48, 64, 96):
            found = {chosen(spec_of(lanes, (900, taps, 0), batch=n), lanes) for n in (1, 2, 64)}
            assert len(found) == 1
        strided = ConvSpec(1, lanes, 1, 1, (Window.of(4096, 512, stride=2),))
        dilated = ConvSpec(1, lanes, 1, 1, (Window.of(4096, 512, rhs_dilation=2),))
        assert not chosen(strided, lanes)
        assert not chosen(dilated, lanes)


@pytest.mark.parametrize(
    "shape", [(2, 1, 3000), (1, 2, 1500), (2, 32, 600), (1, 16, 40, 50)], ids=str
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plans_and_their_gradients(shape: tuple[int, ...], dtype: str) -> None:
    """y and dx by transforms, dw by the definition, against float64; the bound is 8 units."""
    rng = np.random.default_rng(0)
    taps = (300,) if len(shape) == 3 else (21, 25)
    x = rng.standard_normal(shape).astype(dtype)
    w = rng.standard_normal((shape[1], 1, *taps)).astype(dtype)

    def conv(x: object, w: object) -> st.Array:
        return st.conv(x, w, padding="same", groups=shape[1])

    y, pull = st.vjp(conv, st.asarray(x), st.asarray(w))
    g = rng.standard_normal(y.shape).astype(dtype)
    dx, _ = pull(st.asarray(g))
    with st.config(backend="numpy"):
        wide = [st.asarray(abs(a).astype(np.float64)) for a in (x, w, g)]
        exact = [st.asarray(a.astype(np.float64)) for a in (x, w, g)]
        want_y, exact_pull = st.vjp(conv, *exact[:2])
        most_y, wide_pull = st.vjp(conv, *wide[:2])
        pairs = [
            (y, want_y.numpy(), most_y.numpy()),
            (dx, exact_pull(exact[2])[0].numpy(), wide_pull(wide[2])[0].numpy()),
        ]
    unit = UNIT[float32 if dtype == "float32" else float64]
    for got, want, most in pairs:
        assert np.max(abs(got.numpy() - want)) <= BOUND * unit * most.max()
