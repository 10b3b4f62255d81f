"""From a graph in ONNX's dialect to the parts of a model: named nodes, values and initialisers.

Each primitive is a line of a table. What ONNX has no operator for has been composed of these in
`rewrite`, but for a few that want an axis moved or a shape given, which are here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from striate.errors import StriateError
from striate.ir.graph import CONSTANT, PARAMETER, Node, Op, Value, topological
from striate.ir.types import TensorType, broadcast_shapes
from striate.onnx.writer.dialect import OPERATOR, Operator
from striate.ops import elementwise as e, functions as f, index, movement as m, reduce, special
from striate.ops.movement import PadAttrs, Span

Attributes = dict[str, Any]


@dataclass
class Item:
    """One ONNX node."""

    name: str
    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: Attributes


@dataclass
class Parts:
    """What a model is made of.

    Attributes:
        inputs, outputs: names with types, in order.
        items: the nodes, in topological order.
        constants: the values that are known by name.
        types: of every value that a node makes.
    """

    inputs: dict[str, TensorType] = field(default_factory=dict)
    outputs: dict[str, TensorType] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    constants: dict[str, Value] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)


# ---- primitives that are one operator ------------------------------------------------------

ELEMENTWISE: dict[Op, str] = {
    e.ADD: "Add", e.SUBTRACT: "Sub", e.MULTIPLY: "Mul", e.DIVIDE: "Div", e.MAXIMUM: "Max",
    e.MINIMUM: "Min", e.NEGATIVE: "Neg", e.EQUAL: "Equal", e.LESS: "Less",
    e.LESS_EQUAL: "LessOrEqual", e.LOGICAL_AND: "And", e.LOGICAL_OR: "Or", e.LOGICAL_XOR: "Xor",
    e.LOGICAL_NOT: "Not", e.ISNAN: "IsNaN", e.ISINF: "IsInf", e.WHERE: "Where",
    e.BITWISE_AND: "BitwiseAnd", e.BITWISE_OR: "BitwiseOr", e.BITWISE_XOR: "BitwiseXor",
    e.BITWISE_INVERT: "BitwiseNot", f.POW: "Pow", f.ABS: "Abs", f.SIGN: "Sign", f.EXP: "Exp",
    f.LOG: "Log", f.SQRT: "Sqrt", f.RECIPROCAL: "Reciprocal", f.SIN: "Sin", f.COS: "Cos",
    f.TAN: "Tan", f.ASIN: "Asin", f.ACOS: "Acos", f.ATAN: "Atan", f.SINH: "Sinh", f.COSH: "Cosh",
    f.TANH: "Tanh", f.ASINH: "Asinh", f.ACOSH: "Acosh", f.ATANH: "Atanh", f.FLOOR: "Floor",
    f.CEIL: "Ceil", f.ROUND: "Round", special.ERF: "Erf", special.SIGMOID: "Sigmoid",
}  # fmt: skip


class Emitter:
    """Makes the parts, value by value."""

    def __init__(
        self,
        names: dict[Node, str],
        paths: dict[Node, str],
        values: dict[Node, Value],
        reserved: Iterable[str] = (),
    ) -> None:
        """`names` of inputs, state and outputs; `paths` of modules; `values` of state."""
        self.parts = Parts()
        self.paths = paths
        self.fixed = names
        self.state = values
        self.taken: set[str] = {*names.values(), *reserved}
        self.known: dict[Node, str] = {}
        self.shared: dict[tuple[object, ...], str] = {}
        self.siblings: dict[tuple[object, ...], Item] = {}
        self.path = ""

    def run(self, outputs: Iterable[Node]) -> None:
        """Emit everything that the outputs need."""
        for node in topological(outputs, stop=lambda n: n.data is not None):
            self.path = self.paths.get(node, "")
            self.known[node] = self._value(node)

    def drop_unused(self, outputs: Iterable[str]) -> None:
        """Leave out what no output needs, such as broadcasts that were left to ONNX."""
        needed, kept = set(outputs), []
        for item in reversed(self.parts.items):
            if needed.intersection(item.outputs):
                needed.update(item.inputs)
                kept.append(item)
        self.parts.items = kept[::-1]
        self.parts.constants = {k: v for k, v in self.parts.constants.items() if k in needed}
        made = {name for item in kept for name in item.outputs}
        self.parts.types = {k: v for k, v in self.parts.types.items() if k in made}

    def _value(self, node: Node) -> str:
        if node.data is not None:
            return self.constant(node.data, self.fixed.get(node))
        if node in self.state:
            name = self.fixed[node]
            self.parts.constants[name] = self.state[node]
            return name
        if node.op is PARAMETER:
            return self.fixed[node]
        if node.op is OPERATOR:
            return self._operator(node)
        if node.op in ELEMENTWISE:
            return self.add(ELEMENTWISE[node.op], self._broadcast(node), node)
        return OTHERS[node.op](self, node)

    # ---- names -------------------------------------------------------------------------

    def _unique(self, wanted: str) -> str:
        name, i = wanted, 0
        while name in self.taken:
            i += 1
            name = f"{wanted}_{i}"
        self.taken.add(name)
        return name

    def add(
        self, operator: str, inputs: list[str], node: Node, attributes: Attributes | None = None
    ) -> str:
        """A node whose output is the value of `node`; returns its name."""
        return self._item(operator, inputs, node.type, attributes or {}, self.fixed.get(node))

    def copy(self, source: str, name: str, type: TensorType) -> None:
        """A second name for a value."""
        self._item("Identity", [source], type, {}, name)

    def step(self, operator: str, inputs: list[str], type: TensorType, **attributes: Any) -> str:
        """A node on the way to a value."""
        return self._item(operator, inputs, type, attributes, None)

    def _item(
        self,
        operator: str,
        inputs: list[str],
        type: TensorType,
        attributes: Attributes,
        fixed: str | None,
    ) -> str:
        name = self._unique(f"{self.path}/{operator}" if self.path else operator)
        output = fixed or name
        self.parts.types[output] = type
        self.parts.items.append(Item(name, operator, inputs, [output], attributes))
        return output

    def constant(self, value: Value, name: str | None = None) -> str:
        """The name of a known value; equal small ones are one."""
        if name is None and value.nbytes <= 1024:
            key = (value.dtype.name, value.shape, value.tobytes())
            if key not in self.shared:
                self.shared[key] = self._unique("constant_0")
                self.parts.constants[self.shared[key]] = value
            return self.shared[key]
        name = name or self._unique("constant_0")
        self.parts.constants[name] = value
        return name

    def integers(self, values: Iterable[int]) -> str:
        """The name of a vector of int64."""
        return self.constant(np.array(list(values), np.int64))

    # ---- operators ---------------------------------------------------------------------

    def _operator(self, node: Node) -> str:
        attrs: Operator = node.attrs
        given = iter(self.known[x] for x in node.inputs)
        count = len(node.inputs) + len(attrs.absent)
        inputs = ["" if i in attrs.absent else next(given) for i in range(count)]
        attributes = {k: list(v) if isinstance(v, tuple) else v for k, v in attrs.attributes}
        if attrs.name != "MaxPool":
            return self.add(attrs.name, inputs, node, attributes)
        key = (attrs.name, attrs.attributes, node.inputs)  # its outputs are of one item
        item = self.siblings.get(key)
        if item is None:
            self._item(attrs.name, inputs, node.type, attributes, None)
            item = self.siblings[key] = self.parts.items[-1]
        while len(item.outputs) <= attrs.output:
            item.outputs.append(self._unique(f"{item.name}_output{len(item.outputs)}"))
        item.outputs[attrs.output] = name = self.fixed.get(node, item.outputs[attrs.output])
        self.parts.types[name] = attrs.type
        return name

    def _broadcast(self, node: Node) -> list[str]:
        """The inputs of an elementwise node; broadcasts are left to ONNX where the result keeps
        its shape without them.
        """
        sources = list(map(_unstretched, node.inputs))
        if node.shape == broadcast_shapes("onnx", *(s.shape for s in sources)):
            return [self.known[s] for s in sources]
        return [self.known[x] for x in node.inputs]


def _unstretched(x: Node) -> Node:
    while x.op is m.BROADCAST_TO and x.data is None:
        x = x.inputs[0]
    return x


# ---- primitives that need some thought -----------------------------------------------------


def _input(emitter: Emitter, node: Node) -> str:
    return emitter.known[node.inputs[0]]


def _reshape(emitter: Emitter, node: Node) -> str:
    attributes = {"allowzero": 1} if 0 in node.shape else {}
    return emitter.add(
        "Reshape", [_input(emitter, node), emitter.integers(node.shape)], node, attributes
    )


def _expand(emitter: Emitter, node: Node) -> str:
    return emitter.add("Expand", [_input(emitter, node), emitter.integers(node.shape)], node)


def _sum(emitter: Emitter, node: Node) -> str:
    x, name = node.inputs[0], _input(emitter, node)
    if x.type.dtype is not node.type.dtype:
        name = emitter.step("Cast", [name], x.type.with_dtype(node.type.dtype), to=node.type.dtype)
    if not node.attrs:
        return emitter.add("Identity", [name], node)
    return emitter.add("ReduceSum", [name, emitter.integers(node.attrs)], node, {"keepdims": 0})


def _extreme(operator: str) -> Callable[[Emitter, Node], str]:
    def emit(emitter: Emitter, node: Node) -> str:
        inputs = [_input(emitter, node), emitter.integers([node.inputs[0].ndim - 1])]
        return emitter.add(operator, inputs, node, {"keepdims": 0})

    return emit


def _arg(operator: str) -> Callable[[Emitter, Node], str]:
    return lambda emitter, node: emitter.add(
        operator, [_input(emitter, node)], node, {"axis": -1, "keepdims": 0}
    )


def _slice(emitter: Emitter, node: Node) -> str:
    spans: tuple[Span, ...] = node.attrs
    pairs = zip(spans, node.inputs[0].shape, strict=True)
    cut = [(a, s) for a, (s, n) in enumerate(pairs) if s != Span(0, n)]
    vectors = (
        [s.start for _, s in cut],
        [s.stop for _, s in cut],
        [a for a, _ in cut],
        [s.step for _, s in cut],
    )
    return emitter.add("Slice", [_input(emitter, node), *map(emitter.integers, vectors)], node)


def _flip(emitter: Emitter, node: Node) -> str:
    axes = node.attrs
    ends = [-(2**63) + 1] * len(axes)
    vectors = ([-1] * len(axes), ends, axes, [-1] * len(axes))
    return emitter.add("Slice", [_input(emitter, node), *map(emitter.integers, vectors)], node)


def _pad(emitter: Emitter, node: Node) -> str:
    """Without gaps between neighbours; ONNX crops by negative widths too, runtimes do not."""
    attrs: PadAttrs = node.attrs
    x = node.inputs[0]
    value = np.asarray(attrs.value, x.type.dtype.numpy)
    crops = [(max(0, -p.lo), max(0, -p.hi)) for p in attrs.axes]
    name, shape = _input(emitter, node), x.shape
    cut = [a for a, crop in enumerate(crops) if crop != (0, 0)]
    if cut:
        shape = tuple(n - lo - hi for n, (lo, hi) in zip(shape, crops, strict=True))
        vectors = (
            [crops[a][0] for a in cut], [x.shape[a] - crops[a][1] for a in cut], cut
        )  # fmt: skip
        inputs = [name, *map(emitter.integers, vectors)]
        if all(p.lo <= 0 and p.hi <= 0 for p in attrs.axes):
            return emitter.add("Slice", inputs, node)
        name = emitter.step("Slice", inputs, x.type.with_shape(shape))
    widths = [max(0, p.lo) for p in attrs.axes] + [max(0, p.hi) for p in attrs.axes]
    inputs = [name, emitter.integers(widths), emitter.constant(value)]
    return emitter.add("Pad", inputs, node, {"mode": "constant"})


def _take(emitter: Emitter, node: Node) -> str:
    inputs = [emitter.known[x] for x in node.inputs]
    return emitter.add("Gather", inputs, node, {"axis": node.attrs.axis})


def _take_along_axis(emitter: Emitter, node: Node) -> str:
    inputs = [emitter.known[x] for x in node.inputs]
    return emitter.add("GatherElements", inputs, node, {"axis": node.attrs.axis})


def _scatter_add(emitter: Emitter, node: Node) -> str:
    values, where = (emitter.known[x] for x in node.inputs)
    zero = emitter.constant(np.zeros((), node.type.dtype.numpy))
    empty = emitter.step("Expand", [zero, emitter.integers(node.shape)], node.type)
    attributes = {"axis": node.attrs.axis, "reduction": "add"}
    return emitter.add("ScatterElements", [empty, where, values], node, attributes)


OTHERS: dict[Op, Callable[[Emitter, Node], str]] = {
    m.RESHAPE: _reshape,
    m.TRANSPOSE: lambda emitter, node: emitter.add(
        "Transpose", [_input(emitter, node)], node, {"perm": list(node.attrs)}
    ),
    m.BROADCAST_TO: _expand,
    m.SUM: _sum,
    m.SLICE: _slice,
    m.FLIP: _flip,
    m.PAD: _pad,
    m.CONCAT: lambda emitter, node: emitter.add(
        "Concat", [emitter.known[x] for x in node.inputs], node, {"axis": node.attrs}
    ),
    m.ALIAS: lambda emitter, node: emitter.add("Identity", [_input(emitter, node)], node),
    e.CAST: lambda emitter, node: emitter.add(
        "Cast", [_input(emitter, node)], node, {"to": node.type.dtype}
    ),
    reduce.MAX: _extreme("ReduceMax"),
    reduce.MIN: _extreme("ReduceMin"),
    reduce.ARGMAX: _arg("ArgMax"),
    reduce.ARGMIN: _arg("ArgMin"),
    index.TAKE: _take,
    index.TAKE_ALONG_AXIS: _take_along_axis,
    index.SCATTER_ADD: _scatter_add,
}
LEAVES = (PARAMETER, CONSTANT, OPERATOR)


def refuse_unknown(nodes: Iterable[Node]) -> None:
    """Whether all can be written.

    Raises:
        StriateError: some cannot; all are listed.
    """
    known = {*LEAVES, *ELEMENTWISE, *OTHERS}
    unknown: dict[str, list[str]] = {}
    for node in nodes:
        if node.op not in known:
            unknown.setdefault(node.op.name, []).append(str(node.type))
    if unknown:
        listed = "; ".join(f"{op} ({len(t)} times, first {t[0]})" for op, t in unknown.items())
        raise StriateError(f"onnx: no ONNX operator is known for: {listed}")
