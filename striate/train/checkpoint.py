"""Checkpoints: one safetensors file with all arrays, and the rest as JSON in its metadata.

One file, written aside and renamed, so that a kill at any moment leaves the old or the new state,
whole. A SHA-256 over arrays and JSON is stored before the JSON and checked. No pickle. The bytes
are a function of the content: one key of metadata, because safetensors keeps no order of keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.dtype import as_dtype
from striate.errors import StriateError
from striate.weights.atomic import write_atomic
from striate.weights.safetensors_file import parse_safetensors, safetensors_bytes

Arrays = dict[str, NDArray[Any]]


class CheckpointError(StriateError, ValueError):
    """A checkpoint is damaged, or is none."""


def _digest(arrays: Mapping[str, NDArray[Any]], text: str) -> str:
    h = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        h.update(f"{name} {a.dtype.name} {a.shape}\n".encode())
        h.update(a.reshape(-1).view(np.uint8).data)
    return h.hexdigest()


def save(path: str | Path, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> Path:
    """Write arrays and JSON-like `meta` as one safetensors file, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    values: Arrays = {k: np.array(np.asarray(v), order="C") for k, v in arrays.items()}
    text = json.dumps(meta, sort_keys=True)
    header = {"striate": f"{_digest(values, text)} {text}"}
    write_atomic(path, safetensors_bytes(values, header))
    return path


def load(path: str | Path) -> tuple[Arrays, dict[str, Any]]:
    """(arrays, meta) of a file that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, changed or not a checkpoint.
    """
    path = Path(path)
    try:
        arrays, header = parse_safetensors("checkpoint", path, path.read_bytes())
        digest, _, text = header["striate"].partition(" ")
        meta = json.loads(text)
    except KeyError:
        raise CheckpointError(f"checkpoint: {path} was not written by striate") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint: {path} is not a whole safetensors file: {error}"
        ) from None
    for a in arrays.values():
        as_dtype(a.dtype)
    if digest != _digest(arrays, text):
        raise CheckpointError(f"checkpoint: {path} has been changed: its SHA-256 does not fit")
    return dict(arrays), dict(meta)
