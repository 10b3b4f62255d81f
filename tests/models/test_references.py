"""The networks are torchvision's: by name, shape and number, and in what they compute."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.models import MODELS
from tests.models.reference import (
    CLASSES,
    FILE,
    OUTPUTS,
    fingerprint,
    image,
    weights,
    without_drops,
)

RECORD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
NETWORKS: dict[str, Any] = RECORD["networks"]


# More than 25 million weights, or many products in three dimensions.
LONG = {"convnext_tiny", "r2plus1d_18", "r3d_18", "resnet50", "vgg11_bn"}


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_shapes_and_parameters(name: str) -> None:
    with nn.init.skip():
        net = MODELS[name]()
    shapes = [(key, value.shape) for key, value in net.state_dict().items()]
    found = {
        "entries": len(shapes),
        "fingerprint": fingerprint(shapes),
        "parameters": sum(p.size for p in net.parameters()),
    }
    assert found == NETWORKS[name]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in OUTPUTS]
)
def test_outputs(name: str) -> None:
    """In float64 by the interpreter: the difference is the order of sums."""
    with nn.init.skip():
        net = without_drops(MODELS[name](num_classes=CLASSES)).to("float64")
    net.load_state_dict(weights({key: value.shape for key, value in net.state_dict().items()}))
    x = image(OUTPUTS[name])
    with st.config(backend="numpy"):
        for mode in ("eval", "train"):
            y = net.train(mode == "train")(x)
            want = np.array(RECORD["outputs"][name][mode])
            logits = (y[0] if isinstance(y, tuple) else y).numpy()
            # At most 200 layers of 25,000 products each, and normalisation by the deviations of
            # eight values or more may enlarge an error a hundredfold in all.
            bound = 100 * 200 * np.sqrt(25_000) * np.finfo(np.float64).eps * np.abs(want).max()
            np.testing.assert_allclose(logits, want, rtol=0, atol=bound)


def test_every_network_is_in_the_documentation_with_its_parameters() -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    table = text.partition("## Sizes\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", table, re.MULTILINE))
    assert rows.keys() == MODELS.keys()
    for name, entry in NETWORKS.items():
        assert rows[name] == f"{entry['parameters'] / 1e6:.2f}", name
