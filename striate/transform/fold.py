"""Long strides become channels: a convolution of n outputs (or inputs) a step is one of n times the
channels, n times shorter.

On an axis where one index has a coefficient n and the two others have 1 or -1,

    n * i  =  s * o + b * k - p        or        i  =  s * n * o + b * k - p,

the kernel is cut into k = n * j + m. In the first case, a transposed convolution, s * o = n * q -
b * m + p then, so the remainders m are features of outputs q = i - b * j. In the second, a strided
one, i = n * h + b * m - p, and they are channels of inputs h = s * o + b * j. (The sub-pixel
convolution of Shi et al., https://arxiv.org/abs/1609.05158, and its transpose.)

Folding is exact: an axis is left alone where zeros would have to be filled in. It pays where there
are few channels, which leave lanes of vectors empty, or so many steps that each would be a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from striate.ir.graph import Graph, Node, apply, made_for, remade
from striate.ops.conv import CONV, ConvSpec
from striate.ops.movement import flip, reshape, slice_axes, transpose
from striate.ops.window import Window

GAIN = 1.3  # lanes in use, per lane in use before
STEPS = 64  # more kernels than this are too many
Lanes = Callable[[int], int]  # bits of an element -> lanes of a vector


@dataclass(frozen=True, slots=True)
class Folded:
    """An axis after folding.

    Attributes:
        window: of the shorter axis.
        steps: n
        first: the position of the unfolded input or output that the first element is.
        flipped: whether the remainders run backwards.
    """

    window: Window
    steps: int
    first: int
    flipped: bool


def fold_outputs(window: Window) -> Folded | None:
    """A transposed axis whose outputs are folded; None if it is none, or not exactly so."""
    t = window.canonical()
    n, s, b = t.lhs_dilation, t.stride, t.rhs_dilation
    if n == 1 or abs(s) != 1 or abs(b) != 1 or not t.kernel_size or t.kernel_size % n:
        return None
    ends = [s * o - t.pad_lo for o in (0, t.out_size - 1)]  # n * q - b * m
    low, high = (-(-u // n) if b > 0 else u // n for u in (min(ends), max(ends)))
    folded = Window(t.in_size, high - low + 1, t.kernel_size // n, rhs_dilation=b, pad_lo=-low)
    begin = n * low - (n - 1 if b > 0 else 0)
    return Folded(folded, n, min(ends) - begin, b > 0)


def fold_inputs(window: Window) -> Folded | None:
    """A strided axis whose inputs are folded, those that no output sees left out; None if it is
    none, or not exactly so.
    """
    t = window.canonical()
    n, b = abs(t.stride), t.rhs_dilation
    if t.lhs_dilation != 1 or n == 1 or abs(b) != 1 or not t.kernel_size or t.kernel_size % n:
        return None
    first, last = t.reads()
    if first < 0 or last >= t.in_size:
        return None
    sign = t.stride // n
    low = min(0, sign * (t.out_size - 1)) + min(0, b * (t.kernel_size // n - 1))
    size = (last + 1 - first) // n
    folded = Window(
        size, t.out_size, t.kernel_size // n, stride=sign, rhs_dilation=b, pad_lo=low
    )  # fmt: skip
    return Folded(folded, n, first, b < 0)


def _use(channels: int, lanes: int) -> float:
    """The share of the lanes that channels fill."""
    return channels / (-(-channels // lanes) * lanes)


def _pays(channels: int, steps: int, lanes: int) -> bool:
    """Whether lanes are better used with more channels."""
    return _use(channels * steps, lanes) >= GAIN * _use(channels, lanes)


def _split(x: Node, axis: int, steps: int, channel: int, flipped: bool) -> Node:
    """[.., C, .., J * n, ..] -> [.., C * n, .., J, ..]: the remainders join the axis `channel`."""
    shape = x.shape
    cut = reshape(x, (*shape[:axis], shape[axis] // steps, steps, *shape[axis + 1 :]))
    if flipped:
        cut = flip(cut, axis + 1)
    rest = [a for a in range(cut.ndim) if a != axis + 1]
    moved = transpose(cut, (*rest[: channel + 1], axis + 1, *rest[channel + 1 :]))
    joined = list(moved.shape)
    joined[channel : channel + 2] = [joined[channel] * steps]
    return reshape(moved, joined)


def _join(y: Node, axis: int, steps: int, channel: int) -> Node:
    """[.., K * n, .., Q, ..] -> [.., K, .., Q * n, ..]"""
    shape = list(y.shape)
    shape[channel : channel + 1] = [shape[channel] // steps, steps]
    cut = reshape(y, shape)
    rest = [a for a in range(cut.ndim) if a != channel + 1]
    moved = transpose(cut, (*rest[: axis + 1], channel + 1, *rest[axis + 1 :]))
    joined = list(moved.shape)
    joined[axis : axis + 2] = [joined[axis] * steps]
    return reshape(moved, joined)


def _part(x: Node, axis: int, start: int, size: int) -> Node:
    """Elements [start, start + size) of an axis."""
    if (start, size) == (0, x.shape[axis]):
        return x
    return slice_axes(
        x, [slice(start, start + size) if a == axis else slice(None) for a in range(x.ndim)]
    )


def _with(spec: ConvSpec, d: int, folded: Folded, c: int = 1, k: int = 1) -> ConvSpec:
    """The convolution with axis d folded, and c and k times the channels."""
    windows = (*spec.windows[:d], folded.window, *spec.windows[d + 1 :])
    c, k = spec.in_features * c, spec.out_features * k
    return replace(spec, in_features=c, out_features=k, windows=windows)


def folded_conv(x: Node, w: Node, spec: ConvSpec, lanes: int) -> Node:
    """CONV of x [N, 1, C, *I] and w [1, K, C, *W], those axes folded for which it pays."""
    for d, window in enumerate(spec.windows):
        axis = 3 + d
        f = fold_outputs(window)
        if f and (f.steps > STEPS or _pays(spec.out_features, f.steps, lanes)):
            taps = _split(w, axis, f.steps, 1, f.flipped)
            y = folded_conv(x, taps, _with(spec, d, f, k=f.steps), lanes)
            y = _part(_join(y, axis, f.steps, 2), axis, f.first, window.out_size)
            return flip(y, axis) if window.canonical().stride < 0 else y
        f = fold_inputs(window)
        short = f and f.window.kernel_size <= f.window.out_size  # else it sums over outputs
        if f and short and _pays(spec.in_features, f.steps, lanes):
            seen = _part(x, axis, f.first, f.window.in_size * f.steps)
            lhs = _split(seen, axis, f.steps, 2, False)
            taps = _split(w, axis, f.steps, 2, f.flipped)
            return folded_conv(lhs, taps, _with(spec, d, f, c=f.steps), lanes)
    return apply(CONV, (x, w), spec)


def fold_strides(graph: Graph, lanes: Lanes) -> Graph:
    """The graph with long strides of few channels folded into these."""
    new: dict[Node, Node] = {x: x for x in graph.inputs}
    for n in graph.nodes():
        if n in new:
            continue
        inputs = tuple(new[x] for x in n.inputs)
        spec = n.attrs if n.op is CONV else None
        sizes = (*n.shape, *(s for x in n.inputs for s in x.shape))
        if spec is None or spec.groups != 1 or 0 in sizes or not n.type.dtype.is_floating:
            new[n] = remade(n, inputs)
            continue
        x, w = inputs
        with made_for(n.origin):
            new[n] = folded_conv(x, w, spec, lanes(max(32, n.type.dtype.bits)))
    return Graph(graph.inputs, tuple(new[y] for y in graph.outputs))
