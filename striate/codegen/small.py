"""Convolutions of images of a few pixels as steps: `small_kernels` says which kernels these are.

Which images are small depends on the shape of one alone, as results must. Where the weights lie in
another order than a kernel reads them in, they are copied first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from striate.codegen.boxes import Operand, copy_step
from striate.codegen.epilogue import Epilogue
from striate.codegen.kernel import STREAM, At, Buffer, Step, Table, View, Word
from striate.codegen.small_kernels import PixelGather, PixelScatter, RowDots, RowProducts, RowSums
from striate.codegen.words import arranged
from striate.dtype import DType, bfloat16, compute_dtype
from striate.ops.conv import ConvSpec
from striate.ops.window import Window
from striate.target import Target
from striate.transform.views import dense_strides

PIXELS = 4  # of an image, of inputs or of outputs, up to which it is small
MOST = 16  # of the others
DEEP = 64  # terms of a sum, from which on lanes may be terms
TAPS = 512
IMAGES = 64  # pixels of a batch, up to which products are outer ones
CHUNK = 24 << 10  # bytes of Z that stay in the first cache
PIECES = 8  # of the columns of Z, for a team
SMALL = 1 << 14  # multiply-adds that one thread does alone


def small_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int
) -> bool:
    """Whether the images of a convolution are small, and its sums long."""
    ins, outs, taps = (
        prod(getattr(t, name) for t in spec.windows)
        for name in ("in_size", "out_size", "kernel_size")
    )
    return (
        dtype.is_floating
        and (dtype is bfloat16 or dtype.bits >= 32)
        and len(spec.windows) > 0
        and spec.groups == 1
        and 0 not in (spec.batch, spec.out_features)
        and 0 < min(ins, outs) <= PIXELS
        and max(ins, outs) <= MOST
        and taps <= TAPS
        and spec.in_features * taps >= DEEP
        and spec.in_features % x_block == spec.out_features % y_block == 0
    )


def small_weight_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, g_block: int
) -> bool:
    """The same of a weight gradient, `spec` being the forward convolution."""
    pixels = spec.batch * prod(t.out_size for t in spec.windows)
    return pixels <= IMAGES and small_supports(target, spec, dtype, x_block, g_block)


@dataclass(frozen=True)
class _Channels:
    """Where the channels of a value [N, C/b, *I, b] stand."""

    features: int
    block: int
    positions: int

    @property
    def words(self) -> dict[str, Word]:
        """`outer` times `inner` channels."""
        if self.block == 1:
            return {"outer": 1, "outer_x": 0, "inner": self.features, "inner_x": self.positions}
        return {
            "outer": self.features // self.block,
            "outer_x": self.block * self.positions,
            "inner": self.block,
            "inner_x": 1,
        }


def _meetings(spec: ConvSpec) -> list[list[int]]:
    """Per output and tap the input that they meet, row-major numbers, or -1."""
    axes: list[list[list[int]]] = []
    for t in spec.windows:

        def met(o: int, k: int, t: Window = t) -> int:
            i, rest = divmod(t.stride * o + t.rhs_dilation * k - t.pad_lo, t.lhs_dilation)
            return i if not rest and 0 <= i < t.in_size else -1

        axes.append([[met(o, k) for k in range(t.kernel_size)] for o in range(t.out_size)])
    sizes = dense_strides([t.in_size for t in spec.windows])

    def number(at: Sequence[int]) -> int:
        return -1 if -1 in at else sum(i * s for i, s in zip(at, sizes, strict=True))

    return [[number(at) for at in product(*lines)] for lines in product(*axes)]


def _gathered(
    dtype: DType, images: int, channels: _Channels, x: Buffer, table: list[list[int]]
) -> tuple[Buffer, list[Step]]:
    """X[(n, o), (c, t)] for a table [o][t] of positions; x itself where it is that."""
    taps, b = len(table[0]), channels.block
    whole = len(table) == 1 and taps == channels.positions and table[0] == [*range(taps)]
    if whole and (b == 1 or taps == 1) and compute_dtype(dtype) is dtype:
        return x, []
    size = images * len(table) * channels.features * taps
    rows = Buffer(size * compute_dtype(dtype).itemsize, "pixels")
    words: dict[str, Word] = {
        "x": x,
        "out": rows,
        "table": Table(tuple(i * b if i >= 0 else -1 for row in table for i in row)),
        "images": images,
        "pixels": len(table),
        "taps": taps,
        "x_image": channels.features * channels.positions,
        **channels.words,
    }
    kernel = PixelGather(dtype)
    step = Step(kernel, arranged(kernel.words, words), (rows,), kernel.name, single=size < SMALL)
    return rows, [step]


def _outputs(
    spec: ConvSpec, y: Buffer, y_block: int, operands: Sequence[Buffer]
) -> dict[str, Word]:
    """The words of what is stored."""
    pixels = prod(t.out_size for t in spec.windows)
    words: dict[str, Word] = {
        "y": y,
        "images": spec.batch,
        "features": spec.out_features,
        "pixels": pixels,
        "y_image": spec.out_features * pixels,
        "y_plane": y_block * pixels,
    }
    return words | {f"operand{i}": buffer for i, buffer in enumerate(operands)}


def _tile(target: Target, columns: int) -> tuple[int, int]:
    """(rows, columns) such that sums, a column's operand each and a row's fit the registers."""
    columns = min(4 if target.registers == 32 else 3, columns)
    free = target.registers - 3
    return min(8, (free - columns) // columns), columns


def _divisor(n: int, most: int) -> int:
    return max(d for d in range(1, most + 1) if n % d == 0)


def small_conv(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    x: Buffer,
    x_block: int,
    w: View,
    y: Buffer,
    y_block: int,
    epilogue: Epilogue | None = None,
    operands: Sequence[Buffer] = (),
) -> list[Step]:
    """y[N, K/y_block, *O, y_block] = epilogue(conv(x[N, C/x_block, *I, x_block], w)).

    Args:
        target, spec, dtype, x_block, y_block: as `small_supports` accepts them.
        x, y: dense buffers.
        w: over [1, K, C, *W], any strides; no copy is made where (C, *W) or (K, *W) are dense.
        epilogue, operands: what is done before y is stored, and with what.
    """
    table = _meetings(spec)
    _, k, c, *taps = spec.rhs_shape
    _, k_step, c_step, *steps = w.strides
    live = [s for n, s in zip((c, *taps), (c_step, *steps), strict=True) if n > 1]
    by_features = [s for n, s in zip((k, *taps), (k_step, *steps), strict=True) if n > 1]
    dense = [s for n, s in zip((c, *taps), dense_strides((c, *taps)), strict=True) if n > 1]
    of_k = [s for n, s in zip((k, *taps), dense_strides((k, *taps)), strict=True) if n > 1]
    if live != dense and by_features == of_k:
        return _by_rows(target, spec, dtype, x, x_block, w, y, y_block, table, epilogue, operands)
    packing: list[Step] = []
    if live != dense:
        strides = dense_strides(spec.rhs_shape)
        copy = View(Buffer(prod(spec.rhs_shape) * dtype.itemsize, "weights"), 0, strides)
        packing = copy_step(spec.rhs_shape, Operand(dtype, w), Operand(dtype, copy))
        w, k_step = copy, strides[1]
    positions = prod(t.in_size for t in spec.windows)
    channels = _Channels(c, x_block, positions)
    rows, gather = _gathered(dtype, spec.batch, channels, x, table)
    height, width = _tile(target, spec.batch * len(table))
    padded = any(-1 in row for row in table)
    kernel = RowDots(dtype, height, width, padded, y_block, epilogue)
    words: dict[str, Word] = {
        "x": rows,
        "w": At(w.buffer, w.offset * dtype.itemsize),
        "depth": c * prod(taps),
        "w_feature": k_step,
        "source": x,
        "table": Table(tuple(i * x_block if i >= 0 else -1 for row in table for i in row)),
        "taps": prod(taps),
        "x_image": c * positions,
        **channels.words,
        **_outputs(spec, y, y_block, operands),
    }
    step = Step(
        kernel, arranged(kernel.words, words), (y,), kernel.name, spec.macs, spec.macs < SMALL
    )  # fmt: skip
    return [*packing, *gather, step]


def _by_rows(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    x: Buffer,
    x_block: int,
    w: View,
    y: Buffer,
    y_block: int,
    table: list[list[int]],
    epilogue: Epilogue | None,
    operands: Sequence[Buffer],
) -> list[Step]:
    """The same for weights whose features and taps are side by side."""
    computed = compute_dtype(dtype)
    lanes = target.lanes(computed.bits)
    positions, taps = prod(t.in_size for t in spec.windows), len(table[0])
    each = [[i] for i in range(positions)]
    channels = _Channels(spec.in_features, x_block, positions)
    rows, steps = _gathered(dtype, spec.batch, channels, x, each)
    count, width = spec.batch * positions, spec.out_features * taps
    pitch = -(-width // lanes) * lanes
    z = Buffer(count * pitch * computed.itemsize, "products of taps")
    columns = _divisor(count, 4 if target.registers == 32 else 2)
    height = _divisor(spec.in_features, 16 // columns if target.registers == 32 else 4)
    chunk = max(1, min(CHUNK // (count * target.vector_bytes), pitch // lanes // PIECES)) * lanes
    sums = RowSums(dtype, height, columns)
    words: dict[str, Word] = {
        "g": rows,
        "w": At(w.buffer, w.offset * dtype.itemsize),
        "z": z,
        "count": count,
        "depth": spec.in_features,
        "width": width,
        "pitch": pitch,
        "w_row": w.strides[2],
        "chunk": chunk,
    }
    macs = count * spec.in_features * width
    steps.append(Step(sums, arranged(sums.words, words), (z,), sums.name, macs, macs < SMALL))
    starts, places = [0], []
    for row in table:
        places += [i * pitch + t for t, i in enumerate(row) if i >= 0]
        starts.append(len(places))
    scatter = PixelScatter(dtype, y_block, epilogue)
    words = {
        "z": z,
        "starts": Table(tuple(starts)),
        "places": Table(tuple(places)),
        "z_image": positions * pitch,
        "taps": taps,
        **_outputs(spec, y, y_block, operands),
    }
    small = count * width < SMALL
    steps.append(
        Step(scatter, arranged(scatter.words, words), (y,), scatter.name, single=small)
    )  # fmt: skip
    return steps


def small_weight_gradient(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    x: Buffer,
    x_block: int,
    g: Buffer,
    g_block: int,
    dw: View,
) -> list[Step]:
    """dw[1, K, C, *W] from x[N, C/x_block, *I, x_block] and g[N, K/g_block, *O, g_block].

    Args:
        target, spec, dtype, x_block, g_block: of the forward pass, as `small_weight_supports`
            accepts them.
        dw: dense.
    """
    table = _meetings(spec)
    pixels, depth = len(table), spec.in_features * len(table[0])
    ins = prod(t.in_size for t in spec.windows)
    rows, steps = _gathered(
        dtype, spec.batch, _Channels(spec.in_features, x_block, ins), x, table
    )  # fmt: skip
    channels = _Channels(spec.out_features, g_block, pixels)
    features, more = _gathered(dtype, spec.batch, channels, g, [[i] for i in range(pixels)])
    nbytes = prod(spec.rhs_shape) * dtype.itemsize
    aligned = depth * dtype.itemsize % target.vector_bytes == 0 and compute_dtype(dtype) is dtype
    height, vectors = (6, 4) if target.registers == 32 else (4, 2)
    padded = any(-1 in row for row in table)
    kernel = RowProducts(dtype, height, vectors, padded, nbytes >= STREAM and aligned)
    words: dict[str, Word] = {
        "g": features,
        "x": rows,
        "dw": At(dw.buffer, dw.offset * dtype.itemsize),
        "count": spec.batch * pixels,
        "features": spec.out_features,
        "depth": depth,
        "dw_feature": dw.strides[1],
        "table": Table(tuple(i for row in table for i in row) if padded else ()),
        "pixels": pixels,
        "taps": len(table[0]),
    }
    step = Step(
        kernel, arranged(kernel.words, words), (dw.buffer,), kernel.name, spec.macs,
        spec.macs < SMALL,
    )  # fmt: skip
    return [*steps, *more, step]
