"""PyTorch's zip format, written without PyTorch: a state dict of contiguous tensors.

The pickle is that of an OrderedDict of `_rebuild_tensor_v2` calls, in protocol 2, which
`torch.load` reads with `weights_only=True`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from math import prod

import numpy as np

from striate.data.files import Array
from striate.weights.torch_pickle import STORAGE_NAMES

_FOLDER = "archive"
_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same content


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def _int(n: int) -> bytes:
    raw = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _tuple(items: list[bytes]) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _ordered_dict() -> bytes:
    return b"ccollections\nOrderedDict\n)R"


def _tensor(key: str, array: Array) -> bytes:
    storage = STORAGE_NAMES[array.dtype]
    place = [
        _text("storage"), b"ctorch\n" + storage.encode() + b"\n", _text(key), _text("cpu"),
        _int(array.size),
    ]  # fmt: skip
    strides = [prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    parts = [
        _tuple(place) + b"Q",
        _int(0),
        _tuple([_int(n) for n in array.shape]),
        _tuple([_int(n) for n in strides]),
        b"\x89",
        _ordered_dict(),
    ]
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + _tuple(parts) + b"R"


def torch_bytes(arrays: Mapping[str, Array]) -> bytes:
    """The file that `torch.load` reads as an OrderedDict of these arrays.

    Raises:
        ValueError: PyTorch has no storage of such a dtype.
    """
    little = {k: np.asarray(a, a.dtype.newbyteorder("<"), order="C") for k, a in arrays.items()}
    for name, array in little.items():
        if array.dtype not in STORAGE_NAMES:
            raise ValueError(f"PyTorch has no storage of {array.dtype}, the dtype of {name!r}")
    items = [_text(k) + _tensor(str(i), a) for i, (k, a) in enumerate(little.items())]
    members = {
        "data.pkl": b"\x80\x02" + _ordered_dict() + b"(" + b"".join(items) + b"u.",
        "byteorder": b"little",
        **{f"data/{i}": a.tobytes() for i, a in enumerate(little.values())},
        "version": b"3\n",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}", _DATE), content)
    return out.getvalue()
