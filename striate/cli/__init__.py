"""The command `striate`: train, eval, predict, inspect, bench, convert."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import striate as st
from striate.cli import bench, convert, describe, predict, training
from striate.errors import StriateError

EXAMPLES = """examples:
  striate train digits
  striate train mnist --data MNIST_DIR --epochs 3
  striate train folder --data PHOTOS --model resnet20 --size 32
  striate eval runs/digits/model.safetensors digits
  striate predict runs/digits/model.safetensors image.png
  striate predict resnet20 --weights resnet20.pth photo.jpg --labels names.txt
  striate predict model.onnx photo.jpg photos/ --out outputs.npz
  striate inspect resnet20
  striate inspect weights.pth
  striate bench resnet20 --shape 16,3,32,32 --threads 1
  striate bench model.onnx
  striate convert weights.pth weights.safetensors
  striate convert model.onnx weights.npz
  striate convert resnet20 resnet20.onnx --weights weights.pth --dynamic-batch
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="striate",
        description="Convolutional networks, trained and run on the processor you have.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"striate {st.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (training, predict, describe, bench, convert):
        module.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command: 0 is success, 1 a failure told in one line, 2 a wrong call."""
    if isinstance(sys.stdout, TextIOWrapper):  # names in files may have what a terminal has not
        sys.stdout.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads has read enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (StriateError, OSError, ImportError) as error:
        print(f"striate: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"striate: not enough memory: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        more = "; --resume goes on from the last checkpoint" if args.command == "train" else ""
        print(f"striate: interrupted{more}", file=sys.stderr)
        return 130
