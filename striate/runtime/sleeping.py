"""How a thread of the team sleeps: a semaphore of the system, or of Python where we know none.

Each is a pair of C functions that the team's code calls, `sleep(handle, -1, 0)` and
`wake(handle, 1, 0)`, and a handle for each thread; a system function ignores what it doesn't take.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import dataclass
from typing import Any

_SEMAPHORE_BYTES = 128  # sem_t takes 32 in glibc and musl


@dataclass(frozen=True, slots=True)
class Sleeping:
    """A way to sleep.

    Attributes:
        sleep, wake: addresses of the functions.
        handles: one a thread.
        keep: what must live as long as the team.
    """

    sleep: int
    wake: int
    handles: list[int]
    keep: tuple[Any, ...]


def _sleeping(sleep: Any, wake: Any, handles: list[int], *keep: Any) -> Sleeping:
    addresses = [ctypes.cast(f, ctypes.c_void_p).value or 0 for f in (sleep, wake)]
    return Sleeping(addresses[0], addresses[1], handles, keep)


def _posix(threads: int) -> Sleeping:
    """POSIX semaphores, in memory of our own."""
    library = ctypes.CDLL(None)
    memory = (ctypes.c_int64 * (threads * _SEMAPHORE_BYTES // 8))()
    first = ctypes.addressof(memory)
    handles = [first + t * _SEMAPHORE_BYTES for t in range(threads)]
    for handle in handles:
        if library.sem_init(ctypes.c_void_p(handle), 0, 0):
            raise OSError("sem_init failed")
    return _sleeping(library.sem_wait, library.sem_post, handles, memory)


def _darwin(threads: int) -> Sleeping:
    """Semaphores of libdispatch: macOS has no sem_init."""
    library = ctypes.CDLL(None)
    create = library.dispatch_semaphore_create
    create.restype, create.argtypes = ctypes.c_void_p, [ctypes.c_long]
    handles = [create(0) for _ in range(threads)]
    return _sleeping(library.dispatch_semaphore_wait, library.dispatch_semaphore_signal, handles)


def _windows(threads: int) -> Sleeping:
    library = ctypes.CDLL("kernel32")
    create = library.CreateSemaphoreW
    create.restype = ctypes.c_void_p
    create.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p]
    handles = [create(None, 0, 2**31 - 1, None) for _ in range(threads)]
    return _sleeping(library.WaitForSingleObject, library.ReleaseSemaphore, handles)


def by_python(threads: int) -> Sleeping:
    """Semaphores of Python: anywhere, but each call takes the interpreter's lock."""
    semaphores = [threading.Semaphore(0) for _ in range(threads)]
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)

    def sleep(thread: int, _: int, __: int) -> None:
        semaphores[thread].acquire()

    def wake(thread: int, _: int, __: int) -> None:
        semaphores[thread].release()

    functions = kind(sleep), kind(wake)
    return _sleeping(*functions, list(range(threads)), functions)


def by_system(threads: int) -> Sleeping:
    """The system's semaphores if they can be had, else Python's."""
    ways = {"linux": _posix, "darwin": _darwin, "win32": _windows}
    try:
        return ways.get(sys.platform, by_python)(threads)
    except (AttributeError, OSError):
        return by_python(threads)
