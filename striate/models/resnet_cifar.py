"""ResNets for 32x32 images: He et al., "Deep residual learning" (CVPR 2016), section 4.2.

Depth 6n + 2, shortcuts without parameters (option A). `state_dict` keys are those of the common
trained weights: conv1, bn1, layer{1,2,3}.{i}.conv1 ... linear.
"""

from __future__ import annotations

from striate import nn
from striate.core.api import pad, relu
from striate.core.array import Array
from striate.errors import ShapeError


class BasicBlock(nn.Module):
    """x + two 3x3 convolutions; where the shape changes, x is subsampled and padded with zeros."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.extra = channels - in_channels  # zero channels, half before and half after

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, K, H/stride, W/stride]"""
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.stride != 1 or self.extra:
            half = self.extra // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = pad(x, [(0, 0), (half, self.extra - half), (0, 0), (0, 0)])
        return relu(y + x)


class CifarResNet(nn.Module):
    """Stem, three stages of n blocks with 16, 32 and 64 channels, global mean, one linear layer."""

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ShapeError(f"CifarResNet: depth must be 6n + 2 with n >= 1, got {depth}")
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        n, width = (depth - 2) // 6, 16
        for stage, channels in enumerate((16, 32, 64), start=1):
            blocks = []
            for i in range(n):
                blocks.append(BasicBlock(width, channels, 2 if stage > 1 and i == 0 else 1))
                width = channels
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> logits f32[N, classes]"""
        x = relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            x = getattr(self, f"layer{stage}")(x)
        logits: Array = self.linear(x.mean(axis=(2, 3)))
        return logits


def resnet20(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-20 for CIFAR: 0.27 million parameters."""
    return CifarResNet(20, num_classes, in_channels)


def resnet32(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-32 for CIFAR: 0.46 million parameters."""
    return CifarResNet(32, num_classes, in_channels)


def resnet44(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-44 for CIFAR: 0.66 million parameters."""
    return CifarResNet(44, num_classes, in_channels)


def resnet56(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-56 for CIFAR: 0.85 million parameters."""
    return CifarResNet(56, num_classes, in_channels)


def resnet110(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-110 for CIFAR: 1.7 million parameters."""
    return CifarResNet(110, num_classes, in_channels)
