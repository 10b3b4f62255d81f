"""Modules from PyTorch to striate and weights back: `st.from_torch`, `st.to_torch`.

`torch.export` gives a module's computation as a functional graph of ATen operators, once per mode
(batch normalisation and dropout differ). A `Converted` module applies the same rules to it that the
compiler uses; parameters and buffers stand under PyTorch's names.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as torch_tree

from striate.core.array import Array, asarray
from striate.core.random import uniform
from striate.errors import DTypeError, ShapeError, StriateError
from striate.ir.graph import Node
from striate.nn.module import Module, Parameter
from striate.ops.elementwise import less
from striate.ops.movement import zeros
from striate.torch_backend.decompose import decompositions
from striate.torch_backend.tensors import DTYPES, tensor_of, value_of
from striate.torch_backend.translate import stand_in, translate, type_of

aten = torch.ops.aten


class _Traced:
    """The graph of one mode."""

    def __init__(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch's, of its own classes
            program = torch.export.export(
                module, args, dynamic_shapes=_batches(args), strict=False
            ).run_decompositions(decompositions())
        signature = program.graph_signature
        nodes = list(program.graph.nodes)
        self.body = [n for n in nodes if n.op == "call_function"]
        placeholders = [n for n in nodes if n.op == "placeholder"]
        self.state: dict[fx.Node, str] = {}
        self.constants: dict[fx.Node, Array] = {}
        self.inputs: list[fx.Node] = []
        for node, spec in zip(placeholders, signature.input_specs, strict=True):
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                assert spec.target is not None
                self.state[node] = spec.target
            elif spec.kind is InputKind.CONSTANT_TENSOR:
                constant = program.constants[spec.target]
                self.constants[node] = asarray(value_of(constant))
            elif spec.kind is InputKind.USER_INPUT:
                self.inputs.append(node)
            else:
                raise StriateError(f"from_torch: an input of kind {spec.kind.name}")
        results = nodes[-1].args[0]
        self.written: dict[str, fx.Node] = {}
        self.outputs: list[Any] = []
        for value, spec in zip(results, signature.output_specs, strict=True):
            if spec.kind is OutputKind.BUFFER_MUTATION:
                self.written[spec.target] = value
            elif spec.kind is OutputKind.USER_OUTPUT:
                self.outputs.append(value)
            else:
                raise StriateError(f"from_torch: an output of kind {spec.kind.name}")
        self.structure = program.call_spec.out_spec
        self._check(placeholders)

    def _check(self, placeholders: list[fx.Node]) -> None:
        """Try every operator on the example's types.

        Raises:
            StriateError: there is no rule for one; the message has all of them.
        """
        values = {n: stand_in(n.meta.get("val")) for n in placeholders}
        missing: dict[str, None] = {}
        for node in self.body:
            try:
                values[node] = _apply(node, values, draw=False)
            except (StriateError, TypeError) as error:
                values[node] = stand_in(node.meta.get("val"))
                missing[str(error).partition("\n")[0]] = None
        if missing:
            raise StriateError(
                f"from_torch: striate has no rule for: {'; '.join(missing)}. "
                'torch.compile(module, backend="striate") runs these in PyTorch'
            )


def _batches(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first axis of every tensor may have any size."""
    return tuple(
        {0: torch.export.Dim.AUTO} if isinstance(a, torch.Tensor) and a.ndim else None for a in args
    )


def _apply(node: fx.Node, values: Mapping[fx.Node, Any], draw: bool = True) -> Any:
    """What a node computes; random numbers come from striate's generator."""
    if node.target in (aten.empty.memory_format, aten.empty_permuted.default):
        size = fx.node.map_arg(node.args[0], values.__getitem__)
        return zeros(type_of(node.meta["val"]).with_shape(tuple(size)))  # what follows fills it
    if node.target is aten.bernoulli.p:
        source, p = fx.node.map_arg(node.args, values.__getitem__)
        drawn = uniform(source.shape).node if draw else zeros(stand_in(node.meta["val"]).type)
        return less(drawn, p) if draw else drawn
    return translate(node, values)


