"""The boundary between what is to be computed and how.

`evaluate` computes nodes. They are brought into canonical form (`transform/canonical.py`); equal
forms share one `Plan`. A backend is a function from a form to a plan.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Protocol, cast

from striate.config import settings
from striate.errors import StriateError, TraceError
from striate.ir.graph import PARAMETER, Graph, Node, Value
from striate.ops.movement import filled
from striate.transform.canonical import Canonical, canonical
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


def simplified(form: Canonical) -> Graph:
    """What a backend computes.

    Raises:
        StriateError: a rule broke the graph (`verify`).
    """
    graph = simplify(form.graph())
    if settings().verify:
        graph.verify()
    return graph


def _compile(form: Canonical) -> Plan:
    """Machine code; LLVM is loaded with the first plan."""
    module = import_module("striate.runtime.executable")
    return cast(Plan, module.executable(form, partial(simplified, form)))


class Interpreted:
    """The plan of the interpreter."""

    def __init__(self, form: Canonical) -> None:
        self.graph = graph = simplified(form)
        self.fresh = [False] * len(graph.outputs)  # NumPy may give a view of an input

    def __call__(self, values: Sequence[Value], state: Sequence[int] = ()) -> list[Value]:
        """The outputs for these inputs."""
        return interpret(self.graph, values)

    def profile(
        self, values: Sequence[Value], state: Sequence[int] = (), layers: Sequence[str] = ()
    ) -> Any:
        """Raises: StriateError, since there are no steps."""
        raise StriateError("profile: the backend numpy has no steps; use native")


BACKENDS: dict[str, Callable[[Canonical], Plan]] = {
    "native": _compile,
    "numpy": Interpreted,
}
MAX_PLANS = 512

_plans: OrderedDict[Hashable, Plan] = OrderedDict()


def build(form: Canonical) -> Plan:
    """The executable of a form, by the backend in force.

    Raises:
        StriateError: there is no such backend, or a pass broke the graph (`verify`).
    """
    name = settings().backend
    if name not in BACKENDS:
        raise StriateError(f"backend: {name!r} is not one of {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name](form)


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
    form = canonical(outputs)
    chosen = settings()
    key = (chosen.backend, chosen.target, chosen.precision, form.key)
    plan = _plans.get(key)
    if plan is None:
        with _without_collection():
            plan = _plans[key] = build(form)
        if len(_plans) > MAX_PLANS:
            _plans.popitem(last=False)
    else:
        _plans.move_to_end(key)
    return plan, form.leaves


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
