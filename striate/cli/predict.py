"""`striate predict`: a network on image files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate import data, weights
from striate.cli.source import Source, add_arguments, at_least_one, open_source
from striate.data.folder import EXTENSIONS
from striate.dtype import as_dtype
from striate.errors import ShapeError, StriateError
from striate.pytree import flatten


def read_input(path: Path, source: Source) -> NDArray[Any]:
    """An image file as an input [1, C, H, W], or [1, H, W, C] where the model has it so: in the
    numbers that the model was trained on, or as it is for a model of uint8.

    Raises:
        ShapeError: the model does not take one image of one or three channels.
    """
    shape = source.declared[0] if len(source.declared) == 1 else ()
    last = len(shape) == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3)
    if len(shape) != 4 or shape[3 if last else 1] not in (1, 3):
        raise ShapeError(
            f"predict: {source.name} takes {' and '.join(map(str, source.declared))}, an image is "
            "(1, 1 or 3, H, W)"
        )
    channels, height, width = (shape[3], *shape[1:3]) if last else shape[1:]
    mode: Literal["L", "RGB"] = "L" if channels == 1 else "RGB"
    size = None if height is None or width is None else (height, width)
    x: NDArray[Any] = data.read_image(path, mode=mode, size=size)
    if source.dtypes[0] != "uint8":
        mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (source.mean, source.std))
        # As bright as 0..1, whatever the training data's scale.
        x = ((x.astype(np.float32) / 255 - mean) / std).astype(as_dtype(source.dtypes[0]).numpy)
    return (np.moveaxis(x, 0, 2) if last else x)[None]


def image_files(names: Sequence[str]) -> list[Path]:
    """The files, and the images in those that are folders.

    Raises:
        FileNotFoundError: a folder has none.
    """
    files: list[Path] = []
    for name in map(Path, names):
        if not name.is_dir():
            files.append(name)
            continue
        inside = (p for p in name.rglob("*") if p.suffix.lower() in EXTENSIONS)
        found = sorted(p for p in inside if p.is_file() and not p.name.startswith("."))
        if not found:
            raise FileNotFoundError(f"predict: no image ({', '.join(EXTENSIONS)}) in {name}")
        files += found
    return files


def run(args: argparse.Namespace) -> int:
    """Print the most likely classes of each image, or the shapes of what the network gives."""
    source = open_source(args)
    source = replace(
        source,
        classes=_labels(args.labels) if args.labels else source.classes,
        mean=_per_channel(args.mean or source.mean, source),
        std=_per_channel(args.std or source.std, source),
    )
    source.tell_of_random_weights()
    files = image_files(args.images)
    saved: dict[str, Any] = {}
    for path in files:
        found, _ = flatten(source.run(read_input(path, source)))
        outputs = [y.numpy() for y in found]
        if args.out:
            name = path.stem if f"{path.stem}.0" not in saved else f"{path.stem}-{len(saved)}"
            saved.update({f"{name}.{i}": y for i, y in enumerate(outputs)})
        if len(outputs) == 1 and outputs[0].ndim == 2:
            print(f"{path}: {_best(outputs[0][0], source.classes, args.top)}")
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
    try:
        return tuple(Path(path).read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise StriateError(f"predict: {path} is no text in UTF-8: {error}") from None


def _per_channel(values: Sequence[float], source: Source) -> tuple[float, ...]:
    """One number for each channel of the pixels, of one for all of them or as many."""
    shape = source.declared[0]
    channels = 3 if 3 in (*shape[1:2], *shape[3:4]) else 1
    if len(values) not in (1, channels):
        raise StriateError(f"predict: --mean and --std are 1 or {channels} numbers")
    return tuple(values) * (channels // len(values))


def add(commands: Any) -> None:
    """Register `predict`."""
    p = commands.add_parser("predict", help="run a network on images", description=run.__doc__)
    add_arguments(p)
    p.add_argument("images", metavar="IMAGE", nargs="+", help="image files, and folders of them")
    p.add_argument("--top", type=at_least_one, default=3, help="how many classes (default 3)")
    p.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    p.add_argument("--mean", type=float, nargs="+", help="of the pixels (0..1), one per channel")
    p.add_argument("--std", type=float, nargs="+", help="of the pixels, one per channel")
    p.add_argument("--out", metavar="FILE", help="write the outputs to an .npz or .safetensors")
    p.set_defaults(run=run)
