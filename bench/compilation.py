"""What a compiler costs: time to the first result, cold and warm, memory, and overhead per call.

Each number comes from a process of its own (`bench.child`). Cold: the caches of compiled code are
empty directories; warm: those that the cold process left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.timing import OURS, Result, Row

LIBRARIES = (OURS, "torch.compile", "torch")
ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 900
KINDS = ("cold start", "warm start", "second call", "new batch, same process",
         "new image size, same process")  # fmt: skip
# (network, mode, batch)
PROGRAMS = (
    ("small", "inference", 1), ("small", "training", 16),
    ("resnet50", "inference", 1), ("resnet50", "training", 4),
)  # fmt: skip
SIZES = 100


def child(
    arguments: Sequence[object], threads: int, cache: str, timeout: float = TIMEOUT
) -> dict[str, float]:
    """What a child process measures, with its caches of compiled code in the directory `cache`.

    Raises:
        RuntimeError: it failed; the message is its last line.
    """
    env = os.environ | {
        "BENCH_THREADS": str(threads),
        "STRIATE_CACHE_DIR": f"{cache}/striate",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "bench.child", *map(str, arguments)]
    try:
        done = subprocess.run(
            command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"more than {timeout:.0f} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(next((x for x in reversed(lines) if "Error" in x), lines[-1])[:200])
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def starts(
    title: str,
    program: tuple[str, str, int],
    libraries: Sequence[str],
    threads: int,
    rounds: int,
) -> list[Result]:
    """One result per kind of first call."""
    rows = {kind: [Row(library) for library in libraries] for kind in KINDS}
    for _ in range(rounds):
        for i, library in enumerate(libraries):
            with tempfile.TemporaryDirectory() as cache:
                try:
                    arguments = ("first", library, *program)
                    cold, warm = (child(arguments, threads, cache) for _ in range(2))
                except RuntimeError as error:
                    for kind in KINDS:
                        rows[kind][i].reason = str(error)
                    continue
            values = (
                cold["first"], warm["first"], cold["second"], cold["new batch"],
                cold.get("new size"),
            )  # fmt: skip
            for kind, seconds in zip(KINDS, values, strict=True):
                if seconds is not None:
                    rows[kind][i].samples.append(seconds)
    return [
        Result(kind, title, found)
        for kind, found in rows.items()
        if any(r.samples or r.reason for r in found)
    ]


def single(
    group: str,
    name: str,
    unit: str,
    arguments: Mapping[str, tuple[object, ...]],
    threads: int,
    rounds: int,
) -> Result:
    """One number per library, of equal tasks."""
    rows = [Row(library) for library in arguments]
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(rounds):
            for row in rows:
                try:
                    found = child(arguments[row.name], threads, cache)
                    row.samples.append(next(iter(found.values())))
                except RuntimeError as error:
                    row.reason = str(error)
    return Result(group, name, rows, unit=unit)


def _libraries(name: str, compiled: str) -> list[str]:
    """Whom to measure; torch.compile takes minutes for a large network: only if it is asked for."""
    left_out = compiled == "never" or (compiled == "auto" and name != "small")
    return [x for x in LIBRARIES if not (left_out and x == "torch.compile")]


def results(
    threads: int, rounds: int, part: bool, compiled: str, wants: Callable[[str, str], bool]
) -> Iterator[Result]:
    """All of the suite that is wanted (by group and name), one after another; or a part.

    Args:
        threads, rounds: of each measurement.
        part: whether to leave out the large networks.
        compiled: where torch.compile is a peer: `auto`, `always` or `never`.
        wants: of a group and a name.
    """
    calls = {library: ("overhead", library, 5000) for library in LIBRARIES}
    if wants("import", "import striate"):
        once = {OURS: ("import",)}
        yield single("import", "import striate", "ms", once, threads, max(rounds, 3))
    if wants("call of a compiled plan", "x + 1, f32[16]"):
        yield single("call of a compiled plan", "x + 1, f32[16]", "us", calls, threads, rounds)
    for name, mode, batch in PROGRAMS[: 2 if part else None]:
        title = f"{name} {mode}, batch {batch}"
        if any(wants(kind, title) for kind in KINDS):
            libraries = _libraries(name, compiled)
            yield from starts(title, (name, mode, batch), libraries, threads, rounds)
    group, title = f"{SIZES} image sizes", "resnet18 inference, batch 1, all first calls"
    if not part and wants(group, title):
        many = {x: ("sizes", x, "resnet18", SIZES) for x in _libraries("resnet18", compiled)}
        yield single(group, title, "ms", many, threads, 1)
    for name in ("small",) if part else ("small", "resnet18", "resnet50"):
        group, title = "peak memory of a training step", f"{name}, batch 16"
        if wants(group, title):
            sizes = {library: ("memory", library, name, 16) for library in (OURS, "torch")}
            yield single(group, title, "MB", sizes, threads, 1)
