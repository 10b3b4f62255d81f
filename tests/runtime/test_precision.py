"""The setting `precision`: what it allows, that plans know it, that bits depend on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import striate as st
from striate.config import settings
from striate.errors import StriateError
from striate.ops.conv import CONV, ConvSpec
from striate.ops.window import Window

Array = NDArray[np.floating]
BOUNDS = {"highest": 8, "high": 64, "fast": 128}  # in 2**-24 * sum |x| |w|

native = pytest.mark.skipif(settings().backend != "native", reason="kernels are the compiler's")


def data(batch: int = 2) -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3, 64, 14, 14)).astype(np.float32)[:batch]
    return x, rng.standard_normal((64, 64, 3, 3)).astype(np.float32)


def by_definition(x: Array, w: Array) -> Array:
    """y in float64."""
    n, c, *size = x.shape
    windows = tuple(Window.of(s, 3, padding=(1, 1)) for s in size)
    spec = ConvSpec(n, 1, c, len(w), windows)
    y = CONV.reference(spec, x[:, None].astype(np.float64), w[None].astype(np.float64))
    return y[:, 0]


@native
@pytest.mark.parametrize("precision", BOUNDS)
def test_errors_are_bounded(precision: str) -> None:
    x, w = data()
    with st.config(precision=precision):
        y = st.conv(st.asarray(x), st.asarray(w), padding=1).numpy()
    loss = np.abs(y - by_definition(x, w)) / by_definition(np.abs(x), np.abs(w))
    assert loss.max() < BOUNDS[precision] * 2.0**-24


@native
def test_a_jitted_function_has_a_plan_for_each() -> None:
    x, w = map(st.asarray, data())
    f = st.jit(lambda x: st.conv(x, w, padding=1))
    names = {}
    for precision in (*BOUNDS, "highest"):
        with st.config(precision=precision):
            names[precision] = {row.kernel for row in f.profile(x).rows}
    tiles = {p: next((n for n in found if "x3_" in n), "") for p, found in names.items()}
    assert len(set(tiles.values())) == 3, tiles
    assert "f2x2_3x3" in tiles["highest"]


@native
def test_an_image_is_the_same_in_any_batch_and_team() -> None:
    x, w = data(3)
    count = st.get_num_threads()
    f = st.jit(lambda x: st.maximum(st.conv(x, w, padding=1), 0.0))
    try:
        whole = f(x).numpy()
        for threads in (1, 2, 3):
            st.set_num_threads(threads)
            np.testing.assert_array_equal(f(x).numpy(), whole)
            np.testing.assert_array_equal(f(x[1:2]).numpy(), whole[1:2])
    finally:
        st.set_num_threads(count)


@native
def test_gradients_are_those_of_the_interpreter() -> None:
    x, w = data()

    def loss(x: st.Array, w: st.Array) -> st.Array:
        y = st.conv(x, w, padding=1)
        return (y * y).sum()

    dx, dw = (g.numpy() for g in st.grad(loss, argnums=(0, 1))(st.asarray(x), st.asarray(w)))
    with st.config(backend="numpy"):
        double = [st.asarray(a.astype(np.float64)) for a in (x, w)]
        expected = [g.numpy() for g in st.grad(loss, argnums=(0, 1))(*double)]
    for got, want in zip((dx, dw), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=3e-5 * float(np.abs(want).max()))


def test_what_there_is_not() -> None:
    with (
        pytest.raises(
            StriateError, match="precision must be one of highest, high, fast, got 'low'"
        ),
        st.config(precision="low"),
    ):
        pass
