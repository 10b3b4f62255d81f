"""GoogLeNet: Szegedy et al., "Going deeper with convolutions" (CVPR 2015).

With batch normalisation, and 3x3 where the paper has 5x5, as torchvision, whose keys these are.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from striate import nn
from striate.core.api import concat, flatten
from striate.core.array import Array
from striate.errors import ShapeError
from striate.models.parts import initialize
from striate.nn import init

# Colours that were normalised by mean and std of ImageNet, to those normalised by 0.5 and 0.5.
SCALE = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1) / np.float32(0.5)
SHIFT = (np.array([0.485, 0.456, 0.406]) - 0.5).astype(np.float32).reshape(3, 1, 1) / np.float32(
    0.5
)


class GoogLeNetOutputs(NamedTuple):
    """What the network returns in training mode: f32[N, classes] each."""

    logits: Array
    aux_logits2: Array
    aux_logits1: Array


class BasicConv2d(nn.Module):
    """A convolution without bias, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)
        self.relu = nn.ReLU()

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, K, H/stride, W/stride]"""
        return self.relu(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class Inception(nn.Module):
    """1x1, two 1x1 before 3x3, and 1x1 after pooling, side by side."""

    def __init__(self, c: int, k1: int, r3: int, k3: int, r5: int, k5: int, pooled: int) -> None:
        self.branch1 = BasicConv2d(c, k1, 1)
        self.branch2 = nn.Sequential(BasicConv2d(c, r3, 1), BasicConv2d(r3, k3, 3))
        self.branch3 = nn.Sequential(BasicConv2d(c, r5, 1), BasicConv2d(r5, k5, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), BasicConv2d(c, pooled, 1))

    def forward(self, x: Array) -> Array:
        """x: f32[N, c, H, W] -> f32[N, k1 + k3 + k5 + pooled, H, W]"""
        return concat([branch(x) for branch in self.children()], axis=1)


class InceptionAux(nn.Module):
    """A classifier of its own in the middle of the network, for training."""

    def __init__(self, in_channels: int, num_classes: int, dropout: float) -> None:
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv = BasicConv2d(in_channels, 128, 1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> logits f32[N, classes]"""
        x = flatten(self.conv(self.pool(x)), 1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))  # type: ignore[no-any-return]


class GoogLeNet(nn.Module):
    """Stem, nine inception modules between poolings, global mean, one linear layer.

    Args:
        num_classes: of the logits.
        in_channels: C of the images.
        aux_logits: whether there are two classifiers in the middle; then the network returns
            `GoogLeNetOutputs` in training mode.
        transform_input: whether colours normalised as for other networks are scaled to [-1, 1].
        dropout: before the last layer.
        dropout_aux: in the middle classifiers.

    Raises:
        ShapeError: `transform_input` without three channels.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        aux_logits: bool = True,
        transform_input: bool = False,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
    ) -> None:
        if transform_input and in_channels != 3:
            raise ShapeError(f"GoogLeNet: transform_input wants 3 channels, got {in_channels}")
        self.transform_input = transform_input
        pool = partial(nn.MaxPool2d, stride=2, ceil_mode=True)
        with init.skip():
            self.conv1 = BasicConv2d(in_channels, 64, 7, 2)
            self.maxpool1 = pool(3)
            self.conv2 = BasicConv2d(64, 64, 1)
            self.conv3 = BasicConv2d(64, 192, 3)
            self.maxpool2 = pool(3)
            self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
            self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
            self.maxpool3 = pool(3)
            self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
            self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
            self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
            self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
            self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
            self.maxpool4 = pool(2)
            self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
            self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
            self.aux1 = InceptionAux(512, num_classes, dropout_aux) if aux_logits else None
            self.aux2 = InceptionAux(528, num_classes, dropout_aux) if aux_logits else None
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.dropout = nn.Dropout(dropout)
            self.fc = nn.Linear(1024, num_classes)
        initialize(self)  # for the biases
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                init.trunc_normal_(module.weight, std=0.01)

    def forward(self, x: Array) -> Array | GoogLeNetOutputs:
        """x: f32[N, C, H, W], H and W at least 15 -> logits f32[N, classes], or three of them"""
        if self.transform_input:
            x = x * SCALE + SHIFT
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x)))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        middle = self.inception4a(x)
        late = self.inception4d(self.inception4c(self.inception4b(middle)))
        x = self.maxpool4(self.inception4e(late))
        x = self.avgpool(self.inception5b(self.inception5a(x)))
        logits = self.fc(self.dropout(flatten(x, 1)))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return GoogLeNetOutputs(logits, self.aux2(late), self.aux1(middle))
        return logits  # type: ignore[no-any-return]


def googlenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    aux_logits: bool = True,
    transform_input: bool = False,
    dropout: float = 0.2,
    dropout_aux: float = 0.7,
) -> GoogLeNet:
    """GoogLeNet: 6.6 million parameters, 13.0 with the classifiers in the middle."""
    return GoogLeNet(
        num_classes,
        in_channels,
        aux_logits=aux_logits,
        transform_input=transform_input,
        dropout=dropout,
        dropout_aux=dropout_aux,
    )
