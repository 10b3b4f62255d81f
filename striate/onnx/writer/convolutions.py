"""Our convolution primitive as ONNX's Conv, ConvTranspose, AveragePool, Gemm and MatMul.

Each axis of the primitive is one relation, lhs_dilation*i = stride*o + rhs_dilation*k - pad_lo.
Reading an axis of the filter or of the output backwards makes its coefficient positive:

    k = K-1-k':  rhs_dilation*k - pad_lo = -rhs_dilation*k' - (pad_lo - rhs_dilation*(K-1))

Then an axis is of a Conv where lhs_dilation is 1, and with stride 1 and a backwards filter of a
ConvTranspose, which scatters: o = lhs_dilation*i + |rhs_dilation|*k' - pad.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from striate.ir.graph import Node
from striate.ir.types import TensorType
from striate.onnx.writer.dialect import base, is_operator, operator, reshaped, transposed
from striate.ops.conv import ConvSpec
from striate.ops.elementwise import multiply
from striate.ops.movement import BROADCAST_TO, FLIP, RESHAPE, TRANSPOSE, flip, pad
from striate.ops.window import Window

CONVOLUTIONS = ("Conv", "ConvTranspose")


def convolution(spec: ConvSpec, x: Node, w: Node) -> Node:
    """x[N, G, C, *I], w[G, K, C, *W] -> [N, G, K, *O], by the operator that fits."""
    if not spec.windows:
        return _product(spec, x, w)
    windows, turned, backwards = [], [], []
    for axis, t in enumerate(spec.windows, start=3):
        if t.lhs_dilation < 0:
            x = _flipped(x, (axis,))
        if t.rhs_dilation < 0:
            turned.append(axis)
        if t.stride < 0:
            backwards.append(axis)
        windows.append(_forwards(t))
    if 0 in (*spec.out_shape, *spec.lhs_shape, *spec.rhs_shape):
        w = _flipped(w, tuple(turned))
        return _flipped(_conv(replace(spec, windows=tuple(windows)), x, w), tuple(backwards))
    scatters = all(t.stride == 1 for t in windows) and (
        any(t.lhs_dilation > 1 for t in windows) or len(turned) == len(windows)
    )
    if scatters:
        axes = tuple(a for a in range(3, 3 + len(windows)) if a not in turned)
        y = _scatter(spec, tuple(map(_filter_backwards, windows)), x, _flipped(w, axes))
    else:
        w = _flipped(w, tuple(turned))
        gaps = [0, 0, 0, *(t.lhs_dilation - 1 for t in windows)]
        if any(gaps):
            x = pad(x, [(0, 0)] * x.ndim, interior=gaps)
            windows = [
                replace(t, lhs_dilation=1, in_size=n)
                for t, n in zip(windows, x.shape[3:], strict=True)
            ]
        y = _conv(replace(spec, windows=tuple(windows)), x, w)
    return _flipped(y, tuple(backwards))


def _forwards(t: Window) -> Window:
    """The same relation with positive coefficients: axes that were read backwards are not."""
    if t.stride < 0:  # o = O-1-o'
        t = replace(t, stride=-t.stride, pad_lo=t.pad_lo - t.stride * (t.out_size - 1))
    if t.rhs_dilation < 0:
        t = _filter_backwards(t)
    if t.lhs_dilation < 0:  # i = I-1-i'
        pad_lo = t.pad_lo + t.lhs_dilation * (t.in_size - 1)
        t = replace(t, lhs_dilation=-t.lhs_dilation, pad_lo=pad_lo)
    return t


def _filter_backwards(t: Window) -> Window:
    """The same relation with the taps counted from the end."""
    return replace(
        t,
        rhs_dilation=-t.rhs_dilation,
        pad_lo=t.pad_lo - t.rhs_dilation * (t.kernel_size - 1),
    )


def _flipped(x: Node, axes: tuple[int, ...]) -> Node:
    """`x` with some axes backwards; what is backwards already is turned back, through the views
    that keep its trailing axes.
    """
    if not axes:
        return x
    inner = base(x)
    shift = x.ndim - inner.ndim
    if inner.op is FLIP and {a + shift for a in inner.attrs} == set(axes):
        source = inner.inputs[0]
        if x.shape[min(axes) :] == source.shape[min(inner.attrs) :]:
            return reshaped(source, x.shape)
    if inner.op is TRANSPOSE and inner.inputs[0].op is FLIP and x is inner:
        axes_below = tuple(sorted(inner.attrs[a] for a in axes))
        if axes_below == inner.inputs[0].attrs:
            return transposed(inner.inputs[0].inputs[0], inner.attrs)
    return flip(x, axes)


# ---- Conv ----------------------------------------------------------------------------------


def placed(x: Node, windows: tuple[Window, ...], lead: int) -> tuple[Node, list[int]]:
    """(x, pads): the input, cropped where the windows leave some of it out, and ONNX's padding,
    first all `lo` and then all `hi`, with which it has `out_size` windows.
    """
    crops, lows, highs = [(0, 0)] * lead, [], []
    for t in windows:
        extent = (t.kernel_size - 1) * t.rhs_dilation + 1
        hi = (t.out_size - 1) * t.stride + extent - t.in_size - t.pad_lo
        room = -hi // t.stride if hi < 0 else 0  # windows more than there are outputs
        crops.append((min(0, t.pad_lo), hi if room else 0))
        lows.append(max(0, t.pad_lo))
        highs.append(max(0, hi))
    if any(crop != (0, 0) for crop in crops):
        x = pad(x, crops)
    return x, lows + highs


def _conv(spec: ConvSpec, x: Node, w: Node) -> Node:
    n, g, c = spec.lhs_shape[:3]
    k, windows = spec.out_features, spec.windows
    mean = _sum_of_windows(spec, x, w)
    if mean is not None:
        return mean
    flat, pads = placed(reshaped(x, (n, g * c, *spec.lhs_shape[3:])), windows, 2)
    filters = reshaped(w, (g * k, c, *spec.rhs_shape[3:]))
    out = x.type.with_shape((n, g * k, *spec.out_shape[3:]))
    y = operator(
        "Conv", [flat, filters], out,
        dilations=[t.rhs_dilation for t in windows], group=g,
        kernel_shape=list(spec.rhs_shape[3:]), pads=pads, strides=[t.stride for t in windows],
    )  # fmt: skip
    return reshaped(y, spec.out_shape)


def _sum_of_windows(spec: ConvSpec, x: Node, w: Node) -> Node | None:
    """A filter of ones on each channel is a mean times the size of the window."""
    windows = spec.windows
    if (spec.groups, spec.in_features, spec.out_features) != (1, 1, 1) or not all_ones(w):
        return None
    source = base(x)
    rank = len(windows)
    if source.ndim != rank + 2 or source.shape[2:] != x.shape[3:]:
        source = reshaped(x, (spec.batch, 1, *x.shape[3:]))
    flat, pads = placed(source, windows, 2)
    taps = [t.kernel_size for t in windows]
    if any(p >= k for p, k in zip(pads, taps * 2, strict=True)):
        return None  # runtimes want less padding than a window
    y = operator(
        "AveragePool", [flat], x.type.with_shape((*source.shape[:2], *spec.out_shape[3:])),
        count_include_pad=1, dilations=[t.rhs_dilation for t in windows], kernel_shape=taps,
        pads=pads, strides=[t.stride for t in windows],
    )  # fmt: skip
    return reshaped(multiply(y, float(prod(taps))), spec.out_shape)


def all_ones(w: Node) -> bool:
    """Whether a value is known to be ones."""
    while w.op in (BROADCAST_TO, RESHAPE, FLIP, TRANSPOSE) and w.data is None:
        w = w.inputs[0]
    return w.data is not None and w.data.size == 1 and bool((w.data == 1).all())


# ---- ConvTranspose -------------------------------------------------------------------------


def _scatter(spec: ConvSpec, windows: tuple[Window, ...], x: Node, w: Node) -> Node:
    """The windows have stride 1 and a negative rhs_dilation: lhs_dilation*i = o - d*k + pad."""
    n, g, c = spec.lhs_shape[:3]
    k = spec.out_features
    flat = reshaped(x, (n, g * c, *spec.lhs_shape[3:]))
    order = (0, 2, 1, *range(3, w.ndim))
    filters = reshaped(transposed(w, order), (g * c, k, *spec.rhs_shape[3:]))
    lows, highs, extra, after, sizes = [], [], [], [(0, 0), (0, 0)], []
    for t in windows:
        d = -t.rhs_dilation
        whole = t.lhs_dilation * (t.in_size - 1) + d * (t.kernel_size - 1) + 1
        lo = -t.pad_lo  # o = lhs_dilation*i + d*k - lo
        hi = whole - lo - t.out_size
        output_padding = -hi if hi < 0 and -hi < t.lhs_dilation else 0
        lows.append(max(0, lo))
        highs.append(max(0, hi))
        extra.append(output_padding)
        after.append((max(0, -lo), max(0, -hi) - output_padding))
        sizes.append(whole - lows[-1] - highs[-1] + output_padding)
    y = operator(
        "ConvTranspose", [flat, filters], x.type.with_shape((n, g * k, *sizes)),
        dilations=[-t.rhs_dilation for t in windows], group=g,
        kernel_shape=list(spec.rhs_shape[3:]), output_padding=extra, pads=lows + highs,
        strides=[t.lhs_dilation for t in windows],
    )  # fmt: skip
    return reshaped(pad(y, after), spec.out_shape)


# ---- Gemm and MatMul -----------------------------------------------------------------------


def _product(spec: ConvSpec, x: Node, w: Node) -> Node:
    """x[M, G, C], w[G, K, C] -> [M, G, K]: without spatial axes it is a matrix product."""
    m, g, c = spec.lhs_shape
    k = spec.out_features
    dtype = x.type.dtype
    if g != 1:
        out = TensorType((g, m, k), dtype)
        y = operator("MatMul", [transposed(x, (1, 0, 2)), transposed(w, (0, 2, 1))], out)
        return transposed(y, (1, 0, 2))
    left, right = reshaped(x, (m, c)), reshaped(w, (k, c))
    out = TensorType((m, k), dtype)
    swapped = right.op is TRANSPOSE
    if swapped:
        right = right.inputs[0]
    if dtype.is_floating and not swapped:
        y = operator("Gemm", [left, right], out, transB=1)
    else:
        y = operator("MatMul", [left, right if swapped else transposed(right, (1, 0))], out)
    return reshaped(y, spec.out_shape)


# ---- bias ----------------------------------------------------------------------------------


def with_bias(y: Node, b: Node) -> Node | None:
    """y + b where y is a product or a convolution without bias and b is one number a feature."""
    made, source = base(y), b.inputs[0] if b.op is BROADCAST_TO else b
    if (
        b.data is not None
        or source.op is BROADCAST_TO
        or not is_operator(made, *CONVOLUTIONS, "Gemm", "MatMul")
    ):
        return None
    if len(made.inputs) != 2 or made.type.dtype.kind != "f":
        return None
    dense = made.attrs.name in ("Gemm", "MatMul")
    axis = y.ndim - 1 if dense else 1
    features = made.shape[-1] if dense else made.shape[1]
    if made.ndim != 2 if dense else y.shape != made.shape:
        return None
    aligned = (*(1,) * (y.ndim - source.ndim), *source.shape)
    wanted = tuple(features if a == axis else 1 for a in range(y.ndim))
    if y.shape[axis] != features or aligned != wanted:
        return None
    attrs = made.attrs
    if attrs.name == "MatMul":
        attrs = replace(attrs, name="Gemm")
    vector = reshaped(source, (features,))
    made = operator(attrs.name, [*made.inputs, vector], made.type, **dict(attrs.attributes))
    return reshaped(made, y.shape)
