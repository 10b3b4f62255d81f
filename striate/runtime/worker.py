"""The program of a process that compiles: jobs on stdin, object files on stdout.

It is run as a script, so that it imports no more than it needs: LLVM for a job that is IR text;
what pickle wants for one that has yet to emit it. The pipes are private to the process that
started this one; it ends when they close, or when there was nothing to do for a while.

    parent: (sys.path, folder of the package, seconds to wait)      worker: None, when ready
    parent: bytes, pickled: (IR or a function without arguments that returns it, target)
    worker: an object file (bytes) or what went wrong (str)
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from importlib import import_module
from types import ModuleType
from typing import Any, BinaryIO


def bare_package(folder: str) -> None:
    """Make the package importable without its facade, which would import NumPy and all ops."""
    package = ModuleType("striate")
    package.__path__ = [folder]
    sys.modules["striate"] = package


def compiled(machine: Any, job: bytes) -> bytes | str:
    """The object file of a job, or why there is none."""
    try:
        source, target = pickle.loads(job)
        text = source if isinstance(source, str) else source()
        data: bytes = machine.compile_object(text, target)
        return data
    except Exception:
        return traceback.format_exc()


def serve(jobs: BinaryIO, objects: BinaryIO) -> None:
    """Answer jobs until the pipe closes."""

    def send(answer: object) -> None:
        pickle.dump(answer, objects)
        objects.flush()

    path, folder, seconds = pickle.load(jobs)
    sys.path[:] = path
    bare_package(folder)
    machine = import_module("striate.codegen.machine")
    machine.unscheduled()
    send(None)
    alarm = getattr(signal, "alarm", lambda seconds: None)  # not on Windows: there it waits forever
    while True:
        alarm(seconds)  # its default action ends the process
        job = pickle.load(jobs)
        alarm(0)
        send(compiled(machine, job))


def main() -> None:
    """Keep stdout for the answers, and leave Ctrl-C to the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    objects = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, objects)
    except (EOFError, BrokenPipeError):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
