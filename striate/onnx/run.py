"""A walk over a graph of ONNX that makes arrays, and what must be known before it.

Values of constants and shapes are *static*: arithmetic on them is done at once, by the NumPy
references of the ops, so that shapes computed from shapes are numbers when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from striate.core.array import Array
from striate.core.watching import Watcher, watchers
from striate.errors import TraceError
from striate.ir.graph import Graph as Program, Value, constant
from striate.nn.module import Parameter, Step
from striate.onnx.model import Graph, Model, ModelError, Node
from striate.onnx.operators import OPERATORS
from striate.onnx.operators.half import FLOAT16
from striate.onnx.registry import Call, named
from striate.onnx.tensors import widened
from striate.transform.interpret import interpret

FOLDED = 1 << 20  # the most elements of a static value that is computed at once
DEPTH = 64  # of graphs in graphs, and functions in functions
MAX_NODES = 100_000  # of a graph with functions and trips of loops written out


# ---- what a model needs --------------------------------------------------------------------


def check_operators(model: Model) -> None:
    """Every operator is there, and gets a number of inputs that it takes.

    Raises:
        ModelError: operators are missing; the message lists all of them with their nodes.
    """
    missing: dict[str, list[str]] = {}
    bodies: list[Iterable[Node]] = [model.graph.walk()]
    bodies += [_walk(f.nodes) for f in model.functions.values()]
    for node in (node for body in bodies for node in body):
        key = (node.domain, node.op_type)
        if key in OPERATORS:
            _check_inputs(node)
        elif key not in model.functions:
            missing.setdefault(node.kind, []).append(node.name or ", ".join(node.outputs))
    if missing:
        lines = [
            f"{kind}: {', '.join(map(repr, names))}" for kind, names in sorted(missing.items())
        ]
        raise ModelError(
            f"onnx: striate does not run {len(missing)} of the model's operators (operator: its "
            "nodes):\n  " + "\n  ".join(lines)
        )


def check_functions(model: Model) -> None:
    """Functions end: they do not call themselves, and their bodies do not multiply without bound.

    Raises:
        ModelError: they do.
    """
    bodies = {key: list(_walk(f.nodes)) for key, f in model.functions.items()}
    calls = {
        key: [(n.domain, n.op_type) for n in nodes if (n.domain, n.op_type) in bodies]
        for key, nodes in bodies.items()
    }
    sizes: dict[tuple[str, str], int] = {}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        names = " <- ".join(name for _, name in error.args[1])
        raise ModelError(f"onnx: functions of the model call themselves: {names}") from None
    for key in order:
        sizes[key] = len(bodies[key]) + sum(sizes[inner] for inner in calls[key])
    total = sum(1 + sizes.get((n.domain, n.op_type), 0) for n in model.graph.walk())
    if total > MAX_NODES:
        raise ModelError(
            f"onnx: the model has {total} nodes with its functions; {MAX_NODES} at most"
        )


def _walk(nodes: Iterable[Node]) -> Iterable[Node]:
    """The nodes and those of all graphs inside of them."""
    return Graph("", (), (), tuple(nodes)).walk()


def _check_inputs(node: Node) -> None:
    rule = OPERATORS[node.domain, node.op_type]
    given = len(node.inputs)
    if not rule.least <= given <= rule.most:
        wanted = f"{rule.least}" if rule.least == rule.most else f"{rule.least} to {rule.most}"
        raise ModelError(f"onnx: {node.title} has {given} inputs; the operator takes {wanted}")
    left_out = [k for k in rule.required if not node.inputs[k]]
    if left_out:
        raise ModelError(f"onnx: {node.title}: input {left_out[0]} may not be left out")


def needed_values(model: Model, graph: Graph, wanted: Iterable[str] = ()) -> set[str]:
    """The names in a graph whose values must be known when it is run: inputs that operators declare
    as known, `wanted`, and all that these are computed from.
    """
    names = set(wanted)
    for node in reversed(graph.nodes):
        names |= asked_by(model, node, any(name in names for name in node.outputs if name))
    return names


def asked_by(model: Model, node: Node, read: bool) -> set[str]:
    """The names whose values must be known to run a node; all that it reads, if its results must be
    (`read`) and depend on more than shapes. Names inside of its graphs may be among them.
    """
    rule = OPERATORS.get((node.domain, node.op_type))
    if rule is None:
        body = model.functions[node.domain, node.op_type].body(node.attributes)
        formal = needed_values(model, body, body_outputs(body) if read else ())
        pairs = zip(body.inputs, node.inputs, strict=False)
        return {actual for v, actual in pairs if v.name in formal} - {""}
    names: set[str] = set()
    for sub in node.subgraphs:
        results = body_outputs(sub)
        names |= needed_values(
            model, sub, results if read else [results[k] for k in rule.known_results]
        )
        read = read or any(v.name in names for v in sub.inputs)
    if read and not rule.shape_only:
        names.update(node.inputs)
    names.update(node.inputs[k] for k in rule.known if k < len(node.inputs))
    return names - {""}


def body_outputs(graph: Graph) -> list[str]:
    """The names of a graph's outputs."""
    return [v.name for v in graph.outputs]


