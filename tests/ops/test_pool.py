"""Pools against windows that are written out; properties, layouts, dtypes, empty batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, nan, prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as hs

import striate as st
from striate.ops.pool_window import _count_empty
from striate.ops.window import Window

Array = np.ndarray[Any, Any]
Windows = list[list[list[int]]]  # per axis, per output: the input positions, padding included


# ---- the definition ------------------------------------------------------------------------


@dataclass
class Case:
    """Arguments of a pool, and its windows as lists of positions."""

    sizes: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: list[tuple[int, int]]
    dilation: tuple[int, ...]
    ceil_mode: bool

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil_mode,
        }

    def windows(self) -> Windows:
        """Positions below n + hi; those in [0, n) are of the input."""
        axes = []
        for n, k, s, (lo, hi), d in zip(
            self.sizes, self.window, self.stride, self.padding, self.dilation, strict=True
        ):
            extent, out = d * (k - 1) + 1, []
            start = -lo
            room = s - 1 if self.ceil_mode else 0  # how far a window may run over the end
            while start + extent <= n + hi + room and (start < n or not self.ceil_mode):
                out.append([p for p in range(start, start + extent, d) if p < n + hi])
                start += s
            axes.append(out)
        return axes

    @property
    def is_legal(self) -> bool:
        axes = self.windows()
        return all(axes) and all(
            any(0 <= p < n for p in w) and max(pads) <= d * (k - 1)
            for n, k, d, pads, axis in zip(
                self.sizes, self.window, self.dilation, self.padding, axes, strict=True
            )
            for w in axis
        )


@hs.composite
def cases(draw: Callable[..., Any], max_rank: int = 3) -> Case:
    rank = draw(hs.integers(1, max_rank))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(hs.integers(low, high)) for _ in range(rank))

    window, dilation = each(1, 4), each(1, 3)
    padding = [
        tuple(draw(hs.integers(0, d * (k - 1))) for _ in range(2))
        for k, d in zip(window, dilation, strict=True)
    ]
    return Case(each(1, 7), window, each(1, 4), padding, dilation, draw(hs.booleans()))


def pooled(
    x: Array, axes: Windows, choose: Callable[[Array, Array, list[tuple[int, ...]]], Any]
) -> Array:
    """choose(elements, flat indices, positions with padding) of every window of x[N, C, *I]."""
    sizes = x.shape[2:]
    lists = np.empty((*x.shape[:2], *map(len, axes)), object)
    for at in np.ndindex(*lists.shape):
        taps = list(itertools.product(*(axes[a][o] for a, o in enumerate(at[2:]))))
        inside = [t for t in taps if all(0 <= p < n for p, n in zip(t, sizes, strict=True))]
        flat = [int(np.ravel_multi_index(t, sizes)) for t in inside]
        lists[at] = choose(x[at[:2]].ravel()[flat], np.array(flat), taps)
    return lists


def first_largest(values: Array, flat: Array, taps: Any) -> int:
    return int(flat[np.argmax(values)])  # NumPy: the first, and the first NaN


def data(case: Case, seed: int, batch: tuple[int, int] = (2, 2)) -> Array:
    """Few different values, so that ties are common."""
    return np.random.default_rng(seed).integers(-3, 4, (*batch, *case.sizes)).astype(np.float64)


SEEDS = hs.integers(0, 2**32 - 1)


# ---- values --------------------------------------------------------------------------------


@settings(max_examples=80)
@given(cases(), SEEDS, hs.booleans())
def test_max_pool_is_its_definition(case: Case, seed: int, special: bool) -> None:
    x = data(case, seed, (1, 2))
    if special:
        x[x == 0] = nan
        x[x < 0] = -inf
    if not case.is_legal:
        with pytest.raises(st.ShapeError, match="max_pool: spatial axis"):
            st.max_pool(x, case.window, **case.arguments)
        return
    want = pooled(x, case.windows(), first_largest).astype(np.int64)
    values, indices = st.max_pool(x, case.window, return_indices=True, **case.arguments)
    np.testing.assert_array_equal(indices, want)
    flat = np.take_along_axis(x.reshape(1, 2, -1), want.reshape(1, 2, -1), 2)
    np.testing.assert_array_equal(values, flat.reshape(want.shape))


@settings(max_examples=80)
@given(cases(), SEEDS, hs.booleans(), hs.sampled_from([None, 3, -2]))
def test_avg_pool_is_its_definition(case: Case, seed: int, include: bool, divisor: Any) -> None:
    x = data(case, seed, (1, 2))
    options = {"count_include_pad": include, "divisor_override": divisor}
    if not case.is_legal:
        with pytest.raises(st.ShapeError, match="avg_pool: spatial axis"):
            st.avg_pool(x, case.window, **options, **case.arguments)
        return

    def mean(values: Array, flat: Array, taps: list[Any]) -> float:
        return values.sum() / (divisor or (len(taps) if include else len(values)))

    want = pooled(x, case.windows(), mean).astype(np.float64)
    got = st.avg_pool(x, case.window, **options, **case.arguments)
    np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-14)


@settings(max_examples=60)
@given(cases(2), SEEDS, hs.sampled_from([1, 2, 3, 0.5, 2.5, inf]))
def test_lp_pool_is_its_definition(case: Case, seed: int, norm: float) -> None:
    x = np.abs(data(case, seed, (1, 2)))
    if not case.is_legal:
        with pytest.raises(st.ShapeError, match="lp_pool: spatial axis"):
            st.lp_pool(x, norm, case.window, **case.arguments)
        return

    def length(values: Array, flat: Array, taps: list[Any]) -> float:
        if norm == inf:
            return float(values.max())
        scale = prod(case.window) / len(taps)
        return float(((values**norm).sum() * scale) ** (1 / norm))

    want = pooled(x, case.windows(), length).astype(np.float64)
    got = st.lp_pool(x, norm, case.window, **case.arguments)
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_powers_keep_their_sign() -> None:
    x = np.array([[[-3.0, 2.0, -4.0, 4.0]]])
    assert st.lp_pool(x, 1, 2).tolist() == [[[-1.0, 0.0]]]
    assert st.lp_pool(st.abs(x), 1, 2).tolist() == [[[5.0, 8.0]]]
    assert st.lp_pool(x, inf, 2).tolist() == [[[3.0, 4.0]]]


@settings(max_examples=60)
@given(hs.lists(hs.tuples(hs.integers(1, 7), hs.integers(1, 9)), min_size=1, max_size=3), SEEDS)
def test_adaptive_pools_are_their_definition(axes: list[tuple[int, int]], seed: int) -> None:
    sizes, outs = zip(*axes, strict=True)
    x = np.random.default_rng(seed).integers(-3, 4, (1, 2, *sizes)).astype(np.float64)
    windows = [
        [list(range(o * n // out, ceil((o + 1) * n / out))) for o in range(out)] for n, out in axes
    ]
    means = pooled(x, windows, lambda values, *_: values.mean()).astype(np.float64)
    np.testing.assert_allclose(st.adaptive_avg_pool(x, outs), means, rtol=1e-14, atol=1e-14)
    x[x == 3] = nan
    want = pooled(x, windows, first_largest).astype(np.int64)
    values, indices = st.adaptive_max_pool(x, outs, return_indices=True)
    np.testing.assert_array_equal(indices, want)
    flat = np.take_along_axis(x.reshape(1, 2, -1), want.reshape(1, 2, -1), 2)
    np.testing.assert_array_equal(values, flat.reshape(want.shape))


def test_an_infinity_stays_in_its_windows() -> None:
    x = np.zeros((1, 1, 7, 7))
    x[0, 0, 0, 0], x[0, 0, 6, 6] = inf, nan
    for y in (st.adaptive_avg_pool(x, 3), st.avg_pool(x, 3, stride=2, padding=1)):
        value = y.numpy()[0, 0]
        assert value[0, 0] == inf and np.isnan(value[-1, -1])
        assert np.isfinite(value).sum() == value.size - 2


def test_global_pools() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(st.global_avg_pool(x), x.mean((2, 3), keepdims=True), rtol=1e-14)
    np.testing.assert_array_equal(st.global_max_pool(x), x.max((2, 3), keepdims=True))
    last = x.transpose(0, 2, 3, 1)
    assert st.global_avg_pool(last, data_format="NHWC").shape == (2, 1, 1, 3)
    assert st.global_max_pool(x[:, :, 0], data_format="NCL").shape == (2, 3, 1)


def test_padding_is_never_chosen() -> None:
    x = np.full((1, 1, 3, 3), -inf)
    values, indices = st.max_pool(x, 3, stride=1, padding=1, return_indices=True)
    assert np.all(values.numpy() == -inf)
    assert indices.numpy()[0, 0].tolist() == [[0, 0, 1], [0, 0, 1], [3, 3, 4]]
    lowest = np.full((1, 1, 3), -128, np.int8)
    assert st.max_pool(lowest, 3, padding=1).tolist() == [[[-128]]]


def test_the_first_nan_wins() -> None:
    x = np.array([[[1.0, nan, 9.0, nan, 2.0]]])
    values, indices = st.max_pool(x, 5, return_indices=True)
    assert np.isnan(values.item()) and indices.item() == 1
    values, indices = st.max_pool(x, 2, stride=1, return_indices=True)
    assert indices.tolist() == [[[1, 1, 3, 3]]]


def test_negative_padding_crops() -> None:
    x = np.arange(12.0).reshape(1, 1, 12)
    values, indices = st.max_pool(
        x, 3, stride=4, padding=[(-2, -3)], ceil_mode=True, return_indices=True
    )
    assert values.tolist() == indices.tolist() == [[[4.0, 8.0]]]
    np.testing.assert_array_equal(
        st.avg_pool(x, 3, stride=4, padding=[(-2, -3)], ceil_mode=True), [[[3.0, 7.0]]]
    )
    square = np.random.default_rng(1).permutation(30).astype(np.float32).reshape(1, 1, 5, 6)
    values, indices = st.max_pool(square, 2, padding=[(-1, 1), (0, -2)], return_indices=True)
    np.testing.assert_array_equal(square.ravel()[indices.numpy().ravel()], values.numpy().ravel())
    padded = st.pad(square, [(-1, 1), (0, -2)], value=-1.0)
    np.testing.assert_array_equal(values, st.max_pool(padded, 2))


@pytest.mark.parametrize("padding", ["valid", "same", "same_lower", "causal"])
def test_paddings_by_name(padding: str) -> None:
    x = np.random.default_rng(2).normal(size=(1, 2, 7, 8))
    ones = np.ones((2, 1, 4, 3))
    arguments: dict[str, Any] = {"stride": (2, 3), "padding": padding}
    want = st.conv(x, ones, groups=2, **arguments)
    got = st.avg_pool(x, (4, 3), divisor_override=1, **arguments)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert st.max_pool(x, (4, 3), **arguments).shape == want.shape


def test_ranks_layouts_and_missing_batches() -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, 4, 5, 6, 4))  # four spatial axes
    y = st.max_pool(x, 2)
    assert y.shape == (2, 3, 2, 2, 3, 2)
    np.testing.assert_array_equal(st.max_pool(x[1], (2, 2, 2, 2)), y[1])
    image = x[:, :, :, :, 0, 0]
    last = image.transpose(0, 2, 3, 1)
    pools: list[Callable[..., Any]] = [
        lambda x, **k: st.max_pool(x, (2, 2), stride=1, padding=1, return_indices=True, **k),
        lambda x, **k: (st.avg_pool(x, (2, 2), padding=1, count_include_pad=False, **k),),
        lambda x, **k: (st.lp_pool(x, 2, (2, 2), **k),),
        lambda x, **k: (st.adaptive_avg_pool(x, (3, 2), **k),),
        lambda x, **k: st.adaptive_max_pool(x, (3, 2), return_indices=True, **k),
    ]
    for pool in pools:
        for want, got, one in zip(
            pool(image), pool(last, data_format="NHWC"), pool(image[0]), strict=True
        ):
            np.testing.assert_array_equal(got.numpy().transpose(0, 3, 1, 2), want)
            np.testing.assert_array_equal(one, want[0])
        unbatched = pool(last[0], data_format="NHWC")[0]
        np.testing.assert_array_equal(unbatched.numpy().transpose(2, 0, 1), pool(image[0])[0])


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "bfloat16", "float32"])
def test_dtypes(dtype: str) -> None:
    x = st.astype(
        np.random.default_rng(4).integers(0, 2 if dtype == "bool" else 90, (1, 2, 9)), dtype
    )
    wide = x.numpy().astype(np.float64)
    y = st.max_pool(x, 3, stride=2, padding=1)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(
        y.numpy().astype(np.float64), st.max_pool(wide, 3, stride=2, padding=1)
    )
    assert st.adaptive_max_pool(x, 4).dtype == st.global_max_pool(x).dtype == x.dtype
    if x.dtype.is_floating:
        for mean in (st.avg_pool(x, 2), st.adaptive_avg_pool(x, 2), st.global_avg_pool(x)):
            assert mean.dtype == x.dtype
        exact = wide.mean(2, keepdims=True)
        rounded = st.astype(exact, x.dtype).numpy().astype(np.float64)
        got = st.global_avg_pool(x).numpy().astype(np.float64)
        np.testing.assert_allclose(got, rounded, rtol=1e-7 if dtype == "float32" else 0)


def test_empty_batches_and_channels() -> None:
    for shape in [(0, 3, 4, 4), (2, 0, 4, 4)]:
        x = np.zeros(shape)
        assert st.max_pool(x, 2, return_indices=True)[1].numpy().shape == (*shape[:2], 2, 2)
        for y in (st.avg_pool(x, 2), st.lp_pool(x, 2, 2), st.adaptive_avg_pool(x, (2, 3))):
            assert y.numpy().shape[:2] == shape[:2]
        assert st.grad(lambda x: st.avg_pool(x, 2).sum())(x).numpy().shape == shape
        assert st.adaptive_max_pool(x, 3).numpy().shape == (*shape[:2], 3, 3)
        assert st.global_max_pool(x).numpy().shape == (*shape[:2], 1, 1)
    ones = np.ones((1, 2, 4, 4))
    assert st.adaptive_avg_pool(ones, (0, 2)).numpy().shape == (1, 2, 0, 2)
    assert st.adaptive_max_pool(ones, (0, 2), True)[1].numpy().shape == (1, 2, 0, 2)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)])
def test_scattering_nothing(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape)
    assert st.grad(lambda x: st.max_pool(x, 2).sum())(x).numpy().shape == shape
    assert st.max_unpool(*st.max_pool(x, 2, return_indices=True), 2).numpy().shape == shape


def test_adaptive_none_keeps_a_size() -> None:
    x = np.random.default_rng(5).normal(size=(1, 2, 4, 6))
    assert st.adaptive_avg_pool(x, (None, 3)).shape == (1, 2, 4, 3)
    np.testing.assert_array_equal(st.adaptive_avg_pool(x, None), x)
    np.testing.assert_array_equal(st.adaptive_max_pool(x, (4, None)), x)


# ---- properties ----------------------------------------------------------------------------


@settings(max_examples=40)
@given(cases(2), SEEDS)
def test_maximum_and_mean_commute_with_a_shift_of_values(case: Case, seed: int) -> None:
    if not case.is_legal:
        return
    x = data(case, seed)
    kwargs = case.arguments
    np.testing.assert_array_equal(
        st.max_pool(x + 7, case.window, **kwargs), st.max_pool(x, case.window, **kwargs) + 7
    )
    np.testing.assert_array_equal(
        st.max_pool(x * 4, case.window, return_indices=True, **kwargs)[1],
        st.max_pool(x, case.window, return_indices=True, **kwargs)[1],
    )
    np.testing.assert_allclose(
        st.avg_pool(x + 7, case.window, count_include_pad=False, **kwargs),
        st.avg_pool(x, case.window, count_include_pad=False, **kwargs) + 7,
        rtol=1e-13,
    )


def test_pools_commute_with_a_translation_by_the_stride() -> None:
    x = np.random.default_rng(6).normal(size=(1, 2, 20, 14))
    shifted = x[:, :, 4:, 6:]
    pools: list[Callable[[Any], Any]] = [
        lambda x: st.max_pool(x, 3, stride=2),
        lambda x: st.avg_pool(x, 3, stride=2),
        lambda x: st.lp_pool(x, 2, 3, stride=2),
    ]
    for pool in pools:
        np.testing.assert_allclose(pool(shifted), pool(x)[:, :, 2:, 3:], rtol=1e-14)


def test_max_pools_nest() -> None:
    x = np.random.default_rng(7).normal(size=(2, 2, 12, 12))
    twice = st.max_pool(st.max_pool(x, 2), 3)
    np.testing.assert_array_equal(twice, st.max_pool(x, 6))


@given(*(hs.integers(1, 9) for _ in range(4)), hs.integers(1, 12))
def test_empty_windows_are_counted(n: int, k: int, s: int, d: int, out: int) -> None:
    for lo in range(d * (k - 1) + 1):
        count = min(out, (n + lo - 1) // s + 1)  # every window begins before the end
        window = Window(n, count, k, stride=s, rhs_dilation=d, pad_lo=lo)
        empty = sum(
            not any(0 <= s * o + d * tap - lo < n for tap in range(k)) for o in range(count)
        )
        assert _count_empty(window) == empty
