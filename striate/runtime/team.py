"""Runs programs on a team of threads: every thread walks the same rows (SPMD) natively.

The workers are Python threads, known to debuggers and profilers, that each make one foreign call
which lasts as long as the team; no interpreter is between them. The calling thread is thread 0.

Only the interpreter handles signals, so a long run is cut: past a slice of time all leave at the
next barrier, Python looks, and the run goes on. A call that comes while this thread is inside of a
run (from a signal handler) and a call that finds no workers are run by the calling thread alone:
results do not depend on the number of threads. A forked child has the memory but not the threads;
it forgets the team and starts its own.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.codegen.machine import host_target
from striate.errors import RangeError, ShapeError
from striate.runtime.jit import load
from striate.runtime.placing import WORDS, placing_by_system
from striate.runtime.sleeping import Sleeping, by_system
from striate.runtime.team_code import BARRIER, LINE, SINGLE, Mail, TeamCode, Word
from striate.runtime.threads import get_num_threads

__all__ = ["BARRIER", "SINGLE", "Program", "get_num_threads", "profile", "run"]

_SLICE = 0.1  # seconds between looks at signals
# Seconds that are spun before parking: more than a wake-up takes, also that of an idle virtual
# processor. With less, who waits for one that wakes up parks too, and so on at every barrier.
_SPIN = 500e-6
_PUBLISHED, _NEXT = Word.PROFILE + 1, int(Word.NEXT)
_Code = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Program:
    """A plan, ready to run.

    Args:
        rows: int64[n, 3]: address of a kernel, address of its words, flags. `BARRIER`: all threads
            wait for each other after this row; without it, the next row may run at the same time.
            `SINGLE`: one thread calls it, as thread 0 of 1. A run ends with a barrier.
        keep: what must live as long as the program: the memory that it points to.

    Raises:
        ShapeError: the rows are not [n, 3].
        RangeError: a kernel's address is 0.
    """

    __slots__ = ("address", "count", "keep", "rows")

    def __init__(self, rows: ArrayLike, keep: Any = None) -> None:
        self.rows: NDArray[np.int64] = np.array(rows, np.int64, order="C")
        if self.rows.ndim != 2 or self.rows.shape[1] != 3:
            raise ShapeError(f"Program: rows must be [n, 3], got {list(self.rows.shape)}")
        if not self.rows[:, 0].all():
            raise RangeError("Program: the address of a kernel must not be 0")
        self.count = len(self.rows)
        self.address: int = self.rows.ctypes.data
        self.keep = keep


class _Block:
    """The words of a team of up to `threads` threads, at a multiple of a line."""

    def __init__(self, threads: int) -> None:
        count = Word.MAIL + LINE * threads
        self._memory = (ctypes.c_int64 * (count + LINE))()
        start = -ctypes.addressof(self._memory) % (8 * LINE)
        self.words = (ctypes.c_int64 * count).from_buffer(self._memory, start)
        self.address = ctypes.addressof(self.words)


class _Clock:
    """The clock of the team's code, and how fast it goes."""

    def __init__(self) -> None:
        target = host_target()
        code = TeamCode()
        self.call: Any = _Code(load([code], target)[code])
        self._block = _Block(1)
        self._start = self._now()

    def _now(self) -> tuple[int, float]:
        self.call(self._block.address, 0, 0)  # a run of no rows
        return self._block.words[Word.TICKS], time.perf_counter()

    def rate(self, seconds: float) -> float:
        """Ticks a second, measured over at least so many seconds."""
        while time.perf_counter() < self._start[1] + seconds:
            time.sleep(seconds / 4)
        ticks, now = self._now()
        return max((ticks - self._start[0]) / (now - self._start[1]), 1e3)


@cache
def _clock() -> _Clock:
    return _Clock()


@cache
def _roughly() -> float:
    """Ticks a second, for waiting."""
    return _clock().rate(1e-3)


