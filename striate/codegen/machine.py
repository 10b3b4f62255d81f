"""LLVM: targets by name, and from IR text to an object file or assembly.

`misched` (the machine scheduler) is off: kernels are already scheduled, and it hoists broadcasts
and spills accumulators. It is an option of the whole process, so most objects are made in worker
processes (`runtime/worker.py`), where it disturbs nobody else's LLVM; a few small ones are made
here, and the option is as it was when they are done.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from striate.config import settings
from striate.errors import StriateError
from striate.target import Target, data_caches

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


_unscheduled = [0]  # how many want the scheduler to be off


def unscheduled() -> None:
    """Turn the machine scheduler off in this process, for good; call before compiling."""
    _unscheduled[0] += 1
    llvm.set_option("striate", "--enable-misched=false")


@contextmanager
def without_scheduler() -> Iterator[None]:
    """A block in which the machine scheduler is off. Another thread that compiles meanwhile gets
    code that is as correct, but may be slower; ours take turns (`runtime/jit.py: load`).
    """
    unscheduled()
    try:
        yield
    finally:
        _unscheduled[0] -= 1
        if not _unscheduled[0]:
            llvm.set_option("striate", "--enable-misched=true")


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


def _of_host(target: Target) -> Target:
    """The target with all features and with the caches of the processor that we run on."""
    l1, l2 = data_caches()
    tuning = [",-prefer-256-bit"] if target.vector_bytes == 64 else []
    return replace(
        target,
        triple=llvm.get_default_triple(),
        cpu=llvm.get_host_cpu_name(),
        features="".join([llvm.get_host_cpu_features().flatten(), *tuning]),
        l1=l1 or target.l1,
        l2=l2 or target.l2,
    )


@cache
def host_target() -> Target:
    """The processor that this process runs on, with all its features.

    Raises:
        StriateError: there is no code generator for it.
    """
    arm = platform.machine().lower() in ("aarch64", "arm64")
    for name in ("aarch64",) if arm else _X86:
        if can_run(named_target(name)):
            return _of_host(named_target(name))
    raise StriateError(f"target: {llvm.get_host_cpu_name()} is older than x86-64-v2")


def current_target() -> Target:
    """What to compile for: the host, or the target that the settings name (`STRIATE_TARGET`).

    Raises:
        StriateError: there is no target of this name.
    """
    name = settings().target
    return named_target(name) if name else host_target()


@cache
def can_run(target: Target) -> bool:
    """Whether the processor that this process runs on can run code for the target."""
    family = target.triple.split("-", 1)[0]
    if family != llvm.get_default_triple().split("-", 1)[0].replace("arm64", "aarch64"):
        return False
    wanted = {f[1:] for f in target.features.split(",") if f[:1] == "+"}
    found = {name for name, on in llvm.get_host_cpu_features().items() if on}
    return family == "aarch64" or wanted - {"sahf"} <= found


def new_machine(target: Target) -> Any:
    """LLVM's code generator for a target; an execution engine takes possession of its own.

    Raises:
        StriateError: LLVM doesn't know the target.
    """
    _initialize()
    try:
        found = llvm.Target.from_triple(target.triple)
    except RuntimeError as error:
        raise StriateError(f"target: LLVM cannot generate {target.triple}: {error}") from error
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, jit=True, reloc="pic", codemodel="small"
    )


_machine = cache(new_machine)

# What kernels need that are already scheduled; the default pipeline takes four times as long. GVN
# before the rotation of loops leaves Winograd's transforms with values that it spills.
_PASSES = (
    "sroa", "simplify_cfg", "instruction_combine", "loop_rotate",
    "new_gvn", "instruction_combine", "simplify_cfg",
)  # fmt: skip
_AMPLE = 32  # vector registers; with fewer a loop spills unless what does not change leaves it


def _simplify(module: Any, machine: Any, target: Target) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.slp_vectorization = options.loop_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    if target.registers >= _AMPLE:
        passes = llvm.create_new_module_pass_manager()
        for name in _PASSES:
            getattr(passes, f"add_{name}_pass")()
        passes.run(module, builder)
        return
    passes = builder.getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def _optimized(text: str, target: Target) -> tuple[Any, Any]:
    machine = _machine(target)
    module = llvm.parse_assembly(text)
    module.verify()
    _simplify(module, machine, target)
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
