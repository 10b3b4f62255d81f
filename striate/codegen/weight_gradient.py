"""Weight gradients, direct: the contraction of a convolution over the batch and its outputs.

    dw[g, k, c, *w] = sum over n, o of x[n, g * C + c, i(o, w)] * gy[n, g * K + k, o]

For each axis, the solutions (i, o) of  a * i = s * o + d * w - p  at one tap w are the points

    i = x_step * m + x_shift[w],   o = g_step * m + g_shift[w],   first[w] <= m < stop[w]

with x_step = s / gcd(a, s) and g_step = a / gcd(a, s): so strides, dilations of either kind, flips
and padding are numbers in a table, and no product with an inserted zero is left. The batch is one
more axis, with one tap; axes with one tap are merged where their pixels follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, gcd, prod

from striate.codegen.kernel import At, Buffer, Scratch, Step, Table, View, Word
from striate.codegen.weight_gradient_kernel import UNIT_LIMIT, WeightGradientKernel
from striate.dtype import DType, bfloat16, float32, float64
from striate.ops.conv import ConvSpec
from striate.ops.window import Window
from striate.target import Target

SUMS_BYTES = 1 << 20  # of the sums of one unit
UP = 64  # scratch regions begin at a multiple


@dataclass(frozen=True, slots=True)
class Tap:
    """The pixels first <= m < stop of one tap, and its (x, g) shifts in positions."""

    first: int
    stop: int
    x: int = 0
    g: int = 0


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of pixels.

    Attributes:
        size: number of pixels m.
        taps: the taps.
        x_step, g_step: positions of an operand from pixel to pixel.
        x_stride, g_stride: elements of an operand from position to position.
    """

    size: int
    taps: tuple[Tap, ...]
    x_step: int
    g_step: int
    x_stride: int
    g_stride: int

    @classmethod
    def of(cls, window: Window, x_stride: int, g_stride: int) -> Axis:
        """The pixels of one spatial axis."""
        t = window.canonical_sign()
        a, s, d, p = t.lhs_dilation, t.stride, t.rhs_dilation, t.pad_lo
        x_step, g_step = s // gcd(a, s), a // gcd(a, s)
        taps = []
        for w in range(t.kernel_size):
            outs = range(min(g_step, t.out_size))
            o = next((o for o in outs if (s * o + d * w - p) % a == 0), None)
            if o is None:
                taps.append(Tap(0, 0))
                continue
            i = (s * o + d * w - p) // a
            inside = Window(t.in_size, -(-(t.out_size - o) // g_step), 1, x_step, pad_lo=-i)
            ms = inside.outputs_of(0)
            taps.append(Tap(ms.start, ms.stop, i, o) if ms else Tap(0, 0))
        size = max(t.stop for t in taps) if taps else 0
        return cls(size, tuple(taps), x_step, g_step, x_stride, g_stride)

    def follows(self, outer: Axis) -> bool:
        """Whether the pixels of `outer` and of this axis are one row in both operands."""
        if any(len(t.taps) > 1 or t.taps[0] != Tap(0, t.size) for t in (outer, self)):
            return False
        return all(
            a * b == c * d * self.size
            for a, b, c, d in (
                (outer.x_step, outer.x_stride, self.x_step, self.x_stride),
                (outer.g_step, outer.g_stride, self.g_step, self.g_stride),
            )
        )


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    """The axes, neighbours merged where they are one row."""
    done: list[Axis] = []
    for axis in axes:
        if done and axis.follows(done[-1]):
            size = done.pop().size * axis.size
            axis = replace(axis, size=size, taps=(Tap(0, size),))
        done.append(axis)
    return done


def _steps(axes: Sequence[Axis], pixels: int) -> list[int]:
    """How much of each axis one block has: equal parts of at most about `pixels` in all."""
    steps: list[int] = []
    for axis in reversed(axes):
        part = max(1, min(axis.size, pixels))
        parts = ceil(axis.size / part) or 1
        steps.insert(0, max(1, ceil(axis.size / parts)))
        pixels = pixels // part if parts == 1 else 1
    return steps


def _strides(block: int, channels: int, sizes: Sequence[int]) -> tuple[int, list[int], int]:
    """Elements between images, positions of each axis, and blocks of channels."""
    axes = [block * prod(sizes[j + 1 :]) for j in range(len(sizes))]
    return channels * prod(sizes), axes, block * prod(sizes)


def weight_gradient_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, g_block: int
) -> bool:
    """Whether `weight_gradient` takes these layouts and sizes."""
    if dtype not in (float32, float64):
        return False
    lanes = target.lanes(dtype.bits)
    return (
        x_block in (4, 8, 16)
        and spec.in_features % x_block == 0
        and g_block == lanes
        and spec.out_features % lanes == 0
    )


def _tiles(vectors: int, three: bool) -> dict[int, int]:
    """How many register tiles of 3, 2 and 1 vectors cover the features."""
    if vectors <= 3:
        return {vectors: 1}
    if vectors % 2 == 0 and not three:
        return {2: vectors // 2}
    threes, rest = divmod(vectors, 3)
    if rest == 1:
        threes, rest = threes - 1, 4
    return {n: count for n, count in ((3, threes), (2, rest // 2)) if count}


def _units(groups: int, tiles: int, blocks: int, bytes_each: int) -> tuple[int, ...]:
    """(tiles of features, blocks of channels) of a unit, for each number of threads."""
    table: list[int] = []
    for threads in range(1, UNIT_LIMIT + 1):
        best = None
        for k, c in product(_parts(tiles), _parts(blocks)):
            if k * c * bytes_each > SUMS_BYTES and k * c > 1:
                continue
            rounds = ceil(groups * ceil(tiles / k) * ceil(blocks / c) / threads)
            cost = rounds * k * c * (1 + 0.1 / k + 0.1 / c)
            if best is None or cost < best[0]:
                best = (cost, k, c)
        assert best is not None
        table += best[1:]
    return tuple(table)


def _parts(n: int) -> list[int]:
    """The distinct sizes of the largest part when n things are cut evenly."""
    return sorted({ceil(n / parts) for parts in range(1, min(n, 2 * UNIT_LIMIT) + 1)} | {1})


def weight_gradient(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    x: Buffer,
    x_block: int,
    g: Buffer,
    g_block: int,
    dw: View,
) -> list[Step]:
    """The steps that write dw[G, K, C, *W].

    Args:
        target: the processor.
        spec: of the forward convolution.
        dtype: of all three; bfloat16 is computed in float32 and rounded once.
        x, x_block: [N, G * C / x_block, *I, x_block].
        g, g_block: [N, G * K / g_block, *O, g_block].
        dw: strides of [G, K, C, *W].
    """
    if not prod(spec.rhs_shape):
        return []
    lanes = target.lanes(dtype.bits)
    windows = spec.windows
    channels, features = spec.in_features, spec.out_features
    x_image, x_axes, x_step = _strides(
        x_block, spec.groups * channels, [t.in_size for t in windows]
    )
    g_image, g_axes, g_step = _strides(
        g_block, spec.groups * features, [t.out_size for t in windows]
    )
    axes = [Axis(spec.batch, (Tap(0, spec.batch),), 1, 1, x_image, g_image)]
    axes += [Axis.of(t, a, b) for t, a, b in zip(windows, x_axes, g_axes, strict=True)]
    axes = _merged(axes)

    table: list[int] = []
    for taps in product(*(t.taps for t in axes)):
        table.append(sum(t.x * axis.x_stride for t, axis in zip(taps, axes, strict=True)))
        table.append(sum(t.g * axis.g_stride for t, axis in zip(taps, axes, strict=True)))
        for tap in taps:
            table += tap.first, tap.stop
    sizes = [t.kernel_size for t in windows]
    count = prod(sizes)
    where = tuple(
        sum(i * s for i, s in zip(w, dw.strides[3:], strict=True))
        for w in product(*(range(n) for n in sizes))
    )
    dense = where == tuple(range(count)) and (dw.strides[2] == count or channels == 1)

    rows = min(x_block, 8 if target.registers == 32 else 4)
    steps: list[Step] = []
    done = 0  # vectors of features
    tiles = _tiles(features // lanes, target.registers == 16 and target.name != "x86-64-v2")
    for vectors, tile_count in tiles.items():
        width = vectors * lanes
        part = min(features - done * lanes, tile_count * width)
        kernel = WeightGradientKernel(dtype, len(axes), rows, vectors, x_block, None, None, dense)
        bytes_each = x_block * count * width * dtype.itemsize
        blocks = channels // x_block
        unit = _units(spec.groups, tile_count, blocks, bytes_each)
        sums = max(k * c for k, c in zip(unit[::2], unit[1::2], strict=True)) * bytes_each
        scratch = sums + lanes * width * dtype.itemsize
        scratch = -(-scratch // UP) * UP
        size = dtype.itemsize
        words: list[Word] = [
            x,
            At(g, done * g_step * size),
            At(dw.buffer, (dw.offset + done * lanes * dw.strides[1]) * size),
            Scratch(scratch),
            scratch,
            0,
            0,
            Table(tuple(table)),
            Table(unit),
            Table(where),
            spec.groups,
            channels,
            part,
            blocks,
            tile_count,
            count,
            channels // x_block * x_step,
            x_step,
            features // g_block * g_step,
            g_step,
            *dw.strides[:3],
        ]
        pixels = _steps(axes, 24 * 1024 // ((x_block + width) * dtype.itemsize))
        for axis, step in zip(axes, pixels, strict=True):
            words += axis.size, step, axis.x_step * axis.x_stride, axis.g_step * axis.g_stride
        label = f"weight gradient, {rows}x{vectors} vectors"
        macs = spec.macs // features * part
        steps.append(Step(kernel, tuple(words), (dw.buffer,), label, macs))
        done += part // lanes
    return steps
