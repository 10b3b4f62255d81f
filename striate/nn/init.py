"""Initialisers of weights, with PyTorch's names and distributions; each fills its array in place.

Numbers come from NumPy's Philox, keyed by a `seed` or by the default generator of `st.random`:
after `st.random.seed(n)` the same network is built again, bit by bit.

Fans of a weight [K, C, *W]: fan_in = C * prod(W), fan_out = K * prod(W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from striate.core.array import Array
from striate.core.random import default_generator
from striate.dtype import float32
from striate.errors import ShapeError
from striate.ir.graph import constant
from striate.memory import aligned_empty, located

A = TypeVar("A", bound=Array)
Fan = Literal["fan_in", "fan_out"]
Draw = Callable[[np.random.Generator], NDArray[np.floating]]

BLOCK = 1 << 14  # numbers that are drawn at a time

_skipping: ContextVar[bool] = ContextVar("striate_skip_init", default=False)


@contextmanager
def skip() -> Iterator[None]:
    """Within it nothing is drawn, and weights are what they were: zero in a new layer.

    For networks whose weights are loaded, or drawn by other rules, right after.

    >>> with st.nn.init.skip():
    ...     net = st.nn.Linear(2, 1)
    >>> net.weight
    Array([[0., 0.]], dtype=float32)
    """
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


def numpy_generator(seed: int | None = None) -> np.random.Generator:
    """NumPy's Philox, keyed by `seed`, or by the next draw of `st.random.default_generator`.

    Raises:
        TraceError: without a seed in a function that `st.jit` traces.
    """
    if seed is not None:
        return np.random.Generator(np.random.Philox(seed))
    source, step, _ = Array(default_generator.key()).numpy()
    return np.random.Generator(np.random.Philox(key=np.array([source, step]).view(np.uint64)))


def _fill(x: A, value: NDArray[np.floating]) -> A:
    """`value` is an array that nobody else has."""
    x.assign(Array(constant(located(value.astype(x.dtype.numpy, copy=False))[0])))
    return x


def _draw(x: A, seed: int | None, draw: Draw) -> A:
    return x if _skipping.get() else _fill(x, draw(numpy_generator(seed)))


def _normal(rng: np.random.Generator, x: Array, mean: float, std: float) -> NDArray[np.floating]:
    value = aligned_empty(x.shape, np.dtype(np.float32 if x.dtype is float32 else np.float64))
    rng.standard_normal(dtype=value.dtype, out=value)
    value *= std
    value += mean
    return value


def _uniform(rng: np.random.Generator, x: Array, a: float, b: float) -> NDArray[np.floating]:
    """Drawn in float64, in blocks that stay in the cache, and rounded once."""
    value = aligned_empty(x.shape, np.dtype(np.float32 if x.dtype is float32 else np.float64))
    flat, block = value.reshape(-1), np.empty(min(BLOCK, value.size))
    for start in range(0, value.size, BLOCK):
        to = flat[start : start + BLOCK]
        u = rng.random(out=block[: to.size])
        u *= b - a
        np.add(u, a, out=to, casting="same_kind")
    return value


# ---- numbers and distributions -------------------------------------------------------------


def constant_(x: A, value: float) -> A:
    """Every element is `value`.

    >>> st.nn.init.constant_(st.nn.Parameter(st.zeros(2)), 3.0)
    Array([3., 3.], dtype=float32)
    """
    return _fill(x, np.full(x.shape, value))


def zeros_(x: A) -> A:
    """Every element is 0."""
    return constant_(x, 0.0)


def ones_(x: A) -> A:
    """Every element is 1."""
    return constant_(x, 1.0)


def uniform_(x: A, a: float = 0.0, b: float = 1.0, *, seed: int | None = None) -> A:
    """Uniform in [a, b)."""
    return _draw(x, seed, lambda rng: _uniform(rng, x, a, b))


def normal_(x: A, mean: float = 0.0, std: float = 1.0, *, seed: int | None = None) -> A:
    """Normal with this mean and standard deviation."""
    return _draw(x, seed, lambda rng: _normal(rng, x, mean, std))


def trunc_normal_(
    x: A,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    *,
    seed: int | None = None,
) -> A:
    """Normal, drawn again where it falls outside [a, b].

    Raises:
        ShapeError: [a, b] lies more than five standard deviations from the mean.
    """
    if a >= b or a > mean + 5 * std or b < mean - 5 * std:
        raise ShapeError(
            f"trunc_normal_: [{a}, {b}] holds next to nothing of the normal distribution with mean "
            f"{mean} and std {std}"
        )

    def draw(rng: np.random.Generator) -> NDArray[np.floating]:
        value = _normal(rng, x, mean, std)
        while (outside := (value < a) | (value > b)).any():
            value[outside] = mean + std * rng.standard_normal(int(outside.sum()))
        return value

    return _draw(x, seed, draw)


# ---- variance that layers preserve ---------------------------------------------------------


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The standard deviation by which a layer before this nonlinearity is scaled.

    Raises:
        ShapeError: unknown nonlinearity.

    >>> st.nn.init.calculate_gain("relu") ** 2
    2.0000000000000004
    """
    slope = 0.01 if param is None else param
    gains = {
        "tanh": 5.0 / 3,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1 + slope**2)),
        "selu": 3.0 / 4,
    }
    linear = ("linear", "sigmoid", *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)))
    gains.update(dict.fromkeys(linear, 1.0))
    if nonlinearity not in gains:
        raise ShapeError(f"calculate_gain: {nonlinearity!r} is not one of {', '.join(gains)}")
    return gains[nonlinearity]


