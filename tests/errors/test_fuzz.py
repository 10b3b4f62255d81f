"""2,000 random calls from the boundary, in a process with limited memory and time."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("seed", range(2))
def test_random_calls_end_well(seed: int) -> None:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.errors.fuzz", str(seed), "1000"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    complaints = [f"{call}\n    {line}" for call, line in pairwise(lines) if line.startswith("BAD")]
    assert not complaints, "\n".join(complaints)
    assert done.returncode == 0, f"died in {lines[-1] if lines else '?'}\n{done.stderr[-2000:]}"
