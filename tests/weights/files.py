"""Weights files made by hand, valid and hostile; no PyTorch needed."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import Any

import numpy as np

from striate.weights.safetensors_file import safetensors_bytes
from striate.weights.torch_writer import torch_bytes

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv.bias": np.float32([1, -1]),
    "bn.num_batches_tracked": np.int64(7),
    "mask": np.array([True, False, True]),
}
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def pth(pickled: bytes, **storages: bytes) -> bytes:
    """A PyTorch zip file with this pickle; storages `s0`, `s1` are data/0, data/1."""
    members = {"a/data.pkl": pickled, "a/byteorder": b"little", "a/version": b"3\n"}
    return zipped(members | {f"a/data/{k[1:]}": v for k, v in storages.items()})


def storage(count: int, key: str = "0", kind: str = "torch FloatStorage") -> bytes:
    module, name = kind.split()
    return (
        b"(U\x07storagec" + f"{module}\n{name}\n".encode() + b"U" + bytes([len(key)])
        + key.encode() + b"U\x03cpuL" + str(count).encode() + b"L\ntQ"
    )  # fmt: skip


def tensor(
    shape: list[int], strides: list[int], offset: int = 0, of: bytes = b"", call: str = ""
) -> bytes:
    """The pickle of one tensor, without its protocol and stop."""
    text = [b"".join(b"L%dL\n" % n for n in sizes) for sizes in (shape, strides)]
    name = call or "torch._utils\n_rebuild_tensor_v2"
    return (
        b"c" + name.encode() + b"\n(" + (of or storage(4)) + b"L%dL\n" % offset
        + b"(" + text[0] + b"t(" + text[1] + b"t\x89}tR"
    )  # fmt: skip


def state(**tensors: bytes) -> bytes:
    """The pickle of a state dict."""
    items = b"".join(b"U" + bytes([len(k)]) + k.encode() + v for k, v in tensors.items())
    return b"\x80\x02}(" + items + b"u."


def legacy(pickled: bytes, keys: list[str], content: bytes, little: bool = True) -> bytes:
    """PyTorch's format before 1.6."""
    system = {"protocol_version": VERSION, "little_endian": little, "type_sizes": {}}
    head = b"".join(pickle.dumps(x, 2) for x in (MAGIC, VERSION, system))
    return head + pickled + pickle.dumps(keys, 2) + content


def safetensors(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def npz(arrays: dict[str, Any] | None = None, packed: bool = False) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(out, **(arrays or ARRAYS))  # type: ignore[operator]
    return out.getvalue()


def legacy_example() -> bytes:
    count = (4).to_bytes(8, "little")
    data = np.arange(4, dtype=np.float32).tobytes()
    tensors = {"w": tensor([2, 2], [2, 1]), "b": tensor([2], [1], 2)}
    return legacy(state(**tensors), ["0"], count + data)


EXAMPLES = {
    "safetensors": safetensors_bytes(ARRAYS, {"format": "pt"}),
    "npz": npz(),
    "packed npz": npz(packed=True),
    "pth": torch_bytes(ARRAYS),
    "legacy pth": legacy_example(),
}


def pickled(example: str) -> bytes:
    """The pickle of an example in PyTorch's zip format."""
    with zipfile.ZipFile(io.BytesIO(EXAMPLES[example])) as archive:
        return archive.read("archive/data.pkl")


def npy() -> bytes:
    """A member of an .npz."""
    with zipfile.ZipFile(io.BytesIO(EXAMPLES["npz"])) as archive:
        return archive.read("conv.weight.npy")