def fans(x: Array) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight [K, C, *W].

    Raises:
        ShapeError: it has fewer than two axes.
    """
    if x.ndim < 2:
        raise ShapeError(f"init: fan in and fan out need two axes or more, got {x.type}")
    taps = math.prod(x.shape[2:])
    return x.shape[1] * taps, x.shape[0] * taps


def xavier_uniform_(x: A, gain: float = 1.0, *, seed: int | None = None) -> A:
    """Uniform with variance gain^2 * 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / max(1, sum(fans(x))))
    return uniform_(x, -bound, bound, seed=seed)


def xavier_normal_(x: A, gain: float = 1.0, *, seed: int | None = None) -> A:
    """Normal with variance gain^2 * 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return normal_(x, 0.0, gain * math.sqrt(2.0 / max(1, sum(fans(x)))), seed=seed)


def _kaiming_std(x: Array, a: float, mode: str, nonlinearity: str) -> float:
    modes = ("fan_in", "fan_out")
    if mode not in modes:
        raise ShapeError(f"kaiming: mode {mode!r} is not 'fan_in' or 'fan_out'")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fans(x)[modes.index(mode)]))


def kaiming_uniform_(
    x: A,
    a: float = 0.0,
    mode: Fan = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    seed: int | None = None,
) -> A:
    """Uniform with variance gain^2 / fan (He et al. 2015); `a` is leaky_relu's slope."""
    bound = math.sqrt(3.0) * _kaiming_std(x, a, mode, nonlinearity)
    return uniform_(x, -bound, bound, seed=seed)


def kaiming_normal_(
    x: A,
    a: float = 0.0,
    mode: Fan = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    seed: int | None = None,
) -> A:
    """Normal with variance gain^2 / fan (He et al. 2015); `a` is leaky_relu's slope."""
    return normal_(x, 0.0, _kaiming_std(x, a, mode, nonlinearity), seed=seed)


def orthogonal_(x: A, gain: float = 1.0, *, seed: int | None = None) -> A:
    """Orthonormal rows (or columns) of the weight taken as a matrix [K, C * prod(W)] (Saxe 2013).

    Raises:
        ShapeError: it has fewer than two axes.
    """
    fans(x)
    rows, columns = x.shape[0], math.prod(x.shape[1:])

    def draw(rng: np.random.Generator) -> NDArray[np.floating]:
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))  # the distribution is uniform only with this choice of signs
        return gain * (q if rows >= columns else q.T).reshape(x.shape)

    return _draw(x, seed, draw)


def dirac_(x: A, groups: int = 1) -> A:
    """The identity as a convolution, in each group, for as many channels as there are.

    Raises:
        ShapeError: it is not a filter [K, C, *W], or K does not divide into the groups.
    """
    if x.ndim < 3 or x.shape[0] % groups:
        raise ShapeError(
            f"dirac_: wants a filter [K, C, *W] with K in {groups} groups, got {x.type}"
        )
    value = np.zeros(x.shape)
    per_group = x.shape[0] // groups
    centre = tuple(n // 2 for n in x.shape[2:])
    for g in range(groups):
        for c in range(min(per_group, x.shape[1])):
            value[(g * per_group + c, c, *centre)] = 1.0
    return _fill(x, value)


def fan_in_uniform_(x: A, fan_in: int, *, seed: int | None = None) -> A:
    """Uniform in +-1 / sqrt(fan_in): how PyTorch's layers start (`kaiming_uniform_(sqrt(5))`)."""
    bound = 1.0 / math.sqrt(fan_in) if fan_in else 0.0
    return uniform_(x, -bound, bound, seed=seed)
