"""Graph -> Graph: the same values by less work.

Common subexpressions are shared already (nodes are hash-consed) and dead code is unreachable. What
is left are rules, each a function Node -> Node or None, tried until none applies. A rule is exact:
bit for bit, NaN and signed zeros included. So x + 0 stays (it turns -0 into 0), and x * 1 goes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from striate.ir.graph import Graph, Node, Op, apply, made_for, remade
from striate.ops.elementwise import CAST, DIVIDE, MULTIPLY, NEGATIVE, SUBTRACT, WHERE
from striate.ops.movement import ALIAS, BROADCAST_TO, FLIP, PAD, RESHAPE, SLICE, TRANSPOSE, Span

Rule = Callable[[Node], Node | None]


def _number(x: Node) -> float | int | bool | None:
    """The one value that a constant holds everywhere, if it does."""
    while x.op is BROADCAST_TO or x.op is RESHAPE:
        x = x.inputs[0]
    if x.data is None or x.data.size != 1:
        return None
    value: float | int | bool = x.data.item()
    return value


def drop_alias(n: Node) -> Node | None:
    """alias(x) -> x"""
    return n.inputs[0] if n.op is ALIAS else None


def merge_reshapes(n: Node) -> Node | None:
    """reshape(reshape(x)) -> reshape(x), and to its own shape -> x"""
    if n.op is not RESHAPE:
        return None
    x = n.inputs[0]
    if x.shape == n.shape:
        return x
    return apply(RESHAPE, x.inputs, n.attrs) if x.op is RESHAPE else None


def merge_broadcasts(n: Node) -> Node | None:
    """broadcast_to(broadcast_to(x)) -> broadcast_to(x)"""
    if n.op is BROADCAST_TO and n.inputs[0].op is BROADCAST_TO:
        return apply(BROADCAST_TO, n.inputs[0].inputs, n.attrs)
    return None


def merge_transposes(n: Node) -> Node | None:
    """transpose(transpose(x)) -> transpose(x), and in order -> x"""
    if n.op is not TRANSPOSE:
        return None
    x = n.inputs[0]
    if n.attrs == tuple(range(n.ndim)):
        return x
    if x.op is TRANSPOSE:
        return apply(TRANSPOSE, x.inputs, tuple(x.attrs[a] for a in n.attrs))
    return None


def merge_slices(n: Node) -> Node | None:
    """slice(slice(x)) -> slice(x)"""
    if n.op is not SLICE or n.inputs[0].op is not SLICE:
        return None
    inner = n.inputs[0]
    spans = tuple(
        Span(a.start + a.step * b.start, a.start + a.step * (b.start + (b.size - 1) * b.step) + 1,
             a.step * b.step) if b.size else Span(0, 0)
        for a, b in zip(inner.attrs, n.attrs, strict=True)
    )  # fmt: skip
    return apply(SLICE, inner.inputs, spans)


def cancel_flips(n: Node) -> Node | None:
    """flip(flip(x)) along the same axes -> x"""
    same = n.op is FLIP and n.inputs[0].op is FLIP and n.inputs[0].attrs == n.attrs
    return n.inputs[0].inputs[0] if same else None


def slice_undoes_pad(n: Node) -> Node | None:
    """slice(pad(x)) that takes just x back -> x"""
    if n.op is not SLICE or n.inputs[0].op is not PAD or n.shape != n.inputs[0].inputs[0].shape:
        return None
    pads = n.inputs[0].attrs.axes
    taken = all(
        s.start == p.lo and (s.size <= 1 or s.step == p.interior + 1)
        for s, p in zip(n.attrs, pads, strict=True)
    )
    return n.inputs[0].inputs[0] if taken else None


def drop_units(n: Node) -> Node | None:
    """x * 1, 1 * x, x / 1, x - 0 -> x"""
    if n.op is MULTIPLY:
        for x, unit in (n.inputs, n.inputs[::-1]):
            if _number(unit) == 1:
                return x
    if n.op is DIVIDE and _number(n.inputs[1]) == 1:
        return n.inputs[0]
    if n.op is SUBTRACT:
        zero = _number(n.inputs[1])
        if zero == 0 and not np.signbit(zero):  # x - (-0.0) turns -0.0 into 0.0
            return n.inputs[0]
    return None


def cancel_negatives(n: Node) -> Node | None:
    """-(-x) -> x"""
    twice = n.op is NEGATIVE and n.inputs[0].op is NEGATIVE
    return n.inputs[0].inputs[0] if twice else None


def drop_widening(n: Node) -> Node | None:
    """cast(cast(x, wider float), dtype of x) -> x"""
    if n.op is not CAST or n.inputs[0].op is not CAST:
        return None
    x, wide = n.inputs[0].inputs[0], n.inputs[0].type.dtype
    exact = wide.is_floating and x.type.dtype.is_floating and wide.bits > x.type.dtype.bits
    return x if exact and n.type.dtype is x.type.dtype else None


def choose_known(n: Node) -> Node | None:
    """where(True, x, y) -> x, where(False, x, y) -> y, where(c, x, x) -> x"""
    if n.op is not WHERE:
        return None
    c, x, y = n.inputs
    if x is y:
        return x
    known = _number(c)
    return None if known is None else x if known else y


RULES: dict[Op, tuple[Rule, ...]] = {
    ALIAS: (drop_alias,),
    RESHAPE: (merge_reshapes,),
    BROADCAST_TO: (merge_broadcasts,),
    TRANSPOSE: (merge_transposes,),
    SLICE: (merge_slices, slice_undoes_pad),
    FLIP: (cancel_flips,),
    MULTIPLY: (drop_units,),
    DIVIDE: (drop_units,),
    SUBTRACT: (drop_units,),
    NEGATIVE: (cancel_negatives,),
    CAST: (drop_widening,),
    WHERE: (choose_known,),
}


def simplify(graph: Graph) -> Graph:
    """The graph with every rule applied until none fits."""
    new: dict[Node, Node] = {x: x for x in graph.inputs}
    for node in graph.nodes():
        if node in new:
            continue
        now = remade(node, tuple([new[x] for x in node.inputs]))
        if now.op in RULES:
            with made_for(node.origin):
                found: Node | None = now
                while found is not None:
                    now = found
                    rules = RULES.get(now.op, ())
                    found = next((y for rule in rules if (y := rule(now)) is not None), None)
        new[node] = now
    return Graph(graph.inputs, tuple(new[y] for y in graph.outputs))
