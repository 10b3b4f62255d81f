"""Weights and inputs that any machine can draw by itself, and the cases that are compared.

The numbers of an entry come from its name, so that two libraries can give two networks the same
weights without a file. Everything is float64: what remains between two right networks is rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).parent / "references.json"
CLASSES = 10

# One network of each family, with the shape of its input.
IMAGES, VIDEOS = (2, 3, 64, 64), (2, 3, 4, 32, 32)
OUTPUTS = {
    "convnext_tiny": (2, 3, 32, 32),
    "densenet121": IMAGES,
    "efficientnet_b0": IMAGES,
    "googlenet": IMAGES,
    "mc3_18": VIDEOS,
    "mobilenet_v2": IMAGES,
    "mobilenet_v3_large": IMAGES,
    "mobilenet_v3_small": IMAGES,
    "r2plus1d_18": VIDEOS,
    "r3d_18": VIDEOS,
    "regnet_y_400mf": IMAGES,
    "resnet18": IMAGES,
    "resnet50": IMAGES,
    "resnext50_32x4d": IMAGES,
    "shufflenet_v2_x0_5": IMAGES,
    "squeezenet1_1": IMAGES,
    "vgg11_bn": (2, 3, 32, 32),
}


def draw(name: str, shape: tuple[int, ...]) -> NDArray[np.float64] | NDArray[np.int64]:
    """Values of one entry, under which signals keep their size (He et al. 2015)."""
    rng = np.random.Generator(np.random.Philox(crc32(name.encode())))
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if last in ("running_var", "layer_scale") or (last == "weight" and len(shape) == 1):
        return rng.uniform(0.5, 1.0, shape)
    if len(shape) == 1:
        return 0.1 * rng.standard_normal(shape)
    return rng.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[1:]))


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.generic]]:
    """`draw` of every entry."""
    return {name: draw(name, tuple(shape)) for name, shape in shapes.items()}


def image(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """What the networks are given."""
    return np.random.Generator(np.random.Philox(7)).standard_normal(shape)


def without_drops(net: Any) -> Any:
    """The network of either library, in which nothing drops at random any more."""
    for module in net.modules():
        for name in ("p", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return net


def fingerprint(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Of names and shapes in their order."""
    text = "\n".join(f"{name} {tuple(shape)}" for name, shape in shapes)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
