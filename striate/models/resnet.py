"""Residual networks: He et al., "Deep residual learning for image recognition" (CVPR 2016).

Grouped: Xie et al., "Aggregated residual transformations" (CVPR 2017). Wide: Zagoruyko and
Komodakis (BMVC 2016). In a bottleneck the 3x3 convolution has the stride (version 1.5). Keys are
torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from striate import nn
from striate.core.api import flatten
from striate.core.array import Array
from striate.errors import ShapeError
from striate.models.parts import initialize
from striate.nn import init


def _conv3x3(c: int, k: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> Any:
    return nn.Conv2d(c, k, 3, stride, dilation, dilation, groups, bias=False)


class BasicBlock(nn.Module):
    """relu(shortcut(x) + two 3x3 convolutions of x)."""

    expansion: ClassVar[int] = 1
    last_norm: ClassVar[str] = "bn2"  # what scales the branch

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        downsample: nn.Module | None,
        groups: int = 1,
        width_per_group: int = 64,
        dilation: int = 1,
    ) -> None:
        if groups != 1 or width_per_group != 64 or dilation != 1:
            raise ShapeError(
                "BasicBlock: has one group of 64 channels and no dilation, got groups "
                f"{groups}, width_per_group {width_per_group}, dilation {dilation}; use a network "
                "of Bottleneck blocks"
            )
        self.conv1 = _conv3x3(in_channels, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = _conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, planes, H/stride, W/stride]"""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """relu(shortcut(x) + a 3x3 convolution of x between two 1x1)."""

    expansion: ClassVar[int] = 4
    last_norm: ClassVar[str] = "bn3"

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        downsample: nn.Module | None,
        groups: int = 1,
        width_per_group: int = 64,
        dilation: int = 1,
    ) -> None:
        width = int(planes * (width_per_group / 64)) * groups
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, groups, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, 4*planes, H/stride, W/stride]"""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, global mean, one linear layer.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        layers: blocks of each stage.
        num_classes: of the logits.
        in_channels: C of the images.
        zero_init_residual: whether every block begins as the identity.
        groups: of the 3x3 convolutions of bottlenecks.
        width_per_group: their channels per group, where a stage has 64.
        replace_stride_with_dilation: for the last three stages, whether dilated convolutions
            replace the stride.

    Raises:
        ShapeError: not four stages, not three choices of dilation, or basic blocks with groups.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        replace_stride_with_dilation: Sequence[bool] | None = None,
    ) -> None:
        dilate = tuple(replace_stride_with_dilation or (False,) * 3)
        if len(layers) != 4 or len(dilate) != 3:
            raise ShapeError(
                "ResNet: wants 4 stages and 3 choices of dilation, got layers "
                f"{tuple(layers)}, replace_stride_with_dilation {dilate}"
            )
        with init.skip():
            self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU()
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            c, dilation = 64, 1
            for i, (depth, dilated) in enumerate(zip(layers, (False, *dilate), strict=True)):
                planes, stride, before = 64 << i, 2 if i else 1, dilation
                if dilated:
                    stride, dilation = 1, dilation * stride
                blocks = []
                for j in range(depth):
                    k = planes * block.expansion
                    step = 1 if j else stride
                    shortcut = (
                        nn.Sequential(nn.Conv2d(c, k, 1, step, bias=False), nn.BatchNorm2d(k))
                        if step != 1 or c != k
                        else None
                    )
                    spread = dilation if j else before
                    blocks.append(block(c, planes, step, shortcut, groups, width_per_group, spread))
                    c = k
                setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(c, num_classes)
        initialize(self, partial(init.kaiming_normal_, mode="fan_out", nonlinearity="relu"))
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock | Bottleneck):
                    init.zeros_(getattr(module, module.last_norm).weight)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> logits f32[N, classes]"""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


def resnet18(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet-18: 11.7 million parameters; see `ResNet` for the options.

    >>> st.models.resnet18(num_classes=10)(st.ones((1, 3, 64, 64))).shape
    (1, 10)
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, **options)


def resnet34(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet-34: 21.8 million parameters; see `ResNet` for the options."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels, **options)


def resnet50(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet-50: 25.6 million parameters; see `ResNet` for the options."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, **options)


def resnet101(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet-101: 44.5 million parameters; see `ResNet` for the options."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels, **options)


def resnet152(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet-152: 60.2 million parameters; see `ResNet` for the options."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, in_channels, **options)


def resnext50_32x4d(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNeXt-50, 32 groups of 4 channels: 25.0 million parameters."""
    return resnet50(num_classes, in_channels, groups=32, width_per_group=4, **options)


def resnext101_32x8d(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNeXt-101, 32 groups of 8 channels: 88.8 million parameters."""
    return resnet101(num_classes, in_channels, groups=32, width_per_group=8, **options)


def wide_resnet50_2(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet-50 whose 3x3 convolutions are twice as wide: 68.9 million parameters."""
    return resnet50(num_classes, in_channels, width_per_group=128, **options)


def wide_resnet101_2(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """ResNet-101 whose 3x3 convolutions are twice as wide: 126.9 million parameters."""
    return resnet101(num_classes, in_channels, width_per_group=128, **options)
