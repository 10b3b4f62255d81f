"""Eight Python threads at once: traces, plans and lazy values do not meet."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import striate as st
from striate.core.transforms import invalidate

THREADS = 8


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Threads change places every few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(work: Callable[[int], None]) -> None:
    """Run `work(i)` in all threads, starting at once; the first exception is raised here."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(THREADS)

    def run(i: int) -> None:
        try:
            barrier.wait()
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads), "a thread hangs"
    if errors:
        raise errors[0]


def test_one_function_traced_by_all_at_once() -> None:
    w = st.asarray([1.0, 2.0, 3.0])
    f = st.jit(lambda x, s: (st.conv(x, w.reshape(1, 1, 3)) * s).sum())

    def work(i: int) -> None:
        for k in range(40):
            n = 3 + k % 5
            assert f(st.ones((1, 1, n)), float(i)).item() == 6 * (n - 2) * i

    together(work)


def test_each_thread_trains_its_own() -> None:
    def train(i: int) -> np.ndarray:
        w, m = st.asarray(np.full((2, 1, 3), 0.1 * (i + 1))), st.zeros((2, 1, 3), "float64")
        x = st.asarray(np.random.default_rng(i).normal(size=(3, 1, 8)))

        @st.jit
        def step(lr: float) -> st.Array:
            loss, g = st.gradients(lambda: st.mean(st.square(st.conv(x, w) - 1.0)), w)
            m.assign(m * 0.5 + g)
            w.assign(w - lr * m)
            return loss

        for k in range(10):
            step(0.1 / (k + 1)).item()
        return w.numpy()

    alone = [train(i) for i in range(THREADS)]

    def work(i: int) -> None:
        np.testing.assert_array_equal(train(i), alone[i])

    together(work)


def test_lazy_values() -> None:
    shared = [st.asarray(np.arange(5.0)) * k for k in range(50)]  # whoever reads one computes it

    def work(i: int) -> None:
        for k, x in enumerate(shared):
            assert x[i % 5].item() == k * (i % 5)

    together(work)


def test_traces_and_eager_work_side_by_side() -> None:
    def work(i: int) -> None:
        for k in range(30):
            if i % 2:
                assert st.jit(lambda x: x * 2 + 1)(st.asarray(float(k))).item() == 2 * k + 1
            else:
                x = st.asarray(float(k))
                assert float(x * 2 + 1) == 2 * k + 1, "another thread's trace is not mine"

    together(work)


def test_derivatives() -> None:
    def work(i: int) -> None:
        for _ in range(30):
            g = st.grad(st.grad(lambda x: x**3 * float(i)))(st.asarray(2.0))
            assert g.item() == 12 * i

    together(work)


def test_invalidate_while_others_run() -> None:
    f = st.jit(lambda x, s: (x * s).sum())

    def work(i: int) -> None:
        for k in range(60):
            if i == 0:
                invalidate()
            assert f(st.ones(1 + k % 3), float(i)).item() == (1 + k % 3) * i

    together(work)
