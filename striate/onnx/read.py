"""From a model file to plain values, with every rule checked that running relies on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from striate.onnx.model import Function, Graph, Model, ModelError, Node, Reference, Tensor
from striate.onnx.tensors import read_tensor

MAX_BYTES = 2**31  # protobuf's limit; larger models keep their weights beside them
OLDEST = 1


def onnx_package() -> Any:
    """The package `onnx`, which reading and writing need.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("st.onnx needs the package onnx: pip install striate[onnx]") from error
    return onnx


def read_file(path: Path) -> Model:
    """The model in a file; tensors may lie in other files of its folder.

    Raises:
        FileNotFoundError: there is no such file.
        ModelError: it is no valid model.
    """
    size = path.stat().st_size
    if not path.is_file() or not 0 < size < MAX_BYTES:
        raise ModelError(f"onnx: {path.name!r}: a file of 1 to 2**31 - 1 bytes, got {size}")
    return read_bytes(path.read_bytes(), path.parent, repr(path.name))


def read_bytes(data: bytes, folder: Path | None = None, name: str = "the file") -> Model:
    """The model in the bytes of a file, which errors call by its name.

    Raises:
        ModelError: it is no valid model.
    """
    onnx = onnx_package()
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"onnx: {name} is no ONNX model: {error}") from None
    return read_proto(proto, folder)


def read_proto(proto: Any, folder: Path | None = None) -> Model:
    """The model in a ModelProto.

    Raises:
        ModelError: it is no valid model.
    """
    onnx = onnx_package()
    if not proto.HasField("graph"):
        raise ModelError("onnx: the file has no graph; is it an ONNX model?")
    reader = _Reader(onnx, folder)
    opsets = _opsets(proto.opset_import)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opsets.get("", OLDEST) <= newest:
        raise ModelError(
            f"onnx: the model has opset {opsets['']}; the installed onnx {onnx.__version__} knows "
            f"{OLDEST} to {newest}"
        )
    functions = {(_domain(f.domain), _name(f.name)): reader.function(f) for f in proto.functions}
    graph = reader.graph(proto.graph, frozenset())
    half = [v.name for v in graph.inputs if v.dtype == "FLOAT16"]
    half += [name for name, value in graph.initializers.items() if value.dtype == "float16"]
    return Model(graph, opsets, functions, frozenset(half))


def _name(text: Any) -> str:
    """A text of the file, which protobuf gives as bytes if it is none.

    Raises:
        ModelError: it is not UTF-8.
    """
    if not isinstance(text, str):
        raise ModelError(f"onnx: a name is not text: {text!r:.40}")
    return text


def _names(texts: Any) -> tuple[str, ...]:
    return tuple(map(_name, texts))


def _domain(text: Any) -> str:
    return "" if text == "ai.onnx" else _name(text)


def _opsets(imports: Any) -> dict[str, int]:
    return {_domain(entry.domain): entry.version for entry in imports}


