"""Activations, and what acts on scores."""

from __future__ import annotations

from math import prod

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.ir.types import normalize_axis
from striate.onnx.registry import Call, operator


@operator("Relu")
def relu(node: Call, x: Array) -> Array:
    return st.relu(x)


@operator("LeakyRelu")
def leaky_relu(node: Call, x: Array) -> Array:
    return st.leaky_relu(x, node.float("alpha", 0.01))


@operator("PRelu")
def prelu(node: Call, x: Array, slope: Array) -> Array:
    """Slopes broadcast to x; before opset 7 a vector of them is one per channel."""
    if node.opset < 7 and slope.ndim == 1 and x.ndim > 1 and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (x.ndim - 2))
    return st.where(x < 0, x * slope, x)


@operator("Elu")
def elu(node: Call, x: Array) -> Array:
    return st.elu(x, node.float("alpha", 1.0))


@operator("Selu")
def selu(node: Call, x: Array) -> Array:
    gamma: float = node.float("gamma", 1.0507010221481323)
    return st.elu(x, node.float("alpha", 1.6732631921768188)) * gamma


@operator("Sigmoid")
def sigmoid(node: Call, x: Array) -> Array:
    return st.sigmoid(x)


@operator("HardSigmoid")
def hard_sigmoid(node: Call, x: Array) -> Array:
    return st.clip(x * node.float("alpha", 0.2) + node.float("beta", 0.5), 0, 1)


@operator("Softplus")
def softplus(node: Call, x: Array) -> Array:
    return st.softplus(x)


@operator("Softsign")
def softsign(node: Call, x: Array) -> Array:
    return st.softsign(x)


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


@operator("Clip")
def clip(node: Call, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Limits are attributes before opset 11, inputs since then."""
    if node.opset >= 11:
        return st.clip(x, low, high)
    return st.clip(x, node.float("min", None), node.float("max", None))


@operator("Dropout", known=(1, 2))
def dropout(
    node: Call, x: Array, ratio: Array | None = None, training: Array | None = None
) -> tuple[Array, Array]:
    """(x, mask); drops in training mode, or if the node's third input says so."""
    drops = node.training or (training is not None and bool(node.known(training, "training_mode")))
    rate = 0.5
    if ratio is not None and drops:
        rate = float(node.known(ratio, "ratio"))
    elif ratio is None:
        rate = node.float("ratio", 0.5)
    if not drops or rate == 0:
        return x, st.full(x.shape, True, "bool")
    mask = st.random.bernoulli(x.shape, 1 - rate) != 0
    return st.where(mask, x / (1 - rate), 0.0), mask


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
