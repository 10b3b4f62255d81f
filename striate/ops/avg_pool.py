"""Pools that are linear inside: the mean and the p-norm of every window.

A windowed sum is the convolution primitive with a filter of ones, each channel of each image on
its own: x [N*C, 1, 1, *I] -> [N*C, 1, 1, *O]. avg_pool divides it by counts that are constants,
and lp_pool is a p-th root of a windowed sum of p-th powers. All derivatives follow.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from math import inf, isnan, prod

import numpy as np
from numpy.typing import NDArray

from striate.dtype import compute_dtype
from striate.errors import DTypeError, RangeError, ShapeError
from striate.ir.graph import Node, Value, constant
from striate.ops.conv import ConvSpec, conv
from striate.ops.convolution import Ints, PaddingLike
from striate.ops.elementwise import cast, divide, equal, multiply, where
from striate.ops.functions import abs, pow, sqrt, square
from striate.ops.movement import broadcast_to, reshape, sum_axes
from striate.ops.operand import Operand, as_node
from striate.ops.pool import max_with_indices
from striate.ops.pool_window import Pooling, ceil_div, pooling
from striate.ops.window import Window
from striate.target import memory_bytes


def floating_only(op: str, x: Operand) -> Node:
    """The node of x.

    Raises:
        DTypeError: x holds integers or bools.
    """
    x = as_node(x)
    if not x.type.dtype.is_floating:
        raise DTypeError(f"{op}: x must be floating, got {x.type}; cast it")
    return x


# ---- the windowed sum and its counts -------------------------------------------------------


def _sums(p: Pooling, x: Node) -> Node:
    """The sum of every window of x [N, C, *I] -> [N, C, *O], in at least float32.

    An axis with one window that holds all of it is summed; the windows of the others are convolved.
    """
    n, c = x.shape[:2]
    windows = tuple(_without_idle_taps(w) for w in p.windows)
    x = cast(x, compute_dtype(x.type.dtype))
    x = sum_axes(x, tuple(i for i, w in enumerate(windows, start=2) if w.is_whole))
    windows = tuple(w for w in windows if not w.is_whole)
    if not windows:
        return reshape(x, p.out_shape)
    spec = ConvSpec(n * c, 1, 1, 1, windows)
    ones = broadcast_to(constant(np.ones((), x.type.dtype.numpy)), spec.rhs_shape)
    return reshape(conv(reshape(x, spec.lhs_shape), ones, spec), p.out_shape)


def _without_idle_taps(w: Window) -> Window:
    """The same window without the leading and trailing taps that meet only padding."""
    first = max(0, ceil_div(w.pad_lo - w.stride * (w.out_size - 1), w.rhs_dilation))
    last = min(w.kernel_size - 1, (w.in_size - 1 + w.pad_lo) // w.rhs_dilation)
    return replace(w, kernel_size=last - first + 1, pad_lo=w.pad_lo - w.rhs_dilation * first)


def _counts(op: str, p: Pooling, include_pad: bool) -> float | Value:
    """How many elements every window holds, those of the padding included or not, but never any
    beyond it: one number where all are equal, else of the dtype of `_sums`, to broadcast to [*O].
    """
    parts = [
        _axis_counts(op, axis, w, pads, include_pad)
        for axis, (w, pads) in enumerate(zip(p.windows, p.pads, strict=True))
    ]
    if all(isinstance(part, int) for part in parts):
        return float(prod(parts))
    arrays = [np.atleast_1d(np.asarray(part, np.float64)) for part in parts]
    return reduce(np.multiply.outer, arrays).astype(compute_dtype(p.x.type.dtype).numpy)


def _axis_counts(
    op: str, axis: int, w: Window, pads: tuple[int, int], include_pad: bool
) -> int | NDArray[np.int64]:
    """One number where all windows of the axis have as many, else i64[O].

    Raises:
        RangeError: a table of this many numbers does not fit in memory.
    """
    lo, hi = pads
    first, last = w.reads()
    if -first <= (lo if include_pad else 0) and last < w.in_size + (hi if include_pad else 0):
        return w.kernel_size
    if w.out_size * 8 > memory_bytes():
        raise RangeError(
            f"{op}: the {w.out_size} windows of spatial axis {axis} differ in their counts; a "
            f"table of them needs {w.out_size * 8:,} bytes, this machine has {memory_bytes():,}"
        )
    start = w.stride * np.arange(w.out_size) - w.pad_lo

    def below(limit: int) -> NDArray[np.int64]:
        """How many taps of each window stand before position `limit`."""
        return np.clip((limit - 1 - start) // w.rhs_dilation + 1, 0, w.kernel_size)

    return below(w.in_size + hi) if include_pad else below(w.in_size) - below(0)


# ---- the pools -----------------------------------------------------------------------------


def avg_pool(
    x: Operand,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: PaddingLike = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    data_format: str = "NCHW",
) -> Node:
    """The mean of every window.

    Args:
        x: [N, C, *I], floating; or [C, *I] without a batch, with a tuple as `window`.
        window: size per spatial axis; an int is for all axes.
        stride: step between windows; the size of the window by default.
        padding: as for `st.max_pool`.
        dilation: step between the elements of a window.
        ceil_mode: a last window that runs over the end counts too, if it begins within the input
            or the padding before it.
        count_include_pad: divide by the elements of the input and of the padding in the window
            (never by those that `ceil_mode` adds beyond it), else by those of the input alone.
        divisor_override: divide by this number instead.
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin.

    Returns:
        [N, C, *O] with O = (I + lo + hi - extent) // stride + 1, extent = dilation * (window - 1)
        + 1.

    Raises:
        ShapeError: window parameters do not fit, a window would hold only padding, or the divisor
            is 0.
        DTypeError: x is not floating, or a parameter is not an integer.
        RangeError: sizes beyond 2**63 - 1.

    >>> x = st.asarray([[[1.0, 5.0, 2.0, 7.0]]])
    >>> st.avg_pool(x, 2).numpy()
    array([[[3. , 4.5]]], dtype=float32)
    """
    op = "avg_pool"
    x = floating_only(op, x)
    p = pooling(op, x, window, stride, padding, dilation, ceil_mode, data_format)
    counts = _counts(op, p, count_include_pad)
    if divisor_override is not None:
        if isinstance(divisor_override, bool) or not isinstance(divisor_override, int | np.integer):
            raise DTypeError(f"{op}: divisor_override must be an integer, got {divisor_override!r}")
        if divisor_override == 0:
            raise ShapeError(f"{op}: divisor_override must not be 0")
        counts = float(divisor_override)
    mean = divide(_sums(p, p.x), counts)
    return p.layout.restore(cast(mean, x.type.dtype))


def lp_pool(
    x: Operand,
    norm: float,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: PaddingLike = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    data_format: str = "NCHW",
) -> Node:
    """The p-norm of every window, (sum of x**p) ** (1/p), with p = norm.

    The powers keep their sign, as in PyTorch: for an odd or fractional p take `st.abs(x)` first
    for the norm proper (ONNX). With p = inf it is the largest absolute value. Where the sum is 0
    the derivative is 0.

    Args:
        x: [N, C, *I], floating; or [C, *I] without a batch, with a tuple as `window`.
        norm: p > 0.
        window: size per spatial axis; an int is for all axes.
        stride: step between windows; the size of the window by default.
        padding: as for `st.max_pool`, of zeros.
        dilation: step between the elements of a window.
        ceil_mode: a last window that runs over the end counts too. As in PyTorch its sum is scaled
            up to a whole window (elements of a window / elements of this one, padding included).
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin.

    Returns:
        [N, C, *O], as `st.avg_pool`.

    Raises:
        ShapeError: `norm` is not positive, window parameters do not fit, or a window would hold
            only padding.
        DTypeError: x is not floating, or a parameter is not an integer.
        RangeError: sizes beyond 2**63 - 1.

    Method: Sermanet, Chintala & LeCun, "Convolutional neural networks applied to house numbers
    digit classification" (2012).

    >>> st.lp_pool(st.asarray([[[3.0, 4.0, 0.0, 2.0]]]), 2, 2).numpy()
    array([[[5., 2.]]], dtype=float32)
    """
    op = "lp_pool"
    x = floating_only(op, x)
    if isinstance(norm, bool) or not isinstance(norm, int | float | np.integer | np.floating):
        raise DTypeError(f"{op}: norm must be a number, got {norm!r}")
    order = float(norm)
    if isnan(order) or order <= 0:
        raise ShapeError(f"{op}: norm must be > 0, got {norm}")
    p = pooling(op, x, window, stride, padding, dilation, ceil_mode, data_format)
    if order == inf:
        return max_with_indices(replace(p, x=abs(p.x)))[0]
    total = _sums(p, _power(cast(p.x, compute_dtype(x.type.dtype)), order))
    counts = _counts(op, p, True)
    whole = float(prod(w.kernel_size for w in p.windows))
    if not isinstance(counts, float):
        total = multiply(total, (whole / counts).astype(counts.dtype))
    zero = equal(total, 0)
    root = where(zero, 0.0, _power(where(zero, 1.0, total), 1 / order))
    return p.layout.restore(cast(root, x.type.dtype))


def _power(x: Node, p: float) -> Node:
    """x ** p, by the plain function where there is one."""
    return x if p == 1 else square(x) if p == 2 else sqrt(x) if p == 0.5 else pow(x, p)
