"""Gradients by arrays that a function reads from outside."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import striate as st


@pytest.mark.parametrize("compiled", [False, True])
def test_arrays_that_share_a_value_have_their_own_gradients(compiled: bool) -> None:
    a, b = st.asarray([1.0, 2.0]), st.zeros(2)
    b.assign(a)

    def both() -> tuple[st.Array, list[st.Array]]:
        value, found = st.gradients(lambda: (3 * a + 5 * b).sum(), [a, b])
        return value, found

    value, (da, db) = (st.jit(both) if compiled else both)()
    assert value.item() == 24
    np.testing.assert_array_equal(da.numpy(), [3, 3])
    np.testing.assert_array_equal(db.numpy(), [5, 5])
    np.testing.assert_array_equal(a.numpy(), [1, 2])


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_assigned_inside_stays(compiled: bool) -> None:
    w, seen = st.asarray([2.0]), st.zeros(1)

    def step() -> st.Array:
        def loss() -> st.Array:
            seen.assign(seen + w)
            return (w * w).sum()

        value, (g,) = st.gradients(loss, [w])
        w.assign(w - 0.25 * g)
        return value

    run = st.jit(step) if compiled else step
    assert [run().item() for _ in range(3)] == [4, 1, 0.25]
    assert w.item() == 0.25 and seen.item() == 3.5


def test_an_error_inside_leaves_the_arrays() -> None:
    w = st.asarray([2.0])
    with pytest.raises(ZeroDivisionError):
        st.gradients(lambda: 1 / 0, [w])
    assert w.item() == 2.0
    with pytest.raises(st.ShapeError, match="one floating number"):
        st.gradients(lambda: w * st.ones(2), [w])
    with pytest.raises(st.DTypeError, match="floating arrays only, got i64"):
        st.gradients(lambda: w.sum(), [st.arange(3)])


def test_nested_in_grad() -> None:
    w = st.asarray(3.0)
    outer = st.grad(lambda x: st.gradients(lambda: x * w * w, [w])[1][0])(st.asarray(2.0))
    assert outer.item() == 6.0


def test_a_deep_copy_is_another_handle() -> None:
    w = st.asarray([1.0]) + 1
    other = copy.deepcopy(w)
    w.assign(w * 10)
    assert (w.item(), other.item()) == (20.0, 2.0)
