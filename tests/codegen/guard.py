"""Arrays that end at a page which cannot be touched, and steps that must not care for threads."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.kernel import Buffer, Step
from striate.codegen.machine import host_target, named_target
from striate.dtype import DType
from striate.target import Target
from tests.codegen.harness import run

Array = NDArray[np.generic]
_X86 = ("x86-64-v2", "x86-64-v3", "x86-64-v4")


def _target(name: str) -> object:
    host = host_target().name
    able = host in _X86 and _X86.index(name) <= _X86.index(host)
    skip = pytest.mark.skip(reason=f"the host, {host}, cannot run {name}")
    return pytest.param(named_target(name), id=name[-2:], marks=() if able else skip)


TARGETS = [_target(name) for name in _X86]


def guarded(shape: Sequence[int], dtype: np.typing.DTypeLike) -> Array:
    """Ones in every byte, behind which a page begins that is not there."""
    page = mmap.PAGESIZE
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    whole = -(-max(nbytes, 1) // page) * page
    memory = mmap.mmap(-1, whole + page)
    raw = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert not protect(ctypes.c_void_p(raw.ctypes.data + whole), ctypes.c_size_t(page), 0)
    array = raw[whole - nbytes : whole].view(dtype).reshape(shape)
    raw[:whole] = 0xFF
    return array


def copy_of(x: Array) -> Array:
    """`x` before a guard page."""
    copy = guarded(x.shape, x.dtype)
    copy[...] = x
    return copy


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