class _Reader:
    """Conversion of protos; `folder` is where external data may lie."""

    def __init__(self, onnx: Any, folder: Path | None) -> None:
        self.onnx = onnx
        self.folder = folder

    def _type_name(self, code: int) -> str:
        names = self.onnx.TensorProto.DataType
        return str(names.Name(code)) if code in names.values() else f"number {code}"

    def tensor(self, proto: Any) -> Any:
        return read_tensor(proto, self._type_name(proto.data_type), self.folder)

    def value_info(self, proto: Any) -> Tensor:
        if not _name(proto.name):
            raise ModelError("onnx: an input or output of a graph has no name")
        kind = proto.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            raise ModelError(f"onnx: {proto.name!r} is a {kind}; striate runs tensors only")
        type_ = proto.type.tensor_type
        name = self._type_name(type_.elem_type) if type_.elem_type else ""
        if not type_.HasField("shape"):
            return Tensor(proto.name, name)
        sizes = []
        for dim in type_.shape.dim:
            which = dim.WhichOneof("value")
            size = getattr(dim, which) if which else None
            sizes.append(size if which != "dim_param" else _name(size))
            if which == "dim_value" and dim.dim_value < 0:
                raise ModelError(f"onnx: {proto.name!r} has a size of {dim.dim_value}")
        return Tensor(proto.name, name, tuple(sizes))

    def node(self, proto: Any, outer: frozenset[str]) -> Node:
        attributes = {_name(a.name): self.attribute(a, outer) for a in proto.attribute}
        return Node(
            _name(proto.name),
            _name(proto.op_type),
            _domain(proto.domain),
            _names(proto.input),
            _names(proto.output),
            attributes,
        )

    def attribute(self, proto: Any, outer: frozenset[str]) -> Any:
        """Numbers, texts, arrays, graphs and lists of them; None for other kinds, which no
        operator reads.
        """
        if proto.ref_attr_name:
            return Reference(_name(proto.ref_attr_name))
        kind = self.onnx.AttributeProto
        match proto.type:
            case kind.INT:
                return proto.i
            case kind.FLOAT:
                return proto.f
            case kind.STRING:
                return _text(proto.name, proto.s)
            case kind.TENSOR:
                return self.tensor(proto.t)
            case kind.GRAPH:
                return self.graph(proto.g, outer)
            case kind.INTS:
                return list(proto.ints)
            case kind.FLOATS:
                return list(proto.floats)
            case kind.STRINGS:
                return [_text(proto.name, s) for s in proto.strings]
        return None

    def graph(self, proto: Any, outer: frozenset[str]) -> Graph:
        """A graph that sees the names `outer` of the graphs around it."""
        if proto.sparse_initializer:
            raise ModelError(f"onnx: graph {proto.name!r} has sparse initialisers, not read")
        values: dict[str, Any] = {}
        for tensor in proto.initializer:
            if not _name(tensor.name) or tensor.name in values:
                raise ModelError(f"onnx: two initialisers have the name {tensor.name!r}, or none")
            values[tensor.name] = self.tensor(tensor)
        inputs = [self.value_info(v) for v in proto.input if v.name not in values]
        outputs = tuple(self.value_info(v) for v in proto.output)
        known = [*(v.name for v in inputs), *values]
        nodes = self.body(proto.node, known, outer)
        defined = {*known, *outer, *(name for node in nodes for name in node.outputs)}
        for output in outputs:
            if output.name not in defined:
                raise ModelError(f"onnx: graph {proto.name!r}: nothing makes {output.name!r}")
        return Graph(_name(proto.name), tuple(inputs), outputs, nodes, values)

    def function(self, proto: Any) -> Function:
        nodes = self.body(proto.node, proto.input, frozenset())
        defaults: dict[str, Any] = {
            _name(a.name): self.attribute(a, frozenset()) for a in proto.attribute_proto
        }
        made = {*proto.input, *(name for node in nodes for name in node.outputs)}
        for name in proto.output:
            if name not in made:
                raise ModelError(f"onnx: function {proto.name!r}: nothing makes {name!r}")
        return Function(
            _names(proto.input), _names(proto.output), defaults, nodes, _opsets(proto.opset_import)
        )

    def body(self, protos: Any, known: Iterable[str], outer: frozenset[str]) -> tuple[Node, ...]:
        """Nodes in topological order.

        Raises:
            ModelError: a name is defined twice, used but not defined, or in a cycle.
        """
        known = list(known)
        makers: dict[str, int] = dict.fromkeys(known, -1)
        if len(makers) != len(known):
            raise ModelError("onnx: two inputs of a graph have one name")
        for k, proto in enumerate(protos):
            for name in filter(None, proto.output):
                if name in makers:
                    raise ModelError(f"onnx: node {proto.name!r} defines {name!r} a second time")
                makers[name] = k
        seen = outer | makers.keys()
        nodes = [self.node(proto, frozenset(seen)) for proto in protos]
        order = {k: _makers(node, makers, outer) for k, node in enumerate(nodes)}
        if all(first < k for k, needs in order.items() for first in needs):
            return tuple(nodes)
        try:
            return tuple(nodes[k] for k in TopologicalSorter(order).static_order())
        except CycleError as error:
            names = " <- ".join(nodes[k].title for k in error.args[1])
            raise ModelError(f"onnx: the graph has a cycle: {names}") from None


def _makers(node: Node, makers: Mapping[str, int], outer: frozenset[str]) -> set[int]:
    """The numbers of the nodes whose outputs a node reads, in its graphs too."""
    found = set()
    for name in node.reads:
        if name in makers:
            found.add(makers[name])
        elif name not in outer:
            raise ModelError(f"onnx: {node.title} reads {name!r}, which nothing defines")
    return found - {-1}


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"onnx: the attribute {name!r} is no text: {data!r:.40}") from None
