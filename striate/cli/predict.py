"""`striate predict`: a network on image files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate import data, weights
from striate.cli.source import Source, add_arguments, at_least_one, open_source
from striate.errors import ShapeError, StriateError
from striate.pytree import flatten


def read_input(path: str, source: Source, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An image file as f32[1, C, H, W], in the numbers that the model was trained on.

    Raises:
        ShapeError: the model does not take one image of one or three channels.
    """
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise ShapeError(f"predict: {source.name} takes {shape}, an image is (1, 1 or 3, H, W)")
    mode: Literal["L", "RGB"] = "L" if shape[1] == 1 else "RGB"
    image = data.read_image(path, mode=mode, size=(shape[2], shape[3]))
    x = image.astype(np.float32) / 255  # as bright as 0..1, whatever the training data's scale
    mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (source.mean, source.std))
    scaled: NDArray[np.float32] = ((x - mean) / std).astype(np.float32)
    return scaled[None]


def run(args: argparse.Namespace) -> int:
    """Print the most likely classes of each image, or the shapes of what the network gives."""
    source = open_source(args)
    if args.mean or args.std:
        source = _normalised(source, args)
    classes = _labels(args.labels) if args.labels else source.classes
    forward = st.jit(source.net)
    saved: dict[str, Any] = {}
    for path in args.images:
        found, _ = flatten(forward(read_input(path, source, source.shapes[0])))
        outputs = [y.numpy() for y in found]
        saved.update({f"{Path(path).stem}.{i}": y for i, y in enumerate(outputs)})
        if len(outputs) == 1 and outputs[0].ndim == 2:
            print(f"{path}: {_best(outputs[0][0], classes, args.top)}")
        else:
            for i, y in enumerate(outputs):
                span = f", {y.min():.4g} to {y.max():.4g}" if y.size else ""
                print(f"{path}: output {i}: {y.dtype.name}{list(y.shape)}{span}")
    if args.out:
        weights.write(args.out, saved)
        print(f"outputs in {args.out}")
    return 0


def _best(scores: NDArray[Any], classes: tuple[str, ...], top: int) -> str:
    if classes and len(classes) != len(scores):
        raise StriateError(f"predict: {len(classes)} labels for {len(scores)} scores")
    probable = scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3
    p = scores if probable else st.softmax(st.asarray(scores)).numpy()
    best = np.argsort(-p, kind="stable")[:top]
    return "  ".join(f"{classes[i] if classes else i} {p[i]:.1%}" for i in best)


def _labels(path: str) -> tuple[str, ...]:
    return tuple(Path(path).read_text(encoding="utf-8").splitlines())


def _normalised(source: Source, args: argparse.Namespace) -> Source:
    channels = source.shapes[0][1]
    pair = [tuple(args.mean or source.mean), tuple(args.std or source.std)]
    pair = [v * channels if len(v) == 1 else v for v in pair]
    if any(len(v) != channels for v in pair):
        raise StriateError(f"predict: --mean and --std are 1 or {channels} numbers")
    return Source(source.name, source.net, source.shapes, source.classes, *pair)


def add(commands: Any) -> None:
    """Register `predict`."""
    p = commands.add_parser("predict", help="run a network on images", description=run.__doc__)
    add_arguments(p)
    p.add_argument("images", metavar="IMAGE", nargs="+", help="image files of any format")
    p.add_argument("--top", type=at_least_one, default=3, help="how many classes (default 3)")
    p.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    p.add_argument("--mean", type=float, nargs="+", help="of the pixels (0..1), one per channel")
    p.add_argument("--std", type=float, nargs="+", help="of the pixels, one per channel")
    p.add_argument("--out", metavar="FILE", help="write the outputs to an .npz or .safetensors")
    p.set_defaults(run=run)
