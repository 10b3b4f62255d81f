"""Rearrangements against NumPy, with their adjoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as s

import striate as st

X = np.arange(24.0).reshape(2, 3, 4)
ONE = np.arange(6.0).reshape(1, 3, 1, 2)
M = np.arange(40.0).reshape(2, 4, 5)

# Name, arguments after x, x, what NumPy says.
CASES: list[tuple[str, dict[str, Any], np.ndarray, Callable[[np.ndarray], Any]]] = [
    ("squeeze", {}, ONE, np.squeeze),
    ("squeeze", {"axis": 2}, ONE, lambda x: np.squeeze(x, 2)),
    ("squeeze", {"axis": (0, -2)}, ONE, lambda x: np.squeeze(x, (0, 2))),
    ("expand_dims", {}, X, lambda x: x[None]),
    ("expand_dims", {"axis": -1}, X, lambda x: x[..., None]),
    ("expand_dims", {"axis": (0, 2, -1)}, X, lambda x: np.expand_dims(x, (0, 2, -1))),
    ("flatten", {}, X, np.ravel),
    ("flatten", {"start": 1}, X, lambda x: x.reshape(2, 12)),
    ("flatten", {"start": 0, "end": 1}, X, lambda x: x.reshape(6, 4)),
    ("flatten", {"start": -2, "end": -2}, X, lambda x: x),
    ("flatten", {}, np.array(3.0), lambda x: x.reshape(1)),
    ("moveaxis", {"source": 0, "destination": -1}, X, lambda x: np.moveaxis(x, 0, -1)),
    ("moveaxis", {"source": (0, 2), "destination": (1, 0)}, X,
     lambda x: np.moveaxis(x, (0, 2), (1, 0))),
    ("swapaxes", {"axis1": 0, "axis2": -1}, X, lambda x: np.swapaxes(x, 0, 2)),
    ("roll", {"shift": 5}, X, lambda x: np.roll(x, 5)),
    ("roll", {"shift": -1, "axis": 2}, X, lambda x: np.roll(x, -1, 2)),
    ("roll", {"shift": 103, "axis": 1}, X, lambda x: np.roll(x, 103, 1)),
    ("roll", {"shift": (1, 2), "axis": (0, -1)}, X, lambda x: np.roll(x, (1, 2), (0, -1))),
    ("roll", {"shift": 2, "axis": (1, 2)}, X, lambda x: np.roll(x, 2, (1, 2))),
    ("repeat", {"repeats": 3}, X, lambda x: np.repeat(x, 3)),
    ("repeat", {"repeats": 2, "axis": 1}, X, lambda x: np.repeat(x, 2, 1)),
    ("repeat", {"repeats": 0, "axis": 1}, X, lambda x: np.repeat(x, 0, 1)),
    ("repeat", {"repeats": [2, 0, 1], "axis": -2}, X, lambda x: np.repeat(x, [2, 0, 1], 1)),
    ("tile", {"repeats": 2}, X, lambda x: np.tile(x, 2)),
    ("tile", {"repeats": (2, 1, 3)}, X, lambda x: np.tile(x, (2, 1, 3))),
    ("tile", {"repeats": (2, 1, 1, 3)}, X, lambda x: np.tile(x, (2, 1, 1, 3))),
    ("tile", {"repeats": ()}, X, lambda x: x),
    ("tril", {}, M, np.tril),
    ("tril", {"k": 2}, M, lambda x: np.tril(x, 2)),
    ("triu", {}, M, np.triu),
    ("triu", {"k": -1}, M, lambda x: np.triu(x, -1)),
    ("cumulative_sum", {}, X, lambda x: np.cumsum(x, -1)),
    ("cumulative_sum", {"axis": 0}, X, lambda x: np.cumsum(x, 0)),
]  # fmt: skip
IDS = [f"{name} {args}" for name, args, _, _ in CASES]


@pytest.mark.parametrize(("name", "args", "x", "want"), CASES, ids=IDS)
def test_against_numpy(
    name: str, args: dict[str, Any], x: np.ndarray, want: Callable[[np.ndarray], Any]
) -> None:
    f = getattr(st, name)
    for dtype in (np.float64, np.float32, np.int64, np.uint8):
        y = f(x.astype(dtype), **args).numpy()
        expected = np.asarray(want(x.astype(dtype)))
        assert y.dtype == (np.int64 if name == "cumulative_sum" and dtype == np.uint8 else dtype)
        assert np.array_equal(y, expected)


@pytest.mark.parametrize(("name", "args", "x", "want"), CASES, ids=IDS)
def test_adjoint(
    name: str, args: dict[str, Any], x: np.ndarray, want: Callable[[np.ndarray], Any]
) -> None:
    """These are linear: <f(v), u> == <v, f^T(u)>, and f^T is linear too."""
    rng = np.random.default_rng(0)
    v = rng.standard_normal(x.shape)
    y, pull = st.vjp(lambda x: getattr(st, name)(x, **args), x)
    u = rng.standard_normal(y.shape)
    (back,) = pull(u)
    assert back.shape == x.shape
    assert np.vdot(want(v), u) == pytest.approx(np.vdot(v, back.numpy()), abs=1e-12)
    _, tangent = st.jvp(lambda x: getattr(st, name)(x, **args), (x,), (v,))
    np.testing.assert_allclose(tangent.numpy(), want(v), atol=1e-14)


def test_concat_and_stack() -> None:
    a, b = np.ones((2, 1, 3), np.float32), np.zeros((2, 4, 3))
    y = st.concat([a, b, st.zeros((2, 0, 3))], axis=-2)
    assert y.dtype is st.float64 and np.array_equal(y.numpy(), np.concatenate([a, b], 1))
    assert st.concat([np.arange(2, dtype=np.int8), np.arange(2, dtype=np.uint8)]).dtype is st.int16
    assert np.array_equal(st.concat([a, b], axis=None).numpy(), np.concatenate([a, b], None))
    for axis in (0, 1, 2, -1):
        y = st.stack([X, X + 1], axis=axis)
        assert np.array_equal(y.numpy(), np.stack([X, X + 1], axis))
    assert st.stack([1.0, 2.0]).tolist() == [1.0, 2.0]
    parts = st.unstack(st.asarray(X), axis=1)
    assert len(parts) == 3 and np.array_equal(parts[2].numpy(), X[:, 2])


def test_derivatives_of_concat_and_split() -> None:
    a, b = st.ones((2, 1)), st.ones((2, 3))
    w = np.arange(8, dtype=np.float32).reshape(2, 4)
    da, db = st.grad(lambda a, b: st.sum(st.concat([a, b], 1) * w), (0, 1))(a, b)
    assert np.array_equal(da.numpy(), w[:, :1]) and np.array_equal(db.numpy(), w[:, 1:])

    def f(x: st.Array) -> st.Array:
        first, second = st.split(x, [1, 3], axis=1)
        return st.sum(first * 2) + st.sum(second * second)

    assert np.array_equal(
        st.grad(f)(st.asarray(w)).numpy(), np.hstack([w[:, :1] * 0 + 2, 2 * w[:, 1:]])
    )
    _, tangent = st.jvp(lambda a: st.concat([a, b], 1), (a,), (a * 3,))
    assert tangent.tolist() == [[3, 0, 0, 0]] * 2


@given(
    sizes=s.lists(s.integers(0, 3), min_size=1, max_size=4),
    axis=s.integers(-2, 1),
)
def test_split_undoes_concat(sizes: list[int], axis: int) -> None:
    shapes = [(n, 2) if axis % 2 == 0 else (2, n) for n in sizes]
    xs = [np.full(shape, i, np.float32) for i, shape in enumerate(shapes)]
    parts = st.split(st.concat(xs, axis), sizes, axis)
    assert all(np.array_equal(p.numpy(), x) for p, x in zip(parts, xs, strict=True))


def test_split_into_equal_sections() -> None:
    parts = st.split(st.arange(6), 3)
    assert [p.tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]


def test_broadcast_arrays() -> None:
    a, b = st.broadcast_arrays(np.ones((3, 1)), np.arange(2))
    assert a.shape == b.shape == (3, 2) and b.dtype is st.int64


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 9, 100])
def test_cumulative_sum(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((2, n))
    np.testing.assert_allclose(st.cumulative_sum(x).numpy(), np.cumsum(x, -1), atol=1e-13)


def test_cumulative_sum_passes_infinities_on_only_forwards() -> None:
    y = st.cumulative_sum(np.array([1.0, 2.0, np.inf, 1.0, -np.inf, 1.0])).numpy()
    np.testing.assert_array_equal(y, [1, 3, np.inf, np.inf, np.nan, np.nan])


@pytest.mark.parametrize(
    ("factor", "lead", "sizes"),
    [((2,), (2,), (5,)), ((3, 2), (2,), (2, 3)), ((2, 1, 3), (1,), (2, 3, 1)), ((2, 2), (), (3, 1)),
     ((2, 2, 2, 2), (2, 3), (1, 2, 1, 2))],
)  # fmt: skip
def test_pixel_shuffle_by_its_definition(
    factor: tuple[int, ...], lead: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    """y[b, c, i*r + k] = x[b, (c, k), i] for every element."""
    channels = 3
    shape = (*lead, channels * int(np.prod(factor)), *sizes)
    x = np.random.default_rng(0).standard_normal(shape)
    y = st.pixel_shuffle(x, factor).numpy()
    fine = tuple(n * r for n, r in zip(sizes, factor, strict=True))
    assert y.shape == (*lead, channels, *fine)
    split = x.reshape(*lead, channels, *factor, *sizes)
    for at in np.ndindex(*fine):
        k = tuple(a % r for a, r in zip(at, factor, strict=True))
        i = tuple(a // r for a, r in zip(at, factor, strict=True))
        assert np.array_equal(y[(..., *at)], split[(..., *k, *i)])
    assert np.array_equal(st.pixel_unshuffle(y, factor).numpy(), x)


def test_one_factor_is_for_two_axes() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 2, 3))
    y = st.pixel_shuffle(x, 2)
    assert y.shape == (2, 3, 2, 4, 6)
    assert np.array_equal(y.numpy(), st.pixel_shuffle(x, (2, 2)).numpy())
    assert np.array_equal(st.pixel_unshuffle(y, 2).numpy(), x)
    u = np.random.default_rng(2).standard_normal(y.shape)
    (back,) = st.vjp(lambda x: st.pixel_shuffle(x, 2), x)[1](u)
    assert np.array_equal(back.numpy(), st.pixel_unshuffle(u, 2).numpy())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: st.concat([]), "one array or more"),
        (lambda: st.concat([1.0, 2.0]), "st.stack"),
        (lambda: st.concat([st.ones(2), st.ones((2, 2))]), "ranks must be equal"),
        (lambda: st.concat([st.ones((2, 3)), st.ones((2, 2))]), "agree outside axis 0"),
        (lambda: st.concat([st.ones(2)], axis=1), "axis 1 is out of range"),
        (lambda: st.stack([]), "one array or more"),
        (lambda: st.stack([st.ones(2), st.ones(3)]), "shapes must be equal"),
        (lambda: st.split(st.ones(5), 2), "does not divide into 2"),
        (lambda: st.split(st.ones(5), 0), "does not divide into 0"),
        (lambda: st.split(st.ones(5), [2, 2]), "must add up to 5"),
        (lambda: st.split(st.ones(5), [6, -1]), "must add up to 5"),
        (lambda: st.squeeze(st.ones((2, 1)), 0), "has size 2, not 1"),
        (lambda: st.expand_dims(st.ones(2), (0, 0)), "twice"),
        (lambda: st.expand_dims(st.ones(2), 3), "out of range"),
        (lambda: st.flatten(st.ones((2, 2)), 1, 0), "comes before"),
        (lambda: st.flatten(st.ones((2, 2)), 0, 2), "out of range"),
        (lambda: st.moveaxis(st.ones((2, 2)), (0, 0), (0, 1)), "twice"),
        (lambda: st.moveaxis(st.ones((2, 2)), (0, 1), 0), "different numbers"),
        (lambda: st.roll(st.ones(2), (1, 2), 0), "2 shifts for 1 axes"),
        (lambda: st.repeat(st.ones(2), -1), ">= 0"),
        (lambda: st.repeat(st.ones(2), [1, 2, 3], 0), "2 numbers"),
        (lambda: st.tile(st.ones(2), -1), ">= 0"),
        (lambda: st.tril(st.ones(2)), "two axes"),
        (lambda: st.triu(st.ones(2)), "two axes"),
        (lambda: st.pixel_shuffle(st.ones((1, 3, 2, 2)), 2), "do not divide by 4"),
        (lambda: st.pixel_shuffle(st.ones((4, 2)), 2), "2 spatial axes"),
        (lambda: st.pixel_shuffle(st.ones((1, 4, 2, 2)), 0), "must be >= 1"),
        (lambda: st.pixel_shuffle(st.ones((1, 4, 2, 2)), ()), "must be >= 1"),
        (lambda: st.pixel_unshuffle(st.ones((1, 3, 3, 2)), 2), "do not divide by"),
    ],
)
def test_wrong_calls(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(st.ShapeError, match=words):
        call()
