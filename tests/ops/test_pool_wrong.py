"""Wrong calls of pools say why; huge numbers neither hang nor wrap."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np
import pytest

import striate as st

X = np.ones((1, 2, 6, 6), np.float32)
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: st.max_pool(X, 0), st.ShapeError, "max_pool: window must be >= 1, got 0"),
    (lambda: st.max_pool(X, (2, -1)), st.ShapeError, "window must be >= 1, got"),
    (lambda: st.max_pool(X, 2, stride=0), st.ShapeError, "stride must be >= 1, got 0"),
    (lambda: st.max_pool(X, 2, stride=-1), st.ShapeError, "stride must be >= 1, got -1"),
    (lambda: st.max_pool(X, 2, dilation=0), st.ShapeError, "dilation must be >= 1, got 0"),
    (lambda: st.max_pool(X, 2, dilation=-3), st.ShapeError, "dilation must be >= 1, got -3"),
    (lambda: st.max_pool(X, 2.0), st.DTypeError, "window must be an integer or a tuple"),
    (lambda: st.max_pool(X, None), st.DTypeError, "window must be an integer or a tuple"),
    (lambda: st.max_pool(X, "2"), st.DTypeError, "window must be an integer or a tuple"),
    (
        lambda: st.max_pool(X, (2, 2.5)),
        st.DTypeError,
        r"window must be (an integer|integers), got 2\.5",
    ),
    (lambda: st.max_pool(X, True), st.DTypeError, r"window must be an integer|integers"),
    (lambda: st.max_pool(X, 2, stride=(1, 1, 1)), st.ShapeError, "stride has 3 values for 2"),
    (lambda: st.max_pool(X, (2, 2, 2, 2)), st.ShapeError, "for 4 spatial axes, so x must have 6"),
    (lambda: st.max_pool(X, (2,)), st.ShapeError, "for 1 spatial axes, so x must have 3"),
    (lambda: st.max_pool(X, ()), st.ShapeError, "x must have 3 axes or more"),
    (lambda: st.max_pool(X[0, 0], 2), st.ShapeError, r"must have 3 axes.*got x f32\[6,6\]"),
    (lambda: st.max_pool(X, 7), st.ShapeError, "axis 0 of size 6: a window of 7.*more than the"),
    (lambda: st.max_pool(X, (6, 2), dilation=(2, 1)), st.ShapeError, "dilation 2 spans 11, more"),
    (lambda: st.max_pool(X, 3, padding=3), st.ShapeError, r"spans 3; padding \(3, 3\) must be"),
    (lambda: st.max_pool(X, 3, padding=[(0, 4), (0, 0)]), st.ShapeError, r"padding \(0, 4\)"),
    (lambda: st.max_pool(X, 3, padding=-3), st.ShapeError, "crops 3 \\+ 3 elements of the 6"),
    (lambda: st.max_pool(X, 3, padding=[(-9, 9), (0, 0)]), st.ShapeError, "nothing is left"),
    (lambda: st.max_pool(X, 3, padding="full"), st.ShapeError, "padding 'full' is not"),
    (
        lambda: st.max_pool(X[..., :1], (1, 3), stride=1, padding=(0, 4), dilation=(1, 3)),
        st.ShapeError,
        r"axis 1 of size 1: .* spans 7 with steps wider .*\(4, 4\) and stride 1, 2 of the 3 win",
    ),
    (lambda: st.max_pool(X[:, :, :0], 2), st.ShapeError, "axis 0 of x .*has size 0: nothing to"),
    (lambda: st.max_pool(X, 2, data_format="CHWN"), st.ShapeError, "data_format 'CHWN'"),
    (lambda: st.max_pool(X, 2**63), st.RangeError, "window 9223372036854775808 is beyond"),
    (lambda: st.max_pool(X, 2, dilation=2**62), st.ShapeError, "more than the padded input of 6"),
    (
        lambda: st.max_pool(X, 2**62, dilation=4, padding=2**62),
        st.RangeError,
        "max_pool: spatial axis 0 of size 6: a window of .* is beyond the limit",
    ),
    (lambda: st.avg_pool(X, 0), st.ShapeError, "avg_pool: window must be >= 1"),
    (lambda: st.avg_pool(X, 2, divisor_override=0), st.ShapeError, "override must not be 0"),
    (lambda: st.avg_pool(X, 2, divisor_override=2.5), st.DTypeError, "must be an integer, got 2.5"),
    (lambda: st.avg_pool(X.astype(int), 2), st.DTypeError, r"must be floating, got i64\[1,2,6,6\]"),
    (lambda: st.avg_pool(X, 3, padding=3), st.ShapeError, "avg_pool: spatial axis 0 of size 6"),
    (lambda: st.lp_pool(X, 0, 2), st.ShapeError, "lp_pool: norm must be > 0, got 0"),
    (lambda: st.lp_pool(X, nan, 2), st.ShapeError, "norm must be > 0, got nan"),
    (lambda: st.lp_pool(X, -inf, 2), st.ShapeError, "norm must be > 0, got -inf"),
    (lambda: st.lp_pool(X, "2", 2), st.DTypeError, "norm must be a number, got '2'"),
    (lambda: st.lp_pool(X > 0, 2, 2), st.DTypeError, "lp_pool: x must be floating, got bool"),
    (lambda: st.adaptive_avg_pool(X, -1), st.ShapeError, "adaptive_avg_pool: size must be >= 0"),
    (lambda: st.adaptive_avg_pool(X, 1.5), st.DTypeError, "size must be an integer or a tuple"),
    (lambda: st.adaptive_avg_pool(X > 0, 1), st.DTypeError, "x must be floating"),
    (lambda: st.adaptive_avg_pool(X, (1, 2, 3, 4)), st.ShapeError, "for 4 spatial axes"),
    (lambda: st.adaptive_avg_pool(X, 2**45), st.RangeError, "35184372088832 outputs of an axis of"),
    (lambda: st.adaptive_max_pool(X, (2**45, 1)), st.RangeError, "adaptive_max_pool: 351843720"),
    (lambda: st.adaptive_max_pool(X, 2**63), st.RangeError, "is beyond the limit"),
    (lambda: st.adaptive_max_pool(X[:, :, :0], 2), st.ShapeError, "axis 0 of x .*has size 0"),
    (
        lambda: st.adaptive_max_pool(X, (2, "3")),
        st.DTypeError,
        r"size must be (an integer|integers), got '3'",
    ),
    (
        lambda: st.global_avg_pool(X[0, 0]),
        st.ShapeError,
        r"x must have 3 axes or more, \[N, C, \*I",
    ),
    (lambda: st.global_avg_pool(X[:, :, :0]), st.ShapeError, "axis 0 of x .* has size 0"),
    (lambda: st.global_avg_pool(X > 0), st.DTypeError, "global_avg_pool: x must be floating"),
    (lambda: st.global_max_pool(X[..., :0]), st.ShapeError, "global_max_pool: spatial axis 1"),
    (lambda: st.global_max_pool(X, data_format="NCL"), st.ShapeError, "data_format 'NCL'"),
    (
        lambda: st.max_unpool(X, np.zeros((1, 2, 6, 5), int), 2),
        st.ShapeError,
        r"x and indices must have one shape, got f32\[1,2,6,6\] and i64\[1,2,6,5\]",
    ),
    (lambda: st.max_unpool(X, X, 2), st.DTypeError, "max_unpool: indices must be integers, got f3"),
    (lambda: st.max_unpool(X, X.astype(int), 0), st.ShapeError, "window must be >= 1, got 0"),
    (lambda: st.max_unpool(X, X.astype(int), 2, 0), st.ShapeError, "stride must be >= 1, got 0"),
    (
        lambda: st.max_unpool(X, X.astype(int), 2, output_size=(14, 12)),
        st.ShapeError,
        r"output_size 14 of spatial axis 0 must lie between 10 and 14 \(both excluded\)",
    ),
    (
        lambda: st.max_unpool(X, X.astype(int), 2, output_size=(1, 12, 12)),
        st.ShapeError,
        r"output_size \(1, 12, 12\) must have 2 values, or 4 for x",
    ),
    (
        lambda: st.max_unpool(X, X.astype(int), 2, output_size=12.5),
        st.DTypeError,
        "output_size must be an integer or a tuple of integers, got 12.5",
    ),
    (lambda: st.max_unpool(X, X.astype(int), 2, 1, 5), st.ShapeError, "which is negative"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_calls_say_why(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_huge_numbers_neither_hang_nor_wrap() -> None:
    begin = time.perf_counter()
    x = np.arange(5.0).reshape(1, 1, 5)
    half = 2**39
    huge: dict[str, Any] = {"stride": 1, "padding": half}
    values, indices = st.max_pool(x, 2**40 + 1, return_indices=True, **huge)
    assert values.tolist() == [[[4.0] * 5]] and indices.tolist() == [[[4] * 5]]
    total = st.avg_pool(x, 2**40 + 1, divisor_override=1, **huge)
    assert total.tolist() == [[[10.0] * 5]]
    slope = st.grad(lambda x: st.avg_pool(x, 2**40 + 1, divisor_override=1, **huge).sum())(x)
    assert slope.tolist() == [[[5.0] * 5]]
    assert st.max_pool(x, 2, stride=2**62).tolist() == [[[1.0]]]
    assert st.max_pool(x, 2, stride=2**62, ceil_mode=True).tolist() == [[[1.0]]]
    with pytest.raises(st.ShapeError, match=r"of the \d+ windows hold only padding"):
        st.max_pool(x, 2**20, stride=1, dilation=2**20, padding=2**39)
    for pool in (st.max_pool, st.avg_pool):
        y = pool(np.ones((1, 1, 5)), 2**40, stride=1, padding=2**40 - 1)
        assert y.shape == (1, 1, 2**40 + 4)
        with pytest.raises(MemoryError, match="bytes"):
            y.numpy()
    with pytest.raises(st.RangeError, match=r"the \d+ windows of spatial axis 0 differ"):
        st.avg_pool(x, 2**44, stride=1, padding=2**44 - 1, count_include_pad=False)
    assert time.perf_counter() - begin < 5