# ---- the walk ------------------------------------------------------------------------------


class Static:
    """A known value, as a part of the key of a trace."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.key = (value.dtype.str, value.shape, value.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Scope:
    """Names and their values while a graph is run.

    Attributes:
        values: by name; None is an input that is left out.
        static: the names whose values depend on no data.
        half: the names that are float16 in the file, and float32 here.
    """

    def __init__(self, outer: Scope | None = None) -> None:
        self.values: dict[str, Array | None] = dict(outer.values) if outer else {}
        self.static: set[str] = set(outer.static) if outer else set()
        self.half: set[str] = set(outer.half) if outer else set()
        self.depth: int = outer.depth + 1 if outer else 0

    def define(self, name: str, value: Array | None, static: bool, half: bool = False) -> None:
        """Give a name its value, hiding one from outside."""
        self.values[name] = value
        for names, member in ((self.static, static), (self.half, half)):
            (names.add if member else names.discard)(name)

    def give(self, name: str, value: Array | Static | None, half: bool) -> None:
        """`define`, for an argument of a trace."""
        if isinstance(value, Static):
            self.define(name, Array(constant(value.value)), True, half)
        else:
            self.define(name, value, False, half)


class Runner:
    """A model with a mode: runs its graphs, once.

    Args:
        model: the model.
        training: whether it is in training mode.
        partial: leave out nodes of the main graph that need values which are not known, and all
            that depends on their results.
    """

    def __init__(self, model: Model, training: bool, partial: bool = False) -> None:
        self.model = model
        self.training = training
        self.partial = partial
        self._nodes = 0

    def opened(self, given: Mapping[str, Array | Static]) -> Scope:
        """The main graph's names before its nodes have run: weights and inputs, and constants."""
        scope = Scope()
        for name, value in given.items():
            scope.give(name, value, name in self.model.half)
        self.constants(self.model.graph, scope)
        return scope

    def run(self, graph: Graph, scope: Scope, opsets: Mapping[str, int]) -> list[Array]:
        """The outputs of a graph, whose inputs and weights are defined in `scope`.

        Raises:
            ModelError: an output is left out, graphs are nested too deep, or loops without end.
            StriateError: a rule of an operator is broken; the message names the node.
        """
        if scope.depth > DEPTH:
            raise ModelError(f"onnx: graphs and functions are nested more than {DEPTH} deep")
        self.constants(graph, scope)
        self.walk(graph.nodes, scope, opsets)
        return self.results(graph, scope)

    @staticmethod
    def constants(graph: Graph, scope: Scope) -> None:
        """Define the initialisers of a graph, as far as the scope does not have them."""
        for name, value in graph.initializers.items():
            if name not in scope.values:
                half = value.dtype == np.float16
                scope.define(name, Array(constant(widened(value))), True, half)

    @staticmethod
    def results(graph: Graph, scope: Scope) -> list[Array]:
        """The outputs of a graph whose nodes have run.

        Raises:
            ModelError: one is left out.
        """
        found = [scope.values.get(name) for name in body_outputs(graph)]
        for name, value in zip(body_outputs(graph), found, strict=True):
            if value is None:
                raise ModelError(f"onnx: graph {graph.name!r}: its output {name!r} has no value")
        return found  # type: ignore[return-value]

    def walk(self, nodes: Sequence[Node], scope: Scope, opsets: Mapping[str, int]) -> None:
        """Run nodes, which read and define names of `scope`.

        Raises:
            ModelError, StriateError: as `run`.
        """
        self._nodes += 1 + len(nodes)
        if self._nodes > MAX_NODES:
            raise ModelError(f"onnx: the model runs more than {MAX_NODES} nodes, in loops of loops")
        for node in nodes:
            known = self._run_node(node, scope, opsets)
            if watchers():
                _tell(watchers(), node, scope, known)

    def _run_node(self, node: Node, scope: Scope, opsets: Mapping[str, int]) -> bool:
        """Whether it could be run; if not, its outputs are not defined."""
        outermost = self.partial and not scope.depth
        if outermost and not node.reads <= scope.values.keys():
            return False
        try:
            with named(node):
                self._node(node, scope, opsets)
        except TraceError:
            if not outermost:
                raise
            return False
        return True

    def _node(self, node: Node, scope: Scope, opsets: Mapping[str, int]) -> None:
        operands = _operands(node, scope)
        rule = OPERATORS.get((node.domain, node.op_type))
        static = all(name in scope.static for name in node.inputs if name)
        if rule is None:
            outputs: list[Any] = self._function(node, operands, scope)
        else:
            missing = [k for k in rule.required if operands[k] is None]
            if missing:
                raise ModelError(f"its input {missing[0]} has no value")
            call = Call(
                node,
                opsets.get(node.domain, 1),
                self.training,
                [name in scope.half for name in node.inputs],
                self._inner(scope, opsets),
            )
            result = rule.run(call, *operands)
            outputs = list(result) if isinstance(result, tuple) else [result]
            pure = not rule.random and not any(node.subgraphs)
            static = (static and pure) or rule.shape_only
        if len(outputs) < len(node.outputs):
            raise ModelError(f"it names {len(node.outputs)} outputs; there are {len(outputs)}")
        if static and all(x is None or x.node.data is not None for x in operands):
            outputs = _folded(outputs)
        half = _is_half(node, operands, scope)
        for name, value in zip(node.outputs, outputs, strict=False):
            if name:
                floating = value is not None and value.dtype.is_floating
                scope.define(name, value, static, half and floating)

    def _inner(self, scope: Scope, opsets: Mapping[str, int]) -> Any:
        """Runs a graph that sees the names of `scope`."""

        def run(graph: Graph, *inputs: Array | None) -> list[Array]:
            inside = Scope(scope)
            if len(inputs) != len(graph.inputs):
                raise ModelError(f"its graph takes {len(graph.inputs)} inputs, got {len(inputs)}")
            for name in graph.initializers:
                inside.values.pop(name, None)
            for formal, value in zip(graph.inputs, inputs, strict=True):
                inside.define(formal.name, value, is_known(value))
            return self.run(graph, inside, opsets)

        return run

    def _function(self, node: Node, operands: tuple[Array | None, ...], scope: Scope) -> list[Any]:
        """A call of an operator that the model defines; inputs at the end may be left out."""
        function = self.model.functions[node.domain, node.op_type]
        inside = Scope()
        inside.depth = scope.depth + 1
        if len(operands) > len(function.inputs):
            raise ModelError(f"it has {len(operands)} inputs; its body takes {function.inputs}")
        for k, formal in enumerate(function.inputs):
            value = operands[k] if k < len(operands) else None
            name = node.inputs[k] if k < len(operands) else ""
            inside.define(formal, value, value is None or name in scope.static, name in scope.half)
        return list(self.run(function.body(node.attributes), inside, function.opsets))


