"""`import striate` is quick and quiet: no compiler, nothing optional, no warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LATER = ["llvmlite", "matplotlib", "torch", "onnx", "PIL", "rich", "safetensors"]
SECONDS = 0.15
ATTEMPTS = 60  # other tests share the cores


def python(*arguments: str, **variables: str) -> str:
    """What a fresh interpreter prints. It must succeed and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | variables,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_import_loads_nothing_heavy() -> None:
    loaded = python(
        "-c", f"import sys, striate; print([name for name in {LATER} if name in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_import_is_quick(tmp_path: Path) -> None:
    """The best of some fresh processes: the others were waiting for the disk or for a core, and the
    first, as after an installation, for the compiler of Python.
    """
    cached = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    timed = "from time import perf_counter as now; a = now(); import striate; print(now() - a)"
    seconds = []
    while len(seconds) < ATTEMPTS and (not seconds or min(seconds) >= SECONDS):
        seconds.append(float(python("-c", timed, **cached)))
    assert min(seconds) < SECONDS


def test_import_warns_of_nothing() -> None:
    python("-W", "error", "-c", "import striate")
