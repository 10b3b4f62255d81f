"""Random numbers: the generator's known answers, its statistics, and what a draw is keyed by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import striate as st
from striate.ops.random import _CHUNK, philox, random_uniform, words


def uniform(key: tuple[int, int, int], shape: Any, dtype: str = "float32") -> np.ndarray:
    size = (shape,) if isinstance(shape, int) else shape
    return st.Array(random_uniform(np.array(key), size, dtype)).numpy()


# ---- bits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2,
         (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
         (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)  # fmt: skip
def test_known_answers_of_philox(
    counter: tuple[int, ...], key: tuple[int, int], want: tuple[int, ...]
) -> None:
    """The vectors of Random123, the generator's authors' own library."""
    got = philox([np.array([c, 0], np.uint64) for c in counter], key)
    assert tuple(int(w[0]) for w in got) == want


def test_a_number_depends_on_its_key_and_index_alone() -> None:
    n = 4 * _CHUNK + 7
    long = uniform((1, 2, 3), n)
    for m in (1, 5, 1000, 4 * _CHUNK):
        assert np.array_equal(uniform((1, 2, 3), m), long[:m])
    assert np.array_equal(uniform((1, 2, 3), (3, 5)).ravel(), long[:15])
    assert uniform((1, 2, 3), (0, 4)).shape == (0, 4)


def test_blocks_beyond_32_bits_have_numbers_of_their_own() -> None:
    key = np.array([1, 2, 3])
    near, far = words(key, 0, 4), words(key, 2**32, 2**32 + 4)
    assert near.shape == far.shape == (16,) and not (near == far).any()


def test_each_part_of_the_key_matters() -> None:
    base = uniform((5, 6, 7), 1000)
    for key in [(6, 6, 7), (5, 7, 7), (5, 6, 8), (-5, 6, 7), (5, 6 + 2**32, 7), (5 + 2**32, 6, 7)]:
        other = uniform(key, 1000)
        assert (other == base).mean() < 0.01
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.1


# ---- statistics ----------------------------------------------------------------------------


def chi_square(counts: np.ndarray, expected: np.ndarray | float) -> float:
    """How many standard deviations the statistic is from its mean."""
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = counts.size - 1
    return float((statistic - freedom) / math.sqrt(2 * freedom))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniformity(dtype: str) -> None:
    u = uniform((1, 0, 0), 1 << 18, dtype)
    assert u.dtype == dtype and u.min() >= 0 and u.max() < 1
    assert abs(chi_square(np.bincount((u * 256).astype(int), minlength=256), u.size / 256)) < 4
    low = (u.astype(np.float64) * 2**24 % 256).astype(int)
    assert abs(chi_square(np.bincount(low, minlength=256), u.size / 256)) < 4  # the low bits too
    bits = 24 if dtype == "float32" else 53
    steps = u.astype(np.float64) * 2.0**bits
    assert (steps % 1 == 0).all() and abs((steps % 2 == 1).mean() - 0.5) < 0.01


def test_draws_steps_and_neighbours_are_independent() -> None:
    """Pairs of numbers fill a 16 x 16 table evenly."""
    n = 1 << 17
    a = uniform((3, 0, 0), n)
    for b in (uniform((3, 0, 1), n), uniform((3, 1, 0), n), uniform((4, 0, 0), n), np.roll(a, 1)):
        cell = (a * 16).astype(int) * 16 + (b * 16).astype(int)
        assert abs(chi_square(np.bincount(cell, minlength=256), n / 256)) < 4


def test_first_numbers_of_many_draws_are_uniform() -> None:
    first = np.array([uniform((0, step, draw), 1)[0] for step in range(40) for draw in range(50)])
    assert abs(chi_square(np.bincount((first * 20).astype(int), minlength=20), 100)) < 4


def test_normal() -> None:
    z = st.random.normal(1 << 17, generator=st.random.Generator(2)).numpy()
    assert z.dtype == np.float32 and np.isfinite(z).all()
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert abs((z**3).mean()) < 0.03 and abs((z**4).mean() - 3) < 0.1
    edges = np.array([-np.inf, -2, -1, -0.5, 0, 0.5, 1, 2, np.inf])
    cdf = np.array([0.5 * (1 + math.erf(e / math.sqrt(2))) for e in edges])
    counts = np.histogram(z, edges)[0]
    assert abs(chi_square(counts, np.diff(cdf) * z.size)) < 4
    y = st.random.normal((300, 300), 5.0, 0.1, generator=st.random.Generator(2)).numpy()
    np.testing.assert_allclose(y.ravel(), 5 + 0.1 * z[: 300 * 300], rtol=1e-6)


def test_bernoulli() -> None:
    g = st.random.Generator(3)
    b = st.random.bernoulli(100_000, 0.3, generator=g)
    assert b.dtype is st.bool_ and abs(b.numpy().mean() - 0.3) < 0.01
    p = np.array([[0.0], [0.25], [1.0]])
    rates = st.random.bernoulli((3, 50_000), p, dtype="float32", generator=g).numpy().mean(axis=1)
    assert rates[0] == 0 and rates[2] == 1 and abs(rates[1] - 0.25) < 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_dtypes(dtype: str) -> None:
    g = st.random.Generator(0)
    u = st.random.uniform(10_000, dtype=dtype, generator=g)
    assert u.dtype.name == dtype
    values = u.numpy().astype(np.float64)
    assert values.min() >= 0 and values.max() < 1 and abs(values.mean() - 0.5) < 0.02
    scaled = st.random.uniform(1000, -2.0, 3.0, dtype=dtype, generator=g).numpy()
    assert -2 <= scaled.astype(float).min() < -1.9 and 2.9 < scaled.astype(float).max() <= 3
    assert st.random.normal(10, dtype=dtype, generator=g).dtype.name == dtype


# ---- generators ----------------------------------------------------------------------------


def test_eager_draws_differ_and_repeat_after_a_reset() -> None:
    st.random.seed(11)
    first = [st.random.uniform(4).tolist() for _ in range(3)]
    st.random.seed(11)
    assert [st.random.uniform(4).tolist() for _ in range(3)] == first
    st.random.seed(12)
    assert st.random.uniform(4).tolist() != first[0]
    assert first[0] != first[1] != first[2]


def test_each_call_of_a_jitted_step_draws_anew() -> None:
    g = st.random.Generator(5)

    @st.jit
    def step(x: st.Array) -> tuple[st.Array, st.Array]:
        noise = st.random.uniform(3, generator=g)
        return x + noise, st.random.uniform(3, generator=g)

    rows = [row.tolist() for _ in range(3) for row in step(st.zeros(3))]
    assert len({tuple(r) for r in rows}) == 6
    assert g.step.item() == 3
    assert len(step._compiled) == 1  # traced once


def test_restoring_seed_and_step_resumes_bitwise() -> None:
    g = st.random.Generator(6)
    f = st.jit(lambda x: st.dropout(x, 0.5, generator=g) + st.random.normal(8, generator=g))
    x = st.ones(8)
    for _ in range(3):
        f(x)
    saved = g.seed.item(), g.step.item()
    want = [f(x).tolist(), st.random.uniform(3, generator=g).tolist(), f(x).tolist()]
    again = st.random.Generator(0)
    again.seed.assign(saved[0])
    again.step.assign(saved[1])
    f = st.jit(lambda x: st.dropout(x, 0.5, generator=again) + st.random.normal(8, generator=again))
    got = [f(x).tolist(), st.random.uniform(3, generator=again).tolist(), f(x).tolist()]
    assert got == want


def test_two_jitted_functions_share_a_generator() -> None:
    g = st.random.Generator(7)
    f, h = (st.jit(lambda: st.random.uniform(4, generator=g)) for _ in range(2))
    draws = [f().tolist(), h().tolist(), f().tolist(), h().tolist()]
    assert len({tuple(d) for d in draws}) == 4 and g.step.item() == 4


def test_a_jit_in_a_jit_takes_part_in_its_draws() -> None:
    g = st.random.Generator(8)
    inner = st.jit(lambda: st.random.uniform(4, generator=g))
    outer = st.jit(lambda: (inner(), inner()))
    a, b = outer()
    assert a.tolist() != b.tolist() and g.step.item() == 1


def test_a_failed_trace_leaves_the_generator_as_it_was() -> None:
    g = st.random.Generator(9)

    def bad() -> st.Array:
        st.random.uniform(2, generator=g)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        st.jit(bad)()
    assert g.step.item() == 0


def test_draws_are_constants_to_derivatives() -> None:
    g = st.random.Generator(10)
    x = st.ones(1000)

    def loss(x: st.Array) -> tuple[st.Array, st.Array]:
        y = st.dropout(x, 0.25, generator=g)
        return st.sum(y * y), y

    (_, y), grad = st.value_and_grad(loss, has_aux=True)(x)
    np.testing.assert_allclose(grad.numpy(), 2 * y.numpy() / 0.75, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: st.random.Generator(2**63), st.RangeError, "64-bit"),
        (lambda: st.random.seed(1.5), st.DTypeError, "integer"),
        (lambda: st.random.uniform(3, dtype="int32"), st.DTypeError, "must be floating"),
        (lambda: st.random.normal(3, dtype="bool"), st.DTypeError, "must be floating"),
        (lambda: st.random.uniform((2, -1)), st.ShapeError, "sizes must be >= 0"),
        (lambda: st.random.uniform(2**62), st.RangeError, "bytes"),
        (lambda: st.random.bernoulli(3, st.ones(2)), st.ShapeError, "broadcast"),
        (lambda: st.random.bernoulli(3, st.ones((2, 1))), st.ShapeError, "broadcast_to"),
        (lambda: random_uniform(np.arange(2), (3,)), st.ShapeError, r"i64\[3\]"),
        (lambda: random_uniform(np.arange(3), (3,), "bfloat16"), st.DTypeError, "float32 and"),
        (lambda: st.dropout(st.ones(3), 1.5), st.ShapeError, r"in \[0, 1\], got 1.5"),
        (lambda: st.dropout(st.ones(3), -0.1), ValueError, "probability"),
        (lambda: st.dropout(st.ones(3), math.nan), ValueError, "probability"),
        (lambda: st.dropout(st.ones(3), "half"), st.DTypeError, "must be a number"),
        (lambda: st.dropout(st.ones(3), 0.5, axes=1), st.ShapeError, "out of range"),
        (lambda: st.drop_path(st.ones(()), 0.5), st.ShapeError, r"\[N, \*S\]"),
    ],
)
def test_wrong_calls(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


# ---- dropout -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(p: float, dtype: str) -> None:
    x = st.full(200_000, 2.0, dtype)
    y = st.dropout(x, p, generator=st.random.Generator(1))
    assert y.dtype is x.dtype
    values = y.numpy().astype(np.float64)
    kept = np.asarray(2 / (1 - p)).astype(x.dtype.numpy).astype(np.float64)
    np.testing.assert_allclose(np.unique(values), [0, kept], rtol=1e-6)
    assert abs((values == 0).mean() - p) < 0.005


def test_dropout_at_the_ends() -> None:
    g = st.random.Generator(2)
    x = st.asarray([1.0, math.nan, math.inf])
    np.testing.assert_array_equal(st.dropout(x, 0.0, generator=g).numpy(), x.numpy())
    assert st.dropout(x, 1.0, generator=g).tolist() == [0, 0, 0]
    assert st.grad(lambda x: st.sum(st.dropout(x, 1, generator=g)))(x).tolist() == [0, 0, 0]
    assert g.step.item() == 0  # no number was drawn
    assert st.dropout(st.ones(3, "int32"), 0.5, generator=g).dtype is st.float32
    assert st.dropout(st.zeros((0, 3)), 0.5, generator=g).shape == (0, 3)
    assert np.isnan(st.dropout(st.full(50, math.nan), 0.5, generator=g).numpy()).all()


def test_axes_share_their_fate() -> None:
    x = np.ones((50, 8, 4, 4), np.float32)
    y = st.dropout(x, 0.5, generator=st.random.Generator(3), axes=(2, -1)).numpy()
    assert (y == y[:, :, :1, :1]).all()
    assert abs((y[:, :, 0, 0] == 0).mean() - 0.5) < 0.1
    z = st.drop_path(x, 0.5, generator=st.random.Generator(3)).numpy()
    assert (z == z[:, :1, :1, :1]).all() and set(np.unique(z)) == {0.0, 2.0}
