"""ONNX's numbers for element types. What is float16 in ONNX is float32 here."""

from __future__ import annotations

from striate import dtype as dt
from striate.dtype import DType
from striate.errors import DTypeError

_BY_NUMBER: dict[int, DType] = {
    1: dt.float32, 2: dt.uint8, 3: dt.int8, 5: dt.int16, 6: dt.int32, 7: dt.int64,
    9: dt.bool_, 10: dt.float32, 11: dt.float64, 16: dt.bfloat16,
}  # fmt: skip


def dtype_of(number: int) -> DType:
    """The dtype with ONNX's number.

    Raises:
        DTypeError: striate has no such dtype.
    """
    if number not in _BY_NUMBER:
        raise DTypeError(
            f"striate has no dtype for ONNX's element type {number}; it has "
            f"{', '.join(f'{d.name} ({n})' for n, d in _BY_NUMBER.items())}"
        )
    return _BY_NUMBER[number]
