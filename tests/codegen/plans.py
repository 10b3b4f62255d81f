"""Whole plans: from arrays that nobody has read to a graph, its steps, and how exact they are."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate.codegen.kernel import Buffer
from striate.codegen.lower import PASSES, Lowering, Program
from striate.ir.graph import Graph, Node, parameter, substitute, topological
from striate.ops.conv import CONV
from striate.ops.movement import SUM
from striate.target import Target
from striate.transform.interpret import interpret
from striate.transform.simplify import simplify
from tests.codegen.guard import Fences
from tests.codegen.harness import run

Array = NDArray[Any]


def graph_of(outputs: Sequence[st.Array]) -> tuple[Graph, list[Array]]:
    """The arrays as a function of what is known, and what is known."""
    nodes = [y.node for y in outputs]
    known = [n for n in topological(nodes, stop=lambda n: n.data is not None) if n.data is not None]
    inputs = [parameter(n.type) for n in known]
    made = substitute(nodes, dict(zip(known, inputs, strict=True)))
    values = [np.array(n.data, order="C") for n in known]
    return simplify(Graph(tuple(inputs), tuple(made))), values


def program_of(graph: Graph, target: Target) -> Program:
    """The steps for a target."""
    for _, change in PASSES:
        graph = change(graph, target)
        graph.verify()
    return Lowering(graph, target).program


def fenced(
    program: Program,
    graph: Graph,
    values: Sequence[Array],
    target: Target,
    threads: int,
    high: bool,
) -> list[Array]:
    """The outputs of a plan of which every value, constant, table and scratch memory has pages of
    its own, between pages that cannot be touched.

    Raises:
        AssertionError: bytes beside them, or inputs, were written.
    """
    fences = Fences(high)
    given = {b: fences.copy(x) for b, x in zip(program.inputs, values, strict=True)}
    given |= {b: fences.copy(np.asarray(x)) for b, x in program.constants.items()}
    faults = {b: fences.copy(np.zeros(2, np.int64)) for b, _ in program.faults}
    made = {b: fences.memory(b.nbytes) for b in program.outputs if b not in given}
    before = {b: x.tobytes() for b, x in given.items()}
    run(program.steps, given | faults | made, threads, target, fences.memory)
    fences.check()
    assert all(x.tobytes() == before[b] for b, x in given.items()), "an input was written"
    assert not any(f.any() for f in faults.values())

    def value(b: Buffer, n: Node) -> Array:
        raw: Array = (given | made)[b]
        return raw.reshape(-1).view(n.type.dtype.numpy).reshape(n.shape)

    return [value(b, n) for b, n in zip(program.outputs, graph.outputs, strict=True)]


def terms(n: Node) -> int:
    """How many roundings one element of a node may have."""
    if n.op is SUM:
        return prod(n.inputs[0].shape[a] for a in n.attrs)
    if n.op is CONV:
        return prod(n.inputs[1].shape[2:])
    return 1


def reference(graph: Graph, values: Sequence[Array]) -> tuple[list[Array], float]:
    """What the interpreter gives, and how far from it a result may be: each rounding is half a unit
    in the last place of the largest value there is, and both sides round.
    """
    every = [n for n in graph.nodes() if n.type.dtype.is_floating]
    found = interpret(Graph(graph.inputs, (*graph.outputs, *every)), values)
    outputs, floats = found[: len(graph.outputs)], found[len(graph.outputs) :]
    size = max((np.abs(np.asarray(x, np.float64)).max(initial=0) for x in floats), default=0.0)
    units = {n.type.dtype.short: n.type.dtype for n in every}
    eps = max(
        (2.0**-7 if s == "bf16" else np.finfo(d.numpy).eps for s, d in units.items()), default=0
    )
    return outputs, float(eps) * sum(map(terms, every)) * float(size)


def assert_close(got: Sequence[Array], want: Sequence[Array], atol: float) -> None:
    """Floats within the bound, all else equal."""
    for a, b in zip(got, want, strict=True):
        if b.dtype.kind in "biu":
            np.testing.assert_array_equal(a, b)
        else:
            wide, exact = np.asarray(a, np.float64), np.asarray(b, np.float64)
            np.testing.assert_allclose(wide, exact, rtol=0, atol=atol)
