"""Exchange of memory by DLPack, through NumPy; bfloat16, which NumPy does not know, travels as
uint16 whose type code is changed inside the capsule.

Layout of a managed tensor (DLPack 1.0, dlpack.h): the versioned struct has the tensor after
version, context, deleter and flags (32 bytes), the old one at offset 0; in the tensor the dtype
(code: u8, bits: u8, lanes: u16) stands after data, device and ndim (20 bytes).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from striate.dtype import as_dtype, bfloat16
from striate.errors import DTypeError
from striate.ir.graph import Value

_UINT, _BFLOAT = 1, 4
_DTYPE_OFFSET = 20
_TENSOR_OFFSET = {b"dltensor": 0, b"dltensor_versioned": 32}


def _type_code(capsule: Any) -> ctypes.c_uint8:
    """The byte in a capsule that says what kind of number its elements are."""
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name = api.PyCapsule_GetName(capsule)
    address = api.PyCapsule_GetPointer(capsule, name)
    return ctypes.c_uint8.from_address(address + _TENSOR_OFFSET[name] + _DTYPE_OFFSET)


def export(value: Value, **options: Any) -> Any:
    """The capsule of a value, whose memory may be shared by many nodes and must not be written.

    No copy unless asked for. The capsule says that it is read-only if the consumer's `max_version`
    can be told so; one from before DLPack 1.0 gets memory that it could write, or a copy where
    even we could not.
    """
    shared = value.view(np.uint16) if value.dtype == bfloat16.numpy else value.view()
    copy = options.get("copy")
    if not copy and (options.get("max_version") or (0, 0)) >= (1, 0):
        shared.flags.writeable = False
    elif copy is None and not shared.flags.writeable:
        shared = shared.copy()
    capsule = shared.__dlpack__(**options)
    if value.dtype == bfloat16.numpy:
        _type_code(capsule).value = _BFLOAT
    return capsule


class _Patched:
    """A foreign bfloat16 array that says it is uint16."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self.x.__dlpack__(**options)
        code = _type_code(capsule)
        if code.value == _BFLOAT:
            code.value = _UINT
        return capsule


def load(x: Any) -> Value:
    """A NumPy view of a foreign array.

    Raises:
        BufferError: the memory is not one that the CPU can read.
        DTypeError: `x` has no `__dlpack__`, or a dtype that striate does not have.
    """
    if not hasattr(x, "__dlpack__"):
        raise DTypeError(f"from_dlpack: {type(x).__name__} has no __dlpack__; use st.asarray")
    if str(getattr(x, "dtype", "")).endswith("bfloat16"):
        return np.from_dlpack(_Patched(x)).view(bfloat16.numpy)
    try:
        value = np.from_dlpack(x)
    except RuntimeError as error:  # NumPy's, for a type code that it does not know
        dtype = getattr(x, "dtype", "?")
        raise DTypeError(f"from_dlpack: dtype {dtype} is not one of striate's: {error}") from error
    as_dtype(value.dtype)
    return value
