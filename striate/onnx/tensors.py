"""Tensors of a model file as NumPy arrays, wherever their bytes stand.

Files are not trusted: a tensor's shape is compared with the bytes that are there before memory is
taken, and bytes outside of the file come from regular files in the model's folder only.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import ml_dtypes
import numpy as np

from striate.ir.graph import Value
from striate.onnx.model import ModelError

# Per data type: NumPy's dtype of what is stored, and the field of the proto if not raw bytes.
# Two values of 4 bits share a byte.
_STORED: dict[str, tuple[Any, str]] = {
    "FLOAT": (np.float32, "float_data"),
    "DOUBLE": (np.float64, "double_data"),
    "FLOAT16": (np.float16, "int32_data"),
    "BFLOAT16": (ml_dtypes.bfloat16, "int32_data"),
    "BOOL": (np.bool_, "int32_data"),
    "INT8": (np.int8, "int32_data"),
    "INT16": (np.int16, "int32_data"),
    "INT32": (np.int32, "int32_data"),
    "INT64": (np.int64, "int64_data"),
    "UINT8": (np.uint8, "int32_data"),
    "UINT16": (np.uint16, "int32_data"),
    "UINT32": (np.uint32, "uint64_data"),
    "UINT64": (np.uint64, "uint64_data"),
}


def read_tensor(proto: Any, type_name: str, folder: Path | None) -> Value:
    """The value of a TensorProto, in the dtype of the file.

    Args:
        proto: the TensorProto.
        type_name: the name of its data type.
        folder: where external data may lie; None if there is no such place.

    Raises:
        ModelError: sizes do not fit the bytes, the data type has no place in striate, or external
            data are elsewhere.
    """
    where = f"onnx: tensor {proto.name!r}"
    if type_name not in _STORED:
        raise ModelError(
            f"{where}: elements of type {type_name} are not read; striate reads "
            f"{', '.join(t.lower() for t in _STORED)}"
        )
    stored, field = _STORED[type_name]
    dtype = np.dtype(stored)
    shape = tuple(proto.dims)
    if any(n < 0 for n in shape):
        raise ModelError(f"{where}: sizes must be >= 0, got {list(shape)}")
    count = math.prod(shape)
    nbytes = count * dtype.itemsize
    if proto.data_location == 1:
        raw = _external(proto, where, nbytes, folder)
    elif proto.HasField("raw_data"):
        raw = proto.raw_data
    else:
        return _typed(getattr(proto, field), where, count, dtype).reshape(shape)
    if len(raw) != nbytes:
        raise ModelError(
            f"{where}: {type_name.lower()}{list(shape)} needs {nbytes} bytes, the file has "
            f"{len(raw)}"
        )
    value = np.frombuffer(raw, dtype.newbyteorder("<") if dtype.kind in "iuf" else dtype)
    if dtype == np.bool_:
        value = value.view(np.uint8) != 0
    return np.asarray(value.reshape(shape), dtype, order="C")


def widened(value: Value) -> Value:
    """float16, which striate has no dtype for, as float32."""
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _typed(numbers: Any, where: str, count: int, dtype: np.dtype[Any]) -> Value:
    """From a field of numbers; floats of 16 bits stand there as their bits."""
    if len(numbers) != count:
        raise ModelError(f"{where}: the shape has {count} elements, the file has {len(numbers)}")
    wide = np.array(numbers, np.int64 if dtype.itemsize == 2 else dtype)
    if dtype.itemsize == 2 and dtype.kind not in "iu":
        return wide.astype(np.uint16).view(dtype)
    return wide.astype(dtype)


def _external(proto: Any, where: str, nbytes: int, folder: Path | None) -> bytes:
    """The bytes of a tensor that stand in another file."""
    entries = {str(entry.key): str(entry.value) for entry in proto.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError(f"{where}: its data are in the file {location!r}; load the model by path")
    path = _inside(folder, location, where)
    offset = _natural(entries, "offset", 0, where)
    length = _natural(entries, "length", nbytes, where)
    size = path.stat().st_size
    if length != nbytes or offset + length > size:
        raise ModelError(
            f"{where}: needs {nbytes} bytes, and the model says {length} at {offset} of "
            f"{location!r}, which has {size}"
        )
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _inside(folder: Path, location: str, where: str) -> Path:
    """The regular file of that name below `folder`.

    Raises:
        ModelError: the name is absolute or leads out of the folder, or there is no such file.
    """
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    parts = {*posix.parts, *windows.parts}
    rooted = posix.is_absolute() or windows.anchor
    if not location or "\0" in location or rooted or ".." in parts:
        raise ModelError(f"{where}: external data must be in the model's folder, got {location!r}")
    root = folder.resolve()
    path = (root / posix).resolve()
    if not path.is_relative_to(root):
        raise ModelError(f"{where}: {location!r} is a link that leads out of the model's folder")
    if not path.is_file():
        raise ModelError(f"{where}: there is no file {location!r} beside the model")
    return path


def _natural(entries: dict[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ModelError(f"{where}: the {key} of external data must be >= 0, got {text!r:.40}")
    return int(text)
