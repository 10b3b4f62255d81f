"""ConvNeXt: Liu et al., "A ConvNet for the 2020s" (CVPR 2022). Keys are torchvision's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from striate import nn
from striate.core.api import permute_dims
from striate.core.array import Array
from striate.core.creation import full
from striate.models.parts import ConvNorm, initialize
from striate.nn import init


class Permute(nn.Module):
    """The axes in another order."""

    def __init__(self, *axes: int) -> None:
        self.axes = axes

    def forward(self, x: Array) -> Array:
        """x -> its axes in that order"""
        return permute_dims(x, self.axes)


class Block(nn.Module):
    """x + scale * (depthwise 7x7, layer norm, two linear layers over the channels)."""

    def __init__(self, channels: int, layer_scale: float, drop_prob: float) -> None:
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute(0, 2, 3, 1),  # [n, c, h, w] -> [n, h, w, c]
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(full((channels, 1, 1), layer_scale))
        self.drop_path = nn.DropPath(drop_prob)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> the same"""
        return self.drop_path(self.layer_scale * self.block(x)) + x  # type: ignore[no-any-return]


class ConvNeXt(nn.Module):
    """Patches of 4x4, four stages with 2x2 convolutions between, global mean, one linear layer.

    Args:
        widths: channels of the stages.
        depths: blocks of the stages.
        num_classes: of the logits.
        in_channels: C of the images.
        stochastic_depth_prob: how likely the last block is left out for a sample; it grows
            linearly from 0 at the first.
        layer_scale: what scales every branch at first.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        stochastic_depth_prob: float = 0.0,
        layer_scale: float = 1e-6,
    ) -> None:
        norm = nn.LayerNorm2d
        done, total = 0, sum(depths)
        with init.skip():
            features: list[nn.Module] = [
                ConvNorm(
                    in_channels, widths[0], 4, 4, padding=0, bias=True, norm=norm, activation=None
                )
            ]
            for i, (c, depth) in enumerate(zip(widths, depths, strict=True)):
                if i:
                    before = widths[i - 1]
                    features.append(nn.Sequential(norm(before), nn.Conv2d(before, c, 2, 2)))
                stage = []
                for _ in range(depth):
                    drop_prob = stochastic_depth_prob * done / (total - 1)
                    stage.append(Block(c, layer_scale, drop_prob))
                    done += 1
                features.append(nn.Sequential(*stage))
            self.features = nn.Sequential(*features)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(
                norm(widths[-1]), nn.Flatten(), nn.Linear(widths[-1], num_classes)
            )
        rule = partial(init.trunc_normal_, std=0.02)
        initialize(self, rule, rule)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W], H and W at least 32 -> logits f32[N, classes]"""
        return self.classifier(self.avgpool(self.features(x)))  # type: ignore[no-any-return]


def convnext_tiny(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    stochastic_depth_prob: float = 0.1,
    layer_scale: float = 1e-6,
) -> ConvNeXt:
    """ConvNeXt-T: 28.6 million parameters."""
    return ConvNeXt(
        (96, 192, 384, 768),
        (3, 3, 9, 3),
        num_classes,
        in_channels,
        stochastic_depth_prob=stochastic_depth_prob,
        layer_scale=layer_scale,
    )


def convnext_small(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    stochastic_depth_prob: float = 0.4,
    layer_scale: float = 1e-6,
) -> ConvNeXt:
    """ConvNeXt-S: 50.2 million parameters."""
    return ConvNeXt(
        (96, 192, 384, 768),
        (3, 3, 27, 3),
        num_classes,
        in_channels,
        stochastic_depth_prob=stochastic_depth_prob,
        layer_scale=layer_scale,
    )


def convnext_base(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    stochastic_depth_prob: float = 0.5,
    layer_scale: float = 1e-6,
) -> ConvNeXt:
    """ConvNeXt-B: 88.6 million parameters."""
    return ConvNeXt(
        (128, 256, 512, 1024),
        (3, 3, 27, 3),
        num_classes,
        in_channels,
        stochastic_depth_prob=stochastic_depth_prob,
        layer_scale=layer_scale,
    )
