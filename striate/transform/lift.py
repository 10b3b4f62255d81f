"""Views before elementwise functions: view(f(x)) = f(view(x)).

A transposition or reshape after a function has its value written in one order and read in another.
Before it, the function is computed where it is read, together with what reads it. Functions of one
large value are enough for what stands between layouts: biases, scales, activations.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from striate.ir.graph import Graph, Node, Op, apply, made_for, remade
from striate.ops.movement import BROADCAST_TO, RESHAPE, TRANSPOSE
from striate.transform.views import StridedView, view_through, whole

MOVED = (RESHAPE, TRANSPOSE)


def lift_views(graph: Graph) -> Graph:
    """The graph with reshapes and transpositions before functions, where each is read once."""
    nodes = graph.nodes()
    users = Counter(x for n in nodes for x in dict.fromkeys(n.inputs))
    users.update(graph.outputs)
    outputs = {*graph.outputs}
    new: dict[Node, Node] = {}
    once: set[Node] = set()  # elementwise, read once
    for n in nodes:
        inputs = tuple([new[x] for x in n.inputs])
        inner = users[n] == 1 and n not in outputs
        if inner and n.op in MOVED:
            with made_for(n.origin):
                new[n] = _lifted(n.op, n.attrs, inputs[0], once)
        else:
            new[n] = remade(n, inputs)
        if inner and new[n].op.elementwise:
            once.add(new[n])
    return Graph(graph.inputs, tuple(new[y] for y in graph.outputs))


def _lifted(op: Op, attrs: Any, x: Node, once: set[Node]) -> Node:
    """The view of `x`, before as many functions as it can be."""
    large = {a for a in x.inputs if not _repeats(a)} if x in once else set()
    if len(large) == 1:
        moved = {a: _lifted(op, attrs, a, once) for a in x.inputs}
        if all(m.op.elementwise if a.op.elementwise else _view(m) for a, m in moved.items()):
            with made_for(x.origin):
                return apply(x.op, tuple(moved[a] for a in x.inputs), x.attrs)
    return apply(op, (x,), attrs)


def _repeats(x: Node) -> bool:
    """Whether it is a small value, repeated."""
    while x.op in MOVED:
        (x,) = x.inputs
    return x.op is BROADCAST_TO and x.inputs[0].type.size < x.type.size


def _view(x: Node) -> StridedView | None:
    """How `x` walks over the memory of what it is a view of, if strides describe it."""
    if x.op is not BROADCAST_TO and x.op not in MOVED:
        return whole(x)
    of = _view(x.inputs[0])
    return None if of is None else view_through(x, of)
