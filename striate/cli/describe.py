"""`striate inspect`: what is in a network or a weights file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from striate import models, train, weights
from striate.cli.source import add_arguments, is_network, open_source
from striate.errors import StriateError


def run(args: argparse.Namespace) -> int:
    """Print a network layer by layer, or the arrays of a weights file."""
    if is_network(args.model) or not Path(args.model).exists() or _says_its_network(args.model):
        print(open_source(args).summary())
        return 0
    if args.weights or args.classes or args.shape:
        raise StriateError(
            f"inspect: --weights, --classes and --shape are for networks; {args.model} holds "
            "weights alone"
        )
    _print_arrays(args.model)
    return 0


def _says_its_network(path: str) -> bool:
    """Whether `striate train` wrote it, which says what network the weights are of."""
    if Path(path).suffix != ".safetensors" or "striate" not in weights.metadata(path):
        return False
    return train.load(path)[1].get("model") in models.MODELS


def _print_arrays(path: str) -> None:
    arrays = weights.read(path)
    names = [name if name.isprintable() else repr(name) for name in arrays]
    width = max(map(len, names), default=0)
    for name, array in zip(names, arrays.values(), strict=True):
        print(f"{name:{width}}  {array.dtype.name}{list(array.shape)}")
    total, size = (sum(getattr(a, what) for a in arrays.values()) for what in ("size", "nbytes"))
    print(f"{len(arrays)} arrays, {total:,} numbers, {size:,} bytes")


def add(commands: Any) -> None:
    """Register `inspect`."""
    p = commands.add_parser("inspect", help="layers and costs", description=run.__doc__)
    add_arguments(p, "; a file of weights of any format")
    p.set_defaults(run=run)
