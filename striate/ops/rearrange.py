"""Movement composed of movement: join and cut, axes added, removed and moved, repetition.

Nothing here is a primitive but `concat` (in `movement`): each function is a few reshapes,
transposes, broadcasts, slices and constants, so its derivative is already known.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from striate.dtype import int64, promote
from striate.errors import ShapeError
from striate.ir.graph import Node, apply
from striate.ir.types import broadcast_shapes, normalize_axes, normalize_axis
from striate.ops.elementwise import add, cast, where
from striate.ops.index import take
from striate.ops.movement import CONCAT, broadcast_to, pad, reshape, slice_axes, transpose
from striate.ops.operand import Operand, as_node

Ints = int | Sequence[int]


# ---- join and cut --------------------------------------------------------------------------


def concat(xs: Sequence[Operand], axis: int | None = 0) -> Node:
    """Arrays one after the other along an axis.

    Args:
        xs: one array or more, [*A, n_i, *B] each; their dtypes promote.
        axis: the axis of sizes n_i; None flattens the arrays first.

    Returns:
        [*A, sum of n_i, *B].

    Raises:
        ShapeError: there is no array, ranks differ, or sizes differ outside `axis`.

    >>> st.concat([np.zeros((2, 1)), np.ones((2, 2))], axis=1).shape
    (2, 3)
    """
    nodes = [as_node(x) for x in xs]
    if not nodes:
        raise ShapeError("concat: wants one array or more, got none")
    if axis is None:
        nodes, axis = [reshape(x, -1) for x in nodes], 0
    first = nodes[0]
    if not first.ndim:
        raise ShapeError("concat: arrays without axes cannot be joined; use st.stack")
    dtype = first.type.dtype
    for x in nodes[1:]:
        if x.ndim != first.ndim:
            raise ShapeError(f"concat: ranks must be equal, got {first.type} and {x.type}")
        dtype = promote(dtype, x.type.dtype)
    axis = normalize_axis("concat", axis, first.ndim)
    if len(nodes) == 1:
        return first
    return apply(CONCAT, tuple(cast(x, dtype) for x in nodes), axis)


def stack(xs: Sequence[Operand], axis: int = 0) -> Node:
    """Arrays of one shape, joined along a new axis: n times [*A, *B] -> [*A, n, *B].

    Raises:
        ShapeError: there is no array, or shapes differ.

    >>> st.stack([np.zeros(3), np.ones(3)], axis=1).shape
    (3, 2)
    """
    nodes = [as_node(x) for x in xs]
    for x in nodes:
        if x.shape != nodes[0].shape:
            raise ShapeError(f"stack: shapes must be equal, got {nodes[0].type} and {x.type}")
    return concat([expand_dims(x, axis) for x in nodes], axis)


def split(x: Operand, sections: Ints, axis: int = 0) -> tuple[Node, ...]:
    """An array cut along an axis; the inverse of `concat`.

    Args:
        x: [*A, n, *B].
        sections: a number of equal parts, or the size of each part.
        axis: the axis of size n.

    Raises:
        ShapeError: n does not divide into that many parts, or the sizes do not add up to n.

    >>> [part.shape for part in st.split(np.zeros((6, 2)), [1, 5])]
    [(1, 2), (5, 2)]
    """
    x = as_node(x)
    axis = normalize_axis("split", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(sections, int | np.integer):
        if sections < 1 or n % sections:
            raise ShapeError(f"split: axis {axis} of {x.type} does not divide into {sections}")
        sizes = [n // int(sections)] * int(sections)
    else:
        sizes = [int(s) for s in sections]
        if sum(sizes) != n or any(s < 0 for s in sizes):
            raise ShapeError(f"split: sizes {sizes} must add up to {n}, axis {axis} of {x.type}")
    parts, start = [], 0
    for size in sizes:
        parts.append(_slice(x, axis, start, start + size))
        start += size
    return tuple(parts)


def unstack(x: Operand, axis: int = 0) -> tuple[Node, ...]:
    """The n slices of an axis, without it; the inverse of `stack`."""
    x = as_node(x)
    axis = normalize_axis("unstack", axis, x.ndim)
    return tuple(squeeze(_slice(x, axis, i, i + 1), axis) for i in range(x.shape[axis]))


def _slice(x: Node, axis: int, start: int, stop: int) -> Node:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop)
    return slice_axes(x, index)


# ---- axes ----------------------------------------------------------------------------------


def squeeze(x: Operand, axis: int | tuple[int, ...] | None = None) -> Node:
    """`x` without axes of size 1: those named, or all of them.

    Raises:
        ShapeError: a named axis has another size.

    >>> st.squeeze(np.zeros((1, 3, 1)), 0).shape
    (3, 1)
    """
    x = as_node(x)
    if axis is None:
        return reshape(x, [n for n in x.shape if n != 1])
    axes = normalize_axes("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {x.type} has size {x.shape[a]}, not 1")
    return reshape(x, [n for a, n in enumerate(x.shape) if a not in axes])


def expand_dims(x: Operand, axis: int | tuple[int, ...] = 0) -> Node:
    """`x` with new axes of size 1 at these positions of the result.

    >>> st.expand_dims(np.zeros((2, 3)), (0, -1)).shape
    (1, 2, 3, 1)
    """
    x = as_node(x)
    rank = x.ndim + (1 if isinstance(axis, int) else len(axis))
    new = normalize_axes("expand_dims", axis, rank)
    sizes = iter(x.shape)
    return reshape(x, [1 if a in new else next(sizes) for a in range(rank)])


def flatten(x: Operand, start: int = 0, end: int = -1) -> Node:
    """The axes from `start` to `end`, both included, merged into one.

    Raises:
        ShapeError: end comes before start, or one is out of range.

    >>> st.flatten(np.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    x = as_node(x)
    if not x.ndim:
        return reshape(x, (1,))
    first, last = (normalize_axis("flatten", a, x.ndim) for a in (start, end))
    if last < first:
        raise ShapeError(f"flatten: axis {end} comes before axis {start} in {x.type}")
    merged = prod(x.shape[first : last + 1])
    return reshape(x, (*x.shape[:first], merged, *x.shape[last + 1 :]))


def moveaxis(x: Operand, source: Ints, destination: Ints) -> Node:
    """Some axes moved to new positions; the others keep their order.

    Raises:
        ShapeError: the numbers of axes differ, or one is named twice.

    >>> st.moveaxis(np.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = as_node(x)
    pairs = []
    for axes in (source, destination):
        given = (axes,) if isinstance(axes, int | np.integer) else tuple(axes)
        normalize_axes("moveaxis", given, x.ndim)  # none twice
        pairs.append([normalize_axis("moveaxis", a, x.ndim) for a in given])
    if len(pairs[0]) != len(pairs[1]):
        raise ShapeError(f"moveaxis: {source} and {destination} name different numbers of axes")
    order = [a for a in range(x.ndim) if a not in pairs[0]]
    for to, a in sorted(zip(pairs[1], pairs[0], strict=True)):
        order.insert(to, a)
    return transpose(x, order)


def swapaxes(x: Operand, axis1: int, axis2: int) -> Node:
    """Two axes exchanged."""
    x = as_node(x)
    a, b = (normalize_axis("swapaxes", axis, x.ndim) for axis in (axis1, axis2))
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return transpose(x, order)


def broadcast_arrays(*xs: Operand) -> tuple[Node, ...]:
    """The arrays, broadcast to their common shape.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    nodes = [as_node(x) for x in xs]
    shape = broadcast_shapes("broadcast_arrays", *(x.shape for x in nodes))
    return tuple(broadcast_to(x, shape) for x in nodes)


# ---- repetition and rotation ---------------------------------------------------------------


def roll(x: Operand, shift: Ints, axis: Ints | None = None) -> Node:
    """Elements moved along axes by `shift` places; those that leave come back in at the start.

    Args:
        x: any shape.
        shift: places, per axis or for all.
        axis: which axes; None rolls the flattened array.

    Raises:
        ShapeError: there are not as many shifts as axes.

    >>> st.roll(np.arange(4), 1).numpy()
    array([3, 0, 1, 2])
    """
    x = as_node(x)
    if axis is None:
        return reshape(roll(reshape(x, -1), shift, 0), x.shape)
    axes = [axis] if isinstance(axis, int | np.integer) else list(axis)
    shifts = [shift] * len(axes) if isinstance(shift, int | np.integer) else list(shift)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for s, given in zip(shifts, axes, strict=True):
        a = normalize_axis("roll", given, x.ndim)
        n = x.shape[a]
        at = -s % n if n else 0
        if at:
            x = concat([_slice(x, a, at, n), _slice(x, a, 0, at)], a)
    return x


def repeat(x: Operand, repeats: Ints, axis: int | None = None) -> Node:
    """Each element several times in a row along an axis.

    Args:
        x: [*A, n, *B].
        repeats: how often, for all elements or for each of the n.
        axis: the axis of size n; None flattens first.

    Raises:
        ShapeError: a number of repeats is negative, or there are not n of them.

    >>> st.repeat(np.arange(3), 2).numpy()
    array([0, 0, 1, 1, 2, 2])
    """
    x = as_node(x)
    if axis is None:
        x, axis = reshape(x, -1), 0
    axis = normalize_axis("repeat", axis, x.ndim)
    n = x.shape[axis]
    counts = np.asarray(repeats, dtype=np.int64)
    if counts.ndim > 1 or counts.size not in (1, n) or (counts.size and counts.min() < 0):
        raise ShapeError(f"repeat: wants one number or {n} numbers >= 0, got {repeats}")
    if counts.size != 1:
        return take(x, np.repeat(np.arange(n), counts), axis)
    times = int(counts.reshape(()))
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    y = reshape(x, (*before, n, 1, *after))
    return reshape(broadcast_to(y, (*before, n, times, *after)), (*before, n * times, *after))


def tile(x: Operand, repeats: Ints) -> Node:
    """The whole array several times along each axis.

    Args:
        x: any shape.
        repeats: per axis; fewer numbers are for the last axes, more make new axes in front.

    Raises:
        ShapeError: a number is negative.

    >>> st.tile(np.arange(2), (2, 2)).numpy()
    array([[0, 1, 0, 1],
           [0, 1, 0, 1]])
    """
    x = as_node(x)
    times = [int(repeats)] if isinstance(repeats, int | np.integer) else [int(r) for r in repeats]
    if any(r < 0 for r in times):
        raise ShapeError(f"tile: repeats must be >= 0, got {repeats}")
    rank = max(x.ndim, len(times))
    times = [1] * (rank - len(times)) + times
    sizes = [1] * (rank - x.ndim) + list(x.shape)
    y = reshape(x, [m for n in sizes for m in (1, n)])
    y = broadcast_to(y, [m for n, r in zip(sizes, times, strict=True) for m in (r, n)])
    return reshape(y, [n * r for n, r in zip(sizes, times, strict=True)])


# ---- triangles and sums along an axis ------------------------------------------------------


def tril(x: Operand, *, k: int = 0) -> Node:
    """The lower triangle of matrices [*B, M, N]; above the k-th diagonal they are 0.

    Raises:
        ShapeError: there are fewer than two axes.
    """
    x = as_node(x)
    if x.ndim < 2:
        raise ShapeError(f"tril: wants two axes or more, got {x.type}")
    return where(np.tri(x.shape[-2], x.shape[-1], k, dtype=np.bool_), x, 0)


def triu(x: Operand, *, k: int = 0) -> Node:
    """The upper triangle of matrices [*B, M, N]; below the k-th diagonal they are 0.

    Raises:
        ShapeError: there are fewer than two axes.
    """
    x = as_node(x)
    if x.ndim < 2:
        raise ShapeError(f"triu: wants two axes or more, got {x.type}")
    return where(np.tri(x.shape[-2], x.shape[-1], k - 1, dtype=np.bool_), 0, x)


def cumulative_sum(x: Operand, axis: int = -1) -> Node:
    """y[.., i, ..] = x[.., 0, ..] + ... + x[.., i, ..]; integers and bools sum in int64.

    Method: Hillis & Steele, "Data parallel algorithms" (1986): log2(n) additions of the array to
    itself, shifted; the error grows with log2(n) only.

    >>> st.cumulative_sum(np.arange(5)).numpy()
    array([ 0,  1,  3,  6, 10])
    """
    x = as_node(x)
    axis = normalize_axis("cumulative_sum", axis, x.ndim)
    y = x if x.type.dtype.is_floating else cast(x, int64)
    widths = [(0, 0)] * x.ndim
    shift = 1
    while shift < x.shape[axis]:
        widths[axis] = (shift, -shift)
        y = add(y, pad(y, widths))
        shift *= 2
    return y


# ---- channels to space ---------------------------------------------------------------------


def pixel_shuffle(x: Operand, factor: Ints) -> Node:
    """Channels rearranged into a finer grid (depth to space, as PyTorch orders it).

    Args:
        x: [*B, C * prod(r), *I].
        factor: the r of each of the spatial axes *I; one number stands for two axes, as in
            PyTorch, a tuple for as many as it has: `(2,)` is 1-D, `(2, 2, 2)` is 3-D.

    Returns:
        [*B, C, *(I * r)], with y[b, c, i*r + k] = x[b, (c, k), i].

    Raises:
        ShapeError: too few axes, a factor < 1, or channels that do not divide.

    Method: Shi et al., "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network" (2016).

    >>> st.pixel_shuffle(np.zeros((1, 12, 4, 4)), 2).shape
    (1, 3, 8, 8)
    """
    x, factors, lead = _shuffle_arguments("pixel_shuffle", x, factor)
    rank, channels, sizes = len(factors), x.shape[lead], x.shape[lead + 1 :]
    if channels % prod(factors):
        raise ShapeError(
            f"pixel_shuffle: the {channels} channels of {x.type} do not divide by "
            f"{prod(factors)}, the product of the factors {factors}"
        )
    y = reshape(x, (*x.shape[:lead], channels // prod(factors), *factors, *sizes))
    pairs = [a for i in range(rank) for a in (lead + 1 + rank + i, lead + 1 + i)]
    y = transpose(y, (*range(lead + 1), *pairs))  # [*b, c, *r, *i] -> [*b, c, i0, r0, i1, r1, ...]
    fine = [n * r for n, r in zip(sizes, factors, strict=True)]
    return reshape(y, (*y.shape[: lead + 1], *fine))


def pixel_unshuffle(x: Operand, factor: Ints) -> Node:
    """The inverse of `pixel_shuffle`: [*B, C, *(I * r)] -> [*B, C * prod(r), *I].

    Raises:
        ShapeError: too few axes, a factor < 1, or sizes that do not divide.

    >>> st.pixel_unshuffle(np.zeros((1, 3, 8, 8)), 2).shape
    (1, 12, 4, 4)
    """
    x, factors, lead = _shuffle_arguments("pixel_unshuffle", x, factor)
    rank, channels, sizes = len(factors), x.shape[lead], x.shape[lead + 1 :]
    if any(n % r for n, r in zip(sizes, factors, strict=True)):
        raise ShapeError(f"pixel_unshuffle: sizes {sizes} of {x.type} do not divide by {factors}")
    coarse = [n // r for n, r in zip(sizes, factors, strict=True)]
    pairs = [m for n, r in zip(coarse, factors, strict=True) for m in (n, r)]
    y = reshape(x, (*x.shape[: lead + 1], *pairs))
    inner = [lead + 2 + 2 * i for i in range(rank)]
    y = transpose(y, (*range(lead + 1), *inner, *(a - 1 for a in inner)))
    return reshape(y, (*x.shape[:lead], channels * prod(factors), *coarse))


def _shuffle_arguments(op: str, x: Operand, factor: Ints) -> tuple[Node, tuple[int, ...], int]:
    """(x, factor per spatial axis, number of axes before the channels)."""
    x = as_node(x)
    factors = (
        (int(factor),) * 2
        if isinstance(factor, int | np.integer)
        else tuple(int(r) for r in factor)
    )
    if not factors or any(r < 1 for r in factors):
        raise ShapeError(f"{op}: factors must be >= 1, got {factor}")
    lead = x.ndim - len(factors) - 1
    if lead < 0:
        raise ShapeError(
            f"{op}: wants [*B, C, *I] with {len(factors)} spatial axes (one for each factor of "
            f"{factors}), got {x.type}"
        )
    return x, factors, lead
