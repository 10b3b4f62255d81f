"""Networks of many kinds, as PyTorch exports them to ONNX: `st.onnx.load` makes of them what
computes the same, at the size of the export and at another.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import striate as st

pytest.importorskip("onnx")


class Of(nn.Module):
    """A network of layers and a function of (itself, inputs)."""

    def __init__(self, function: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *xs: torch.Tensor) -> Any:
        return self.function(self, *xs)


def shuffle(net: Any, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    x = net.a(x).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    a, b = x.chunk(2, 1)
    return torch.cat([a, net.b(b)], 1)


def unet(net: Any, x: torch.Tensor) -> torch.Tensor:
    a = F.relu(net.a(x))
    b = F.relu(net.b(F.max_pool2d(a, 2)))
    return net.out(torch.cat([a, net.up(b)], 1))


def focus(net: Any, x: torch.Tensor) -> torch.Tensor:
    parts = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return F.silu(net.a(torch.cat(parts, 1)))


def yolo(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = net.a(x)
    n, _, h, w = y.shape
    y = y.view(n, 3, 5, h, w).permute(0, 1, 3, 4, 2)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    grid = torch.stack([columns, rows], -1).float()
    xy = (y[..., :2].sigmoid() * 2 - 0.5 + grid) * 8
    wh = (y[..., 2:4].sigmoid() * 2) ** 2 * net.anchors.view(1, 3, 1, 1, 2)
    return torch.cat([xy, wh, y[..., 4:].sigmoid()], -1).reshape(n, -1, 5)


def ssd(net: Any, x: torch.Tensor) -> Any:
    y = net.a(x).permute(0, 2, 3, 1).contiguous()
    return F.softmax(y.view(y.size(0), -1, 4), -1), y.flatten(1)


def wavenet(net: Any, x: torch.Tensor) -> Any:
    y = net.a(F.pad(x, (4, 0)))
    t, g = y.chunk(2, 1)
    return net.out(torch.tanh(t) * torch.sigmoid(g)) + x, F.glu(y, 1)


def attention(net: Any, x: torch.Tensor) -> torch.Tensor:
    n, c, _, _ = x.shape
    t = net.norm(x.flatten(2).transpose(1, 2))
    q, k, v = net.qkv(t).reshape(n, -1, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
    a = (q @ k.transpose(-2, -1) * (c // 2) ** -0.5).softmax(-1)
    return (a @ v).transpose(1, 2).reshape(n, -1, c)


def convnext(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = net.depthwise(x).permute(0, 2, 3, 1)
    y = net.down(F.gelu(net.up(net.norm(y))))
    return x + (y * net.scale).permute(0, 3, 1, 2)


def squeeze_excite(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = net.a(x)
    scale = F.hardsigmoid(net.c(F.relu(net.b(F.adaptive_avg_pool2d(y, 1)))))
    return F.hardswish(y * scale)


def pyramid(net: Any, x: torch.Tensor) -> Any:
    a = net.a(x)
    b = net.b(F.max_pool2d(a, 2))
    return (
        a + F.interpolate(b, size=a.shape[2:], mode="nearest"),
        F.interpolate(b, scale_factor=2.0, mode="bilinear", align_corners=False),
        F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=True),
        F.interpolate(b, scale_factor=1.5, mode="bicubic"),
    )


def atrous(net: Any, x: torch.Tensor) -> torch.Tensor:
    pooled = F.adaptive_avg_pool2d(x, 1)
    whole = F.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([net.a(x), whole], 1).argmax(1)


def best(net: Any, x: torch.Tensor) -> Any:
    values, places = torch.topk(net.a(x).flatten(2), 3, dim=2)
    return values, places, F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)


def style(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = F.relu(net.norm(net.a(F.pad(x, (2, 2, 2, 2), mode="reflect"))))
    return torch.tanh(net.b(y))


def functions(net: Any, x: torch.Tensor) -> Any:
    m = x.mean((2, 3), keepdim=True)
    v = x.var((2, 3), keepdim=True, unbiased=False)
    y = (x - m) / torch.sqrt(v + 1e-5)
    return (
        torch.where(y > 0, y, torch.exp(y) - 1).clamp(-1, 1), y.abs().amax(1), x.norm(dim=1),
        x.roll(1, 3), F.leaky_relu(y, 0.1), F.elu(y), F.softplus(y), F.selu(y), F.silu(y),
        F.log_softmax(y, 1), torch.cumsum(x, 1), x.masked_fill(x > 0.5, 0.0), y.argmax(1),
        x[:, torch.tensor([2, 0])], torch.gather(x, 1, (x > 0).long()), x.repeat(1, 2, 1, 1),
    )  # fmt: skip


CONV = nn.Conv2d
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "classifier": (
        lambda: nn.Sequential(
            CONV(3, 8, 7, 2, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(8, 5),
        ),
        (2, 3, 32, 32),
    ),
    "shuffle": (
        lambda: Of(shuffle, a=CONV(8, 8, 1), b=CONV(4, 4, 3, 1, 1, groups=4)),
        (2, 8, 6, 6),
    ),
    "segmentation": (
        lambda: Of(
            unet,
            a=CONV(2, 4, 3, 1, 1),
            b=CONV(4, 8, 3, 1, 1),
            up=nn.ConvTranspose2d(8, 4, 2, 2),
            out=CONV(8, 2, 1),
        ),
        (1, 2, 16, 16),
    ),
    "focus": (lambda: Of(focus, a=CONV(12, 4, 3, 1, 1)), (1, 3, 16, 16)),
    "detection by a grid": (
        lambda: Of(yolo, a=CONV(3, 15, 3, 8, 1), anchors=nn.Parameter(torch.rand(3, 2) * 20)),
        (2, 3, 64, 64),
    ),
    "detection by rows": (lambda: Of(ssd, a=CONV(3, 16, 3, 2, 1)), (2, 3, 16, 16)),
    "super-resolution": (
        lambda: nn.Sequential(
            CONV(1, 8, 5, 1, 2), nn.PReLU(8), CONV(8, 9, 3, 1, 1), nn.PixelShuffle(3)
        ),
        (1, 1, 10, 12),
    ),
    "unshuffle": (
        lambda: nn.Sequential(nn.PixelUnshuffle(2), CONV(12, 4, 1), nn.PReLU()),
        (1, 3, 8, 8),
    ),
    "style transfer": (
        lambda: Of(
            style, norm=nn.InstanceNorm2d(4, affine=True), a=CONV(3, 4, 5), b=CONV(4, 3, 3, 1, 1)
        ),
        (1, 3, 12, 12),
    ),
    "audio": (
        lambda: Of(wavenet, a=nn.Conv1d(4, 8, 3, dilation=2), out=nn.Conv1d(4, 4, 1)),
        (2, 4, 50),
    ),
    "audio, upsampled": (
        lambda: nn.Sequential(
            nn.ConvTranspose1d(4, 3, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.AvgPool1d(3, 2),
            nn.GroupNorm(3, 3),
        ),
        (2, 4, 20),
    ),
    "attention": (lambda: Of(attention, qkv=nn.Linear(8, 24), norm=nn.LayerNorm(8)), (2, 8, 4, 4)),
    "ConvNeXt": (
        lambda: Of(
            convnext,
            depthwise=CONV(4, 4, 7, 1, 3, groups=4),
            norm=nn.LayerNorm(4),
            up=nn.Linear(4, 16),
            down=nn.Linear(16, 4),
            scale=nn.Parameter(torch.rand(4)),
        ),
        (1, 4, 8, 8),
    ),
    "volumes": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 4, 3, 1, 1),
            nn.BatchNorm3d(4),
            nn.ReLU6(),
            nn.MaxPool3d(2),
            nn.AvgPool3d(2, ceil_mode=True, padding=1),
        ),
        (1, 1, 10, 10, 10),
    ),
    "padding": (
        lambda: nn.Sequential(
            nn.GroupNorm(2, 4),
            nn.ELU(),
            nn.ZeroPad2d(1),
            nn.ReplicationPad2d(1),
            nn.CircularPad2d(1),
            nn.Softmax2d(),
        ),
        (1, 4, 8, 8),
    ),
    "squeeze and excite": (
        lambda: Of(
            squeeze_excite, a=CONV(8, 8, 3, 1, 1, groups=8), b=CONV(8, 4, 1), c=CONV(4, 8, 1)
        ),
        (2, 8, 9, 9),
    ),
    "pyramid": (lambda: Of(pyramid, a=CONV(3, 4, 3, 1, 1), b=CONV(4, 4, 1)), (1, 3, 16, 16)),
    "atrous": (lambda: Of(atrous, a=CONV(3, 3, 3, 1, 6, dilation=6)), (1, 3, 16, 16)),
    "best": (lambda: Of(best, a=CONV(3, 3, 3)), (2, 3, 6, 6)),
    "recurrent": (
        lambda: Of(lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(4, 5, batch_first=True)),
        (2, 7, 4),
    ),
    "functions": (lambda: Of(functions), (2, 4, 5, 6)),
}


def exported(net: nn.Module, x: torch.Tensor) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (x,), file, dynamo=False, opset_version=17, input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    return file.getvalue()


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    original = make().eval()
    net = st.onnx.load(exported(original, torch.randn(shape)))
    with st.config(backend="numpy"):
        for sizes in (shape, (3, *shape[1:])):
            x = torch.randn(sizes)
            with torch.no_grad():
                expected = original(x)
            found = net(x.numpy())
            pairs = (
                [(found, expected)]
                if isinstance(found, st.Array)
                else zip(found, expected, strict=True)
            )
            for y, reference in pairs:
                np.testing.assert_allclose(y.numpy(), reference.numpy(), rtol=1e-4, atol=2e-5)


def test_fine_tuning_is_that_of_the_original() -> None:
    """From the exported network, with the learning rate and loss of PyTorch."""
    torch.manual_seed(0)
    original = nn.Sequential(CONV(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x, y = torch.randn(5, 2, 6, 6), torch.tensor([0, 1, 2, 1, 0])
    net = st.onnx.load(exported(original.eval(), x))
    optimizer = torch.optim.SGD(original.parameters(), lr=0.1, momentum=0.9)
    step = st.train_step(
        net, st.nn.CrossEntropyLoss(), st.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    )
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(original(x), y)
        loss.backward()
        optimizer.step()
        np.testing.assert_allclose(step(x.numpy(), y.numpy()).item(), loss.item(), rtol=1e-4)
    state = net.state_dict()
    for name, value in original.state_dict().items():
        np.testing.assert_allclose(state[name].numpy(), value.numpy(), rtol=1e-3, atol=1e-5)