def _is_half(node: Node, operands: Sequence[Array | None], scope: Scope) -> bool:
    """Whether the floating results of a node are float16 in the file: they are what an attribute
    says, else of the type of the floating inputs.
    """
    for key in ("to", "dtype", "output_dtype"):
        if node.attributes.get(key):
            return bool(node.attributes[key] == FLOAT16)
    value = node.attributes.get("value")
    if isinstance(value, np.ndarray):
        return bool(value.dtype == np.float16)
    pairs = list(zip(node.inputs, operands, strict=True))[1 if node.op_type == "CastLike" else 0 :]
    return any(x is not None and x.dtype.is_floating and n in scope.half for n, x in pairs)


def _operands(node: Node, scope: Scope) -> tuple[Array | None, ...]:
    """The inputs of a node; None is one that is left out."""
    return tuple(scope.values[name] if name else None for name in node.inputs)


def _tell(told: Iterable[Watcher], node: Node, scope: Scope, known: bool) -> None:
    """Tell who watches the layers of a network of a node that has run, or could not be."""
    operands = tuple(scope.values.get(name) for name in node.inputs)
    weights = tuple(x for x in operands if isinstance(x, Parameter))
    step = Step(node.name or " ".join(filter(None, node.outputs)), node.op_type, weights)
    results = [scope.values[name] for name in node.outputs if name] if known else []
    for watcher in told:
        watcher(step, operands, results)


def is_known(value: Array | None) -> bool:
    """Whether an input of an inner graph is left out, or a constant that shapes may depend on."""
    if value is None:
        return True
    return value.node.data is not None and not value.dtype.is_floating


def _folded(outputs: list[Any]) -> list[Any]:
    """Results of static values, computed; large ones are left as they are."""
    nodes = {x.node: None for x in outputs if x is not None and x.node.data is None}
    small = [n for n in nodes if n.type.size <= FOLDED]
    values = dict(zip(small, interpret(Program((), tuple(small)), []), strict=True))
    return [
        Array(constant(values[x.node])) if x is not None and x.node in values else x
        for x in outputs
    ]
