"""Aligned memory that is used again: arrays whose memory returns to a pool when they die.

A fresh page costs more than the first write to it, and a training step replaces all weights each
time; so large blocks are kept and handed out again, by size class. The pool is bounded.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64  # bytes
POOLED = 1 << 14  # smaller arrays are left to the allocator of NumPy
KEPT_BYTES = 1 << 30  # the most that waits in the pool
_STEPS = 8  # size classes per power of two


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
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + nbytes]

    def give(self, block: NDArray[np.uint8]) -> None:
        """Keep a block that nobody uses, if there is room."""
        with self.lock:
            if self.waiting + block.nbytes <= KEPT_BYTES:
                self.waiting += block.nbytes
                self.free[block.nbytes].append(block)


_pool = _Pool()


class _Owner:
    """The base of the arrays on a block; returns it to the pool in the end."""

    __slots__ = ("__array_interface__", "block")

    def __init__(self, block: NDArray[np.uint8]) -> None:
        self.block = block
        self.__array_interface__ = {
            "shape": block.shape,
            "typestr": "|u1",
            "data": (block.ctypes.data, False),
            "version": 3,
        }

    def __del__(self) -> None:
        _pool.give(self.block)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of any content whose address is a multiple of 64.

    >>> aligned_empty((3, 5), np.dtype(np.float32)).ctypes.data % 64
    0
    """
    nbytes = dtype.itemsize
    for n in shape:
        nbytes *= n
    if nbytes < POOLED:
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + nbytes].view(dtype).reshape(shape)
    block = np.asarray(_Owner(_pool.take(size_class(nbytes))))
    return block[:nbytes].view(dtype).reshape(shape)


def aligned_copy(x: NDArray[Any]) -> NDArray[Any]:
    """A row-major copy whose address is a multiple of 64."""
    y = aligned_empty(x.shape, x.dtype)
    y[...] = x
    return y


def aligned(x: NDArray[Any]) -> NDArray[Any]:
    """`x` if it is row-major and its address a multiple of 64, else a copy that is."""
    x = np.asarray(x)
    address: int = x.__array_interface__["data"][0]
    return x if x.flags.c_contiguous and not address % ALIGNMENT else aligned_copy(x)
