"""Checkpoints: one safetensors file with all arrays, and the rest as JSON in its metadata.

One file, written aside and renamed, so that a kill at any moment leaves the old or the new state,
whole. A SHA-256 over arrays and JSON is stored before the JSON and checked. No pickle. The bytes
are a function of the content: one key of metadata, because safetensors keeps no order of keys.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.dtype import as_dtype
from striate.errors import StriateError

Arrays = dict[str, NDArray[Any]]


class CheckpointError(StriateError, ValueError):
    """A checkpoint is damaged, or is none."""


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise StriateError("checkpoint: needs safetensors: pip install 'striate[train]'") from error
    return safetensors


def _digest(arrays: Mapping[str, NDArray[Any]], text: str) -> str:
    h = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        h.update(f"{name} {a.dtype.name} {a.shape}\n".encode())
        h.update(a.reshape(-1).view(np.uint8).data)
    return h.hexdigest()


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file as a whole: after a crash it is the old one or the new one.

    Raises:
        OSError: the disk is full or not writable; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
    ) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            os.unlink(file.name)
            raise
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    os.chmod(file.name, mode)
    os.replace(file.name, path)
    with suppress(OSError):  # a folder cannot be opened on Windows
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_stale(path: Path) -> None:
    """Remove what writers of this file that were killed have left aside."""
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save(path: str | Path, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> Path:
    """Write arrays and JSON-like `meta` as one safetensors file, atomically.

    Raises:
        StriateError: safetensors is not installed.
        OSError: the file cannot be written.
    """
    path = Path(path)
    st_ = _safetensors()
    values: Arrays = {k: np.array(np.asarray(v), order="C") for k, v in arrays.items()}
    text = json.dumps(meta, sort_keys=True)
    header = {"striate": f"{_digest(values, text)} {text}"}
    write_atomic(path, st_.numpy.save(values, metadata=header))
    return path


def load(path: str | Path) -> tuple[Arrays, dict[str, Any]]:
    """(arrays, meta) of a file that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, changed or not a checkpoint.
        StriateError: safetensors is not installed.
    """
    path = Path(path)
    content = path.read_bytes()
    st_ = _safetensors()
    try:
        size = int.from_bytes(content[:8], "little")
        arrays = st_.numpy.load(content)
        header = json.loads(content[8 : 8 + size]).get("__metadata__", {})
        digest, _, text = header["striate"].partition(" ")
        meta = json.loads(text)
    except KeyError:
        raise CheckpointError(f"checkpoint: {path} was not written by striate") from None
    except (ValueError, MemoryError, st_.SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint: {path} is not a whole safetensors file: {error}"
        ) from None
    for a in arrays.values():
        as_dtype(a.dtype)
    if digest != _digest(arrays, text):
        raise CheckpointError(f"checkpoint: {path} has been changed: its SHA-256 does not fit")
    return dict(arrays), dict(meta)
