"""Winograd's algorithms: their algebra, exactly; the kernels against float64, on every target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.epilogue import Epilogue
from striate.codegen.expression import Expression
from striate.codegen.kernel import Buffer, View
from striate.codegen.machine import host_target, named_target
from striate.codegen.pointwise import Instruction
from striate.codegen.winograd import winograd_conv
from striate.codegen.winograd_algebra import Algorithm, longest, winograd
from striate.codegen.winograd_axes import Tiles, dense_axes
from striate.codegen.winograd_few import FewTiles
from striate.codegen.winograd_gradient import (
    _schedule,
    gradient_plan,
    winograd_gradient,
)
from striate.codegen.winograd_plan import (
    AMPLIFICATION,
    algorithm,
    keeps_bound,
    plan_winograd,
)
from striate.dtype import float32
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.target import Target
from tests.codegen.guard import TARGETS, Bytes, copy_of, run_everywhere
from tests.codegen.harness import anywhere, run

Array = NDArray[np.generic]
UNIT = 2.0**-24  # half the distance from 1 to the next float32
BOUNDS = {"highest": 8, "high": 64, "fast": 128}  # in UNIT * sum |x| |w|


@pytest.mark.parametrize("taps", range(1, 8))
def test_every_algorithm_is_a_convolution(taps: int) -> None:
    """AT ((G w) * (BT x)) is sum of w[k] x[i + k], as an identity of rational numbers."""
    for outputs in range(1, longest(taps) + 1):
        f = winograd(outputs, taps)
        for short in (False, True) if outputs > 1 else (False,):
            g, bt, at = f.weights(), f.inputs(short), f.results(short)
            n = f.products - short
            assert [len(g[0]), len(bt), len(at), len(at[0])] == [taps, n, outputs - short, n]
            for i, k, j in product(range(outputs - short), range(taps), range(n)):
                total = sum(at[i][p] * g[p][k] * bt[p][j] for p in range(n))
                assert total == (j == i + k), (outputs, taps, short)


def test_the_points_lose_little() -> None:
    """Root mean squares: the usual points 0, 1, -1, 2, -2 of F(4, 3) have 9.7."""
    assert winograd(2, 3).amplification == pytest.approx(5**0.5)
    assert winograd(4, 3).amplification < 4.7
    assert winograd(6, 3).amplification < 11.8


@pytest.mark.parametrize("most", range(1, 9))
def test_tiles_cover_an_axis(most: int) -> None:
    for size in range(1, 40):
        t = Tiles.of(size, most, 3)
        assert t.long * t.outputs + t.short * (t.outputs - 1) == size
        assert t.outputs <= most
        assert t.count == -(-size // most)
        assert t.long > 0


class Case:
    """A convolution on data, by the algorithms of at most `most` outputs along each axis."""

    def __init__(self, spec: ConvSpec, most: Sequence[int], target: Target, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.spec, self.target, self.lanes = spec, target, target.lanes(32)
        self.x = rng.standard_normal(spec.lhs_shape).astype(np.float32)
        self.w = rng.standard_normal(spec.rhs_shape).astype(np.float32)
        axes = dense_axes(spec)
        assert axes is not None
        self.tiles = tuple(Tiles.of(a.sizes, m, a.width) for a, m in zip(axes, most, strict=True))

    def blocked(self, a: Array) -> Array:
        n, g, c, *size = a.shape
        split = a.reshape(n, g * c // self.lanes, self.lanes, *size)
        return np.ascontiguousarray(np.moveaxis(split, 2, -1))

    def run(
        self, epilogue: Epilogue | None = None, operands: Sequence[Array] = (), **changes: Any
    ) -> Array:
        """y: [N, 1, K, *O], bitwise the same for 1, 2, 3 and 5 threads; `changes` are to the
        schedule.
        """
        x = self.blocked(self.x)
        bx, bw, *rest = buffers = [Buffer(a.nbytes) for a in (x, self.w, *operands)]
        n, g, k, *size = self.spec.out_shape
        shape = (n, g * k // self.lanes, *size, self.lanes)
        y = Buffer(4 * prod(shape))
        view = View(bw, 0, tuple(s // 4 for s in self.w.strides))
        plan = replace(plan_winograd(self.target, self.spec, self.tiles), **changes)
        steps = winograd_conv(self.spec, plan, bx, view, y, epilogue, rest)
        made = {b: ((b.nbytes,), np.dtype(np.uint8)) for s in steps for b in s.writes}
        made[y] = (shape, np.dtype(np.float32))
        given = {b: copy_of(a) for b, a in zip(buffers, (x, self.w, *operands), strict=True)}
        out = run_everywhere(steps, given, made, self.target)[y]
        return np.moveaxis(out, -1, 2).reshape(self.spec.out_shape)

    def expected(self, of: Callable[[Array], Array] = lambda a: a) -> Array:
        x, w = (of(a.astype(np.float64)) for a in (self.x, self.w))
        with np.errstate(invalid="ignore"):
            return CONV.reference(self.spec, x, w)

    def loss(self, y: Array) -> float:
        """The largest error in units of UNIT * sum |x| |w|."""
        bound = np.maximum(self.expected(np.abs), np.finfo(np.float64).tiny)  # 0 where y must be 0
        return float(np.max(np.abs(y - self.expected()) / bound) / UNIT)


def spec_of(
    target: Target, sizes: Sequence[int], taps: Sequence[int], blocks: tuple[int, int], pad: int = 1
) -> ConvSpec:
    lanes = target.lanes(32)
    windows = tuple(
        Window.of(s, r, padding=(pad, pad) if r > 1 else (0, 0))
        for s, r in zip(sizes, taps, strict=True)
    )
    return ConvSpec(2, 1, blocks[0] * lanes, blocks[1] * lanes, windows)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("flipped", [False, True], ids=["forward", "adjoint"])
@pytest.mark.parametrize(
    ("sizes", "taps", "most"),
    [
        ((8, 7), (3, 3), (4, 4)),  # no short tiles, and both kinds
        ((5, 14), (3, 3), (6, 4)),
        ((11,), (5,), (4,)),
        ((6, 5), (1, 3), (1, 4)),
        ((3, 5, 4), (3, 3, 3), (2, 4, 2)),
    ],
    ids=str,
)
def test_any_shape(
    target: Target,
    flipped: bool,
    sizes: tuple[int, ...],
    taps: tuple[int, ...],
    most: tuple[int, ...],
) -> None:
    spec = spec_of(target, sizes, taps, (2, 3))
    if flipped:
        spec = spec.lhs_adjoint()
    case = Case(spec, most, target)
    lost = prod(winograd(t.outputs, t.taps).amplification for t in case.tiles)
    assert case.loss(case.run()) < 4 * lost


STEPS = {
    "dilation": ((11, 3, 1, 3), (9, 3, 1, 2)),
    "dilation beyond the image": ((3, 3, 1, 5), (4, 3, 1, 4)),
    "stride": ((11, 3, 2, 1), (8, 4, 2, 1)),
    "stride 3": ((17, 5, 3, 1), (9, 3, 3, 1)),
    "both": ((15, 3, 2, 2), (21, 3, 4, 6)),
    "one axis": ((23, 3, 1, 4),),
    "volume": ((7, 3, 1, 2), (6, 3, 2, 1), (5, 3, 1, 1)),
}  # size, taps, stride, dilation per axis


def stepped(lanes: int, axes: Sequence[tuple[int, ...]], blocks: int, groups: int = 1) -> ConvSpec:
    windows = tuple(
        Window.of(n, r, stride=s, rhs_dilation=d, padding=(d, d)) for n, r, s, d in axes
    )
    return ConvSpec(2, groups, blocks * lanes, lanes, windows)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("flipped", [False, True], ids=["forward", "flipped"])
@pytest.mark.parametrize("name", STEPS)
def test_strides_and_dilations(target: Target, flipped: bool, name: str) -> None:
    """Classes of outputs and of taps, some of which lack the last tap, and padding."""
    spec = stepped(target.lanes(32), STEPS[name], 2)
    if flipped:
        turned = (replace(t, rhs_dilation=-t.rhs_dilation) for t in spec.windows)
        spec = replace(
            spec,
            windows=tuple(
                replace(t, pad_lo=t.pad_lo + t.rhs_dilation * (t.kernel_size - 1)) for t in turned
            ),
        )
    case = Case(spec, (4, 2, 3)[: len(spec.windows)], target)
    lost = prod(winograd(t.outputs, t.taps).amplification for t in case.tiles)
    assert case.loss(case.run()) < 4 * lost


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["dilation", "stride"])
def test_groups(target: Target, name: str) -> None:
    """Channels of a group are whole blocks; panels of groups are shared among threads."""
    spec = replace(stepped(target.lanes(32), STEPS[name], 2, 3), out_features=2 * target.lanes(32))
    case = Case(spec, (4, 4), target)
    first = case.run(nr=2, mr=3, panel_group=1, fused=False, few=None)
    lost = prod(winograd(t.outputs, t.taps).amplification for t in case.tiles)
    assert case.loss(first) < 4 * lost
    for changes in (
        {"nr": 1, "mr": 2, "panel_group": 2, "fused": False},
        {"nr": 1, "mr": 2, "panel_group": 1, "fused": True, "chunk": 1},
    ):
        np.testing.assert_array_equal(case.run(few=None, **changes), first)


def test_the_schedule_changes_no_bit() -> None:
    """Weights transformed before or in the kernel, in chunks; register tiles; blocks."""
    target = host_target()
    case = Case(spec_of(target, (9, 14), (3, 3), (3, 4)), (4, 4), target)
    first = case.run(fused=False, chunk=3, panel_group=1)
    assert case.loss(first) < 64
    for changes in (
        {"fused": True, "chunk": 2, "mr": 5, "nr": 1, "panel_group": 1, "ahead": 0},
        {"fused": True, "chunk": 3, "mr": 3, "nr": 3, "panel_group": 2, "image_blocks": 1},
        {"fused": False, "chunk": 1, "mr": 2, "nr": 2, "image_blocks": 2, "ahead": 4},
        {"fused": False, "chunk": 2, "mr": 2, "nr": 2, "panel_group": 2, "ahead": 32},
    ):
        np.testing.assert_array_equal(case.run(**changes), first)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("sizes", "taps"), [((7, 6), (3, 3)), ((7,), (5,))], ids=str)
def test_few_tiles_change_no_bit(
    target: Target, sizes: tuple[int, ...], taps: tuple[int, ...]
) -> None:
    """Weights that are transformed in registers, some blocks of channels at a time."""
    case = Case(spec_of(target, sizes, taps, (3, 2)), (4,) * len(sizes), target)
    few = FewTiles.of(1, [t.long for t in case.tiles], [t.short for t in case.tiles])
    assert few.count == prod(t.count for t in case.tiles)
    alone = {"image_blocks": 2, "blocks": (1,) * len(sizes), "panel_group": 1}
    plain = case.run(**alone, fused=False, few=None)
    assert case.loss(plain) < 64
    for chunk in (1, 2):
        changes = {"nr": 1, "mr": few.count, "chunk": chunk, "fused": True, "ahead": 0}
        np.testing.assert_array_equal(case.run(**alone, **changes, few=few), plain)


def test_few_tiles_are_those_of_the_batch_and_image() -> None:
    """One image of the last layers of a ResNet, but not sixteen."""
    target = named_target("x86-64-v4")
    window = Window.of(7, 3, padding=(1, 1))
    tiles = algorithm(target, ConvSpec(1, 1, 512, 512, (window, window)), "high")
    assert tiles is not None
    plans = [plan_winograd(target, ConvSpec(n, 1, 512, 512, (window,) * 2), tiles) for n in (1, 16)]
    assert [p.few is not None for p in plans] == [True, False]


def test_an_epilogue() -> None:
    target = host_target()
    case = Case(spec_of(target, (6, 6), (3, 3), (1, 2)), (4, 4), target)
    k, y = case.spec.out_features, case.expected()
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(k).astype(np.float32)
    residual = rng.standard_normal(y.shape).astype(np.float32)
    body = (Instruction("add", float32, (0, 1)), Instruction("add", float32, (3, 2)))
    epilogue = Epilogue(
        Expression((float32,) * 3, body, (4,)), ("channel", "tensor"), (float32,) * 2
    )
    got = case.run(epilogue, [bias, case.blocked(residual)])
    want = y + bias[:, None, None].astype(np.float64) + residual
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
@pytest.mark.parametrize("name", ["", "dilation", "stride", "both"])
def test_what_is_not_finite_reaches_those_that_see_it(value: float, name: str) -> None:
    """Neither does it spread over a tile, nor does padding or a tap that a class lacks meet it."""
    target = host_target()
    spec = spec_of(target, (9, 8), (3, 3), (1, 1))
    case = Case(stepped(target.lanes(32), STEPS[name], 1) if name else spec, (4, 4), target)
    case.x[0, 0, 3, 4, 4] = value
    if value != 3e38:
        case.w[0, 5, 2, 0, 0] = value
    y, want = case.run(), case.expected()
    with np.errstate(over="ignore"):
        want = want.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(y[finite], want[finite], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("size", [14, 7, 9])
def test_each_precision_keeps_its_bound(precision: str, size: int) -> None:
    """Against float64, for 64 channels, by whatever algorithm it allows that saves most."""
    target = host_target()
    lanes = target.lanes(32)
    spec = spec_of(target, (size, size), (3, 3), (64 // lanes, 1))
    fits = [m for m in range(1, 8) if winograd(m, 3).amplification ** 2 <= AMPLIFICATION[precision]]
    case = Case(spec, (max(fits), max(fits)), target)
    assert case.loss(case.run()) < BOUNDS[precision]


def largest(precision: str, f: Callable[[int], Algorithm]) -> tuple[int, int, int]:
    """The outputs per axis of a volume that the precision allows, with the fewest products each."""
    fits = [
        most
        for most in product(range(1, 7), repeat=3)
        if sorted(most) == list(most)
        and keeps_bound(precision, most, prod(f(m).amplification for m in most))
    ]
    return max(fits, key=lambda most: prod(m / (m + 2) for m in most))


@pytest.mark.parametrize("precision", BOUNDS)
def test_each_precision_keeps_its_bound_in_volumes(precision: str) -> None:
    """More terms are summed than in a plane, and with other signs: F(4x4x4) loses no more."""
    target = host_target()
    spec = spec_of(target, (8, 7, 9), (3, 3, 3), (64 // target.lanes(32), 1))
    most = largest(precision, lambda m: winograd(m, 3))
    assert most == {"highest": (2, 2, 2), "high": (4, 4, 4), "fast": (4, 4, 6)}[precision]
    case = Case(replace(spec, batch=1), most, target)
    assert case.loss(case.run()) < BOUNDS[precision]


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("size", [(1, 8, 8), (1, 4, 8), (2, 2, 16)])
def test_each_precision_keeps_its_bound_in_flat_volumes(
    precision: str, size: tuple[int, int, int]
) -> None:
    """Of the taps along a short axis padding meets most: there are few terms, as in a plane."""
    target = host_target()
    spec = spec_of(target, size, (3, 3, 3), (2, 2))
    tiles = algorithm(target, spec, precision)
    most = [t.outputs for t in tiles] if tiles else [1, 2, 2]
    case = Case(replace(spec, batch=64), tuple(most), target)
    assert case.loss(case.run()) < BOUNDS[precision]


def test_the_choice_does_not_depend_on_the_batch() -> None:
    target = named_target("x86-64-v4")
    window = Window.of(14, 3, padding=(1, 1))
    chosen = {
        algorithm(target, ConvSpec(n, 1, 256, 256, (window, window)), "high") for n in (1, 2, 64)
    }
    assert len(chosen) == 1
    assert chosen != {None}


def test_the_choice_follows_the_precision() -> None:
    target = named_target("x86-64-v4")
    window = Window.of(56, 3, padding=(1, 1))
    spec = ConvSpec(1, 1, 64, 64, (window, window))
    tiles = {p: algorithm(target, spec, p) for p in BOUNDS}
    outputs = {p: max(t.outputs for t in found or ()) for p, found in tiles.items()}
    assert outputs == {"highest": 2, "high": 4, "fast": 6}
    pointwise = Window.of(56, 1, stride=2)
    assert algorithm(target, ConvSpec(1, 1, 64, 64, (pointwise, pointwise)), "fast") is None


# ---- weight gradients ----------------------------------------------------------------------


class Gradient(Case):
    """The weight gradient of a convolution, by the algorithms of at most `most` outputs."""

    def __init__(self, spec: ConvSpec, most: Sequence[int], target: Target, seed: int = 0) -> None:
        super().__init__(spec, most, target, seed)
        rng = np.random.default_rng(seed + 1)
        self.g = rng.standard_normal(spec.out_shape).astype(np.float32)

    def run(self, order: Sequence[int] = (), parts: int | None = None) -> Array:  # type: ignore[override]
        """dw: [1, K, C, *W], laid out as if it had been transposed by `order`."""
        arrays = [self.blocked(a) for a in (self.x, self.g)]
        buffers = bx, bg = [Buffer(a.nbytes) for a in arrays]
        shape = self.spec.rhs_shape
        order = order or range(len(shape))
        moved = tuple(shape[a] for a in order)
        strides = np.empty(moved, np.float32).transpose(np.argsort(order)).strides
        dw = Buffer(4 * prod(shape))
        plan = _schedule(self.target, self.spec, self.tiles)[1]
        if parts is not None:
            plan = replace(plan, parts=parts, image_blocks=self.spec.batch)
        steps = winograd_gradient(
            self.target, self.spec, plan, bx, bg, View(dw, 0, tuple(s // 4 for s in strides))
        )
        made = {b: ((b.nbytes,), np.dtype(np.uint8)) for s in steps for b in s.writes}
        made[dw] = (moved, np.dtype(np.float32))
        given = {b: copy_of(a) for b, a in zip(buffers, arrays, strict=True)}
        out = run_everywhere(steps, given, made, self.target)[dw]
        return out.transpose(np.argsort(order))

    def run_in(self, memory: Callable[[int], Bytes]) -> Array:
        """The same in memory that holds something, by one thread."""
        arrays = [self.blocked(a) for a in (self.x, self.g)]
        bx, bg, dw = [Buffer(4 * a.size) for a in (*arrays, np.empty(self.spec.rhs_shape))]
        out = np.empty(self.spec.rhs_shape, np.float32)
        plan = _schedule(self.target, self.spec, self.tiles)[1]
        to = View(dw, 0, tuple(s // 4 for s in out.strides))
        steps = winograd_gradient(self.target, self.spec, plan, bx, bg, to)
        held = {bx: copy_of(arrays[0]), bg: copy_of(arrays[1]), dw: out}
        run(steps, held, 1, self.target, memory)
        return out

    def expected(self, of: Callable[[Array], Array] = lambda a: a) -> Array:
        x, g = (of(a.astype(np.float64)) for a in (self.x, self.g))
        with np.errstate(invalid="ignore"):
            dw = CONV.reference(self.spec.rhs_adjoint(), x.swapaxes(0, 2), np.moveaxis(g, 0, 2))
        return np.moveaxis(dw, 0, 2)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("flipped", [False, True], ids=["forward", "adjoint"])
@pytest.mark.parametrize(
    ("sizes", "taps", "most"),
    [
        ((8, 7), (3, 3), (4, 4)),
        ((11,), (5,), (4,)),
        ((6, 5), (1, 3), (1, 4)),
        ((3, 5, 4), (3, 3, 3), (2, 4, 2)),
    ],
    ids=str,
)
def test_any_gradient(
    target: Target,
    flipped: bool,
    sizes: tuple[int, ...],
    taps: tuple[int, ...],
    most: tuple[int, ...],
) -> None:
    spec = spec_of(target, sizes, taps, (2, 2))
    if flipped:
        spec = spec.lhs_adjoint()
    case = Gradient(spec, most, target)
    lost = prod(winograd(t.taps, t.outputs).amplification for t in case.tiles)
    assert case.loss(case.run()) < 4 * lost


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", STEPS)
def test_gradients_with_strides_and_dilations(target: Target, groups: int, name: str) -> None:
    spec = stepped(target.lanes(32), STEPS[name], 2, groups)
    case = Gradient(spec, (4, 2, 3)[: len(spec.windows)], target)
    lost = prod(winograd(t.taps, t.outputs).amplification for t in case.tiles)
    assert case.loss(case.run()) < 4 * lost


def test_a_gradient_does_not_read_what_memory_held_before() -> None:
    """Tiles that are short along three axes lack slots: sums over tiles skip them. (NaN in them
    would be seen, and the result computed again; other numbers would not.)
    """
    target = host_target()
    case = Gradient(spec_of(target, (5, 7, 5), (3, 3, 3), (1, 1)), (3, 4, 3), target)
    assert all(t.long and t.short for t in case.tiles)
    found = []
    for value in (0.0, 1.0):

        def memory(nbytes: int, value: float = value) -> Bytes:
            held = anywhere(nbytes)
            held[: nbytes // 4 * 4].view(np.float32)[:] = value
            return held

        found.append(case.run_in(memory))
    np.testing.assert_array_equal(*found)
    lost = prod(winograd(t.taps, t.outputs).amplification for t in case.tiles)
    assert case.loss(found[0]) < 4 * lost


def test_a_gradient_in_parts_and_in_any_order() -> None:
    target = host_target()
    case = Gradient(spec_of(target, (9, 8), (3, 3), (1, 3)), (4, 4), target)
    plain = case.run(parts=1)
    assert case.loss(case.run(parts=2)) < 64
    np.testing.assert_array_equal(case.run(order=(2, 4, 0, 3, 1), parts=1), plain)


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
@pytest.mark.parametrize("name", ["", "dilation", "stride", "both"])
def test_a_gradient_that_is_not_finite(value: float, name: str) -> None:
    """Padding meets no infinite number: taps that see a border from there stay finite."""
    target = host_target()
    spec = spec_of(target, (9, 8), (3, 3), (1, 1))
    spec = stepped(target.lanes(32), STEPS[name], 1) if name else spec
    case = Gradient(spec, (4, 4), target)
    case.g[0, 0, 3, 0, 0] = value
    dw, want = case.run(), case.expected()
    with np.errstate(over="ignore"):
        want = want.astype(np.float32)
    assert np.isfinite(want).any()
    np.testing.assert_array_equal(np.isnan(dw), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(dw), np.isinf(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(dw[finite], want[finite], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("precision", BOUNDS)
def test_each_precision_keeps_its_bound_in_gradients(precision: str) -> None:
    target = host_target()
    lanes = target.lanes(32)
    spec = replace(spec_of(target, (14, 14), (3, 3), (1, 64 // lanes)), batch=4)
    fits = [m for m in range(1, 8) if winograd(3, m).amplification ** 2 <= AMPLIFICATION[precision]]
    case = Gradient(spec, (max(fits), max(fits)), target)
    assert case.loss(case.run()) < BOUNDS[precision]


@pytest.mark.parametrize("precision", BOUNDS)
def test_each_precision_keeps_its_bound_in_gradients_of_volumes(precision: str) -> None:
    target = host_target()
    spec = spec_of(target, (8, 7, 9), (3, 3, 3), (1, 64 // target.lanes(32)))
    case = Gradient(spec, largest(precision, lambda m: winograd(3, m)), target)
    assert case.loss(case.run()) < BOUNDS[precision]


def test_few_tiles_are_not_worth_a_gradient() -> None:
    target = named_target("x86-64-v4")
    window = Window.of(7, 3, padding=(1, 1))
    spec = ConvSpec(16, 1, 512, 512, (window, window))
    assert gradient_plan(target, spec, "high") is not None
    assert gradient_plan(target, replace(spec, batch=1), "high") is None
