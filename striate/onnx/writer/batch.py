"""A batch axis of any size, in a file that was traced at two sizes.

The function is traced at two large primes. Where the two models differ they differ in numbers
alone: vectors of sizes, such as the shapes of reshapes. A size that is p in one and q in the other
is the batch; k*p and k*q is k times the batch; anything else depends on the batch in a way that no
file can say. In a reshape one such size is -1; others are computed from the shape of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from striate.dtype import int64
from striate.errors import StriateError
from striate.ir.types import TensorType
from striate.onnx.writer.emit import Item, Parts

PRIMES = (1009, 1013)
Dimension = int | str


@dataclass
class Symbolic:
    """Parts of a model, and the shapes of its values with names in them.

    Attributes:
        parts: of the model.
        shapes: per value; a string is a size that only a run knows.
    """

    parts: Parts
    shapes: dict[str, tuple[Dimension, ...]]


def fixed(parts: Parts) -> Symbolic:
    """A model in which every size is known."""
    types = {**parts.types, **parts.inputs, **parts.outputs}
    return Symbolic(parts, {name: type.shape for name, type in types.items()})


def with_batch(first: Parts, second: Parts, name: str) -> Symbolic:
    """The model of which `first` is that for PRIMES[0] and `second` that for PRIMES[1].

    Raises:
        StriateError: they differ in more than sizes that are multiples of the batch.
    """
    _compare(first, second)
    shapes = {}
    for kind in ("types", "inputs", "outputs"):
        for value, type in getattr(first, kind).items():
            shapes[value] = _dimensions(value, type, getattr(second, kind)[value], name)
    source = next(
        (value, shapes[value].index(name)) for value in first.inputs if name in shapes[value]
    )
    maker = _Sizes(first, source)
    items: list[Item] = []
    for item, other in zip(first.items, second.items, strict=True):
        inputs = []
        for position, (a, b) in enumerate(zip(item.inputs, other.inputs, strict=True)):
            known = first.constants.get(a)
            if known is not None and not _equal(known, second.constants[b]):
                where = f"input {position} of {item.name} ({item.operator})"
                multiples = _multiples(where, known, second.constants[b])
                shape = item.operator == "Reshape" and position == 1
                inputs.append(maker.vector(a, known, multiples, shape))
            else:
                inputs.append(a)
        items += maker.made
        maker.made = []
        items.append(Item(item.name, item.operator, inputs, item.outputs, item.attributes))
    used = {name for item in items for name in item.inputs} | set(first.outputs)
    constants = {k: v for k, v in first.constants.items() if k in used}
    parts = Parts(first.inputs, first.outputs, items, constants, first.types)
    return Symbolic(parts, shapes)


def _refuse(why: str) -> StriateError:
    return StriateError(
        f"onnx: the batch cannot be of any size: {why}; leave out dynamic_batch for a file of one "
        "batch size"
    )


def _compare(first: Parts, second: Parts) -> None:
    if len(first.items) != len(second.items):
        raise _refuse("the function computes something else for another batch size")
    for a, b in zip(first.items, second.items, strict=True):
        if (a.operator, len(a.inputs), a.outputs) != (b.operator, len(b.inputs), b.outputs):
            raise _refuse(f"at {a.name} the function computes something else for another size")
        if a.attributes != b.attributes:
            raise _refuse(f"{a.name} ({a.operator}) has attributes that depend on it")


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def _multiple(where: str, a: int, b: int) -> int:
    """k for a size that is k times the batch, 0 for one that does not depend on it."""
    p, q = PRIMES
    if a == b:
        return 0
    k, rest = divmod(a, p)
    if rest or k * q != b:
        raise _refuse(f"{where} has a size that is {a} for a batch of {p} and {b} for one of {q}")
    return k


def _multiples(where: str, a: np.ndarray, b: np.ndarray) -> list[int]:
    if a.dtype != np.int64 or a.ndim != 1 or a.shape != b.shape:
        raise _refuse(f"{where} is a constant that depends on it")
    return [_multiple(where, int(m), int(n)) for m, n in zip(a, b, strict=True)]


def _dimensions(value: str, a: TensorType, b: TensorType, name: str) -> tuple[Dimension, ...]:
    if a.ndim != b.ndim:
        raise _refuse(f"the value {value} has another number of axes")
    factors = [_multiple(f"the value {value}", m, n) for m, n in zip(a.shape, b.shape, strict=True)]
    return tuple(
        n if k == 0 else name if k == 1 else f"{k}*{name}"
        for n, k in zip(a.shape, factors, strict=True)
    )


class _Sizes:
    """Makes the vectors of sizes that depend on the batch, each once."""

    def __init__(self, parts: Parts, source: tuple[str, int]) -> None:
        self.parts = parts
        self.source = source
        self.made: list[Item] = []
        self.known: dict[object, str] = {}

    def vector(self, name: str, sizes: np.ndarray, multiples: list[int], reshape: bool) -> str:
        """The name of a vector; in a reshape one unknown size is left to the runtime."""
        if reshape and sum(k != 0 for k in multiples) == 1 and 0 not in sizes:
            free = [-1 if k else int(n) for n, k in zip(sizes, multiples, strict=True)]
            return self._once(("free", *free), lambda: self._constant(f"{name}_free", free))
        entries = [
            self._constant_once([int(n)]) if k == 0 else self._batch(k)
            for n, k in zip(sizes, multiples, strict=True)
        ]
        if len(entries) == 1:
            return entries[0]
        key = tuple(entries)
        return self._once(
            key, lambda: self._item(f"{name}_sizes", "Concat", entries, len(entries), axis=0)
        )

    def _once(self, key: object, make: Callable[[], str]) -> str:
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def _constant_once(self, values: list[int]) -> str:
        return self._once(("sizes", *values), lambda: self._constant("size_0", values))

    def _batch(self, k: int) -> str:
        value, axis = self.source
        one = self._once(
            "batch",
            lambda: self._item("batch_size", "Shape", [value], 1, start=axis, end=axis + 1),
        )
        if k == 1:
            return one
        factor = self._constant_once([k])
        return self._once(
            ("times", k), lambda: self._item(f"batch_size_{k}", "Mul", [one, factor], 1)
        )

    def _constant(self, wanted: str, values: list[int]) -> str:
        name = self._unique(wanted)
        self.parts.constants[name] = np.array(values, np.int64)
        return name

    def _item(
        self, wanted: str, operator: str, inputs: list[str], size: int, **attributes: int
    ) -> str:
        name = self._unique(wanted)
        self.made.append(Item(name, operator, inputs, [name], dict(attributes)))
        self.parts.types[name] = TensorType((size,), int64)
        return name

    def _unique(self, wanted: str) -> str:
        taken = {*self.parts.constants, *self.parts.types, *self.parts.inputs, *self.parts.outputs}
        name, i = wanted, 0
        while name in taken:
            i += 1
            name = f"{wanted}_{i}"
        return name
