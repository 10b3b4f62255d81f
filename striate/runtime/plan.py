"""The boundary between what is to be computed and how.

`evaluate` computes nodes. Their graph is brought into a canonical form in which every known value
is an input, so that two graphs of one structure share one `Plan`: changing data (a learning rate
too) never compiles anew. A backend is a function Graph -> Plan.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol, cast

from striate.config import settings
from striate.errors import StriateError, TraceError
from striate.ir.graph import PARAMETER, Graph, Node, Value, parameter, remade, topological
from striate.ops.movement import ALIAS, filled
from striate.transform.interpret import interpret
from striate.transform.simplify import simplify


class Plan(Protocol):
    """The executable of a graph."""

    @property
    def fresh(self) -> Sequence[bool]:
        """Per output whether every call makes it anew, in memory that nothing else uses."""
        ...

    def __call__(self, values: Sequence[Value], state: Sequence[int] = ()) -> list[Value]:
        """The outputs for these inputs; `state` are the numbers of those that are expected to stay
        the same objects from call to call.
        """
        ...

    def profile(
        self, values: Sequence[Value], state: Sequence[int] = (), layers: Sequence[str] = ()
    ) -> Any:
        """A run, timed step by step: a `runtime.profile.Profile`; `layers` name the `rows`."""
        ...


def _compile(graph: Graph) -> Plan:
    """Machine code; LLVM is loaded with the first plan."""
    module = import_module("striate.runtime.executable")
    return cast(Plan, module.Executable(graph))


class Interpreted:
    """The plan of the interpreter."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.fresh = [False] * len(graph.outputs)  # NumPy may give a view of an input

    def __call__(self, values: Sequence[Value], state: Sequence[int] = ()) -> list[Value]:
        """The outputs for these inputs."""
        return interpret(self.graph, values)

    def profile(
        self, values: Sequence[Value], state: Sequence[int] = (), layers: Sequence[str] = ()
    ) -> Any:
        """Raises: StriateError, since there are no steps."""
        raise StriateError("profile: the backend numpy has no steps; use native")


BACKENDS: dict[str, Callable[[Graph], Plan]] = {
    "native": _compile,
    "numpy": Interpreted,
}
MAX_PLANS = 512

_plans: OrderedDict[Hashable, Plan] = OrderedDict()


def build(graph: Graph) -> Plan:
    """The executable of a graph, by the backend in force.

    Raises:
        StriateError: there is no such backend, or a pass broke the graph (`verify`).
    """
    name = settings().backend
    if name not in BACKENDS:
        raise StriateError(f"backend: {name!r} is not one of {', '.join(sorted(BACKENDS))}")
    graph = simplify(graph)
    if settings().verify:
        graph.verify()
    return BACKENDS[name](graph)


def canonical(outputs: Sequence[Node]) -> tuple[Hashable, list[Node]]:
    """(key, leaves): a key that equal structures share, and the leaves in the key's order."""
    index: dict[Node, int] = {}
    leaves: list[Node] = []
    key: list[Hashable] = []
    for number, node in enumerate(rows(outputs)):
        index[node] = number
        if _is_known(node) or not node.inputs:
            leaves.append(node)
            key.append(node.type)
        else:
            key.append((node.op, node.attrs, *(index[_meant(x)] for x in node.inputs)))
    return (tuple(key), tuple(index[_meant(y)] for y in outputs)), leaves


def rows(outputs: Sequence[Node]) -> list[Node]:
    """The nodes of the canonical form, in its order: known values are leaves, aliases are gone."""
    return [n for n in topological(outputs, stop=_is_known) if _meant(n) is n]


def _meant(node: Node) -> Node:
    """What an alias stands for; any other node is itself."""
    while node.op is ALIAS and not _is_known(node):
        (node,) = node.inputs
    return node


def _is_known(node: Node) -> bool:
    return node.data is not None


def _graph(outputs: Sequence[Node], leaves: Sequence[Node]) -> Graph:
    """The pure function of the leaves. Many graphs share its plan, so the origin of a node is the
    number of its row.
    """
    inputs = tuple(parameter(x.type) for x in leaves)
    new: dict[Node, Node] = dict(zip(leaves, inputs, strict=True))
    for number, node in enumerate(rows(outputs)):
        if node not in new:
            new[node] = remade(node, tuple([new[_meant(x)] for x in node.inputs]), number)
    return Graph(inputs, tuple(new[_meant(y)] for y in outputs))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Python does not look for cycles: passes make many objects, and nearly all of them stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def plan_of(outputs: Sequence[Node]) -> tuple[Plan, list[Node]]:
    """(plan, leaves): the plan's inputs are the values of the leaves, in order."""
    key, leaves = canonical(outputs)
    chosen = settings()
    key = (chosen.backend, chosen.target, chosen.precision, key)
    plan = _plans.get(key)
    if plan is None:
        with _without_collection():
            plan = _plans[key] = build(_graph(outputs, leaves))
        if len(_plans) > MAX_PLANS:
            _plans.popitem(last=False)
    else:
        _plans.move_to_end(key)
    return plan, leaves


def evaluate(outputs: Sequence[Node]) -> None:
    """Compute the values of these nodes and keep each in its `data`.

    Raises:
        TraceError: a value depends on an argument of a function that is being traced.
    """
    todo = []
    for y in dict.fromkeys(outputs):
        if y.data is None:
            y.data = filled(y)  # needs no plan
        if y.data is None:
            todo.append(y)
    if not todo:
        return
    plan, leaves = plan_of(todo)
    values: list[Any] = []
    for leaf in leaves:
        if leaf.op is PARAMETER and leaf.data is None:
            raise TraceError(
                "value: it depends on an argument of a function that st.jit is tracing, where only "
                "shapes are known; use st.where for choices, or read values outside the function"
            )
        values.append(leaf.data)
    for node, value in zip(todo, plan(values), strict=True):
        node.data = value