class _Crew:
    """Threads 1 .. threads - 1, started, and the words that they share with thread 0."""

    def __init__(self, threads: int, sleeping: Sleeping | None = None, spin: float = _SPIN) -> None:
        self.call = _clock().call
        self.block = _Block(threads)
        self.sleeping = sleeping or by_system(threads)
        self.workers: list[threading.Thread] = []
        self.runs = 0
        words = self.block.words
        words[Word.SLICE] = int(_SLICE * _roughly())
        words[Word.SPIN] = words[Word.PATIENCE] = int(spin * _roughly())
        words[Word.SLEEP], words[Word.WAKE] = self.sleeping.sleep, self.sleeping.wake
        placing = placing_by_system()
        words[Word.LOCATE], words[Word.MOVE] = placing.locate, placing.move
        words[Word.ALLOWED : Word.ALLOWED + WORDS] = [*placing.allowed]
        for t, handle in enumerate(self.sleeping.handles):
            mail = Word.MAIL + LINE * t
            words[mail + Mail.HANDLE], words[mail + Mail.PROCESSOR] = handle, -1
        try:
            for t in range(1, threads):
                worker = threading.Thread(
                    target=self._work, args=(t,), name=f"striate-{t}", daemon=True
                )
                worker.start()
                self.workers.append(worker)
        except RuntimeError:  # no more threads can be had: fewer will do
            pass
        except BaseException:
            self.quit()
            raise

    def _work(self, thread: int) -> None:
        self.call(self.block.address, thread, 0)

    def run(self, program: Program, first: int, threads: int, ticks: int) -> int:
        """Run the rows from `first` until all are done or the slice is over; the next row."""
        words = self.block.words
        self.runs += 1
        team = min(threads, len(self.workers) + 1)
        words[:_PUBLISHED] = [program.address, program.count, first, team, self.runs, ticks]
        self.call(self.block.address, 0, 0)
        following: int = words[_NEXT]
        return following

    def quit(self) -> None:
        """End the workers; nobody may run the crew again."""
        self.block.words[:_PUBLISHED] = [0, 0, 0, len(self.workers) + 1, -1, 0]
        self.call(self.block.address, 0, 0)
        for worker in self.workers:
            worker.join()


class Team:
    """The threads of this process: one run at a time, whatever the number of callers."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """As if never started: also what a forked child does."""
        self._lock = threading.RLock()
        self._running = False
        self._crew: _Crew | None = None
        self._alone: list[_Crew] = []  # of one thread, not in use

    def run(self, program: Program, threads: int, ticks: int = 0) -> None:
        """Run a program; `ticks`: the address of i64[count] to add the time of each row to."""
        if threads == 1:
            self._run_alone(program, 0, ticks)
            return
        with self._lock:
            done, nested = 0, self._running
            try:
                self._running = True
                while done < program.count and not nested:  # a turn is a slice
                    done = self._ready(threads).run(program, done, threads, ticks)
            finally:
                self._running = nested
        if nested:
            self._run_alone(program, 0, ticks)

    def _ready(self, threads: int) -> _Crew:
        """A crew of at least so many threads, as far as they can be had."""
        if self._crew is None or len(self._crew.sleeping.handles) < threads:
            self._dismiss()
            self._crew = _Crew(threads)
        return self._crew

    def _dismiss(self) -> None:
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.quit()

    def _run_alone(self, program: Program, first: int, ticks: int) -> None:
        try:
            crew = self._alone.pop()
        except IndexError:
            crew = _Crew(1)
        while first < program.count:
            first = crew.run(program, first, 1, ticks)
        self._alone.append(crew)

    def stop(self) -> None:
        """End the threads; the next run starts others. Does nothing while another thread runs."""
        if self._lock.acquire(timeout=1):
            try:
                if not self._running:
                    self._dismiss()
            finally:
                self._lock.release()


_team = Team()
atexit.register(_team.stop)  # no worker may run code that the interpreter is about to free
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_team.forget)


def run(program: Program, threads: int | None = None) -> None:
    """Run a program on the team.

    Args:
        program: what to run.
        threads: how many take part; `get_num_threads()` if not given. With 1, the caller runs it
            alone: nobody is woken, and several Python threads can do so at the same time.
    """
    _team.run(program, threads or get_num_threads())


def profile(program: Program, threads: int | None = None) -> NDArray[np.float64]:
    """Run a program with a barrier after every row; the seconds that each row took, f64[n]."""
    ticks = np.zeros(program.count, np.int64)
    _team.run(program, threads or get_num_threads(), ticks.ctypes.data)
    return ticks / _clock().rate(0.02)
