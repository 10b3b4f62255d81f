"""How many operations a second the processor can do, how many bytes it can move.

Measured by kernels of striate's own code generator, of which every thread runs one: independent
chains of fused multiply-adds, and a copy of memory. Where it cannot make them, NumPy's matrix
product and copy are lower bounds, and `Probes.note` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.codegen.emitter import F32, Emitter, vector
from striate.codegen.machine import host_target
from striate.runtime.jit import load
from striate.runtime.team import BARRIER, Program, run
from striate.target import Target

CHAINS = 12  # more than latency times ports
COPY_BYTES = 256 << 20


@dataclass(frozen=True)
class Chains:
    """words: how many steps. Each step is one multiply-add in each of `CHAINS` vectors."""

    name: str = "bench_multiply_add"

    def emit(self, e: Emitter) -> None:
        """The kernel's code."""
        type = vector(F32, e.target.lanes(32))
        fused = e.target.name != "x86-64-v2"
        half = e.const(type, 0.5)

        def step(_: Any, sums: list[Any]) -> list[Any]:
            if fused:
                return [e.fma(x, half, half) for x in sums]
            return [e.b.fadd(e.b.fmul(x, half), half) for x in sums]

        start = [e.const(type, float(i)) for i in range(CHAINS)]
        total, *rest = e.loop(0, e.number(0), 1, start, step)
        for x in rest:
            total = e.b.fadd(total, x)
        e.store(total, e.at(e.pointer(1), e.mul(e.thread, 16), F32))


@dataclass(frozen=True)
class Copy:
    """words: from, to, how many vectors. Each thread copies its part."""

    name: str = "bench_copy"

    def emit(self, e: Emitter) -> None:
        """The kernel's code."""
        type = vector(F32, e.target.lanes(32))
        first, last = e.share(e.number(2))
        source, target = e.pointer(0), e.pointer(1)

        def move(i: Any) -> None:
            e.store(e.load(e.at(source, i, type), type), e.at(target, i, type))

        e.each(first, last, move)


@dataclass
class Probes:
    """How to measure the machine.

    Attributes:
        peak: FLOP/s of float32 on this many threads, measured now, in a few milliseconds.
        copy: bytes read plus bytes written a second on this many threads.
        note: where they are not what they should be.
    """

    peak: Callable[[int], float]
    copy: Callable[[int], float]
    note: str = ""


def _run(address: int, words: Any, threads: int) -> float:
    """Seconds until all threads have made the call."""
    program = Program([[address, words.ctypes.data, BARRIER]], words)
    start = time.perf_counter()
    run(program, threads)
    return time.perf_counter() - start


def _generated(threads: int) -> Probes:
    target: Target = host_target()
    chains, copy = Chains(), Copy()
    address = load([chains, copy], target)
    sums = np.zeros(16 * threads + 16, np.float32)
    sink = np.array([0, sums.ctypes.data], np.int64)  # `peak` holds `sums`, which has that address

    def peak(n: int) -> float:
        best = 0.0
        for steps in (1000, 400_000, 400_000):  # the first wakes the threads
            sink[0] = steps
            flops = 2 * CHAINS * target.lanes(32) * steps * n
            if 16 * n > sums.size:
                raise ValueError(f"peak: probes for {threads} threads were asked for {n}")
            best = max(best, flops / _run(address[chains], sink, n))
        return best

    def bandwidth(n: int) -> float:
        source = np.ones(COPY_BYTES // 4, np.float32)
        to = np.zeros(COPY_BYTES // 4 + 64, np.float32)
        vectors = COPY_BYTES // target.vector_bytes
        words = np.array([source.ctypes.data, to.ctypes.data, vectors], np.int64)
        times = [_run(address[copy], words, n) for _ in range(5)]
        return 2 * COPY_BYTES / min(times[1:])

    return Probes(peak, bandwidth)


def _numpy(reason: str) -> Probes:
    a = np.ones((1024, 1024), np.float32)

    def peak(_: int) -> float:
        times = []
        for _i in range(3):
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        return 2 * 1024**3 / min(times)

    def bandwidth(_: int) -> float:
        source = np.ones(COPY_BYTES // 4, np.float32)
        to = source.copy()
        start = time.perf_counter()
        np.copyto(to, source)
        return 2 * COPY_BYTES / (time.perf_counter() - start)

    return Probes(peak, bandwidth, f"peak and bandwidth are NumPy's, lower bounds: {reason}")


def probes(threads: int) -> Probes:
    """The best there are here, for up to this many threads."""
    try:
        found = _generated(threads)
        found.peak(1)
    except Exception as error:
        return _numpy(f"{type(error).__name__}: {error}".splitlines()[0])
    return found
