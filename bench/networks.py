"""The networks of the benchmarks, written once for striate and for PyTorch.

A builder takes a `Kit`, the names in which the two differ; all else is `kit.nn`, whose names and
arguments are the same. Blocks are small, so that a network is a chain of a few kinds: `Residual`
x + f(x), `Skip` concat(x, f(x)), `Scaled` (squeeze and excitation). What drops at random is left
out, so that both compute the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate import nn

Weights = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Kit:
    """Names that striate and PyTorch do not share.

    Attributes:
        nn: the layers.
        concat: [N, C0, *I], [N, C1, *I] -> [N, C0 + C1, *I].
        permute: (x, axes) -> x with its axes in that order.
        parameter: an array -> a trained parameter.
        norm2d: C -> normalisation over the channels of [N, C, H, W].
    """

    nn: Any
    concat: Callable[[Any, Any], Any]
    permute: Callable[[Any, tuple[int, ...]], Any]
    parameter: Callable[[NDArray[np.float32]], Any]
    norm2d: Callable[[int], Any]


@cache
def striate_kit() -> Kit:
    return Kit(
        nn,
        lambda x, y: st.concat([x, y], axis=1),
        st.permute_dims,
        nn.Parameter,
        nn.LayerNorm2d,
    )


@cache
def torch_kit() -> Kit:
    """Raises ImportError without PyTorch."""
    import torch
    import torch.nn.functional as F

    class LayerNorm2d(torch.nn.LayerNorm):
        def forward(self, x: Any) -> Any:
            y = x.permute(0, 2, 3, 1)  # [n, c, h, w] -> [n, h, w, c]
            y = F.layer_norm(y, self.normalized_shape, self.weight, self.bias, self.eps)
            return y.permute(0, 3, 1, 2)

    return Kit(
        torch.nn,
        lambda x, y: torch.cat([x, y], 1),
        torch.permute,
        lambda x: torch.nn.Parameter(torch.tensor(x)),
        partial(LayerNorm2d, eps=1e-6),
    )


# ---- parts ---------------------------------------------------------------------------------


@cache
def parts(kit: Kit) -> Any:
    """The blocks, as classes over `kit.nn.Module`."""
    nn = kit.nn

    class Residual(nn.Module):
        """last(shortcut(x) + body(x))"""

        def __init__(self, body: Any, shortcut: Any = None, last: Any = None) -> None:
            super().__init__()
            self.body = body
            self.shortcut = shortcut or nn.Identity()
            self.last = last or nn.Identity()

        def forward(self, x: Any) -> Any:
            return self.last(self.shortcut(x) + self.body(x))

    class Skip(nn.Module):
        """concat(x, body(x)) along the channels."""

        def __init__(self, body: Any) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Any) -> Any:
            return kit.concat(x, self.body(x))

    class Scaled(nn.Module):
        """x times a network of its channels' means: squeeze and excitation."""

        def __init__(self, channels: int, squeezed: int, act: Any) -> None:
            super().__init__()
            self.scale = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), act(),
                nn.Conv2d(squeezed, channels, 1), nn.Sigmoid(),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return x * self.scale(x)

    class ChannelsLast(nn.Module):
        """body on [N, H, W, C], times a trained scale per channel."""

        def __init__(self, channels: int, body: Any) -> None:
            super().__init__()
            self.body = body
            self.gamma = kit.parameter(np.full((channels, 1, 1), 1e-6, np.float32))

        def forward(self, x: Any) -> Any:
            y = self.body(kit.permute(x, (0, 2, 3, 1)))  # [n, c, h, w] -> [n, h, w, c]
            return kit.permute(y, (0, 3, 1, 2)) * self.gamma

    return SimpleNamespace(Residual=Residual, Skip=Skip, Scaled=Scaled, ChannelsLast=ChannelsLast)


def conv_norm(
    kit: Kit, c: int, k: int, kernel: int, stride: int = 1, groups: int = 1, act: Any = None
) -> Any:
    """A convolution with padding kernel // 2, batch normalisation, and an activation if any."""
    nn = kit.nn
    conv = nn.Conv2d(c, k, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(k), *([act()] if act else []))


# ---- classifiers: x f32[N, 3, H, W] -> logits f32[N, classes] ------------------------------


