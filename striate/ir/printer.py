"""A graph as Python text, one line a node, with shapes in comments; the text can be run.

    x0 = inputs[0]                               # f32[8,3,32,32]
    x2 = apply(CONV, (x0, x1), ConvSpec(...))    # f32[8,1,16,32,32]

Invariant: `parse(render(g))` computes what g computes. Attributes are frozen dataclasses, tuples
and numbers, whose repr is Python; constants are given beside the text, as `constants[i]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from striate.ir.graph import CONSTANT, PARAMETER, Graph, Node, apply, constant, parameter


def render(graph: Graph) -> str:
    """The text of a graph."""
    names: dict[Node, str] = {}
    rows: list[tuple[str, str]] = []
    constants = 0
    for i, node in enumerate(graph.inputs):
        names[node] = f"x{len(names)}"
        rows.append((f"{names[node]} = inputs[{i}]", str(node.type)))
    for node in graph.nodes():
        if node in names:
            continue
        names[node] = f"x{len(names)}"
        if node.op is CONSTANT:
            text = f"constants[{constants}]"
            constants += 1
        elif node.op is PARAMETER:
            text = "free"
        else:
            inputs = ", ".join(names[x] for x in node.inputs)
            tuple_ = f"({inputs},)" if len(node.inputs) == 1 else f"({inputs})"
            text = f"apply({node.op.name.upper()}, {tuple_}, {node.attrs!r})"
        rows.append((f"{names[node]} = {text}", str(node.type)))
    width = min(72, max((len(text) for text, _ in rows), default=0))
    lines = [f"{text:<{width}}  # {type}" for text, type in rows]
    returned = ", ".join(names[y] for y in graph.outputs)
    return "\n".join([*lines, f"outputs = ({returned},)" if graph.outputs else "outputs = ()"])


def parse(text: str, names: Mapping[str, Any], graph: Graph) -> Graph:
    """Run the text of `graph`; `names` maps op names and attribute classes to what they are."""
    inputs = tuple(parameter(x.type) for x in graph.inputs)
    constants: Sequence[Node] = [
        constant(n.data) for n in graph.nodes() if n.op is CONSTANT and n.data is not None
    ]
    scope: dict[str, Any] = {**names, "apply": apply, "inputs": inputs, "constants": constants}
    dtypes = {m: m.removeprefix("striate.") for m in set(re.findall(r"striate\.\w+", text))}
    for written, name in dtypes.items():
        text = text.replace(written, name)
    exec(text, scope)
    return Graph(inputs, scope["outputs"])
