"""The canonical form of what is to be computed: equal structures have equal forms.

Every known value is an input, so that changing data (a learning rate too) changes no form; aliases
are gone. A form has two names: a key, for this process, and an identity, a text that is the same in
every process.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from striate.dtype import DType
from striate.ir.graph import Graph, Node, Op, parameter, remade, topological
from striate.ops.movement import ALIAS

_PLAIN = (int, float, str, bytes, bool, type(None))


@dataclass(frozen=True, slots=True, eq=False)
class Canonical:
    """Nodes in canonical form.

    Attributes:
        outputs: the nodes.
        key: what equal structures share: a row per node, and which rows are the outputs.
        leaves: the nodes that are known or given, in the order of the key.
    """

    outputs: Sequence[Node]
    key: tuple[tuple[Hashable, ...], tuple[int, ...]]
    leaves: list[Node]

    def graph(self) -> Graph:
        """The pure function of the leaves. Many graphs share its plan, so the origin of a node is
        the number of its row.
        """
        inputs = tuple(parameter(x.type) for x in self.leaves)
        new: dict[Node, Node] = dict(zip(self.leaves, inputs, strict=True))
        for number, node in enumerate(rows(self.outputs)):
            if node not in new:
                new[node] = remade(node, tuple([new[_meant(x)] for x in node.inputs]), number)
        return Graph(inputs, tuple(new[_meant(y)] for y in self.outputs))

    def identity(self) -> str | None:
        """A text that only equal structures have, in any process; None where an op or an attribute
        is not this package's, so that a text cannot say what it is.
        """
        heads: dict[Hashable, int] = {}  # ops with their attributes, and types
        numbers = []
        for row in self.key[0]:
            head, inputs = (row[:2], row[2:]) if isinstance(row, tuple) else (row, ())
            numbers.append((heads.setdefault(head, len(heads)), *inputs))
        try:
            return repr(([_described(head) for head in heads], numbers, self.key[1]))
        except _ForeignError:
            return None


class _ForeignError(Exception):
    """A value that no text describes."""


def _described(value: object) -> object:
    """A value as one of plain values, whose repr tells it apart from all others."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, tuple):
        return (type(value).__name__, *map(_described, value))
    if isinstance(value, DType):
        return "dtype", value.name
    kind: Any = type(value)
    if isinstance(value, Op) and value.infer.__module__.startswith("striate."):
        return "op", value.name
    if is_dataclass(value) and kind.__module__.startswith("striate."):
        named = [_described(getattr(value, name)) for name in _compared(kind)]
        return (kind.__module__, kind.__qualname__, *named)
    raise _ForeignError


@cache
def _compared(kind: Any) -> tuple[str, ...]:
    """The fields of a dataclass that make its values equal or not."""
    return tuple(f.name for f in fields(kind) if f.compare)


def canonical(outputs: Sequence[Node]) -> Canonical:
    """The canonical form of nodes."""
    index: dict[Node, int] = {}
    leaves: list[Node] = []
    key: list[Hashable] = []
    for number, node in enumerate(rows(outputs)):
        index[node] = number
        if _is_known(node) or not node.inputs:
            leaves.append(node)
            key.append(node.type)
        else:
            key.append((node.op, node.attrs, *[index[_meant(x)] for x in node.inputs]))
    return Canonical(outputs, (tuple(key), tuple(index[_meant(y)] for y in outputs)), leaves)


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
