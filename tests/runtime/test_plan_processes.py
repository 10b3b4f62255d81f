"""Plans among processes, forks, signals and many sizes: each in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SETUP = """
import hashlib, os, signal, sys, threading, time
import numpy as np
import striate as st
from striate import nn, optim

def network():
    st.random.seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2), nn.SiLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

x = np.random.default_rng(2).standard_normal((5, 3, 20, 20)).astype(np.float32)
y = np.arange(5)
"""

TRAIN = """
net = network()
step = st.train_step(net, nn.CrossEntropyLoss(), optim.AdamW(net.parameters(), lr=1e-2))
bits = hashlib.sha256(b"".join(step(x, y).numpy().tobytes() for _ in range(3)))
for name, value in net.state_dict().items():
    bits.update(name.encode() + value.numpy().tobytes())
print(bits.hexdigest())
"""

INFER = """
net = network()
net.eval()
f = st.jit(lambda x: net(x))
want = f(x).numpy().tobytes()
def check():
    assert f(x).numpy().tobytes() == want
"""

# One child in 25 meets a size, and so makes a plan, that its parent does not have.
FORK = """
stop = False
def other():
    while not stop:
        check()
        time.sleep(0.001)  # locks are not fair: who forks has to get one
runner = threading.Thread(target=other)
runner.start()
for i in range(100):
    child = os.fork()
    if not child:
        ok = 1
        try:
            check()
            if i % 25 == 0:
                assert np.isfinite(f(np.ones((1, 3, 21 + i, 20), np.float32)).numpy()).all()
            ok = 0
        finally:
            os._exit(ok)
    assert os.waitpid(child, 0)[1] == 0, i
stop = True
runner.join()
check()
"""

# The alarm comes from a thread of Python at any point of a call; no call after it may differ.
INTERRUPT = """
rng = np.random.default_rng(0)
caught = 0
for i in range(50):
    timer = threading.Timer(rng.uniform(0.001, 0.005), os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        while True:
            check()
    except KeyboardInterrupt:
        caught += 1
    timer.join()
    check()
assert caught == 50, caught
"""

# Plans of small layers are about 200 kB each; the arrays of one call are at most 1 MB.
SIZES = """
import resource
unit = 1 if sys.platform == "darwin" else 1024
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3))
f = st.jit(lambda x: net(x))
for i in range(100):
    y = f(np.ones((1, 3, 10 + i, 20), np.float32)).numpy()
    assert y.shape == (1, 16, (8 + i) // 2 - 2, 7)
    if i == 19:
        before = peak()
assert peak() - before < 40e6, peak() - before
"""

POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork and no signals here")


def script(body: str, **environment: str) -> str:
    """Run it; what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SETUP + body],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_training_is_the_same_to_the_bit_in_any_process(tmp_path: Path) -> None:
    """With other hashes, and so another order of sets, and another number of threads; with the
    program of another process, and with one of its own.
    """
    folder = str(tmp_path)
    first = script(TRAIN, STRIATE_CACHE_DIR=folder, PYTHONHASHSEED="1", STRIATE_NUM_THREADS="1")
    assert len(first) == 65
    (program,) = tmp_path.glob("*.plan")
    again = {"PYTHONHASHSEED": "2", "STRIATE_NUM_THREADS": "3"}
    assert script(TRAIN, STRIATE_CACHE_DIR=folder, **again) == first
    program.unlink()
    assert script(TRAIN, STRIATE_CACHE_DIR=folder, **again) == first
    assert [*tmp_path.glob("*.plan")] == [program], "no order of sets is part of its name"


@POSIX
@pytest.mark.parametrize("body", [FORK, INTERRUPT], ids=["fork", "interrupt"])
@pytest.mark.parametrize("threads", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_plans_survive(body: str, threads: str) -> None:
    script(INFER + body, STRIATE_NUM_THREADS=threads)


@POSIX
def test_a_hundred_sizes_need_little_memory() -> None:
    script(SIZES)
