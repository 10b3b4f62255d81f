"""The table of ATen operators that striate computes: name -> a function on nodes.

A rule gets the operator's arguments with tensors as nodes and dtypes as ours, and returns a node,
or a tuple of nodes (None for one that the operator leaves empty). It is a pure function; what it
cannot express raises `Unsupported` (or any error of ours), and the operator runs in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from striate.dtype import DType
from striate.errors import StriateError
from striate.ir.graph import Node
from striate.ops.elementwise import cast

Result = Node | tuple[Node | None, ...]
Rule = TypeVar("Rule", bound=Callable[..., Result])
Plain = TypeVar("Plain", bound=Callable[..., Node])


class Unsupported(StriateError):
    """An operator, or one of its arguments, that striate does not compute."""


# Each gets the dtype that PyTorch gives the (first) result, and then the operator's arguments.
RULES: dict[str, Callable[..., Result]] = {}


def _enter(names: tuple[str, ...], entry: Callable[..., Result]) -> None:
    for name in names:
        assert name not in RULES, name
        RULES[name] = entry


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter a function under these names of operators (without the leading `aten.`)."""

    def register(fn: Rule) -> Rule:
        _enter(names, lambda out, *args, **kwargs: fn(*args, **kwargs))
        return fn

    return register


def typed(*names: str) -> Callable[[Rule], Rule]:
    """Like `rule`, for a function whose first argument is the dtype of the result."""

    def register(fn: Rule) -> Rule:
        _enter(names, fn)
        return fn

    return register


def arithmetic(*names: str) -> Callable[[Plain], Plain]:
    """Like `rule`, for a function that computes in the dtype of its result: tensors are cast first.

    PyTorch chooses that dtype by rules of its own (a tensor without axes counts less than others).
    """

    def register(fn: Plain) -> Plain:
        def entry(out: DType, *args: Any, **kwargs: Any) -> Node:
            given = [cast(a, out) if isinstance(a, Node) else a for a in args]
            return fn(*given, **kwargs)

        _enter(names, entry)
        return fn

    return register
