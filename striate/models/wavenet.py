"""WaveNet: van den Oord et al., "A generative model for raw audio" (2016).

A stack of causal convolutions whose dilation doubles; each is gated, and feeds the output directly
too. Keys are those of `pytorch-wavenet`, with the last of `residual_convs`, which nothing reads.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from striate import nn
from striate.core.api import add, relu, sigmoid, tanh
from striate.core.array import Array
from striate.errors import ShapeError


class WaveNet(nn.Module):
    """The logits of every sample, from the samples up to it.

    Args:
        num_classes: channels of the logits, such as levels of the next sample.
        in_channels: C of x.
        layers: convolutions of a block, with dilations 1, 2, 4, ...
        blocks: how often that is repeated.
        residual_channels, dilation_channels, skip_channels, end_channels: of what is passed on,
            gated, collected, and before the end.
        kernel_size: of the dilated convolutions.
        bias: of all but the last two.

    Raises:
        ShapeError: no layers or no blocks.
    """

    def __init__(
        self,
        num_classes: int = 256,
        in_channels: int = 1,
        *,
        layers: int = 10,
        blocks: int = 4,
        residual_channels: int = 32,
        dilation_channels: int = 32,
        skip_channels: int = 256,
        end_channels: int = 256,
        kernel_size: int = 2,
        bias: bool = False,
    ) -> None:
        if layers < 1 or blocks < 1:
            raise ShapeError(
                f"WaveNet: wants a layer and a block or more, got layers {layers}, blocks {blocks}"
            )
        r, d, s = residual_channels, dilation_channels, skip_channels
        dilations = [1 << i for _ in range(blocks) for i in range(layers)]

        def pointwise(c: int, k: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv1d(c, k, 1, bias=bias) for _ in dilations)

        def causal() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv1d(r, d, kernel_size, padding="causal", dilation=n, bias=bias)
                for n in dilations
            )

        self.residual_convs = pointwise(d, r)
        self.skip_convs = pointwise(d, s)
        self.start_conv = nn.Conv1d(in_channels, r, 1, bias=bias)
        self.end_conv_1 = nn.Conv1d(s, end_channels, 1)
        self.end_conv_2 = nn.Conv1d(end_channels, num_classes, 1)
        self.filter_convs = causal()
        self.gate_convs = causal()
        self.receptive_field = 1 + (kernel_size - 1) * sum(dilations)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, L] -> logits f32[N, classes, L]; logits[..., t] depend on x[..., :t + 1]"""
        x = self.start_conv(x)
        skipped = []
        last = len(self.skip_convs) - 1
        for i, (filter, gate, residual, skip) in enumerate(
            zip(
                self.filter_convs,
                self.gate_convs,
                self.residual_convs,
                self.skip_convs,
                strict=True,
            )
        ):
            gated = tanh(filter(x)) * sigmoid(gate(x))
            skipped.append(skip(gated))
            x = x + residual(gated) if i < last else x
        y = reduce(add, skipped)
        return self.end_conv_2(relu(self.end_conv_1(relu(y))))  # type: ignore[no-any-return]


def wavenet(num_classes: int = 256, in_channels: int = 1, **options: Any) -> WaveNet:
    """WaveNet: 0.6 million parameters, 4,093 samples of context; options: `WaveNet`'s.

    >>> st.models.wavenet(8, layers=2, blocks=1)(st.ones((1, 1, 20))).shape
    (1, 8, 20)
    """
    return WaveNet(num_classes, in_channels, **options)
