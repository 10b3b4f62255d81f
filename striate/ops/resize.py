"""Resizing of images, signals and volumes: PyTorch's `interpolate`, for any number of axes.

Resizing is linear and separable. Per axis it is a table of source indices and weights (taps),

    y[.., o, ..] = sum over t of w[t, o] * x[.., i[t, o], ..]

made here in float64 from the shapes alone and applied by `take`, whose adjoint is `put_add`. Of
two axes the one that shrinks more goes first. Output o is at the input coordinate

    s * o  with s = (I - 1) / (O - 1)   (align_corners)      s * (o + 1/2) - 1/2   (else)

where s is 1 / scale if a scale was given and I / O if a size was. An axis that keeps its size is
left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from striate.dtype import compute_dtype, float32, float64
from striate.errors import DTypeError, RangeError, ShapeError
from striate.ir.graph import Node
from striate.ops.adaptive import adaptive_avg_pool
from striate.ops.convolution import per_axis
from striate.ops.elementwise import add, cast, multiply
from striate.ops.index import take
from striate.ops.operand import Operand, as_node
from striate.ops.rearrange import repeat
from striate.target import memory_bytes

Mode = Literal["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"]
Taps = tuple[NDArray[np.int64], NDArray[np.float64]]  # indices and weights, [T, O] each

_RANKS = {"bilinear": 2, "trilinear": 3}
_SMOOTH = ("linear", "bilinear", "trilinear", "bicubic")
_MODES = ("nearest", "nearest-exact", "area", *_SMOOTH)


# ---- tables --------------------------------------------------------------------------------


def _step(n: int, out: int, scale: float | None, align_corners: bool) -> float:
    """s: how far apart two outputs are in the input."""
    if align_corners:
        return (n - 1) / (out - 1) if out > 1 else 0.0
    return n / out if scale is None else 1 / scale


def _nearest(n: int, out: int, step: float, exact: bool, single: bool) -> NDArray[np.int64]:
    """The source of every output, i64[O], in the precision in which PyTorch rounds.

    On a tie between two sources the last bit decides, so the coordinate is computed in float32
    for float32 values, and in float64, then rounded to float32, for float64 values.
    """
    real = np.dtype(np.float32 if single else np.float64)
    o = np.arange(out).astype(real) + real.type(0.5 if exact else 0.0)
    at = np.floor((o * real.type(step)).astype(np.float32))
    return np.minimum(at.astype(np.int64), n - 1, dtype=np.int64)


def _linear_kernel(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(1 - np.abs(t), 0))


def _cubic_kernel(t: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys' cubic convolution: ((a+2)|t| - (a+3)) t^2 + 1 to 1, a (((|t| - 5)|t| + 8)|t| - 4) to 2.

    Method: R. G. Keys, "Cubic convolution interpolation for digital image processing" (1981).
    """
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * t * a - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _interpolation(n: int, out: int, step: float, align_corners: bool, cubic: bool) -> Taps:
    """2 or 4 neighbours of each coordinate; those outside repeat the edge."""
    o = np.arange(out, dtype=np.float64)
    at = step * o if align_corners else step * (o + 0.5) - 0.5
    if not cubic:
        at = np.clip(at, 0, n - 1)
    base = np.floor(at).astype(np.int64)
    offsets = np.arange(-1, 3) if cubic else np.arange(2)
    index = base + offsets[:, None]  # [T, O]
    kernel = _cubic_kernel(at - index, -0.75) if cubic else _linear_kernel(at - index)
    return np.clip(index, 0, n - 1), kernel


def _antialiased(n: int, out: int, step: float, cubic: bool) -> Taps:
    """The kernel stretched by `step` where the axis shrinks, cut at the edges and normalised."""
    stretch = max(step, 1.0)
    radius = (2 if cubic else 1) * stretch
    center = step * (np.arange(out, dtype=np.float64) + 0.5)
    first = np.maximum((center - radius + 0.5).astype(np.int64), 0)
    stop = np.minimum((center + radius + 0.5).astype(np.int64), n)
    index = first + np.arange(max(int((stop - first).max()), 1))[:, None]  # [T, O]
    t = (index - center + 0.5) / stretch
    weights = np.where(index < stop, _cubic_kernel(t, -0.5) if cubic else _linear_kernel(t), 0.0)
    total = weights.sum(axis=0)
    return np.minimum(index, n - 1), weights / np.where(total == 0, 1, total)


# ---- their use -----------------------------------------------------------------------------


