"""Pools that are told the size of their output, and pools of everything.

Output o of O on an axis of n covers the elements floor(o*n/O) <= i < ceil((o+1)*n/O): every
element at least once, neighbours overlap by one at most where O does not divide n. Where it does,
the windows are equal and these are the plain pools. Else the windows of an axis become a new axis
by `take` with a constant table [O, K], K the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from striate.dtype import compute_dtype, int64
from striate.errors import RangeError
from striate.ir.graph import Node
from striate.ops.avg_pool import avg_pool, floating_only
from striate.ops.convolution import per_axis
from striate.ops.elementwise import cast, divide
from striate.ops.index import take
from striate.ops.movement import pad, reshape, sum_axes, transpose, zeros
from striate.ops.operand import Operand
from striate.ops.pool import max_with_indices, reindex, spatial_take
from striate.ops.pool_window import Layout, channels_in_front, pooling
from striate.ops.reduce import argmax, max, mean
from striate.target import memory_bytes

Sizes = int | None | Sequence[int | None]


def _arguments(
    op: str, x: Operand, size: Sizes, data_format: str
) -> tuple[Node, tuple[int, ...], Layout]:
    """(x [N, C, *I], O per axis, how x was laid out).

    Raises:
        ShapeError: ranks or sizes do not fit.
        DTypeError: a size is not an integer.
        RangeError: a size beyond 2**63 - 1.
    """
    x, layout = channels_in_front(op, x, "size", size, data_format, or_none=True)
    wanted = list(size) if isinstance(size, Sequence) else [size] * (x.ndim - 2)
    known = [n if o is None else o for o, n in zip(wanted, x.shape[2:], strict=True)]
    return x, per_axis(op, "size", known, x.ndim - 2, 0), layout


def _bounds(op: str, n: int, out: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first, stop) of every window of an axis: i64[O] each.

    Raises:
        RangeError: tables of this size do not fit in memory, or in 64 bits.
    """
    longest = n // out + 2
    if out * longest * 8 > memory_bytes() or n * out > 2**62:
        raise RangeError(
            f"{op}: {out} outputs of an axis of {n} need a table of {out * longest * 8:,} bytes; "
            f"this machine has {memory_bytes():,}"
        )
    o = np.arange(out)
    return o * n // out, -(-(o + 1) * n // out)


