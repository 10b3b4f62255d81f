"""`as_strided`, where it reads the whole memory of a dense tensor once: another way to see it.

The rules see shapes only; these two operators are about strides, which the FX nodes have.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import fx

from striate.ir.graph import Node
from striate.ops.movement import reshape, transpose
from striate.torch_backend.rules import Unsupported
from striate.torch_backend.tensors import inverse, memory_order


def _order(shape: Sequence[int], strides: Sequence[Any]) -> tuple[int, ...]:
    order = memory_order(shape, strides)
    if order is None:
        raise Unsupported("as_strided: memory that is not dense")
    return order


def _seen(x: Node, order: Sequence[int], size: Sequence[int], seen: Sequence[int]) -> Node:
    """x, whose memory has this order of axes, as a tensor of a size with the order `seen`."""
    if prod(x.shape) != prod(size):
        raise Unsupported("as_strided: a part of the memory")
    memory = reshape(transpose(x, order), tuple(size[a] for a in seen))
    return transpose(memory, inverse(seen))


def as_strided(node: fx.Node, args: tuple[Any, ...]) -> Node:
    """The node of `aten.as_strided` and `aten.as_strided_scatter`, of translated arguments.

    Raises:
        Unsupported: it sees a part of the memory, or not densely.
    """
    x, *source, size, strides = args[: 4 if isinstance(args[1], Node) else 3]
    offset = args[4 if source else 3 :]
    if any(offset):
        raise Unsupported("as_strided: an offset")
    given = node.args[0].meta["val"]
    assert isinstance(given, torch.Tensor)
    mine = _order(x.shape, _numbers(given.stride()))
    other = _order(size, strides)
    if source:  # all of x is written
        return _seen(source[0], other, x.shape, mine)
    return _seen(x, mine, size, other)


def _numbers(strides: Sequence[Any]) -> list[int]:
    if any(isinstance(s, torch.SymInt) for s in strides):
        raise Unsupported("as_strided: symbolic strides")
    return list(strides)
