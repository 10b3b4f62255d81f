"""What acts on scores of classes, along an axis."""

from __future__ import annotations

from math import prod

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.ir.types import normalize_axis
from striate.onnx.registry import Call, operator


def _rows(node: Call, x: Array) -> tuple[Array, int]:
    """(x, axis) of a softmax; before opset 13 it is over all axes from `axis` on, as one."""
    if node.opset >= 13:
        return x, normalize_axis("axis", node.int("axis", -1), x.ndim)
    axis = (
        normalize_axis("axis", node.int("axis", 1), x.ndim)
        if node.int("axis", 1) != x.ndim
        else x.ndim
    )
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:])), 1


@operator("Softmax")
def softmax(node: Call, x: Array) -> Array:
    rows, axis = _rows(node, x)
    return st.softmax(rows, axis).reshape(*x.shape)


@operator("LogSoftmax")
def log_softmax(node: Call, x: Array) -> Array:
    rows, axis = _rows(node, x)
    return st.log_softmax(rows, axis).reshape(*x.shape)


@operator("Hardmax")
def hardmax(node: Call, x: Array) -> Array:
    """1 at the first of the largest along an axis, else 0; before opset 13 from `axis` on."""
    if node.opset >= 13:
        axis = normalize_axis("axis", node.int("axis", -1), x.ndim)
        last = st.moveaxis(x, axis, -1)
    else:
        axis = normalize_axis("axis", node.int("axis", 1), x.ndim)
        last = x.reshape(*x.shape[:axis], -1)
    best = st.argmax(last, -1, keepdims=True) == np.arange(last.shape[-1])
    y = best.astype(x.dtype)
    return st.moveaxis(y, -1, axis) if node.opset >= 13 else y.reshape(*x.shape)


@operator("OneHot", known=(1,))
def one_hot(node: Call, indices: Array, depth: Array, values: Array) -> Array:
    """Along a new axis, on values [off, on]; indices outside of [-depth, depth) are off."""
    size = int(node.known(depth, "depth").reshape(-1)[0])
    if values.shape != (2,) or size < 0:
        raise ShapeError(f"wants values [2] and depth >= 0, got {values.type} and {size}")
    axis = normalize_axis("axis", node.int("axis", -1), indices.ndim + 1)
    wanted = st.expand_dims(indices.astype("int64"), axis)
    classes = np.arange(size).reshape(-1, *(1,) * (indices.ndim - axis))
    return st.where((wanted == classes) | (wanted + size == classes), values[1], values[0])
