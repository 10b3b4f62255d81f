"""Whole trainings by the backend: a loss curve, and two processes of DistributedDataParallel."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from striate.torch_backend import backend


class Block(nn.Module):
    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(c, k, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(k), nn.BatchNorm2d(k)])
        self.down = nn.Conv2d(c, k, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norms[0](self.a(x)))
        return F.relu(self.norms[1](self.b(y)) + self.down(x))


def small_resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), Block(8, 8, 1), Block(8, 16, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 4),
    )  # fmt: skip


def test_the_loss_follows_eager_for_twenty_steps() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    eager = small_resnet()
    ours = copy.deepcopy(eager)
    calls = {"eager": eager, "striate": torch.compile(ours, backend=backend)}
    optimizers = {
        "eager": torch.optim.SGD(eager.parameters(), lr=0.05, momentum=0.9),
        "striate": torch.optim.SGD(ours.parameters(), lr=0.05, momentum=0.9),
    }
    label = torch.randint(4, (16,))
    x = torch.randn(16, 3, 16, 16) + label.view(-1, 1, 1, 1) * 0.5
    curves: dict[str, list[float]] = {"eager": [], "striate": []}
    for which, call in calls.items():
        torch.manual_seed(1)
        for _ in range(20):
            loss = F.cross_entropy(call(x), label)
            optimizers[which].zero_grad()
            loss.backward()
            optimizers[which].step()
            curves[which].append(loss.item())
    assert curves["striate"] == pytest.approx(curves["eager"], rel=0.02, abs=0.01)
    assert curves["striate"][-1] < 0.5 * curves["striate"][0]
    for p, q in zip(eager.buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(q, p, rtol=0.02, atol=0.02)


def test_checkpointed_blocks_are_computed_again_without_the_old_buffers() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    eager = small_resnet().double()
    ours, plain = copy.deepcopy(eager).float(), copy.deepcopy(eager)

    def forward(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        for layer in net.children():
            x = checkpoint(layer, x, use_reentrant=False)
        return x

    call = torch.compile(lambda x: forward(ours, x), backend=backend)
    for _ in range(2):
        x = torch.randn(4, 3, 12, 12)
        for f, given in ((lambda x: forward(eager, x), x.double()), (call, x)):
            torch.manual_seed(1)
            f(given).square().sum().backward()
        plain(x.double())
    for p, q in zip(eager.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(q.grad.double(), p.grad, rtol=1e-3, atol=1e-3)
    for p, q in zip(plain.buffers(), ours.buffers(), strict=True):  # once a step, no more
        torch.testing.assert_close(q.to(p.dtype), p, rtol=1e-4, atol=1e-4)


def _worker(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=Path(folder, "meeting").as_uri(), rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    call = torch.compile(DistributedDataParallel(net), backend=backend)
    x = torch.randn(4, 3, 8, 8)
    for _ in range(2):
        net.zero_grad()
        call(x[rank::2]).square().mean().backward()
    torch.save({n: p.grad for n, p in net.named_parameters()}, Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this PyTorch has no gloo")
def test_two_processes_of_ddp(tmp_path: Path) -> None:
    multiprocessing.spawn(_worker, (str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    x = torch.randn(4, 3, 8, 8)
    net(x).square().mean().backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, p in net.named_parameters():
            torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-5)