def resnet(kit: Kit, depths: tuple[int, ...], bottleneck: bool, classes: int = 1000) -> Any:
    """ResNet v1.5 (He et al. 2016; a bottleneck's stride is in its 3x3)."""
    nn, part = kit.nn, parts(kit)
    norm = partial(conv_norm, kit)
    relu = nn.ReLU
    stages: list[Any] = []
    c = 64
    for i, depth in enumerate(depths):
        width = 64 << i
        k = 4 * width if bottleneck else width
        for j in range(depth):
            stride = 2 if i and not j else 1
            body = (
                [norm(c, width, 1, act=relu), norm(width, width, 3, stride, act=relu),
                 norm(width, k, 1)]
                if bottleneck
                else [norm(c, width, 3, stride, act=relu), norm(width, k, 3)]
            )  # fmt: skip
            shortcut = norm(c, k, 1, stride) if stride > 1 or c != k else None
            stages.append(part.Residual(nn.Sequential(*body), shortcut, relu()))
            c = k
    return nn.Sequential(
        norm(3, 64, 7, 2, act=relu), nn.MaxPool2d(3, 2, 1), *stages,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes),
    )  # fmt: skip


def inverted(
    kit: Kit, c: int, k: int, kernel: int, stride: int, expand: int, act: Any, squeeze: bool
) -> Any:
    """An inverted residual block: wide depthwise between two narrow ends."""
    part, wide = parts(kit), c * expand
    body = [conv_norm(kit, c, wide, 1, act=act)] if expand > 1 else []
    body.append(conv_norm(kit, wide, wide, kernel, stride, wide, act))
    if squeeze:
        body.append(part.Scaled(wide, max(1, c // 4), act))
    chain = kit.nn.Sequential(*body, conv_norm(kit, wide, k, 1))
    return part.Residual(chain) if stride == 1 and c == k else chain


# (expansion, channels, repeats, first stride, kernel)
MOBILENET_V2 = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3),
                (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3))  # fmt: skip
EFFICIENTNET_B0 = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
                   (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip


def mobile(
    kit: Kit, table: tuple[tuple[int, ...], ...], act: str, squeeze: bool, classes: int = 1000
) -> Any:
    """MobileNetV2 (Sandler et al. 2018), EfficientNet-B0 (Tan and Le 2019)."""
    nn = kit.nn
    act_ = getattr(nn, act)
    blocks = [conv_norm(kit, 3, 32, 3, 2, act=act_)]
    c = 32
    for expand, k, repeats, stride, kernel in table:
        for j in range(repeats):
            first = stride if not j else 1
            blocks.append(inverted(kit, c, k, kernel, first, expand, act_, squeeze))
            c = k
    return nn.Sequential(
        *blocks, conv_norm(kit, c, 1280, 1, act=act_),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes),
    )  # fmt: skip


def convnext_t(kit: Kit, classes: int = 1000) -> Any:
    """ConvNeXt-T (Liu et al. 2022), as torchvision writes it."""
    nn, part = kit.nn, parts(kit)
    widths = (96, 192, 384, 768)
    chain = [nn.Conv2d(3, 96, 4, 4), kit.norm2d(96)]
    for i, (c, depth) in enumerate(zip(widths, (3, 3, 9, 3), strict=True)):
        if i:
            chain += [kit.norm2d(widths[i - 1]), nn.Conv2d(widths[i - 1], c, 2, 2)]
        for _ in range(depth):
            mlp = nn.Sequential(
                nn.LayerNorm(c, eps=1e-6), nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c)
            )
            spatial = nn.Conv2d(c, c, 7, padding=3, groups=c)
            chain.append(part.Residual(nn.Sequential(spatial, part.ChannelsLast(c, mlp))))
    return nn.Sequential(
        *chain, nn.AdaptiveAvgPool2d(1), kit.norm2d(768), nn.Flatten(), nn.Linear(768, classes)
    )


# ---- segmentation: x f32[N, C, *I] -> logits f32[N, classes, *I] ---------------------------


def unet(kit: Kit, ndim: int, channels: int, classes: int, widths: tuple[int, ...]) -> Any:
    """U-Net (Ronneberger et al. 2015) in 2-D or 3-D (Cicek et al. 2016), padded, normalised."""
    nn, part = kit.nn, parts(kit)
    conv, norm, pool, up = (
        getattr(nn, f"{n}{ndim}d") for n in ("Conv", "BatchNorm", "MaxPool", "ConvTranspose")
    )

    def double(c: int, k: int) -> list[Any]:
        pair = [(c, k), (k, k)]
        return [
            m for a, b in pair for m in (conv(a, b, 3, padding=1, bias=False), norm(b), nn.ReLU())
        ]

    def level(c: int, i: int) -> Any:
        """[N, c, *I] -> [N, widths[i], *I]"""
        k = widths[i]
        if i + 1 == len(widths):
            return nn.Sequential(*double(c, k))
        below = nn.Sequential(pool(2), level(k, i + 1), up(widths[i + 1], k, 2, 2))
        return nn.Sequential(*double(c, k), part.Skip(below), *double(2 * k, k))

    return nn.Sequential(level(channels, 0), conv(widths[0], classes, 1))


