"""`torch.compile(backend=striate)` against eager, in float64-referenced accuracy.

An error may be twice eager's plus a tenth of the tolerance 1e-3 of the largest value, as for any
other compiler whose sums have another order.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from striate.torch_backend import backend

SHARE = 1e-4  # a tenth of the tolerance, of the largest value


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Residual(nn.Module):
    def __init__(self, channels: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, stride, 1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.b = nn.Conv2d(channels, channels, 3, 1, 1)
        self.down = nn.Conv2d(channels, channels, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(F.relu(self.norm(self.a(x)), inplace=True))
        y += self.down(x)
        return y.relu_()


class Attention(nn.Module):
    def __init__(self, c: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c)
        self.qkv = nn.Linear(c, 3 * c)
        self.out = nn.Linear(c, c)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        t = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(t).view(n, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        a = torch.einsum("nhqc,nhkc->nhqk", q, k).mul_(0.5).softmax(-1)
        y = F.scaled_dot_product_attention(q, k, v) + a @ v
        y = self.out(y.transpose(1, 2).reshape(n, h * w, c))
        return x + F.gelu(y).mT.reshape(n, c, h, w)


class Resizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect")
        self.up = nn.ConvTranspose2d(4, 3, 3, 2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(self.conv(x))
        small = F.interpolate(y, size=(5, 7), mode="bilinear", align_corners=False)
        back = F.interpolate(small, size=y.shape[-2:], mode="nearest")
        return y * torch.sigmoid(back) + F.adaptive_avg_pool2d(y, (3, 2)).mean()


def head(*layers: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (
        lambda: head(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(8, 6, 3, bias=False), nn.SiLU(), nn.AvgPool2d(2), width=6,
        ),
        (4, 3, 15, 14),
    ),
    "residual": (
        lambda: head(nn.Conv2d(3, 8, 3), Residual(8, 2), Residual(8), width=8),
        (3, 3, 9, 9),
    ),
    "depthwise": (
        lambda: head(
            nn.Conv2d(3, 8, 3, 2), nn.Hardswish(), nn.Conv2d(8, 8, 5, 1, 2, groups=8),
            nn.GroupNorm(2, 8), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.PReLU(8), width=8,
        ),
        (2, 3, 13, 13),
    ),
    "attention": (
        lambda: head(nn.Conv2d(3, 8, 4, 4), Attention(), Attention(), width=8),
        (2, 3, 12, 12),
    ),
    "resizes": (Resizes, (2, 3, 6, 5)),
    "one axis": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 8, 5, dilation=2), nn.InstanceNorm1d(8, affine=True), nn.ELU(),
            nn.MaxPool1d(2), nn.Conv1d(8, 4, 3, groups=2), nn.Tanh(),
        ),
        (2, 3, 24),
    ),
    "three axes": (
        lambda: nn.Sequential(
            nn.Conv3d(2, 4, 3, (1, 2, 2), 1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2),
            nn.Conv3d(4, 4, 1), nn.AvgPool3d(2),
        ),
        (2, 2, 5, 8, 9),
    ),
}  # fmt: skip


def step(
    net: nn.Module, call: Callable[..., torch.Tensor], x: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The output, all gradients and all buffers of one step of training."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = call(x)
    weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
    (y * weight.to(y.dtype)).sum().backward()
    found = {"y": y.detach(), "x": x.grad}
    found |= {n: p.grad for n, p in net.named_parameters()}
    found |= {n: b.clone() for n, b in net.named_buffers()}
    return {n: t for n, t in found.items() if t is not None}


def assert_as_eager(ours: Any, eager: Any, exact: Any) -> None:
    for name, reference in exact.items():
        assert ours[name].shape == reference.shape, name
        assert ours[name].dtype == eager[name].dtype, name
        wide = ours[name].double()
        error = (wide - reference).abs().max().item()
        allowed = 2 * (eager[name].double() - reference).abs().max().item()
        allowed += SHARE * max(reference.abs().max().item(), 1e-2)
        assert error <= allowed, f"{name}: {error} > {allowed}"


def compare(net: nn.Module, x: torch.Tensor) -> None:
    """One step by the backend, by eager, and in float64."""
    ours, wide = copy.deepcopy(net), copy.deepcopy(net).double()
    found = step(ours, torch.compile(ours, backend=backend), x)
    eager = step(net, net, x)
    exact = step(wide, wide, x.double())
    assert_as_eager(found, eager, exact)
    assert found["y"].stride() == eager["y"].stride()


@pytest.mark.parametrize("name", NETS)
def test_a_step_of_training(name: str) -> None:
    make, shape = NETS[name]
    compare(make(), torch.randn(shape))


@pytest.mark.parametrize("name", ["residual", "resizes"])
def test_channels_last(name: str) -> None:
    make, shape = NETS[name]
    net = make().to(memory_format=torch.channels_last)
    compare(net, torch.randn(shape).to(memory_format=torch.channels_last))


@pytest.mark.parametrize("name", ["depthwise", "one axis"])
def test_inference(name: str) -> None:
    make, shape = NETS[name]
    net = make().eval()
    x = torch.randn(shape)
    with torch.no_grad():
        y = torch.compile(net, backend=backend)(x)
        torch.testing.assert_close(y, net(x), rtol=1e-4, atol=1e-5)


def test_the_name_of_the_backend() -> None:
    found = {e.name: e for e in entry_points(group="torch_dynamo_backends")}
    assert found["striate"].load() is backend
    net = nn.Conv2d(3, 4, 3)
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(torch.compile(net, backend="striate")(x), net(x))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dropout_draws_what_it_draws_eagerly(layout: torch.memory_format) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.3), nn.ReLU(), nn.Dropout2d(0.5))
    net = net.to(memory_format=layout)
    x = torch.randn(2, 3, 8, 9).to(memory_format=layout)
    call = torch.compile(net, backend=backend)
    found = []
    for f in (call, net, call):
        torch.manual_seed(3)
        found.append(f(x))
    torch.testing.assert_close(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], call(x))


def test_the_batch_size_may_change() -> None:
    net = head(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), width=8)
    ours = copy.deepcopy(net)
    call = torch.compile(ours, backend=backend, dynamic=True)
    torch._dynamo.config.error_on_recompile, before = True, torch._dynamo.config.error_on_recompile
    try:
        for n in (2, 5, 3, 8):
            x = torch.randn(n, 3, 8, 8)
            for p in (*net.parameters(), *ours.parameters()):
                p.grad = None
            y, z = net(x), call(x)
            torch.testing.assert_close(z, y)
            y.square().sum().backward()
            z.square().sum().backward()
            for p, q in zip(net.parameters(), ours.parameters(), strict=True):
                torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-4)
    finally:
        torch._dynamo.config.error_on_recompile = before


def test_what_striate_has_not_runs_in_pytorch(caplog: pytest.LogCaptureFixture) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(x, x.new_ones(4, 3, 3, 3))
        z = torch.special.bessel_j0(y.view(2, -1)).view_as(y)
        return torch.fft.rfft(z.relu()).abs() + 1

    x = torch.randn(2, 3, 6, 6)
    with caplog.at_level(logging.WARNING, "striate.torch"):
        torch.testing.assert_close(torch.compile(f, backend=backend)(x), f(x))
    lines = [r.getMessage() for r in caplog.records if r.name == "striate.torch"]
    assert len(lines) == 1
    assert "special_bessel_j0" in lines[0]


def test_views_mutation_and_aliases() -> None:
    def f(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = F.conv2d(x, w)
        x.mul_(2)
        y[:, 0] = 1
        v = y[:, 1:, ::2]
        v.add_(1)
        return y, v, x, x[0], y.expand(3, *y.shape), torch.zeros(2)

    call = torch.compile(f, backend=backend)
    w = torch.randn(4, 3, 2, 2)
    x = torch.randn(2, 3, 6, 6)
    a, b = x.clone(), x.clone()
    for y, z in zip(f(a, w), call(b, w), strict=True):
        torch.testing.assert_close(z, y)
        assert z.stride() == y.stride()
    torch.testing.assert_close(b, a)
    y, v, same, row, *_, zeros = call(b, w)
    assert same is b
    row.zero_()
    assert not b[0].any()
    v.zero_()
    assert not y[:, 1:, ::2].any()
    zeros.add_(1)  # what a plan always gives is not the plan's own
    assert not call(b, w)[-1].any()


def test_autocast() -> None:
    net = head(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), width=8)
    ours = copy.deepcopy(net)
    call = torch.compile(ours, backend=backend)
    x = torch.randn(4, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y, z = net(x), call(x)
    assert z.dtype is y.dtype is torch.bfloat16
    torch.testing.assert_close(z, y, rtol=0.05, atol=0.05)
    y.float().square().sum().backward()
    z.float().square().sum().backward()
    for p, q in zip(net.parameters(), ours.parameters(), strict=True):
        error = (p.grad - q.grad).norm() / p.grad.norm().clamp(min=1e-2)
        assert error < 0.05


def test_frozen_parameters() -> None:
    net = head(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), width=8).eval()
    call = torch.compile(net, backend=backend, options={"freeze": True})
    plain = torch.compile(copy.deepcopy(net), backend=backend)
    with torch.no_grad():
        for _ in range(4):
            x = torch.randn(2, 3, 8, 8)
            torch.testing.assert_close(call(x), net(x))
            torch.testing.assert_close(plain(x), net(x))


def test_parameters_may_change_behind_the_version_counter() -> None:
    net = nn.Conv2d(3, 8, 3).eval()
    call = torch.compile(net, backend=backend)
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        for _ in range(4):
            torch.testing.assert_close(call(x), net(x))
            net.weight.data.mul_(2)


def test_an_unknown_option() -> None:
    call = torch.compile(nn.ReLU(), backend=backend, options={"fast": True})
    with pytest.raises(Exception, match="no option 'fast'"):
        call(torch.ones(2))
