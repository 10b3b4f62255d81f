"""What a model file holds, as plain values: graphs of named nodes.

Nothing here depends on the `onnx` package or on striate's arrays; `read.py` makes these values from
a file and `run.py` walks over them. Invariant of a graph that was read: nodes stand in topological
order, every name is defined once, and before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from striate.errors import StriateError
from striate.ir.graph import Value


class ModelError(StriateError, ValueError):
    """A model is damaged, breaks a rule of ONNX, or holds what striate does not run."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The value of an attribute in the body of a function: that attribute of the call."""

    name: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """The declared type of an input or output.

    Attributes:
        name: as it stands in the file.
        dtype: ONNX's name, as `FLOAT`; empty if it is not declared.
        shape: sizes, or names of sizes; None for one that is unknown, and if no shape is declared.
    """

    name: str
    dtype: str = ""
    shape: tuple[int | str | None, ...] | None = None

    def __str__(self) -> str:
        sizes = "..." if self.shape is None else ", ".join(str(n or "?") for n in self.shape)
        return f"{self.name}: {self.dtype.lower() or '?'}[{sizes}]"


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an operator; an empty name among inputs or outputs is one left out."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The operator, with its domain where that is not ONNX's own."""
        return f"{self.domain}.{self.op_type}" if self.domain else self.op_type

    @property
    def title(self) -> str:
        """How messages name it."""
        if self.name:
            return f"node {self.name!r} ({self.kind})"
        return f"the node {self.kind} that makes {', '.join(map(repr, self.outputs))}"

    @property
    def subgraphs(self) -> Iterator[Graph]:
        """The graphs among its attributes."""
        return (a for a in self.attributes.values() if isinstance(a, Graph))

    @property
    def reads(self) -> set[str]:
        """The names that it reads, those that its graphs read of the outside included."""
        names = {*self.inputs} - {""}
        for graph in self.subgraphs:
            inside = {v.name for v in graph.inputs} | graph.initializers.keys()
            found = {v.name for v in graph.outputs}
            for inner in graph.nodes:
                inside.update(inner.outputs)
                found |= inner.reads
            names |= found - inside
        return names

    def __str__(self) -> str:
        shown = (f"{k}={_short(v)}" for k, v in self.attributes.items())
        arguments = ", ".join([*(n or "None" for n in self.inputs), *shown])
        return f"{', '.join(n or '_' for n in self.outputs)} = {self.kind}({arguments})"


def _short(value: Any) -> str:
    if isinstance(value, Graph):
        return f"graph {value.name!r}"
    text = repr(value) if not hasattr(value, "dtype") else f"{value.dtype}{list(value.shape)}"
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order, between inputs and outputs; its text is a listing.

    Attributes:
        name: as it stands in the file.
        inputs: what a caller gives, without those that have an initialiser.
        outputs: what it returns.
        nodes: inputs before users.
        initializers: known values by name.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    initializers: Mapping[str, Value] = field(default_factory=dict)

    def walk(self) -> Iterator[Node]:
        """Its nodes and those of all graphs inside of them."""
        for node in self.nodes:
            yield node
            for inner in node.subgraphs:
                yield from inner.walk()

    def __str__(self) -> str:
        head = f"graph {self.name!r} ({', '.join(map(str, self.inputs))})"
        weights = [f"  {k}: {v.dtype}{list(v.shape)}" for k, v in self.initializers.items()]
        body = [f"  {node}" for node in self.nodes]
        return "\n".join([head, *weights, *body, f"  return {', '.join(map(str, self.outputs))}"])


@dataclass(frozen=True, slots=True)
class Function:
    """An operator that the model itself defines, by a body of others.

    Attributes:
        inputs, outputs: formal names.
        defaults: attributes that a call may leave out.
        nodes: the body, inputs before users.
        opsets: the version of each domain in the body.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Any]
    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]

    def body(self, attributes: Mapping[str, Any]) -> Graph:
        """The body of a call with these attributes."""
        known = {**self.defaults, **attributes}
        return Graph(
            "function",
            tuple(map(Tensor, self.inputs)),
            tuple(map(Tensor, self.outputs)),
            tuple(_resolved(node, known) for node in self.nodes),
        )


def _resolved(node: Node, known: Mapping[str, Any]) -> Node:
    """The node with references to attributes replaced; one to an attribute that is not given
    leaves it out.
    """
    attributes = {}
    for key, value in node.attributes.items():
        if isinstance(value, Reference):
            if value.name in known:
                attributes[key] = known[value.name]
        elif isinstance(value, Graph):
            attributes[key] = replace(
                value, nodes=tuple(_resolved(inner, known) for inner in value.nodes)
            )
        else:
            attributes[key] = value
    return replace(node, attributes=attributes)


@dataclass(frozen=True, slots=True)
class Model:
    """A model file.

    Attributes:
        graph: its main graph.
        opsets: the version of each domain of operators; the empty name is ONNX's own.
        functions: operators that the model defines, by (domain, name).
        half: the inputs and initialisers of the main graph that are float16.
    """

    graph: Graph
    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str], Function] = field(default_factory=dict)
    half: frozenset[str] = frozenset()
