"""Max pooling: a choice and a copy.

`argmax_pool` gives the index of the first of the largest elements of every window and is locally
constant; the values are taken at these indices. So the derivative is select-type and closed under
differentiation:

    max_pool(x) = take(x, i),  i = argmax_pool(x)        adjoint: scatter_add(g, i)

`max_unpool` is that scattering, with a rule for an index that comes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np

from striate.dtype import bool_, int64
from striate.errors import DTypeError, ShapeError
from striate.ir.graph import Node, Op, Value, apply
from striate.ir.types import TensorType
from striate.ops.convolution import Ints, PaddingLike, pads_of, per_axis
from striate.ops.elementwise import BFLOAT16, add, floor_divide, multiply, remainder, where
from striate.ops.index import scatter_add, take_along_axis
from striate.ops.movement import RESHAPE, reshape
from striate.ops.operand import Operand, as_node
from striate.ops.pool_window import Pooling, channels_in_front, pooling, rank_of
from striate.ops.window import Window

CHUNK_BYTES = 1 << 20  # of input at a time: about what stays in L2

# ---- the primitive of max pooling ----------------------------------------------------------


def _argmax_infer(windows: tuple[Window, ...], x: TensorType) -> TensorType:
    if x.shape[2:] != tuple(w.in_size for w in windows):
        raise ShapeError(f"argmax_pool: the windows are for {[str(w) for w in windows]}, got {x}")
    return TensorType((*x.shape[:2], *(w.out_size for w in windows)), int64)


def _argmax_reference(windows: tuple[Window, ...], x: Value) -> Value:
    if x.dtype == BFLOAT16:
        x = x.astype(np.float32)
    index = np.empty((*x.shape[:2], *(w.out_size for w in windows)), np.int64)
    if not index.size:
        return index
    rows, found = x.reshape(-1, *x.shape[2:]), index.reshape(-1, *index.shape[2:])  # [N*C, ..]
    step = max(1, CHUNK_BYTES // rows[0].nbytes)
    for start in range(0, len(rows), step):
        found[start : start + step] = _argmax(rows[start : start + step], windows)
    return index


def _argmax(x: Value, windows: tuple[Window, ...]) -> Value:
    """x[m, *I] -> [m, *O], axis by axis from the last: the first largest of the first largest
    elements of the rows of a window is the first largest of the window in row-major order.
    """
    index = np.zeros((1,) * x.ndim, np.int64)
    for axis in range(len(windows), 0, -1):
        pitch = prod(w.in_size for w in windows[axis:])
        x, position = _first_largest(x, axis, windows[axis - 1])
        if axis < len(windows):
            index = np.take_along_axis(index, position, axis)
        index = index + position * pitch
    return index


def _first_largest(x: Value, axis: int, w: Window) -> tuple[Value, Value]:
    """x[.., n, ..] -> (values, positions on the axis) [.., O, ..]; the axis is reduced by taps or
    by outputs, whichever are fewer, and no padding is read.
    """
    find = _by_outputs if w.kernel_size > w.out_size else _by_taps
    return find(x, axis, w)


def _by_taps(x: Value, axis: int, w: Window) -> tuple[Value, Value]:
    """A running maximum, which begins at the first tap that meets an element, so that the position
    is valid whatever the values are, and moves on only to what is larger or the first NaN.
    """
    column = (-1, *(1,) * (x.ndim - 1 - axis))
    origin = w.stride * np.arange(w.out_size) - w.pad_lo  # where tap 0 falls
    ahead = np.maximum(0, -(origin // w.rhs_dilation))  # the first tap inside
    best = x.take(origin + w.rhs_dilation * ahead, axis)
    winner = np.empty(best.shape, np.min_scalar_type(w.kernel_size - 1))
    winner[...] = ahead.reshape(column)
    with_nan = x.dtype.kind == "f" and bool(np.isnan(x).any())
    lead = (slice(None),) * axis
    for tap in range(w.kernel_size):
        outs, ins = _meets(w, tap)
        part, now, number = x[(*lead, ins)], best[(*lead, outs)], winner[(*lead, outs)]
        wins = part > now
        if with_nan:
            wins |= np.isnan(part) & ~np.isnan(now)
        np.maximum(number, wins * winner.dtype.type(tap), out=number)  # taps come in order
        np.maximum(now, part, out=now)
    return best, origin.reshape(column) + w.rhs_dilation * winner.astype(np.int64)


def _meets(w: Window, tap: int) -> tuple[slice, slice]:
    """(outputs, inputs) that meet through one tap."""
    outs = w.outputs_of(tap)
    start = max(0, w.stride * outs.start + w.rhs_dilation * tap - w.pad_lo)
    return slice(outs.start, outs.stop), slice(start, start + w.stride * len(outs), w.stride)


def _by_outputs(x: Value, axis: int, w: Window) -> tuple[Value, Value]:
    """The argmax of each window."""
    position = np.empty((*x.shape[:axis], w.out_size, *x.shape[axis + 1 :]), np.int64)
    lead = (slice(None),) * axis
    for out in range(w.out_size):
        start = w.stride * out - w.pad_lo
        stop = min(w.in_size, start + w.rhs_dilation * (w.kernel_size - 1) + 1)
        start = start if start >= 0 else start % w.rhs_dilation
        best = x[(*lead, slice(start, stop, w.rhs_dilation))].argmax(axis, keepdims=True)
        position[(*lead, slice(out, out + 1))] = start + w.rhs_dilation * best
    return np.take_along_axis(x, position, axis), position


ARGMAX_POOL: Op = Op("argmax_pool", _argmax_infer, _argmax_reference)


def argmax_pool(x: Node, windows: tuple[Window, ...]) -> Node:
    """x[N, C, *I] -> i64[N, C, *O]: the flat spatial index of the first largest element of each
    window; of the first NaN if there is one, never of padding.
    """
    return apply(ARGMAX_POOL, (x,), windows)


# ---- max pooling and its partial inverse ---------------------------------------------------


def pool_of(index: Node) -> Node | None:
    """The `argmax_pool` that gives these indices, in its own shape or in another."""
    source = index.inputs[0] if index.op is RESHAPE else index
    return source if source.op is ARGMAX_POOL else None


def spatial_take(x: Node, index: Node) -> Node:
    """x[N, C, *I] at flat spatial indices [N, C, *O] -> [N, C, *O]."""
    flat = reshape(x, (*x.shape[:2], prod(x.shape[2:])))
    wanted = reshape(index, (*index.shape[:2], prod(index.shape[2:])))
    return reshape(take_along_axis(flat, wanted, 2), index.shape)


def reindex(
    index: Node, sizes: Sequence[int], offsets: Sequence[int | Value], outer: Sequence[int]
) -> Node:
    """Flat indices into a box of `sizes` that stands at `offsets` in a box of `outer` sizes, as
    flat indices into that; an offset may depend on the position in `index`.
    """
    parts = []
    for axis, (n, offset) in enumerate(zip(sizes, offsets, strict=True)):
        at = remainder(floor_divide(index, prod(sizes[axis + 1 :])), n)
        parts.append(multiply(add(at, offset), prod(outer[axis + 1 :])))
    return reduce(add, parts)


def max_with_indices(p: Pooling) -> tuple[Node, Node]:
    """(values, indices) of a normalised call, both [N, C, *O]; indices are into the caller's x."""
    index = argmax_pool(p.x, p.windows)
    values = spatial_take(p.x, index)
    if any(crop != (0, 0) for crop in p.crops):
        sizes = p.x.shape[2:]
        outer = [n + lo + hi for n, (lo, hi) in zip(sizes, p.crops, strict=True)]
        index = reindex(index, sizes, [lo for lo, _ in p.crops], outer)
    return p.layout.restore(values), p.layout.restore(index)


