"""Random numbers, dropout and drop-path: `st.random`.

A `Generator` is two numbers, `seed` and `step`; every draw is a pure function of (seed, step, draw
number). A draw outside of `st.jit` takes one step. A jitted function takes one step per call, with
its draws numbered as they were traced. So each call sees new numbers, and whoever restores (seed,
step) sees the same ones again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from striate.core.array import Array, Trace, asarray, current_trace
from striate.dtype import as_dtype, bfloat16, bool_, compute_dtype, float32, int64
from striate.errors import DTypeError, RangeError, ShapeError
from striate.ir.graph import Node, constant
from striate.ir.types import normalize_axes
from striate.ops.elementwise import add, cast, divide, less, less_equal, multiply
from striate.ops.functions import cos, floor, log, sqrt
from striate.ops.movement import broadcast_to, zeros
from striate.ops.operand import Operand, as_node
from striate.ops.random import random_uniform
from striate.ops.rearrange import stack

Shape = int | Sequence[int]


class Generator:
    """A source of random numbers.

    Attributes:
        seed: i64 scalar; which stream.
        step: i64 scalar; how far it is used up. Save and restore both to continue a run.

    >>> a, b = st.random.Generator(1), st.random.Generator(1)
    >>> bool(st.all(st.random.uniform(3, generator=a) == st.random.uniform(3, generator=b)))
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = asarray(_seed(seed), int64)
        self.step = asarray(0, int64)
        self._traced: WeakKeyDictionary[Trace, list[Node]] = WeakKeyDictionary()  # their keys

    def reset(self, seed: int) -> None:
        """Start the stream of another seed."""
        self.seed.assign(_seed(seed))
        self.step.assign(0)

    def key(self) -> Node:
        """The key of one more draw, i64[3]: (seed, step, draw number)."""
        trace = current_trace()
        if trace is None:
            step = self.step.item()
            self.step.assign(step + 1)
            return constant(np.array([self.seed.item(), step, 0], np.int64))
        if trace not in self._traced:
            self._traced[trace] = [self.step.node]
            self.step.assign(add(self.step, 1))
        used = self._traced[trace]
        used.append(stack([self.seed, used[0], len(used) - 1]))
        return used[-1]


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise DTypeError(f"seed: wants an integer, got {seed!r}")
    if not -(2**63) <= seed < 2**63:
        raise RangeError(f"seed: {seed} is beyond 64-bit signed integers")
    return int(seed)


default_generator = Generator(0)


def seed(n: int) -> None:
    """Restart the default generator.

    >>> st.random.seed(7)
    """
    default_generator.reset(n)


# ---- distributions -------------------------------------------------------------------------


def _draw(op: str, shape: Shape, dtype: object, generator: Generator | None) -> Node:
    """Uniform numbers in [0, 1) of a floating dtype; for bfloat16 float32 that it holds exactly."""
    to = as_dtype(dtype)
    if not to.is_floating:
        raise DTypeError(f"{op}: dtype must be floating, got {to.name}")
    sizes = [shape] if isinstance(shape, int | np.integer) else shape
    key = (default_generator if generator is None else generator).key()
    u = random_uniform(key, [int(n) for n in sizes], compute_dtype(to))
    return divide(floor(multiply(u, 256)), 256) if to is bfloat16 else u


def uniform(
    shape: Shape,
    low: float = 0.0,
    high: float = 1.0,
    *,
    dtype: object = float32,
    generator: Generator | None = None,
) -> Array:
    """Numbers spread evenly over [low, high).

    Args:
        shape: of the result.
        low, high: the ends; without them the numbers are below 1, else rounding may reach `high`.
        dtype: float32 (24 random bits), float64 (53) or bfloat16 (8).
        generator: the source; the default generator if None.

    Raises:
        DTypeError: the dtype is not floating.
        ShapeError: a size is negative.

    Method: Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).

    >>> st.random.uniform((2, 3)).shape
    (2, 3)
    """
    u = _draw("uniform", shape, dtype, generator)
    if (low, high) != (0.0, 1.0):
        u = add(multiply(u, float(high) - float(low)), float(low))
    return Array(cast(u, dtype))


