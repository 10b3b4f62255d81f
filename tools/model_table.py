"""Prints docs/models.md's tables: sizes of the networks, and how long a first call takes.

    python tools/model_table.py [--sizes] [NAME ...]

`--sizes` leaves the times out. Each first call runs in a process of its own, at batch 1, with an
empty cache of machine code and then with what the first left there. They are seconds of a
processor, which say the same on a busy machine: cold of the process and the compilers that it
starts, warm from the call to the numbers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import striate as st
from striate import nn
from striate.models import MODELS

INPUTS = {
    "lenet": (1, 28, 28), "small": (1, 28, 28), "dncnn": (1, 64, 64), "espcn": (1, 64, 64),
    "unet2d": (3, 128, 128), "unet3d": (1, 32, 32, 32), "tcn": (1, 256), "wavenet": (1, 1024),
    "r3d_18": (3, 8, 112, 112), "mc3_18": (3, 8, 112, 112), "r2plus1d_18": (3, 8, 112, 112),
    "efficientnet_b1": (3, 240, 240), "efficientnet_b2": (3, 288, 288),
    "efficientnet_b3": (3, 300, 300), "efficientnet_b4": (3, 380, 380),
    "efficientnet_b5": (3, 456, 456), "efficientnet_b6": (3, 528, 528),
    "efficientnet_b7": (3, 600, 600),
    **{f"resnet{depth}": (3, 32, 32) for depth in (20, 32, 44, 56, 110)},
}  # fmt: skip
FIRST = """
import sys, time
import numpy as np
import striate as st
net = st.models.MODELS[sys.argv[1]]().eval()
x = np.ones((1, *map(int, sys.argv[2].split(","))), np.float32)
start = time.process_time()
np.asarray(st.jit(net)(x))
print(time.process_time() - start)
"""


def first_call(name: str, shape: tuple[int, ...], cache: str) -> tuple[float, float]:
    """Seconds of the process with all that it starts, and of the call alone."""
    before = os.times()
    sizes = ",".join(map(str, shape))
    done = subprocess.run(
        [sys.executable, "-c", FIRST, name, sizes],
        env={**os.environ, "STRIATE_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    after = os.times()
    whole = sum(
        getattr(after, n) - getattr(before, n) for n in ("children_user", "children_system")
    )
    return whole, float(done.stdout)


def size_of(name: str) -> str:
    """Cells of a row: parameters, input, multiply-adds."""
    shape = INPUTS.get(name, (3, 224, 224))
    with nn.init.skip():
        net = MODELS[name]().eval()
    table = st.tools.summary(net, (1, *shape))
    size = "x".join(map(str, shape[1:]))
    return f"| `{name}` | {table.parameters / 1e6:.2f} | {size} | {table.macs / 1e9:.2f} |"


def row(name: str) -> str:
    """A row of the table with times."""
    shape = INPUTS.get(name, (3, 224, 224))
    with tempfile.TemporaryDirectory() as cache:
        (cold, _), (_, warm) = (first_call(name, shape, cache) for _ in range(2))
    return f"{size_of(name)} {cold:.1f} | {warm:.2f} |"


def main() -> None:
    """Print one of them."""
    only_sizes = "--sizes" in sys.argv
    names = [name for name in sys.argv[1:] if name != "--sizes"]
    times = "" if only_sizes else " cold, s | warm, s |"
    print(f"| network | million parameters | input | billion multiply-adds |{times}")
    print("|---" * (4 if only_sizes else 6) + "|")
    for name in names or MODELS:
        print((size_of if only_sizes else row)(name), flush=True)


if __name__ == "__main__":
    main()
