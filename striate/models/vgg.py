"""VGG: Simonyan and Zisserman, "Very deep convolutional networks" (ICLR 2015). Keys: torchvision's.

The names count the layers with weights; `_bn` has batch normalisation after each convolution.
"""

from __future__ import annotations

from functools import partial

from striate import nn
from striate.core.api import flatten
from striate.core.array import Array
from striate.models.parts import initialize
from striate.nn import init

WIDTHS = (64, 128, 256, 512, 512)
REPEATS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each before a pooling, and three linear layers.

    Args:
        repeats: convolutions of each stage.
        batch_norm: whether each is normalised.
        num_classes: of the logits.
        in_channels: C of the images.
        dropout: before the last two linear layers.
    """

    def __init__(
        self,
        repeats: tuple[int, ...],
        batch_norm: bool,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        dropout: float = 0.5,
    ) -> None:
        with init.skip():
            layers: list[nn.Module] = []
            c = in_channels
            for k, repeat in zip(WIDTHS, repeats, strict=True):
                for _ in range(repeat):
                    layers.append(nn.Conv2d(c, k, 3, padding=1))
                    layers += [nn.BatchNorm2d(k)] if batch_norm else []
                    layers.append(nn.ReLU())
                    c = k
                layers.append(nn.MaxPool2d(2))
            self.features = nn.Sequential(*layers)
            self.avgpool = nn.AdaptiveAvgPool2d(7)
            self.classifier = nn.Sequential(
                nn.Linear(c * 49, 4096), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(4096, num_classes),
            )  # fmt: skip
        conv = partial(init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
        initialize(self, conv, partial(init.normal_, std=0.01))

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W], H and W at least 32 -> logits f32[N, classes]"""
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))  # type: ignore[no-any-return]


def vgg11(num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-11: 132.9 million parameters."""
    return VGG(REPEATS[11], False, num_classes, in_channels, dropout=dropout)


def vgg11_bn(num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-11 with batch normalisation."""
    return VGG(REPEATS[11], True, num_classes, in_channels, dropout=dropout)


def vgg13(num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-13: 133.0 million parameters."""
    return VGG(REPEATS[13], False, num_classes, in_channels, dropout=dropout)


def vgg13_bn(num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-13 with batch normalisation."""
    return VGG(REPEATS[13], True, num_classes, in_channels, dropout=dropout)


def vgg16(num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-16: 138.4 million parameters."""
    return VGG(REPEATS[16], False, num_classes, in_channels, dropout=dropout)


def vgg16_bn(num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-16 with batch normalisation."""
    return VGG(REPEATS[16], True, num_classes, in_channels, dropout=dropout)


def vgg19(num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-19: 143.7 million parameters."""
    return VGG(REPEATS[19], False, num_classes, in_channels, dropout=dropout)


def vgg19_bn(num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-19 with batch normalisation."""
    return VGG(REPEATS[19], True, num_classes, in_channels, dropout=dropout)
