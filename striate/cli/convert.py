"""`striate convert`: weights to another format, a network to ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import striate as st
from striate import weights
from striate.cli.source import add_arguments, is_network, open_source
from striate.errors import StriateError

PYTORCH = {"format": "pt"}  # what PyTorch's readers of safetensors ask for


def run(args: argparse.Namespace) -> int:
    """Write weights in the format of the target's suffix, or a network as an .onnx file."""
    if Path(args.target).suffix.lower() == ".onnx":
        return _to_onnx(args)
    if args.dynamic_batch:
        raise StriateError(f"convert: --dynamic-batch is for networks, not for {args.target}")
    arrays, metadata = _of_network(args) if is_network(args.model) else _of_file(args)
    renamed = weights.renamed(arrays, dict(args.rename or []))
    is_safetensors = Path(args.target).suffix == ".safetensors"
    weights.write(args.target, renamed, metadata=metadata if is_safetensors else None)
    print(f"{len(renamed)} arrays in {args.target}")
    return 0


def _of_network(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    if args.key:
        raise StriateError("convert: --key is for PyTorch's files")
    source = open_source(args)
    source.tell_of_random_weights()
    return {k: v.numpy() for k, v in source.net.state_dict().items()}, PYTORCH


def _of_file(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    if args.weights or args.classes or args.shape:
        raise StriateError(
            f"convert: --weights, --classes and --shape are for networks; {args.model} holds "
            "weights alone"
        )
    arrays = weights.read(args.model, key=args.key)
    own = weights.metadata(args.model) if Path(args.model).suffix == ".safetensors" else {}
    return arrays, own or PYTORCH


def _to_onnx(args: argparse.Namespace) -> int:
    if args.key or args.rename:
        raise StriateError("convert: --key and --rename are for weights, not for networks")
    source = open_source(args)
    source.tell_of_random_weights()
    st.onnx.save(source.net, args.target, tuple(source.inputs()), dynamic_batch=args.dynamic_batch)
    print(f"{source.name} for {source.sizes} in {args.target}")
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