def normal(
    shape: Shape,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    dtype: object = float32,
    generator: Generator | None = None,
) -> Array:
    """Numbers from the normal distribution.

    Args:
        shape: of the result.
        mean, std: of the distribution.
        dtype: float32, float64 or bfloat16.
        generator: the source; the default generator if None.

    Raises:
        DTypeError: the dtype is not floating.
        ShapeError: a size is negative.

    Method: Box & Muller, "A note on the generation of random normal deviates" (1958).

    >>> st.random.normal(1000).shape
    (1000,)
    """
    to = as_dtype(dtype)
    wide = compute_dtype(to)
    u, v = (_draw("normal", shape, wide, generator) for _ in range(2))
    radius = sqrt(multiply(-2.0, log(add(1.0, multiply(u, -1.0)))))  # 1 - u is never 0
    z = multiply(radius, cos(multiply(2 * math.pi, v)))
    if (mean, std) != (0.0, 1.0):
        z = add(multiply(z, float(std)), float(mean))
    return Array(cast(z, to))


def bernoulli(
    shape: Shape,
    p: Operand = 0.5,
    *,
    dtype: object = bool_,
    generator: Generator | None = None,
) -> Array:
    """True (or 1) with probability p, else False (or 0).

    Args:
        shape: of the result.
        p: the probability; a number, or an array that broadcasts to `shape`.
        dtype: of the result.
        generator: the source; the default generator if None.

    Raises:
        ShapeError: p does not broadcast to `shape`.

    >>> st.random.bernoulli(4, 1.0).numpy()
    array([ True,  True,  True,  True])
    """
    u = _draw("bernoulli", shape, float32, generator)
    return Array(cast(less(u, broadcast_to(as_node(p, float32), u.shape)), dtype))


# ---- regularisation ------------------------------------------------------------------------


def _probability(op: str, p: float) -> float:
    if isinstance(p, bool) or not isinstance(p, int | float | np.number):
        raise DTypeError(f"{op}: p must be a number, got {type(p).__name__}")
    if not 0 <= p <= 1:
        raise ShapeError(f"{op}: p is a probability, so it must be in [0, 1], got {p}")
    return float(p)


def dropout(
    x: Operand,
    p: float = 0.5,
    *,
    generator: Generator | None = None,
    axes: int | Sequence[int] | None = None,
) -> Array:
    """Elements set to 0 with probability p, and the others divided by 1 - p.

    Args:
        x: any shape.
        p: how likely an element is dropped; 0 returns x and draws no number.
        generator: the source; the default generator if None.
        axes: along these, all elements share their fate: `(2, 3)` drops whole channels of
            [N, C, H, W].

    Raises:
        ShapeError: p is outside [0, 1], or an axis is out of range.

    Method: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting"
    (2014); for whole channels, Tompson et al., "Efficient object localization using convolutional
    networks" (2015).

    >>> st.dropout(np.ones(8, np.float32), 0.5).shape
    (8,)
    """
    return Array(_drop("dropout", x, p, generator, axes))


def drop_path(x: Operand, p: float = 0.5, *, generator: Generator | None = None) -> Array:
    """Whole samples set to 0 with probability p, and the others divided by 1 - p.

    Args:
        x: [N, *S], a branch of a residual network.
        p: how likely a sample is dropped.
        generator: the source; the default generator if None.

    Raises:
        ShapeError: p is outside [0, 1], or x has no axes.

    Method: Huang et al., "Deep networks with stochastic depth" (2016).

    >>> st.drop_path(np.ones((4, 3), np.float32), 0.0).shape
    (4, 3)
    """
    x = as_node(x)
    if not x.ndim:
        raise ShapeError(f"drop_path: wants [N, *S], got {x.type}")
    return Array(_drop("drop_path", x, p, generator, range(1, x.ndim)))


def _drop(
    op: str,
    x: Operand,
    p: float,
    generator: Generator | None,
    axes: int | Sequence[int] | None,
) -> Node:
    x, p = as_node(x), _probability(op, p)
    dtype = x.type.dtype if x.type.dtype.is_floating else float32
    shared = () if axes is None else axes if isinstance(axes, int) else tuple(axes)
    shared = normalize_axes(op, shared, x.ndim)
    if p == 0:
        return cast(x, dtype)
    if p == 1:
        return zeros(x.type.with_dtype(dtype))
    shape = [1 if a in shared else n for a, n in enumerate(x.shape)]
    keep = less_equal(p, _draw(op, shape, float32, generator))
    scale = multiply(cast(keep, compute_dtype(dtype)), 1 / (1 - p))
    return cast(multiply(cast(x, compute_dtype(dtype)), scale), dtype)
