"""Run steps on NumPy arrays without a team: the threads of a step are played one after another.

    run([step], {buffer: array, ...}, threads=3)

That is legal for every kernel, since no thread of a step depends on another. `memory` gives the
memory of buffers that the steps bring along, and of scratch: `guard.Fences(...).memory` gives it
between pages that cannot be touched, so that a read or write outside of it is a crash and not a
silent error.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from striate.codegen.kernel import At, Buffer, Kernel, Scratch, Step, Table
from striate.codegen.machine import host_target
from striate.runtime.jit import load
from striate.target import Target

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def aligned(shape: tuple[int, ...], dtype: np.typing.DTypeLike = np.float32) -> NDArray[np.generic]:
    """Zeros whose address is a multiple of 64."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def anywhere(nbytes: int) -> NDArray[np.uint8]:
    """Aligned memory with ones in every bit, which is NaN."""
    memory = aligned((nbytes,), np.uint8).view(np.uint8)
    memory[:] = 0xFF
    return memory


def bind(
    step: Step,
    arrays: Mapping[Buffer, NDArray[np.generic]],
    threads: int,
    keep: list[object],
    memory: Callable[[int], NDArray[np.uint8]] = anywhere,
) -> NDArray[np.int64]:
    """The words of a step as numbers; what they point to is appended to `keep`."""
    words = np.zeros(max(1, len(step.words)), np.int64)
    for i, word in enumerate(step.words):
        if isinstance(word, int):
            words[i] = word
        elif isinstance(word, Buffer):
            words[i] = arrays[word].ctypes.data
        elif isinstance(word, At):
            words[i] = arrays[word.buffer].ctypes.data + word.offset
        elif isinstance(word, Table):
            table = memory(8 * len(word.values)).view(np.int64)
            table[:] = word.values
            keep.append(table)
            words[i] = table.ctypes.data
        else:
            assert isinstance(word, Scratch)
            scratch = memory(word.nbytes * threads)
            keep.append(scratch)
            words[i] = scratch.ctypes.data
    return words


def run(
    steps: Sequence[Step],
    arrays: Mapping[Buffer, NDArray[np.generic]],
    threads: int = 1,
    target: Target | None = None,
    memory: Callable[[int], NDArray[np.uint8]] = anywhere,
) -> None:
    """Run the steps in order, each by `threads` threads in turn."""
    target = target or host_target()
    made = {b for step in steps for b in step.buffers()} - arrays.keys()
    arrays = {**arrays, **{b: memory(b.nbytes) for b in made}}
    keep: list[object] = []
    addresses: dict[Kernel, int] = load([s.kernel for s in steps], target)
    for step in steps:
        count = 1 if step.single else threads
        words = bind(step, arrays, count, keep, memory)
        call = SIGNATURE(addresses[step.kernel])
        for thread in range(count):
            call(words.ctypes.data, thread, count)


def caller(step: Step, arrays: Mapping[Buffer, NDArray[np.generic]]):  # type: ignore[no-untyped-def]
    """A function that runs a step on one thread, for timing."""
    keep: list[object] = []
    words = bind(step, arrays, 1, keep)
    call = SIGNATURE(load([step.kernel], host_target())[step.kernel])
    address = words.ctypes.data
    return lambda: (call(address, 0, 1), keep, words)[0]
