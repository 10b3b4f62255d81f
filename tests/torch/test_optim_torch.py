"""Every optimizer and schedule against PyTorch over 20 steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import striate as st
from striate import optim

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_twenty_steps(name: str, options: dict[str, Any], compiled: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    start = [rng.normal(size=s).astype(dtype) for s in ((3, 4), (5,))]
    theirs = [torch.tensor(p, requires_grad=True) for p in start]
    ours = [st.asarray(p) for p in start]
    peer = getattr(torch.optim, name)(theirs, **options)
    mine = getattr(optim, name)(ours, **options)
    update = st.jit(lambda *grads: mine.update(list(grads))) if compiled else None
    for _ in range(20):
        grads = [rng.normal(size=p.shape).astype(dtype) for p in start]
        for t, g in zip(theirs, grads, strict=True):
            t.grad = torch.tensor(g)
        peer.step()
        arrays = [st.asarray(g) for g in grads]
        update(*arrays) if update else mine.update(arrays)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for t, p in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(p.numpy(), t.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_parameter_without_gradients_at_first(
    name: str, options: dict[str, Any], compiled: bool
) -> None:
    start = [np.float32([1.0, -2.0]), np.float32([0.5])]
    theirs = [torch.tensor(p, requires_grad=True) for p in start]
    ours = [st.asarray(p) for p in start]
    peer = getattr(torch.optim, name)(theirs, **options)
    mine = getattr(optim, name)(ours, **options)
    update = st.jit(mine.update) if compiled else mine.update
    for i in range(12):
        late = None if i < 7 else np.float32([0.3 + i])
        grads = [np.float32([i - 3.5, 2.0]), late]
        for t, g in zip(theirs, grads, strict=True):
            t.grad = None if g is None else torch.tensor(g)
        peer.step()
        update([None if g is None else st.asarray(g) for g in grads])
        for t, p in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(p.numpy(), t.detach().numpy(), rtol=1e-6, atol=1e-6)
    assert [s["step"].item() for s in mine.state] == [12, 5]


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_bias_correction_is_rounded_once(name: str) -> None:
    """The first step from 0, where no sum hides the rounding of its size: equal to the bit."""
    for lr in np.linspace(1e-4, 0.1, 40).tolist():
        t, p = torch.zeros(1, requires_grad=True), st.zeros(1)
        t.grad = torch.ones(1)
        getattr(torch.optim, name)([t], lr=lr, foreach=False).step()
        getattr(optim, name)([p], lr=lr).update([st.ones(1)])
        assert p.item() == t.item(), lr


def test_groups() -> None:
    a, b = st.asarray([1.0]), st.asarray([1.0])
    ta, tb = torch.tensor([1.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    mine = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    peer = torch.optim.SGD([{"params": [ta]}, {"params": [tb], "lr": 0.5}], lr=0.1)
    ta.grad = tb.grad = torch.ones(1)
    peer.step()
    mine.update([st.ones(1), st.ones(1)])
    assert [a.item(), b.item()] == [ta.item(), tb.item()]


SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 4, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [3, 7, 8], "gamma": 0.3}),
    ("CosineAnnealingLR", {"T_max": 20, "eta_min": 0.01}),
    ("PolynomialLR", {"total_iters": 12, "power": 2.0}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 20}),
]


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_schedules(name: str, options: dict[str, Any]) -> None:
    t = torch.zeros(1, requires_grad=True)
    peer_optimizer = torch.optim.SGD([t], lr=0.1)
    extra = {"cycle_momentum": False} if name == "OneCycleLR" else {}
    peer = getattr(torch.optim.lr_scheduler, name)(peer_optimizer, **options, **extra)
    mine_optimizer = optim.SGD([st.zeros(1)], lr=0.1)
    mine = getattr(optim, name)(mine_optimizer, **options)
    for _ in range(19):
        want = peer_optimizer.param_groups[0]["lr"]
        np.testing.assert_allclose(mine_optimizer.lr, want, rtol=1e-9, atol=1e-12)
        peer_optimizer.step()
        peer.step()
        mine.step()


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clip_grad_norm(limit: float) -> None:
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=(3, 4)), rng.normal(size=5)]
    tensors = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in grads]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.tensor(g)
    norm = torch.nn.utils.clip_grad_norm_(tensors, limit)
    clipped, ours = optim.clip_grad_norm([st.asarray(g) for g in grads], limit)
    np.testing.assert_allclose(ours.item(), norm.item(), rtol=1e-12)
    for mine, t in zip(clipped, tensors, strict=True):
        np.testing.assert_allclose(mine.numpy(), t.grad.numpy(), rtol=1e-12)
