"""ONNX operators as nodes of a graph, and the views between them.

`operator("Conv", [x, w], type, strides=[2, 2])` is a node like any other, so that a program is
turned into ONNX by rewriting its graph. Reshapes and transposes are brought into a normal form on
the way, `reshape(transpose(x))`, in which those that cancel are gone: what our primitives want as
[N, G, C, *I] is [N, C, *I] again where ONNX wants that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from striate.errors import StriateError
from striate.ir.graph import Node, Op, Value, apply
from striate.ir.types import TensorType
from striate.ops import movement
from striate.ops.movement import BROADCAST_TO, RESHAPE, TRANSPOSE

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """An ONNX operator with its attributes.

    Attributes:
        name: of the operator.
        attributes: (name, value), in order.
        type: of this output.
        output: which of its outputs this is.
        absent: positions among its inputs that are left out.
    """

    name: str
    attributes: tuple[tuple[str, Attribute], ...]
    type: TensorType
    output: int = 0
    absent: tuple[int, ...] = ()


def _reference(attrs: Operator, *_: Value) -> Value:
    raise StriateError(f"onnx: {attrs.name} is there to be written, not to be run")


OPERATOR = Op("onnx_operator", lambda attrs, *_: attrs.type, _reference)


def operator(
    name: str,
    inputs: Sequence[Node | None],
    type: TensorType,
    *,
    output: int = 0,
    **attributes: Attribute | list[int] | list[float],
) -> Node:
    """The node of an ONNX operator; an input that is None is left out."""
    frozen = tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in attributes.items()
    )
    absent = tuple(i for i, x in enumerate(inputs) if x is None)
    attrs = Operator(name, frozen, type, output, absent)
    return apply(OPERATOR, tuple(x for x in inputs if x is not None), attrs)


def is_operator(node: Node, *names: str) -> bool:
    """Whether a node is one of these ONNX operators."""
    return node.op is OPERATOR and node.attrs.name in names


# ---- views ---------------------------------------------------------------------------------


def _wide(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes that are not 1."""
    return tuple(n for n in shape if n != 1)


def reshaped(x: Node, shape: Sequence[int]) -> Node:
    """`x` in another shape; of reshapes in a row the last stays."""
    while x.op is RESHAPE:
        x = x.inputs[0]
    if x.op is TRANSPOSE and _wide(x.shape) == _wide(x.inputs[0].shape):
        order = [a for a in x.attrs if x.inputs[0].shape[a] != 1]
        if order == sorted(order):  # only axes of size 1 have moved
            return reshaped(x.inputs[0], shape)
    return movement.reshape(x, shape)


def transposed(x: Node, order: Sequence[int]) -> Node:
    """`x` with its axes in another order; axes of size 1 are left to a reshape."""
    shape = [x.shape[a] for a in order]
    if x.op is not RESHAPE and 1 not in x.shape:
        return movement.transpose(x, order)
    wide = [a for a in range(x.ndim) if x.shape[a] != 1]
    kept = [wide.index(a) for a in order if x.shape[a] != 1]
    return reshaped(movement.transpose(_squeezed(x), kept), shape)


def _squeezed(x: Node) -> Node:
    """`x` without its axes of size 1, below the reshapes that only make or drop such axes."""
    while x.op is RESHAPE and _wide(x.shape) == _wide(x.inputs[0].shape):
        x = x.inputs[0]
    if x.op is TRANSPOSE:
        below = _squeezed(x.inputs[0])
        wide = [a for a in range(x.ndim) if x.inputs[0].shape[a] != 1]
        return movement.transpose(below, [wide.index(a) for a in x.attrs if a in wide])
    return reshaped(x, _wide(x.shape))


def base(x: Node) -> Node:
    """What a reshape reads."""
    while x.op is RESHAPE:
        x = x.inputs[0]
    return x


def number(x: Node) -> float | None:
    """The number that a value is everywhere, if it is known."""
    while x.op in (BROADCAST_TO, RESHAPE) and x.data is None:
        x = x.inputs[0]
    return x.data.item() if x.data is not None and x.data.size == 1 else None
