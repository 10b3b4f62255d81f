"""`striate inspect`: what is in a network or a weights file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from striate import models, tools, train, weights
from striate.cli.source import add_arguments, open_source
from striate.weights.formats import SUFFIXES


def run(args: argparse.Namespace) -> int:
    """Print a network layer by layer, or the arrays of a weights file."""
    path = Path(args.model)
    if args.model not in models.MODELS and path.suffix in SUFFIXES and not _is_network(path):
        _print_arrays(path)
        return 0
    source = open_source(args)
    print(tools.summary(source.net, *source.shapes, title=source.name))
    return 0


def _is_network(path: Path) -> bool:
    """Whether `striate train` wrote it, which says what network the weights are of."""
    if path.suffix != ".safetensors" or "striate" not in weights.metadata(path):
        return False
    return train.load(path)[1].get("model") in models.MODELS


def _print_arrays(path: Path) -> None:
    arrays = weights.read(path)
    width = max((len(name) for name in arrays), default=0)
    for name, array in arrays.items():
        print(f"{name:{width}}  {array.dtype.name}{list(array.shape)}")
    total, size = (sum(getattr(a, what) for a in arrays.values()) for what in ("size", "nbytes"))
    print(f"{len(arrays)} arrays, {total:,} numbers, {size:,} bytes")


def add(commands: Any) -> None:
    """Register `inspect`."""
    p = commands.add_parser("inspect", help="layers and costs", description=run.__doc__)
    add_arguments(p)
    p.set_defaults(run=run)
