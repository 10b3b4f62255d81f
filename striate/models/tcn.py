"""Temporal convolutional network: Bai et al., "An empirical evaluation of generic convolutional and
recurrent networks for sequence modeling" (2018).

Keys are those of the authors' code, `network.{i}.conv1.weight_g` and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate import nn
from striate.core.api import conv, sqrt, swapaxes
from striate.core.array import Array
from striate.core.creation import zeros
from striate.errors import ShapeError
from striate.nn import init


class WeightNormConv(nn.Module):
    """A causal convolution whose filters are a length times a direction: w = g * v / |v|.

    Salimans and Kingma, "Weight normalization" (2016). Keys: bias [K], weight_g [K, 1, 1],
    weight_v [K, C, W].
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dilation: int) -> None:
        self.dilation = dilation
        self.bias = nn.Parameter(zeros(out_channels))
        self.weight_g = nn.Parameter(zeros((out_channels, 1, 1)))
        self.weight_v = nn.Parameter(zeros((out_channels, in_channels, kernel)))
        init.fan_in_uniform_(self.bias, in_channels * kernel)
        init.normal_(self.weight_v, std=0.01)
        self.weight_g.assign(self._length())

    def _length(self) -> Array:
        return sqrt((self.weight_v * self.weight_v).sum(axis=(1, 2), keepdims=True))

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, L] -> f32[N, K, L]"""
        weight = self.weight_v * (self.weight_g / self._length())
        return conv(x, weight, self.bias, padding="causal", dilation=self.dilation)


class TemporalBlock(nn.Module):
    """relu(shortcut(x) + two causal convolutions of x)."""

    def __init__(self, c: int, k: int, kernel: int, dilation: int, dropout: float) -> None:
        self.conv1 = WeightNormConv(c, k, kernel, dilation)
        self.conv2 = WeightNormConv(k, k, kernel, dilation)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.downsample = nn.Conv1d(c, k, 1) if c != k else None
        if self.downsample is not None:
            init.normal_(self.downsample.weight, std=0.01)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, L] -> f32[N, K, L]"""
        y = self.dropout(self.relu(self.conv1(x)))
        y = self.dropout(self.relu(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class TCN(nn.Module):
    """Blocks with dilations 1, 2, 4, ..., and a linear layer on every step.

    Args:
        num_classes: channels of the logits; None for the features of the last block.
        in_channels: C of x.
        channels: of the blocks.
        kernel_size: of the convolutions.
        dropout: after each.

    Raises:
        ShapeError: no blocks.
    """

    def __init__(
        self,
        num_classes: int | None = 10,
        in_channels: int = 1,
        channels: Sequence[int] = (25,) * 8,
        *,
        kernel_size: int = 7,
        dropout: float = 0.05,
    ) -> None:
        if not channels:
            raise ShapeError("TCN: wants the channels of one block or more, got none")
        blocks = []
        c = in_channels
        for i, k in enumerate(channels):
            blocks.append(TemporalBlock(c, k, kernel_size, 1 << i, dropout))
            c = k
        self.network = nn.Sequential(*blocks)
        self.linear = None if num_classes is None else nn.Linear(c, num_classes)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, L] -> f32[N, classes, L]; step t depends on x[..., :t + 1]"""
        y = self.network(x)
        if self.linear is None:
            return y  # type: ignore[no-any-return]
        return swapaxes(self.linear(swapaxes(y, 1, 2)), 1, 2)


def tcn(
    num_classes: int | None = 10,
    in_channels: int = 1,
    channels: Sequence[int] = (25,) * 8,
    *,
    kernel_size: int = 7,
    dropout: float = 0.05,
) -> TCN:
    """TCN, as the paper has it for sequential MNIST: 66 thousand parameters.

    >>> st.models.tcn(3, 2, (4, 4))(st.ones((1, 2, 30))).shape
    (1, 3, 30)
    """
    return TCN(num_classes, in_channels, channels, kernel_size=kernel_size, dropout=dropout)
