"""Lazy arrays, their state, and functions run as one plan."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import striate as st
from striate.config import settings
from striate.core import transforms
from striate.core.transforms import invalidate
from striate.ir.graph import _interned


class Count:
    """A function that counts how often Python runs it."""

    def __init__(self, f: Any) -> None:
        self.f, self.runs = f, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        return self.f(*args, **kwargs)


def test_traced_once_per_types_and_static_values() -> None:
    f = Count(lambda x, scale, mode="a": x * scale + (1 if mode == "a" else 2))
    run = st.jit(f)
    for value in (2.0, 3.0, 4.0):
        np.testing.assert_array_equal(run(np.ones(2, np.float32), value).numpy(), value + 1)
    assert f.runs == 1, "numbers are data"
    run(np.ones(3, np.float32), 2.0)
    run(np.ones(3, np.float64), 2.0)
    assert run(np.ones(3, np.float32), 2.0, mode="b").numpy()[0] == 4
    assert f.runs == 4
    invalidate()
    run(np.ones(3, np.float32), 2.0)
    assert f.runs == 5


def test_outside_arrays_are_read_and_written_at_each_call() -> None:
    w, total = st.asarray([1.0, 2.0]), st.zeros(())

    @st.jit
    def run(x: st.Array) -> st.Array:
        total.assign(total + (w * x).sum())
        return total * 1

    assert run(st.ones(2)).item() == 3
    w.assign(st.asarray([10.0, 20.0]))
    assert run(st.ones(2)).item() == 33
    assert total.item() == 33


def test_backends_and_targets_have_plans_of_their_own() -> None:
    f = Count(lambda x: x * 2 + 1)
    run = st.jit(f)
    for backend in ("numpy", "native", "numpy", "native"):
        with st.config(backend=backend):
            assert run(st.ones(3)).numpy().tolist() == [3, 3, 3]
            assert run.profile(st.ones(3)).rows if backend == "native" else True
    assert f.runs == 2


def test_the_oldest_of_many_plans_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "MAX_PLANS", 3)
    f = Count(lambda x: x.sum())
    run = st.jit(f)
    for n in (1, 2, 3, 4, 5, 5, 4, 3, 1):
        assert run(st.ones(n)).item() == n
    assert f.runs == 6
    assert len(run._compiled) == 3


def test_an_error_while_tracing_changes_nothing() -> None:
    w = st.zeros(2)

    @st.jit
    def run(x: st.Array) -> float:
        w.assign(w + x)
        return float(x.sum())

    with pytest.raises(st.TraceError, match=r"st\.jit is tracing"):
        run(st.ones(2))
    np.testing.assert_array_equal(w.numpy(), [0, 0])


def test_structures_nesting_and_non_arrays() -> None:
    inner = st.jit(lambda d: {"y": d["x"] * 2, "n": None})
    outer = st.jit(lambda x: (inner({"x": x})["y"], "text", [x]))
    y, text, [x] = outer(st.ones(2))
    assert (y.numpy().tolist(), text, x.numpy().tolist()) == ([2, 2], "text", [1, 1])
    assert st.jit(lambda: st.arange(3) + 1)().tolist() == [1, 2, 3]


def test_choices_on_values_work_outside_of_jit() -> None:
    def f(x: st.Array) -> st.Array:
        return x * x if x.item() > 0 else -x

    assert st.grad(f)(st.asarray(3.0)).item() == 6
    assert st.grad(f)(st.asarray(-3.0)).item() == -1
    with pytest.raises(st.TraceError):
        st.jit(f)(st.asarray(3.0))


def test_equal_expressions_are_one_node() -> None:
    x = st.ones(3)
    assert (x + 1.0).shape == (3,)
    assert st.exp(x).node is st.exp(x).node
    assert st.exp(x).node is not st.exp(st.ones(3)).node


def test_an_eager_loop_does_not_grow() -> None:
    w, seen = st.ones(100), st.zeros(100)

    def steps(n: int) -> None:
        for _ in range(n):
            _, (g,) = st.gradients(lambda: (w * w).sum(), [w])
            seen.assign(0.9 * seen + g)
            w.assign(w - 0.001 * g)
            w.numpy()

    def held() -> tuple[int, int]:
        """(bytes, nodes). The table of nodes is left out: after so many insertions it is made anew,
        as large as all nodes need that other tests hold, and is traced only then.
        """
        gc.collect()
        table = tracemalloc.Filter(False, weakref.__file__)
        found = tracemalloc.take_snapshot().filter_traces((table,)).statistics("filename")
        return sum(s.size for s in found), len(_interned)

    others = [st.ones(3) + float(i) for i in range(500)]  # a table of 73,000 bytes, at least
    steps(50)
    tracemalloc.start()
    steps(20)
    memory, nodes = held()
    steps(200)
    memory_after, nodes_after = held()
    tracemalloc.stop()
    assert memory_after - memory < 50_000
    assert nodes_after <= nodes
    del others


def test_assign_checks_the_type() -> None:
    w = st.zeros(2)
    with pytest.raises(st.ShapeError, match=r"assign: the array is f32\[2\], the value f32\[3\]"):
        w.assign(st.zeros(3))
    with pytest.raises(st.DTypeError, match="cast it"):
        w.assign(st.zeros(2, "float64"))


def test_results_are_read_only_and_inputs_are_copied() -> None:
    source = np.ones(3)
    x = st.asarray(source)
    y = x + 1
    source[:] = 100
    np.testing.assert_array_equal(y.numpy(), 2)
    with pytest.raises(ValueError, match="read-only"):
        y.numpy()[0] = 1


def test_many_threads_use_one_function() -> None:
    run = st.jit(lambda x, n: (x * n).sum())

    def work(i: int) -> bool:
        size = 1 + i % 7
        return all(run(np.full(size, 2.0), float(k)).item() == 2.0 * size * k for k in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))


def test_third_order_through_every_transform() -> None:
    def f(x: st.Array) -> st.Array:
        return (x**3 * st.exp(x)).sum()

    x = st.asarray(0.5, "float64")
    third = st.grad(st.grad(st.grad(f)))(x).item()
    want = np.exp(0.5) * (0.5**3 + 9 * 0.5**2 + 18 * 0.5 + 6)
    assert third == pytest.approx(want, rel=1e-13)
    _, forward = st.jvp(st.grad(st.grad(f)), (x,), (st.asarray(1.0, "float64"),))
    assert forward.item() == pytest.approx(want, rel=1e-13)
    assert st.jit(st.grad(st.grad(st.grad(f))))(x).item() == pytest.approx(want, rel=1e-13)


def test_a_compiled_function_has_its_derivative() -> None:
    w = st.asarray([3.0, 4.0])
    f = st.jit(lambda x: x * x * w)
    x = st.asarray([1.0, 2.0])
    assert f(x).tolist() == [3, 16]
    assert st.grad(lambda x: f(x).sum())(x).tolist() == [6, 16]
    assert st.gradients(lambda: f(x).sum(), w)[1].tolist() == [1, 4]
    assert st.vjp(f, x)[1](st.ones(2))[0].tolist() == [6, 16]
    assert st.jvp(f, (x,), (st.ones(2),))[1].tolist() == [6, 16]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: st.grad(lambda x: x * 2)(st.ones(3)), st.ShapeError, "one floating number"),
        (lambda: st.grad(lambda x: x.sum())(st.arange(3)), st.DTypeError, "argument 0 has i64"),
        (lambda: st.grad(lambda x: x, argnums=2)(1.0), st.ShapeError, "argnums has 2"),
        (lambda: st.vjp(lambda x: x, st.ones(2))[1](st.ones(3)), st.ShapeError, "cotangent"),
        (lambda: st.jvp(lambda x: x, (st.ones(2),), (st.ones(3),)), st.ShapeError, "tangent"),
    ],
)
def test_wrong_calls(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_call_does_not_walk_over_what_it_captured() -> None:
    """The Python calls that it makes are as many for a hundred weights as for two."""
    if settings().backend != "native":
        pytest.skip("the interpreter walks over everything")

    def count(weights: list[st.Array]) -> int:
        f = st.jit(lambda x: st.stack([x * w for w in weights]).sum())
        x = st.asarray(np.ones(4, np.float32))
        for _ in range(4):
            f(x)
        calls = []
        gc.disable()  # what it collects may call
        sys.setprofile(lambda frame, event, arg: calls.append(event) if event == "call" else None)
        try:
            f(x)
        finally:
            sys.setprofile(None)
            gc.enable()
        return len(calls)

    few, many = ([st.ones(4) * i for i in range(n)] for n in (2, 100))
    for w in [*few, *many]:
        w.realize()
    assert count(many) == count(few) > 0
