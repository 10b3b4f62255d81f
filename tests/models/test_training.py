"""One network of each family takes a step: a finite loss, and a gradient for every weight.

In its own size that is slow for most. So each family, or its parts in a smaller network, takes one
in every run of the tests, and the networks that people use in `make test-slow`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.models import (
    MODELS,
    ConvNeXt,
    DenseNet,
    MobileNetV3,
    RegNet,
    ResNet,
    ShuffleNetV2,
    mobilenet_v3,
    regnet,
    resnet,
)
from tests.models.reference import OUTPUTS, without_drops

CLASSES = 3
CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    **{name: (shape, {"num_classes": CLASSES}) for name, shape in OUTPUTS.items()},
    "lenet": ((2, 1, 28, 28), {"num_classes": CLASSES}),
    "resnet20": ((2, 3, 16, 16), {"num_classes": CLASSES}),
    "tcn": ((2, 1, 20), {"num_classes": CLASSES, "channels": (4, 4)}),
    "wavenet": ((2, 1, 20), {"num_classes": CLASSES, "layers": 3, "blocks": 1}),
    "unet2d": ((2, 1, 16, 16), {"num_classes": CLASSES, "in_channels": 1, "init_features": 4}),
    "unet3d": ((2, 1, 8, 8, 8), {"num_classes": CLASSES, "init_features": 4}),
    "dncnn": ((2, 1, 12, 12), {"depth": 4}),
    "espcn": ((2, 1, 8, 8), {"upscale_factor": 2}),
}

IMAGES = (2, 3, 32, 32)
SMALL: dict[str, tuple[tuple[int, ...], Callable[..., nn.Module]]] = {
    "convnext": (IMAGES, partial(ConvNeXt, (16, 32), (1, 1))),
    "densenet": (IMAGES, partial(DenseNet, 8, (2, 2), 16)),
    "mobilenet_v2": (IMAGES, partial(MODELS["mobilenet_v2"], width_mult=0.1)),
    "mobilenet_v3": (IMAGES, partial(MobileNetV3, mobilenet_v3.SMALL[:4], 64)),
    "regnet": (IMAGES, partial(RegNet, regnet.Design(4, 32, 32.0, 2.0, 8))),
    "resnet": (IMAGES, partial(ResNet, resnet.BasicBlock, (1, 1, 1, 1))),
    "resnext": (
        IMAGES,
        partial(ResNet, resnet.Bottleneck, (1, 1, 1, 1), groups=4, width_per_group=2),
    ),
    "shufflenet_v2": (IMAGES, partial(ShuffleNetV2, (16, 32, 64, 64))),
}
# Their parts are those of others, or of those above: the interpreter is enough.
INTERPRETED = {
    "efficientnet_b0": (2, 3, 32, 32),
    "googlenet": (2, 3, 32, 32),
    "squeezenet1_1": (2, 3, 32, 32),
    "mc3_18": (2, 3, 2, 16, 16),
    "r2plus1d_18": (2, 3, 2, 16, 16),
}
QUICK = {"lenet", "resnet20", "tcn", "wavenet", "dncnn", "espcn"}  # in their own size

UNUSED = {"residual_convs.2.weight"}  # of WaveNet: nothing reads what the last layer passes on


def loss_of(net: nn.Module, x: st.Array) -> st.Array:
    """Of labels that are all 1, or of images that are all 0."""
    y = net(x)
    if isinstance(net, st.models.DnCNN | st.models.ESPCN):
        return nn.losses.mse_loss(y, st.zeros_like(y))
    first, *others = y if isinstance(y, tuple) else (y,)
    labels = st.full((first.shape[0], *first.shape[2:]), 1)
    total = nn.losses.cross_entropy(first, labels)
    for part in others:
        total = total + 0.3 * nn.losses.cross_entropy(part, labels)
    return total


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in CASES]
)
def test_a_step(name: str) -> None:
    shape, arguments = CASES[name]
    check_step(MODELS[name], shape, arguments)


@pytest.mark.parametrize("family", SMALL)
def test_a_step_of_a_small_network(family: str) -> None:
    shape, make = SMALL[family]
    check_step(make, shape, {"num_classes": CLASSES})


@pytest.mark.parametrize("name", INTERPRETED)
def test_a_step_of_the_interpreter(name: str) -> None:
    with st.config(backend="numpy"):
        check_step(MODELS[name], INTERPRETED[name], {"num_classes": CLASSES})


def check_step(
    make: Callable[..., nn.Module], shape: tuple[int, ...], arguments: dict[str, Any]
) -> None:
    st.random.seed(0)
    net = without_drops(make(**arguments))
    parameters = dict(net.named_parameters())
    optimizer = optim.SGD(parameters.values(), lr=1e-2)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)

    @st.jit
    def step(x: st.Array) -> tuple[st.Array, list[st.Array]]:
        loss, found = st.gradients(lambda: loss_of(net, x), [*parameters.values()])
        optimizer.update(found)
        return loss, found

    loss, found = step(x)
    assert math.isfinite(float(loss))
    for (key, value), gradient in zip(parameters.items(), found, strict=True):
        assert np.isfinite(value.numpy()).all(), key
        assert np.isfinite(gradient.numpy()).all(), key
        # a bias before normalisation has a gradient of zero, or nearly
        assert value.ndim == 1 or gradient.numpy().any() or key in UNUSED, key
