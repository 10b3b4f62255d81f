"""Lazy arrays: what is recorded, what is shared, what is let go."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import numpy as np
import pytest

import striate as st
from striate.config import settings
from striate.ir.graph import CONSTANT, Graph, Node, apply, constant, parameter, substitute
from striate.ir.types import TensorType
from striate.ops import elementwise
from striate.runtime.plan import evaluate
from striate.transform.interpret import interpret


def nodes_alive() -> int:
    gc.collect()
    return sum(isinstance(o, Node) for o in gc.get_objects())


# ---- the graph -----------------------------------------------------------------------------


def test_equal_programs_are_the_same_node() -> None:
    x, y = st.asarray([1.0, 2.0]), st.asarray([3.0, 4.0])
    assert (x * y + x).node is (x * y + x).node
    assert (x * y).node is not (y * x).node
    assert st.conv(st.reshape(x, (1, 1, 2)), st.ones((1, 1, 1))).node.op.name == "reshape"
    assert x.reshape(2, 1).node is st.reshape(x, (2, -1)).node
    assert x.T.node is x.node and (+x) is x


def test_equal_values_are_not_the_same_node() -> None:
    x, y = st.asarray([1.0]), st.asarray([1.0])
    assert (x + 1).node is not (y + 1).node


def test_nodes_die_with_their_arrays() -> None:
    x = st.asarray([1.0, 2.0])
    y = x * 3 + x
    node = weakref.ref(y.node)
    del y
    gc.collect()
    assert node() is None


def test_a_dead_node_is_not_found_again() -> None:
    """Its key names its inputs by id; a new object may get the same id."""
    for i in range(2000):
        assert (st.asarray(float(i)) * 2).item() == 2 * i


def test_shapes_and_dtypes_are_checked_at_the_call() -> None:
    x = st.asarray(np.ones((2, 3)))
    with pytest.raises(st.ShapeError, match=r"add: shapes \(2, 3\) and \(4,\) do not broadcast"):
        x + np.ones(4)
    with pytest.raises(st.ShapeError, match="matmul"):
        x @ x
    assert (x + 1).node.data is None, "and nothing is computed yet"


def test_deep_graphs_need_no_deep_stack() -> None:
    x = st.asarray(0.0)
    for _ in range(20_000):
        x = x + 1
    assert x.item() == 20_000
    y = st.asarray(1.0, "float64")
    gradient = st.grad(lambda v: _chain(v, 3_000))(y)
    assert gradient.item() == 1
    del x, y, gradient
    gc.collect()


def _chain(v: st.Array, n: int) -> st.Array:
    for _ in range(n):
        v = v + 1
    return v


# ---- reading -------------------------------------------------------------------------------


def test_reading_computes_once() -> None:
    calls = []
    op = elementwise.pointwise("counted", lambda x: (calls.append(1), x + 1)[1], lambda attrs, x: x)
    y = st.Array(apply(op, (st.asarray([1.0]).node,)))
    with st.config(backend="numpy"):  # which calls Python
        first = y.numpy()
    assert y.numpy().ctypes.data == first.ctypes.data
    assert calls == [1]


def test_history_is_dropped_when_a_value_is_read() -> None:
    x = st.asarray(np.ones(1000))
    inner = x * 2
    held = weakref.ref(inner.node)
    y = inner + 1
    del inner
    assert held() is not None
    y.numpy()
    gc.collect()
    assert held() is None and y.node.op is CONSTANT


def test_history_is_kept_while_a_derivative_is_recorded() -> None:
    def f(x: st.Array) -> st.Array:
        y = x * x
        assert float(y) > 0  # reads the value in the middle
        return y * x

    assert st.grad(f)(3.0).item() == 27
    assert st.grad(st.grad(f))(3.0).item() == 18
    y, pull = st.vjp(f, st.asarray(2.0))
    assert y.item() == 8
    assert pull(st.asarray(1.0))[0].item() == 12


def test_an_eager_training_loop_does_not_grow() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 1, 6, 6)).astype("f4"), rng.normal(size=8).astype("f4")
    w, m = st.asarray(rng.normal(size=(1, 1, 3, 3)).astype("f4")), st.zeros((1, 1, 3, 3))

    def loss(w: st.Array) -> st.Array:
        return st.mean(st.square(st.conv(x, w).mean((1, 2, 3)) - y))

    counts, losses = [], []
    for step in range(24):
        value, g = st.value_and_grad(loss)(w)
        m.assign(m * 0.9 + g)
        w.assign(w - m * 0.1)
        losses.append(value.item())
        if step % 8 == 7:
            del value, g
            counts.append(nodes_alive())
    assert counts[0] == counts[1] == counts[2]
    assert losses[-1] < losses[0]


def test_values_are_read_only_and_inputs_are_copied() -> None:
    source = np.float32([1, 2])
    x = st.asarray(source)
    source[0] = 9
    assert x.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 3
    with pytest.raises(ValueError, match="read-only"):
        (x + 1).numpy()[0] = 3


# ---- assign --------------------------------------------------------------------------------


def test_assign_changes_the_array_and_nothing_else() -> None:
    x = st.asarray([1.0, 2.0])
    before, twice = x + 0, x * 2
    assert x.assign(x + 1) is x
    assert x.tolist() == [2, 3]
    assert before.tolist() == [1, 2] and twice.tolist() == [2, 4]
    x.assign(7.0 * st.ones(2)).assign([0.5, 1.5])
    assert x.tolist() == [0.5, 1.5]


def test_pending_assignments_are_computed_with_the_next_reading() -> None:
    a, b = st.asarray(1.0), st.asarray(1.0)
    for _ in range(5):
        a.assign(a * 2)
        b.assign(a + b)
    assert a.node.data is None and b.node.data is None
    st.ones(3).realize()  # known already: nothing to compute, nothing read
    (st.ones(3) + 1).numpy()
    assert b.node.op is CONSTANT and a.node.op is CONSTANT
    assert (a.item(), b.item()) == (32, 63)


def test_an_array_that_is_gone_is_not_computed() -> None:
    a = st.asarray(1.0)
    a.assign(st.take(a.reshape(1), [5]).reshape(()))  # fails when it is computed
    del a
    gc.collect()
    assert (st.ones(2) + 1).tolist() == [2, 2]


def test_assign_wants_the_same_type() -> None:
    x = st.zeros((2, 3))
    with pytest.raises(st.ShapeError, match=r"assign: the array is f32\[2,3\], the value f32\[3\]"):
        x.assign(st.ones(3))
    with pytest.raises(st.DTypeError, match="cast it"):
        x.assign(st.ones((2, 3), "int32"))
    assert x.tolist() == [[0] * 3] * 2


# ---- interpret and substitute --------------------------------------------------------------


def test_interpret_is_the_oracle_of_evaluate() -> None:
    inputs = [parameter(TensorType((2, 3), st.float32)) for _ in range(2)]
    x, y = (st.Array(n) for n in inputs)
    out = (st.exp(x) @ y.T).sum(0) - x[0, :2]
    values = [np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[0, 1, 0], [1, 0, 2]])]
    (got,) = interpret(Graph(tuple(inputs), (out.node,)), values)
    known = [constant(v) for v in values]
    (same,) = substitute([out.node], dict(zip(inputs, known, strict=True)))
    evaluate([same])
    exact = settings().backend == "numpy"  # machine code sums in another order
    np.testing.assert_allclose(got, same.data, rtol=0 if exact else 1e-6, strict=True)


def test_substitute_rebuilds_only_what_depends() -> None:
    a, b = (parameter(TensorType((3,), st.float32)) for _ in range(2))
    left, right = elementwise.multiply(a, 2), elementwise.multiply(b, 3)
    out = elementwise.add(left, right)
    (new,) = substitute([out], {a: b})
    assert new.inputs[1] is right and new.inputs[0] is elementwise.multiply(
        b, new.inputs[0].inputs[1]
    )
    (cut,) = substitute([out], {left: right})
    assert cut.inputs == (right, right)
    assert substitute([out], {}) == [out]
    assert substitute([a], {a: b}) == [b]


def test_interpret_frees_what_it_no_longer_needs() -> None:
    alive: list[Any] = []

    def watch(x: Any) -> Any:
        y = x + 1
        alive.append(weakref.ref(y))
        assert sum(r() is not None for r in alive) <= 2
        return y

    op = elementwise.pointwise("watched", watch, lambda attrs, x: x)
    p = parameter(TensorType((4,), st.float32))
    node = p
    for _ in range(10):
        node = apply(op, (node,))
    (y,) = interpret(Graph((p,), (node,)), [np.zeros(4, "f4")])
    assert y.tolist() == [10] * 4


def test_a_result_larger_than_memory_is_refused() -> None:
    x = st.zeros((2**24, 1)) + st.zeros((1, 2**24))
    with pytest.raises(MemoryError, match=r"the result f32\[16777216,16777216\] needs"):
        x.numpy()
    assert (st.ones(2) + 1).tolist() == [2, 2], "and the next one is computed"


# ---- Python's and NumPy's manners ----------------------------------------------------------


def test_operators_with_numpy_on_either_side() -> None:
    x, n = st.asarray([1.0, 2.0]), np.float32([3, 4])
    for y in (x + n, n + x, x - n, n - x, n @ x, n > x, n[0] * x):
        assert isinstance(y, st.Array)
    np.testing.assert_array_equal((n - x).numpy(), [2, 2])
    with pytest.raises(TypeError):
        np.sin(x)


def test_python_protocols() -> None:
    x = st.arange(6).reshape(2, 3)
    assert len(x) == 2 and [row.tolist() for row in x] == [[0, 1, 2], [3, 4, 5]]
    assert [10, 20, 30][st.asarray(1)] == 20
    assert float(st.asarray(1.5)) == 1.5 and int(st.asarray(2)) == 2 and bool(st.asarray(True))
    assert x.to_device("cpu") is x
    with pytest.raises(ValueError, match="'cuda'"):
        x.to_device("cuda")
    assert repr(st.asarray([1.5])) == "Array([1.5], dtype=float32)"
    assert len({x, x.reshape(6)}) == 2, "arrays hash by identity"
    twin = copy.deepcopy(x)
    twin.assign(twin + 1)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]


INDICES: list[Any] = [
    0, -1, slice(None), slice(1, None), slice(None, None, -1), slice(-1, None, -2),
    slice(5, 1, -2), slice(10, 20), slice(3, 1), None, ..., (0, 0), (..., 0),
    (None, 1, ..., None), (slice(1), None, -1), (slice(None, None, 2), slice(None, None, -3)),
    (1, slice(2, None), 3), np.int64(1), (),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_basic_indexing_is_numpys(index: Any) -> None:
    n = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    np.testing.assert_array_equal(st.asarray(n)[index].numpy(), n[index], strict=True)
    x = st.asarray(n.astype("f8"))
    gradient = st.grad(lambda x: (x[index] * x[index]).sum())(x).numpy()
    mask = np.zeros(n.shape)
    mask[index] = 1
    np.testing.assert_array_equal(gradient, 2 * n * mask)


@pytest.mark.parametrize("backend", ["native", "numpy"])
@pytest.mark.parametrize("x", [True, 3, 2.5])
def test_the_sum_of_a_value_without_axes(backend: str, x: float) -> None:
    with st.config(backend=backend):
        y = st.sum(st.asarray(x))
        assert (y.numpy().shape, y.item()) == ((), x)
