"""Max pooling and its gradient as machine code, against their references, in every layout."""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np
import pytest

from striate.codegen.kernel import Buffer, emit
from striate.codegen.machine import assembly, compile_object, named_target
from striate.codegen.pool import argmax_pool, max_and_argmax_pool, max_pool, max_pool_gradient
from striate.dtype import ALL, DType, bfloat16, float32
from striate.ops.pool import ARGMAX_POOL
from striate.ops.window import Window
from tests.codegen.guard import TARGETS, Array, run_everywhere, values


def axis(n: int, k: int, s: int = 1, p: int = 0, d: int = 1, hi: int | None = None) -> Window:
    return Window.of(n, k, stride=s, padding=(p, p if hi is None else hi), rhs_dilation=d)


# (N, C, b, windows)
CASES = (
    (2, 16, 16, (axis(13, 3, 2, 1), axis(12, 3, 2, 1))),
    (1, 32, 16, (axis(9, 2, 2), axis(11, 2, 2))),
    (1, 8, 8, (axis(7, 3, 1, 1), axis(9, 3, 1, 1))),
    (2, 6, 1, (axis(9, 3, 2, 1), axis(70, 3, 2, 1))),
    (1, 2, 1, (axis(6, 2, 2), axis(40, 2, 2))),
    (1, 3, 1, (axis(5, 3, 1, 1), axis(37, 3, 1, 1))),
    (1, 2, 1, (axis(7, 2, 3), axis(61, 2, 3))),
    (1, 4, 4, (axis(14, 5, 1, 2), axis(11, 5, 1, 2))),
    (1, 4, 4, (axis(14, 13, 1, 6), axis(11, 13, 1, 6))),
    (1, 2, 1, (axis(14, 9, 1, 4), axis(51, 7, 1, 3))),
    (1, 2, 1, (axis(14, 9, 2, 4), axis(70, 7, 2, 3))),
    (2, 5, 5, (axis(8, 3, 2, 1), axis(8, 3, 2, 1))),
    (1, 70, 70, (axis(5, 2, 1), axis(5, 2, 1))),
    (3, 4, 4, (axis(30, 3, 2, 1, 2),)),
    (1, 2, 1, (axis(30, 3, 1, 4, 3),)),
    (1, 4, 4, (axis(4, 2, 2), axis(5, 3, 2, 1), axis(7, 2, 3, 1))),
    (1, 4, 4, (axis(5, 1, 6), axis(9, 7, 4, 3))),
    (1, 4, 4, (axis(5, 2, 3), axis(11, 1, 3))),
    (1, 4, 4, (Window(5, 3, 3, 2, pad_lo=0), Window(6, 4, 3, 2, pad_lo=1))),  # ceil_mode
    (0, 4, 4, (axis(5, 3), axis(9, 3))),
)


