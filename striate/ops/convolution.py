"""Convolution as people say it: PyTorch's layouts, strings for padding, channels first or last.

Here every way to say a convolution is normalised, once, to the primitive of `ops.conv`:

    st.conv:            x [N, C, *I], w [K, C/groups, *W] -> [N, K, *O]
    st.conv_transpose:  x [N, C, *I], w [C, K/groups, *W] -> [N, K, *O], the exact adjoint of conv
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from striate.dtype import promote
from striate.errors import DTypeError, RangeError, ShapeError
from striate.ir.arguments import LIMIT, as_integer, integer, integers, pair
from striate.ir.graph import Node
from striate.ops.conv import ConvSpec, check_dtypes, conv, conv_lhs_adjoint
from striate.ops.elementwise import add, cast
from striate.ops.movement import reshape, transpose
from striate.ops.operand import Operand, as_node
from striate.ops.padding import PadMode, fold_axis, pad_axis
from striate.ops.window import Window

Ints = int | Sequence[int]
PaddingString = Literal["valid", "same", "same_lower", "causal"]
PaddingLike = int | Sequence[int] | Sequence[tuple[int, int]] | PaddingString


# ---- arguments -----------------------------------------------------------------------------


def per_axis(
    op: str, name: str, value: Ints, rank: int, least: int | None = None
) -> tuple[int, ...]:
    """One integer per spatial axis.

    Raises:
        ShapeError: the number of values is not the rank, or a value is too small.
        DTypeError: a value is not an integer.
        RangeError: a value is beyond 64-bit signed integers.
    """
    number = as_integer(value)
    if number is not None:
        return (integer(op, name, number, least),) * rank
    values = integers(op, name, value, least)
    if len(values) == 1:
        return values * rank
    if len(values) != rank:
        raise ShapeError(f"{op}: {name} has {len(values)} values for {rank} spatial axes: {value}")
    return values


def pads_of(
    op: str,
    padding: PaddingLike,
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> list[tuple[int, int]]:
    """(lo, hi) per axis of any way to say a padding.

    Raises:
        ShapeError: an unknown string, or the wrong number of values.
        DTypeError: a value is not an integer.
        RangeError: a value is beyond 64-bit signed integers.
    """
    rank = len(sizes)
    if isinstance(padding, str):
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        if padding == "valid":
            return [(0, 0)] * rank
        if padding == "causal":
            return [(e - 1, 0) for e in extents]
        if padding not in ("same", "same_lower"):
            raise ShapeError(
                f"{op}: padding {padding!r} is not 'valid', 'same', 'same_lower' or 'causal'"
            )
        pads = []
        for n, e, s in zip(sizes, extents, stride, strict=True):
            total = max(0, (-(-n // s) - 1) * s + e - n)
            small, large = total // 2, total - total // 2
            pads.append((small, large) if padding == "same" else (large, small))
        return pads
    if isinstance(padding, Iterable) and as_integer(padding) is None:
        values = list(padding)
        if values and all(isinstance(v, Iterable) for v in values):
            if len(values) not in (1, rank):
                raise ShapeError(f"{op}: padding wants {rank} pairs (lo, hi), got {padding}")
            return [pair(op, "padding", v) for v in values * (rank if len(values) == 1 else 1)]
    both = per_axis(op, "padding", padding, rank)  # type: ignore[arg-type]
    return [(p, p) for p in both]


def channels_first(op: str, data_format: str, rank: int) -> bool:
    """Whether `data_format` is channels-first; it may be named for any rank.

    Raises:
        ShapeError: the string is no layout of this rank.
    """
    axes = {1: ("W", "L"), 2: ("HW",), 3: ("DHW",)}.get(rank, ())
    first = {"NCHW", "NC", "NC..."} | {f"NC{a}" for a in axes}
    last = {"NHWC", "N...C"} | {f"N{a}C" for a in axes}
    if isinstance(data_format, str):
        if data_format in first:
            return True
        if data_format in last:
            return False
    raise ShapeError(
        f"{op}: data_format {data_format!r} is not one of {sorted(first | last)} for {rank} "
        "spatial axes"
    )


def move_channels(x: Node, first: bool) -> Node:
    """[N, *I, C] -> [N, C, *I], or back."""
    if first:
        return transpose(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))
    return transpose(x, (0, *range(2, x.ndim), 1))


def _operands(
    op: str, x: Operand, w: Operand, data_format: str
) -> tuple[Node, Node, int, bool, bool]:
    """(x [N, C, *I], w, rank, whether x was channels-first, whether it had no batch axis)."""
    x, w = as_node(x), as_node(w)
    if w.ndim < 2:
        raise ShapeError(f"{op}: a filter has two axes or more, [K, C/groups, *W], got w {w.type}")
    rank = w.ndim - 2
    first = channels_first(op, data_format, rank)
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{op}: w {w.type} has {rank} spatial axes, so x must have {rank + 2} axes (or "
            f"{rank + 1} without a batch), got x {x.type}"
        )
    dtype = promote(x.type.dtype, w.type.dtype)
    if x.type.dtype is not w.type.dtype and not dtype.is_floating:
        raise DTypeError(f"{op}: x and w must have one dtype, got x {x.type}, w {w.type}; cast one")
    x, w = cast(x, dtype), cast(w, dtype)
    check_dtypes(op, x.type, w.type)
    single = x.ndim == rank + 1
    if single:
        x = reshape(x, (1, *x.shape))
    return (x if first else move_channels(x, True)), w, rank, first, single


def _finish(op: str, y: Node, bias: Operand | None, first: bool, single: bool) -> Node:
    """Add the bias and bring [N, K, *O] into the layout of the input."""
    if bias is not None:
        b = as_node(bias)
        if b.shape != (y.shape[1],):
            raise ShapeError(f"{op}: bias must have shape ({y.shape[1]},), got {b.type}")
        if b.type.dtype.is_floating and not y.type.dtype.is_floating:
            raise DTypeError(f"{op}: bias {b.type} has no place in the sums of {y.type}; cast one")
        y = add(y, reshape(cast(b, y.type.dtype), (1, b.shape[0], *(1,) * (y.ndim - 2))))
    y = y if first else move_channels(y, False)
    return reshape(y, y.shape[1:]) if single else y


# ---- the two functions ---------------------------------------------------------------------


def convolution(
    x: Operand,
    w: Operand,
    bias: Operand | None = None,
    *,
    stride: Ints = 1,
    padding: PaddingLike = 0,
    dilation: Ints = 1,
    groups: int = 1,
    padding_mode: PadMode = "zeros",
    data_format: str = "NCHW",
) -> Node:
    """Convolution (cross-correlation, as in every deep-learning library) over any number of axes.

    Args:
        x: [N, C, *I], or [C, *I] without a batch. The number of spatial axes comes from `w`.
        w: [K, C/groups, *W].
        bias: [K].
        stride: step between outputs, per axis or one for all.
        padding: an int, one per axis, (lo, hi) per axis, or a string. `"same"` gives ceil(I /
            stride) outputs with the extra element last (`"same_lower"`: first); `"causal"` pads
            only in front; `"valid"` not at all. Negative numbers crop.
        dilation: step between taps.
        groups: the channels form this many blocks that do not mix.
        padding_mode: what stands in the padding: zeros, or the input reflected, replicated or
            wrapped around (circular).
        data_format: `"NCHW"` or `"NHWC"`, or its 1-D and 3-D kin; `w` is the same for both.

    Returns:
        [N, K, *O] with O = (I + lo + hi - dilation * (W - 1) - 1) // stride + 1.

    Raises:
        ShapeError: ranks, channels, groups, window parameters or strings do not fit.
        DTypeError: dtypes that may not meet, or that have no room for sums.
        RangeError: sizes beyond 2**63 - 1.

    Method: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (2016).

    >>> x, w = st.ones((1, 3, 8, 8)), st.ones((16, 3, 3, 3))
    >>> st.conv(x, w, stride=2, padding="same").shape
    (1, 16, 4, 4)
    """
    groups = integer("conv", "groups", groups, 1)
    x, w, rank, first, single = _operands("conv", x, w, data_format)
    n, c = x.shape[:2]
    k, per_group = w.shape[:2]
    if c != per_group * groups:
        raise ShapeError(
            f"conv: x has {c} channels, w expects {per_group} * {groups} groups = "
            f"{per_group * groups} (x {x.type}, w {w.type})"
        )
    if k % groups:
        raise ShapeError(f"conv: the {k} filters of w {w.type} do not divide into {groups} groups")
    kernel = w.shape[2:]
    if 0 in kernel:
        raise ShapeError(f"conv: a kernel size must be >= 1, got {kernel} (w {w.type})")
    strides = per_axis("conv", "stride", stride, rank, 1)
    dilations = per_axis("conv", "dilation", dilation, rank, 1)
    pads = pads_of("conv", padding, x.shape[2:], kernel, strides, dilations)
    if padding_mode != "zeros":
        for axis, (lo, hi) in enumerate(pads):
            x = pad_axis("conv", x, 2 + axis, lo, hi, padding_mode)
        pads = [(0, 0)] * rank
    windows = _windows("conv", x, kernel, strides, pads, dilations)
    spec = ConvSpec(n, groups, per_group, k // groups, windows)
    y = conv(reshape(x, spec.lhs_shape), reshape(w, spec.rhs_shape), spec)
    return _finish("conv", reshape(y, (n, k, *spec.out_shape[3:])), bias, first, single)


def _windows(
    op: str,
    x: Node,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilations: Sequence[int],
) -> tuple[Window, ...]:
    windows = []
    for axis, (i, k, s, p, d) in enumerate(
        zip(x.shape[2:], kernel, strides, pads, dilations, strict=True)
    ):
        try:
            windows.append(Window.of(i, k, stride=s, padding=p, rhs_dilation=d))
        except (ShapeError, RangeError) as error:
            raise type(error)(f"{op}: spatial axis {axis} of {x.type}: {error}") from None
    return tuple(windows)


def convolution_transpose(
    x: Operand,
    w: Operand,
    bias: Operand | None = None,
    *,
    stride: Ints = 1,
    padding: PaddingLike = 0,
    output_padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    padding_mode: PadMode = "zeros",
    data_format: str = "NCHW",
) -> Node:
    """The exact adjoint of `st.conv` with the same arguments: it maps outputs back to inputs.

    Args:
        x: [N, C, *I], or [C, *I] without a batch.
        w: [C, K/groups, *W]: the filter of the convolution from K to C channels.
        bias: [K].
        stride, padding, dilation, groups, padding_mode, data_format: those of the convolution.
            With `"same"` the result has I * stride elements.
        output_padding: how many more elements at the end of each axis the convolution's input
            had than the smallest that fits; less than stride or dilation.

    Returns:
        [N, K, *O] with O = (I - 1) * stride - lo - hi + dilation * (W - 1) + output_padding + 1.

    Raises:
        ShapeError: ranks, channels, groups, window parameters or strings do not fit.
        DTypeError: dtypes that may not meet.
        RangeError: sizes beyond 2**63 - 1.

    >>> x, w = st.ones((1, 16, 4, 4)), st.ones((16, 3, 3, 3))
    >>> st.conv_transpose(x, w, stride=2, padding=1, output_padding=1).shape
    (1, 3, 8, 8)
    """
    op = "conv_transpose"
    groups = integer(op, "groups", groups, 1)
    x, w, rank, first, single = _operands(op, x, w, data_format)
    n, c = x.shape[:2]
    if w.shape[0] != c:
        raise ShapeError(
            f"{op}: x has {c} channels, w expects {w.shape[0]} (x {x.type}, w {w.type})"
        )
    if c % groups:
        raise ShapeError(f"{op}: the {c} channels of x {x.type} do not divide into {groups} groups")
    per_group, kernel = w.shape[1], w.shape[2:]
    if 0 in kernel:
        raise ShapeError(f"{op}: a kernel size must be >= 1, got {kernel} (w {w.type})")
    strides = per_axis(op, "stride", stride, rank, 1)
    dilations = per_axis(op, "dilation", dilation, rank, 1)
    extra = per_axis(op, "output_padding", output_padding, rank, 0)
    for e, s, d in zip(extra, strides, dilations, strict=True):
        if e and e >= max(s, d):
            raise ShapeError(
                f"{op}: output_padding must be less than stride or dilation, got {e} with stride "
                f"{s} and dilation {d}"
            )
    whole = [i * s for i, s in zip(x.shape[2:], strides, strict=True)]
    pads = pads_of(op, padding, whole, kernel, strides, dilations)
    sizes = []  # of the convolution's input, whose adjoint this is
    for axis, (i, k, s, d, e, (lo, hi)) in enumerate(
        zip(x.shape[2:], kernel, strides, dilations, extra, pads, strict=True)
    ):
        padded = (i - 1) * s + d * (k - 1) + 1 + e if i else 0
        n_out = whole[axis] if padding in ("same", "same_lower") else padded - lo - hi
        if n_out < 0 or n_out > LIMIT:
            error = ShapeError if n_out < 0 else RangeError
            raise error(
                f"{op}: spatial axis {axis} of {x.type} would get size {n_out} = ({i} - 1) * {s} - "
                f"{lo} - {hi} + {d} * ({k} - 1) + {e} + 1"
            )
        sizes.append(n_out)
    zero_mode = padding_mode == "zeros"
    windows = tuple(
        Window(
            in_size=n_out if zero_mode else n_out + lo + hi,
            out_size=i,
            kernel_size=k,
            stride=s,
            rhs_dilation=d,
            pad_lo=lo if zero_mode else 0,
        )
        for n_out, i, k, s, d, (lo, hi) in zip(
            sizes, x.shape[2:], kernel, strides, dilations, pads, strict=True
        )
    )
    spec = ConvSpec(n, groups, per_group, c // groups, windows)  # of the convolution
    y = conv_lhs_adjoint(reshape(x, spec.out_shape), reshape(w, spec.rhs_shape), spec)
    y = reshape(y, (n, groups * per_group, *spec.lhs_shape[3:]))
    if not zero_mode:
        for axis, (lo, hi) in enumerate(pads):
            y = fold_axis(op, y, 2 + axis, lo, hi, padding_mode)
    return _finish(op, y, bias, first, single)


# ---- the primitive, and its matrix ---------------------------------------------------------


def convolution_general(x: Operand, w: Operand, spec: ConvSpec) -> Node:
    """The primitive itself: any signed relation per axis, groups as an axis.

    Args:
        x: [N, G, C, *I].
        w: [G, K, C, *W].
        spec: the sizes, and one `Window` per spatial axis.

    Returns:
        [N, G, K, *O].

    Raises:
        ShapeError: an operand has not the shape of `spec`.
        DTypeError: the dtypes differ, or have no room for sums.

    >>> spec = st.ConvSpec(1, 1, 1, 1, (st.Window.of(5, 2, rhs_dilation=-1),))
    >>> st.conv_general(st.arange(5).reshape(1, 1, 1, 5), st.asarray([[[[1, 10]]]]), spec).numpy()
    array([[[[ 1, 12, 23, 34]]]])
    """
    if not isinstance(spec, ConvSpec):
        raise DTypeError(f"conv_general: spec must be a ConvSpec, got {type(spec).__name__}")
    return conv(as_node(x), as_node(w), spec)
