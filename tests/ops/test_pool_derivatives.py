"""Derivatives of pools to second order, and unpooling."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np
import pytest

import striate as st

Array = np.ndarray[Any, Any]


def signed(x: Array) -> Array:
    """Away from ties and from zero."""
    return np.asarray(np.where(x < 0, x - 0.2, x + 0.2))


POOLS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "max 1d": (lambda x: st.max_pool(x, 3, stride=2, padding=1), (2, 2, 7)),
    "max 2d": (lambda x: st.max_pool(x, (3, 2), stride=(1, 2), dilation=(1, 2)), (1, 2, 5, 6)),
    "max 3d": (lambda x: st.max_pool(x, 2, stride=1, padding=1, ceil_mode=True), (1, 1, 3, 2, 3)),
    "avg 1d": (lambda x: st.avg_pool(x, 3, stride=2, padding=1, ceil_mode=True), (2, 2, 6)),
    "avg 2d": (
        lambda x: st.avg_pool(x, 3, stride=2, padding=[(1, 2), (0, 1)], count_include_pad=False),
        (1, 2, 5, 6),
    ),
    "avg 3d": (lambda x: st.avg_pool(x, 2, dilation=2), (1, 2, 4, 3, 5)),
    "lp 2": (lambda x: st.lp_pool(x, 2, 2, stride=1), (1, 2, 3, 4)),
    "lp 3": (lambda x: st.lp_pool(st.abs(x), 3.0, 2, padding=1), (1, 2, 4, 3)),
    "lp inf": (lambda x: st.lp_pool(x, inf, 2), (1, 2, 6)),
    "adaptive avg": (lambda x: st.adaptive_avg_pool(x, (3, 7)), (1, 2, 5, 4)),
    "adaptive max": (lambda x: st.adaptive_max_pool(x, (3, 7)), (1, 2, 5, 4)),
    "global avg": (st.global_avg_pool, (2, 2, 3, 3)),
    "global max": (st.global_max_pool, (2, 2, 3, 3)),
    "unpool": (lambda x: st.max_unpool(x, np.array([[[4, 1, 1, 0]]]), 2), (1, 1, 4)),
}


@pytest.mark.parametrize("name", POOLS)
def test_derivatives(name: str) -> None:
    """The adjoint identity, and gradients of gradients against differences, in float64."""
    pool, shape = POOLS[name]
    rng = np.random.default_rng(8)
    x, t, u = signed(rng.normal(size=shape)), rng.normal(size=shape), rng.normal(size=shape)
    y, pull = st.vjp(pool, x)
    g = rng.normal(size=y.shape)
    _, forward = st.jvp(pool, (x,), (t,))
    backward = pull(g)[0].numpy()
    np.testing.assert_allclose((forward.numpy() * g).sum(), (t * backward).sum(), rtol=1e-12)

    def energy(x: Any) -> Any:
        return (st.exp(pool(x) * 0.5) * g).sum()

    gradient = st.grad(energy)
    eps = 1e-5

    def slope(f: Callable[[Array], Any]) -> Any:
        return (np.asarray(f(x + eps * t)) - np.asarray(f(x - eps * t))) / (2 * eps)

    np.testing.assert_allclose((gradient(x).numpy() * t).sum(), slope(energy), rtol=1e-7)
    second = st.grad(lambda x: (gradient(x) * u).sum())(x).numpy()
    np.testing.assert_allclose(
        (second * t).sum(), (slope(gradient) * u).sum(), rtol=1e-6, atol=1e-9
    )


def test_the_derivative_goes_to_the_first_of_equals() -> None:
    x = np.ones((1, 1, 4))
    slope = st.grad(lambda x: st.max_pool(x, 3, stride=1).sum())(x)
    assert slope.tolist() == [[[1.0, 1.0, 0.0, 0.0]]]
    for pool in (lambda x: st.adaptive_max_pool(x, 3), lambda x: st.max_pool(x, 2, stride=1)):
        assert st.grad(lambda x, pool=pool: pool(x).sum())(x).tolist() == [[[1.0, 1.0, 1.0, 0.0]]]
    assert st.grad(lambda x: st.global_max_pool(x).sum())(x).tolist() == [[[1.0, 0.0, 0.0, 0.0]]]


def test_the_norm_of_nothing_has_no_slope() -> None:
    x = np.array([[[0.0, 0.0, 3.0, 4.0]]])
    slope = st.grad(lambda x: st.lp_pool(x, 2, 2).sum())(x)
    np.testing.assert_allclose(slope, [[[0.0, 0.0, 0.6, 0.8]]])


def test_pools_in_a_plan() -> None:
    def loss(x: Any) -> Any:
        return (st.max_pool(x, 2) * st.avg_pool(x, 2) + st.adaptive_avg_pool(x, 2)).sum()

    step = st.jit(st.value_and_grad(loss))
    for seed in range(2):
        x = np.random.default_rng(seed).normal(size=(1, 2, 4, 4))
        np.testing.assert_allclose(step(x)[0], loss(x))
    values, indices = st.jit(lambda x: st.max_pool(x, 2, return_indices=True))(x)
    np.testing.assert_array_equal(st.max_unpool(values, indices, 2).sum(), values.sum())


# ---- unpooling -----------------------------------------------------------------------------


def test_unpool_puts_values_back() -> None:
    x = np.random.default_rng(9).normal(size=(2, 3, 7, 5))
    values, indices = st.max_pool(x, (3, 2), stride=(2, 1), padding=1, return_indices=True)
    y = st.max_unpool(values, indices, (3, 2), (2, 1), 1, output_size=(7, 5)).numpy()
    kept = np.zeros_like(x).reshape(2, 3, -1)
    np.put_along_axis(kept, indices.numpy().reshape(2, 3, -1), values.numpy().reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(y, kept.reshape(x.shape))
    whole = st.max_unpool(values, indices, (3, 2), (2, 1), 1, x.shape)
    np.testing.assert_array_equal(whole, y)
    last, last_indices = (np.moveaxis(a.numpy(), 1, -1) for a in (values, indices))
    turned = st.max_unpool(last, last_indices, (3, 2), (2, 1), 1, (2, 7, 5, 3), data_format="NHWC")
    np.testing.assert_array_equal(np.moveaxis(turned.numpy(), -1, 1), y)
    one = st.max_unpool(values[0], indices[0], (3, 2), (2, 1), 1, x.shape[1:])
    np.testing.assert_array_equal(one, y[0])


def test_unpool_one_size_for_all_axes() -> None:
    pair = st.max_pool(np.ones((1, 1, 6, 6)), 2, return_indices=True)
    assert st.max_unpool(*pair, 2, output_size=7).shape == (1, 1, 7, 7)


def test_unpool_same_padding_gives_the_size_back() -> None:
    x = np.random.default_rng(10).normal(size=(1, 1, 8))
    values, indices = st.max_pool(x, 3, stride=2, padding="same", return_indices=True)
    assert st.max_unpool(values, indices, 3, 2, "same").shape == x.shape


def test_unpool_the_last_of_equal_indices_stands() -> None:
    x, index = np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[[5, 0, 5, 5]]])
    assert st.max_unpool(x, index, 2).tolist() == [[[2.0, 0.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0]]]
    slope = st.grad(lambda x: st.max_unpool(x, index, 2).sum())(x)
    assert slope.tolist() == [[[0.0, 1.0, 0.0, 1.0]]]
    lost = np.array([[[nan, 2.0, inf, 4.0]]])
    assert st.max_unpool(lost, index, 2).tolist() == st.max_unpool(x, index, 2).tolist()
    whole = np.array([[[7, 8]]], np.int32)
    assert st.max_unpool(whole, np.array([[[3, 0]]], np.uint8), 2).tolist() == [[[8, 0, 0, 7]]]


@pytest.mark.parametrize("bad", [-1, 8, 2**40])
def test_unpool_index_out_of_range(bad: int) -> None:
    y = st.max_unpool(np.ones((1, 1, 4)), np.array([[[0, bad, 1, 2]]]), 2)
    with pytest.raises(IndexError, match=f"max_unpool: index {bad} is out of range for 8 output"):
        y.numpy()
