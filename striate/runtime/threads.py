"""How many threads a run takes."""

from __future__ import annotations

from operator import index

from striate.config import settings
from striate.errors import RangeError
from striate.target import cpu_count

_chosen: list[int] = []


def set_num_threads(n: int) -> None:
    """Use n threads from the next run on, in the whole process. Results do not depend on it.

    Raises:
        TypeError: n is not an integer.
        RangeError: n is less than 1.

    >>> before = get_num_threads()
    >>> set_num_threads(3)
    >>> get_num_threads()
    3
    >>> set_num_threads(before)
    """
    number = index(n)
    if number < 1:
        raise RangeError(f"set_num_threads: there must be at least 1 thread, got {number}")
    _chosen[:] = [number]


def get_num_threads() -> int:
    """The threads of a run: what was set, or `STRIATE_NUM_THREADS`, or one a processor."""
    return _chosen[0] if _chosen else settings().num_threads or cpu_count()
