"""Writes tests/weights/timm_names.json: what timm calls the weights of networks that we have too.

    python -m tools.timm_names

A norm is one entry, as are a weight and its bias: `bn1 norm 16`, `conv_head 1280x960x1x1 bias`.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tools.torch_models import import_torchvision

FILE = Path(__file__).resolve().parent.parent / "tests" / "weights" / "timm_names.json"
NETWORKS = {
    "convnext_tiny": "convnext_tiny",
    "efficientnet_b0": "efficientnet_b0",
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "regnet_y_400mf": "regnety_004",
    "vgg11_bn": "vgg11_bn",
}


def entries(shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """A `state_dict` as lines."""
    lines = []
    for name, shape in shapes.items():
        path, _, last = name.rpartition(".")
        size = "x".join(map(str, shape))
        if last == "weight" and f"{path}.running_var" in shapes:
            lines.append(f"{path} norm {size}")
        elif last == "weight":
            lines.append(f"{path} {size}" + " bias" * (f"{path}.bias" in shapes))
        elif f"{path}.weight" not in shapes:
            lines.append(f"{name} = {size}")
    return lines


def main() -> None:
    """Write the file."""
    import_torchvision()
    import timm

    found = {}
    for ours, theirs in NETWORKS.items():
        with torch.device("meta"):
            net = timm.create_model(theirs)
        shapes = {name: tuple(x.shape) for name, x in net.state_dict().items()}
        found[ours] = entries(shapes)
    text = json.dumps({"timm": timm.__version__, "networks": found}, indent=0)
    FILE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
