"""Folding long strides into channels: exactly the same sums, on any axis that is folded."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate.codegen.machine import can_run, named_target
from striate.dtype import float64
from striate.ir.graph import Graph, parameter
from striate.ir.types import TensorType
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window
from striate.transform.fold import fold_inputs, fold_outputs, folded_conv
from striate.transform.interpret import interpret

TRANSPOSED, STRIDED = fold_outputs, fold_inputs


def windows(rng: np.random.Generator, transposed: bool, count: int) -> list[Window]:
    """Random axes that can be folded."""
    fold = TRANSPOSED if transposed else STRIDED
    found: list[Window] = []
    while len(found) < count:
        n, j = rng.integers(2, 5), rng.integers(1, 4)
        signs = rng.choice([-1, 1], 3)
        coefficients = {"stride": signs[0], "lhs_dilation": signs[1], "rhs_dilation": signs[2]}
        coefficients["lhs_dilation" if transposed else "stride"] *= n
        sizes = (int(v) for v in rng.integers(1, (12, 14), 2))
        t = Window(
            *sizes,
            int(n * j),
            **{k: int(v) for k, v in coefficients.items()},
            pad_lo=int(rng.integers(-9, 10)),
        )
        if not transposed:  # no padding
            first, last = replace_pad(t, 0).reads()
            t = replace_pad(t, int(np.sign(t.lhs_dilation)) * (first - int(rng.integers(3))))
            first, last = t.reads()
            t = Window(last + 1 + int(rng.integers(3)), *(getattr(t, f) for f in t.__slots__[1:]))
        f = fold(t)
        if f is not None and (transposed or f.window.kernel_size <= t.out_size):
            found.append(t)
    return found


def replace_pad(t: Window, pad: int) -> Window:
    return Window(*(getattr(t, f) for f in t.__slots__[:-1]), pad)


@pytest.mark.parametrize("transposed", [True, False], ids=["outputs", "inputs"])
@pytest.mark.parametrize("rank", [1, 2])
def test_nothing_changes(transposed: bool, rank: int) -> None:
    rng = np.random.default_rng(rank)
    for _ in range(60):
        spec = ConvSpec(2, 1, 2, 3, tuple(windows(rng, transposed, rank)))
        types = [TensorType(s, float64) for s in (spec.lhs_shape, spec.rhs_shape)]
        x, w = (parameter(t) for t in types)
        y = folded_conv(x, w, spec, 64)
        assert y.attrs != spec
        values = [rng.integers(-4, 5, t.shape).astype(np.float64) for t in types]
        (got,) = interpret(Graph((x, w), (y,)), values)
        np.testing.assert_array_equal(got, CONV.reference(spec, *values))


def test_what_is_not_exact_is_left_alone() -> None:
    """A filled zero would meet an infinite number."""
    assert fold_outputs(Window.of(8, 3, lhs_dilation=2)) is None  # taps are no multiple
    assert fold_inputs(Window.of(8, 4, stride=2, padding=(1, 1))) is None
    assert fold_inputs(Window.of(8, 4, stride=2, padding=(0, 0))) is not None
    assert fold_outputs(Window.of(8, 4, stride=3, lhs_dilation=2)) is None
    assert fold_outputs(Window.of(8, 4, lhs_dilation=2, rhs_dilation=2)) is None


@pytest.mark.parametrize("infinite", ["x", "w"])
def test_infinite_numbers_stay_where_they_are(infinite: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 7)).astype(np.float32)
    w = rng.standard_normal((3, 1, 8)).astype(np.float32)
    (x if infinite == "x" else w)[0, 0, 2] = np.inf
    y = np.asarray(st.conv_transpose(x, w, stride=4, padding=3))
    with st.config(backend="numpy"), np.errstate(invalid="ignore"):
        want = np.asarray(st.conv_transpose(x, w, stride=4, padding=3))
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))


CASES = [
    ((1, 24, 9), (24, 1, 64), {"stride": 16}),
    ((2, 5, 7), (5, 1, 140), {"stride": 70, "padding": 3}),  # more phases than kernels
    ((2, 8, 5, 6), (8, 3, 4, 4), {"stride": 2, "padding": 1}),
    ((1, 4, 3, 4, 3), (4, 1, 2, 2, 2), {"stride": 2}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "arguments"), CASES, ids=str)
@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", ""])
def test_whole_convolutions_and_gradients(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], arguments: dict[str, int], target: str
) -> None:
    """Transposed ones; and with x and y exchanged, strided ones."""
    if target and not can_run(named_target(target)):
        pytest.skip(f"the host cannot run {target}")
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(s) for s in (x_shape, w_shape))

    def all_of(x: st.Array, w: st.Array, g: st.Array) -> tuple[st.Array, ...]:
        y, pull = st.vjp(lambda x, w: st.conv_transpose(x, w, **arguments), x, w)
        stride = arguments["stride"]
        return (y, *pull(g), st.conv(g, w, stride=stride, padding=arguments.get("padding", 0)))

    with st.config(backend="numpy"):
        g = rng.standard_normal(st.conv_transpose(x, w, **arguments).shape)
        want = [np.asarray(a) for a in all_of(*(st.asarray(a) for a in (x, w, g)))]
    with st.config(target=target):
        got = st.jit(all_of)(*(st.asarray(a.astype(np.float32)) for a in (x, w, g)))
    for a, b in zip(got, want, strict=True):
        assert np.abs(np.asarray(a) - b).max() < 1e-5 * np.abs(b).max()
