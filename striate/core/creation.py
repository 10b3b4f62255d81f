"""Arrays from nothing: zeros, ones, ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.core.array import Array, asarray
from striate.dtype import as_dtype, float32, int64
from striate.ir.graph import constant
from striate.ops.movement import broadcast_to

Shape = int | Sequence[int]


def _shape(shape: Shape) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)


def full(shape: Shape, value: bool | float, dtype: object = None) -> Array:
    """An array of one number; no memory is filled before it is read.

    Raises:
        ShapeError: a size is negative.

    >>> st.full((2, 2), 7.0)
    Array([[7., 7.],
           [7., 7.]], dtype=float32)
    """
    return Array(broadcast_to(asarray(value, dtype).node, _shape(shape)))


def zeros(shape: Shape, dtype: object = float32) -> Array:
    """An array of zeros."""
    return full(shape, 0, dtype)


def ones(shape: Shape, dtype: object = float32) -> Array:
    """An array of ones."""
    return full(shape, 1, dtype)


def zeros_like(x: Any, dtype: object = None) -> Array:
    """Zeros with the shape of `x`, and its dtype unless another is given."""
    x = asarray(x)
    return zeros(x.shape, dtype or x.dtype)


def ones_like(x: Any, dtype: object = None) -> Array:
    """Ones with the shape of `x`, and its dtype unless another is given."""
    x = asarray(x)
    return ones(x.shape, dtype or x.dtype)


def full_like(x: Any, value: bool | float, dtype: object = None) -> Array:
    """One number with the shape of `x`, and its dtype unless another is given."""
    x = asarray(x)
    return full(x.shape, value, dtype or x.dtype)


def empty(shape: Shape, dtype: object = float32) -> Array:
    """The same as `zeros`: nothing is left uninitialised."""
    return zeros(shape, dtype)


def empty_like(x: Any, dtype: object = None) -> Array:
    """The same as `zeros_like`: nothing is left uninitialised."""
    return zeros_like(x, dtype)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: object = None) -> Array:
    """start, start + step, ... below stop; integers as int64, others as float32.

    >>> st.arange(3)
    Array([0, 1, 2], dtype=int64)
    """
    if stop is None:
        start, stop = 0, start
    whole = all(isinstance(v, int) for v in (start, stop, step))
    to = as_dtype(dtype) if dtype is not None else int64 if whole else float32
    return Array(constant(np.arange(start, stop, step).astype(to.numpy)))


def linspace(start: float, stop: float, num: int, *, dtype: object = None) -> Array:
    """`num` numbers from start to stop, both included, evenly spaced."""
    return asarray(np.linspace(start, stop, num), dtype or float32)


def eye(rows: int, columns: int | None = None, *, k: int = 0, dtype: object = float32) -> Array:
    """Ones on the k-th diagonal, zeros elsewhere."""
    return asarray(np.eye(rows, columns, k), dtype)
