"""Whole plans, in one arena and by the team, for every target that the host can run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import striate as st
from striate.runtime.executable import Executable
from striate.runtime.programs import lowered
from striate.target import Target
from tests.codegen.computations import COMPUTATIONS, Draw
from tests.codegen.guard import TARGETS
from tests.codegen.plans import assert_close, graph_of, reference


@pytest.fixture
def threads() -> Iterator[None]:
    before = st.get_num_threads()
    yield
    st.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", COMPUTATIONS)
def test_plans_equal_the_interpreter(family: str, target: Target) -> None:
    """Again and again, with what depends on some inputs alone computed anew or kept, and by one
    thread or three: the same to the bit.
    """
    draw = Draw(target.registers + target.vector_bytes, 0, family)
    graph, values = graph_of(COMPUTATIONS[family](draw))
    want, atol = reference(graph, values)
    first: list[bytes] = []
    for count in (1, 3):
        st.set_num_threads(count)
        with st.config(target=target.name, verify=True):
            plan = Executable(lowered(graph, target), target)
        assert plan.target == target
        for state in ([], *[list(range(1, len(values)))] * 3):
            found = plan(values, state)
            assert_close(found, want, atol)
            bits = [x.tobytes() for x in found]
            first = first or bits
            assert bits == first
