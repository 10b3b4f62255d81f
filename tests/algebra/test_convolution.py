"""The primitive against its definition, by every schedule, on every kind of input."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as s

import striate as st
from striate.ops import conv as schedules
from tests.algebra.relations import (
    Values,
    definition,
    dense_windows,
    normals,
    small_integers,
    specs,
    tolerance,
)

seeds = s.integers(0, 2**32 - 1)
SCHEDULES: dict[str, dict[str, object]] = {
    "as chosen": {},
    "by taps": {"_dense": schedules._by_taps},
    "by outputs": {"_dense": schedules._by_outputs},
    "by columns": {"_dense": schedules._by_columns},
    "columns, batch joined": {"_dense": schedules._by_columns, "FEW_OUTPUTS": 10**9},
    "columns, batch apart": {"_dense": schedules._by_columns, "FEW_OUTPUTS": 0},
    "columns in halves": {"_dense": schedules._by_columns, "FEW_OUTPUTS": 1, "COLUMN_BYTES": 0},
    "columns in chunks": {"_dense": schedules._by_columns, "FEW_OUTPUTS": 10**9, "COLUMN_BYTES": 9},
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def conv(x: Values, w: Values, spec: st.ConvSpec) -> Values:
    return st.conv_general(x, w, spec).numpy()


def run(schedule: str, x: Values, w: Values, spec: st.ConvSpec) -> Values:
    """conv by one schedule; the expression is computed at once, so nothing is cached across."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SCHEDULES[schedule].items():
            patch.setattr(schedules, name, value)
        return conv(x, w, spec)


@every_schedule
@settings(max_examples=60)
@given(specs(), seeds)
def test_integers_are_exact(schedule: str, spec: st.ConvSpec, seed: int) -> None:
    x, w = small_integers(seed, spec.lhs_shape, spec.rhs_shape)
    np.testing.assert_array_equal(run(schedule, x, w, spec), definition(x, w, spec), strict=True)


@every_schedule
@settings(max_examples=40)
@given(specs(window=dense_windows(4, 3)), seeds)
def test_dense_windows_too(schedule: str, spec: st.ConvSpec, seed: int) -> None:
    x, w = small_integers(seed, spec.lhs_shape, spec.rhs_shape)
    np.testing.assert_array_equal(run(schedule, x, w, spec), definition(x, w, spec))


@every_schedule
@settings(max_examples=40)
@given(specs(), seeds)
def test_floats_are_within_rounding(schedule: str, spec: st.ConvSpec, seed: int) -> None:
    x, w = normals(seed, spec.lhs_shape, spec.rhs_shape)
    wanted = definition(x, w, spec)
    np.testing.assert_allclose(
        run(schedule, x, w, spec), wanted, rtol=0, atol=tolerance(x, w, spec), strict=True
    )
    x, w = x.astype(np.float32), w.astype(np.float32)
    np.testing.assert_allclose(
        run(schedule, x, w, spec),
        definition(x.astype(np.float64), w.astype(np.float64), spec),
        rtol=0,
        atol=tolerance(x, w, spec),
    )


def halved(in_size: int) -> st.ConvSpec:
    """Large enough that the shipped constants cut it in halves and in chunks."""
    return st.ConvSpec(3, 1, 8, 2, (st.Window.of(in_size, 64, padding=(31, 32)),))


def test_the_constants_as_they_are_cut_a_large_axis() -> None:
    spec = halved(200_000)
    x, w = small_integers(0, spec.lhs_shape, spec.rhs_shape)
    y = conv(x, w, spec)
    for o in (0, 1, 30, 31, 99_999, 100_000, 199_998, 199_999):
        lo, hi = max(0, o - 31), min(200_000, o + 33)
        taps = slice(lo - (o - 31), 64 - (o + 33 - hi))
        part = np.einsum("ngci,gkci->ngk", x[..., lo:hi], w[..., taps])
        np.testing.assert_array_equal(y[..., o], part)


@settings(max_examples=60)
@given(*(s.integers(0, 4) for _ in range(4)), seeds)
def test_without_axes_it_is_matmul(n: int, g: int, c: int, k: int, seed: int) -> None:
    x, w = small_integers(seed, (n, g, c), (g, k, c))
    y = conv(x, w, st.ConvSpec(n, g, c, k))
    np.testing.assert_array_equal(y, np.matmul(x.swapaxes(0, 1), w.swapaxes(1, 2)).swapaxes(0, 1))
    np.testing.assert_array_equal(
        st.matmul(x.swapaxes(0, 1), w.swapaxes(1, 2)).numpy(),
        np.matmul(x.swapaxes(0, 1), w.swapaxes(1, 2)),
    )


