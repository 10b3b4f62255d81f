"""Many kernels to object files at once, in processes of our own (`worker.py`).

They exist for three reasons: LLVM has one lock in llvmlite, its scheduler can only be turned off
for a whole process, and a compiler that dies takes nothing with it. A call takes idle workers,
starts as many more as there are jobs and processors, and puts them back at the end; so calls from
several threads, or from signal handlers, do not meet. Where no process can be started, the kernel
is compiled here: its code is as correct, but may be slower. So little that it takes less time than
to start a process is compiled here, too, with the scheduler turned off meanwhile.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from traceback import format_exc
from typing import Any

from striate.codegen.kernel import Kernel, emit
from striate.codegen.machine import compile_object, without_scheduler
from striate.target import Target, cpu_count

_PATIENCE = 30  # seconds that an idle worker stays
_MOST = 16  # workers of one call: each takes about 100 MB
_FEW = 8  # kernels whose IR is emitted here: a worker would have to import NumPy and the kernels
HERE = 150_000  # characters of IR that are compiled here: about as long as a process starts
_SCRIPT = Path(__file__).with_name("worker.py")
_Source = str | partial[str]  # IR text, or the function that returns it
_LOST = (EOFError, OSError, ValueError, pickle.UnpicklingError)  # what a dead worker looks like


class NoWorker(Exception):
    """No process can be started here."""


class Worker:
    """One process that compiles.

    Raises:
        NoWorker: it does not start.
    """

    def __init__(self) -> None:
        if getattr(sys, "frozen", False) or not sys.executable or not _SCRIPT.exists():
            raise NoWorker  # sys.executable is not a Python interpreter
        options: dict[str, Any] = (
            {"creationflags": subprocess.CREATE_NO_WINDOW}  # type: ignore[attr-defined]
            if sys.platform == "win32"
            else {"process_group": 0}  # a terminal sends Ctrl-C to its foreground group
        )
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", "-S", str(_SCRIPT)]
        try:
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, **options)
            self._send(([str(p) for p in sys.path], str(_SCRIPT.parent.parent), _PATIENCE))
        except OSError as error:
            raise NoWorker from error
        self.started = False

    def _send(self, message: object) -> None:
        assert self.process.stdin is not None
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()

    def _receive(self) -> Any:
        assert self.process.stdout is not None
        return pickle.load(self.process.stdout)

    def alive(self) -> bool:
        """Is the process there?"""
        return self.process.poll() is None

    def compile(self, job: bytes) -> bytes | str:
        """The object file of a job, or the worker's traceback.

        Raises:
            NoWorker: the process did not start.
            OSError, EOFError, UnpicklingError: it died.
        """
        if not self.started:
            try:
                self._receive()
            except _LOST as error:
                raise NoWorker from error
            self.started = True
        self._send(job)
        answer: bytes | str = self._receive()
        return answer

    def close(self) -> int:
        """End the process; its exit status, negative for a signal."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:  # there was something left to be sent
                pass
        return self.process.wait()

    def forget(self) -> None:
        """In a forked child: let go of the parent's process without a word to it."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not stream.closed:
                os.dup2(nowhere, stream.fileno(), inheritable=False)
                stream.close()  # and what it has yet to write goes nowhere
        os.close(nowhere)
        self.process.returncode = 0


_everyone: weakref.WeakSet[Worker] = weakref.WeakSet()
_idle: list[Worker] = []


def _take() -> Worker:
    """An idle worker, or a new one."""
    while _idle:
        worker = _idle.pop()
        if worker.alive():
            return worker
        worker.close()
    worker = Worker()
    _everyone.add(worker)
    return worker


def stop_workers() -> None:
    """End all idle workers."""
    while _idle:
        _idle.pop().close()


def _forget_workers() -> None:
    for worker in list(_everyone):
        worker.forget()
    _everyone.clear()
    _idle.clear()


atexit.register(stop_workers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def is_ours(kernel: Kernel) -> bool:
    """Is it defined in this package: a worker can import it, and we know its sources?"""
    return type(kernel).__module__.startswith("striate.")


@dataclass(frozen=True, slots=True)
class Compiled:
    """An object file.

    Attributes:
        data: its bytes.
        tuned: made without LLVM's scheduler.
    """

    data: bytes
    tuned: bool


def _compile_here(source: _Source, target: Target) -> Compiled:
    text = source if isinstance(source, str) else source()
    return Compiled(compile_object(text, target), tuned=False)


def _compiled_here(text: str, target: Target) -> Compiled | str:
    try:
        return Compiled(compile_object(text, target), tuned=True)
    except Exception:
        return format_exc()


def _compile(
    worker: Worker | None, source: _Source, target: Target
) -> tuple[Worker | None, Compiled | str]:
    """(the worker, for the next job; an object file or what went wrong). One retry."""
    job = pickle.dumps((source, target))
    status = 0
    for _ in range(2):
        try:
            worker = worker or _take()
            answer = worker.compile(job)
        except NoWorker:
            if worker is not None:
                worker.close()
            return None, _compile_here(source, target)
        except _LOST:
            assert worker is not None
            status, worker = worker.close(), None
            continue
        return worker, answer if isinstance(answer, str) else Compiled(answer, tuned=True)
    return None, f"the process that compiled it died, twice (exit status {status})"


class _Batch:
    """Some threads that each feed one worker from a queue of jobs."""

    def __init__(self, target: Target, threads: int) -> None:
        self.target = target
        self.jobs: SimpleQueue[tuple[Kernel, _Source] | None] = SimpleQueue()
        self.done: dict[Kernel, Compiled | str] = {}
        self.cancelled = False
        self.threads = [Thread(target=self._serve, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _serve(self) -> None:
        worker: Worker | None = None
        try:
            worker = _take()  # it starts while its first job is being emitted
        except NoWorker:
            pass
        while job := self.jobs.get():
            kernel, source = job
            if self.cancelled:
                continue
            try:
                worker, self.done[kernel] = _compile(worker, source, self.target)
            except Exception:
                self.done[kernel] = format_exc()
        if worker is not None:
            _idle.append(worker)

    def add(self, kernel: Kernel, text: str | None, here: bool) -> None:
        """Compile a kernel; its IR is given, or emitted here, or by the worker."""
        try:
            if text is None and (here or not is_ours(kernel)):
                text = emit(kernel, self.target)
            self.jobs.put((kernel, partial(emit, kernel, self.target) if text is None else text))
        except Exception:
            self.done[kernel] = format_exc()

    def close(self) -> None:
        """No more jobs."""
        for _ in self.threads:
            self.jobs.put(None)


def _emitted(kernels: Sequence[Kernel], target: Target) -> dict[Kernel, str]:
    """The IR of our kernels, in order, until it is more than is compiled here or one fails."""
    texts: dict[Kernel, str] = {}
    length = 0
    for kernel in kernels if len(kernels) <= _FEW else ():
        if length > HERE or not is_ours(kernel):
            break
        try:
            texts[kernel] = emit(kernel, target)
        except Exception:  # whoever emits it again tells what is wrong
            break
        length += len(texts[kernel])
    return texts


def compile_all(kernels: Sequence[Kernel], target: Target) -> dict[Kernel, Compiled | str]:
    """For each kernel its object file, or the traceback of what went wrong; in parallel."""
    threads = min(cpu_count(), len(kernels), _MOST)
    texts = _emitted(kernels, target)
    if len(texts) == len(kernels) and sum(map(len, texts.values())) <= HERE:
        with without_scheduler():
            return {kernel: _compiled_here(text, target) for kernel, text in texts.items()}
    batch = _Batch(target, threads)
    try:
        for kernel in kernels:
            batch.add(kernel, texts.get(kernel), here=len(kernels) <= max(_FEW, 2 * threads))
        batch.close()
        for thread in batch.threads:
            thread.join()
    except BaseException:  # Ctrl-C: let the workers finish what they are at
        batch.cancelled = True
        batch.close()
        raise
    return batch.done
