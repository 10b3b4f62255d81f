"""EfficientNet: Tan and Le, "Rethinking model scaling" (ICML 2019). Keys: torchvision's.

B1 to B7 are B0 with wider and deeper stages, for larger images.
"""

from __future__ import annotations

from functools import partial
from math import ceil, sqrt
from typing import Any, NamedTuple

from striate import nn
from striate.core.api import flatten
from striate.core.array import Array
from striate.models.parts import ConvNorm, InvertedResidual, Maker, initialize, make_divisible
from striate.nn import init

# expansion, kernel, stride of the first, channels, blocks
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class Scale(NamedTuple):
    """How a member of the family differs from B0."""

    width: float
    depth: float
    dropout: float
    norm: Maker = nn.BatchNorm2d


_SLOW = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
SCALES = (
    Scale(1.0, 1.0, 0.2),
    Scale(1.0, 1.1, 0.2),
    Scale(1.1, 1.2, 0.3),
    Scale(1.2, 1.4, 0.3),
    Scale(1.4, 1.8, 0.4),
    Scale(1.6, 2.2, 0.4, _SLOW),
    Scale(1.8, 2.6, 0.5, _SLOW),
    Scale(2.0, 3.1, 0.5, _SLOW),
)


class EfficientNet(nn.Module):
    """Stem, seven stages of inverted residuals, 1x1 convolution, global mean, one linear layer.

    Args:
        scale: the member of the family.
        num_classes: of the logits.
        in_channels: C of the images.
        dropout: before the last layer; None for the member's own.
        stochastic_depth_prob: how likely the last block is left out for a sample; it grows
            linearly from 0 at the first.
    """

    def __init__(
        self,
        scale: Scale,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        dropout: float | None = None,
        stochastic_depth_prob: float = 0.2,
    ) -> None:
        chain = partial(ConvNorm, norm=scale.norm, activation=nn.SiLU)
        c = make_divisible(32 * scale.width)
        depths = [ceil(blocks * scale.depth) for *_, blocks in STAGES]
        done, total = 0, sum(depths)
        with init.skip():
            features: list[nn.Module] = [chain(in_channels, c, 3, 2)]
            for (expansion, kernel, stride, channels, _), depth in zip(STAGES, depths, strict=True):
                k = make_divisible(channels * scale.width)
                stage = []
                for i in range(depth):
                    stage.append(
                        InvertedResidual(
                            c,
                            k,
                            make_divisible(c * expansion),
                            kernel,
                            1 if i else stride,
                            squeeze=partial(
                                nn.SqueezeExcite,
                                squeeze_channels=max(1, c // 4),
                                activation=nn.SiLU,
                            ),
                            norm=scale.norm,
                            activation=nn.SiLU,
                            drop_prob=stochastic_depth_prob * done / total,
                        )
                    )
                    c = k
                    done += 1
                features.append(nn.Sequential(*stage))
            features.append(chain(c, 4 * c, 1))
            self.features = nn.Sequential(*features)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(
                nn.Dropout(scale.dropout if dropout is None else dropout),
                nn.Linear(4 * c, num_classes),
            )
        bound = 1 / sqrt(num_classes)
        conv = partial(init.kaiming_normal_, mode="fan_out")
        initialize(self, conv, partial(init.uniform_, a=-bound, b=bound))

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> logits f32[N, classes]"""
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))  # type: ignore[no-any-return]


def efficientnet_b0(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> EfficientNet:
    """EfficientNet-B0, for images of 224: 5.3 million parameters; options: `EfficientNet`'s."""
    return EfficientNet(SCALES[0], num_classes, in_channels, **options)


def efficientnet_b1(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> EfficientNet:
    """EfficientNet-B1, for images of 240: 7.8 million parameters; options: `EfficientNet`'s."""
    return EfficientNet(SCALES[1], num_classes, in_channels, **options)


def efficientnet_b2(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> EfficientNet:
    """EfficientNet-B2, for images of 288: 9.1 million parameters; options: `EfficientNet`'s."""
    return EfficientNet(SCALES[2], num_classes, in_channels, **options)


def efficientnet_b3(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> EfficientNet:
    """EfficientNet-B3, for images of 300: 12.2 million parameters; options: `EfficientNet`'s."""
    return EfficientNet(SCALES[3], num_classes, in_channels, **options)


def efficientnet_b4(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> EfficientNet:
    """EfficientNet-B4, for images of 380: 19.3 million parameters; options: `EfficientNet`'s."""
    return EfficientNet(SCALES[4], num_classes, in_channels, **options)


def efficientnet_b5(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> EfficientNet:
    """EfficientNet-B5, for images of 456: 30.4 million parameters; options: `EfficientNet`'s."""
    return EfficientNet(SCALES[5], num_classes, in_channels, **options)


def efficientnet_b6(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> EfficientNet:
    """EfficientNet-B6, for images of 528: 43.0 million parameters; options: `EfficientNet`'s."""
    return EfficientNet(SCALES[6], num_classes, in_channels, **options)


def efficientnet_b7(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> EfficientNet:
    """EfficientNet-B7, for images of 600: 66.3 million parameters; options: `EfficientNet`'s."""
    return EfficientNet(SCALES[7], num_classes, in_channels, **options)
