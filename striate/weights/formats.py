"""Names and arrays in files of three formats, told by their first bytes, not by their suffix.

Invariant: reading takes memory of the order of the file's size, whatever the file says, and runs
and writes nothing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from striate.data.files import MAX_BYTES, Array, FormatError, PathLike, read_bytes, regular_size
from striate.data.npz_file import read_npz
from striate.data.zip_file import checked_members, intact_zip, is_plain_name
from striate.errors import StriateError
from striate.weights.atomic import write_atomic
from striate.weights.safetensors_file import (
    looks_like_safetensors,
    parse_safetensors,
    safetensors_bytes,
)
from striate.weights.torch_file import (
    TorchFile,
    parse_torch_legacy,
    parse_torch_zip,
)
from striate.weights.torch_pickle import Tensor
from striate.weights.torch_writer import torch_bytes

_PACKED = 100  # weights do not shrink more than this
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt")
# Under which names training scripts keep the state dict among other things, most specific first.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "network", "net", "module",
    "weights", "params",
)  # fmt: skip


def read(path: PathLike, *, key: str | None = None, max_bytes: int = MAX_BYTES) -> dict[str, Array]:
    """The arrays of a weights file by name.

    safetensors, `.npz`, and what `torch.save` wrote, in PyTorch's zip format and the one before
    it. PyTorch is not needed, and no code of a pickle runs: tensors and plain containers are
    known, anything else is refused. A state dict inside of others (`{"state_dict": ...}`,
    `{"model": ...}`) is found; what is beside it, and what is no tensor in it, is left out.

    Args:
        path: the file.
        key: for PyTorch's files, under which key the state dict is, as `"ema"`, with dots between
            keys of nested ones; by default it is found.
        max_bytes: larger files are refused.

    Returns:
        Read-only arrays of the dtypes in the file.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: it is damaged, has no arrays, or is of another format.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "a.safetensors")
    ...     st.weights.write(path, {"w": np.ones((2, 3), np.float32)})
    ...     st.weights.read(path)["w"].shape
    (2, 3)
    """
    return read_as("weights.read", path, key, max_bytes)


def read_as(
    where: str, path: PathLike, key: str | None = None, max_bytes: int = MAX_BYTES
) -> dict[str, Array]:
    """`read`, with the name of the caller for error messages."""
    size = regular_size(where, path)
    with open(path, "rb") as file:
        head = file.read(16)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        with intact_zip(where, path), zipfile.ZipFile(path) as archive:
            names = [m.filename for m in checked_members(where, path, archive, size)]
        if any(name.endswith("/data.pkl") for name in names):
            data = read_bytes(where, path, max_bytes)
            arrays = _state_dict(parse_torch_zip(where, path, data), key)
        else:
            _refuse_key(where, path, key)
            arrays = read_npz(path, max_bytes=max_bytes, max_ratio=_PACKED)
    elif head[:1] == b"\x80" and not looks_like_safetensors(head):  # a pickle
        data = read_bytes(where, path, max_bytes)
        arrays = _state_dict(parse_torch_legacy(where, path, data), key)
    elif looks_like_safetensors(head):
        _refuse_key(where, path, key)
        arrays, _ = parse_safetensors(where, path, read_bytes(where, path, max_bytes))
    else:
        raise FormatError(
            where,
            path,
            "a safetensors, npz or PyTorch file is expected",
            f"found {head[:8].hex(' ') or 'no bytes'} at its beginning",
            "older PyTorch files are tar archives, which are not read",
        )
    for name in arrays:
        if not is_plain_name(name):
            raise FormatError(
                where, path, "names of arrays are plain", f"found {name[:80]!r}, a path elsewhere"
            )
    return {k: a.astype(a.dtype.newbyteorder("="), copy=False) for k, a in arrays.items()}


def _refuse_key(where: str, path: PathLike, key: str | None) -> None:
    if key is not None:
        raise FormatError(where, path, "key= is for PyTorch's files", f"got {key!r}")


def _state_dict(file: TorchFile, key: str | None) -> dict[str, Array]:
    found: Any = _by_text(file.root)
    if key is not None:
        for part in key.split("."):
            if type(found) is not dict or part not in found:
                raise FormatError(file.where, file.path, f"key={key!r} is there", _tell(found))
            found = _by_text(found[part])
    elif type(found) is dict:
        inner = [found[k] for k in WRAPPERS if _has_tensors(found.get(k))]
        found = _by_text(inner[0]) if inner else found
    if not _has_tensors(found):
        raise FormatError(
            file.where,
            file.path,
            "a dict of tensors by name is expected",
            _tell(found),
            f"it is looked for at the top and under {', '.join(WRAPPERS)}; or pass key=",
        )
    return {
        name: file.array(value) if type(value) is Tensor else value
        for name, value in found.items()
        if type(value) in (Tensor, np.ndarray)
    }


def _by_text(value: Any) -> Any:
    """A dict by its keys of text; Python 2 wrote them as bytes. Anything else as it is."""
    if type(value) is not dict:
        return value
    names = {k: k.decode("utf-8", "replace") if type(k) is bytes else k for k in value}
    return {name: value[k] for k, name in names.items() if type(name) is str}


def _has_tensors(value: Any) -> bool:
    return type(value) is dict and any(type(v) in (Tensor, np.ndarray) for v in value.values())


def _tell(value: Any) -> str:
    if type(value) is dict:
        return f"found a dict with the keys {', '.join(str(k)[:40] for k in list(value)[:8])}"
    return f"found {type(value).__name__}"


def metadata(path: PathLike, *, max_bytes: int = MAX_BYTES) -> dict[str, str]:
    """The text by name that a safetensors file holds beside its arrays.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: it is damaged or no safetensors file.
    """
    where = "weights.metadata"
    return parse_safetensors(where, path, read_bytes(where, path, max_bytes))[1]


def write(
    path: PathLike, arrays: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays by name, in the format of the suffix, replacing the file as a whole.

    `.safetensors`, `.npz`, or `.pth` and `.pt` for `torch.load`. NumPy has no bfloat16: in `.npz`
    such arrays become float32, which is exact, and `load_weights` turns them back.

    Args:
        path: the file.
        arrays: what `np.asarray` takes, by name.
        metadata: text by name, for safetensors only.

    Raises:
        StriateError: the suffix is another, the format cannot hold a dtype, a name is a path, or
            has metadata where the format has none.
        OSError: the file cannot be written.
    """
    path = Path(path)
    values: dict[str, Array] = {}
    for name, value in arrays.items():
        if not is_plain_name(name):
            raise StriateError(f"weights.write: {name!r} is no name, but a path elsewhere")
        values[name] = np.asarray(value)
    if metadata and path.suffix != ".safetensors":
        raise StriateError(f"weights.write: {path.suffix} has no metadata; use .safetensors")
    try:
        match path.suffix:
            case ".safetensors":
                content = safetensors_bytes(values, metadata or {})
            case ".npz":
                content = _npz_bytes(values)
            case ".pth" | ".pt":
                content = torch_bytes(values)
            case other:
                raise StriateError(
                    f"weights.write: the suffix {other!r} is none of {', '.join(SUFFIXES)}"
                )
    except ValueError as error:
        raise StriateError(f"weights.write: {str(path)!r}: {error}") from None
    write_atomic(path, content)


def _npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    out = io.BytesIO()
    plain = {
        k: a.astype(np.float32) if a.dtype == ml_dtypes.bfloat16 else a for k, a in arrays.items()
    }
    for name, array in plain.items():
        if array.dtype.kind not in "biufc":
            raise ValueError(f"npz has no dtype {array.dtype}, that of {name!r}")
    np.savez(out, **plain)  # type: ignore[arg-type]
    return out.getvalue()
