"""safetensors: 8 bytes of length, a JSON header, and the bytes of all arrays behind each other.

Own reader and writer: the format is a page long, and so is the whole of its validation. Invariant
of a valid file: the arrays cover the bytes behind the header without a hole and without overlap,
so memory is bounded by the file's size.
"""

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from striate.data.files import Array, FormatError, PathLike

_MAX_HEADER = 100_000_000
_ALIGNMENT = 8
_MAX_EXTENT = 2**63 - 1

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def looks_like_safetensors(head: bytes) -> bool:
    """Whether a file that begins with these 9 bytes or more is meant to be one."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 48


def parse_safetensors(
    where: str, path: PathLike, data: bytes
) -> tuple[dict[str, Array], dict[str, str]]:
    """(arrays, metadata) of the bytes of a file; the arrays are read-only views of `data`.

    Raises:
        FormatError: any rule of the format is broken.
    """

    def fail(rule: str, found: str, hint: str = "") -> FormatError:
        return FormatError(where, path, rule, found, hint)

    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(_MAX_HEADER, len(data) - 8):
        raise fail(
            f"the header has at most {min(_MAX_HEADER, max(0, len(data) - 8))} bytes",
            f"{size} are announced",
            "the file is truncated, or no safetensors file",
        )
    try:
        header = json.loads(data[8 : 8 + size].decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise fail("the header is JSON", f"found {type(error).__name__}: {error}"[:200]) from None
    if type(header) is not dict:
        raise fail("the header is an object", f"found {type(header).__name__}")
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or any(type(v) is not str for v in metadata.values()):
        raise fail("__metadata__ holds text only", f"found {type(metadata).__name__}")

    body = len(data) - 8 - size
    spans: list[tuple[int, int, str]] = []
    arrays: dict[str, Array] = {}
    for name, entry in header.items():
        if type(entry) is not dict or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise fail(f"{name[:80]!r} has dtype, shape and data_offsets", f"found {_tell(entry)}")
        dtype = DTYPES.get(entry["dtype"]) if type(entry["dtype"]) is str else None
        if dtype is None:
            raise fail(
                f"the dtype of {name[:80]!r} is one of {', '.join(DTYPES)}",
                f"found {_tell(entry['dtype'])}",
            )
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not _are_sizes(shape) or len(shape) > 32:
            raise fail(f"the shape of {name[:80]!r} is up to 32 sizes", f"found {_tell(shape)}")
        if not _are_sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= body:
            raise fail(
                f"the offsets of {name[:80]!r} are begin <= end <= {body}",
                f"found {_tell(offsets)}",
                "the file is truncated, or its header broken",
            )
        if 0 in shape and prod(max(n, 1) for n in shape) * dtype.itemsize > _MAX_EXTENT:
            raise fail(f"the sizes of {name[:80]!r} fit in 63 bits", f"found {_tell(shape)}")
        begin, end = offsets
        need = dtype.itemsize * prod(shape)
        if need != end - begin:
            raise fail(
                f"{name[:80]!r}, {entry['dtype']} {_tell(shape)}, has {need} bytes",
                f"its offsets hold {end - begin}",
            )
        spans.append((begin, end, name))
        array: Array = np.ndarray(tuple(shape), dtype, data, 8 + size + begin)
        arrays[name] = array.view(np.uint8) != 0 if dtype == np.bool_ else array
    free = 0
    for begin, end, name in sorted(spans):
        if begin != free:
            raise fail(
                f"{name[:80]!r} begins where the array before it ends, at {free}",
                f"found {begin}",
                "arrays may not overlap or leave holes",
            )
        free = end
    if free != body:
        raise fail(f"the arrays fill the {body} bytes behind the header", f"they have {free}")
    return arrays, metadata


def safetensors_bytes(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """The file that holds these arrays; the same bytes for the same content.

    Raises:
        ValueError: the format has no such dtype.
    """
    names = sorted(arrays, key=lambda k: (-arrays[k].dtype.itemsize, k))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    parts: list[bytes] = []
    at = 0
    for name in names:
        array = arrays[name]
        little = array.dtype.newbyteorder("<")
        if little not in _NAMES:
            raise ValueError(f"safetensors has no dtype {array.dtype}, that of {name!r}")
        parts.append(array.astype(little, copy=False).tobytes())
        header[name] = {
            "dtype": _NAMES[little],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name occurs twice")
    return out


def _are_sizes(value: Any) -> bool:
    return type(value) is list and all(type(n) is int and n >= 0 for n in value)


def _tell(value: Any) -> str:
    """A piece of hostile JSON, shortly: nothing nested is printed."""
    if type(value) is list and all(type(n) is int for n in value[:33]):
        return str(value[:33])[:200]
    return repr(value)[:80] if type(value) in (str, int) else type(value).__name__
