"""LLVM: targets by name, and from IR text to an object file or assembly.

`misched` (the machine scheduler) is off: kernels are already scheduled, and it hoists broadcasts
and spills accumulators. It is an option of the whole process, so objects are made in worker
processes (`runtime/worker.py`), where it disturbs nobody else's LLVM.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from striate.errors import StriateError
from striate.target import Target

_V2 = "+cx16,+popcnt,+sahf,+sse3,+ssse3,+sse4.1,+sse4.2"
_V3 = f"{_V2},+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe"
_V4 = f"{_V3},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl,-prefer-256-bit"
_X86 = {
    "x86-64-v4": (_V4, 64, 32, True),
    "x86-64-v3": (_V3, 32, 16, False),
    "x86-64-v2": (_V2, 16, 16, False),
}


def _initialize() -> None:
    for name in ("initialize_all_targets", "initialize_all_asmprinters"):
        getattr(llvm, name)()


def unscheduled() -> None:
    """Turn the machine scheduler off in this process, for good; call once, before compiling."""
    llvm.set_option("striate", "--enable-misched=false")


def _operating_system() -> str:
    triple: str = llvm.get_default_triple()
    return triple.split("-", 1)[1]


def named_target(name: str) -> Target:
    """The target of a name.

    Raises:
        StriateError: there is no target of this name.
    """
    if name in _X86:
        features, width, registers, masks = _X86[name]
        return Target(
            name, f"x86_64-{_operating_system()}", name, features, width, registers, masks
        )
    if name == "aarch64":
        triple = f"aarch64-{_operating_system()}"
        return Target(name, triple, "generic", "+neon", 16, 32, False, 64 << 10)
    raise StriateError(f"target: no target {name!r}; there are {', '.join([*_X86, 'aarch64'])}")


@cache
def host_target() -> Target:
    """The processor that this process runs on, with all its features."""
    _initialize()
    if platform.machine().lower() in ("aarch64", "arm64"):
        features = llvm.get_host_cpu_features().flatten()
        triple = llvm.get_default_triple()
        return Target(
            "aarch64", triple, llvm.get_host_cpu_name(), features, 16, 32, False, 64 << 10
        )
    has = {name for name, on in llvm.get_host_cpu_features().items() if on}
    for name, (features, width, registers, masks) in _X86.items():
        if {f[1:] for f in features.split(",") if f[0] == "+"} - {"sahf"} <= has:
            every = llvm.get_host_cpu_features().flatten() + ",-prefer-256-bit"
            triple = llvm.get_default_triple()
            return Target(name, triple, llvm.get_host_cpu_name(), every, width, registers, masks)
    raise StriateError(f"target: {llvm.get_host_cpu_name()} is older than x86-64-v2")


@cache
def _machine(target: Target) -> Any:
    _initialize()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, jit=True, reloc="pic", codemodel="small"
    )


def _optimized(text: str, target: Target) -> tuple[Any, Any]:
    machine = _machine(target)
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.slp_vectorization = options.loop_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return machine, module


def compile_object(text: str, target: Target) -> bytes:
    """The object file of a module of LLVM IR."""
    machine, module = _optimized(text, target)
    data: bytes = machine.emit_object(module)
    return data


def assembly(text: str, target: Target) -> str:
    """The assembly of a module of LLVM IR, for people and tests."""
    machine, module = _optimized(text, target)
    written: str = machine.emit_assembly(module)
    return written
