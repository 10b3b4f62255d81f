"""Named networks: functions (num_classes, in_channels) -> module."""

from collections.abc import Callable

from striate.models.resnet_cifar import CifarResNet as CifarResNet, resnet20 as resnet20
from striate.models.small import small as small
from striate.nn import Module

MODELS: dict[str, Callable[..., Module]] = {"resnet20": resnet20, "small": small}
