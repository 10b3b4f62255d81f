"""Random numbers from striate's generator: `st.random.seed` sets it, a seed of a node does not."""

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
