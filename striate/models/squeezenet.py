"""SqueezeNet: Iandola et al., "AlexNet-level accuracy with 50x fewer parameters" (2016).

Version 1.1 of the authors' repository. Keys are torchvision's.
"""

from __future__ import annotations

from functools import partial

from striate import nn
from striate.core.api import concat, flatten
from striate.core.array import Array
from striate.models.parts import initialize
from striate.nn import init


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 to many, side by side."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, 2*expanded, H, W]"""
        x = self.relu(self.squeeze(x))
        return concat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], axis=1)


class SqueezeNet(nn.Module):
    """Fire modules between three poolings, a convolution to the classes, their means.

    Args:
        num_classes: of the logits.
        in_channels: C of the images.
        dropout: before the last convolution.
    """

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5
    ) -> None:
        pool = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
        with init.skip():
            last = nn.Conv2d(512, num_classes, 1)
            self.features = nn.Sequential(
                nn.Conv2d(in_channels, 64, 3, 2), nn.ReLU(), pool(),
                Fire(64, 16, 64), Fire(128, 16, 64), pool(),
                Fire(128, 32, 128), Fire(256, 32, 128), pool(),
                Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
            )  # fmt: skip
            self.classifier = nn.Sequential(
                nn.Dropout(dropout), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1)
            )
        initialize(self, init.kaiming_uniform_)
        init.normal_(last.weight, std=0.01)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W], H and W at least 17 -> logits f32[N, classes]"""
        return flatten(self.classifier(self.features(x)), 1)


def squeezenet1_1(
    num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5
) -> SqueezeNet:
    """SqueezeNet 1.1: 1.2 million parameters."""
    return SqueezeNet(num_classes, in_channels, dropout=dropout)
