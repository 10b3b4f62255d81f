"""The network that a command names: one of the zoo, an ONNX file, or one that `train` saved."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate import models, nn, train
from striate.errors import ShapeError, StriateError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Where the usual 224 x 224 colour image is not what a network is for.
SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("small", "lenet"), (1, 1, 28, 28)),
    **{f"resnet{depth}": (1, 3, 32, 32) for depth in (20, 32, 44, 56, 110)},
    **{
        f"efficientnet_b{i}": (1, 3, size, size)
        for i, size in enumerate((224, 240, 288, 300, 380, 456, 528, 600))
    },
    **dict.fromkeys(("r3d_18", "mc3_18", "r2plus1d_18"), (1, 3, 16, 112, 112)),
    **dict.fromkeys(("dncnn", "espcn"), (1, 1, 224, 224)),
    "unet2d": (1, 3, 256, 256),
    "unet3d": (1, 1, 64, 64, 64),
    "tcn": (1, 1, 784),
    "wavenet": (1, 1, 8192),
}


@dataclass(frozen=True)
class Source:
    """A network and what goes into it.

    Attributes:
        name: what was asked for.
        net: in evaluation mode.
        shapes: one per input, with the batch.
        classes: their names; empty if there are none.
        mean, std: of the pixels, which are 0..1, one per channel.
    """

    name: str
    net: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def inputs(self, seed: int = 0) -> list[NDArray[np.float32]]:
        """Random inputs of these shapes."""
        rng = np.random.default_rng(seed)
        return [rng.standard_normal(shape, np.float32) for shape in self.shapes]


def add_arguments(p: argparse.ArgumentParser, more: str = "") -> None:
    """What names a network."""
    p.add_argument(
        "model", metavar="MODEL",
        help="a name of st.models, as resnet50; an .onnx file; model.safetensors of a training run"
        + more,
    )  # fmt: skip
    p.add_argument("--weights", metavar="FILE", help=".safetensors, .npz, .pth or .pt for a name")
    p.add_argument("--classes", type=at_least_one, metavar="N", help="outputs of a named model")
    p.add_argument(
        "--shape", type=_shape, action="append", metavar="N,C,H,W",
        help="of the input, with the batch; once per input",
    )  # fmt: skip


def open_source(args: argparse.Namespace) -> Source:
    """The network of the arguments.

    Raises:
        StriateError: there is no such model, a file is damaged, or the shape is missing.
        FileNotFoundError: there is no such file.
    """
    if args.model in models.MODELS:
        source = _named(args)
    elif Path(args.model).suffix == ".onnx":
        net = st.onnx.load(args.model)
        shapes = tuple(args.shape or map(_declared, net.graph.inputs))
        source = Source(args.model, net, shapes, (), *_pixels(shapes))
    elif Path(args.model).suffix == ".safetensors":
        module, meta = trained(args.model)
        source = Source(
            args.model,
            module,
            ((1, meta["channels"], meta["size"], meta["size"]),),
            tuple(meta["classes"]),
            (float(meta["mean"]),) * meta["channels"],
            (float(meta["std"]),) * meta["channels"],
        )
    else:
        raise StriateError(
            f"{args.model}: neither an .onnx file, nor model.safetensors of a training run, nor "
            f"one of {', '.join(sorted(models.MODELS))}"
        )
    if args.weights and args.model not in models.MODELS:
        raise StriateError(f"{args.model}: --weights is for models by name; this one has its own")
    source.net.eval()
    return replace(source, shapes=tuple(args.shape)) if args.shape else source


def _named(args: argparse.Namespace) -> Source:
    shape = args.shape[0] if args.shape else SHAPES.get(args.model, (1, 3, 224, 224))
    if len(shape) < 2:
        raise ShapeError(f"--shape: {args.model} needs a batch and channels, got {shape}")
    make = models.MODELS[args.model]
    given = {} if args.classes is None else {"num_classes": args.classes}
    if not given.keys() <= signature(make).parameters.keys():
        raise StriateError(f"--classes: {args.model} gives an image, not classes")
    net = make(in_channels=shape[1], **given)
    if args.weights:
        st.load_weights(net, args.weights)
    return Source(args.model, net, (shape,), (), *_pixels((shape,)))


def _pixels(shapes: tuple[tuple[int, ...], ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std): ImageNet's for three channels, a half and a half for others."""
    if shapes and len(shapes[0]) > 1 and shapes[0][1] == len(IMAGENET_MEAN):
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.5,), (0.5,)


def _declared(tensor: Any) -> tuple[int, ...]:
    """The shape of an input of an ONNX model, with a batch of 1 where it is free.

    Raises:
        ShapeError: another size is free.
    """
    sizes = tensor.shape
    if sizes is not None and sizes and not isinstance(sizes[0], int):
        sizes = (1, *sizes[1:])
    if sizes is None or not all(isinstance(n, int) for n in sizes):
        raise ShapeError(f"{tensor}: its size is free; say it with --shape, once per input")
    return tuple(sizes)


def trained(path: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a weights file, in evaluation mode, and what was saved beside it.

    Raises:
        FileNotFoundError: there is no such file.
        StriateError: it is damaged, or no model that `striate train` saved.
    """
    arrays, meta = train.load(path)
    if meta.get("model") not in models.MODELS:
        raise StriateError(f"{path}: no model that `striate train` saved (give model.safetensors)")
    net = models.MODELS[meta["model"]](len(meta["classes"]), meta["channels"])
    net.load_state_dict(arrays)
    net.eval()
    return net, meta


def at_least_one(text: str) -> int:
    """The type of counts on the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {value}")
    return value


def _shape(text: str) -> tuple[int, ...]:
    return tuple(at_least_one(part) for part in text.replace("x", ",").split(","))
