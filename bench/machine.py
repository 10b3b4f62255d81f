"""The machine: what it is, how many operations a second it can do, how many bytes it can move.

Peak and bandwidth are measured by kernels of striate's own code generator, of which every thread
runs one: independent chains of fused multiply-adds, and a copy of memory. Where it cannot make
them, NumPy's matrix product and copy are lower bounds, and `Probes.note` says so.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import striate as st
from striate.codegen.emitter import F32, Emitter, vector
from striate.codegen.machine import host_target
from striate.config import settings
from striate.runtime.jit import load
from striate.target import Target, cpu_count, memory_bytes

PACKAGES = (
    "numpy", "llvmlite", "torch", "onnxruntime", "openvino", "ncnn", "pnnx", "jax", "jaxlib",
    "onnx", "onnxscript",
)  # fmt: skip
FEATURES = (
    "avx2", "fma", "avx512f", "avx512vnni", "avx512bf16", "avx512fp16", "amx-tile", "amx-bf16",
    "neon", "sve",
)  # fmt: skip
CHAINS = 12  # more than latency times ports
COPY_BYTES = 256 << 20


# ---- what it is ----------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _processor() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _caches() -> str:
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "unknown"


def _features() -> str:
    has = host_target().features.split(",")
    return " ".join(name for name in FEATURES if f"+{name}" in has)


def _versions() -> str:
    found = [f"striate {st.__version__}", f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _load() -> str:
    """How busy the machine is with other work; more than a little spoils the numbers."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    busy = os.getloadavg()[0]
    return f"{busy:.1f}{' (BUSY: take no number from this run)' if busy > 0.7 else ''}"


def describe(threads: int) -> dict[str, str]:
    """What a reader must know to judge the numbers, by name."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} processors, {cpu_count()} usable",
        "instruction set": f"{host_target().name} ({_features()})",
        "caches": _caches(),
        "memory": f"{memory_bytes() / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {platform.libc_ver()[0]} "
        f"{platform.libc_ver()[1]}",
        "threads": str(threads),
        "load before": _load(),
        "backend": f"{settings().backend}",
        "versions": _versions(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
    }


def pin_torch(threads: int) -> None:
    """Tell PyTorch, which does not ask the environment in every build."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)


# ---- what it can do ------------------------------------------------------------------------


@dataclass(frozen=True)
class Chains:
    """words: how many steps. Each step is one multiply-add in each of `CHAINS` vectors."""

    name: str = "bench_multiply_add"

    def emit(self, e: Emitter) -> None:
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


_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def _run(pool: ThreadPoolExecutor, address: int, words: Any, threads: int) -> float:
    """Seconds until all threads have made the call."""
    call = _CALL(address)
    start = time.perf_counter()
    futures = [pool.submit(call, words.ctypes.data, t, threads) for t in range(1, threads)]
    call(words.ctypes.data, 0, threads)
    for future in futures:
        future.result()
    return time.perf_counter() - start


def _generated(threads: int) -> Probes:
    target: Target = host_target()
    chains, copy = Chains(), Copy()
    address = load([chains, copy], target)
    pool = ThreadPoolExecutor(threads)
    sums = np.zeros(16 * threads + 16, np.float32)
    sink = np.array([0, sums.ctypes.data], np.int64)

    def peak(n: int) -> float:
        best = 0.0
        for steps in (1000, 400_000, 400_000):  # the first wakes the threads
            sink[0] = steps
            flops = 2 * CHAINS * target.lanes(32) * steps * n
            assert (
                sums.size >= 16 * n
            )  # and it lives as long as this function, which has its address
            best = max(best, flops / _run(pool, address[chains], sink, n))
        return best

    def bandwidth(n: int) -> float:
        source = np.ones(COPY_BYTES // 4, np.float32)
        to = np.zeros(COPY_BYTES // 4 + 64, np.float32)
        vectors = COPY_BYTES // target.vector_bytes
        words = np.array([source.ctypes.data, to.ctypes.data, vectors], np.int64)
        times = [_run(pool, address[copy], words, n) for _ in range(5)]
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


def measure(found: Probes, threads: int) -> dict[str, str]:
    """Peak and bandwidth on one thread and on all, as text."""
    out = {}
    for n in sorted({1, threads}):
        peaks = sorted(found.peak(n) for _ in range(5))
        out[f"peak, {n} thread{'s' * (n > 1)}"] = (
            f"{peaks[-1] / 1e9:.0f} GFLOP/s float32 (median of 5: {peaks[2] / 1e9:.0f})"
        )
        out[f"copy, {n} thread{'s' * (n > 1)}"] = f"{found.copy(n) / 1e9:.1f} GB/s, read + written"
    if found.note:
        out["note"] = found.note
    return out