def vgg16(kit: Kit) -> Any:
    """x f32[N, 3, 224, 224] -> logits f32[N, 1000] (Simonyan & Zisserman 2015)."""
    nn = kit.nn
    layers, c = [], 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU()]
            c = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096),
        nn.ReLU(), nn.Linear(4096, 1000),
    )  # fmt: skip


def small(kit: Kit) -> Any:
    """x f32[N, 1, 28, 28] -> logits f32[N, 10]: a graph of three layers."""
    nn = kit.nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1568, 10),
    )  # fmt: skip


# ---- the table -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A row of the benchmarks.

    Attributes:
        build: Kit -> module.
        input: [C, *I] of one sample.
        classes: of its logits; a label per sample, or per position where `dense`.
        train_batches: for a training step.
    """

    build: Callable[[Kit], Any]
    input: tuple[int, ...]
    classes: int = 1000
    dense: bool = False
    train_batches: tuple[int, ...] = (16,)

    def x(self, batch: int) -> NDArray[np.float32]:
        """f32[batch, C, *I]"""
        return np.random.default_rng(1).standard_normal((batch, *self.input), np.float32)

    def labels(self, batch: int) -> NDArray[np.int64]:
        """i64[batch], or i64[batch, *I] where `dense`."""
        shape = (batch, *self.input[1:]) if self.dense else (batch,)
        return np.random.default_rng(2).integers(0, self.classes, shape)


IMAGE = (3, 224, 224)
NETWORKS = {
    "resnet18": Network(partial(resnet, depths=(2, 2, 2, 2), bottleneck=False), IMAGE),
    "resnet50": Network(partial(resnet, depths=(3, 4, 6, 3), bottleneck=True), IMAGE),
    "vgg16": Network(vgg16, IMAGE),
    "mobilenet_v2": Network(
        partial(mobile, table=MOBILENET_V2, act="ReLU6", squeeze=False), IMAGE
    ),
    "efficientnet_b0": Network(
        partial(mobile, table=EFFICIENTNET_B0, act="SiLU", squeeze=True), IMAGE
    ),
    "convnext_t": Network(convnext_t, IMAGE),
    "unet": Network(
        partial(unet, ndim=2, channels=1, classes=2, widths=(64, 128, 256, 512, 1024)),
        (1, 512, 512), 2, True, (1, 2),
    ),
    "unet3d": Network(
        partial(unet, ndim=3, channels=1, classes=3, widths=(16, 32, 64, 128)),
        (1, 64, 64, 64), 3, True, (2,),
    ),
    "small": Network(small, (1, 28, 28), 10),
}  # fmt: skip


# ---- weights -------------------------------------------------------------------------------


def weights(net: Any, seed: int = 0) -> Weights:
    """Values for every entry of a striate module's state, under which signals keep their size
    (He et al. 2015) and normalisation is not the identity.
    """
    rng = np.random.default_rng(seed)
    out: Weights = {}
    for name, old in net.state_dict().items():
        last, shape = name.rsplit(".", 1)[-1], old.shape
        if last == "num_batches_tracked":
            new = np.zeros(shape)
        elif last in ("running_var", "gamma") or (last == "weight" and len(shape) == 1):
            new = rng.uniform(0.5, 1.0, shape)
        elif len(shape) == 1:
            new = 0.1 * rng.standard_normal(shape)
        else:
            new = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        out[name] = new.astype(old.numpy().dtype)
    return out


def striate_network(network: Network) -> Any:
    """The network in striate, with `weights`."""
    net = network.build(striate_kit())
    net.load_state_dict(weights(net))
    return net


def torch_network(network: Network, values: Weights) -> Any:
    """Its twin in PyTorch, with the same weights by name."""
    import torch

    net = network.build(torch_kit())
    net.load_state_dict({k: torch.tensor(v) for k, v in values.items()})
    return net