def max_pool(
    x: Operand,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: PaddingLike = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCHW",
) -> Node | tuple[Node, Node]:
    """The largest element of every window.

    The first of equal elements is chosen, and the derivative goes there. NaN wins (the first one).
    Padding is never chosen: a window of which every element is -inf gives -inf with a valid index.

    Args:
        x: [N, C, *I], any dtype; or [C, *I] without a batch, with a tuple as `window`.
        window: size per spatial axis; an int is for all axes.
        stride: step between windows; the size of the window by default.
        padding: as for `st.conv`: an int, one per axis, (lo, hi) per axis, `"valid"`, `"same"`,
            `"same_lower"` or `"causal"`. It must be less than the window's extent
            dilation * (window - 1) + 1, and every window must hold an element (PyTorch asks for
            half the extent). Negative padding crops.
        dilation: step between the elements of a window.
        ceil_mode: a last window that runs over the end counts too, if it begins within the input
            or the padding before it.
        return_indices: also give where each value stood.
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin.

    Returns:
        [N, C, *O] with O = (I + lo + hi - extent) // stride + 1; with `return_indices` a pair of
        it and i64[N, C, *O], indices into the flattened spatial axes of `x` (PyTorch's).

    Raises:
        ShapeError: window parameters do not fit, or a window would hold only padding.
        DTypeError: a window parameter is not an integer.
        RangeError: sizes beyond 2**63 - 1.

    >>> x = st.asarray([[[1.0, 5.0, 2.0, 7.0]]])
    >>> st.max_pool(x, 2, return_indices=True)
    (Array([[[5., 7.]]], dtype=float32), Array([[[1, 3]]], dtype=int64))
    """
    p = pooling("max_pool", x, window, stride, padding, dilation, ceil_mode, data_format)
    values, index = max_with_indices(p)
    return (values, index) if return_indices else values


def _writer_infer(size: int, index: TensorType) -> TensorType:
    if not index.dtype.is_integer:
        raise DTypeError(f"max_unpool: indices must be integers, got {index}")
    return index.with_dtype(bool_)


