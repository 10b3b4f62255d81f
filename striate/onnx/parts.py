"""A model that needs values of its data: parts that are compiled, and single nodes between them.

A node that reads such a value (the boxes of a suppression, say) runs by itself, on values. All
others are in parts, each of which is one `st.jit` function of what the parts and nodes before it
made. A node is as early as what it reads allows, so that independent suppressions share a cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any

from striate.core.array import Array, current_trace, is_recording
from striate.core.transforms import jit
from striate.onnx.model import Model, Node
from striate.onnx.operators import OPERATORS
from striate.onnx.run import Runner, Scope, Static, asked_by, body_outputs
from striate.runtime.plan import evaluate
from striate.runtime.profile import Profile, Row

Leaf = Array | Static | None


def fixed_names(model: Model) -> set[str]:
    """The names of the main graph whose values follow from constants and shapes."""
    fixed = set(model.graph.initializers)
    for node in model.graph.nodes:
        rule = OPERATORS.get((node.domain, node.op_type))
        if rule is None or rule.random or any(node.subgraphs):
            continue
        if rule.shape_only or fixed.issuperset(filter(None, node.inputs)):
            fixed.update(filter(None, node.outputs))
    return fixed


def fixed_needs(model: Model, fixed: set[str]) -> set[str]:
    """Of the fixed names, those whose values nodes must know to be run, and all that these are
    computed from.
    """
    names: set[str] = set()
    for node in reversed(model.graph.nodes):
        read = any(name in names for name in node.outputs if name)
        names |= asked_by(model, node, read) & fixed
    return names


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes that are compiled together, and those that run after them, one by one.

    Attributes:
        nodes: the nodes of the part.
        reads, gives: the names that it takes from before and that are read after it.
        then: nodes that need values, none of which reads the results of another.
    """

    nodes: tuple[Node, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    then: tuple[Node, ...]


def divided(model: Model, fixed: set[str]) -> list[Part]:
    """The main graph in as few parts as the nodes that need values allow."""
    graph = model.graph
    level = dict.fromkeys((v.name for v in graph.inputs), 0)  # of a name; weights have none
    together: list[list[Node]] = [[]]
    alone: list[list[Node]] = [[]]
    visible = {*level, *graph.initializers, *chain(*(node.outputs for node in graph.nodes))}
    for node in graph.nodes:
        at = max((level.get(name, 0) for name in node.reads), default=0)
        single = not asked_by(model, node, False) & visible <= fixed
        (alone if single else together)[at].append(node)
        level.update(dict.fromkeys(node.outputs, at + single))
        if at + single == len(together):
            together.append([])
            alone.append([])
    asked = set(body_outputs(graph))
    parts: list[Part] = []
    for nodes, then in reversed([*zip(together, alone, strict=True)]):
        asked = asked.union(*(node.reads for node in then))
        made = set(chain(*(node.outputs for node in nodes)))
        gives = asked & made
        reads = set().union(*(node.reads for node in nodes)) - made & level.keys()
        asked |= reads
        parts.append(Part(tuple(nodes), tuple(sorted(reads)), tuple(sorted(gives)), tuple(then)))
    return parts[::-1]


class Parts:
    """Calls run a model in parts; like a function under `st.jit`, it has a `profile`.

    Args:
        model: the model.
        parts: of its graph.
        weights: gives the names that hold weights, with their present values.
        training: says whether the model is in training mode.
    """

    def __init__(
        self,
        model: Model,
        parts: Sequence[Part],
        weights: Callable[[], Mapping[str, Array]],
        training: Callable[[], bool],
    ) -> None:
        self._model = model
        self._weights = weights
        self._training = training
        self._parts = [(part, jit(self._compiled(part))) for part in parts]

    def __call__(self, *inputs: Array) -> list[Array]:
        """The outputs of the model."""
        return self._run(inputs, None)

    def profile(self, *inputs: Array) -> Profile:
        """A run, timed: the steps of all parts, and a row for each node that runs by itself."""
        rows: list[Row] = []
        self._run(inputs, rows)
        return Profile(tuple(rows))

    def _run(self, inputs: Sequence[Array], rows: list[Row] | None) -> list[Array]:
        runner = self._runner()
        names = (v.name for v in self._model.graph.inputs)
        scope = runner.opened({**self._weights(), **dict(zip(names, inputs, strict=True))})
        for part, run in self._parts:
            if part.nodes:
                given = _leaves(scope, part.reads)
                _define(scope, *run(*given))
                if rows is not None and part.gives:
                    rows += run.profile(*given).rows
            for node in part.then:
                start = perf_counter()
                runner.walk((node,), scope, self._model.opsets)
                _compute(scope.values.get(name) for name in node.outputs)
                if rows is not None:
                    seconds = perf_counter() - start
                    name = node.name or " ".join(filter(None, node.outputs))
                    rows.append(Row(node.op_type, "by itself", seconds, 0, 0, (name,)))
        return runner.results(self._model.graph, scope)

    def _runner(self) -> Runner:
        return Runner(self._model, self._training())

    def _compiled(self, part: Part) -> Any:
        """The function of a part: from what it reads to what it gives."""

        def run(given: dict[str, Leaf], half: frozenset[str]) -> tuple[dict[str, Leaf], Any]:
            runner = self._runner()
            scope = runner.opened(self._weights())
            _define(scope, given, half)
            runner.walk(part.nodes, scope, self._model.opsets)
            return _leaves(scope, part.gives)

        return run


def _leaves(scope: Scope, names: Sequence[str]) -> tuple[dict[str, Leaf], frozenset[str]]:
    """The values of names as arguments or results of a part, and which are of float16."""
    leaves: dict[str, Leaf] = {}
    for name in names:
        value = scope.values[name]
        known = value is not None and name in scope.static and value.node.data is not None
        leaves[name] = Static(value.numpy()) if known else value  # type: ignore[union-attr]
    return leaves, frozenset(scope.half.intersection(names))


def _define(scope: Scope, leaves: Mapping[str, Leaf], half: frozenset[str]) -> None:
    for name, value in leaves.items():
        scope.give(name, value, name in half)


def _compute(values: Any) -> None:
    """Compute several results of a node at once."""
    if current_trace() is None and not is_recording():
        evaluate([x.node for x in values if x is not None])
