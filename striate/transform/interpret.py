"""The oracle: run a graph by the NumPy reference of each op, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from striate.ir.graph import CONSTANT, Graph, Node, Value
from striate.ir.types import TensorType
from striate.target import memory_bytes


def interpret(graph: Graph, values: Sequence[Value]) -> list[Value]:
    """The outputs of `graph` for these inputs; an intermediate is freed after its last use.

    Raises:
        MemoryError: one result is larger than the machine's memory.
    """
    order = graph.nodes()
    uses: dict[Node, int] = dict.fromkeys(order, 0)
    for node in order:
        for x in node.inputs:
            uses[x] += 1
    for node in graph.outputs:
        uses[node] += 1
    known: dict[Node, Value] = dict(zip(graph.inputs, values, strict=True))
    with np.errstate(all="ignore"):
        for node in order:
            if node in known:
                continue
            if node.op is CONSTANT:
                assert node.data is not None
                known[node] = node.data
                continue
            known[node] = _run(node, [known[x] for x in node.inputs])
            for x in node.inputs:
                uses[x] -= 1
                if not uses[x]:
                    known.pop(x, None)
    return [known[n] for n in graph.outputs]


def refuse_larger_than_memory(op: str, type: TensorType) -> None:
    """Every op but a broadcast makes its result in full.

    Raises:
        MemoryError: it is larger than the machine's memory.
    """
    if type.nbytes > memory_bytes() and op != "broadcast_to":
        raise MemoryError(
            f"{op}: the result {type} needs {type.nbytes:,} bytes; this machine has "
            f"{memory_bytes():,}"
        )


def _run(node: Node, inputs: list[Value]) -> Value:
    refuse_larger_than_memory(node.op.name, node.type)
    value = node.op.reference(node.attrs, *inputs)
    assert value.shape == node.shape and value.dtype == node.type.dtype.numpy, (
        f"{node}: the reference gave {value.dtype}{value.shape}"
    )
    return value
