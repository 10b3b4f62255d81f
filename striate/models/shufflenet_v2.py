"""ShuffleNetV2: Ma et al., "Practical guidelines for efficient CNN design" (ECCV 2018).

A block works on half of the channels and interleaves both halves. Keys are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate import nn
from striate.core.api import flatten, stack
from striate.core.array import Array
from striate.models.parts import ConvNorm, initialize
from striate.nn import init

REPEATS = (4, 8, 4)


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class Block(nn.Module):
    """1x1, depthwise 3x3, 1x1 on half of the channels; where it strides, on all, in both halves."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        half = out_channels // 2
        self.split = stride == 1
        self.branch1 = (
            nn.Sequential()
            if self.split
            else nn.Sequential(*_depthwise(in_channels, stride), *ConvNorm(in_channels, half, 1))
        )
        self.branch2 = nn.Sequential(
            *ConvNorm(half if self.split else in_channels, half, 1),
            *_depthwise(half, stride),
            *ConvNorm(half, half, 1),
        )

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, K, H/stride, W/stride]"""
        half = x.shape[1] // 2
        left, right = (x[:, :half], x[:, half:]) if self.split else (x, x)
        pairs = stack([self.branch1(left), self.branch2(right)], axis=2)  # [n, half, 2, h, w]
        return flatten(pairs, 1, 2)


class ShuffleNetV2(nn.Module):
    """Stem, pooling, three stages, 1x1 convolution, global mean, one linear layer.

    Args:
        widths: channels of the three stages and of the last convolution.
        num_classes: of the logits.
        in_channels: C of the images.
    """

    def __init__(
        self, widths: Sequence[int], num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        *stages, last = widths
        with init.skip():
            self.conv1 = ConvNorm(in_channels, 24, 3, 2)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            c = 24
            for stage, (k, repeats) in enumerate(zip(stages, REPEATS, strict=True), start=2):
                rest = (Block(k, k, 1) for _ in range(repeats - 1))
                setattr(self, f"stage{stage}", nn.Sequential(Block(c, k, 2), *rest))
                c = k
            self.conv5 = ConvNorm(c, last, 1)
            self.fc = nn.Linear(last, num_classes)
        initialize(self)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> logits f32[N, classes]"""
        x = self.stage4(self.stage3(self.stage2(self.maxpool(self.conv1(x)))))
        return self.fc(self.conv5(x).mean(axis=(2, 3)))  # type: ignore[no-any-return]


def shufflenet_v2_x0_5(num_classes: int = 1000, in_channels: int = 3) -> ShuffleNetV2:
    """ShuffleNetV2 of half the width: 1.4 million parameters."""
    return ShuffleNetV2((48, 96, 192, 1024), num_classes, in_channels)


def shufflenet_v2_x1_0(num_classes: int = 1000, in_channels: int = 3) -> ShuffleNetV2:
    """ShuffleNetV2: 2.3 million parameters."""
    return ShuffleNetV2((116, 232, 464, 1024), num_classes, in_channels)


def shufflenet_v2_x1_5(num_classes: int = 1000, in_channels: int = 3) -> ShuffleNetV2:
    """ShuffleNetV2, 1.5 times as wide: 3.5 million parameters."""
    return ShuffleNetV2((176, 352, 704, 1024), num_classes, in_channels)


def shufflenet_v2_x2_0(num_classes: int = 1000, in_channels: int = 3) -> ShuffleNetV2:
    """ShuffleNetV2, twice as wide: 7.4 million parameters."""
    return ShuffleNetV2((244, 488, 976, 2048), num_classes, in_channels)
