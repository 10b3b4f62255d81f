"""st.jit in detail: what is traced when, what is data, what is state, what comes out."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import striate as st
from striate.core.transforms import invalidate
from striate.runtime import plan


class Counted:
    """A function that counts how often it is run, which is how often it is traced."""

    def __init__(self, f: Any) -> None:
        self.f = f
        self.runs = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        return self.f(*args, **kwargs)


def counted(f: Any) -> tuple[Counted, Any]:
    inner = Counted(f)
    return inner, st.jit(inner)


# ---- what is traced ------------------------------------------------------------------------


def test_equal_numbers_are_one_input_of_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []
    simplify = plan.simplify
    monkeypatch.setattr(plan, "simplify", lambda g: graphs.append(g) or simplify(g))
    f = st.jit(lambda x: ((x * 3.0 + 1) * 3.0 - (x * -0.0) * 0.0 + 1) / 3.0)
    assert np.allclose(f(st.ones(5)), ((3 + 1) * 3 + 1) / 3)
    assert len(graphs[0].inputs) == 5, "x, 3.0, 1, -0.0 and 0.0"


# ---- when a function is traced -------------------------------------------------------------


def test_one_trace_for_each_shape_dtype_and_structure() -> None:
    inner, f = counted(lambda x: x["a"] * 2 if isinstance(x, dict) else x * 2)
    for _ in range(3):
        assert f(st.ones(3)).tolist() == [2, 2, 2]
    assert inner.runs == 1
    f(st.ones(4))
    f(st.ones(3, "float64"))
    f({"a": st.ones(3)})
    assert inner.runs == 4
    f(st.zeros(3))
    f({"a": st.zeros(3)})
    assert inner.runs == 4


def test_numbers_are_data() -> None:
    inner, f = counted(lambda x, s, n=1: x * s + n)
    assert [f(st.ones(1), s).tolist() for s in (0.5, 2.5, -1.0)] == [[1.5], [3.5], [0.0]]
    assert inner.runs == 1
    assert f(st.ones(1), 0.5, n=3).item() == 3.5 and f(st.ones(1), 0.5, n=4).item() == 4.5
    assert inner.runs == 2, "a keyword that is given is another structure"
    f(st.ones(1), np.float32(3))
    assert inner.runs == 2, "a NumPy scalar is a number of its dtype"
    f(st.ones(1), 1)
    assert inner.runs == 3, "an integer is another dtype"


def test_other_arguments_are_part_of_the_key() -> None:
    inner, f = counted(lambda x, mode, flag=None: x + (1 if mode == "one" else 2) * bool(flag))
    assert f(st.zeros(()), "one", True).item() == 1
    assert f(st.zeros(()), "two", flag=True).item() == 2
    assert f(st.zeros(()), "one", False).item() == 0
    assert f(st.zeros(()), "one", None).item() == 0
    assert inner.runs == 4
    assert f(st.zeros(()), "one", True).item() == 1
    assert inner.runs == 4


def test_numpy_arguments_are_read_at_each_call() -> None:
    inner, f = counted(lambda x: x + 1)
    n = np.zeros(2, "f4")
    assert f(n).tolist() == [1, 1]
    n[:] = 5
    assert f(n).tolist() == [6, 6]
    assert inner.runs == 1


def test_plans_are_shared_between_equal_functions() -> None:
    plan._plans.clear()  # a full cache would not grow
    x = np.ones((2, 5, 3), "f4")
    for scale in (2.0, 3.0, 4.0):
        st.jit(lambda x, scale=scale: (st.exp(x) * scale).sum(0) * 17.25)(x)
    assert len(plan._plans) == 1, "constants are inputs of the plan"


def test_invalidate_forgets_every_trace() -> None:
    mode = {"training": True}
    inner, f = counted(lambda x: x * 2 if mode["training"] else x)
    assert f(st.ones(())).item() == 2
    mode["training"] = False
    assert f(st.ones(())).item() == 2, "Python state is read when it is traced"
    invalidate()
    assert f(st.ones(())).item() == 1
    assert inner.runs == 2 and len(f._compiled) == 1


# ---- outside arrays ------------------------------------------------------------------------


def test_captured_arrays_are_inputs() -> None:
    w = st.asarray([1.0, 2.0])
    inner, f = counted(lambda x: (x * w).sum())
    assert f(st.ones(2)).item() == 3
    w.assign([10.0, 20.0])
    assert f(st.ones(2)).item() == 30
    w.assign(w * 2)  # lazy, not computed when f is called
    assert f(st.ones(2)).item() == 60
    assert inner.runs == 1


def test_assigned_arrays_are_outputs() -> None:
    w, total = st.asarray([1.0, 2.0]), st.asarray(0.0)

    def step(x: st.Array) -> st.Array:
        w.assign(w - x)
        total.assign(total + w.sum())
        return w * 10  # the new value

    inner, f = counted(step)
    assert f(st.ones(2)).tolist() == [0, 10]
    assert w.tolist() == [0, 1] and total.item() == 1
    assert f(st.ones(2)).tolist() == [-10, 0]
    assert w.tolist() == [-1, 0] and total.item() == 0
    assert inner.runs == 1


def test_state_that_is_only_written() -> None:
    last = st.zeros(2)
    f = st.jit(lambda x: last.assign(x + 1))
    assert f(st.ones(2)).tolist() == [2, 2]
    assert last.tolist() == [2, 2]
    g = st.jit(lambda x: (last.assign(x), None)[1])
    assert g(st.zeros(2)) is None
    assert last.tolist() == [0, 0]


def test_assigned_twice_and_swapped() -> None:
    a, b = st.asarray(1.0), st.asarray(2.0)

    def swap() -> None:
        old = a + 0.0
        a.assign(b)
        b.assign(old)
        b.assign(b * 10)

    f = st.jit(swap)
    f()
    assert (a.item(), b.item()) == (2, 10)
    f()
    assert (a.item(), b.item()) == (10, 20)


def test_the_state_itself_as_an_argument() -> None:
    w = st.asarray([1.0, 2.0])
    f = st.jit(lambda x: (w.assign(w + x), x * 1.0)[1])
    assert f(w).tolist() == [1, 2], "the argument is the value from before"
    assert w.tolist() == [2, 4]


def test_arguments_may_be_assigned_within() -> None:
    def f(x: st.Array) -> st.Array:
        x.assign(x + 1)
        return x * 2

    x = st.asarray(1.0)
    assert st.jit(f)(x).item() == 4
    assert x.item() == 1, "what a traced function assigns to an argument stays inside"


def test_an_exception_while_tracing_leaves_the_state() -> None:
    w = st.asarray(1.0)

    def f(x: st.Array, fail: bool) -> st.Array:
        w.assign(w + x)
        if fail:
            raise KeyError("stop")
        return w

    g = st.jit(f)
    with pytest.raises(KeyError):
        g(1.0, True)
    assert w.item() == 1
    assert g(1.0, False).item() == 2
    with pytest.raises(KeyError):
        g(1.0, True)
    assert w.item() == 2 and (w + 1).item() == 3


def test_an_exception_while_running_leaves_the_state() -> None:
    w = st.asarray([1.0, 2.0])

    def f(i: st.Array) -> st.Array:
        w.assign(w * 2)
        return st.take(w, i)

    g = st.jit(f)
    assert g(np.array([1])).tolist() == [4]
    with pytest.raises(IndexError, match="take: index 7 is out of range"):
        g(np.array([7]))
    assert w.tolist() == [2, 4]
    assert g(np.array([0])).tolist() == [4]


def test_a_symbol_that_escapes_says_so() -> None:
    leaked = []
    f = st.jit(lambda x: (leaked.append(x * 2), x)[1])
    f(st.ones(2))
    with pytest.raises(st.TraceError, match="only shapes are known"):
        leaked[0].numpy()
    assert leaked[0].shape == (2,)


# ---- outputs and nesting -------------------------------------------------------------------


def test_outputs_are_any_tree() -> None:
    w = st.asarray(5.0)
    f = st.jit(lambda x: {"y": (x + 1, [x, None]), "name": "out", "n": 3, "w": w, "c": st.ones(2)})
    out = f(st.asarray(1.0))
    assert out["y"][0].item() == 2 and out["y"][1][0].item() == 1 and out["y"][1][1] is None
    assert out["name"] == "out" and out["n"] == 3 and out["w"].item() == 5
    assert out["c"].tolist() == [1, 1]
    assert st.jit(lambda: None)() is None
    assert st.jit(lambda: 3)() == 3
    assert st.jit(lambda: st.ones(2) + 1)().tolist() == [2, 2]


def test_nested_jits_are_one_plan() -> None:
    w = st.asarray(2.0)
    inner = st.jit(lambda x: (w.assign(w + 1), x * w)[1])
    runs, outer = counted(lambda x: inner(x) + inner(x))
    assert outer(st.asarray(1.0)).item() == 3 + 4
    assert w.item() == 4
    assert outer(st.asarray(1.0)).item() == 5 + 6
    assert runs.runs == 1


def test_derivatives_inside_and_outside() -> None:
    def f(x: st.Array) -> st.Array:
        return (x**3).sum()

    x = st.asarray([1.0, 2.0])
    assert st.jit(st.grad(f))(x).tolist() == [3, 12]
    assert st.jit(st.grad(lambda x: st.grad(f)(x).sum()))(x).tolist() == [6, 12]
    assert st.jit(lambda x, t: st.jvp(f, (x,), (t,))[1])(x, x).item() == 27


def test_a_whole_training_step() -> None:
    """Weights, momentum and a counter in place, in one plan; equal to the eager loop's numbers."""
    rng = np.random.default_rng(0)
    data, start = rng.normal(size=(4, 2, 6)), rng.normal(size=(3, 2, 3))

    def make() -> tuple[st.Array, st.Array, st.Array, Any]:
        w, m, n = st.asarray(start), st.zeros((3, 2, 3), "float64"), st.asarray(0)

        def step(x: st.Array, lr: float) -> st.Array:
            loss, g = st.gradients(lambda: st.mean(st.square(st.tanh(st.conv(x, w)))), w)
            m.assign(m * 0.9 + g)
            w.assign(w - lr * m)
            n.assign(n + 1)
            return loss

        return w, m, n, step

    w1, m1, n1, eager = make()
    w2, m2, n2, step = make()
    inner, fast = counted(step)
    for i in range(6):
        lr = 0.1 / (i + 1)
        x = st.asarray(data * (i + 1))
        assert eager(x, st.asarray(lr, "float32")).item() == fast(x, lr).item()
    np.testing.assert_array_equal(w1, w2)
    np.testing.assert_array_equal(m1, m2)
    assert n1.item() == n2.item() == 6 and inner.runs == 1


def test_what_a_jit_holds_goes_with_it() -> None:
    def make() -> tuple[Any, weakref.ref[st.Array]]:
        w = st.ones(1000)
        return st.jit(lambda x: x + w), weakref.ref(w)

    f, held = make()
    f(st.ones(1000))
    gc.collect()
    assert held() is not None
    del f
    gc.collect()
    assert held() is None


def test_the_wrapper_looks_like_the_function() -> None:
    def predict(x: st.Array) -> st.Array:
        """What it predicts."""
        return x

    f = st.jit(predict)
    assert f.__name__ == "predict" and f.__doc__ == "What it predicts."
