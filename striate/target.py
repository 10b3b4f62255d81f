"""What is known of the machine: memory and processors, container limits included."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

_CGROUP = Path("/sys/fs/cgroup")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def _number(path: Path) -> int | None:
    """The integer in a file of the system, or None where there is none."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


@lru_cache(maxsize=1)
def memory_bytes() -> int:
    """Bytes of memory that this process may use: physical, or the limit of the container or of the
    process (`ulimit -v`) if that is less.
    """
    limits = [
        _number(_CGROUP / "memory.max"),
        _number(_CGROUP / "memory" / "memory.limit_in_bytes"),
    ]
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        pass
    if resource is not None:
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        limits.append(None if soft == resource.RLIM_INFINITY else soft)
    return min((n for n in limits if n), default=2**63 - 1)


@lru_cache(maxsize=1)
def cpu_count() -> int:
    """Processors that this process may use: affinity and the container's quota included."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        allowed = os.cpu_count() or 1
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        allowed = min(allowed, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass
    return allowed


def _bytes(text: str) -> int:
    """`48K`, `2M` or `4096` as sysfs writes them."""
    unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
    return int(text.rstrip("KM")) * unit


def _sysctl(name: str) -> int:
    """A number that macOS knows by name; 0 where there is none."""
    value, size = ctypes.c_uint64(), ctypes.c_size_t(8)
    library = ctypes.CDLL(None)
    failed = library.sysctlbyname(
        name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return 0 if failed else value.value


@lru_cache(maxsize=1)
def data_caches() -> tuple[int, int]:
    """Bytes of the first and second data cache of one core; 0 for what is not known."""
    if sys.platform == "darwin":
        names = ("l1dcachesize", "l2cachesize")
        l1, l2 = (_sysctl(f"hw.perflevel0.{n}") or _sysctl(f"hw.{n}") for n in names)
        return l1, l2
    sizes = {1: 0, 2: 0}
    for index in sorted(_CACHES.glob("index*")):
        try:
            level = int((index / "level").read_text())
            if level in sizes and (index / "type").read_text().strip() != "Instruction":
                sizes[level] = _bytes((index / "size").read_text().strip())
        except (OSError, ValueError):
            pass
    return sizes[1], sizes[2]


@dataclass(frozen=True, slots=True)
class Target:
    """A processor to generate code for; a value, so that any machine can compile for any other.

    Attributes:
        name: `x86-64-v4` (AVX-512), `x86-64-v3` (AVX2 and FMA), `x86-64-v2`, `aarch64`, or the
            host's own, which is one of these with more features.
        triple, cpu, features: as LLVM names them.
        vector_bytes: width of a vector register.
        registers: how many vector registers there are.
        masks: whether lanes can be switched off at no cost.
        l1, l2: bytes of the data caches of one core.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    masks: bool
    l1: int = 32 << 10
    l2: int = 512 << 10

    def lanes(self, bits: int) -> int:
        """Elements of this width in a vector register."""
        return self.vector_bytes * 8 // bits
