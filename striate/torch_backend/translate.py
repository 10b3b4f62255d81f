"""From nodes of an FX graph to nodes of ours."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import torch
from torch import fx

import striate.torch_backend.aten_elementwise
import striate.torch_backend.aten_network
import striate.torch_backend.aten_reduce
import striate.torch_backend.aten_resize
import striate.torch_backend.aten_shape  # noqa: F401  these fill the table
from striate.errors import ShapeError
from striate.ir.graph import Node, parameter
from striate.ir.types import TensorType
from striate.ops.elementwise import cast
from striate.torch_backend.rules import RULES, Unsupported
from striate.torch_backend.strided import as_strided
from striate.torch_backend.tensors import DTYPES

aten = torch.ops.aten
_PYTHON = {"_operator", "math", "builtins", "torch", "torch.fx.experimental.sym_node"}
_STRIDED = {aten.as_strided.default, aten.as_strided_scatter.default}
SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
NUMBER = (int, float, bool, *SYMBOLIC)


def hint(n: Any) -> Any:
    """The number that a symbolic number has in the example.

    Raises:
        Unsupported: it depends on data.
    """
    if not isinstance(n, SYMBOLIC):
        return n
    found = n.node.hint
    if found is None:
        raise Unsupported(f"the number {n}, which depends on data")
    return found


def type_of(t: torch.Tensor) -> TensorType:
    """Our type of a (fake) tensor; symbolic sizes are those of the example.

    Raises:
        Unsupported: another device, layout or dtype.
    """
    if t.dtype not in DTYPES or t.layout is not torch.strided or t.device.type != "cpu":
        raise Unsupported(f"a tensor of {t.dtype} on {t.device}")
    return TensorType(tuple(hint(n) for n in t.shape), DTYPES[t.dtype])


def stand_in(value: Any) -> Any:
    """What stands for a value that is not ours: parameters, numbers of the example, or None where
    striate has no such type.
    """
    if isinstance(value, list | tuple):
        return tuple(stand_in(v) for v in value)
    try:
        if isinstance(value, torch.Tensor):
            return parameter(type_of(value))
        return hint(value) if isinstance(value, NUMBER) else None
    except Unsupported:
        return None


def name_of(node: fx.Node) -> str:
    """The operator, as the rules call it."""
    return str(node.target).removeprefix("aten.")


def is_number(node: fx.Node) -> bool:
    """Is it arithmetic on sizes?"""
    return isinstance(node.meta.get("val"), NUMBER)


def translate(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """What an FX node computes, of the values of its arguments.

    Raises:
        Unsupported, or another of our errors: there is no rule, or it does not take the arguments.
    """

    def value(a: Any) -> Any:
        if isinstance(a, fx.Node):
            found = values[a]
            if found is None:
                raise Unsupported(f"{name_of(node)} of a value that striate has no type for")
            return found
        return DTYPES.get(a, a) if isinstance(a, torch.dtype) else a

    args = fx.node.map_aggregate(node.args, value)
    kwargs = fx.node.map_aggregate(node.kwargs, value)
    if node.target is operator.getitem:
        return args[0][args[1]]
    if is_number(node):
        return _number(node, args)
    if node.target in _STRIDED:
        return _checked(node, as_strided(node, args), node.meta["val"])
    rule = RULES.get(name_of(node))
    if rule is None:
        raise Unsupported(name_of(node))
    expected = node.meta["val"]
    single = isinstance(expected, torch.Tensor)
    wanted = (expected,) if single else expected
    dtype = next(DTYPES.get(e.dtype) for e in wanted if e is not None)
    result = rule(dtype, *args, **kwargs)
    parts = result if isinstance(result, tuple) else (result,)
    checked = tuple(
        None if r is None or e is None else _checked(node, r, e)
        for r, e in zip(parts, wanted, strict=True)
    )
    return checked[0] if single else checked


def _checked(node: fx.Node, result: Any, expected: torch.Tensor) -> Node:
    """A result, in the dtype that PyTorch gives it.

    Raises:
        ShapeError: its shape is not PyTorch's.
        Unsupported: striate has not its dtype.
    """
    if expected.dtype not in DTYPES:
        raise Unsupported(f"{name_of(node)} to {expected.dtype}")
    fits = result.ndim == expected.ndim and all(
        isinstance(n, torch.SymInt) or n == m
        for n, m in zip(expected.shape, result.shape, strict=True)
    )
    if not fits:
        raise ShapeError(f"{name_of(node)}: {result.type}, PyTorch has {tuple(expected.shape)}")
    return cast(result, DTYPES[expected.dtype])


def _number(node: fx.Node, args: tuple[Any, ...]) -> Any:
    if node.target is aten.sym_size.int:
        return args[0].shape[args[1]]
    if node.target is aten.sym_numel.default:
        return prod(args[0].shape)
    if getattr(node.target, "__module__", None) in _PYTHON and not any(
        isinstance(a, Node) for a in args
    ):
        return node.target(*args)
    raise Unsupported(name_of(node))


def translate_all(nodes: Iterable[fx.Node], values: dict[fx.Node, Any]) -> None:
    """Add the values of all these nodes, which are in topological order."""
    for node in nodes:
        values[node] = translate(node, values)