def blocked(x: Array, b: int) -> Array:
    """[N, C, *S] -> [N, C/b, *S, b]"""
    n, c, *sizes = x.shape
    return np.ascontiguousarray(np.moveaxis(x.reshape(n, c // b, b, *sizes), 2, -1))


def taps_at(index: Array, windows: tuple[Window, ...]) -> Array:
    """Positions [N, C, *O] in the plane as numbers of taps in the windows."""
    places = np.unravel_index(index, [w.in_size for w in windows])
    numbers = np.zeros_like(index)
    for axis, (w, at) in enumerate(zip(windows, places, strict=True)):
        outs = np.arange(w.out_size).reshape(-1, *[1] * (len(windows) - 1 - axis))
        tap, rest = np.divmod(at + w.pad_lo - w.stride * outs, w.rhs_dilation)
        assert not rest.any()
        numbers = numbers * w.kernel_size + tap
    return numbers


def check(rng, case, dtype: DType, bits: int, target, spoil=lambda x: x) -> None:  # type: ignore[no-untyped-def]
    n, c, b, windows = case
    x = spoil(values(rng, (n, c, *(w.in_size for w in windows)), dtype, few=True))
    want = ARGMAX_POOL.reference(windows, x)
    flat, at = x.reshape(n, c, prod(x.shape[2:])), want.reshape(n, c, prod(want.shape[2:]))
    best = np.take_along_axis(flat, at, 2).reshape(want.shape)
    source, y, index, g, dx = (Buffer(0, s) for s in ("x", "y", "index", "g", "dx"))
    shape = blocked(want, b).shape
    integers = np.dtype(np.uint8 if bits == 8 else f"i{bits // 8}")
    chosen = taps_at(want, windows) if bits == 8 else want
    whole = (dtype, windows, n, c, b)
    made: dict[Buffer, Any] = {y: (shape, dtype.numpy), index: (shape, integers)}
    given = {source: blocked(x, b)}
    both = max_and_argmax_pool(*whole, source, y, index, bits)
    got = run_everywhere(both, given, made, target)
    np.testing.assert_array_equal(got[index], blocked(chosen, b))
    np.testing.assert_array_equal(got[y].astype(np.float64), blocked(best, b).astype(np.float64))
    lone = run_everywhere(max_pool(*whole, source, y), given, {y: made[y]}, target)
    np.testing.assert_array_equal(lone[y].astype(np.float64), got[y].astype(np.float64))
    alone = run_everywhere(
        argmax_pool(*whole, source, index, bits), given, {index: made[index]}, target
    )
    np.testing.assert_array_equal(alone[index], got[index])

    cotangent = values(rng, want.shape, dtype)
    steps = max_pool_gradient(*whole, index, bits, g, dx)
    given = {index: got[index], g: blocked(cotangent, b)}
    back = run_everywhere(steps, given, {dx: (blocked(x, b).shape, dtype.numpy)}, target)[dx]
    rows = cotangent.reshape(-1)
    places = (np.arange(n * c)[:, None] * flat.shape[2] + at.reshape(n * c, at.shape[2])).ravel()
    kind = np.float64 if dtype.is_floating else dtype.numpy
    sums, sizes = np.zeros(x.size, kind), np.zeros(x.size)
    add = np.logical_or.at if dtype.kind == "b" else np.add.at
    add(sums, places, rows.astype(kind))
    np.add.at(sizes, places, np.abs(rows.astype(np.float64)))
    total = blocked(sums.reshape(x.shape), b)
    if not dtype.is_floating:
        np.testing.assert_array_equal(back.view(np.int8), total.view(np.int8))
        return
    eps = 2.0**-8 if dtype is bfloat16 else np.finfo(dtype.numpy).eps
    bound = blocked(sizes.reshape(x.shape), b) * eps * (prod(w.kernel_size for w in windows) + 1)
    assert (np.abs(back.astype(np.float64) - total) <= bound).all()


@pytest.mark.parametrize("case", range(len(CASES)))
def test_equals_the_reference(case: int) -> None:
    check(np.random.default_rng(case), CASES[case], float32, 64, None)


@pytest.mark.parametrize("case", [i for i, c in enumerate(CASES) if c[2] >= 4])
def test_the_number_of_a_tap_is_index_enough(case: int) -> None:
    check(np.random.default_rng(case), CASES[case], float32, 8, None)


@pytest.mark.parametrize("target", TARGETS[:-1])
@pytest.mark.parametrize("case", [0, 3, 9, 15])
def test_other_targets(case: int, target) -> None:  # type: ignore[no-untyped-def]
    check(np.random.default_rng(case), CASES[case], float32, 32, target)
    if CASES[case][2] >= 4:
        check(np.random.default_rng(case), CASES[case], float32, 8, target)


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.short)
def test_every_dtype(dtype: DType) -> None:
    rng = np.random.default_rng(5)
    check(rng, CASES[0], dtype, 32, None)
    check(rng, CASES[3], dtype, 64, None)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_the_first_nan_wins_and_padding_is_never_chosen(bad: float) -> None:
    def spoil(x: Array) -> Array:
        x[..., ::3] = bad
        x[:, :, :5] = bad
        x[::2] *= -1 if np.isnan(bad) else 1
        return x

    for case in (CASES[0], CASES[3], CASES[7], CASES[8]):
        check(np.random.default_rng(6), case, float32, 32, None, spoil)
    for case in (CASES[0], CASES[7], CASES[8], CASES[13]):
        check(np.random.default_rng(6), case, float32, 8, None, spoil)


def test_kernels_are_shared_by_sizes_and_batches() -> None:
    x, y = Buffer(0, "x"), Buffer(0, "y")
    small = max_pool(float32, (axis(20, 3, 2, 1),) * 2, 1, 16, 16, x, y)
    large = max_pool(float32, (axis(112, 3, 2, 1),) * 2, 8, 64, 16, x, y)
    assert small[0].kernel == large[0].kernel


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
def test_nothing_is_spilled(name: str) -> None:
    x, y, index = (Buffer(0, s) for s in ("x", "y", "index"))
    n, c, b, windows = CASES[0]
    target = named_target(name)
    steps = max_pool(float32, windows, n, c, b, x, y)
    for bits in (8, 32):
        steps += max_pool_gradient(float32, windows, n, c, b, index, bits, y, x)
    if target.registers == 32:  # with 16 the careful way, which is rare, may spill
        steps += max_and_argmax_pool(float32, windows, n, c, b, x, y, index, 32)
        steps += max_and_argmax_pool(float32, windows, n, c, b, x, y, index, 8)
    for step in steps:
        text = assembly(emit(step.kernel, target), target)
        assert not re.search(r"[yz]mm.*rsp|rsp.*[yz]mm", text), step.kernel.name


def test_generates_for_aarch64() -> None:
    x, y, index = (Buffer(0, s) for s in ("x", "y", "index"))
    target = named_target("aarch64")
    for case in (CASES[0], CASES[3], CASES[9]):
        n, c, b, windows = case
        steps = max_and_argmax_pool(bfloat16, windows, n, c, b, x, y, index, 32)
        steps += max_pool_gradient(float32, windows, n, c, b, index, 32, y, x)
        for step in steps:
            assert compile_object(emit(step.kernel, target), target)
