"""Random numbers, and what drops at random, from striate's generator: `st.random.seed` sets it, a
seed of a node does not.
"""

from __future__ import annotations

import striate as st
from striate.core.array import Array
from striate.onnx.operators.types import dtype_of
from striate.onnx.registry import Call, operator


def _normal(node: Call, shape: tuple[int, ...], dtype: object) -> Array:
    scale: float = node.float("scale", 1.0)
    mean: float = node.float("mean", 0.0)
    return (st.random.normal(shape) * scale + mean).astype(dtype)


def _uniform(node: Call, shape: tuple[int, ...], dtype: object) -> Array:
    low: float = node.float("low", 0.0)
    high: float = node.float("high", 1.0)
    return (st.random.uniform(shape) * (high - low) + low).astype(dtype)


@operator("RandomNormal", random=True)
def random_normal(node: Call) -> Array:
    return _normal(node, tuple(node.ints("shape")), dtype_of(node.int("dtype", 1)))


@operator("RandomUniform", random=True)
def random_uniform(node: Call) -> Array:
    return _uniform(node, tuple(node.ints("shape")), dtype_of(node.int("dtype", 1)))


def _dtype(node: Call, x: Array) -> object:
    return dtype_of(node.int("dtype")) if node.has("dtype") else x.dtype


@operator("RandomNormalLike", random=True)
def random_normal_like(node: Call, x: Array) -> Array:
    return _normal(node, x.shape, _dtype(node, x))


@operator("RandomUniformLike", random=True)
def random_uniform_like(node: Call, x: Array) -> Array:
    return _uniform(node, x.shape, _dtype(node, x))


@operator("Bernoulli", random=True)
def bernoulli(node: Call, x: Array) -> Array:
    """1 with the probability that x holds."""
    return (st.random.uniform(x.shape) < x).astype(_dtype(node, x))


@operator("Dropout", known=(1, 2), random=True)
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
