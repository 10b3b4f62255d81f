"""DenseNet: Huang et al., "Densely connected convolutional networks" (CVPR 2017).

Every layer of a block reads what all layers before it made. Keys are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate import nn
from striate.core.api import concat
from striate.core.array import Array
from striate.models.parts import initialize
from striate.nn import init


class DenseLayer(nn.Module):
    """A 1x1 convolution to 4 * growth channels and a 3x3 to growth, each after norm and ReLU."""

    def __init__(self, in_channels: int, growth: int, drop_rate: float) -> None:
        wide = 4 * growth
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, wide, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, growth, H, W]"""
        x = self.conv1(self.relu(self.norm1(x)))
        return self.dropout(self.conv2(self.relu(self.norm2(x))))  # type: ignore[no-any-return]


class DenseBlock(nn.Module):
    """Layers `denselayer1`, `denselayer2`, ..., each on the channels of all before it."""

    def __init__(self, layers: int, in_channels: int, growth: int, drop_rate: float) -> None:
        for i in range(layers):
            layer = DenseLayer(in_channels + i * growth, growth, drop_rate)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, C + layers*growth, H, W]"""
        for layer in self.children():
            x = concat([x, layer(x)], axis=1)
        return x


class DenseNet(nn.Module):
    """Stem, dense blocks with transitions that halve channels and sizes, global mean, linear layer.

    Args:
        growth_rate: channels that a layer adds.
        block_config: layers of each block.
        num_init_features: channels of the stem.
        num_classes: of the logits.
        in_channels: C of the images.
        drop_rate: dropout after each layer.
    """

    def __init__(
        self,
        growth_rate: int,
        block_config: Sequence[int],
        num_init_features: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        drop_rate: float = 0.0,
    ) -> None:
        c = num_init_features
        with init.skip():
            features: dict[str, nn.Module] = {
                "conv0": nn.Conv2d(in_channels, c, 7, 2, 3, bias=False),
                "norm0": nn.BatchNorm2d(c),
                "relu0": nn.ReLU(),
                "pool0": nn.MaxPool2d(3, 2, 1),
            }
            for i, layers in enumerate(block_config, start=1):
                features[f"denseblock{i}"] = DenseBlock(layers, c, growth_rate, drop_rate)
                c += layers * growth_rate
                if i < len(block_config):
                    transition = {
                        "norm": nn.BatchNorm2d(c),
                        "relu": nn.ReLU(),
                        "conv": nn.Conv2d(c, c // 2, 1, bias=False),
                        "pool": nn.AvgPool2d(2),
                    }
                    features[f"transition{i}"] = nn.Sequential(transition)
                    c //= 2
            features["norm5"] = nn.BatchNorm2d(c)
            self.features = nn.Sequential(features)
            self.classifier = nn.Linear(c, num_classes)
            self.relu = nn.ReLU()
        initialize(self, init.kaiming_normal_, lambda w: init.fan_in_uniform_(w, w.shape[1]))

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W], H and W at least 29 -> logits f32[N, classes]"""
        x = self.relu(self.features(x))
        return self.classifier(x.mean(axis=(2, 3)))  # type: ignore[no-any-return]


def densenet121(
    num_classes: int = 1000, in_channels: int = 3, *, drop_rate: float = 0.0
) -> DenseNet:
    """DenseNet-121: 8.0 million parameters."""
    return DenseNet(32, (6, 12, 24, 16), 64, num_classes, in_channels, drop_rate=drop_rate)


def densenet169(
    num_classes: int = 1000, in_channels: int = 3, *, drop_rate: float = 0.0
) -> DenseNet:
    """DenseNet-169: 14.1 million parameters."""
    return DenseNet(32, (6, 12, 32, 32), 64, num_classes, in_channels, drop_rate=drop_rate)


def densenet201(
    num_classes: int = 1000, in_channels: int = 3, *, drop_rate: float = 0.0
) -> DenseNet:
    """DenseNet-201: 20.0 million parameters."""
    return DenseNet(32, (6, 12, 48, 32), 64, num_classes, in_channels, drop_rate=drop_rate)
