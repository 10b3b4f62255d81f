"""Activations against torch.nn.functional in float64: values, gradients, double gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import striate as st

Fn = Callable[[Any], Any]

PAIRS: dict[str, tuple[Fn, Fn]] = {
    "relu": (st.relu, F.relu),
    "relu6": (st.relu6, F.relu6),
    "leaky_relu": (st.leaky_relu, F.leaky_relu),
    "leaky_relu 0.3": (lambda x: st.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3)),
    "elu": (st.elu, F.elu),
    "elu 1.7": (lambda x: st.elu(x, 1.7), lambda x: F.elu(x, 1.7)),
    "selu": (st.selu, F.selu),
    "celu": (st.celu, F.celu),
    "celu 0.6": (lambda x: st.celu(x, 0.6), lambda x: F.celu(x, 0.6)),
    "gelu": (st.gelu, F.gelu),
    "gelu tanh": (
        lambda x: st.gelu(x, approximate="tanh"),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "sigmoid": (st.sigmoid, F.sigmoid),
    "log_sigmoid": (st.log_sigmoid, F.logsigmoid),
    "silu": (st.silu, F.silu),
    "mish": (st.mish, F.mish),
    "hardswish": (st.hardswish, F.hardswish),
    # F.hardsigmoid has no second derivative, and takes 1/6 in float32.
    "hardsigmoid": (st.hardsigmoid, lambda x: F.relu6(x + 3) / 6),
    "hardtanh": (st.hardtanh, F.hardtanh),
    "hardtanh -2, 0.5": (lambda x: st.hardtanh(x, -2, 0.5), lambda x: F.hardtanh(x, -2, 0.5)),
    "softplus": (st.softplus, F.softplus),
    "softplus 2, 3": (lambda x: st.softplus(x, 2, 3), lambda x: F.softplus(x, 2, 3)),
    "softsign": (st.softsign, F.softsign),
    "tanh": (st.tanh, torch.tanh),
    "tanhshrink": (st.tanhshrink, F.tanhshrink),
    "hardshrink": (st.hardshrink, F.hardshrink),
    "softshrink": (st.softshrink, F.softshrink),
    "threshold": (lambda x: st.threshold(x, 0.5, -3), lambda x: F.threshold(x, 0.5, -3)),
    "glu": (st.glu, F.glu),
    "glu 0": (lambda x: st.glu(x, 0), lambda x: F.glu(x, 0)),
    "clip": (lambda x: st.clip(x, -1, 2), lambda x: x.clamp(-1, 2)),
    "erf": (st.erf, torch.erf),
    "softmax": (st.softmax, lambda x: F.softmax(x, -1)),
    "log_softmax": (st.log_softmax, lambda x: F.log_softmax(x, -1)),
    "logaddexp": (lambda x: st.logaddexp(x, x * x - 1), lambda x: torch.logaddexp(x, x * x - 1)),
    "hypot": (lambda x: st.hypot(x, x * x - 1), lambda x: torch.hypot(x, x * x - 1)),
    "copysign": (lambda x: st.copysign(x * x, x), lambda x: torch.copysign(x * x, x)),
    "prelu": (
        lambda x: st.prelu(x, x[0] * 0.1),
        lambda x: F.prelu(x, x[0] * 0.1),
    ),
}
SPECIAL = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 3, -3, 6, 2, 20, -20, 800, -800])
ROUGH = {PAIRS["celu 0.6"][0]: 1e-6}  # PyTorch rounds 1/alpha to float32, in float64 too
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


@every_pair
def test_to_second_order(pair: tuple[Fn, Fn]) -> None:
    """y, its gradient, and the gradient of a projection of that by x and by the cotangent."""
    ours, theirs = pair
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 8)) * rng.choice([0.1, 1.0, 4.0], size=(6, 8))
    tx = torch.tensor(x, requires_grad=True)
    ty = theirs(tx)
    g, v = rng.normal(size=tuple(ty.shape)), rng.normal(size=x.shape)
    tg = torch.tensor(g, requires_grad=True)
    (tdx,) = torch.autograd.grad(ty, tx, tg, create_graph=True)
    wanted = torch.autograd.grad((tdx * torch.tensor(v)).sum(), (tx, tg), allow_unused=True)
    want = [ty, tdx, *(torch.zeros_like(t) if w is None else w
                       for w, t in zip(wanted, (tx, tg), strict=True))]  # fmt: skip

    def gradient(x: Any, g: Any) -> Any:
        return st.vjp(ours, x)[1](g)[0]

    y = ours(x)
    dx, pull = st.vjp(gradient, x, g)
    rtol = ROUGH.get(ours, 1e-11)
    for got, expected in zip((y, dx, *pull(v)), want, strict=True):
        np.testing.assert_allclose(got.numpy(), expected.detach().numpy(), rtol, atol=1e-13)


@every_pair
def test_values_and_slopes_at_kinks_and_far_out(pair: tuple[Fn, Fn]) -> None:
    ours, theirs = pair
    tx = torch.tensor(SPECIAL[None].repeat(2, 0), requires_grad=True)
    ty = theirs(tx)
    (tdx,) = torch.autograd.grad(ty.sum(), tx)
    y, pull = st.vjp(ours, tx.detach().numpy())
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-13, atol=1e-15)
    (dx,) = pull(np.ones(y.shape))
    np.testing.assert_allclose(dx.numpy(), tdx.numpy(), ROUGH.get(ours, 1e-12), atol=1e-15)


@every_pair
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities(pair: tuple[Fn, Fn], value: float) -> None:
    ours, theirs = pair
    x = np.full((2, 2), value)
    np.testing.assert_array_equal(ours(st.asarray(x)).numpy(), theirs(torch.tensor(x)).numpy())


@every_pair
def test_float32(pair: tuple[Fn, Fn]) -> None:
    ours, theirs = pair
    x = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32) * 3
    y = ours(st.asarray(x))
    assert y.dtype is st.float32
    np.testing.assert_allclose(y.numpy(), theirs(torch.tensor(x)).numpy(), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("shared", [True, False])
def test_prelu(shape: tuple[int, ...], shared: bool) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=shape)
    w = rng.normal(size=1 if shared or len(shape) == 1 else shape[1])
    tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    ty = F.prelu(tx, tw)
    g = rng.normal(size=shape)
    wanted = torch.autograd.grad(ty, (tx, tw), torch.tensor(g))
    y, pull = st.vjp(st.prelu, x, w)
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-14)
    for got, want in zip(pull(g), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)
