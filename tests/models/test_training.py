"""One network of each family takes a step: a finite loss, and a gradient for every weight."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.models import MODELS
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


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_step(name: str) -> None:
    shape, arguments = CASES[name]
    st.random.seed(0)
    net = without_drops(MODELS[name](**arguments))
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
