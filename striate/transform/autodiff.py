"""Derivatives of graphs, as graphs; no op is known here by name.

Reverse mode walks from the outputs to the inputs and adds up what each op's vjp gives; forward
mode walks the other way with each op's jvp. What they build are nodes like any others, so a
derivative can be differentiated again, to any order. See Griewank & Walther, Evaluating
Derivatives (2008), chapter 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate.ir.graph import Node, made_for, topological
from striate.ops.elementwise import add
from striate.ops.movement import zeros


def _dependent(outputs: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
    """The nodes on a path from an input to an output, inputs left out, in topological order."""
    sources = set(inputs)
    reached: set[Node] = set(sources)
    order = []
    for node in topological(outputs, stop=sources.__contains__):
        if node not in sources and not reached.isdisjoint(node.inputs):
            reached.add(node)
            order.append(node)
    return order


def vjp(outputs: Sequence[Node], inputs: Sequence[Node], cotangents: Sequence[Node]) -> list[Node]:
    """sum over outputs of (d output / d input)^T cotangent, one node per input."""
    order = _dependent(outputs, inputs)
    wanted = set(order) | set(inputs)
    total: dict[Node, Node] = {}

    def accumulate(node: Node, g: Node) -> None:
        total[node] = add(total[node], g) if node in total else g

    for node, g in zip(outputs, cotangents, strict=True):
        accumulate(node, g)
    for node in reversed(order):
        if node not in total or node.op.vjp is None:
            continue
        g = total.pop(node)
        with made_for(node.origin):
            parts = node.op.vjp(node.attrs, g, node, *node.inputs)
            for x, part in zip(node.inputs, parts, strict=True):
                if part is not None and x in wanted:
                    accumulate(x, part)
    return [total[x] if x in total else zeros(x.type) for x in inputs]


def jvp(outputs: Sequence[Node], inputs: Sequence[Node], tangents: Sequence[Node]) -> list[Node]:
    """sum over inputs of (d output / d input) tangent, one node per output."""
    known: dict[Node, Node | None] = dict(zip(inputs, tangents, strict=True))
    for node in _dependent(outputs, inputs):
        parts = tuple(known.get(x) for x in node.inputs)
        if node.op.jvp is None or all(p is None for p in parts):
            known[node] = None
        else:
            with made_for(node.origin):
                known[node] = node.op.jvp(node.attrs, parts, node, *node.inputs)
    return [known.get(y) or zeros(y.type) for y in outputs]
