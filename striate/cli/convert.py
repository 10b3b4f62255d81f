"""`striate convert`: weights from one format to another."""

from __future__ import annotations

import argparse
from typing import Any

from striate import weights
from striate.weights.formats import SUFFIXES


def run(args: argparse.Namespace) -> int:
    """Read weights of any format and write them in that of the target's suffix."""
    arrays = weights.read(args.source, key=args.key)
    renamed = weights.renamed(arrays, dict(args.rename or []))
    weights.write(args.target, renamed)
    print(f"{len(renamed)} arrays in {args.target}")
    return 0


def _change(text: str) -> tuple[str, str | None]:
    old, sign, new = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"must be OLD=NEW or OLD=, got {text!r}")
    return old, new


def add(commands: Any) -> None:
    """Register `convert`."""
    p = commands.add_parser("convert", help="weights to another format", description=run.__doc__)
    p.add_argument("source", metavar="SOURCE", help=f"{', '.join(SUFFIXES)}")
    p.add_argument("target", metavar="TARGET", help="its suffix is the format")
    p.add_argument("--key", help="in PyTorch's files: under which key the weights are")
    p.add_argument(
        "--rename", type=_change, action="append", metavar="OLD=NEW",
        help="another beginning of names, as backbone.=",
    )  # fmt: skip
    p.set_defaults(run=run)
