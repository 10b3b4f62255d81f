"""Small networks that are used as layers: squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Callable

from striate.core.array import Array
from striate.dtype import float32
from striate.nn.activation import ReLU, Sigmoid
from striate.nn.conv import Conv2d
from striate.nn.module import Module
from striate.nn.pool import AdaptiveAvgPool2d


class SqueezeExcite(Module):
    """Channels scaled by a small network of their own means (Hu et al. 2018).

    Arguments and keys are those of torchvision's SqueezeExcitation: `fc1.*`, `fc2.*`.

    Args:
        input_channels: C.
        squeeze_channels: channels between the two 1x1 convolutions.
        activation: makes the layer after the first.
        scale_activation: makes the layer after the second.
        dtype: of the parameters.

    >>> st.nn.SqueezeExcite(8, 2)(st.ones((1, 8, 4, 4))).shape
    (1, 8, 4, 4)
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Callable[[], Module] = ReLU,
        scale_activation: Callable[[], Module] = Sigmoid,
        *,
        dtype: object = float32,
    ) -> None:
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc1 = Conv2d(input_channels, squeeze_channels, 1, dtype=dtype)
        self.fc2 = Conv2d(squeeze_channels, input_channels, 1, dtype=dtype)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def forward(self, x: Array) -> Array:
        """x: [N, C, H, W] -> the same."""
        scale = self.activation(self.fc1(self.avgpool(x)))
        return x * self.scale_activation(self.fc2(scale))  # type: ignore[no-any-return]
