"""The number of threads, the same for all; imports nothing that would read it too early."""

from __future__ import annotations

import os


def pin(threads: int) -> None:
    """Give this process the first `threads` of its processors, and say so to every peer.

    Call it before PyTorch, NumPy's BLAS and the like are imported: they read it then.
    """
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "STRIATE"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:threads])
