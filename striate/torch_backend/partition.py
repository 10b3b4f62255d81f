"""A graph in stages that alternate between striate and PyTorch.

An operator is ours if its rule takes its arguments, which is tried on the types of the example.
The stage of a node is the least that is not before those of its inputs: even for ours, odd for
PyTorch's. Random operators keep their order, so that the generator gives what it gives eagerly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from striate.errors import StriateError
from striate.torch_backend.program import Program
from striate.torch_backend.translate import is_number, name_of, stand_in, translate

_log = logging.getLogger("striate.torch")
aten = torch.ops.aten

Call = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class _Stage:
    """A callable, the registers of its arguments and results, and those that die with it."""

    run: Call
    inputs: list[int]
    outputs: list[int]
    dead: list[int]


def compiled(module: fx.GraphModule, frozen: tuple[int, ...] = ()) -> Call:
    """A callable on the list of a graph's arguments, which it empties.

    Args:
        module: a functional graph of ATen operators with `val` in the nodes' meta.
        frozen: the numbers of the placeholders whose values never change.
    """
    module.graph.eliminate_dead_code()
    foreign = _foreign(module.graph)
    if not foreign and not any(n.op == "get_attr" for n in module.graph.nodes):
        return Program(module.graph, frozen)
    return _Staged(module, _levels(module.graph, foreign), frozen)


def _foreign(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that PyTorch runs; says which operators they are."""
    values: dict[fx.Node, Any] = {}
    foreign: dict[fx.Node, str] = {}
    for node in graph.nodes:
        if node.op == "output":
            break
        values[node] = stand_in(node.meta.get("val"))
        if node.op != "call_function":
            continue
        source = node.args[0] if node.args else None
        if source in foreign and not is_number(node) and name_of(node) == GETITEM:
            foreign[node] = ""
            continue
        try:
            values[node] = translate(node, values)
        except (StriateError, TypeError) as error:
            foreign[node] = str(error).partition("\n")[0]
    named = {name_of(n): why for n, why in foreign.items() if why}
    if named:
        random = all(_is_random(n) or n.target in _EMPTY for n, why in foreign.items() if why)
        _log.log(
            logging.DEBUG if random else logging.WARNING,
            "PyTorch runs %s",
            "; ".join(name if why == name else f"{name} ({why})" for name, why in named.items()),
        )
    return set(foreign)


GETITEM = "<built-in function getitem>"


# What random operators fill.
_EMPTY = {aten.empty.memory_format, aten.empty_permuted.default}


def _is_random(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def _levels(graph: fx.Graph, foreign: set[fx.Node]) -> dict[fx.Node, int]:
    """Per operator its stage: odd for PyTorch."""
    levels: dict[fx.Node, int] = {}
    last_random = 1
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        theirs = node in foreign
        level = 1 if theirs else 2
        if theirs and _is_random(node):
            level = last_random
        for source in node.all_input_nodes:
            if source in levels:
                level = max(level, levels[source] + (levels[source] % 2 != theirs))
        if theirs and _is_random(node):
            last_random = level
        levels[node] = level
    return levels


class _Staged:
    """Stages that pass values on in registers."""

    def __init__(
        self, module: fx.GraphModule, levels: dict[fx.Node, int], frozen: tuple[int, ...]
    ) -> None:
        nodes = list(module.graph.nodes)
        inputs = [n for n in nodes if n.op == "placeholder"]
        attributes = [n for n in nodes if n.op == "get_attr"]
        self.constants = [_attribute(module, str(n.target)) for n in attributes]
        self.frozen = frozen
        register = {n: i for i, n in enumerate([*inputs, *attributes])}
        wanted = set(nodes[-1].all_input_nodes)
        last_use = {s: level for n, level in levels.items() for s in n.all_input_nodes}
        for n, level in levels.items():
            for s in n.all_input_nodes:
                last_use[s] = max(last_use[s], level)
        self.stages: list[_Stage] = []
        for level in sorted(set(levels.values())):
            part = [n for n in levels if levels[n] == level]
            graph, reads, writes = _subgraph(part, levels, wanted)
            for n in writes:
                register[n] = len(register)
            known = [i for i, n in enumerate(reads) if register[n] in frozen]
            run = _in_torch(module, graph) if level % 2 else Program(graph, known)
            dead = [register[n] for n in register if n not in wanted and last_use.get(n) == level]
            self.stages.append(
                _Stage(run, [register[n] for n in reads], [register[n] for n in writes], dead)
            )
        self.size = len(register)
        self.outputs = [register[y] if isinstance(y, fx.Node) else None for y in nodes[-1].args[0]]

    def __call__(self, given: list[Any]) -> list[Any]:
        """The outputs of the graph."""
        registers = [*given, *self.constants]
        registers += [None] * (self.size - len(registers))
        given.clear()
        for stage in self.stages:
            results = stage.run([registers[i] for i in stage.inputs])
            for i, result in zip(stage.outputs, results, strict=True):
                registers[i] = result
            for i in stage.dead:
                registers[i] = None
        return [None if i is None else registers[i] for i in self.outputs]


def _attribute(module: fx.GraphModule, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _subgraph(
    part: list[fx.Node], levels: dict[fx.Node, int], wanted: set[fx.Node]
) -> tuple[fx.Graph, list[fx.Node], list[fx.Node]]:
    """(graph, what it reads, what it gives) of the nodes of one stage."""
    inside = set(part)
    reads = list(dict.fromkeys(s for n in part for s in n.all_input_nodes if s not in inside))
    writes = [
        n for n in part if n in wanted or any(u not in inside for u in n.users if u in levels)
    ]
    graph = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    for n in reads:
        new[n] = graph.placeholder(n.name)
        new[n].meta = n.meta
    for n in part:
        new[n] = graph.node_copy(n, new.__getitem__)
    graph.output([new[n] for n in writes])
    return graph, reads, writes


_COPIES = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}


def _in_torch(module: fx.GraphModule, graph: fx.Graph) -> Call:
    """A stage of PyTorch's, whose views copy where the strides are not those of the example."""
    for node in graph.nodes:
        if node.op == "call_function":
            node.target = _COPIES.get(node.target, node.target)
    run = fx.GraphModule(module, graph)
    return lambda given: run(*given)
