"""`striate convert`: weights to another format, a network to ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import striate as st
from striate import weights
from striate.cli.source import add_arguments, open_source
from striate.errors import StriateError


def run(args: argparse.Namespace) -> int:
    """Write weights in the format of the target's suffix, or a network as an .onnx file."""
    if Path(args.target).suffix == ".onnx":
        return _to_onnx(args)
    if args.weights or args.classes or args.shape or args.dynamic_batch:
        raise StriateError(
            f"convert: --weights, --classes, --shape and --dynamic-batch are for networks, "
            f"{args.target} holds weights alone"
        )
    arrays = weights.read(args.model, key=args.key)
    renamed = weights.renamed(arrays, dict(args.rename or []))
    weights.write(args.target, renamed)
    print(f"{len(renamed)} arrays in {args.target}")
    return 0


def _to_onnx(args: argparse.Namespace) -> int:
    if args.key or args.rename:
        raise StriateError("convert: --key and --rename are for weights, not for networks")
    source = open_source(args)
    st.onnx.save(source.net, args.target, tuple(source.inputs()), dynamic_batch=args.dynamic_batch)
    shapes = " and ".join("x".join(map(str, s)) for s in source.shapes)
    print(f"{source.name} for {shapes} in {args.target}")
    return 0


def _change(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"must be OLD=NEW or OLD=, got {text!r}")
    return old, new


def add(commands: Any) -> None:
    """Register `convert`."""
    p = commands.add_parser("convert", help="weights or networks", description=run.__doc__)
    add_arguments(p, "; for a target of weights, a file of weights of any format")
    p.add_argument("target", metavar="TARGET", help="its suffix is the format")
    p.add_argument("--key", help="in PyTorch's files: under which key the weights are")
    p.add_argument(
        "--rename", type=_change, action="append", metavar="OLD=NEW",
        help="another beginning of names, as backbone.=",
    )  # fmt: skip
    p.add_argument("--dynamic-batch", action="store_true", help="ONNX: a batch of any size")
    p.set_defaults(run=run)
