"""Read damaged files by the thousand; fail if one is anything but read or refused.

    python -m tools.fuzz [--count 3000] [--seed 0] [--only NAME] [--out FILE]

Each kind of file has a process of its own. While a file is read, an audit hook notes whatever
executes code, starts processes, opens sockets, or touches files other than the one that is read.
What a file may cost is stated beside `LIMITS`. The table of results replaces FILE.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import striate as st
from striate import weights
from striate.data import FormatError
from tests.mutate import mutations
from tests.weights.files import EXAMPLES, npy, pickled, pth, zipped

ROOT = Path(__file__).resolve().parent.parent

# LIMITS of one file: a multiple of its size, beside what Python's own modules take; generous time.
TIMES_SIZE, AND_BYTES, SECONDS = 128, 1 << 20, 5.0

FORBIDDEN = (
    "exec", "marshal.loads", "pickle.find_class", "code.__new__", "ctypes.dlopen",
    "os.", "subprocess.", "socket.", "shutil.", "tempfile.", "urllib.", "webbrowser.",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of file: valid bytes, where their headers are, and how damaged bytes become a file."""

    content: bytes
    focus: int
    wrap: Callable[[bytes], bytes] = lambda broken: broken


KINDS: dict[str, Kind] = {
    "safetensors": Kind(EXAMPLES["safetensors"], 400),
    "npz": Kind(EXAMPLES["npz"], 200),
    "npz, packed": Kind(EXAMPLES["packed npz"], 200),
    "npy in an intact npz": Kind(npy(), 128, lambda b: zipped({"x.npy": b})),
    "pth": Kind(EXAMPLES["pth"], 200),
    "pickle in an intact pth": Kind(
        pickled("pth"), 4000, lambda b: pth(b, s0=bytes(96), s1=bytes(8), s2=bytes(8), s3=bytes(3))
    ),
    "legacy pth": Kind(EXAMPLES["legacy pth"], 4000),
}


class Watch:
    """The audit hook: what happens while `on`."""

    def __init__(self) -> None:
        self.on, self.seen, self.path = False, Counter[str](), ""
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            if str(args[0]) != self.path or (
                isinstance(args[1], str) and args[1] not in ("rb", "r")
            ):
                self.seen[f"open {args[0]!r} {args[1]!r}"] += 1
        elif event.startswith(FORBIDDEN):
            self.seen[event] += 1


def child(name: str, count: int, seed: int) -> int:
    """Read `count` damaged files of a kind; the outcome is one line of JSON."""
    kind = KINDS[name]
    outcome: Counter[str] = Counter()
    failures: list[str] = []
    worst_memory = worst_seconds = 0.0
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights")
        watch.path = str(path)
        for number, broken in enumerate(mutations(kind.content, count, seed, kind.focus)):
            content = kind.wrap(broken)
            path.write_bytes(content)
            faulthandler.dump_traceback_later(60, exit=True)
            tracemalloc.start()
            start = time.perf_counter()
            watch.on = True
            try:
                weights.read(path)
                outcome["read"] += 1
            except FormatError:
                outcome["refused"] += 1
            except Exception as error:
                failures.append(f"{number}: {type(error).__name__}: {error}"[:300])
            watch.on = False
            seconds = time.perf_counter() - start
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            allowed = TIMES_SIZE * len(content) + AND_BYTES
            worst_memory = max(worst_memory, peak / allowed)
            worst_seconds = max(worst_seconds, seconds)
            if peak > allowed or seconds > SECONDS:
                failures.append(f"{number}: {peak} bytes of {allowed}, {seconds:.2f} s")
            if [p.name for p in Path(folder).iterdir()] != ["weights"]:
                failures.append(f"{number}: wrote a file")
        faulthandler.cancel_dump_traceback_later()
    failures += [f"{event}, {n} times" for event, n in watch.seen.items()]
    print(
        json.dumps(
            {
                "read": outcome["read"],
                "refused": outcome["refused"],
                "memory": worst_memory,
                "seconds": worst_seconds,
                "failures": failures,
            }
        )
    )
    return 1 if failures else 0


def table(rows: dict[str, dict[str, Any]], count: int, seed: int) -> str:
    """The results as Markdown."""
    lines = [
        "# Damaged weights files",
        "",
        f"`make fuzz`: {count} files of each kind, {count * len(rows)} in all; seed {seed}.",
        f"striate {st.__version__}, Python {platform.python_version()}, NumPy {np.__version__}.",
        "",
        "Every file was read or refused with `FormatError`. None executed code, started a process,",
        "opened a socket, or touched another file. A file may take "
        f"{TIMES_SIZE} times its size + {AND_BYTES >> 20} MiB and {SECONDS:g} s.",
        "",
        "| kind | read | refused | most memory, of what it may take | longest |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['read']} | {row['refused']} | {row['memory']:.0%} "
            f"| {1e3 * row['seconds']:.0f} ms |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000, help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child, args.count, args.seed)
    rows: dict[str, dict[str, Any]] = {}
    bad = False
    for name in [args.only] if args.only else KINDS:
        call = ["--child", name, "--count", str(args.count), "--seed", str(args.seed)]
        done = subprocess.run(
            [sys.executable, "-m", "tools.fuzz", *call], cwd=ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if not done.stdout:
            print(f"{name}: the process ended with {done.returncode}\n{done.stderr}")
            bad = True
            continue
        rows[name] = json.loads(done.stdout)
        failures = rows[name]["failures"]
        print(f"{name}: {rows[name]['read']} read, {rows[name]['refused']} refused")
        for line in failures[:20]:
            print(f"  {line}")
        bad = bad or bool(failures)
    if args.out and not bad:
        args.out.write_text(table(rows, args.count, args.seed), encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
