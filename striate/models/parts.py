"""What the networks share: the chain convolution, normalisation, activation, and how they begin.

A constructor makes its layers under `nn.init.skip()` and then draws every weight once, by
`initialize`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from striate import nn
from striate.core.array import Array
from striate.nn.init import zeros_
from striate.ops.convolution import Ints

Maker = Callable[[int], nn.Module]  # channels -> a layer that keeps them
Activation = Callable[[], nn.Module]
Rule = Callable[[Any], object]  # fills a weight


class ConvNorm(nn.Sequential):
    """A convolution, a normalisation and an activation, with the keys 0, 1 and 2.

    Args:
        in_channels, out_channels, kernel_size, stride, groups: of the convolution.
        padding: None for (kernel_size - 1) / 2, which keeps the size.
        bias: of the convolution.
        conv: the class of the convolution.
        norm: makes the normalisation.
        activation: makes the activation; None for none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: Ints = 1,
        groups: int = 1,
        *,
        padding: int | None = None,
        bias: bool = False,
        conv: type[nn.Conv] = nn.Conv2d,
        norm: Maker = nn.BatchNorm2d,
        activation: Activation | None = nn.ReLU,
    ) -> None:
        super().__init__(
            conv(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                (kernel_size - 1) // 2 if padding is None else padding,
                groups=groups,
                bias=bias,
            ),
            norm(out_channels),
            *([activation()] if activation else []),
        )


def make_divisible(width: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `width`, up where the nearest loses more than a tenth.

    >>> make_divisible(33.0), make_divisible(11.0)
    (32, 16)
    """
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * width else nearest + divisor


def initialize(net: nn.Module, conv: Rule | None = None, linear: Rule | None = None) -> None:
    """Draw all filters by `conv` and all matrices by `linear`, with biases of zero.

    Where a rule is None, weight and bias are drawn as the layers do by themselves.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv | nn.ConvTranspose):
            rule = conv
        elif isinstance(module, nn.Linear):
            rule = linear
        else:
            continue
        if rule is None:
            module.reset_parameters()
            continue
        rule(module.weight)
        if module.bias is not None:
            zeros_(module.bias)


class InvertedResidual(nn.Module):
    """Few channels, many with a depthwise convolution, few again; x is added where it fits.

    Args:
        in_channels, out_channels: of the narrow ends.
        expanded: channels between; no first convolution where they are in_channels.
        kernel_size, stride: of the depthwise convolution.
        squeeze: makes squeeze and excitation of the expanded channels; None for none.
        norm, activation: make these layers.
        drop_prob: how likely the branch is left out for a sample.

    Method: Sandler et al., "MobileNetV2" (CVPR 2018). Keys: torchvision's `block.*`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expanded: int,
        kernel_size: int,
        stride: int,
        *,
        squeeze: Maker | None = None,
        norm: Maker = nn.BatchNorm2d,
        activation: Activation = nn.ReLU,
        drop_prob: float = 0.0,
    ) -> None:
        chain = partial(ConvNorm, norm=norm)
        self.residual = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expanded != in_channels:
            layers.append(chain(in_channels, expanded, 1, activation=activation))
        layers.append(
            chain(expanded, expanded, kernel_size, stride, expanded, activation=activation)
        )
        if squeeze is not None:
            layers.append(squeeze(expanded))
        layers.append(chain(expanded, out_channels, 1, activation=None))
        self.block = nn.Sequential(*layers)
        self.drop_path = nn.DropPath(drop_prob)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, K, H/stride, W/stride]"""
        y = self.block(x)
        return self.drop_path(y) + x if self.residual else y  # type: ignore[no-any-return]
