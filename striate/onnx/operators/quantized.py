"""Arithmetic on integers that stand for numbers, q = x / scale + zero_point.

Sums of products are taken in int32, exactly; numbers become integers by rounding half to even and
are limited to what the dtype holds. Scales of 1-D are along one axis, or blocks of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import striate as st
from striate.core.array import Array
from striate.dtype import DType, float32
from striate.errors import DTypeError, ShapeError
from striate.ir.types import normalize_axis
from striate.onnx.operators.convolution import conv
from striate.onnx.operators.types import dtype_of
from striate.onnx.registry import Call, operator


def _along(node: Call, parameter: Array, x: Array) -> Array:
    """A scale or a zero point, in a shape that broadcasts against x.

    Raises:
        ShapeError: it has not one value, one per element of the axis, or one per block of it.
    """
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    axis = normalize_axis("axis", node.int("axis", 1), x.ndim)
    block = node.int("block_size", 0)
    if not block:
        if parameter.shape != (x.shape[axis],):
            raise ShapeError(
                f"{parameter.type} is no scale or zero point for axis {axis} of {x.type}"
            )
        return parameter.reshape(*(-1 if a == axis else 1 for a in range(x.ndim)))
    blocks = -(-x.shape[axis] // block)
    if parameter.shape != (*x.shape[:axis], blocks, *x.shape[axis + 1 :]):
        raise ShapeError(f"{parameter.type} has no {blocks} blocks of {block} for {x.type}")
    return st.take(parameter, np.arange(x.shape[axis]) // block, axis)


def _saturated(x: Array, zero_point: Array | None, dtype: DType) -> Array:
    """Floats rounded half to even, moved by the zero point, and limited to a dtype."""
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        raise DTypeError(f"numbers are quantized to int8, uint8 or int16, got {dtype.name}")
    y = st.round(x)
    if zero_point is not None:
        y = y + zero_point.astype(y.dtype)
    info = np.iinfo(dtype.name)
    return st.clip(y, float(info.min), float(info.max)).astype(dtype)


@operator("QuantizeLinear")
def quantize_linear(node: Call, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    dtype = (
        zero_point.dtype if zero_point is not None else dtype_of(node.int("output_dtype", 2) or 2)
    )
    wide = x if x.dtype.is_floating else x.astype(float32)
    zero = None if zero_point is None else _along(node, zero_point, x)
    return _saturated(wide / _along(node, scale, x).astype(wide.dtype), zero, dtype)


@operator("DequantizeLinear")
def dequantize_linear(node: Call, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    steps = x.astype("int32")
    if zero_point is not None:
        steps = steps - _along(node, zero_point, x).astype("int32")
    number = node.int("output_dtype", 0)
    dtype = dtype_of(number) if number else scale.dtype
    return (steps.astype(float32) * _along(node, scale, x).astype(float32)).astype(dtype)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Call, x: Array) -> tuple[Array, Array, Array]:
    """(y, scale, zero point), such that the range of x and 0 fills uint8."""
    if not x.size:
        raise ShapeError(f"nothing to quantize in {x.type}")
    low, high = st.minimum(st.min(x), 0.0), st.maximum(st.max(x), 0.0)
    width = (high - low) / 255.0
    scale = st.where(width == 0, 1.0, width)  # of zeros alone any scale does
    dtype = st.uint8
    zero_point = _saturated(-low / scale, None, dtype)
    return _saturated(x / scale, zero_point, dtype), scale, zero_point


# ---- products ------------------------------------------------------------------------------


def _centered(x: Array, zero_point: Array | None, rows: bool = False) -> Array:
    """x minus its zero point in int32; a vector of zero points is per row, or per column."""
    wide = x.astype("int32")
    return wide if zero_point is None else wide - _spread(zero_point, rows).astype("int32")


def _spread(parameter: Array, rows: bool) -> Array:
    """One value as a number; a vector per row as a column."""
    if parameter.size == 1:
        return parameter.reshape(())
    return st.expand_dims(parameter, -1) if rows and parameter.ndim == 1 else parameter


@operator("MatMulInteger")
def matmul_integer(
    node: Call, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
) -> Array:
    return st.matmul(_centered(a, a_zero, rows=a.ndim > 1), _centered(b, b_zero))


@operator("QLinearMatMul")
def qlinear_matmul(
    node: Call,
    a: Array, a_scale: Array, a_zero: Array,
    b: Array, b_scale: Array, b_zero: Array,
    y_scale: Array, y_zero: Array,
) -> Array:  # fmt: skip
    total = st.matmul(_centered(a, a_zero, rows=a.ndim > 1), _centered(b, b_zero))
    scale = _spread(a_scale, a.ndim > 1) * _spread(b_scale, False) / _spread(y_scale, a.ndim > 1)
    zero = _spread(y_zero, a.ndim > 1)
    return _saturated(total.astype(float32) * scale.astype(float32), zero, y_zero.dtype)


def _of_filters(parameter: Array, w: Array) -> Array:
    """One value, or one per filter of w [K, C, *W], as [K, 1, ...]."""
    if parameter.size == 1:
        return parameter.reshape(())
    if parameter.shape != (w.shape[0],):
        raise ShapeError(f"wants one value or {w.shape[0]}, one per filter, got {parameter.type}")
    return parameter.reshape(-1, *(1,) * (w.ndim - 1))


def _sums(node: Call, x: Array, x_zero: Any, w: Array, w_zero: Any, b: Any = None) -> Array:
    """The convolution in int32: padding is zero points, which are 0 here."""
    filters = w.astype("int32")
    if w_zero is not None:
        filters = filters - _of_filters(w_zero, w).astype("int32")
    return conv(node, _centered(x, x_zero), filters, b)


@operator("ConvInteger")
def conv_integer(
    node: Call, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None
) -> Array:
    return _sums(node, x, x_zero, w, w_zero)


@operator("QLinearConv")
def qlinear_conv(
    node: Call,
    x: Array, x_scale: Array, x_zero: Array,
    w: Array, w_scale: Array, w_zero: Array,
    y_scale: Array, y_zero: Array, b: Array | None = None,
) -> Array:  # fmt: skip
    """The bias is in steps of x_scale * w_scale."""
    total = _sums(node, x, x_zero, w, w_zero, b)
    scale = _of_filters(w_scale, w)
    if scale.ndim:  # [K, 1, ...] -> [1, K, 1, ...]
        scale = scale.reshape(1, -1, *(1,) * (w.ndim - 2))
    factor = x_scale.reshape(()) * scale / y_scale.reshape(())
    return _saturated(
        total.astype(float32) * factor.astype(float32), y_zero.reshape(()), y_zero.dtype
    )
