"""From kernels to addresses of machine code: memory, then disk, then the compiler.

What was loaded stays mapped until the process ends: plans hold addresses, and kernels are few since
sizes are not part of them. The kernels of one call share one execution engine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from striate.codegen.kernel import Kernel, symbol
from striate.codegen.machine import can_run, new_machine
from striate.config import settings
from striate.errors import StriateError
from striate.runtime.compilers import compile_all, is_ours
from striate.runtime.objects import ObjectCache, default_folder
from striate.target import Target

_PACKAGE = Path(__file__).parent.parent
# What a kernel's code depends on, besides the kernel, the target and LLVM.
_CODE = ("codegen", "ops", "ir", "transform", "dtype.py", "target.py", "runtime/team_code.py")


class _Loaded:
    """What this process has mapped."""

    def __init__(self) -> None:
        self.addresses: dict[tuple[Kernel, Target], int] = {}
        self.engines: list[Any] = []  # they hold the code
        self.unlock()

    def unlock(self) -> None:
        """As if nobody was loading: also what a forked child does."""
        self.lock = threading.RLock()


_loaded = _Loaded()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loaded.unlock)


def _files() -> Iterator[Path]:
    for name in _CODE:
        path = _PACKAGE / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


@cache
def code_version() -> bytes:
    """What all keys share: the versions of LLVM and of the sources that determine code."""
    total = sha256(repr((llvmlite.__version__, llvm.llvm_version_info)).encode())
    for path in _files():
        total.update(sha256(path.read_bytes()).digest())
    return total.digest()


@cache
def _disk(folder: str, megabytes: int) -> ObjectCache:
    place = Path(folder).expanduser() if folder else default_folder()
    return ObjectCache(place, megabytes << 20)


def disk_cache() -> ObjectCache:
    """The cache that the settings in force name."""
    chosen = settings()
    return _disk(chosen.cache_dir, chosen.cache_size)


def _key(kernel: Kernel, target: Target) -> str:
    identity = f"{type(kernel).__module__} {kernel!r} {target!r}".encode()
    return sha256(code_version() + identity).hexdigest()


def objects(kernels: Iterable[Kernel], target: Target) -> dict[Kernel, bytes]:
    """The object file of each kernel: from disk, or compiled, in parallel, and then on disk.

    Only our own kernels are kept on disk: of others we don't know what their code depends on.

    Raises:
        StriateError: a kernel cannot be compiled.
    """
    disk = disk_cache()
    wanted = dict.fromkeys(kernels)
    keys = {kernel: _key(kernel, target) for kernel in wanted if is_ours(kernel)}
    known = {kernel: data for kernel, key in keys.items() if (data := disk.get(key)) is not None}
    missing = [kernel for kernel in wanted if kernel not in known]
    failed = {}
    for kernel, result in compile_all(missing, target).items() if missing else ():
        if isinstance(result, str):
            failed[kernel] = result
            continue
        known[kernel] = result.data
        if result.tuned and kernel in keys:
            disk.put(keys[kernel], result.data)
    for kernel, why in failed.items():
        raise StriateError(f"kernel {kernel.name} for {target.name} cannot be compiled: {why}")
    return known


def _map(data: dict[Kernel, bytes], target: Target) -> dict[Kernel, int]:
    """Object files in memory, linked and executable; the address of each kernel."""
    module = llvm.parse_assembly(f'target triple = "{target.triple}"\n')
    engine = llvm.create_mcjit_compiler(module, new_machine(target))
    for one in data.values():
        engine.add_object_file(llvm.ObjectFileRef.from_data(one))
    engine.finalize_object()
    _loaded.engines.append(engine)
    return {kernel: engine.get_function_address(symbol(kernel)) for kernel in data}


def load(kernels: Iterable[Kernel], target: Target) -> dict[Kernel, int]:
    """The address of the machine code of each kernel: compiled once, then kept.

    Raises:
        StriateError: a kernel cannot be compiled, or this processor cannot run the target's code.
    """
    wanted = list(kernels)
    if not can_run(target):
        raise StriateError(f"target: this processor cannot run code for {target.name}")
    addresses = _loaded.addresses
    if any((kernel, target) not in addresses for kernel in wanted):
        with _loaded.lock:
            new = [kernel for kernel in wanted if (kernel, target) not in addresses]
            for kernel, address in _map(objects(new, target), target).items() if new else ():
                addresses[kernel, target] = address
    return {kernel: addresses[kernel, target] for kernel in wanted}
