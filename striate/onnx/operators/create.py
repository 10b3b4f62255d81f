"""Values from nothing, from shapes and from other element types."""

from __future__ import annotations

import math

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import DTypeError, RangeError, ShapeError
from striate.onnx.model import ModelError
from striate.onnx.operators.half import FLOAT16, rounded_to_half
from striate.onnx.operators.types import dtype_of
from striate.onnx.registry import Call, operator
from striate.target import memory_bytes


@operator("Identity")
def identity(node: Call, x: Array) -> Array:
    return x


@operator("Cast")
def cast(node: Call, x: Array) -> Array:
    to = node.int("to")
    return rounded_to_half(x) if to == FLOAT16 else st.astype(x, dtype_of(to))


@operator("CastLike")
def cast_like(node: Call, x: Array, like: Array) -> Array:
    return rounded_to_half(x) if node.half[1] else st.astype(x, like.dtype)


@operator("Constant")
def constant(node: Call) -> Array:
    """One of the attributes that may hold the value."""
    if node.has("value"):
        return st.asarray(node.tensor("value"))
    if node.has("value_int"):
        return st.asarray(np.int64(node.int("value_int")))
    if node.has("value_ints"):
        return st.asarray(np.asarray(node.ints("value_ints"), np.int64))
    if node.has("value_float"):
        return st.asarray(np.float32(node.float("value_float")))
    if node.has("value_floats"):
        return st.asarray(np.asarray(node.floats("value_floats"), np.float32))
    raise ModelError(f"holds no tensor or numbers, but {list(node.node.attributes)}")


@operator("ConstantOfShape", known=(0,))
def constant_of_shape(node: Call, shape: Array) -> Array:
    value = node.tensor("value", np.zeros(1, np.float32))
    if value.size != 1:
        raise ShapeError(f"value must be one number, got {value.size}")
    filling = st.asarray(value.reshape(()))
    return st.broadcast_to(filling, node.known_ints(shape, "shape"))


@operator("Shape", shape_only=True)
def shape(node: Call, x: Array) -> Array:
    """The sizes from axis `start` to `end`, which count as in a slice."""
    wanted = slice(node.int("start", 0), node.int("end", None))
    return st.asarray(np.asarray(x.shape[wanted], np.int64))


@operator("Size", shape_only=True)
def size(node: Call, x: Array) -> Array:
    return st.asarray(np.int64(x.size))


@operator("Range", known=(0, 1, 2))
def range_(node: Call, start: Array, limit: Array, delta: Array) -> Array:
    first, stop, step = (
        node.known(v, name).reshape(-1)[0].item()
        for v, name in ((start, "start"), (limit, "limit"), (delta, "delta"))
    )
    if step == 0 or not all(math.isfinite(v) for v in (first, stop, step)):
        raise ShapeError(f"wants finite numbers and a step, got {first} to {stop} by {step}")
    count = max(math.ceil((stop - first) / step), 0)
    if count * 8 > memory_bytes():
        raise RangeError(f"{first} to {stop} by {step} has {count} elements: beyond the memory")
    dtype = start.dtype.numpy
    return st.asarray((np.arange(count) * step + first).astype(dtype))


@operator("EyeLike", shape_only=True)
def eye_like(node: Call, x: Array) -> Array:
    if x.ndim != 2:
        raise ShapeError(f"wants a matrix, got {x.type}")
    dtype = dtype_of(node.int("dtype")) if node.has("dtype") else x.dtype
    rows, columns = (np.arange(n) for n in x.shape)
    return st.asarray(rows[:, None] + node.int("k", 0) == columns).astype(dtype)


@operator("Trilu", known=(1,))
def trilu(node: Call, x: Array, k: Array | None = None) -> Array:
    diagonal = 0 if k is None else int(node.known(k, "k").reshape(-1)[0])
    if x.ndim < 2:
        raise ShapeError(f"wants matrices, got {x.type}")
    if abs(diagonal) > 2**31:
        raise RangeError(f"k must fit in 32 bits, got {diagonal}")
    upper = bool(node.int("upper", 1))
    return st.triu(x, k=diagonal) if upper else st.tril(x, k=diagonal)


def one(node: Call, x: Array, name: str) -> int:
    """The one integer of an input that must be known.

    Raises:
        DTypeError, ShapeError: it is not one integer.
    """
    values = node.known_ints(x, name)
    if len(values) != 1:
        raise DTypeError(f"the input {name!r} must be one integer, got {x.type}")
    return int(values[0])
