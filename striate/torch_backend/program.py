"""A part of an FX graph as one plan per size of its symbolic inputs.

A call makes views of the tensors' memory, runs the plan, and makes tensors on the memory of its
results; nothing is copied but what a plan does not make anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from striate.ir.graph import Node, Value, parameter
from striate.ir.types import TensorType
from striate.ops.movement import transpose
from striate.runtime.plan import Plan, plan_of
from striate.torch_backend.tensors import (
    DTYPES,
    inverse,
    memory_order,
    restrided,
    tensor_of,
    value_of,
)
from striate.torch_backend.translate import hint, translate_all

MAX_SIZES = 64  # plans that a program keeps for different sizes


@dataclass(frozen=True)
class _Base:
    """A tensor that a plan makes.

    Attributes:
        axes: the permutation of the plan's output that PyTorch sees; None for the identity.
        strides: that PyTorch expects, if they are not dense.
    """

    axes: tuple[int, ...] | None
    strides: tuple[int, ...] | None


@dataclass(frozen=True)
class _Result:
    """How an output comes about: a number, or views of a tensor.

    Attributes:
        number: a Python number, or None.
        made, given: the index of a `_Base`, or that of an argument; -1 for no tensor.
        views: operators of PyTorch with their other arguments, so that outputs share memory as
            they do eagerly.
    """

    number: Any = None
    made: int = -1
    given: int = -1
    views: tuple[tuple[Any, tuple[Any, ...], dict[str, Any]], ...] = ()


@dataclass(frozen=True)
class _Sized:
    """The plan for one set of sizes; `sources` are indices of arguments, or known values."""

    plan: Plan | None
    sources: list[int | Value]
    state: list[int]
    bases: list[_Base]
    results: list[_Result]


class Program:
    """A callable on the values of a graph's placeholders, given as a list, which it empties.

    Args:
        graph: of operators that all have rules.
        frozen: the numbers of the placeholders whose values never change.
    """

    def __init__(self, graph: fx.Graph, frozen: Sequence[int] = ()) -> None:
        nodes = list(graph.nodes)
        self.inputs = [n for n in nodes if n.op == "placeholder"]
        self.body = [n for n in nodes if n.op == "call_function"]
        self.outputs: Sequence[Any] = nodes[-1].args[0]
        self.frozen = set(frozen)
        self._is_tensor = [isinstance(n.meta["val"], torch.Tensor) for n in self.inputs]
        self._orders = [_order(n.meta["val"]) for n in self.inputs]
        self._sizes = [
            i for i, n in enumerate(self.inputs) if not self._is_tensor[i] or _varies(n.meta["val"])
        ]
        self._chains = _chains(self.outputs)
        self._sized: dict[Any, _Sized] = {}
        self._kept: dict[int, Value] = {}

    def __call__(self, given: list[Any]) -> list[Any]:
        """The outputs: tensors, numbers and None."""
        key = tuple(
            given[i].shape if isinstance(given[i], torch.Tensor) else given[i] for i in self._sizes
        )
        done = self._sized.get(key)
        if done is None:
            if len(self._sized) >= MAX_SIZES:
                self._sized.pop(next(iter(self._sized)))
            done = self._sized[key] = self._build(given)
        values = [self._value(s, given) if isinstance(s, int) else s for s in done.sources]
        kept = [given[r.given] if r.given >= 0 else None for r in done.results]
        given.clear()
        tensors: list[torch.Tensor] = []
        if done.plan is not None:
            made = done.plan(values, done.state)
            for v, new, base in zip(made, done.plan.fresh, done.bases, strict=True):
                tensors.append(_tensor(v if new else np.array(v, order="C"), base))
        return [_output(r, x, tensors) for r, x in zip(done.results, kept, strict=True)]

    def _value(self, i: int, given: list[Any]) -> Value:
        if i not in self.frozen:
            value = value_of(given[i])
            order = self._orders[i]
            return value if order is None else value.transpose(order)
        if i not in self._kept:
            order = self._orders[i]
            value = value_of(given[i])
            self._kept[i] = value if order is None else value.transpose(order)
        return self._kept[i]

    def _build(self, given: list[Any]) -> _Sized:
        """The plan for the sizes of these arguments."""
        values: dict[fx.Node, Any] = {}
        leaves: dict[Node, int] = {}
        for i, (node, x) in enumerate(zip(self.inputs, given, strict=True)):
            if not self._is_tensor[i]:
                values[node] = x
                continue
            order = self._orders[i]
            shape = x.shape if order is None else [x.shape[a] for a in order]
            leaf = parameter(TensorType(tuple(shape), DTYPES[x.dtype]))
            leaves[leaf] = i
            values[node] = leaf if order is None else transpose(leaf, inverse(order))
        translate_all(self.body, values)
        number = {n: i for i, n in enumerate(self.inputs)}
        results: list[_Result] = []
        made: dict[fx.Node, int] = {}
        for y, (base, views) in zip(self.outputs, self._chains, strict=True):
            if not isinstance(base, fx.Node) or not isinstance(values[base], Node):
                results.append(_Result(values[base] if isinstance(base, fx.Node) else y))
                continue
            steps = tuple(_step(v, values) for v in views)
            if base in number:
                results.append(_Result(given=number[base], views=steps))
            else:
                results.append(_Result(made=made.setdefault(base, len(made)), views=steps))
        if not made:
            return _Sized(None, [], [], [], results)
        bases, nodes = [], []
        for base in made:
            order = _order(base.meta["val"])
            bases.append(_base(base.meta["val"], order))
            nodes.append(values[base] if order is None else transpose(values[base], order))
        plan, inputs = plan_of(nodes)
        sources = [leaves.get(n, n.data) for n in inputs]
        state = [i for i, s in enumerate(sources) if not isinstance(s, int) or s in self.frozen]
        return _Sized(plan, sources, state, bases, results)  # type: ignore[arg-type]


_VIEWS = {
    getattr(getattr(torch.ops.aten, name), overload)
    for name, overload in [
        ("view", "default"), ("permute", "default"), ("transpose", "int"), ("t", "default"),
        ("unsqueeze", "default"), ("squeeze", "dims"), ("squeeze", "dim"), ("expand", "default"),
        ("slice", "Tensor"), ("select", "int"), ("alias", "default"), ("detach", "default"),
        ("as_strided", "default"),
    ]
}  # fmt: skip


def _chain(y: Any) -> tuple[Any, list[fx.Node]]:
    """(base, views): the value that an output sees, and the operators by which, first to last."""
    views: list[fx.Node] = []
    while isinstance(y, fx.Node) and y.target in _VIEWS:
        views.insert(0, y)
        y = y.args[0]
    return y, views


def _chains(outputs: Sequence[Any]) -> list[tuple[Any, list[fx.Node]]]:
    """The chain of each output; none where the base is needed for nothing else and is larger."""
    chains = [_chain(y) for y in outputs]
    seen = [base for base, _ in chains]

    def size(y: fx.Node) -> int:
        return prod(hint(n) for n in y.meta["val"].shape)

    return [
        (y, [])
        if views and base.op != "placeholder" and seen.count(base) == 1 and size(base) > size(y)
        else (base, views)
        for y, (base, views) in zip(outputs, chains, strict=True)
    ]


def _step(view: fx.Node, values: dict[fx.Node, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A view as (operator, arguments after the first, named ones), with the numbers of now."""
    args, kwargs = fx.node.map_arg((view.args[1:], view.kwargs), values.__getitem__)
    return view.target, args, kwargs


