"""The machine: what it is, how many operations a second it can do, how many bytes it can move.

Peak and bandwidth are measured by `striate.tools.peak`.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import striate as st
from striate.codegen.machine import host_target
from striate.config import settings
from striate.target import cpu_count, memory_bytes
from striate.tools.peak import Probes

PACKAGES = (
    "numpy", "llvmlite", "torch", "onnxruntime", "openvino", "ncnn", "pnnx", "jax", "jaxlib",
    "onnx", "onnxscript",
)  # fmt: skip
FEATURES = (
    "avx2", "fma", "avx512f", "avx512vnni", "avx512bf16", "avx512fp16", "amx-tile", "amx-bf16",
    "neon", "sve",
)  # fmt: skip


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