def adaptive_avg_pool(x: Operand, size: Sizes, *, data_format: str = "NCHW") -> Node:
    """The means of as many windows as the output has elements.

    Args:
        x: [N, C, *I], floating; or [C, *I] without a batch, with a tuple as `size`.
        size: of the output, per spatial axis or one for all; None keeps the size of the input. It
            may be larger than the input, or 0.
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin.

    Returns:
        [N, C, *size]; output o of O is the mean of elements floor(o*I/O) to ceil((o+1)*I/O) - 1.

    Raises:
        ShapeError: ranks do not fit, a size is negative, or x has an empty spatial axis.
        DTypeError: x is not floating, or a size is not an integer.
        RangeError: sizes beyond 2**63 - 1 or beyond memory.

    Method: He et al., "Spatial pyramid pooling in deep convolutional networks" (2014).

    >>> st.adaptive_avg_pool(st.asarray([[[1.0, 2.0, 3.0, 4.0, 5.0]]]), 2).numpy()
    array([[[2., 4.]]], dtype=float32)
    """
    op = "adaptive_avg_pool"
    given = floating_only(op, x)
    x, outs, layout = _arguments(op, given, size, data_format)
    if 0 in outs:
        return layout.restore(zeros(x.type.with_shape((*x.shape[:2], *outs))))
    x = cast(x, compute_dtype(given.type.dtype))
    equal = [1 if n % o else n // o for n, o in zip(x.shape[2:], outs, strict=True)]
    x = avg_pool(x, equal) if prod(equal) > 1 else x
    for axis, out in enumerate(outs, start=2):
        if x.shape[axis] != out:
            x = _mean_of_windows(op, x, axis, out)
    return layout.restore(cast(x, given.type.dtype))


def _mean_of_windows(op: str, x: Node, axis: int, out: int) -> Node:
    """[.., n, ..] -> [.., O, ..]; short windows are filled with an appended zero."""
    n = x.shape[axis]
    first, stop = _bounds(op, n, out)
    length = stop - first
    table = first[:, None] + np.arange(length.max())  # [O, K]
    table[table >= stop[:, None]] = n
    if length.min() < length.max():
        x = pad(x, [(0, 1 if a == axis else 0) for a in range(x.ndim)])
    windows = take(x, table.ravel(), axis)
    split = (*x.shape[:axis], *table.shape, *x.shape[axis + 1 :])
    total = sum_axes(reshape(windows, split), (axis + 1,))
    count = length.reshape(-1, *(1,) * (x.ndim - axis - 1)).astype(x.type.dtype.numpy)
    return divide(total, count)


def adaptive_max_pool(
    x: Operand, size: Sizes, return_indices: bool = False, *, data_format: str = "NCHW"
) -> Node | tuple[Node, Node]:
    """The largest elements of as many windows as the output has elements.

    The first of equal elements is chosen, and the derivative goes there; NaN wins.

    Args:
        x: [N, C, *I], any dtype; or [C, *I] without a batch, with a tuple as `size`.
        size: of the output, per spatial axis or one for all; None keeps the size of the input. It
            may be larger than the input, or 0.
        return_indices: also give where each value stood.
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin.

    Returns:
        [N, C, *size]; with `return_indices` a pair of it and i64[N, C, *size], indices into the
        flattened spatial axes of `x`.

    Raises:
        ShapeError: ranks do not fit, a size is negative, or x has an empty spatial axis.
        DTypeError: a size is not an integer.
        RangeError: sizes beyond 2**63 - 1 or beyond memory.

    >>> st.adaptive_max_pool(st.asarray([[[1.0, 5.0, 2.0, 7.0, 3.0]]]), 2).numpy()
    array([[[5., 7.]]], dtype=float32)
    """
    op = "adaptive_max_pool"
    x, outs, layout = _arguments(op, x, size, data_format)
    sizes = x.shape[2:]
    if 0 in outs:
        empty = x.type.with_shape((*x.shape[:2], *outs))
        values, index = zeros(empty), zeros(empty.with_dtype(int64))
    elif all(n % o == 0 for n, o in zip(sizes, outs, strict=True)):
        window = [n // o for n, o in zip(sizes, outs, strict=True)]
        values, index = max_with_indices(pooling(op, x, window, None, 0, 1, False, "NC..."))
    else:
        index = _argmax_of_windows(op, x, outs)
        values = spatial_take(x, index)
    values, index = layout.restore(values), layout.restore(index)
    return (values, index) if return_indices else values


def _argmax_of_windows(op: str, x: Node, outs: tuple[int, ...]) -> Node:
    """[N, C, *I] -> i64[N, C, *O], flat indices into I; short windows repeat their last element,
    which is never the first of equals.
    """
    sizes, rank = x.shape[2:], len(outs)
    longest, starts = [], []
    for axis, (n, out) in enumerate(zip(sizes, outs, strict=True)):
        first, stop = _bounds(op, n, out)
        longest.append(int((stop - first).max()))
        starts.append(first.reshape(-1, *(1,) * (rank - 1 - axis)))
        table = np.minimum(first[:, None] + np.arange(longest[-1]), stop[:, None] - 1)
        x = take(x, table.ravel(), 2 + axis)
    n, c = x.shape[:2]
    pairs = [size for pair in zip(outs, longest, strict=True) for size in pair]
    split = reshape(x, (n, c, *pairs))  # [n, c, O, K, O, K, ..]
    order = (0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))
    windows = reshape(transpose(split, order), (n, c, *outs, prod(longest)))
    return reindex(argmax(windows, -1), longest, starts, sizes)


def global_avg_pool(x: Operand, *, data_format: str = "NCHW") -> Node:
    """The mean over all spatial axes, which stay with size 1.

    Args:
        x: [N, C, *I], floating.
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin.

    Returns:
        [N, C, 1, ..].

    Raises:
        ShapeError: x has fewer than three axes, or an empty spatial axis.
        DTypeError: x is not floating.

    Method: Lin, Chen & Yan, "Network in network" (2013).

    >>> st.global_avg_pool(st.ones((2, 3, 8, 8))).shape
    (2, 3, 1, 1)
    """
    op = "global_avg_pool"
    given = floating_only(op, x)
    x, layout = channels_in_front(op, given, "size", None, data_format, or_none=True)
    y = mean(cast(x, compute_dtype(x.type.dtype)), tuple(range(2, x.ndim)), keepdims=True)
    return layout.restore(cast(y, given.type.dtype))


def global_max_pool(x: Operand, *, data_format: str = "NCHW") -> Node:
    """The largest element over all spatial axes, which stay with size 1.

    The derivative goes to the first of equal elements; NaN wins.

    Args:
        x: [N, C, *I], any dtype.
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin.

    Returns:
        [N, C, 1, ..].

    Raises:
        ShapeError: x has fewer than three axes, or an empty spatial axis.

    >>> st.global_max_pool(st.ones((2, 3, 8, 8))).shape
    (2, 3, 1, 1)
    """
    x, layout = channels_in_front("global_max_pool", x, "size", None, data_format, or_none=True)
    return layout.restore(max(x, tuple(range(2, x.ndim)), keepdims=True))
