"""Aligned memory that is used again: arrays whose memory returns to a pool when they die.

A fresh page costs more than the first write to it, and a training step replaces all weights each
time; so large blocks are kept and handed out again, by size class. The pool is bounded.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable
from ctypes import addressof, c_char
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64  # bytes
POOLED = 1 << 14  # smaller arrays are left to the allocator of NumPy
KEPT_BYTES = 1 << 30  # the most that waits in the pool
_STEPS = 8  # size classes per power of two

_nothing: Any = c_char * 0


def size_class(nbytes: int) -> int:
    """The size of the block that holds this many bytes: at most an eighth larger.

    >>> size_class(1 << 20), size_class((1 << 20) + 1) - (1 << 20)
    (1048576, 131072)
    """
    step = max(ALIGNMENT, 1 << max(0, (nbytes - 1).bit_length() - 1) >> 3)
    return -(-nbytes // step) * step


class _Pool:
    def __init__(self) -> None:
        self.lock = threading.RLock()  # a finalizer may run inside of any call
        self.free: dict[int, list[NDArray[np.uint8]]] = defaultdict(list)
        self.waiting = 0

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """A block of a size class."""
        with self.lock:
            if self.free[nbytes]:
                self.waiting -= nbytes
                return self.free[nbytes].pop()
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -address(raw) % ALIGNMENT
        return raw[start : start + nbytes]

    def give(self, block: NDArray[np.uint8]) -> None:
        """Keep a block that nobody uses, if there is room."""
        with self.lock:
            if self.waiting + block.nbytes <= KEPT_BYTES:
                self.waiting += block.nbytes
                self.free[block.nbytes].append(block)


_pool = _Pool()
if hasattr(os, "register_at_fork"):  # no child may begin while another thread holds the lock
    os.register_at_fork(
        before=_pool.lock.acquire,
        after_in_parent=_pool.lock.release,
        after_in_child=_pool.lock.release,
    )


class _Owner:
    """The base of the arrays on a block; returns it to the pool in the end."""

    __slots__ = ("__array_interface__", "block")
    __array_interface__: dict[str, Any]

    def __init__(self, block: NDArray[np.uint8]) -> None:
        self.block = block
        self.__array_interface__ = {
            "shape": block.shape,
            "typestr": "|u1",
            "data": (address(block), False),
            "version": 3,
        }

    def __del__(self, give: Callable[[NDArray[np.uint8]], None] = _pool.give) -> None:
        give(self.block)  # bound early: at the interpreter's end the module's names are gone


def address(x: NDArray[Any]) -> int:
    """The address of an array's first element."""
    try:  # what NumPy tells of an array takes it several times as long
        return addressof(_nothing.from_buffer(x))
    except (TypeError, ValueError):  # strided, read-only, or not a type of the buffer protocol
        data: int = x.__array_interface__["data"][0]
        return data


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    """An array of any content and its address, a multiple of 64."""
    nbytes = dtype.itemsize
    for n in shape:
        nbytes *= n
    if nbytes < POOLED:
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        at = address(raw)
        start = -at % ALIGNMENT
        return np.ndarray(shape, dtype, raw, start), at + start
    owner = _Owner(_pool.take(size_class(nbytes)))
    return np.ndarray(shape, dtype, np.asarray(owner)), owner.__array_interface__["data"][0]


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of any content whose address is a multiple of 64.

    >>> aligned_empty((3, 5), np.dtype(np.float32)).ctypes.data % 64
    0
    """
    return allocate(shape, dtype)[0]


def aligned_full(shape: tuple[int, ...], value: NDArray[Any]) -> NDArray[Any]:
    """An array of one number, `value`; zeros take no memory before they are written or read."""
    if np.any(value.reshape(1).view(np.uint8)):
        y = aligned_empty(shape, value.dtype)
        y.fill(value)
        return y
    count = value.dtype.itemsize
    for n in shape:
        count *= n
    raw = np.zeros(count + ALIGNMENT, np.uint8)
    return np.ndarray(shape, value.dtype, raw, -address(raw) % ALIGNMENT)


def aligned_copy(x: NDArray[Any]) -> NDArray[Any]:
    """A row-major copy whose address is a multiple of 64."""
    y = aligned_empty(x.shape, x.dtype)
    y[...] = x
    return y


def located(x: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """`x` if it is row-major and its address a multiple of 64, else a copy that is; its address."""
    x = np.asarray(x)
    at = address(x)
    if x.flags.c_contiguous and not at % ALIGNMENT:
        return x, at
    y = aligned_copy(x)
    return y, address(y)
