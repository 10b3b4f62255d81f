"""Max pooling in channel blocks: x[N, C/b, *I, b] -> y[N, C/b, *O, b], and its gradient.

Window o of an axis holds the elements stride * o + dilation * k - pad, 0 <= k < kernel, that exist:
padding is left out by the bounds of the loops over k. The first largest element is kept with its
offset from the window's origin, so that one offset serves all lanes and all windows of a tile.
Lanes are channels of a block; with b = 1 they are neighbouring windows.

The gradient is the transposed choice: dx[i] sums g[o] over the windows o of i that chose i, in the
order of o. It is gathered for every i, or, where a place is in many windows, scattered.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from striate.codegen.extreme import power_of_two
from striate.codegen.indexing import aligned, scatter_rows
from striate.codegen.kernel import Buffer, Scratch, Step, Word
from striate.codegen.ordering import comparable
from striate.codegen.pool_gradient import MaxPoolGradient, tiles_of
from striate.codegen.pool_window import MaxPool, axis_words, steps_of
from striate.dtype import DType, int32, int64
from striate.ops.window import Window

SMALL = 1 << 13  # elements: too few to share
UNROLLED = 5  # taps of the last axis, at most, that are not a loop
LINE = 1 << 18  # bytes of scratch memory, at most, for which the outer axes are reduced first
OVERHEAD = 2  # what that costs besides its comparisons, in such
COVERS = 36  # windows of a place, at most, for which its gradient is gathered


def max_pool(
    dtype: DType,
    windows: tuple[Window, ...],
    n: int,
    channels: int,
    block: int,
    x: Buffer,
    y: Buffer,
) -> list[Step]:
    """The largest element of each window; NaN wins.

    Args:
        dtype: of x and y; any.
        windows: one per spatial axis, dense and increasing, none of which holds only padding.
        n, channels: N and C.
        block: b, which divides C; 1 is plain NCHW, C is channels-last.
        x: [N, C/b, *I, b].
        y: [N, C/b, *O, b].
    """
    return _pool(dtype, windows, n * channels // block, block, x, y, None, 0)


def argmax_pool(
    dtype: DType,
    windows: tuple[Window, ...],
    n: int,
    channels: int,
    block: int,
    x: Buffer,
    index: Buffer,
    index_bits: int,
) -> list[Step]:
    """The flat spatial index of the first largest element, or first NaN, of each window.

    Args:
        dtype, windows, n, channels, block, x: as for `max_pool`.
        index: [N, C/b, *O, b] integers of `index_bits` bits; 32 only if prod(I) < 2**31. Of 8
            bits: not the element's place in the plane, but the number of its tap in the window,
            in row-major order; only for windows of at most 256 taps.
        index_bits: 8, 32 or 64.
    """
    return _pool(dtype, windows, n * channels // block, block, x, None, index, index_bits)


def max_and_argmax_pool(
    dtype: DType,
    windows: tuple[Window, ...],
    n: int,
    channels: int,
    block: int,
    x: Buffer,
    y: Buffer,
    index: Buffer,
    index_bits: int,
) -> list[Step]:
    """`max_pool` and `argmax_pool` in one pass."""
    return _pool(dtype, windows, n * channels // block, block, x, y, index, index_bits)


def max_pool_gradient(
    dtype: DType,
    windows: tuple[Window, ...],
    n: int,
    channels: int,
    block: int,
    index: Buffer,
    index_bits: int,
    g: Buffer,
    dx: Buffer,
) -> list[Step]:
    """dx[N, C/b, *I, b]: zeros with every g[N, C/b, *O, b] added at its index.

    Args:
        dtype: of g and dx.
        windows, n, channels, block: as for `max_pool`.
        index: what `argmax_pool` gave, for these windows.
        index_bits: of `index`, 8, 32 or 64; 8 only for blocks of 4 and more.
        g: [N, C/b, *O, b].
        dx: [N, C/b, *I, b].
    """
    planes = n * channels // block
    size, places = (prod(s) for s in _sizes(windows))
    if not planes * size * block:
        return []
    covers = prod((w.kernel_size - 1) * w.rhs_dilation // w.stride + 1 for w in windows)
    label = f"max_pool_gradient {_label(windows)}"
    if index_bits != 8 and (block < 4 or covers > COVERS):
        kind = int32 if index_bits == 32 else int64
        return scatter_rows(label, dtype, kind, planes, size, places, block, g, index, dx)
    spread, (first, stop) = tiles_of(windows[-1])
    limit = power_of_two(block)
    kernel = MaxPoolGradient(
        dtype, limit, limit == block, steps_of(windows), index_bits, spread, size >= 1 << 31
    )
    words: tuple[Word, ...] = (index, g, dx, planes, block, first, stop, *axis_words(windows))
    return [Step(kernel, words, (dx,), label, single=planes * size * block < SMALL)]


def _sizes(windows: Sequence[Window]) -> tuple[list[int], list[int]]:
    return [w.in_size for w in windows], [w.out_size for w in windows]


def _label(windows: Sequence[Window]) -> str:
    return "x".join(str(w.kernel_size) for w in windows)


def _pool(
    dtype: DType,
    windows: tuple[Window, ...],
    planes: int,
    block: int,
    x: Buffer,
    y: Buffer | None,
    index: Buffer | None,
    index_bits: int,
) -> list[Step]:
    """Values, indices or both."""
    dtype, last = comparable(dtype), windows[-1]
    size, places = (prod(s) for s in _sizes(windows))
    if not planes * places * block:
        return []
    inside = last.interior()
    columns = block == 1
    limit = power_of_two(max(1, len(inside)) if columns else block)
    wide = size >= 1 << 31 or dtype.bits == 64
    elements = last.in_size * block
    values = aligned(elements * dtype.itemsize)
    held = values + (aligned(elements * (8 if wide else 4)) if index_bits else 0)
    before = prod(w.kernel_size for w in windows[:-1])
    strided = columns and last.stride > 1  # a load of every second element costs two
    apart = before * last.stride + last.kernel_size * ((3 if index_bits else 2) if strided else 1)
    together = before * last.kernel_size * (2 if strided else 1)
    separable = apart + OVERHEAD < together and held <= LINE
    kernel = MaxPool(
        dtype,
        limit,
        layout="columns" if columns else "block" if limit == block else "channels",
        steps=steps_of(windows),
        taps=last.kernel_size if last.kernel_size <= UNROLLED else 0,
        tile=1 if columns else min(4, power_of_two(max(1, len(inside)))),
        values=y is not None,
        index=index_bits,
        wide=wide,
        line=power_of_two(elements) if separable else 0,
    )
    line = Scratch(held if separable else 0)
    numbers = (planes, block, inside.start, inside.stop)
    words: tuple[Word, ...] = (
        *(x, y or 0, index or 0, *numbers, line, held, values),
        *axis_words(windows),
    )
    written = tuple(b for b in (y, index) if b is not None)
    label = f"max_pool {_label(windows)}"
    return [Step(kernel, words, written, label, single=planes * size * block < SMALL)]
