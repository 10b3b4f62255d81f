"""Convolutions and matrix products."""

from __future__ import annotations

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.onnx.operators.windows import AUTO, padding, pairs, per_axis
from striate.onnx.registry import Call, operator


def _kernel(node: Call, w: Array) -> int:
    """The number of spatial axes of the filter w [K, C, *W].

    Raises:
        ShapeError: it has none, or not the size that `kernel_shape` says.
    """
    rank = w.ndim - 2
    if rank < 1:
        raise ShapeError(f"the filter must be [K, C/group, *W] with a spatial axis, got {w.type}")
    if tuple(per_axis(node, "kernel_shape", rank)) != w.shape[2:] and node.has("kernel_shape"):
        raise ShapeError(f"kernel_shape is {node.ints('kernel_shape')}, the filter {w.type}")
    return rank


@operator("Conv")
def conv(node: Call, x: Array, w: Array, b: Array | None = None) -> Array:
    rank = _kernel(node, w)
    return st.conv(
        x,
        w,
        b,
        stride=per_axis(node, "strides", rank),
        padding=padding(node, rank),
        dilation=per_axis(node, "dilations", rank),
        groups=node.int("group", 1),
    )


@operator("ConvTranspose")
def conv_transpose(node: Call, x: Array, w: Array, b: Array | None = None) -> Array:
    """Without `output_shape` the output is what the pads leave; with it, they follow from it."""
    rank = _kernel(node, w)
    if x.ndim != rank + 2:
        raise ShapeError(f"x must have {rank + 2} axes for the filter {w.type}, got {x.type}")
    stride = per_axis(node, "strides", rank)
    dilation = per_axis(node, "dilations", rank)
    extra = per_axis(node, "output_padding", rank, 0)
    full = [
        (i - 1) * s + d * (k - 1) + 1 + e
        for i, s, d, k, e in zip(x.shape[2:], stride, dilation, w.shape[2:], extra, strict=True)
    ]
    auto = node.string("auto_pad", "NOTSET")
    wanted = None
    if node.has("output_shape"):
        wanted = node.ints("output_shape")[-rank:]
    elif AUTO.get(auto, "valid") != "valid":
        wanted = [i * s for i, s in zip(x.shape[2:], stride, strict=True)]
    if wanted is not None:
        if len(wanted) != rank:
            raise ShapeError(f"output_shape has {len(wanted)} sizes for {rank} spatial axes")
        pads = [_split(f - n, auto) for f, n in zip(full, wanted, strict=True)]
    elif auto == "VALID":
        pads = [(0, 0)] * rank
    else:
        pads = pairs(node.ints("pads", [0] * (2 * rank)), rank)
    # What st.conv_transpose calls output_padding is only a smaller cut at the end.
    ends = [(lo, hi - e) for (lo, hi), e in zip(pads, extra, strict=True)]
    return st.conv_transpose(
        x, w, b, stride=stride, padding=ends, dilation=dilation, groups=node.int("group", 1)
    )


def _split(total: int, auto: str) -> tuple[int, int]:
    """The pads of both ends; SAME_UPPER has the larger half at the end.

    A negative total is an output larger than what the filter reaches: zeros at the end.
    """
    if total < 0:
        return 0, total
    half = total // 2
    return (half, total - half) if auto == "SAME_UPPER" else (total - half, half)


@operator("CausalConvWithState")
def causal_conv(
    node: Call, x: Array, w: Array, b: Array | None = None, past: Array | None = None
) -> tuple[Array, Array]:
    """(y, state): depthwise along x [N, C, L], continued from the last k - 1 elements before it."""
    if x.ndim != 3 or w.ndim != 3 or w.shape[:2] != (x.shape[1], 1):
        raise ShapeError(f"wants x [N, C, L] and w [C, 1, k], got {x.type} and {w.type}")
    before = (*x.shape[:2], w.shape[2] - 1)
    if past is not None and past.shape != before:
        raise ShapeError(f"past_state must have shape {before}, got {past.type}")
    whole = st.concat([st.zeros(before, x.dtype) if past is None else past, x], 2)
    y = st.conv(whole, w, b, groups=x.shape[1])
    activation = node.string("activation", "none")
    if activation in ("silu", "swish"):
        y = st.silu(y)
    elif activation != "none":
        raise ShapeError(f"activation must be none, silu or swish, got {activation!r}")
    return y, whole[:, :, whole.shape[2] - before[2] :]


@operator("MatMul")
def matmul(node: Call, a: Array, b: Array) -> Array:
    return st.matmul(a, b)


@operator("Gemm")
def gemm(node: Call, a: Array, b: Array, c: Array | None = None) -> Array:
    if a.ndim != 2 or b.ndim != 2:
        raise ShapeError(f"wants matrices, got {a.type} and {b.type}")
    a = a.T if node.int("transA", 0) else a
    b = b.T if node.int("transB", 0) else b
    y = st.matmul(a, b)
    y = _times(y, node.float("alpha", 1.0))
    return y if c is None else y + _times(c, node.float("beta", 1.0))


def _times(x: Array, factor: float) -> Array:
    """x * factor, in the dtype of x."""
    return x if factor == 1 else x * (factor if x.dtype.is_floating else int(factor))
