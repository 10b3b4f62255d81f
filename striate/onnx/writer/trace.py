"""A function or a module as a graph, with the names that its author gave: of the arguments, of
the state that it reads, and of the modules that made each value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from striate.core.array import Array, asarray, current_trace, tracing
from striate.core.watching import watching
from striate.errors import StriateError, TraceError
from striate.ir.graph import Node, parameter, topological
from striate.ir.types import TensorType
from striate.nn.module import Module, Step
from striate.pytree import flatten, leaf_paths, unflatten


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module: the values that it was given, and those that it made."""

    module: Module
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]


@dataclass
class Program:
    """A traced function.

    Attributes:
        inputs, outputs: the values by name, in order.
        state: the outside arrays that it reads, each with its name.
        held: the node of each of them.
        calls: for each value that a module returned, the innermost call that did.
        paths: for each value, the path of the innermost module that made it.
    """

    inputs: dict[str, Node] = field(default_factory=dict)
    outputs: dict[str, Node] = field(default_factory=dict)
    state: dict[Node, tuple[str, Array]] = field(default_factory=dict)
    held: dict[Array, Node] = field(default_factory=dict)
    calls: dict[Node, Call] = field(default_factory=dict)
    paths: dict[Node, str] = field(default_factory=dict)


def trace(f: Callable[..., Any], args: tuple[Any, ...], types: Sequence[TensorType]) -> Program:
    """`f` on arguments of these types.

    Args:
        f: a module or a function of arrays.
        args: trees of arrays; other leaves are passed as they are.
        types: one for each array among their leaves.

    Raises:
        StriateError: there is no array among the arguments or the results, or `f` assigns state.
        TraceError: `f` asks for a value.
    """
    if current_trace() is not None:
        raise TraceError("onnx: a function that is being traced cannot be written to a file")
    leaves, treedef = flatten(args)
    given = iter(types)
    program = Program()
    modules = {id(m): path for path, m in f.named_modules()} if isinstance(f, Module) else {}

    def watcher(module: Module | Step, arguments: tuple[Any, ...], result: Any) -> None:
        if isinstance(module, Step):
            return
        inputs, outputs = _nodes(arguments), _nodes(result)
        call = Call(module, inputs, outputs)
        path = modules.get(id(module), type(module).__name__)
        for node in outputs:
            if node not in inputs:
                program.calls.setdefault(node, call)
        for node in topological(outputs, stop=lambda n: n in program.paths or n in inputs):
            if node not in inputs:
                program.paths.setdefault(node, path)

    with tracing() as running, watching(watcher):
        symbols = [Array(parameter(next(given))) if is_array(leaf) else leaf for leaf in leaves]
        if not any(isinstance(s, Array) for s in symbols):
            raise StriateError("onnx: the example holds no array: a model needs an input")
        out = f(*unflatten(treedef, symbols))
        outputs = {name: asarray(x).node for name, x in named_leaves("output", out)}
        program.inputs = {
            name: s.node
            for name, s in zip(input_names(f, args), symbols, strict=True)
            if isinstance(s, Array)
        }
    if running.written:
        changed = ", ".join(_state_names(f, list(running.written)).values())
        raise StriateError(
            f"onnx: the function assigns state ({changed}); a file holds what is computed, not "
            "what changes"
        )
    if not outputs:
        raise StriateError("onnx: the function returns no array: a model needs an output")
    program.outputs = outputs
    program.held = dict(running.captured)
    named = _state_names(f, list(running.captured))
    program.state = {node: (named[a], a) for a, node in running.captured.items()}
    return program


def is_array(leaf: Any) -> bool:
    """Whether a leaf of the example is an input of the model: anything with shape and dtype."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def named_leaves(name: str, tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a tree in the order of `flatten`, each with its name: `x`, `x_0`, `x_key`."""
    leaves = flatten(tree)[0]
    return [
        ("_".join([name, *map(str, path)]), leaf)
        for path, leaf in zip(leaf_paths(tree), leaves, strict=True)
    ]


def input_names(f: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
    """A name for each leaf of the arguments."""
    pairs = zip(_argument_names(f, len(args)), args, strict=True)
    return [name for argument, tree in pairs for name, _ in named_leaves(argument, tree)]


def _argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """The names of the first `count` positional arguments of a function or a module's forward."""
    function = f.forward if isinstance(f, Module) else f
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        parameters = []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in plain][:count]
    return names + [f"input_{i}" for i in range(len(names), count)]


def _nodes(tree: Any) -> tuple[Node, ...]:
    return tuple(leaf.node for leaf in flatten(tree)[0] if isinstance(leaf, Array))


def _state_names(f: Callable[..., Any], arrays: Sequence[Array]) -> dict[Array, str]:
    known: dict[int, str] = {}
    if isinstance(f, Module):
        for name, array in [*f._state().items(), *f.named_buffers()]:
            known.setdefault(id(array), name)
    fresh = (f"state_{i}" for i in range(len(arrays)))
    return {a: known.get(id(a)) or next(fresh) for a in arrays}