@settings(max_examples=60)
@given(specs(least=1), seeds)
def test_it_is_linear_in_both(spec: st.ConvSpec, seed: int) -> None:
    x, v, w, u = small_integers(seed, *[spec.lhs_shape] * 2, *[spec.rhs_shape] * 2)
    y = conv(x, w, spec)
    np.testing.assert_array_equal(conv(3 * x - v, w, spec), 3 * y - conv(v, w, spec))
    np.testing.assert_array_equal(conv(x, 2 * w + u, spec), 2 * y + conv(x, u, spec))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(specs(max_axes=3), seeds)
def test_the_matrix_is_the_convolution(spec: st.ConvSpec, seed: int) -> None:
    x, w = small_integers(seed, spec.lhs_shape, spec.rhs_shape)
    data, indices, indptr = st.conv_matrix(w, spec)
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    y = np.zeros(len(indptr) - 1, np.int64)
    np.add.at(y, rows, data * x.ravel()[indices])
    np.testing.assert_array_equal(y.reshape(spec.out_shape), conv(x, w, spec))


# ---- values that are not numbers -----------------------------------------------------------


@every_schedule
@settings(max_examples=40)
@given(specs(max_axes=3, least=1), seeds)
def test_padding_contributes_nothing(schedule: str, spec: st.ConvSpec, seed: int) -> None:
    """An output is NaN or infinite only if an input of its window meets such a weight."""
    if schedule not in ("as chosen", "by taps", "by outputs"):
        schedule = "as chosen"  # columns multiply padding by zero; `_dense` must not choose them
    rng = np.random.default_rng(seed)
    x, w = small_integers(seed, spec.lhs_shape, spec.rhs_shape)
    x, w = x.astype(np.float64), w.astype(np.float64)
    spoilt = rng.random(w.shape) < 0.3
    w[spoilt] = rng.choice([np.nan, np.inf, -np.inf], int(spoilt.sum()))
    meets = definition(np.ones_like(x), spoilt.astype(np.float64), spec) > 0
    y = run(schedule, np.where(x == 0, 1, x), w, spec)
    np.testing.assert_array_equal(~np.isfinite(y), meets)


@settings(max_examples=60)
@given(specs(max_axes=3, least=1), seeds)
def test_non_finite_inputs_stay_in_their_windows(spec: st.ConvSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = small_integers(seed, spec.lhs_shape, spec.rhs_shape)
    x, w = x.astype(np.float64), w.astype(np.float64)
    spoilt = rng.random(x.shape) < 0.2
    x[spoilt] = np.nan
    meets = definition(spoilt.astype(np.float64), np.ones_like(w), spec) > 0
    np.testing.assert_array_equal(np.isnan(conv(x, w, spec)), meets)


# ---- kinds of input ------------------------------------------------------------------------


@settings(max_examples=60)
@given(specs(max_axes=3), seeds)
def test_bfloat16_is_the_float32_result_rounded_once(spec: st.ConvSpec, seed: int) -> None:
    x, w = (v.astype(ml_dtypes.bfloat16) for v in normals(seed, spec.lhs_shape, spec.rhs_shape))
    y = conv(x, w, spec)
    assert y.dtype == ml_dtypes.bfloat16
    wide = conv(x.astype(np.float32), w.astype(np.float32), spec)
    np.testing.assert_array_equal(y, wide.astype(ml_dtypes.bfloat16))


def unaligned(x: Values) -> Values:
    """The same values at an odd address."""
    return np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)


VIEWS: dict[str, Callable[[Values], Values]] = {
    "negative strides": lambda x: x[tuple(slice(None, None, -1) for _ in x.shape)],
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "Fortran order": np.asfortranarray,
    "zero stride": lambda x: np.broadcast_to(x[:, :, :1], x.shape),
    "unaligned": unaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("view", VIEWS)
@settings(max_examples=25)
@given(specs(max_axes=3, least=1), seeds)
def test_strided_inputs_equal_their_copies(view: str, spec: st.ConvSpec, seed: int) -> None:
    x, w = (v.astype(float) for v in small_integers(seed, spec.lhs_shape, spec.rhs_shape))
    x, w = VIEWS[view](x), VIEWS[view](w)
    native = x.dtype.newbyteorder("=")
    wanted = conv(np.array(x, native, order="C"), np.array(w, native, order="C"), spec)
    np.testing.assert_array_equal(conv(x, w, spec), wanted)
    if x.flags.aligned and x.dtype == native:
        shared = [st.from_dlpack(v) for v in (x, w)]  # the views themselves, not copies
        np.testing.assert_array_equal(st.conv_general(*shared, spec).numpy(), wanted)


def test_inputs_that_alias() -> None:
    x = np.arange(12.0).reshape(2, 1, 6)
    spec = st.ConvSpec(2, 1, 6, 1)
    np.testing.assert_array_equal(conv(x, x[:1], spec)[..., 0], (x @ x[0, 0]))