class Converted(Module):
    """A module of PyTorch as one of striate; see `st.from_torch`."""

    def __init__(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        super().__init__()
        self.training = module.training
        before = {m: m.training for m in module.modules()}
        try:
            self.graphs = {mode: _Traced(module.train(mode), args) for mode in (False, True)}
        finally:
            for m, mode in before.items():
                m.training = mode
        persistent = set(module.state_dict())
        for name, p in module.named_parameters(remove_duplicate=False):
            self._place(name, Parameter(_array(p, name), p.requires_grad), True)
        for name, b in module.named_buffers(remove_duplicate=False):
            self._place(name, _array(b, name), name in persistent)
        self._names = {n: self._find(n) for g in self.graphs.values() for n in g.state.values()}

    def _place(self, name: str, array: Array, persistent: bool) -> None:
        """Make an array the parameter or buffer of a dotted name."""
        module: Module = self
        *path, last = name.split(".")
        for part in path:
            if part not in module._modules:
                module.add_module(part, Module())
            child = module._modules[part]
            assert child is not None
            module = child
        if isinstance(array, Parameter):
            module.register_parameter(last, array)
        else:
            module.register_buffer(last, array, persistent)

    def _find(self, name: str) -> Array:
        path, _, last = name.rpartition(".")
        found: Array = getattr(self.get_submodule(path), last)
        return found

    def forward(self, *args: Any) -> Any:
        """What PyTorch's module computes, of arrays of the example's ranks and dtypes.

        Raises:
            ShapeError: the number of arguments, or the size of an axis other than the batch, is
                not the example's.
            DTypeError: a dtype is not the example's.
        """
        graph = self.graphs[self.training]
        if len(args) != len(graph.inputs):
            raise ShapeError(f"forward: wants {len(graph.inputs)} arguments, got {len(args)}")
        values: dict[fx.Node, Any] = {n: self._names[k].node for n, k in graph.state.items()}
        values |= {n: c.node for n, c in graph.constants.items()}
        for node, x in zip(graph.inputs, args, strict=True):
            values[node] = _argument(node, x)
        for node in graph.body:
            values[node] = _apply(node, values)
        for name, node in graph.written.items():
            self._names[name].assign(values[node])
        results = [values[y] if isinstance(y, fx.Node) else y for y in graph.outputs]
        arrays = [Array(y) if isinstance(y, Node) else y for y in results]
        return torch_tree.tree_unflatten(arrays, graph.structure)


def _argument(node: fx.Node, x: Any) -> Any:
    fake = node.meta["val"]
    if not isinstance(fake, torch.Tensor):
        return x
    given, wanted = asarray(x), type_of(fake)
    if given.dtype is not wanted.dtype:
        raise DTypeError(f"forward: {node.name} must be {wanted.dtype.name}, got {given.type}")
    fixed = [
        isinstance(n, torch.SymInt) or n == m for n, m in zip(fake.shape, given.shape, strict=False)
    ]
    if given.ndim != wanted.ndim or not all(fixed):
        raise ShapeError(f"forward: {node.name} was {wanted} in the example, got {given.type}")
    return given.node


def _array(t: torch.Tensor, name: str) -> Array:
    if t.dtype not in DTYPES or t.device.type != "cpu":
        raise DTypeError(f"from_torch: {name} is {t.dtype} on {t.device}, which striate has not")
    return asarray(value_of(t))


def from_torch(module: torch.nn.Module, example: Any) -> Converted:
    """A module of striate that computes what one of PyTorch does, with the same `state_dict` keys.

    Its weights are copies; it is trained as any other module, in both modes. Dropout draws from
    striate's generator.

    Args:
        module: on the CPU; `torch.export` must be able to trace it.
        example: an argument of its `forward`, or a tuple of them, by which it is traced. The first
            axis of each tensor is the batch, which may have any size later unless the module fixes
            it.

    Raises:
        StriateError: the module has an operator for which there is no rule.
        DTypeError: a parameter has a dtype that striate has not, or is not on the CPU.

    >>> import torch
    >>> net = st.from_torch(torch.nn.Linear(4, 2), torch.ones(3, 4))
    >>> list(net.state_dict()), net(np.ones((5, 4), np.float32)).shape
    (['weight', 'bias'], (5, 2))
    """
    return Converted(module, example if isinstance(example, tuple) else (example,))


def to_torch(net: Module, module: torch.nn.Module) -> torch.nn.Module:
    """Copy the parameters and buffers of a module of striate into one of PyTorch, and return that.

    Raises:
        ShapeError: names or shapes differ; the message has all of them, and nothing has changed.

    >>> import torch
    >>> net, module = st.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    >>> bool((st.to_torch(net, module).weight.detach().numpy() == net.weight.numpy()).all())
    True
    """
    state = {name: a.numpy() for name, a in net.state_dict().items()}
    theirs = module.state_dict()
    problems = [f"missing {n}: {tuple(t.shape)}" for n, t in theirs.items() if n not in state]
    problems += [f"unexpected {n}" for n in state if n not in theirs]
    problems += [
        f"mismatched {n}: {state[n].shape}, the module has {tuple(t.shape)}"
        for n, t in theirs.items()
        if n in state and state[n].shape != tuple(t.shape)
    ]
    if problems:
        raise ShapeError(
            f"to_torch: {len(problems)} entries do not fit; nothing was copied:\n  "
            + "\n  ".join(problems)
        )
    with torch.no_grad():
        for name, t in theirs.items():
            t.copy_(tensor_of(np.array(state[name])))
    return module
