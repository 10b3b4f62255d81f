"""Activations of mobile networks and of older ones."""

from __future__ import annotations

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.ir.types import normalize_axis
from striate.onnx.registry import Call, operator


@operator("Mish")
def mish(node: Call, x: Array) -> Array:
    return st.mish(x)


@operator("HardSwish")
def hard_swish(node: Call, x: Array) -> Array:
    return st.hardswish(x)


@operator("Celu")
def celu(node: Call, x: Array) -> Array:
    return st.celu(x, node.float("alpha", 1.0))


@operator("Shrink")
def shrink(node: Call, x: Array) -> Array:
    """x moved by `bias` towards 0 outside of [-lambd, lambd], else 0."""
    bias, lambd = node.float("bias", 0.0), node.float("lambd", 0.5)
    if not x.dtype.is_floating:
        bias = int(bias)
    y = st.where(x > lambd, x - bias, st.where(x < -lambd, x + bias, 0))
    return y.astype(x.dtype)


@operator("ThresholdedRelu")
def thresholded_relu(node: Call, x: Array) -> Array:
    return st.threshold(x, node.float("alpha", 1.0), 0.0)


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


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Call, x: Array) -> Array:
    axes = tuple(node.ints("axes", [0, 2, 3]))
    if any(not -x.ndim <= a < x.ndim for a in axes):
        raise ShapeError(f"axes {list(axes)} are not all axes of {x.type}")
    centered = x - st.mean(x, axes, keepdims=True)
    deviation = st.sqrt(st.mean(centered * centered, axes, keepdims=True))
    return centered / (deviation + 1e-9)
