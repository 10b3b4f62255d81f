"""RegNetY: Radosavovic et al., "Designing network design spaces" (CVPR 2020). Keys: torchvision's.

A network is four numbers: block i wants width w_0 + w_a * i, brought to the nearest w_0 * w_m^n and
to a multiple of 8; blocks of the same width are a stage.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from math import log
from typing import NamedTuple

from striate import nn
from striate.core.api import flatten
from striate.core.array import Array
from striate.models.parts import ConvNorm, initialize, make_divisible
from striate.nn import init


class Design(NamedTuple):
    """The numbers of a network; `group` is the channels per group."""

    depth: int
    w_0: int
    w_a: float
    w_m: float
    group: int

    def stages(self) -> list[tuple[int, int]]:
        """(width, blocks) of each stage.

        >>> Design(16, 48, 27.89, 2.09, 8).stages()
        [(48, 1), (104, 3), (208, 6), (440, 6)]
        """
        powers = [
            round(log(1 + self.w_a * i / self.w_0) / log(self.w_m)) for i in range(self.depth)
        ]
        widths = [round(self.w_0 * self.w_m**n / 8) * 8 for n in powers]
        runs = [(w, len(list(run))) for w, run in groupby(widths)]
        return [(make_divisible(w, min(self.group, w)), blocks) for w, blocks in runs]


class Branch(nn.Sequential):
    """1x1, grouped 3x3, squeeze and excitation, 1x1: children a, b, se, c."""

    def __init__(self, in_channels: int, width: int, stride: int, group: int) -> None:
        super().__init__(
            {
                "a": ConvNorm(in_channels, width, 1),
                "b": ConvNorm(width, width, 3, stride, width // group),
                "se": nn.SqueezeExcite(width, round(0.25 * in_channels)),
                "c": ConvNorm(width, width, 1, activation=None),
            }
        )


class Block(nn.Module):
    """relu(shortcut(x) + branch(x))."""

    def __init__(self, in_channels: int, width: int, stride: int, group: int) -> None:
        fits = in_channels == width and stride == 1
        self.proj = None if fits else ConvNorm(in_channels, width, 1, stride, activation=None)
        self.f = Branch(in_channels, width, stride, group)
        self.activation = nn.ReLU()

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, width, H/stride, W/stride]"""
        shortcut = x if self.proj is None else self.proj(x)
        return self.activation(shortcut + self.f(x))  # type: ignore[no-any-return]


class RegNet(nn.Module):
    """Stem, four stages of residual blocks, global mean, one linear layer.

    Args:
        design: the widths and depths.
        num_classes: of the logits.
        in_channels: C of the images.
    """

    def __init__(self, design: Design, num_classes: int = 1000, in_channels: int = 3) -> None:
        c = 32
        with init.skip():
            self.stem = ConvNorm(in_channels, c, 3, 2)
            trunk: dict[str, nn.Module] = {}
            for stage, (width, depth) in enumerate(design.stages(), start=1):
                blocks: dict[str, nn.Module] = {}
                for i in range(depth):
                    stride = 1 if i else 2
                    block = Block(c, width, stride, min(design.group, width))
                    blocks[f"block{stage}-{i}"] = block
                    c = width
                trunk[f"block{stage}"] = nn.Sequential(blocks)
            self.trunk_output = nn.Sequential(trunk)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(c, num_classes)
        conv = partial(init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
        initialize(self, conv, partial(init.normal_, std=0.01))
        for module in self.modules():
            if isinstance(module, nn.SqueezeExcite):  # whose biases are drawn
                for layer in (module.fc1, module.fc2):
                    init.fan_in_uniform_(layer.bias, layer.in_channels)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> logits f32[N, classes]"""
        x = self.avgpool(self.trunk_output(self.stem(x)))
        return self.fc(flatten(x, 1))  # type: ignore[no-any-return]


def regnet_y_400mf(num_classes: int = 1000, in_channels: int = 3) -> RegNet:
    """RegNetY-400MF: 4.3 million parameters."""
    return RegNet(Design(16, 48, 27.89, 2.09, 8), num_classes, in_channels)


def regnet_y_800mf(num_classes: int = 1000, in_channels: int = 3) -> RegNet:
    """RegNetY-800MF: 6.4 million parameters."""
    return RegNet(Design(14, 56, 38.84, 2.4, 16), num_classes, in_channels)


def regnet_y_1_6gf(num_classes: int = 1000, in_channels: int = 3) -> RegNet:
    """RegNetY-1.6GF: 11.2 million parameters."""
    return RegNet(Design(27, 48, 20.71, 2.65, 24), num_classes, in_channels)


def regnet_y_3_2gf(num_classes: int = 1000, in_channels: int = 3) -> RegNet:
    """RegNetY-3.2GF: 19.4 million parameters."""
    return RegNet(Design(21, 80, 42.63, 2.66, 24), num_classes, in_channels)


def regnet_y_8gf(num_classes: int = 1000, in_channels: int = 3) -> RegNet:
    """RegNetY-8GF: 39.4 million parameters."""
    return RegNet(Design(17, 192, 76.82, 2.19, 56), num_classes, in_channels)


def regnet_y_16gf(num_classes: int = 1000, in_channels: int = 3) -> RegNet:
    """RegNetY-16GF: 83.6 million parameters."""
    return RegNet(Design(18, 200, 106.23, 2.48, 112), num_classes, in_channels)
