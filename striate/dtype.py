"""Element types and their promotion.

`DType` is a value: two dtypes are equal iff they are the same object. Promotion goes by category
(bool < integer < floating), then by width within the category; a Python number is weak and takes
the dtype of the array that it meets (array API standard, "type promotion").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import ml_dtypes
import numpy as np

from striate.errors import DTypeError

Kind = Literal["b", "i", "u", "f"]
_CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2}


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """One element type.

    Attributes:
        name: array-API name, as `float32`.
        short: the name in printed shapes, as `f32`.
        kind: `b` bool, `i` signed, `u` unsigned, `f` floating.
        bits: width in bits.
        numpy: the NumPy dtype that stores it.
        itemsize: bytes per element.
        is_floating: True for bfloat16, float32 and float64.
    """

    name: str
    short: str
    kind: Kind
    bits: int
    numpy: np.dtype[np.generic]
    itemsize: int = field(init=False)
    is_floating: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "itemsize", max(1, self.bits // 8))
        object.__setattr__(self, "is_floating", self.kind == "f")

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, not for bool."""
        return self.kind in "iu"

    def __repr__(self) -> str:
        return f"striate.{self.name}"

    def __reduce__(self) -> str:
        return self.name if self.name != "bool" else "bool_"


bool_ = DType("bool", "bool", "b", 1, np.dtype(np.bool_))
int8 = DType("int8", "i8", "i", 8, np.dtype(np.int8))
int16 = DType("int16", "i16", "i", 16, np.dtype(np.int16))
int32 = DType("int32", "i32", "i", 32, np.dtype(np.int32))
int64 = DType("int64", "i64", "i", 64, np.dtype(np.int64))
uint8 = DType("uint8", "u8", "u", 8, np.dtype(np.uint8))
bfloat16 = DType("bfloat16", "bf16", "f", 16, np.dtype(ml_dtypes.bfloat16))
float32 = DType("float32", "f32", "f", 32, np.dtype(np.float32))
float64 = DType("float64", "f64", "f", 64, np.dtype(np.float64))

ALL: tuple[DType, ...] = (
    bool_, int8, int16, int32, int64, uint8, bfloat16, float32, float64,
)  # fmt: skip
_BY_NAME = {d.name: d for d in ALL} | {d.short: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL}


def as_dtype(spec: object) -> DType:
    """The `DType` named by a `DType`, a NumPy dtype, a Python type or a string.

    Raises:
        DTypeError: striate has no such element type.

    >>> as_dtype("float32"), as_dtype(np.int64), as_dtype(bool)
    (striate.float32, striate.int64, striate.bool)
    """
    if isinstance(spec, DType):
        return spec
    if isinstance(spec, str) and spec in _BY_NAME:
        return _BY_NAME[spec]
    if spec is float:
        return float32
    try:
        found = _BY_NUMPY.get(np.dtype(spec).newbyteorder("="))  # type: ignore[call-overload]
    except TypeError:
        found = None
    if found is None:
        raise DTypeError(
            f"dtype: {spec!r} is not a dtype of striate; it has {', '.join(d.name for d in ALL)}"
        )
    return found


@cache
def promote(a: DType, b: DType) -> DType:
    """The dtype in which values of `a` and `b` meet.

    >>> promote(int32, float32), promote(int8, uint8), promote(bfloat16, float32)
    (striate.float32, striate.int16, striate.float32)
    """
    if a is b:
        return a
    if _CATEGORY[a.kind] != _CATEGORY[b.kind]:
        return a if _CATEGORY[a.kind] > _CATEGORY[b.kind] else b
    if {a.kind, b.kind} == {"i", "u"}:  # uint8 is the only unsigned type: one size up holds both
        signed = a if a.kind == "i" else b
        return int16 if signed.bits == 8 else signed
    return a if a.bits > b.bits else b


def compute_dtype(d: DType) -> DType:
    """The dtype in which arithmetic on values of `d` is done: bfloat16 is storage only."""
    return float32 if d is bfloat16 else d


def weak(value: bool | int | float, other: DType) -> DType:
    """The dtype that a Python number takes beside an array of dtype `other`."""
    if isinstance(value, bool):
        return other
    if isinstance(value, int):
        return int64 if other is bool_ else other
    return other if other.is_floating else float32
