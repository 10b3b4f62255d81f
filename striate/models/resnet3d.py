"""Residual networks on video: Tran et al., "A closer look at spatiotemporal convolutions" (2018).

R3D convolves over time and space, MC3 over time in the first stage only, R(2+1)D over space and
then over time. Keys are torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from striate import nn
from striate.core.api import flatten
from striate.core.array import Array
from striate.models.parts import initialize
from striate.nn import init
from striate.ops.convolution import Ints

Filter = Callable[[int, int, int, int], nn.Module]  # (C, K, channels between, stride)


def _conv(c: int, k: int, kernel: Ints, stride: Ints, padding: Ints) -> nn.Module:
    conv: nn.Module = nn.Conv3d(c, k, kernel, stride, padding, bias=False)
    return conv


def full(c: int, k: int, between: int, stride: int) -> nn.Module:
    """3x3x3."""
    return _conv(c, k, 3, stride, (1, 1, 1))


def spatial(c: int, k: int, between: int, stride: int) -> nn.Module:
    """1x3x3: time is left alone."""
    return _conv(c, k, (1, 3, 3), (1, stride, stride), (0, 1, 1))


def factored(c: int, k: int, between: int, stride: int) -> nn.Module:
    """1x3x3 and then 3x1x1, with as many weights as 3x3x3."""
    return nn.Sequential(
        _conv(c, between, (1, 3, 3), (1, stride, stride), (0, 1, 1)),
        nn.BatchNorm3d(between),
        nn.ReLU(),
        _conv(between, k, (3, 1, 1), (stride, 1, 1), (1, 0, 0)),
    )


class Block(nn.Module):
    """relu(shortcut(x) + two filters of x)."""

    def __init__(self, in_channels: int, planes: int, filter: Filter, stride: int) -> None:
        c, k = in_channels, planes
        between = 27 * c * k // (9 * c + 3 * k)
        self.conv1 = nn.Sequential(filter(c, k, between, stride), nn.BatchNorm3d(k), nn.ReLU())
        self.conv2 = nn.Sequential(filter(k, k, between, 1), nn.BatchNorm3d(k))
        self.relu = nn.ReLU()
        step = (1, stride, stride) if filter is spatial else stride
        fits = c == k and stride == 1
        self.downsample = (
            None if fits else nn.Sequential(nn.Conv3d(c, k, 1, step, bias=False), nn.BatchNorm3d(k))
        )

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, T, H, W] -> f32[N, planes, T', H/stride, W/stride]"""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.conv2(self.conv1(x)) + shortcut)  # type: ignore[no-any-return]


class VideoResNet(nn.Module):
    """Stem, four stages of two residual blocks, global mean, one linear layer.

    Args:
        filters: of the four stages.
        stem: its layers.
        num_classes: of the logits.
    """

    def __init__(
        self, filters: Sequence[Filter], stem: Sequence[nn.Module], num_classes: int
    ) -> None:
        with init.skip():
            self.stem = nn.Sequential(*stem)
            c = 64
            for i, filter in enumerate(filters):
                k = 64 << i
                blocks = (Block(c, k, filter, 2 if i else 1), Block(k, k, filter, 1))
                setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
                c = k
            self.avgpool = nn.AdaptiveAvgPool3d(1)
            self.fc = nn.Linear(c, num_classes)
        conv = partial(init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
        initialize(self, conv, partial(init.normal_, std=0.01))

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, T, H, W] -> logits f32[N, classes]"""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


def _stem(in_channels: int) -> list[nn.Module]:
    conv = _conv(in_channels, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3))
    return [conv, nn.BatchNorm3d(64), nn.ReLU()]


def r3d_18(num_classes: int = 400, in_channels: int = 3) -> VideoResNet:
    """R3D-18: 33.4 million parameters."""
    return VideoResNet([full] * 4, _stem(in_channels), num_classes)


def mc3_18(num_classes: int = 400, in_channels: int = 3) -> VideoResNet:
    """MC3-18: 11.7 million parameters."""
    return VideoResNet([full, spatial, spatial, spatial], _stem(in_channels), num_classes)


def r2plus1d_18(num_classes: int = 400, in_channels: int = 3) -> VideoResNet:
    """R(2+1)D-18: 31.5 million parameters."""
    stem = [
        _conv(in_channels, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3)),
        nn.BatchNorm3d(45),
        nn.ReLU(),
        _conv(45, 64, (3, 1, 1), 1, (1, 0, 0)),
        nn.BatchNorm3d(64),
        nn.ReLU(),
    ]
    return VideoResNet([factored] * 4, stem, num_classes)
