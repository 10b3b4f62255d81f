"""Activations: functions of each element."""

from __future__ import annotations

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.onnx.registry import Call, operator, unary

unary({
    "HardSwish": st.hardswish, "Mish": st.mish, "Relu": st.relu, "Sigmoid": st.sigmoid,
    "Softplus": st.softplus, "Softsign": st.softsign,
})  # fmt: skip


@operator("LeakyRelu")
def leaky_relu(node: Call, x: Array) -> Array:
    return st.leaky_relu(x, node.float("alpha", 0.01))


@operator("PRelu")
def prelu(node: Call, x: Array, slope: Array) -> Array:
    """Slopes broadcast to x; before opset 7 a vector of them is one per channel."""
    if node.opset < 7 and slope.ndim == 1 and x.ndim > 1 and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (x.ndim - 2))
    return st.where(x < 0, x * slope, x)


@operator("ThresholdedRelu")
def thresholded_relu(node: Call, x: Array) -> Array:
    return st.threshold(x, node.float("alpha", 1.0), 0.0)


@operator("Elu")
def elu(node: Call, x: Array) -> Array:
    return st.elu(x, node.float("alpha", 1.0))


@operator("Selu")
def selu(node: Call, x: Array) -> Array:
    gamma: float = node.float("gamma", 1.0507010221481323)
    return st.elu(x, node.float("alpha", 1.6732631921768188)) * gamma


@operator("Celu")
def celu(node: Call, x: Array) -> Array:
    return st.celu(x, node.float("alpha", 1.0))


@operator("HardSigmoid")
def hard_sigmoid(node: Call, x: Array) -> Array:
    return st.clip(x * node.float("alpha", 0.2) + node.float("beta", 0.5), 0, 1)


@operator("Gelu")
def gelu(node: Call, x: Array) -> Array:
    return st.gelu(x, approximate=node.string("approximate", "none"))


@operator("Swish")
def swish(node: Call, x: Array) -> Array:
    return x * st.sigmoid(x * node.float("alpha", 1.0))


@operator("SwiGLU")
def swiglu(node: Call, gate: Array, x: Array) -> Array:
    if gate.shape != x.shape:
        raise ShapeError(f"wants two inputs of one shape, got {gate.type} and {x.type}")
    return swish(node, gate) * x


@operator("Shrink")
def shrink(node: Call, x: Array) -> Array:
    """x moved by `bias` towards 0 outside of [-lambd, lambd], else 0."""
    bias, lambd = node.float("bias", 0.0), node.float("lambd", 0.5)
    if not x.dtype.is_floating:
        bias = int(bias)
    y = st.where(x > lambd, x - bias, st.where(x < -lambd, x + bias, 0))
    return y.astype(x.dtype)


@operator("Clip")
def clip(node: Call, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Limits are attributes before opset 11, inputs since then."""
    if node.opset >= 11:
        return st.clip(x, low, high)
    return st.clip(x, node.float("min", None), node.float("max", None))
