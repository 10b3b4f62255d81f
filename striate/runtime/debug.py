"""What the compiler does, as text on stderr: the ladder of `STRIATE_DEBUG` (`config.Settings`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from striate.codegen.kernel import Step, emit
from striate.codegen.machine import assembly
from striate.config import settings
from striate.ir.graph import Graph
from striate.ir.printer import render
from striate.target import Target

PLAN, PASSES, GRAPHS, KERNELS, IR, ASSEMBLY = range(1, 7)


def _print(text: str) -> None:
    print(text, file=sys.stderr)


def show_pass(name: str, graph: Graph) -> None:
    """A graph after a pass: its size, or its text."""
    if settings().debug >= PASSES:
        _print(f"{name}: {len(graph.nodes())} nodes")
    if settings().debug >= GRAPHS:
        _print(render(graph))


def show_plan(steps: Sequence[Step], target: Target) -> None:
    """The steps of a plan, and their kernels."""
    level = settings().debug
    if level < PLAN:
        return
    _print(f"plan: {len(steps)} steps, {len({s.kernel for s in steps})} kernels for {target.name}")
    for i, s in enumerate(steps):
        made = ", ".join(f"{b.nbytes:,}" for b in s.writes)
        _print(f"  {i:4d}  {s.label:<48} writes {made} bytes{' (one thread)' * s.single}")
    for kernel in dict.fromkeys(s.kernel for s in steps):
        if level >= KERNELS:
            _print(repr(kernel))
        if level >= IR:
            _print(emit(kernel, target))
        if level >= ASSEMBLY:
            _print(assembly(emit(kernel, target), target))
