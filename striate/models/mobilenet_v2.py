"""MobileNetV2: Sandler et al., "Inverted residuals and linear bottlenecks" (CVPR 2018).

Keys are torchvision's.
"""

from __future__ import annotations

from functools import partial

from striate import nn
from striate.core.array import Array
from striate.models.parts import ConvNorm, initialize, make_divisible
from striate.nn import init

# expansion, channels, blocks, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class Block(nn.Module):
    """An inverted residual: 1x1 to `expansion` times the channels, depthwise 3x3, 1x1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        wide = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNorm(in_channels, wide, 1, activation=nn.ReLU6))
        layers += [
            ConvNorm(wide, wide, 3, stride, wide, activation=nn.ReLU6),
            nn.Conv2d(wide, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, K, H/stride, W/stride]"""
        y = self.conv(x)
        return x + y if self.residual else y  # type: ignore[no-any-return]


class MobileNetV2(nn.Module):
    """Stem, seventeen inverted residuals, 1x1 convolution, global mean, one linear layer.

    Args:
        num_classes: of the logits.
        in_channels: C of the images.
        width_mult: factor of all widths.
        dropout: before the last layer.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        width_mult: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        c = make_divisible(32 * width_mult)
        last = make_divisible(1280 * max(1.0, width_mult))
        with init.skip():
            features: list[nn.Module] = [ConvNorm(in_channels, c, 3, 2, activation=nn.ReLU6)]
            for expansion, channels, blocks, stride in STAGES:
                k = make_divisible(channels * width_mult)
                for i in range(blocks):
                    features.append(Block(c, k, 1 if i else stride, expansion))
                    c = k
            features.append(ConvNorm(c, last, 1, activation=nn.ReLU6))
            self.features = nn.Sequential(*features)
            self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        conv = partial(init.kaiming_normal_, mode="fan_out")
        initialize(self, conv, partial(init.normal_, std=0.01))

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> logits f32[N, classes]"""
        return self.classifier(self.features(x).mean(axis=(2, 3)))  # type: ignore[no-any-return]


def mobilenet_v2(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_mult: float = 1.0,
    dropout: float = 0.2,
) -> MobileNetV2:
    """MobileNetV2: 3.5 million parameters.

    >>> st.models.mobilenet_v2(7, width_mult=0.25)(st.ones((2, 3, 32, 32))).shape
    (2, 7)
    """
    return MobileNetV2(num_classes, in_channels, width_mult=width_mult, dropout=dropout)
