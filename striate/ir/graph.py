"""What a program is: ops, nodes, graphs.

A `Node` is one value: an op applied to nodes, with attributes that are one frozen dataclass.
Nodes are hash-consed (`apply` returns the node that exists already), so equal programs are the
same object, common subexpressions are shared for free, and a graph is acyclic by construction.
Leaves have no inputs: a `Parameter` (a value given when the graph runs) or a `Constant` (a value
that is known, held in `Node.data`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from striate.dtype import as_dtype
from striate.errors import StriateError
from striate.ir.types import TensorType

Value = NDArray[Any]
Cotangents = tuple["Node | None", ...]


@dataclass(frozen=True, eq=False, slots=True)
class Op:
    """One primitive, with everything that the library knows of it.

    Attributes:
        name: as it is printed.
        infer: (attrs, *input types) -> output type; raises on a broken rule.
        reference: (attrs, *values) -> value; NumPy, the definition of the op.
        vjp: (attrs, g, out, *inputs) -> a cotangent per input, None where it is zero.
        jvp: (attrs, tangents, out, *inputs) -> the tangent of the output, or None where it is
            zero; a tangent that is None is zero.
        elementwise: whether it acts on each element alone: inputs and output have one shape.
    An op without vjp and jvp is locally constant: its derivative is zero.
    """

    name: str
    infer: Callable[..., TensorType]
    reference: Callable[..., Value]
    vjp: Callable[..., Cotangents] | None = None
    jvp: Callable[..., Node | None] | None = None
    elementwise: bool = False

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Node:
    """One value of a program; immutable, and equal to another only if it is the same object.

    Attributes:
        op: the primitive that makes it.
        inputs: the nodes that it reads.
        attrs: the op's attributes, one hashable value.
        type: shape and dtype.
        data: the value where it is known (constants; results that have been read), else None.
        origin: what it was made for, for people; no part of what the node is. Passes hand it on
            (`made_for`).
    """

    __slots__ = ("__weakref__", "attrs", "data", "inputs", "op", "origin", "type")

    def __init__(self, op: Op, inputs: tuple[Node, ...], attrs: Any, type: TensorType) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.type = type
        self.data: Value | None = None
        self.origin: Any = _origin.get()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.type.shape

    @property
    def ndim(self) -> int:
        """Number of axes of the value."""
        return len(self.type.shape)

    def __repr__(self) -> str:
        return f"<{self.op.name}: {self.type}>"


_origin: ContextVar[Any] = ContextVar("striate_origin", default=None)


class made_for:  # a generator would take three times as long, for each node
    """A block in which new nodes have this origin."""

    __slots__ = ("_origin", "_token")

    def __init__(self, origin: Any) -> None:
        self._origin = origin

    def __enter__(self) -> None:
        self._token = _origin.set(self._origin)

    def __exit__(self, *_: object) -> None:
        _origin.reset(self._token)


def _leaf_infer(*_: Any) -> TensorType:
    raise AssertionError("a leaf carries its own type")


def _leaf_reference(*_: Any) -> Value:
    raise AssertionError("a leaf has no computation")


PARAMETER = Op("parameter", _leaf_infer, _leaf_reference)
CONSTANT = Op("constant", _leaf_infer, _leaf_reference)

_interned: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()


def apply(op: Op, inputs: tuple[Node, ...], attrs: Any = None) -> Node:
    """The node `op(*inputs)`; its type is inferred, and its rules checked, here and now."""
    key = (op, attrs, *map(id, inputs))  # the node keeps its inputs alive, so the ids stay theirs
    found = _interned.get(key)
    if found is None:
        node = Node(op, inputs, attrs, op.infer(attrs, *[x.type for x in inputs]))
        found = _interned.setdefault(key, node)
    return found


def remade(node: Node, inputs: tuple[Node, ...], origin: Any = None) -> Node:
    """The node on other inputs of the same types, so that its type needs no inference; its origin
    stays if no other is given.
    """
    if inputs == node.inputs:
        return node
    key = (node.op, node.attrs, *map(id, inputs))
    found = _interned.get(key)
    if found is None:
        new = Node(node.op, inputs, node.attrs, node.type)
        new.origin = node.origin if origin is None else origin
        found = _interned.setdefault(key, new)
    return found


def parameter(type: TensorType) -> Node:
    """A new leaf whose value is given when the graph runs."""
    return Node(PARAMETER, (), None, type)


def constant(data: Value, type: TensorType | None = None) -> Node:
    """A new leaf with a known value; the array must not be written afterwards. Who knows its type
    can save finding it out.
    """
    node = Node(CONSTANT, (), None, type or TensorType(data.shape, as_dtype(data.dtype)))
    node.data = data
    return node


def topological(outputs: Iterable[Node], stop: Callable[[Node], bool] | None = None) -> list[Node]:
    """Every node that the outputs need, inputs before users; `stop(n)` makes n a leaf."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in outputs:
        if root in seen:
            continue
        seen.add(root)
        path = [root]  # each node is an input of the one before, `left` is what is to be visited
        left = [iter(() if stop is not None and stop(root) else root.inputs)]
        while path:
            for x in left[-1]:
                if x not in seen:
                    seen.add(x)
                    if x.inputs and not (stop is not None and stop(x)):
                        path.append(x)
                        left.append(iter(x.inputs))
                        break
                    order.append(x)
            else:
                order.append(path.pop())
                left.pop()
    return order


@dataclass(frozen=True)
class Graph:
    """A pure function: parameters in, values out.

    Attributes:
        inputs: parameter nodes, in the order in which values are given.
        outputs: the nodes whose values are returned.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    def nodes(self) -> list[Node]:
        """The nodes in topological order; those with no inputs are parameters or constants."""
        return topological(self.outputs)

    def verify(self) -> None:
        """Re-check every type, and that every free parameter is an input.

        Raises:
            StriateError: a pass has broken the graph.
        """
        known = set(self.inputs)
        for node in self.nodes():
            if node.op is PARAMETER and node not in known:
                raise StriateError(f"graph: {node} is used but is not an input")
            if node.op is CONSTANT and node.data is None:
                raise StriateError(f"graph: {node} has no value")
            if node.inputs:
                again = node.op.infer(node.attrs, *(x.type for x in node.inputs))
                if again != node.type:
                    raise StriateError(f"graph: {node} should have type {again}")


def substitute(outputs: Sequence[Node], replace: dict[Node, Node]) -> list[Node]:
    """The outputs with some nodes replaced; everything that depends on them is rebuilt."""
    new: dict[Node, Node] = dict(replace)
    for node in topological(outputs, stop=lambda n: n in replace):
        if node in new:
            continue
        inputs = tuple(new[x] for x in node.inputs)
        with made_for(node.origin):
            new[node] = node if inputs == node.inputs else apply(node.op, inputs, node.attrs)
    return [new[x] for x in outputs]


def literal(value: object, type: TensorType) -> Node:
    """A constant of this dtype; a scalar is broadcast by the op that uses it."""
    return constant(np.asarray(value, dtype=type.dtype.numpy))
