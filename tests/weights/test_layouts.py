"""timm's names, and those of older files, for networks of the zoo."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, weights
from striate.models import MODELS
from striate.weights.layouts import in_own_names

TIMM: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("timm_names.json").read_text(encoding="utf-8")
)["networks"]
# Some of what becomes of each; the order of modules says the rest where it is the same.
PAIRS = {
    "convnext_tiny": {
        "stem.1.bias": "features.0.1.bias",
        "stages.2.downsample.1.weight": "features.4.1.weight",
        "stages.2.blocks.8.gamma": "features.5.8.layer_scale",
        "stages.0.blocks.1.norm.weight": "features.1.1.block.2.weight",
        "stages.3.blocks.2.mlp.fc2.bias": "features.7.2.block.5.bias",
        "head.norm.weight": "classifier.0.weight",
        "head.fc.weight": "classifier.2.weight",
    },
    "regnet_y_400mf": {
        "stem.bn.running_mean": "stem.1.running_mean",
        "s1.b1.downsample.conv.weight": "trunk_output.block1.block1-0.proj.0.weight",
        "s3.b2.conv2.bn.bias": "trunk_output.block3.block3-1.f.b.1.bias",
        "s4.b6.se.fc2.bias": "trunk_output.block4.block4-5.f.se.fc2.bias",
        "head.fc.bias": "fc.bias",
    },
    "vgg11_bn": {
        "features.0.bias": "features.0.bias",
        "pre_logits.fc1.bias": "classifier.0.bias",
        "pre_logits.fc2.bias": "classifier.3.bias",
        "head.fc.weight": "classifier.6.weight",
    },
    "mobilenet_v3_small": {"conv_head.bias": "classifier.0.bias"},
}
IN_ORDER = ("efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small")


def arrays_of(lines: list[str]) -> dict[str, Any]:
    """Arrays of one number each, which counts them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for line in lines:
        path, *rest = line.split()
        shape = tuple(map(int, rest[1 if rest[0] in ("norm", "=") else 0].split("x")))
        if rest[0] == "=":
            shapes[path] = shape
        elif rest[0] == "norm":
            for last in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{path}.{last}"] = shape
            shapes[f"{path}.num_batches_tracked"] = ()
        else:
            shapes[f"{path}.weight"] = shape
            shapes |= {f"{path}.bias": shape[:1]} if rest[-1] == "bias" else {}
    numbers = {
        name: (np.int64 if name.endswith("tracked") else np.float32)(k)
        for k, name in enumerate(shapes)
    }
    return {name: np.broadcast_to(numbers[name], shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", [n for n in TIMM if n != "vgg11_bn"])
def test_every_weight_gets_its_name_and_shape(name: str) -> None:
    with nn.init.skip():
        net = MODELS[name]()
    given = arrays_of(TIMM[name])
    shuffled = dict(sorted(given.items()))  # as in a safetensors file
    found = in_own_names(shuffled, net)
    mine = {k: v.shape for k, v in net.state_dict().items()}
    assert {k: v.shape for k, v in found.items()} == mine
    first = {k: round(v.flat[0]) for k, v in found.items()}
    if name in IN_ORDER:
        assert [first[k] for k in mine] == [*range(len(mine))]
    for theirs, ours in PAIRS.get(name, {}).items():
        assert first[ours] == given[theirs].flat[0]


def test_names_of_a_vgg() -> None:
    """A small one: its own has half a gigabyte of weights."""
    layers = (nn.Linear(8, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5), nn.ReLU(), nn.Dropout())
    net = nn.Sequential()
    net.features, net.classifier = (
        nn.Sequential(nn.Conv2d(1, 2, 3)),
        nn.Sequential(*layers, nn.Linear(5, 4)),
    )
    theirs = {
        "features.0.weight": (2, 1, 3, 3), "features.0.bias": (2,),
        "pre_logits.fc1.weight": (6, 2, 2, 2), "pre_logits.fc1.bias": (6,),
        "pre_logits.fc2.weight": (5, 6, 1, 1), "pre_logits.fc2.bias": (5,),
        "head.fc.weight": (4, 5), "head.fc.bias": (4,),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal(shape) for name, shape in theirs.items()}
    found = in_own_names(given, net)
    assert {k: v.shape for k, v in found.items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }
    np.testing.assert_array_equal(
        found["classifier.0.weight"], given["pre_logits.fc1.weight"].reshape(6, 8)
    )
    names = {line.split()[0] for line in TIMM["vgg11_bn"]}
    assert {n.rpartition(".")[0] for n in PAIRS["vgg11_bn"]} <= names


def test_a_network_of_another_eps_computes_the_same(tmp_path: Path) -> None:
    """timm's MobileNetV3 normalises with 1e-5, ours with torchvision's 1e-3."""
    with nn.init.skip():
        net = MODELS["mobilenet_v3_small"]().eval()
    given = arrays_of(TIMM["mobilenet_v3_small"])
    given["bn1.running_var"] = np.linspace(1e-4, 1, 16, dtype=np.float32)
    weights.write(tmp_path / "a.safetensors", given)
    assert st.load_weights(net, tmp_path / "a.safetensors") == ([], [])
    norm = net.get_submodule("features.0.1")
    assert norm.eps == 1e-3
    np.testing.assert_allclose(
        norm.running_var.numpy() + np.float64(1e-3), given["bn1.running_var"] + np.float64(1e-5),
        rtol=1e-6,
    )  # fmt: skip


def test_published_files_of_densenet(tmp_path: Path) -> None:
    net, other = (st.models.DenseNet(4, (2, 1), 8, 3) for _ in range(2))
    rename = re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)\.")
    old = {rename.sub(r"\1.\2.", k): v.numpy() for k, v in net.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    weights.write(tmp_path / "a.safetensors", old)
    assert st.load_weights(other, tmp_path / "a.safetensors") == ([], [])
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key].numpy(), value.numpy())


def test_a_head_that_is_left_out(tmp_path: Path) -> None:
    with nn.init.skip():
        net = MODELS["mobilenet_v2"](5)
    given = arrays_of(TIMM["mobilenet_v2"])
    weights.write(tmp_path / "a.safetensors", given)
    with pytest.raises(
        weights.WeightsError, match=r"mismatched classifier.1.weight.*f32\[5,1280\]"
    ):
        st.load_weights(net, tmp_path / "a.safetensors")
    found = st.load_weights(
        net, tmp_path / "a.safetensors", rename={"classifier.": None}, strict=False
    )
    assert found == (["classifier.1.weight", "classifier.1.bias"], [])


def test_own_names_are_left_alone() -> None:
    for net in (nn.Linear(3, 2), st.models.DenseNet(4, (1, 1), 8, 3)):
        own = {k: v.numpy() for k, v in net.state_dict().items()}
        assert in_own_names(own, net) is own
    strange = {
        "bn1.weight": np.zeros(3),
        "blocks.0.0.conv_pw.weight": np.zeros(3),
        "stem.": np.zeros(1),
    }
    assert in_own_names(strange, nn.Linear(3, 2)) is strange
