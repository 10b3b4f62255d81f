"""Activations beyond the table of test_elementwise: those with weights, axes or two formulas."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import striate as st
from striate.config import settings


def test_prelu_has_a_slope_per_channel() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    w = np.array([0.1, -0.5, 2.0])
    want = np.where(x > 0, x, w[:, None, None] * x)
    np.testing.assert_array_equal(st.prelu(x, w).numpy(), want)
    np.testing.assert_array_equal(st.prelu(x[0, :, 0], 0.5).numpy(), np.maximum(x, x / 2)[0, :, 0])
    np.testing.assert_array_equal(st.prelu(x[0, 0, 0], w[:1]).numpy(), want[0, 0, 0])
    g = np.random.default_rng(1).standard_normal(x.shape)
    dx, dw = st.vjp(st.prelu, x, w)[1](g)
    np.testing.assert_array_equal(dx.numpy(), np.where(x > 0, g, w[:, None, None] * g))
    np.testing.assert_allclose(
        dw.numpy(),
        (np.minimum(x, 0) * g).sum((0, 2, 3)),
        rtol=1e-14,
        atol=0 if settings().backend == "numpy" else 1e-14,
    )


def test_prelu_types() -> None:
    x = st.ones((2, 3))
    assert st.prelu(x, 0.25).dtype is st.float32
    assert st.prelu(x, st.ones(3, "float64")).dtype is st.float64
    assert st.prelu(x.astype("bfloat16"), 0.25).dtype is st.bfloat16
    assert st.prelu(x.astype("int32"), 0.25).dtype is st.float32
    assert st.prelu(st.zeros((0, 3)), st.ones(3)).shape == (0, 3)
    low = np.float32([[-1.3, 2.7]]).astype(ml_dtypes.bfloat16)
    wide = st.prelu(low.astype(np.float32), 0.3).numpy()
    assert np.array_equal(st.prelu(low, 0.3).numpy().astype(np.float32)[0, 1:], wide[0, 1:])


def test_prelu_second_derivatives_are_mixed_only() -> None:
    x, w = st.asarray([[-2.0, 3.0]]), st.asarray([0.5, 0.5])
    mixed = st.grad(lambda w: st.sum(st.grad(lambda x: st.sum(st.prelu(x, w)))(x)))(w)
    assert mixed.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_glu_halves_an_axis(axis: int) -> None:
    x = np.random.default_rng(2).standard_normal((4, 6, 2))
    a, b = np.split(x, 2, axis)
    np.testing.assert_allclose(st.glu(x, axis).numpy(), a / (1 + np.exp(-b)), rtol=1e-15)


def test_selections_keep_integers() -> None:
    x = np.array([-5, 0, 9], np.int16)
    for f, want in [
        (st.relu, [0, 0, 9]),
        (st.relu6, [0, 0, 6]),
        (lambda x: st.clip(x, -1, 2), [-1, 0, 2]),
        (lambda x: st.threshold(x, 1, 7), [7, 7, 9]),
    ]:
        y = f(x)
        assert y.dtype is st.int16 and y.tolist() == want


def test_clip_gives_its_limits_the_gradients_of_what_it_cut() -> None:
    x, lo, hi = (st.asarray(v) for v in ([-2.0, 0.5, 3.0], [-1.0] * 3, [1.0] * 3))
    grads = st.grad(lambda x, lo, hi: st.sum(st.clip(x, lo, hi)), (0, 1, 2))(x, lo, hi)
    assert [g.tolist() for g in grads] == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_the_two_formulas_of_gelu_agree_to_three_digits() -> None:
    x = np.linspace(-5, 5, 101)
    gap = st.gelu(x).numpy() - st.gelu(x, approximate="tanh").numpy()
    assert 1e-4 < np.abs(gap).max() < 1e-3


def test_selu_keeps_mean_zero_and_variance_one() -> None:
    y = st.selu(np.random.default_rng(3).standard_normal(400_000)).numpy()
    assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.01


def test_activations_under_jit() -> None:
    x = st.asarray(np.random.default_rng(4).standard_normal(50))
    f = st.jit(lambda x, beta: st.mish(x) + st.softplus(x, 2.0) * beta)
    assert np.array_equal(f(x, 0.5).numpy(), (st.mish(x) + st.softplus(x, 2.0) * 0.5).numpy())
