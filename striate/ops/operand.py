"""What an op accepts: a node, anything that holds one (an `Array`), a NumPy array or a number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from striate.dtype import DType, as_dtype, bool_, float32, int64, weak
from striate.errors import DTypeError
from striate.ir.graph import Node, Value, constant
from striate.memory import aligned_copy


class HasNode(Protocol):
    """Anything that stands for a node; `striate.Array` does."""

    @property
    def node(self) -> Node:
        """The node."""
        ...


Operand = Node | HasNode | NDArray[Any] | np.generic | float | int | bool | list[Any]
Number = bool | int | float


def as_number(x: object) -> Number | None:
    """A Python number for a Python or NumPy scalar, else None."""
    if isinstance(x, np.generic):
        x = x.item()
    return x if isinstance(x, bool | int | float) else None


def as_value(data: object, dtype: DType | None = None) -> Value:
    """A private, row-major, aligned copy of `data`; nested lists of floats become float32.

    Raises:
        DTypeError: striate has no such element type.
    """
    if dtype is None and not isinstance(data, np.ndarray | np.generic):
        found = np.asarray(data)
        if found.dtype == np.float64:
            dtype = float32
        data = found
    if dtype is None:
        dtype = as_dtype(np.asarray(data).dtype)
    try:
        return aligned_copy(np.asarray(data, dtype=dtype.numpy))
    except (TypeError, ValueError) as error:
        raise DTypeError(
            f"asarray: cannot make {dtype.name} of {type(data).__name__}: {error}"
        ) from error


def number_dtype(number: Number) -> DType:
    """The dtype of a Python number by itself."""
    return bool_ if isinstance(number, bool) else int64 if isinstance(number, int) else float32


_numbers: ContextVar[dict[tuple[DType, str], Node] | None] = ContextVar(
    "striate_numbers", default=None
)


@contextmanager
def sharing_numbers() -> Iterator[None]:
    """A block in which equal numbers of one dtype are one constant: the graph of a traced function
    is smaller by thousands of nodes. Outside, each is its own, so that the structure of what is
    computed at once does not depend on which numbers happen to be equal.
    """
    token = _numbers.set({})
    try:
        yield
    finally:
        _numbers.reset(token)


def number_node(number: Number, dtype: DType) -> Node:
    """A constant without axes.

    Raises:
        DTypeError: the number does not fit in the dtype.
    """
    shared = _numbers.get()
    key = (dtype, repr(number))  # which tells -0.0 from 0.0
    found = None if shared is None else shared.get(key)
    if found is None:
        try:
            found = constant(np.asarray(number, dtype=dtype.numpy))
        except OverflowError:
            raise DTypeError(
                f"{number} does not fit in {dtype.name}; cast the array first"
            ) from None
        if shared is not None:
            shared[key] = found
    return found


def as_node(x: Operand, like: DType | None = None) -> Node:
    """The node of an operand; a Python number takes the dtype that it has beside `like`."""
    if isinstance(x, Node):
        return x
    number = as_number(x)
    if number is not None:
        return number_node(number, number_dtype(number) if like is None else weak(number, like))
    node = getattr(x, "node", None)
    if isinstance(node, Node):
        return node
    return constant(as_value(x))
