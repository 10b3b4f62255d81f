"""The team among signals, forks and processes that want the same cores: each in a fresh process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SETUP = """
import os, signal, sys, threading, time
import numpy as np
from striate.runtime import team
from striate.runtime.team import run
from tests.runtime.kernels import Busy, Count, pointer, program, smoothed, smoothing
x = np.random.default_rng(0).standard_normal(64).astype(np.float32)

def check(threads, times=40):
    y = x.copy()
    plan, _ = smoothing(y, times)
    run(plan, threads)
    assert np.array_equal(y, smoothed(x, times))
"""

FORK = """
check(2)
stop = False
def other():
    while not stop:
        check(2)
runner = threading.Thread(target=other)
runner.start()
for i in range(100):
    child = os.fork()
    if not child:
        ok = 1
        try:
            check(1 + i % 3)
            ok = 0
        finally:
            os._exit(ok)
    assert os.waitpid(child, 0)[1] == 0, i
stop = True
runner.join()
check(2)
"""

# The alarm comes from a thread of Python: it is late rather than lost.
INTERRUPT = """
team._SLICE = 0.002
check(2)
long = program(*[(Busy(), (200_000,), 1)] * 5000)
caught = 0
for i in range(50):
    timer = threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        run(long, 2)
        timer.join()
    except KeyboardInterrupt:
        caught += 1
    check(2)
assert caught == 50, caught
"""

# A handler runs a program of its own in the midst of the run that it interrupts.
REENTER = """
team._SLICE = 0.001
check(2)
nested = 0
def handler(*_):
    global nested
    check(2)
    nested += 1
    signal.setitimer(signal.ITIMER_REAL, 0.002)
signal.signal(signal.SIGALRM, handler)
y = x.copy()
plan, _ = smoothing(y, 6000)
expected = smoothed(x, 6000)
signal.setitimer(signal.ITIMER_REAL, 0.002)
while nested < 20:
    y[:] = x
    run(plan, 2)
    assert np.array_equal(y, expected)
signal.setitimer(signal.ITIMER_REAL, 0)
"""

# The child is born inside of a run, in a handler, and must finish that run without the workers.
FORK_IN_HANDLER = """
team._SLICE = 0.001
child = None
def handler(*_):
    global child
    child = os.fork()
signal.signal(signal.SIGALRM, handler)
y = x.copy()
plan, _ = smoothing(y, 6000)
expected = smoothed(x, 6000)
run(plan, 2)
while child is None:
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    y[:] = x
    run(plan, 2)
assert np.array_equal(y, expected)
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    check(3)
"""

ONE_CORE = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert team.get_num_threads() == 1
start = time.perf_counter()
for threads in (2, 3, 8):
    check(threads, 1000)
assert time.perf_counter() - start < 20
"""

EXIT_WHILE_RUNNING = """
long = program(*[(Busy(), (2_000_000,), 1)] * 5000)
threading.Thread(target=run, args=(long, 2), daemon=True).start()
time.sleep(0.05)
"""

NO_MORE_THREADS = """
def refuse(self):
    if self.name == "striate-2":
        raise RuntimeError("can't start new thread")
    start(self)
start, threading.Thread.start = threading.Thread.start, refuse
x40 = np.zeros(40, np.int64)
run(program((Count(), (pointer(x40),), 0)), 5)
assert x40[32] == 2
check(5)
"""

POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork and no signals here")
AFFINITY = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")


def script(body: str) -> None:
    """Run it; fail with its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SETUP + body],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@POSIX
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(FORK, id="fork"),
        pytest.param(INTERRUPT, id="interrupt"),
        pytest.param(REENTER, id="reenter"),
        pytest.param(FORK_IN_HANDLER, id="fork in a handler"),
        pytest.param(EXIT_WHILE_RUNNING, id="exit while running"),
        pytest.param(NO_MORE_THREADS, id="no more threads"),
    ],
)
def test_signals_forks_and_exits(body: str) -> None:
    script(body)


@AFFINITY
def test_one_core() -> None:
    script(ONE_CORE)


@AFFINITY
def test_beside_a_busy_process() -> None:
    """Both on one core, where a spin barrier that never parks would wait for time slices."""
    core = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    rival = subprocess.Popen([sys.executable, "-c", busy])
    try:
        script(ONE_CORE)
    finally:
        rival.send_signal(signal.SIGKILL)
        rival.wait()
