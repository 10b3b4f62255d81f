"""Runs of a network that follow the branches of another at every kink."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from striate.torch_backend import backend

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def branches() -> ModuleType:
    spec = importlib.util.spec_from_file_location("torch_branches", TOOLS / "torch_branches.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    spec.loader.exec_module(module)
    return module


def kinked() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3),
        nn.LeakyReLU(0.1), nn.ReLU6(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(),
        nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip


def gradients(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    net(x).square().sum().backward()
    return [p.grad for p in net.parameters() if p.grad is not None]


def test_one_branch_has_one_gradient(branches: ModuleType) -> None:
    torch.manual_seed(0)
    net = kinked().double()
    x = torch.randn(2, 3, 10, 10, dtype=torch.float64)
    plain = gradients(copy.deepcopy(net), x)
    recorded = branches.Branches()
    with recorded.run():
        first = gradients(copy.deepcopy(net), x)
    assert len(recorded.taken) == 11
    torch.testing.assert_close(first, plain)

    wide = copy.deepcopy(net)
    ours = copy.deepcopy(net).float()
    moved = x + 0.1 * torch.randn_like(x)  # by which many values cross a kink
    with recorded.run():
        followed = gradients(wide, moved)
    torch._dynamo.reset()
    with recorded.run():
        compiled = torch.compile(ours, backend=backend)
        compiled(moved.float()).square().sum().backward()
    for p, q in zip(ours.parameters(), followed, strict=True):
        torch.testing.assert_close(p.grad.double(), q, rtol=1e-4, atol=1e-4)
    crossed = gradients(copy.deepcopy(net), moved)
    assert any(not torch.allclose(a, b, rtol=1e-2) for a, b in zip(crossed, followed, strict=True))
    assert F.relu.__module__ == "torch.nn.functional"


def test_following_needs_the_same_calls(branches: ModuleType) -> None:
    recorded = branches.Branches()
    with recorded.run():
        F.relu(torch.randn(3))
    with pytest.raises(IndexError), recorded.run():
        F.relu(F.relu(torch.randn(3)))
