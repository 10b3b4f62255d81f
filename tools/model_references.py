"""Writes tests/models/references.json from torchvision: keys, sizes, and some outputs.

    PYTHONPATH=. python tools/model_references.py      (an environment with PyTorch and torchvision)

Per network: the number of entries of its `state_dict`, a fingerprint of their names and shapes, the
number of parameters. Per network of `OUTPUTS`: logits in evaluation mode and, without what drops at
random, in training mode, from weights that `draw` makes.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import torch
import torchvision
from torchvision.models import video

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


def maker(name: str) -> Any:
    """torchvision's constructor, or None."""
    return getattr(torchvision.models, name, None) or getattr(video, name, None)


def entry(name: str) -> dict[str, Any]:
    """What is known of the names and sizes of a network."""
    net = maker(name)()
    shapes = [(key, tuple(value.shape)) for key, value in net.state_dict().items()]
    return {
        "entries": len(shapes),
        "fingerprint": fingerprint(shapes),
        "parameters": sum(p.numel() for p in net.parameters()),
    }


@torch.no_grad()
def outputs(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Logits in both modes."""
    net = without_drops(maker(name)(num_classes=CLASSES).double())
    state = net.state_dict()
    drawn = weights({key: tuple(value.shape) for key, value in state.items()})
    net.load_state_dict({key: torch.tensor(value) for key, value in drawn.items()})
    x = torch.tensor(image(shape))
    evaluated = net.eval()(x)
    trained = net.train()(x)
    logits = trained[0] if isinstance(trained, tuple) else trained
    return {"eval": evaluated.tolist(), "train": logits.tolist()}


def main() -> None:
    """Write the file."""
    warnings.simplefilter("ignore")
    names = [name for name in MODELS if maker(name)]
    record = {
        "torchvision": torchvision.__version__.partition("+")[0],
        "networks": {name: entry(name) for name in names},
        "outputs": {name: outputs(name, shape) for name, shape in OUTPUTS.items()},
    }
    lines = json.dumps(record, indent=1)
    FILE.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