def _pick(x: Node, axis: int, index: NDArray[np.int64]) -> Node:
    """x[.., index, ..]; where every element is repeated alike it is a broadcast."""
    n, out = x.shape[axis], index.size
    if out % n == 0 and np.array_equal(index, np.repeat(np.arange(n), out // n)):
        return repeat(x, out // n, axis)
    return take(x, index, axis)


def _combine(x: Node, axis: int, taps: Taps) -> Node:
    """The weighted sum of taps along an axis: [.., n, ..] -> [.., O, ..]."""
    total: Node | None = None
    for index, weight in zip(*taps, strict=True):
        if not weight.any():
            continue
        w = weight.reshape(-1, *(1,) * (x.ndim - axis - 1)).astype(x.type.dtype.numpy)
        part = take(x, index, axis)
        part = part if (weight == 1).all() else multiply(part, w)
        total = part if total is None else add(total, part)
    assert total is not None  # the weights of an output add up to 1
    return total


def resize(
    x: Operand,
    size: int | Sequence[int] | None = None,
    *,
    scale: float | Sequence[float] | None = None,
    mode: Mode = "nearest",
    align_corners: bool = False,
    antialias: bool = False,
) -> Node:
    """Images in another size.

    Args:
        x: [N, C, *I]. Integers stay integers for the nearest modes and become float32 for others.
        size: of the output, per spatial axis or one for all.
        scale: instead of `size`: the output is floor(I * scale), and 1 / scale is the distance of
            its elements in the input.
        mode: `"nearest"` (floor, as PyTorch), `"nearest-exact"`, `"linear"` for any number of axes
            (`"bilinear"` and `"trilinear"` want 2 and 3), `"bicubic"` for any number of axes, or
            `"area"`: the means of `st.adaptive_avg_pool`.
        align_corners: the first and last elements keep their places, and `scale` gives only the
            size.
        antialias: where the image shrinks, linear and cubic kernels are as wide as an output
            element, as in Pillow.

    Returns:
        [N, C, *size].

    Raises:
        ShapeError: neither or both of size and scale, sizes or scales that are not positive or not
            one per axis, an unknown mode, one for another rank, or an option without meaning for
            the mode.
        DTypeError: a size or a scale is not a number.
        RangeError: the result is larger than the machine's memory.

    >>> x = np.float32([[[1, 2, 3]]])
    >>> st.resize(x, 6).numpy()
    array([[[1., 1., 2., 2., 3., 3.]]], dtype=float32)
    >>> st.resize(x, scale=2, mode="linear").numpy()
    array([[[1.  , 1.25, 1.75, 2.25, 2.75, 3.  ]]], dtype=float32)
    """
    x = as_node(x)
    rank = x.ndim - 2
    _check_mode(x, rank, mode, align_corners, antialias)
    sizes, scales = _target(x, rank, size, scale)
    if mode == "area":
        return adaptive_avg_pool(x if x.type.dtype.is_floating else cast(x, float32), sizes)
    given = x.type.dtype
    if mode in _SMOOTH:
        x = cast(x, compute_dtype(given) if given.is_floating else float32)
    single = x.type.dtype is not float64
    ratios = [out / n for out, n in zip(sizes, x.shape[2:], strict=True)]
    for a in sorted(range(rank), key=ratios.__getitem__):
        n, out = x.shape[2 + a], sizes[a]
        if n == out:
            continue
        step = _step(n, out, scales[a], align_corners)
        if mode not in _SMOOTH:
            x = _pick(x, 2 + a, _nearest(n, out, step, mode == "nearest-exact", single))
        elif antialias:
            x = _combine(x, 2 + a, _antialiased(n, out, step, mode == "bicubic"))
        else:
            taps = _interpolation(n, out, step, align_corners, mode == "bicubic")
            x = _combine(x, 2 + a, taps)
    return cast(x, given) if given.is_floating else x


# ---- arguments -----------------------------------------------------------------------------


def _check_mode(x: Node, rank: int, mode: str, align_corners: bool, antialias: bool) -> None:
    if rank < 1:
        raise ShapeError(f"resize: x must be [N, C, *I] with a spatial axis, got {x.type}")
    if mode not in _MODES:
        raise ShapeError(f"resize: mode {mode!r} is not one of {', '.join(_MODES)}")
    if _RANKS.get(mode, rank) != rank:
        raise ShapeError(
            f"resize: {mode} is for {_RANKS[mode]} spatial axes, x {x.type} has {rank}; 'linear' "
            "is for any number"
        )
    if align_corners and mode not in _SMOOTH:
        raise ShapeError(f"resize: align_corners has no meaning for mode {mode!r}")
    if antialias and mode not in _SMOOTH:
        raise ShapeError(f"resize: antialias has no meaning for mode {mode!r}")


def _target(
    x: Node, rank: int, size: int | Sequence[int] | None, scale: float | Sequence[float] | None
) -> tuple[tuple[int, ...], list[float | None]]:
    """(output size, given scale) per spatial axis."""
    if (size is None) == (scale is None):
        raise ShapeError(f"resize: wants one of size and scale, got size={size} and scale={scale}")
    scales: list[float | None] = [None] * rank
    if scale is not None:
        values = [scale] * rank if isinstance(scale, int | float | np.number) else list(scale)
        if len(values) != rank:
            raise ShapeError(f"resize: scale {scale!r} for the {rank} spatial axes of {x.type}")
        for v in values:
            if isinstance(v, bool) or not isinstance(v, int | float | np.number):
                raise DTypeError(f"resize: a scale must be a number, got {v!r}")
            if not 0 < v < math.inf:
                raise ShapeError(f"resize: a scale must be positive and finite, got {scale}")
        factors = [float(v) for v in values]
        scales = [*factors]
        size = [math.floor(min(n * v, 2.0**63)) for n, v in zip(x.shape[2:], factors, strict=True)]
    assert size is not None
    if isinstance(size, Sequence) and len(size) != rank:
        raise ShapeError(f"resize: size {size!r} for the {rank} spatial axes of {x.type}")
    sizes = per_axis("resize", "size", size, rank)
    if min(*sizes, *x.shape[2:]) < 1:
        raise ShapeError(f"resize: sizes must be >= 1, got {x.type} -> {sizes}")
    result = x.type.with_shape((*x.shape[:2], *sizes))
    if max(result.nbytes, 64 * max(sizes)) > memory_bytes():
        raise RangeError(
            f"resize: {x.type} -> {result} needs {result.nbytes:,} bytes; this machine has "
            f"{memory_bytes():,}"
        )
    return sizes, scales
