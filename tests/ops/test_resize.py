"""Resizing against its definition, written here with loops over scalars."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as s

import striate as st


def keys(t: float, a: float) -> float:
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def tent(t: float) -> float:
    return max(0.0, 1 - abs(t))


def matrix(
    n: int, out: int, mode: str, align: bool = False, antialias: bool = False,
    scale: float | None = None,
) -> np.ndarray:  # fmt: skip
    """The matrix [out, n] of resizing one axis."""
    m = np.zeros((out, n))
    if n == out:
        return np.eye(n)
    step = n / out if scale is None else 1 / scale
    if align:
        step = (n - 1) / (out - 1) if out > 1 else 0.0
    for o in range(out):
        center = step * o if align else step * (o + 0.5) - 0.5
        if mode == "nearest":
            m[o, min(int(step * o), n - 1)] = 1
        elif mode == "nearest-exact":
            m[o, min(int(step * (o + 0.5)), n - 1)] = 1
        elif mode == "area":
            first, stop = o * n // out, -(-(o + 1) * n // out)
            m[o, first:stop] = 1 / (stop - first)
        elif antialias:
            width, radius = max(step, 1.0), 2 if mode == "bicubic" else 1
            middle = step * (o + 0.5)
            weights = []
            for i in range(n):
                inside = abs(i + 0.5 - middle) <= radius * width
                t = (i + 0.5 - middle) / width
                weights.append(inside * (keys(t, -0.5) if mode == "bicubic" else tent(t)))
            m[o] = np.array(weights) / sum(weights)
        elif mode == "bicubic":
            for i in range(math.floor(center) - 1, math.floor(center) + 3):
                m[o, min(max(i, 0), n - 1)] += keys(center - i, -0.75)
        else:
            center = min(max(center, 0.0), n - 1.0)
            for i in range(n):
                m[o, i] = tent(center - i)
    return m


SMOOTH = ("linear", "bicubic")
VARIANTS = [
    *((mode, False, False) for mode in ("nearest", "nearest-exact", "area")),
    *((mode, align, antialias) for mode in SMOOTH for align in (False, True)
      for antialias in (False, True)),
]  # fmt: skip


@given(
    variant=s.sampled_from(VARIANTS),
    sizes=s.lists(s.tuples(s.integers(1, 9), s.integers(1, 14)), min_size=1, max_size=3),
    seed=s.integers(0, 99),
)
@settings(max_examples=150)
def test_against_the_definition(
    variant: tuple[str, bool, bool], sizes: list[tuple[int, int]], seed: int
) -> None:
    mode, align, antialias = variant
    x = np.random.default_rng(seed).standard_normal((2, 3, *(n for n, _ in sizes)))
    want = x
    for axis, (n, out) in enumerate(sizes, start=2):
        m = matrix(n, out, mode, align, antialias)
        want = np.moveaxis(np.tensordot(m, want, (1, axis)), 0, axis)
    options: dict[str, Any] = {"mode": mode, "align_corners": align, "antialias": antialias}
    y, pull = st.vjp(lambda x: st.resize(x, [o for _, o in sizes], **options), x)
    np.testing.assert_allclose(y.numpy(), want, atol=1e-13)
    u = np.random.default_rng(seed + 1).standard_normal(y.shape)
    assert np.vdot(want, u) == pytest.approx(np.vdot(x, pull(u)[0].numpy()), abs=1e-11)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "bicubic"])
@pytest.mark.parametrize("scale", [0.3, 0.9, 1.5, 1.7, 2.0, 3.1])
def test_a_scale_is_the_distance_of_outputs(mode: Any, scale: float) -> None:
    n = 11
    out = int(n * scale)
    x = np.random.default_rng(0).standard_normal((1, 1, n))
    y = st.resize(x, scale=scale, mode=mode).numpy()
    np.testing.assert_allclose(y[0, 0], matrix(n, out, mode, scale=scale) @ x[0, 0], atol=1e-13)


def test_scales_per_axis() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    y = st.resize(x, scale=(0.5, 2), mode="bilinear")
    assert y.shape == (2, 3, 2, 10)
    rows = st.resize(x, scale=(0.5, 1.0), mode="bilinear")
    np.testing.assert_allclose(y.numpy(), st.resize(rows, (2, 10), mode="bilinear").numpy())


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_constants_stay(variant: tuple[str, bool, bool]) -> None:
    mode, align, antialias = variant
    x = st.full((1, 2, 5, 9), 3.0, "float64")
    for size in ((3, 4), (11, 20), (1, 1), (5, 17)):
        y = st.resize(x, size, mode=mode, align_corners=align, antialias=antialias)
        np.testing.assert_allclose(y.numpy(), 3.0, rtol=1e-14)


def test_straight_lines_stay_straight() -> None:
    x = np.linspace(0.0, 1.0, 7)[None, None]
    for out in (1, 2, 5, 13):
        want = np.linspace(0, 1, out)
        y = st.resize(x, out, mode="linear", align_corners=True).numpy()
        np.testing.assert_allclose(y[0, 0], want, atol=1e-15)


def test_doubling_is_a_repetition() -> None:
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    for mode in ("nearest", "nearest-exact"):
        y = st.resize(x, scale=2, mode=mode)
        assert np.array_equal(y.numpy(), x.repeat(2, 2).repeat(2, 3))
        (g,) = st.vjp(lambda x, mode=mode: st.resize(x, scale=2, mode=mode), x)[1](
            np.ones((1, 1, 4, 4))
        )
        assert np.array_equal(g.numpy(), np.full((1, 1, 2, 2), 4.0))


def test_the_same_size_is_the_same_array() -> None:
    x = np.random.default_rng(0).standard_normal((2, 2, 5))
    for mode, align, antialias in VARIANTS:
        y = st.resize(x, 5, mode=mode, align_corners=align, antialias=antialias)
        assert np.array_equal(y.numpy(), x)
    assert np.array_equal(st.resize(x, scale=1.05, mode="linear").numpy(), x)


def test_four_spatial_axes() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 2, 3, 2, 3))
    y = st.resize(x, 4, mode="linear").numpy()
    want = x
    for axis in range(2, 6):
        m = matrix(x.shape[axis], 4, "linear")
        want = np.moveaxis(np.tensordot(m, want, (1, axis)), 0, axis)
    np.testing.assert_allclose(y, want, atol=1e-14)


def test_types() -> None:
    x = np.array([[[0, 100, 255]]], np.uint8)
    y = st.resize(x, 6)
    assert y.dtype is st.uint8 and y.tolist() == [[[0, 0, 100, 100, 255, 255]]]
    assert st.resize(x, 2, mode="linear").dtype is st.float32
    assert st.resize(x, 2, mode="area").tolist() == [[[50.0, 177.5]]]
    low = np.random.default_rng(0).standard_normal((1, 1, 5, 5)).astype(ml_dtypes.bfloat16)
    wide = st.resize(low.astype(np.float32), 8, mode="bicubic").numpy()
    narrow = st.resize(low, 8, mode="bicubic").numpy()
    assert narrow.dtype == low.dtype and np.array_equal(narrow, wide.astype(low.dtype))


def test_empty_batches_and_channels() -> None:
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4)):
        for mode in ("nearest", "bilinear", "area"):
            y, pull = st.vjp(lambda x, mode=mode: st.resize(x, 7, mode=mode), st.zeros(shape))
            assert y.numpy().shape == (*shape[:2], 7, 7)
            assert pull(y)[0].numpy().shape == shape


def test_under_jit_and_differentiated_twice() -> None:
    x = st.asarray(np.random.default_rng(0).standard_normal((1, 2, 5, 5)))

    def loss(x: st.Array) -> st.Array:
        y = st.resize(x, scale=1.6, mode="bicubic")
        return st.sum(y * y * y)

    assert np.array_equal(st.jit(st.grad(loss))(x).numpy(), st.grad(loss)(x).numpy())
    v = st.asarray(np.random.default_rng(1).standard_normal(x.shape))
    _, forward = st.jvp(st.grad(loss), (x,), (v,))
    _, pull = st.vjp(st.grad(loss), x)
    np.testing.assert_allclose(forward.numpy(), pull(v)[0].numpy(), rtol=1e-10, atol=1e-12)


X4 = st.ones((1, 3, 8, 8))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: st.resize(X4), st.ShapeError, "one of size and scale"),
        (lambda: st.resize(X4, 4, scale=2), st.ShapeError, "one of size and scale"),
        (lambda: st.resize(X4, (4, 4, 4)), st.ShapeError, "2 spatial axes"),
        (lambda: st.resize(X4, scale=(2.0,)), st.ShapeError, "2 spatial axes"),
        (lambda: st.resize(X4, 0), st.ShapeError, "must be >= 1"),
        (lambda: st.resize(X4, -3), st.ShapeError, "must be >= 1"),
        (lambda: st.resize(X4, scale=0.01), st.ShapeError, "must be >= 1"),
        (lambda: st.resize(X4, scale=0), st.ShapeError, "positive and finite"),
        (lambda: st.resize(X4, scale=-2), st.ShapeError, "positive and finite"),
        (lambda: st.resize(X4, scale=math.nan), st.ShapeError, "positive and finite"),
        (lambda: st.resize(X4, scale=math.inf), st.ShapeError, "positive and finite"),
        (lambda: st.resize(X4, scale=("2", 2)), st.DTypeError, "must be a number"),
        (lambda: st.resize(X4, 2.5), st.DTypeError, "must be integers"),
        (lambda: st.resize(X4, mode="cubic", scale=2), st.ShapeError, "'cubic' is not one of"),
        (lambda: st.resize(X4, 4, mode="trilinear"), st.ShapeError, "3 spatial axes"),
        (lambda: st.resize(st.ones((1, 1, 4)), 4, mode="bilinear"), st.ShapeError, "2 spatial"),
        (lambda: st.resize(X4, 4, align_corners=True), st.ShapeError, "align_corners"),
        (lambda: st.resize(X4, 4, mode="area", antialias=True), st.ShapeError, "antialias"),
        (lambda: st.resize(st.ones((2, 3)), 4), st.ShapeError, "with a spatial axis"),
        (lambda: st.resize(st.ones(3), 4), st.ShapeError, "with a spatial axis"),
        (lambda: st.resize(st.ones((1, 1, 0, 4)), 4), st.ShapeError, "must be >= 1"),
        (lambda: st.resize(X4, 2**31), st.RangeError, "bytes"),
        (lambda: st.resize(X4, (2**40, 1)), st.RangeError, "bytes"),
        (lambda: st.resize(X4, 2**63), st.RangeError, "2\\*\\*63"),
        (lambda: st.resize(X4, scale=1e300), st.RangeError, "2\\*\\*63"),
    ],
)
def test_wrong_calls(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
