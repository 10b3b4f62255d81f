"""The network that a command names: one of the zoo, an ONNX file, or one that `train` saved."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate import models, nn, tools, train
from striate.dtype import as_dtype
from striate.errors import ShapeError, StriateError
from striate.tools.summary import Summary

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
        run: the network, compiled; it has a `profile`.
        declared: the shapes of the inputs, with the batch; None is a size that is free.
        dtypes: one per input.
        classes: their names; empty if there are none.
        mean, std: of the pixels, which are 0..1, one per channel.
        fresh: whether its weights are drawn at random.
    """

    name: str
    net: nn.Module
    run: Any
    declared: tuple[tuple[int | None, ...], ...]
    dtypes: tuple[str, ...] = ("float32",)
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    fresh: bool = False

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs.

        Raises:
            ShapeError: a size is free.
        """
        for number, shape in enumerate(self.declared, start=1):
            if None in shape:
                text = ",".join("?" if n is None else str(n) for n in shape)
                raise ShapeError(
                    f"{self.name}: input {number} ({text}): its size is free; say it with --shape, "
                    "once per input"
                )
        return self.declared  # type: ignore[return-value]

    @property
    def sizes(self) -> str:
        """The shapes as a text."""
        return " and ".join("x".join(map(str, shape)) or "scalar" for shape in self.shapes)

    def inputs(self) -> list[NDArray[Any]]:
        """Random inputs of these shapes; integers and truth values are ones."""
        rng = np.random.default_rng(0)
        types = [as_dtype(name) for name in self.dtypes]
        return [
            rng.standard_normal(shape, np.float32).astype(dtype.numpy)
            if dtype.is_floating
            else np.ones(shape, dtype.numpy)
            for shape, dtype in zip(self.shapes, types, strict=True)
        ]

    def tell_of_random_weights(self) -> None:
        """Warn, on the error stream, where the weights come from no file."""
        if self.fresh:
            print(f"striate: {self.name} has random weights; give --weights FILE", file=sys.stderr)

    def summary(self) -> Summary:
        """Its layers."""
        return tools.summary(self.net, *self.shapes, dtype=[*self.dtypes], title=self.name)


def add_arguments(p: argparse.ArgumentParser, more: str = "") -> None:
    """What names a network."""
    p.add_argument(
        "model", metavar="MODEL",
        help="a name of st.models, as resnet50; an .onnx file; model.safetensors of a training run"
        + more,
    )  # fmt: skip
    p.add_argument(
        "--weights", metavar="FILE",
        help=".safetensors, .npz, .pth or .pt, for a name or an .onnx file",
    )  # fmt: skip
    p.add_argument("--classes", type=at_least_one, metavar="N", help="outputs of a named model")
    p.add_argument(
        "--shape", type=_shape, action="append", metavar="N,C,H,W",
        help="of the input, with the batch; once per input",
    )  # fmt: skip


def is_network(name: str) -> bool:
    """Whether it names a network by itself: one of the zoo, or an ONNX file."""
    return name in models.MODELS or Path(name).suffix.lower() == ".onnx"


def open_source(args: argparse.Namespace) -> Source:
    """The network of the arguments.

    Raises:
        StriateError: there is no such model, a file is damaged, or an argument is for others.
        FileNotFoundError: there is no such file.
    """
    named = args.model in models.MODELS
    if args.classes and not named:
        raise StriateError(f"{args.model}: --classes is for models by name")
    if named:
        source = _named(args)
    elif is_network(args.model):
        source = _from_onnx(args.model)
    elif Path(args.model).suffix == ".safetensors":
        if args.weights:
            raise StriateError(f"{args.model}: --weights is for other models; this has its own")
        source = _from_training(args.model)
    else:
        raise StriateError(
            f"{args.model}: neither an .onnx file, nor model.safetensors of a training run, nor "
            f"one of {', '.join(sorted(models.MODELS))}"
        )
    if args.weights:
        st.load_weights(source.net, args.weights)
    source.net.eval()
    if args.shape and len(args.shape) != len(source.declared):
        raise ShapeError(
            f"--shape: {args.model} has {len(source.declared)} inputs, got {len(args.shape)} shapes"
        )
    return replace(source, declared=tuple(args.shape)) if args.shape else source


def _named(args: argparse.Namespace) -> Source:
    shape = args.shape[0] if args.shape else SHAPES.get(args.model, (1, 3, 224, 224))
    if len(shape) < 2:
        raise ShapeError(f"--shape: {args.model} needs a batch and channels, got {shape}")
    make = models.MODELS[args.model]
    given = {} if args.classes is None else {"num_classes": args.classes}
    if not given.keys() <= signature(make).parameters.keys():
        raise StriateError(f"--classes: {args.model} gives an image, not classes")
    with nn.init.skip() if args.weights else nullcontext():
        net = make(in_channels=shape[1], **given)
    mean, std = _pixels(shape[1])
    return Source(
        args.model, net, st.jit(net), (shape,), mean=mean, std=std, fresh=not args.weights
    )


def _from_onnx(path: str) -> Source:
    net = st.onnx.load(path)
    inputs = net.graph.inputs
    declared = tuple(_declared(v) for v in inputs)
    first = declared[0] if declared else ()
    mean, std = _pixels(3 if 3 in first[1:2] + first[3:4] else 1)
    return Source(path, net, net, declared, tuple(map(_element, inputs)), mean=mean, std=std)


def _from_training(path: str) -> Source:
    net, meta = trained(path)
    channels, size = meta["channels"], meta["size"]
    return Source(
        path,
        net,
        st.jit(net),
        ((1, channels, size, size),),
        classes=tuple(meta["classes"]),
        mean=(float(meta["mean"]),) * channels,
        std=(float(meta["std"]),) * channels,
    )


def _pixels(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std): ImageNet's for three channels, a half and a half for others."""
    if channels == len(IMAGENET_MEAN):
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.5,), (0.5,)


def _declared(tensor: Any) -> tuple[int | None, ...]:
    """The shape of an input of an ONNX model, with a batch of 1 where it is free.

    Raises:
        ShapeError: the model does not say how many axes it has.
    """
    if tensor.shape is None:
        raise ShapeError(f"{tensor}: the model does not say how many axes this input has")
    sizes = [n if isinstance(n, int) else None for n in tensor.shape]
    return (1 if sizes[0] is None else sizes[0], *sizes[1:]) if sizes else ()


def _element(tensor: Any) -> str:
    """The dtype of an input of an ONNX model; float16 is float32 here."""
    names = {"": "float32", "FLOAT": "float32", "FLOAT16": "float32", "DOUBLE": "float64"}
    return names.get(tensor.dtype, str(tensor.dtype).lower())


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
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {text!r}")
    return int(text)


def _shape(text: str) -> tuple[int, ...]:
    return tuple(at_least_one(part.strip()) for part in text.replace("x", ",").split(","))
