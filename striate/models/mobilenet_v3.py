"""MobileNetV3: Howard et al., "Searching for MobileNetV3" (ICCV 2019). Keys: torchvision's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from striate import nn
from striate.core.api import flatten
from striate.core.array import Array
from striate.models.parts import ConvNorm, InvertedResidual, initialize, make_divisible
from striate.nn import init


class Row(NamedTuple):
    """A block of the paper's tables 1 and 2; `hard` is hard swish instead of ReLU."""

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    hard: bool
    stride: int


LARGE = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
    Row(5, 960, 160, True, True, 1),
)
SMALL = (
    Row(3, 16, 16, True, False, 2),
    Row(3, 72, 24, False, False, 2),
    Row(3, 88, 24, False, False, 1),
    Row(5, 96, 40, True, True, 2),
    Row(5, 240, 40, True, True, 1),
    Row(5, 240, 40, True, True, 1),
    Row(5, 120, 48, True, True, 1),
    Row(5, 144, 48, True, True, 1),
    Row(5, 288, 96, True, True, 2),
    Row(5, 576, 96, True, True, 1),
    Row(5, 576, 96, True, True, 1),
)


class MobileNetV3(nn.Module):
    """Stem, inverted residuals, 1x1 convolution, global mean, two linear layers.

    Args:
        rows: the blocks.
        last: features between the linear layers.
        num_classes: of the logits.
        in_channels: C of the images.
        width_mult: factor of all widths.
        dropout: before the last layer.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        last: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        width_mult: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        def wide(channels: int) -> int:
            return make_divisible(channels * width_mult)

        def squeeze(channels: int) -> nn.SqueezeExcite:
            inner = make_divisible(channels // 4)
            return nn.SqueezeExcite(channels, inner, scale_activation=nn.Hardsigmoid)

        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        end = partial(ConvNorm, norm=norm, activation=nn.Hardswish)
        c = wide(16)
        with init.skip():
            features: list[nn.Module] = [end(in_channels, c, 3, 2)]
            for row in rows:
                features.append(
                    InvertedResidual(
                        c,
                        wide(row.channels),
                        wide(row.expanded),
                        row.kernel,
                        row.stride,
                        squeeze=squeeze if row.squeeze else None,
                        norm=norm,
                        activation=nn.Hardswish if row.hard else nn.ReLU,
                    )
                )
                c = wide(row.channels)
            features.append(end(c, 6 * c, 1))
            self.features = nn.Sequential(*features)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(
                nn.Linear(6 * c, wide(last)), nn.Hardswish(), nn.Dropout(dropout),
                nn.Linear(wide(last), num_classes),
            )  # fmt: skip
        conv = partial(init.kaiming_normal_, mode="fan_out")
        initialize(self, conv, partial(init.normal_, std=0.01))

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> logits f32[N, classes]"""
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))  # type: ignore[no-any-return]


def mobilenet_v3_large(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_mult: float = 1.0,
    dropout: float = 0.2,
) -> MobileNetV3:
    """MobileNetV3-Large: 5.5 million parameters."""
    return MobileNetV3(
        LARGE, 1280, num_classes, in_channels, width_mult=width_mult, dropout=dropout
    )


def mobilenet_v3_small(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_mult: float = 1.0,
    dropout: float = 0.2,
) -> MobileNetV3:
    """MobileNetV3-Small: 2.5 million parameters."""
    return MobileNetV3(
        SMALL, 1024, num_classes, in_channels, width_mult=width_mult, dropout=dropout
    )
