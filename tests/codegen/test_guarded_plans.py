"""Plans of every family of kernels between guard pages, for every target."""

from __future__ import annotations

from itertools import product

import pytest

from striate.target import Target
from tests.codegen.computations import COMPUTATIONS, Draw
from tests.codegen.guard import TARGETS
from tests.codegen.plans import assert_close, fenced, graph_of, program_of, reference


def check(family: str, kind: int, size: int, target: Target) -> None:
    """One random computation: at either end of its pages, by one thread and by three."""
    graph, values = graph_of(COMPUTATIONS[family](Draw(kind, size, family)))
    want, atol = reference(graph, values)
    program = program_of(graph, target)
    low = fenced(program, graph, values, target, threads=1, high=False)
    assert_close(low, want, atol)
    high = fenced(program, graph, values, target, threads=3, high=True)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(low, high, strict=True))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", COMPUTATIONS)
def test_nothing_else_is_touched(family: str, target: Target) -> None:
    """321 cases; each target has computations of its own, for the sake of time."""
    for size in range({"networks": 1, "tiled": 1, "stepped": 2}.get(family, 5)):
        check(family, target.registers + target.vector_bytes, size, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", COMPUTATIONS)
def test_nothing_else_is_touched_by_many(family: str, target: Target) -> None:
    """2,208 cases, the same for all targets."""
    for kind, size in product(range(8), range(4)):
        check(family, kind, size, target)
