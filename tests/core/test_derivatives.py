"""grad, value_and_grad, gradients, vjp, jvp: arguments, trees, orders, state."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import striate as st


class Pair(NamedTuple):
    """A tree with names."""

    w: Any
    b: Any


def test_argnums() -> None:
    def f(x: st.Array, y: st.Array, z: float = 1.0) -> st.Array:
        return (x * x * y * z).sum()

    x, y = st.asarray([1.0, 2.0]), st.asarray([3.0, 5.0])
    assert st.grad(f)(x, y).tolist() == [6, 20]
    assert st.grad(f, argnums=1)(x, y).tolist() == [1, 4]
    assert st.grad(f, argnums=-1)(x, y).tolist() == [1, 4]
    both = st.grad(f, argnums=(1, 0))(x, y, z=2.0)
    assert isinstance(both, tuple) and [g.tolist() for g in both] == [[2, 8], [12, 40]]
    assert st.grad(f, argnums=(0,))(x, y)[0].tolist() == [6, 20]
    value, g = st.value_and_grad(f, argnums=(0, 1))(x, y)
    assert value.item() == 23 and len(g) == 2


def test_trees_in_and_out() -> None:
    def f(p: Any, x: Any) -> st.Array:
        return (p["layers"][0].w * x + p["layers"][0].b).sum() + p["scale"] * 2

    p = {"layers": [Pair(st.asarray([1.0, 2.0]), np.float32(3.0))], "scale": 4.0}
    g = st.grad(f)(p, st.asarray([5.0, 7.0]))
    assert set(g) == {"layers", "scale"} and isinstance(g["layers"][0], Pair)
    assert g["layers"][0].w.tolist() == [5, 7]
    assert g["layers"][0].b.item() == 2 and g["scale"].item() == 2


def test_has_aux() -> None:
    def f(x: st.Array) -> tuple[st.Array, dict[str, Any]]:
        y = x * x
        return y.sum(), {"y": y, "note": "kept"}

    x = st.asarray([1.0, 2.0])
    g, aux = st.grad(f, has_aux=True)(x)
    assert g.tolist() == [2, 4] and aux["y"].tolist() == [1, 4] and aux["note"] == "kept"
    (value, aux), g = st.value_and_grad(f, has_aux=True)(x)
    assert value.item() == 5 and aux["y"].tolist() == [1, 4] and g.tolist() == [2, 4]


def test_an_argument_that_does_not_count_has_a_zero_gradient() -> None:
    g = st.grad(lambda x, y: (x * 2).sum(), argnums=(0, 1))(st.ones(2), st.ones((3, 1)))
    assert g[0].tolist() == [2, 2] and g[1].tolist() == [[0], [0], [0]]
    g = st.grad(lambda x: st.asarray(3.0))(st.ones(2))
    assert g.tolist() == [0, 0]
    assert st.grad(lambda x: (st.stop_gradient(x) * x).sum())(st.asarray([3.0])).tolist() == [3]


def test_one_value_twice_is_two_variables() -> None:
    x = st.asarray(3.0)
    a, b = st.grad(lambda x, y: x * x * y, argnums=(0, 1))(x, x)
    assert (a.item(), b.item()) == (18, 9)
    assert st.grad(lambda y: y * x)(x).item() == 3, "x from outside does not count"


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_orders(order: int) -> None:
    f: Any = lambda x: st.exp(2 * x) + x**4  # noqa: E731
    want = 2**order * np.exp(1.0) + {1: 0.5, 2: 3.0, 3: 12.0, 4: 24.0}[order]
    for _ in range(order):
        f = st.grad(f)
    assert f(st.asarray(0.5, "float64")).item() == pytest.approx(want, rel=1e-14)


def test_reverse_over_forward_and_back() -> None:
    def f(x: st.Array) -> st.Array:
        return st.tanh(x[0] * x[1]) + x[0] ** 2 * st.sin(x[1])

    x, v = st.asarray([0.3, 0.7], "float64"), st.asarray([1.0, -2.0], "float64")
    over_reverse = st.jvp(st.grad(f), (x,), (v,))[1]
    over_forward = st.grad(lambda x: st.jvp(f, (x,), (v,))[1])(x)
    twice = st.vjp(st.grad(f), x)[1](v)[0]
    for other in (over_forward, twice):
        np.testing.assert_allclose(over_reverse, other, rtol=1e-14)
    h = 1e-6
    numeric = (st.grad(f)(x + h * v).numpy() - st.grad(f)(x - h * v).numpy()) / (2 * h)
    np.testing.assert_allclose(over_reverse, numeric, rtol=1e-7)


def test_third_order_mixed() -> None:
    f = lambda x, y: x**2 * y**3  # noqa: E731
    d = st.grad(st.grad(st.grad(f, argnums=1), argnums=0), argnums=1)  # d3f / dy dx dy
    assert d(2.0, 3.0).item() == 2 * 2 * 3 * 2 * 3


def test_through_assign() -> None:
    s = st.asarray([1.0, 1.0])

    def f(x: st.Array) -> st.Array:
        s.assign(x * 2)
        s.assign(s * s)
        return (s * x).sum()  # 4 x^3

    x = st.asarray([1.0, 2.0])
    assert st.grad(f)(x).tolist() == [12, 48]
    assert s.tolist() == [4, 16]
    assert st.jit(st.grad(f))(x).tolist() == [12, 48]
    assert s.tolist() == [4, 16]


def test_gradients_by_outside_arrays() -> None:
    w, b, unused = st.asarray([1.0, 2.0]), st.asarray(3.0), st.asarray(4.0)
    loss, (g, rest) = st.gradients(lambda: (w * w * b).sum(), (w, {"b": b, "u": unused}))
    assert loss.item() == 15 and g.tolist() == [6, 12]
    assert rest["b"].item() == 5 and rest["u"].item() == 0
    (loss, aux), (g,) = st.gradients(lambda: ((w * b).sum(), "aux"), [w], has_aux=True)
    assert aux == "aux" and g.tolist() == [3, 3]


def test_gradients_after_the_array_is_assigned_are_by_its_old_value() -> None:
    w = st.asarray(2.0)

    def f() -> st.Array:
        loss = w * w
        w.assign(w * 10)
        return loss + w

    loss, g = st.gradients(f, w)
    assert loss.item() == 24 and g.item() == 14 and w.item() == 20


def test_vjp_takes_and_gives_trees() -> None:
    def f(x: st.Array, p: Any) -> Any:
        return {"sum": x + p["b"], "product": (x * p["b"],)}

    x, b = st.asarray([1.0, 2.0]), st.asarray([3.0, 4.0])
    out, pull = st.vjp(f, x, {"b": b})
    assert out["product"][0].tolist() == [3, 8]
    dx, dp = pull({"sum": st.ones(2), "product": (st.asarray([1.0, 10.0]),)})
    assert dx.tolist() == [4, 41] and dp["b"].tolist() == [2, 21]
    again = pull({"sum": st.zeros(2), "product": (st.ones(2),)})  # any number of times
    assert again[0].tolist() == [3, 4]


def test_jvp_is_the_transpose_of_vjp() -> None:
    rng = np.random.default_rng(0)
    x, v = (st.asarray(rng.normal(size=(2, 3, 7))) for _ in range(2))
    w, u = (st.asarray(rng.normal(size=(4, 3, 3))) for _ in range(2))

    def f(x: st.Array, w: st.Array) -> st.Array:
        return st.softmax(st.conv(x, w, padding=1), axis=1)

    y, dy = st.jvp(f, (x, w), (v, u))
    g = st.asarray(rng.normal(size=y.shape))
    dx, dw = st.vjp(f, x, w)[1](g)
    left = (dy * g).sum().item()
    right = ((dx * v).sum() + (dw * u).sum()).item()
    assert left == pytest.approx(right, rel=1e-13)


def test_integers_pass_beside_but_not_by() -> None:
    f = lambda x, i: st.take(x, i).sum()  # noqa: E731
    assert st.grad(f)(st.asarray([1.0, 2.0]), st.asarray([0, 0, 1])).tolist() == [2, 1]
    with pytest.raises(st.DTypeError, match="argument 1 has i64"):
        st.grad(f, argnums=1)(st.asarray([1.0, 2.0]), st.asarray([0]))


def test_dtypes_of_gradients_are_those_of_the_arguments() -> None:
    for dtype in ("bfloat16", "float32", "float64"):
        x = st.ones((1, 1, 4), dtype)
        g = st.grad(lambda x: st.conv(x, st.ones((1, 1, 2), "float64")).sum())(x)
        assert g.dtype is x.dtype
