"""Convolutions with few channels a group: which there are kernels for, and their steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from striate.codegen.boxes import Operand, address, copy_step, fill_step, sum_step
from striate.codegen.epilogue import Epilogue
from striate.codegen.expression import Expression
from striate.codegen.kernel import STREAM, Buffer, Step, View, Word
from striate.codegen.lane_conv import LaneConv
from striate.codegen.lane_weight_gradient import LaneWeightGradient
from striate.codegen.phases import Dense
from striate.dtype import DType, bfloat16, compute_dtype
from striate.ops.conv import ConvSpec
from striate.ops.window import Window
from striate.target import Target
from striate.transform.views import dense_strides

FEW = 8  # channels of a group, up to which they are lanes
UNROLLED = 11  # taps of the last axis
PHASES = 16
PIECES = 32  # of a weight gradient: enough work for a team
LONG = 1 << 13  # terms of a sum, above which it is made of parts


@dataclass(frozen=True)
class Layout:
    """How channels stand in vectors.

    Attributes:
        lanes: output channels of a vector, a multiple of K.
        x_lanes: input channels that they come from.
    """

    lanes: int
    x_lanes: int


def layout(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int
) -> Layout | None:
    """The widest vectors that hold whole groups and lie in one block of x and of y, or None."""
    c, k = spec.in_features, spec.out_features
    if not 0 < c <= FEW or not 0 < k <= FEW:
        return None
    full = target.lanes(32 if dtype is bfloat16 else dtype.bits)
    whole = spec.groups * c % x_block == 0 and spec.groups * k % y_block == 0
    for lanes in range(full, 1, -1):
        x_lanes = lanes // k * c
        if lanes % k or lanes & (lanes - 1) or x_lanes & (x_lanes - 1) or x_lanes > full:
            continue
        if whole and x_block % x_lanes == y_block % lanes == 0:
            return Layout(lanes, x_lanes)
    return None


def _phases(window: Window) -> list[Dense]:
    """The phases of an axis, those without taps included; they tile its outputs."""
    found = []
    for f in window.phases():
        if f.window is not None:
            found.append(Dense.of(f))
        else:
            outputs = len(range(*f.out.indices(window.out_size)))
            found.append(Dense(f.out.start, f.out.step or 1, outputs, 0, 0, 0, 1, 1, 0))
    return found


def grouped_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int
) -> bool:
    """Whether there is a kernel: float, spatial axes, at most 8 channels a group in and out, whole
    groups in the blocks, no negative stride, few phases.
    """
    if not dtype.is_floating or not spec.windows:
        return False
    if layout(target, spec, dtype, x_block, y_block) is None:
        return False
    if prod(min(abs(t.lhs_dilation), t.out_size) for t in spec.windows) > PHASES:
        return False
    return all(f.stride > 0 for t in spec.windows for f in _phases(t))


def _longest(target: Target, weights: int) -> int:
    """Outputs of the longest tile: registers hold the sums and, where they take not more than half,
    the weights of a tap row.
    """
    free = target.registers - 4
    free -= weights if weights <= free // 2 else 2
    return max(1, min(free, target.registers // 2 - 2))


def _even(n: int, most: int) -> int:
    """The size of the larger pieces of n things, in as few and even pieces as may be."""
    return -(-n // -(-n // most))


def _unrolled(taps: int) -> int:
    """Taps that are unrolled: all if they are few, else a divisor."""
    if taps <= UNROLLED:
        return max(1, taps)
    return next(d for d in range(UNROLLED, 0, -1) if taps % d == 0)


def _edges(kernel: LaneConv, f: Dense, inputs: int) -> tuple[tuple[int, int], ...] | None:
    """The columns inside of the image of the first and the last tile, if all others are whole."""
    span, cols = kernel.span, kernel.cols

    def seen(o: int) -> tuple[int, int]:
        i = o // kernel.lhs[0] * f.stride - f.pad
        return min(max(0, -i), span), max(0, min(span, inputs - i))

    last = f.outputs - cols
    for o in {cols, (last - 1) // cols * cols} if last > cols else ():
        if seen(o) != (0, span):
            return None
    return (seen(0), seen(last)) if last else (seen(0),)


def _joined(window: Window, longest: int) -> tuple[Dense, tuple[int, int]] | None:
    """All phases of a last axis as one, with `LaneConv.lhs`, where tiles hold whole cycles, or one
    tile, of at most `longest` outputs, is the line.
    """
    t = window.canonical()
    a, last = t.lhs_dilation, t.kernel_size - 1
    if a == 1 or t.stride < 0 or not 0 <= last < UNROLLED:
        return None
    if t.out_size > longest and (t.out_size % a or longest < a):
        return None
    tap, step, dilation, pad = 0, 1, t.rhs_dilation, t.pad_lo
    if dilation < 0:
        tap, step, dilation, pad = last, -1, -dilation, pad - dilation * last
    pad, m = divmod(pad, a)
    dense = Dense(0, 1, t.out_size, tap, step, t.kernel_size, t.stride, dilation, pad)
    return dense, (a, m)


def line_strides(sizes: Sequence[int], block: int) -> list[int]:
    """Elements between neighbours along each spatial axis of a blocked layout."""
    return [n * block for n in dense_strides(sizes)]


def axis_words(
    phases: Sequence[Dense], windows: Sequence[Window], x: list[int], w: list[int], y: list[int]
) -> Iterator[Word]:
    """The words of `lane_conv.Axis`, for strides per axis of x, of the taps, and of all outputs."""
    for f, t, xs, ws, ys in zip(phases, windows, x, w, y, strict=True):
        yield from (t.in_size, f.outputs, f.taps, f.stride, f.dilation, f.pad)
        yield from (xs, ws, f.step * ys)


def is_uniform(shape: Sequence[int], view: View) -> bool:
    """Whether all elements of a view are one."""
    return all(n == 1 or s == 0 for n, s in zip(shape, view.strides, strict=True))


def pack_lanes(
    spec: ConvSpec, dtype: DType, w: View, lanes: int, phases: Sequence[Dense]
) -> tuple[View, list[Step]]:
    """The weights of a phase of [G, K, C, *W], at any strides, as a new buffer
    [G*K/lanes, *taps, C, lanes].
    """
    k = spec.out_features
    groups = lanes // k
    wg, wk, wc, *ws = w.strides
    shape = (spec.groups // groups, *(f.taps for f in phases), spec.in_features, groups, k)
    packed = View(Buffer(prod(shape) * dtype.itemsize, "packed weights"), 0, dense_strides(shape))
    first = w.offset + sum(f.tap_first * s for f, s in zip(phases, ws, strict=True))
    steps = [f.tap_step * s for f, s in zip(phases, ws, strict=True)]
    source = View(w.buffer, first, (groups * wg, *steps, wc, wg, wk))
    return packed, copy_step(shape, Operand(dtype, source), Operand(dtype, packed))


def grouped_conv(
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
    """y[N, G*K/y_block, *O, y_block] = epilogue(conv(x[N, G*C/x_block, *I, x_block], w)).

    Args:
        target, spec, dtype, x_block, y_block: as `grouped_supports` accepts them.
        x, y: dense buffers.
        w: over [G, K, C, *W], any strides; one number for all (strides of 0) is fastest.
        epilogue, operands: what is done before y is stored, and with what.
    """
    lay = layout(target, spec, dtype, x_block, y_block)
    assert lay is not None
    if 0 in spec.out_shape:
        return []
    result = epilogue.result if epilogue else dtype
    uniform = is_uniform(spec.rhs_shape, w)
    steps: list[Step] = []
    inputs, outputs = ([*s[3:]] for s in (spec.lhs_shape, spec.out_shape))
    xs, ys = line_strides(inputs, x_block), line_strides(outputs, y_block)
    x_plane, y_plane = prod(inputs), prod(outputs)
    moved = prod(spec.lhs_shape) * dtype.itemsize + prod(spec.out_shape) * result.itemsize
    groups = spec.in_features, spec.out_features
    joined = _joined(spec.windows[-1], _longest(target, spec.windows[-1].kernel_size * groups[0]))
    last_phases = [joined[0]] if joined else _phases(spec.windows[-1])
    for phases in product(*(_phases(t) for t in spec.windows[:-1]), last_phases):
        last = phases[-1]
        taps = _unrolled(last.taps)
        lhs = joined[1] if joined else (1, 0)
        cols = _even(max(1, last.outputs), _longest(target, taps * groups[0]))
        if joined and cols < last.outputs:  # whole cycles
            cols = max(lhs[0], cols // lhs[0] * lhs[0])
        kernel = LaneConv(
            dtype=dtype,
            rank=len(phases),
            lanes=lay.lanes,
            blocks=(x_block, y_block),
            groups=groups,
            cols=cols,
            taps=taps,
            stride=last.stride,
            dilation=last.dilation,
            step=last.step,
            lhs=lhs,
            dilated=any(f.dilation != 1 for f in phases[:-1]),
            uniform=uniform,
            stream=moved >= STREAM,
            epilogue=epilogue,
        )
        if len(phases) > 1 and taps == last.taps:
            kernel = replace(kernel, edges=_edges(kernel, last, inputs[-1]))
        packing: list[Step] = []
        weights = w
        if not uniform:
            weights, packing = pack_lanes(spec, dtype, w, lay.lanes, phases)
        vector, *ws = weights.strides[: 1 + len(phases)]
        first = sum(f.first * s for f, s in zip(phases, ys, strict=True))
        words: list[Word] = [
            x,
            address(weights, dtype),
            y,
            spec.batch,
            spec.groups * groups[1] // lay.lanes,
        ]
        words += [spec.groups * groups[0] * x_plane, spec.groups * groups[1] * y_plane]
        words += [x_plane * x_block, y_plane * y_block, vector, first]
        words += [*axis_words(phases, spec.windows, xs, ws, ys), *operands]
        macs = prod(f.outputs * f.taps for f in phases) * spec.batch * spec.groups * prod(groups)
        macs //= lhs[0]
        single = macs < 1 << 14
        steps += [*packing, Step(kernel, tuple(words), (y,), kernel.name, macs, single)]
    return steps


def _gradient_edges(f: Dense, inputs: int, cols: int) -> tuple[tuple[int, int, int], ...] | None:
    """The first and the last tile of a line, if all others are whole."""

    def tile(o: int) -> tuple[int, int, int]:
        count, i = min(cols, f.outputs - o), o * f.stride - f.pad
        span = (count - 1) * f.stride + (f.taps - 1) * f.dilation + 1
        return count, min(max(0, -i), span), max(0, min(span, inputs - i))

    last = (f.outputs - 1) // cols * cols
    whole = cols, 0, (cols - 1) * f.stride + (f.taps - 1) * f.dilation + 1
    for o in {cols, last - cols} if last > cols else ():
        if tile(o) != whole:
            return None
    return (tile(0), tile(last)) if last else (tile(0),)


def grouped_weight_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, g_block: int
) -> bool:
    """Whether there is a weight gradient kernel for a forward convolution: as `grouped_supports`,
    without `lhs_dilation`.
    """
    if not grouped_supports(target, spec, dtype, x_block, g_block):
        return False
    phases = [_phases(t) for t in spec.windows]
    return all(
        len(fs) == 1 and fs[0].taps == t.kernel_size
        for fs, t in zip(phases, spec.windows, strict=True)
    )


def grouped_weight_gradient(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    x: Buffer,
    x_block: int,
    g: Buffer,
    g_block: int,
    dw: View,
) -> list[Step]:
    """dw[G, K, C, *W] from x[N, G*C/x_block, *I, x_block] and g[N, G*K/g_block, *O, g_block].

    Args:
        target, spec, dtype, x_block, g_block: of the forward pass, as `grouped_weight_supports`
            accepts them.
        dw: any strides.
    """
    lay = layout(target, spec, dtype, x_block, g_block)
    assert lay is not None
    if 0 in spec.rhs_shape:
        return []
    if 0 in spec.lhs_shape or 0 in spec.out_shape:
        return fill_step(spec.rhs_shape, Operand(dtype, dw), 0)
    phases = [Dense.of(f) for t in spec.windows for f in t.live_phases()]
    c, k = spec.in_features, spec.out_features
    rank, last = len(phases), phases[-1]
    free = target.registers - 7
    taps = next(d for d in range(min(UNROLLED, last.taps), 0, -1)
                if last.taps % d == 0 and (d * c <= free or d == 1))  # fmt: skip
    rows = _even(phases[-2].taps, max(1, free // (taps * c))) if rank > 1 else 1
    most = max(1, min(target.registers // 2 - 2, target.registers - 3 - rows * taps * c))
    cols = _even(last.outputs, most)
    inputs, outputs = ([*s[3:]] for s in (spec.lhs_shape, spec.out_shape))
    kernel = LaneWeightGradient(
        dtype=dtype,
        rank=rank,
        lanes=lay.lanes,
        blocks=(x_block, g_block),
        groups=(c, k),
        rows=rows,
        taps=taps,
        cols=cols,
        stride=last.stride,
        dilation=last.dilation,
        edges=_gradient_edges(last, inputs[-1], cols) if taps == last.taps else None,
    )
    vectors = spec.groups * k // lay.lanes
    lines = spec.batch * (outputs[0] if rank > 1 else 1)
    terms = spec.batch * prod(outputs)
    pieces = vectors * prod(f.taps for f in phases) // (rows * taps)
    parts = max(1, min(lines, max(-(-PIECES // pieces), terms // LONG)))
    sums = compute_dtype(dtype)
    shape = (vectors, *(f.taps for f in phases), c, lay.lanes // k, k)
    strides = dense_strides(shape)
    partial = Buffer(parts * prod(shape) * sums.itemsize, "partial sums")
    words: list[Word] = [x, g, partial, spec.batch, vectors, parts]
    words += [spec.groups * c * prod(inputs), spec.groups * k * prod(outputs)]
    words += [prod(inputs) * x_block, prod(outputs) * g_block, strides[0], prod(shape)]
    xs, gs = line_strides(inputs, x_block), line_strides(outputs, g_block)
    words += axis_words(phases, spec.windows, xs, [*strides[1 : 1 + rank]], gs)
    step = Step(kernel, tuple(words), (partial,), kernel.name, spec.macs, spec.macs < 1 << 14)
    wg, wk, wc, *ws = dw.strides
    first = dw.offset + sum(f.tap_first * s for f, s in zip(phases, ws, strict=True))
    back = [f.tap_step * s for f, s in zip(phases, ws, strict=True)]
    to = View(dw.buffer, first, (0, lay.lanes // k * wg, *back, wc, wg, wk))
    whole = (parts, *shape)
    added = sum_step(
        whole,
        (0,),
        (Operand(sums, View(partial, 0, dense_strides(whole))),),
        Expression((sums,), (), (0,)),
        (Operand(dtype, to),),
        "sum of parts",
    )
    return [step, *added]
