"""From kernels to addresses of machine code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm

from striate.codegen.kernel import Kernel, emit, symbol
from striate.codegen.machine import _machine, compile_object, unscheduled
from striate.target import Target

_loaded: dict[tuple[Kernel, Target], tuple[int, Any]] = {}
_once: list[None] = []


def load(kernels: Iterable[Kernel], target: Target) -> dict[Kernel, int]:
    """The address of the machine code of each kernel: compiled once, then kept."""
    if not _once:
        unscheduled()
        _once.append(None)
    found = {}
    for kernel in kernels:
        if (kernel, target) not in _loaded:
            machine = _machine(target)
            data = compile_object(emit(kernel, target), target)
            module = llvm.parse_assembly(f'target triple = "{target.triple}"\n')
            engine = llvm.create_mcjit_compiler(module, machine)
            engine.add_object_file(llvm.ObjectFileRef.from_data(data))
            engine.finalize_object()
            _loaded[kernel, target] = (engine.get_function_address(symbol(kernel)), engine)
        found[kernel] = _loaded[kernel, target][0]
    return found
