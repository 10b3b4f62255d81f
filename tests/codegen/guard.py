"""Memory between pages that cannot be touched, and steps that must not care for threads.

A read or write outside of such memory ends the process: no wrong result can hide it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.kernel import ALIGNMENT, Buffer, Step
from striate.codegen.machine import host_target, named_target
from striate.dtype import DType
from striate.target import Target
from tests.codegen.harness import run

Array = NDArray[np.generic]
Bytes = NDArray[np.uint8]
_X86 = ("x86-64-v2", "x86-64-v3", "x86-64-v4")


def _target(name: str) -> object:
    host = host_target().name
    able = host in _X86 and _X86.index(name) <= _X86.index(host)
    skip = pytest.mark.skip(reason=f"the host, {host}, cannot run {name}")
    return pytest.param(named_target(name), id=name[-2:], marks=() if able else skip)


TARGETS = [_target(name) for name in _X86]


def _forbid(address: int, nbytes: int) -> None:
    """Nobody may read or write these pages from now on."""
    if os.name == "nt":
        kernel32: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
        before, no_access = ctypes.c_uint32(), 1
        size = ctypes.c_size_t(nbytes)
        done = kernel32.VirtualProtect(
            ctypes.c_void_p(address), size, no_access, ctypes.byref(before)
        )
        assert done, ctypes.get_last_error()  # type: ignore[attr-defined,unused-ignore]
        return
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert not protect(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), 0), ctypes.get_errno()


def pages(nbytes: int) -> Bytes:
    """Whole pages for this many bytes, between two pages that are not there; 0xFF everywhere."""
    page = mmap.PAGESIZE
    whole = max(1, -(-nbytes // page)) * page
    raw = np.frombuffer(mmap.mmap(-1, whole + 2 * page), np.uint8)
    _forbid(raw.ctypes.data, page)
    _forbid(raw.ctypes.data + page + whole, page)
    inside = raw[page : page + whole]
    inside[:] = 0xFF
    return inside


def guarded(shape: Sequence[int], dtype: np.typing.DTypeLike) -> Array:
    """Ones in every byte, behind which a page begins that is not there."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    whole = pages(nbytes)
    return whole[whole.nbytes - nbytes :].view(dtype).reshape(shape)


def copy_of(x: Array) -> Array:
    """`x` before a guard page."""
    copy = guarded(x.shape, x.dtype)
    copy[...] = x
    return copy


class Fences:
    """Memory as plans get it: it begins at a multiple of 64. `high` memory ends as near to a
    forbidden page as that allows, other memory begins behind one; what else is on its pages must
    stay as it is.
    """

    def __init__(self, high: bool) -> None:
        self.high = high
        self._parts: list[tuple[Bytes, int, int]] = []

    def memory(self, nbytes: int) -> Bytes:
        """0xFF in every byte."""
        whole = pages(nbytes)
        start = (whole.nbytes - nbytes) // ALIGNMENT * ALIGNMENT if self.high else 0
        self._parts.append((whole, start, start + nbytes))
        return whole[start : start + nbytes]

    def copy(self, x: Array) -> Array:
        """`x`, row-major."""
        place = self.memory(x.nbytes).view(x.dtype).reshape(x.shape)
        place[...] = x
        return place

    def check(self) -> None:
        """Raises: AssertionError, if a byte beside the memory was written."""
        for whole, start, stop in self._parts:
            beside = np.concatenate([whole[:start], whole[stop:]])
            assert (beside == 0xFF).all(), f"a write outside of {stop - start} bytes"


def values(
    rng: np.random.Generator, shape: Sequence[int], dtype: DType, few: bool = False
) -> Array:
    """Random elements; `few` different ones, so that many are equal."""
    if dtype.is_floating:
        x = rng.integers(-3, 4, shape) if few else rng.standard_normal(shape)
    elif dtype.kind == "b":
        x = rng.integers(0, 2, shape)
    else:
        info = np.iinfo(dtype.numpy)
        low, high = (info.min, info.max) if not few else (max(-3, info.min), 3)
        x = rng.integers(low, high, shape, endpoint=True)
    return np.asarray(x).astype(dtype.numpy)


def run_everywhere(
    steps: Sequence[Step],
    given: Mapping[Buffer, Array],
    made: Mapping[Buffer, tuple[Sequence[int], np.typing.DTypeLike]],
    target: Target | None = None,
    updated: Mapping[Buffer, Array] | None = None,
) -> dict[Buffer, Array]:
    """What the steps write, asserted to be bitwise the same for 1, 2, 3 and 5 threads; `updated`
    are buffers that they write, with their content before.
    """
    held = {b: copy_of(x) for b, x in given.items()}
    first: dict[Buffer, Array] = {}
    for threads in (1, 2, 3, 5):
        out = {b: guarded(shape, dtype) for b, (shape, dtype) in made.items()}
        out |= {b: copy_of(x) for b, x in (updated or {}).items()}
        run(steps, held | out, threads, target)
        for b, x in out.items():
            assert x.tobytes() == first.setdefault(b, x).tobytes(), f"{threads} threads"
    for b, x in held.items():
        assert x.tobytes() == given[b].tobytes(), "an input was written"
    return first
