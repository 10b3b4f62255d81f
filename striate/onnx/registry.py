"""The operators of ONNX that striate runs: one table, filled by the files of `operators/`.

To add an operator, write a function in the file of its topic (or a new file, which
`operators/__init__.py` imports):

    @operator("Flatten")
    def flatten(node: Call, x: Array) -> Array:
        axis = node.int("axis", 1)
        ...

It gets the call and one `Array` per input (None for one that is left out: `x: Array | None` says
that it may be, with a default also at the end; `*xs` takes any number), and returns an `Array`, or
a tuple of them for the outputs in order. Versions are handled inside, by `node.opset`. Attributes
are read with `node.int`, `floats`, `string`, ... which check them. Broken rules raise striate's
errors; the node's name is added by the caller.

An input that must be known when the graph is built, such as a shape, is declared by its position,
`@operator("Reshape", known=(1,))`, and read by `node.known(x, "shape")`: then whatever it is
computed from is kept known too (constants, shapes, and small inputs of the graph, for each value of
which there is a trace of its own). Arithmetic on known values needs nothing: it is done at once.
An operator whose result depends only on the shape of its input says `shape_only=True`, one that
draws random numbers `random=True`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, Protocol, TypeVar

import numpy as np

from striate.core.array import Array
from striate.errors import DTypeError, RangeError, StriateError, TraceError
from striate.ir.graph import Value
from striate.onnx.model import Graph, ModelError, Node
from striate.onnx.tensors import widened

F = TypeVar("F", bound=Callable[..., Any])
_REQUIRED: Any = object()
MOST_INTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Operator:
    """How one operator is run, and what it asks of its inputs.

    Attributes:
        run: (call, *operands) -> an array, or a tuple of arrays.
        known: positions of the inputs whose values it reads when the graph is built.
        known_results: positions of the results of its inner graphs whose values it reads then.
        shape_only: whether the result depends on the shapes of its inputs only.
        random: whether the result is another one at each call.
        least, most: how many inputs it takes.
        required: positions of the inputs that may not be left out.
    """

    run: Callable[..., Any]
    known: tuple[int, ...]
    known_results: tuple[int, ...]
    shape_only: bool
    random: bool
    least: int
    most: float
    required: tuple[int, ...]


OPERATORS: dict[tuple[str, str], Operator] = {}  # by (domain, name); ONNX's own domain is ""


def operator(
    *names: str,
    known: tuple[int, ...] = (),
    known_results: tuple[int, ...] = (),
    shape_only: bool = False,
    random: bool = False,
    domain: str = "",
) -> Callable[[F], F]:
    """Enter a function into the table, as the operators of these names."""

    def enter(fn: F) -> F:
        operands = list(signature(fn).parameters.values())[1:]
        several = any(p.kind is Parameter.VAR_POSITIONAL for p in operands)
        required = [p for p in operands if p.default is Parameter.empty]
        least = sum(p.kind is not Parameter.VAR_POSITIONAL for p in required)
        most = float("inf") if several else len(operands)
        given = [k for k, p in enumerate(operands[:least]) if "None" not in str(p.annotation)]
        for name in names:
            OPERATORS[domain, name] = Operator(
                fn, known, known_results, shape_only, random, least, most, tuple(given)
            )
        return fn

    return enter


def unary(table: Mapping[str, Callable[[Array], Array]]) -> None:
    """Enter functions of one array, by the names of their operators."""

    def without_call(fn: Callable[[Array], Array]) -> Callable[[Call, Array], Array]:
        return lambda node, x: fn(x)

    for name, fn in table.items():
        operator(name)(without_call(fn))


class Runs(Protocol):
    """What runs a graph inside of a node."""

    def __call__(self, graph: Graph, *inputs: Array | None) -> list[Array]:
        """The outputs of `graph` for these inputs; names from outside are seen in it."""
        ...


class Call:
    """One application of an operator: its attributes, and where it stands.

    Attributes:
        node: the node.
        opset: the version of the operator's domain.
        training: whether the module is in training mode.
        half: whether each input is float16 in the file; here it is float32.
        run: runs a graph that is an attribute, for its inputs.
    """

    def __init__(
        self, node: Node, opset: int, training: bool, half: Sequence[bool], run: Runs
    ) -> None:
        self.node = node
        self.opset = opset
        self.training = training
        self.half = half
        self.run = run

    @property
    def outputs(self) -> int:
        """How many outputs the node names; those left out at the end do not count."""
        return len(self.node.outputs)

    # ---- attributes --------------------------------------------------------------------

    def _read(self, name: str, default: Any, wanted: type | tuple[type, ...], what: str) -> Any:
        if name not in self.node.attributes:
            if default is _REQUIRED:
                raise ModelError(f"the attribute {name!r} is missing")
            return default
        value = self.node.attributes[name]
        if not isinstance(value, wanted):
            raise ModelError(f"the attribute {name!r} must be {what}, got {value!r:.80}")
        return value

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""
        return name in self.node.attributes

    def int(self, name: str, default: Any = _REQUIRED) -> Any:
        """An integer.

        Raises:
            ModelError: the attribute is missing and has no default, or is something else; so do
                all readers of attributes.
        """
        return self._read(name, default, int, "an integer")

    def float(self, name: str, default: Any = _REQUIRED) -> Any:
        """A number."""
        return self._read(name, default, (float, int), "a number")

    def string(self, name: str, default: Any = _REQUIRED) -> Any:
        """A text."""
        return self._read(name, default, str, "a text")

    def tensor(self, name: str, default: Any = _REQUIRED) -> Any:
        """A tensor, as a NumPy array; float16 becomes float32."""
        return widened(self._read(name, default, np.ndarray, "a tensor"))

    def graph(self, name: str, default: Any = _REQUIRED) -> Any:
        """A graph."""
        return self._read(name, default, Graph, "a graph")

    def ints(self, name: str, default: Any = _REQUIRED) -> Any:
        """A list of integers."""
        return self._list(name, default, int, "a list of integers")

    def floats(self, name: str, default: Any = _REQUIRED) -> Any:
        """A list of numbers."""
        return self._list(name, default, (float, int), "a list of numbers")

    def strings(self, name: str, default: Any = _REQUIRED) -> Any:
        """A list of texts."""
        return self._list(name, default, str, "a list of texts")

    def _list(self, name: str, default: Any, item: type | tuple[type, ...], what: str) -> Any:
        values = self._read(name, default, list, what)
        if values is not default and not all(isinstance(v, item) for v in values):
            raise ModelError(f"the attribute {name!r} must be {what}, got {values!r:.80}")
        return values

    # ---- known values ------------------------------------------------------------------

    def known(self, x: Array, name: str) -> Value:
        """The value of an input that must be known now.

        Raises:
            TraceError: it depends on data that are known only when the graph runs.
        """
        try:
            return x.numpy()
        except TraceError:
            raise TraceError(
                f"the input {name!r} must be known when the graph is built, but it depends on the "
                "values of the model's inputs or weights; run the model outside of st.jit and "
                "st.train_step"
            ) from None

    def known_ints(self, x: Array, name: str) -> list[Any]:
        """The integers of an input that must be known now, as a flat list.

        Raises:
            DTypeError: it does not hold integers.
            RangeError: there are more than any shape has, or list of parts.
            TraceError: it depends on data that are known only when the graph runs.
        """
        if not x.dtype.is_integer:
            raise DTypeError(f"the input {name!r} must hold integers, got {x.type}")
        if x.size > MOST_INTS:
            raise RangeError(f"the input {name!r} has at most {MOST_INTS} integers, got {x.type}")
        return [int(v) for v in self.known(x, name).reshape(-1)]


@contextmanager
def named(node: Node) -> Iterator[None]:
    """A block whose errors name the node.

    Raises:
        StriateError: of the class of the error inside; a `ModelError` for those of Python and NumPy
            that wrong attributes lead to.
    """
    try:
        yield
    except StriateError as error:
        if str(error).startswith("onnx: "):
            raise
        raise type(error)(f"onnx: {node.title}: {error}") from error
    except (ValueError, TypeError, IndexError, OverflowError, ArithmeticError) as error:
        raise ModelError(f"onnx: {node.title}: {error}") from error
