"""Sums that follow from other sums: no second pass over memory for what is known already.

A sum is linear, so what does not vary along the summed axes moves out of it:

    sum(a * v) = v * sum(a)      sum(a + b) = sum(a) + sum(b)      sum(v) = n * v

A sum is rewritten only if nothing is left to add up but what other sums of the graph give. So the
backward pass of a batch norm needs two sums over its cotangent, not three, and the bias before it
none. Equal in exact arithmetic; rounding differs.
"""

from __future__ import annotations

from math import prod

from striate.ir.graph import Graph, Node, apply, made_for, remade
from striate.ops.elementwise import ADD, MULTIPLY, NEGATIVE, SUBTRACT, multiply, negative
from striate.ops.movement import BROADCAST_TO, SUM, broadcast_to, reshape

DEPTH = 12  # operations between a sum and the sums that it follows from


class _Sums:
    """The sums of a graph that are computed, by what they add up and along which axes."""

    def __init__(self) -> None:
        self.known: dict[tuple[Node, tuple[int, ...]], Node] = {}

    def total(self, x: Node, axes: tuple[int, ...], depth: int = DEPTH) -> Node | None:
        """The sum of `x`, if it follows from known ones."""
        found = self.known.get((x, axes))
        if found is not None or not depth:
            return found
        fixed = constant_along(x, axes)
        if fixed is not None:
            return multiply(fixed, float(prod(x.shape[a] for a in axes)))
        if x.op is NEGATIVE:
            inner = self.total(x.inputs[0], axes, depth - 1)
            return None if inner is None else negative(inner)
        if x.op is MULTIPLY:
            for a, v in (x.inputs, x.inputs[::-1]):
                factor = constant_along(v, axes)
                inner = None if factor is None else self.total(a, axes, depth - 1)
                if factor is not None and inner is not None:
                    return multiply(inner, factor)
        if x.op is ADD or x.op is SUBTRACT:
            left = self.total(x.inputs[0], axes, depth - 1)
            right = None if left is None else self.total(x.inputs[1], axes, depth - 1)
            if left is not None and right is not None:
                return apply(x.op, (left, right), x.attrs)
        return None


def constant_along(x: Node, axes: tuple[int, ...]) -> Node | None:
    """The value of `x` without these axes, if it does not vary along them."""
    if x.op is not BROADCAST_TO:
        return None
    v = x.inputs[0]
    shape = (*[1] * (x.ndim - v.ndim), *v.shape)
    if any(shape[a] != 1 for a in axes):
        return None
    kept = [a for a in range(x.ndim) if a not in axes]
    return broadcast_to(reshape(v, [shape[a] for a in kept]), [x.shape[a] for a in kept])


LINEAR = (ADD, SUBTRACT, MULTIPLY, NEGATIVE)


def factor_sums(graph: Graph) -> Graph:
    """The graph without the sums of floats that follow from others."""
    nodes = graph.nodes()
    depth: dict[Node, int] = {}  # of linear operations
    for n in nodes:
        depth[n] = 1 + max(depth[x] for x in n.inputs) if n.op in LINEAR else 0
    found = [n for n in nodes if n.op is SUM and n.type.dtype.is_floating]
    sums, instead = _Sums(), dict[Node, Node]()
    for n in sorted(found, key=lambda n: depth[n.inputs[0]]):  # the simplest give the others
        with made_for(n.origin):
            total = sums.total(n.inputs[0], n.attrs)
        if total is None:
            sums.known[n.inputs[0], n.attrs] = n
        else:
            instead[n] = total
    new: dict[Node, Node] = {x: x for x in graph.inputs}
    stack = [*graph.outputs]
    while stack:  # what stands for a sum depends on nothing that the sum does not depend on
        n = stack[-1]
        inputs = (instead[n],) if n in instead else n.inputs
        missing = [x for x in inputs if x not in new]
        if missing:
            stack += missing
            continue
        stack.pop()
        if n not in new:
            changed = tuple(new[x] for x in inputs)
            new[n] = changed[0] if n in instead else remade(n, changed)
    return Graph(graph.inputs, tuple(new[y] for y in graph.outputs))