def _writer_reference(size: int, index: Value) -> Value:
    if index.size and (index.min() < 0 or index.max() >= size):
        raise writer_error(size, index.min() if index.min() < 0 else index.max())
    rows = prod(index.shape[:-1])
    flat = (index.reshape(rows, index.shape[-1]) + np.arange(rows)[:, None] * size).ravel()
    slot = np.arange(flat.size)
    owner = np.zeros(rows * size, np.int64)
    np.maximum.at(owner, flat, slot)
    return np.asarray(owner[flat] == slot).reshape(index.shape)


def writer_error(size: int, index: int) -> IndexError:
    """What is raised for an index outside of [0, size)."""
    return IndexError(f"max_unpool: index {index} is out of range for {size} output positions")


# index[*B, m] -> bool[*B, m]: no later slot of the row has the same index.
LAST_WRITER: Op = Op("last_writer", _writer_infer, _writer_reference)


def max_unpool(
    x: Operand,
    indices: Operand,
    window: Ints,
    stride: Ints | None = None,
    padding: PaddingLike = 0,
    output_size: Ints | None = None,
    data_format: str = "NCHW",
) -> Node:
    """Zeros with every value at its index: the partial inverse of `max_pool`.

    Where an index comes twice, the last value (in row-major order) stands, and only it has a
    derivative; overlapping windows that chose one element give equal values, so that there the
    choice does not matter.

    Args:
        x: [N, C, *I], or [C, *I] without a batch, with a tuple as `window`.
        indices: integers of the shape of x, flat indices into the spatial axes of the result.
        window, stride, padding: those of the max_pool; strides default to the window.
        output_size: spatial sizes of the result, one for all, or its whole shape; less than one
            stride from (I - 1) * stride - lo - hi + window, which is the default.
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin.

    Returns:
        [N, C, *output_size].

    Raises:
        ShapeError: shapes or window parameters do not fit.
        DTypeError: `indices` are not integers.
        RangeError: sizes beyond 2**63 - 1.
        IndexError: an index is negative or too large (when the value is computed).

    >>> x = st.asarray([[[1.0, 5.0, 2.0, 7.0]]])
    >>> st.max_unpool(*st.max_pool(x, 2, return_indices=True), 2)
    Array([[[0., 5., 0., 7.]]], dtype=float32)
    """
    op = "max_unpool"
    given, where_to = as_node(x), as_node(indices)
    if given.shape != where_to.shape:
        raise ShapeError(
            f"{op}: x and indices must have one shape, got {given.type} and {where_to.type}"
        )
    x, layout = channels_in_front(op, given, "window", window, data_format)
    index, _ = channels_in_front(op, where_to, "window", window, data_format)
    rank = x.ndim - 2
    kernel = per_axis(op, "window", window, rank, 1)
    strides = kernel if stride is None else per_axis(op, "stride", stride, rank, 1)
    whole = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    pads = pads_of(op, padding, whole, kernel, strides, [1] * rank)
    sizes = tuple(
        n if padding in ("same", "same_lower") else n - s - lo - hi + k
        for n, s, k, (lo, hi) in zip(whole, strides, kernel, pads, strict=True)
    )
    if output_size is not None:
        sizes = _unpooled_sizes(given, sizes, strides, output_size, layout.first)
    if min(sizes) < 0:
        raise ShapeError(
            f"{op}: spatial sizes would be {sizes} for window {kernel}, stride {strides}, padding "
            f"{pads}, which is negative"
        )
    n, c = x.shape[:2]
    flat = (n, c, prod(x.shape[2:]))
    index, values, total = reshape(index, flat), reshape(x, flat), prod(sizes)
    last = apply(LAST_WRITER, (index,), total)
    y = scatter_add(where(last, values, 0), index, total, 2)
    return layout.restore(reshape(y, (n, c, *sizes)))


def _unpooled_sizes(
    x: Node,
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    output_size: Ints,
    first: bool,
) -> tuple[int, ...]:
    """The spatial part of the `output_size` that was asked for; x is as the caller gave it.

    Raises:
        ShapeError: it has the wrong length, or is a stride or more from `sizes`.
    """
    rank = len(sizes)
    wanted = output_size
    if isinstance(wanted, Sequence) and len(wanted) == x.ndim:  # the whole shape
        lead = x.ndim - rank  # axes beside the spatial ones
        wanted = wanted[lead:] if first else wanted[lead - 1 : -1]
    elif rank_of("max_unpool", "output_size", wanted, rank) != rank:
        raise ShapeError(
            f"max_unpool: output_size {wanted} must have {rank} values, or {x.ndim} for x {x.type}"
        )
    wanted = per_axis("max_unpool", "output_size", wanted, rank)
    for axis, (n, size, s) in enumerate(zip(wanted, sizes, strides, strict=True)):
        if not size - s < n < size + s:
            raise ShapeError(
                f"max_unpool: output_size {n} of spatial axis {axis} must lie between {size - s} "
                f"and {size + s} (both excluded): {size} is the default and {s} the stride"
            )
    return wanted
