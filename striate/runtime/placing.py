"""Where the threads of the team run: each on a processor of its own, as long as there are enough.

A system's scheduler may keep two threads on one processor that wait for each other in turns: it
sees one that runs and one that sleeps. Linux in a virtual machine does so for whole seconds, since
it takes a halted virtual processor for a preempted one, and wakes a thread where its waker runs.
So a thread that finds itself beside an earlier one leaves (see `team_code.py`).
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Any

WORDS = 16  # i64 of a set of processors: 1024, as many as the system's own type has


@dataclass(frozen=True, slots=True)
class Placing:
    """A way to know and to choose the processor of a thread.

    Attributes:
        locate: address of `i32 locate()`, the number of the caller's processor; 0 if unknown.
        move: address of `move(0, bytes, i64[WORDS]*)`: the caller may run on these only.
        allowed: the processors that a thread may use, a bit each, as WORDS numbers.
    """

    locate: int
    move: int
    allowed: list[int]


_NOWHERE = Placing(0, 0, [0] * WORDS)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def placing_by_system() -> Placing:
    """That of Linux; elsewhere the scheduler decides."""
    if sys.platform != "linux":
        return _NOWHERE
    try:
        library = ctypes.CDLL(None)
        locate, move = _address(library.sched_getcpu), _address(library.sched_setaffinity)
        processors = os.sched_getaffinity(0)
    except (AttributeError, OSError):
        return _NOWHERE
    bits = sum(1 << p for p in processors if p < 64 * WORDS)
    words = bits.to_bytes(8 * WORDS, "little")
    return Placing(locate, move, [*memoryview(words).cast("q")])
