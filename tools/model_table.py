"""Prints docs/models.md's tables: sizes of the networks, and how long calls take.

    python tools/model_table.py [--sizes | --write] [NAME ...]

`--sizes` leaves the times out, `--write` puts both tables into the page. Times are of one network
of each family, or of those that are named. Each first call runs in a process of its own, at batch
1, with an empty cache of machine code and then with what the first left there. First calls are in
seconds of a processor, which say the same on a busy machine: cold of the process and the compilers
that it starts, warm from the call to the numbers. The calls that follow are by the clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

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
FAMILIES = (
    "convnext_tiny", "densenet121", "dncnn", "efficientnet_b0", "efficientnet_b4", "espcn",
    "googlenet", "lenet", "mc3_18", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
    "r2plus1d_18", "r3d_18", "regnet_y_400mf", "resnet18", "resnet20", "resnet50", "resnet152",
    "resnext50_32x4d", "shufflenet_v2_x1_0", "small", "squeezenet1_1", "tcn", "unet2d", "unet3d",
    "vgg16", "vgg16_bn", "wavenet", "wide_resnet50_2",
)  # fmt: skip
PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
CALLS = """
import sys, time
import numpy as np
import striate as st
net = st.models.MODELS[sys.argv[1]]().eval()
x = np.ones((1, *map(int, sys.argv[2].split(","))), np.float32)
start = time.process_time()
run = st.jit(net)
np.asarray(run(x))
first = time.process_time() - start
np.asarray(run(x))  # keeps what follows from weights alone, as packed ones
least, end = float("inf"), time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < end:
    start = time.perf_counter()
    np.asarray(run(x))
    least = min(least, time.perf_counter() - start)
print(first, least)
"""


def calls(name: str, shape: tuple[int, ...], cache: str, more: float) -> tuple[float, float, float]:
    """Seconds of the process with all that it starts, of its first call, and the least of the calls
    that follow for `more` seconds.
    """
    before = os.times()
    sizes = ",".join(map(str, shape))
    done = subprocess.run(
        [sys.executable, "-c", CALLS, name, sizes, str(more)],
        env={**os.environ, "STRIATE_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    after = os.times()
    whole = sum(
        getattr(after, n) - getattr(before, n) for n in ("children_user", "children_system")
    )
    first, least = map(float, done.stdout.split())
    return whole, first, least


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
        cold, *_ = calls(name, shape, cache, 0.0)
        _, warm, least = calls(name, shape, cache, 0.5)
    return f"{size_of(name)} {cold:.1f} | {warm:.2f} | {1e3 * least:.3g} |"


def table(names: Iterable[str], times: bool) -> Iterator[str]:
    """The lines of one of them."""
    more = " cold, s | warm, s | next, ms |" if times else ""
    yield f"| network | million parameters | input | billion multiply-adds |{more}"
    yield "|---" * (7 if times else 4) + "|"
    for name in names:
        yield (row if times else size_of)(name)


def written(page: str, heading: str, lines: Iterable[str]) -> str:
    """The page with another table below a heading."""
    start = page.index("\n| network", page.index(heading)) + 1
    end = page.find("\n\n", start)
    rest = page[end:] if end >= 0 else "\n"
    return page[:start] + "\n".join(lines) + rest


def main() -> None:
    """Print them, or write them."""
    options = {a for a in sys.argv[1:] if a.startswith("-")}
    names = [a for a in sys.argv[1:] if a not in options]
    if "--write" in options:
        page = PAGE.read_text(encoding="utf-8")
        page = written(page, "## Sizes", table(MODELS, False))
        page = written(page, "## Calls", table(names or FAMILIES, True))
        PAGE.write_text(page, encoding="utf-8")
        return
    times = "--sizes" not in options
    for line in table(names or (FAMILIES if times else MODELS), times):
        print(line, flush=True)


if __name__ == "__main__":
    main()
