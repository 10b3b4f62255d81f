"""What a network consists of: shapes, parameters, multiply-adds, receptive fields, memory.

The forward pass is traced, not computed, and every number is read from its graph: nodes belong to
the innermost module that made them. So functional code counts too, and a layer that is used twice
has two rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import prod
from typing import Any, Protocol, runtime_checkable

from striate.core.array import Array, tracing
from striate.core.watching import watching
from striate.dtype import as_dtype
from striate.errors import ShapeError
from striate.ir.arguments import integers
from striate.ir.graph import PARAMETER, Node, parameter, topological
from striate.ir.types import TensorType
from striate.nn import Module
from striate.nn.module import Step, evaluation
from striate.ops.conv import CONV
from striate.pytree import flatten
from striate.tools.receptive import ReceptiveFields


@dataclass(frozen=True, slots=True)
class Row:
    """One call of a layer, or what a module does itself beside its layers.

    Attributes:
        name: its path in the network.
        kind: its class.
        shape: of its first output; None where that depends on the values of data.
        parameters: elements of its own weights; 0 in a second call.
        macs: multiply-adds of convolutions and matrix products, those with padding included; 0
            where the shape is None.
        field: per spatial axis of the input, how much of it the central element of the output
            depends on; None where that is all of it.
        nbytes: of its outputs.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    macs: int
    field: tuple[int | None, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows of a network in the order of their calls; prints as a table, here and in notebooks.

    Attributes:
        title: what it is of.
        inputs: shapes of the inputs.
        rows: one per call.
        parameters: elements of all parameters, each once.
        trainable: of those that are trained.
        parameter_bytes: of parameters and buffers.
    """

    title: str
    inputs: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    parameter_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-adds of one call."""
        return sum(r.macs for r in self.rows)

    @property
    def output_bytes(self) -> int:
        """Of all outputs together: about what training keeps for the backward pass."""
        return sum(r.nbytes for r in self.rows)

    @property
    def totals(self) -> list[str]:
        """The lines under the table."""
        unknown = sum(r.shape is None for r in self.rows)
        return [
            f"parameters {self.parameters:,} ({self.trainable:,} trained), "
            f"{_bytes(self.parameter_bytes)} with buffers",
            f"multiply-adds {self.macs:,} for {' and '.join(map(_shape, self.inputs))}",
            f"outputs of all layers {_bytes(self.output_bytes)}",
            *(
                [f"without {unknown} layers (?) that depend on values of the data"]
                if unknown
                else []
            ),
        ]

    def _cells(self) -> list[list[str]]:
        head = ["layer", "kind", "output", "parameters", "multiply-adds", "field", "memory"]
        return [head, *(_row_cells(r) for r in self.rows)]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = [
            "  ".join(
                text.ljust(w) if i < _LEFT else text.rjust(w)
                for i, (text, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule, *self.totals])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *body = self._cells()

        def row(cells: list[str], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align:{"left" if i < _LEFT else "right"}">{escape(c)}</{tag}>'
                for i, c in enumerate(cells)
            )

        rows = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in body)
        return (
            f"<table><caption>{escape(self.title)}</caption><thead><tr>{row(head, 'th')}</tr>"
            f"</thead><tbody>{rows}</tbody></table>"
            + "".join(f"<p>{escape(line)}</p>" for line in self.totals)
        )


_LEFT = 3  # columns of text


def _row_cells(r: Row) -> list[str]:
    first = [_printable(r.name) or "(whole)", _printable(r.kind)]
    if r.shape is None:
        return [*first, "?", f"{r.parameters:,}", "?", "?", "?"]
    return [
        *first, _shape(r.shape), f"{r.parameters:,}", f"{r.macs:,}", _field(r.field),
        _bytes(r.nbytes),
    ]  # fmt: skip


def _printable(name: str) -> str:
    """A name from a file without what would steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


@runtime_checkable
class Outlined(Protocol):
    """A network that can pass over layers which need the values of its inputs."""

    def outline(self, *args: Array) -> None:
        """Run what can be run on shapes alone; who watches layers is told of the others, too."""
        ...


def summary(
    net: Module, *input_shapes: Sequence[int], dtype: object = "float32", title: str | None = None
) -> Summary:
    """The table of a network: per layer output shape, parameters, multiply-adds, field, memory.

    In evaluation mode; nothing is computed and nothing of the network is changed. Of a network from
    an ONNX file, layers that depend on values (behind a suppression of boxes, say) have rows
    without sizes.

    Args:
        net: the network.
        input_shapes: one per input, batch included: `(1, 3, 224, 224)`.
        dtype: of the inputs; a list has one for each.
        title: the first line; the class of the network by default.

    Raises:
        ShapeError: no shape is given, not as many as dtypes, or the network raises it for this one.
        DTypeError: a size is not an integer, or there is no such dtype.
        TraceError: the network's code depends on values.

    >>> net = st.nn.Sequential(st.nn.Conv2d(3, 8, 3), st.nn.ReLU())
    >>> table = st.tools.summary(net, (1, 3, 32, 32))
    >>> [(row.name, row.shape, row.macs, row.field) for row in table.rows]
    [('0', (1, 8, 30, 30), 194400, (3, 3)), ('1', (1, 8, 30, 30), 0, (3, 3))]
    >>> table.parameters
    224
    """
    if not input_shapes:
        raise ShapeError("summary: give a shape per input, as summary(net, (1, 3, 224, 224))")
    shapes = tuple(integers("summary", "input_shapes", shape) for shape in input_shapes)
    dtypes = [as_dtype(d) for d in (dtype if isinstance(dtype, list) else [dtype] * len(shapes))]
    if len(dtypes) != len(shapes):
        raise ShapeError(f"summary: {len(shapes)} shapes and {len(dtypes)} dtypes")
    sources = [parameter(TensorType(*pair)) for pair in zip(shapes, dtypes, strict=True)]
    recorder = _Recorder(net, sources)
    call = net.outline if isinstance(net, Outlined) else net
    with tracing(), evaluation(net), watching(recorder):
        call(*(Array(s) for s in sources))
    parameters = list(net.parameters())
    return Summary(
        title or type(net).__name__,
        shapes,
        tuple(recorder.rows),
        sum(prod(p.shape) for p in parameters),
        sum(prod(p.shape) for p in parameters if p.requires_grad),
        sum(prod(a.shape) * a.dtype.itemsize for a in (*parameters, *net.buffers())),
    )


class _Recorder:
    """Makes a row of each call; a node belongs to the innermost layer that made it."""

    def __init__(self, net: Module, sources: list[Node]) -> None:
        self.rows: list[Row] = []
        self._names = {id(module): name for name, module in net.named_modules()}
        self._field_of = ReceptiveFields(sources[0])
        self._owned = set(sources)
        self._counted: set[int] = set()

    def __call__(self, layer: Module | Step, arguments: tuple[Any, ...], result: Any) -> None:
        nodes = _nodes(result)
        given = {self._field_of.source, *_nodes(arguments)}
        inside = (n for n in topological(nodes, given.__contains__) if n not in given)
        made = [n for n in inside if n not in self._owned]
        self._owned.update(made)
        macs = sum(_macs(n) for n in made)
        if isinstance(layer, Module):
            name, kind = self._names.get(id(layer), ""), type(layer).__name__
            weights: list[Array] = [p for _, p in layer.named_parameters(recurse=False)]
            leaf = not any(True for _ in layer.children())
        else:
            name, kind, weights, leaf = layer.name, layer.kind, list(layer.weights), True
        weights = [w for w in weights if id(w) not in self._counted]
        self._counted.update(map(id, weights))
        size = sum(prod(w.shape) for w in weights)
        if isinstance(layer, Step) and not nodes:
            self.rows.append(Row(name, kind, None, size, 0, (), 0))
        if not nodes or not (leaf or macs or size):
            return
        field = self._field_of(nodes[0])
        if field is None and isinstance(layer, Step) and not macs:
            return  # a constant, or arithmetic on shapes
        nbytes = sum(n.type.size * n.type.dtype.itemsize for n in nodes) if leaf else 0
        shown = () if field is None else field[2:]
        self.rows.append(Row(name, kind, nodes[0].shape, size, macs, shown, nbytes))


def _nodes(tree: Any) -> list[Node]:
    return [x.node for x in flatten(tree)[0] if isinstance(x, Array)]


def _macs(node: Node) -> int:
    """Of a product with something that is given; a pool's filter of ones adds, and no more."""
    if node.op is not CONV or not all(map(_is_given, node.inputs)):
        return 0
    macs: int = node.attrs.macs
    return macs


def _is_given(node: Node) -> bool:
    """Whether it depends on an input or a weight; constants do not."""
    todo, seen = [node], {node}
    while todo:
        found = todo.pop()
        if found.op is PARAMETER:
            return True
        fresh = [x for x in found.inputs if x not in seen]
        seen.update(fresh)
        todo += fresh
    return False


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _field(fields: tuple[int | None, ...]) -> str:
    return "x".join("all" if n is None else str(n) for n in fields) or "-"


def _bytes(n: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024  # type: ignore[assignment]
    return f"{n:.1f} GiB"