def _varies(t: torch.Tensor) -> bool:
    return any(isinstance(n, torch.SymInt) for n in t.shape)


def _example(t: torch.Tensor) -> tuple[list[int], list[int]]:
    return [hint(n) for n in t.shape], [hint(s) for s in t.stride()]


def _order(t: Any) -> tuple[int, ...] | None:
    """The order of axes in which a tensor is dense; None where that is the given one, or there is
    none.
    """
    if not isinstance(t, torch.Tensor):
        return None
    order = memory_order(*_example(t))
    return None if order is None or order == tuple(range(len(order))) else order


def _base(t: torch.Tensor, order: tuple[int, ...] | None) -> _Base:
    shape, strides = _example(t)
    dense = memory_order(shape, strides) is not None
    return _Base(None if order is None else inverse(order), None if dense else tuple(strides))


def _tensor(v: Value, base: _Base) -> torch.Tensor:
    t = tensor_of(v)
    if base.axes is not None:
        t = t.permute(base.axes)
    return t if base.strides is None else restrided(t, base.strides)


def _output(r: _Result, given: Any, tensors: list[torch.Tensor]) -> Any:
    if r.made < 0 and r.given < 0:
        return r.number
    t = given if r.made < 0 else tensors[r.made]
    for view, args, kwargs in r.views:
        t = view(t, *args, **kwargs)
    return t
