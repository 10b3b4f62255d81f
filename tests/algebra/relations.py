"""Random windows and specs, and the definition of a convolution, written as the definition:

R[o, k, i] = 1 where lhs_dilation * i == stride * o + rhs_dilation * k - pad_lo, else 0
y[n, g, k, *o] = sum over c, *w, *i of x[n, g, c, *i] w[g, k, c, *w] prod R[o, w, i]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as s

import striate as st

Values = np.ndarray[Any, np.dtype[Any]]


def signed(largest: int) -> s.SearchStrategy[int]:
    """Integers in [-largest, largest] without 0."""
    return s.integers(1, largest).flatmap(lambda n: s.sampled_from([n, -n]))


@s.composite
def windows(draw: s.DrawFn, least: int = 0, size: int = 6, taps: int = 4) -> st.Window:
    """Any relation: all signs, dilation on either side, cropped or padded."""
    return st.Window(
        in_size=draw(s.integers(least, size)),
        out_size=draw(s.integers(least, size)),
        kernel_size=draw(s.integers(least, taps)),
        stride=draw(signed(4)),
        lhs_dilation=draw(signed(4)),
        rhs_dilation=draw(signed(4)),
        pad_lo=draw(s.integers(-8, 8)),
    )


def dense_windows(size: int = 6, taps: int = 4) -> s.SearchStrategy[st.Window]:
    """Relations with lhs_dilation 1 and no empty axis: what the schedules work on."""
    return windows(1, size, taps).map(
        lambda t: st.Window(
            t.in_size, t.out_size, t.kernel_size, t.stride, 1, t.rhs_dilation, t.pad_lo
        )
    )


@s.composite
def specs(
    draw: s.DrawFn,
    max_axes: int = 4,
    least: int = 0,
    window: s.SearchStrategy[st.Window] | None = None,
) -> st.ConvSpec:
    """0 to 4 axes, smaller with more of them, so that the definition stays cheap."""
    axes = draw(s.integers(0, max_axes))
    size, taps = [(1, 1), (7, 4), (5, 3), (3, 3), (3, 2)][axes]
    feature = s.integers(least, 3)
    return st.ConvSpec(
        draw(feature),
        draw(feature),
        draw(feature),
        draw(feature),
        tuple(draw(windows(least, size, taps) if window is None else window) for _ in range(axes)),
    )


def small_integers(seed: int, *shapes: tuple[int, ...]) -> list[Values]:
    """int64 arrays whose products sum exactly in every dtype that convolves."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-9, 10, shape) for shape in shapes]


def normals(seed: int, *shapes: tuple[int, ...]) -> list[Values]:
    """float64 arrays."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def solutions(t: st.Window) -> set[tuple[int, int, int]]:
    """All (o, k, i) in range that satisfy the relation, by trying each."""
    return {
        (o, k, i)
        for o in range(t.out_size)
        for k in range(t.kernel_size)
        for i in range(t.in_size)
        if t.lhs_dilation * i == t.stride * o + t.rhs_dilation * k - t.pad_lo
    }


def relation(t: st.Window) -> Values:
    """R: i64[out_size, kernel_size, in_size]."""
    r = np.zeros((t.out_size, t.kernel_size, t.in_size), np.int64)
    for at in solutions(t):
        r[at] = 1
    return r


def definition(x: Values, w: Values, spec: st.ConvSpec) -> Values:
    """The convolution of x[N, G, C, *I] and w[G, K, C, *W], axis by axis."""
    rank = len(spec.windows)
    for t in spec.windows:  # [n, g, c, i, ...] -> [n, g, c, ..., o, w]
        x = np.tensordot(x, relation(t).astype(x.dtype), axes=([3], [2]))
    n, g, c = 0, 1, 2
    outs = [3 + 2 * a for a in range(rank)]
    taps = [4 + 2 * a for a in range(rank)]
    k = 3 + 2 * rank
    lhs_axes = [n, g, c, *(a for pair in zip(outs, taps, strict=True) for a in pair)]
    return np.einsum(x, lhs_axes, w, [g, k, c, *taps], [n, g, k, *outs])


def tolerance(x: Values, w: Values, spec: st.ConvSpec) -> float:
    """The largest error of a sum of products in any order, twice over: (n + 1) eps |x| |w|."""
    terms = spec.in_features * int(np.prod([t.kernel_size for t in spec.windows]))
    largest = np.abs(x).max(initial=0) * np.abs(w).max(initial=0)
    return float(2 * np.finfo(x.dtype).eps * (terms + 1) * largest * max(terms, 1))
