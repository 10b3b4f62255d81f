"""Small files in the formats under test."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

IDX_CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array: np.ndarray) -> bytes:
    code = IDX_CODES[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, n: int = 5, split: str = "train") -> None:
    """A small idx pair under MNIST's names; the image i is filled with i, its label is i % 10."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "train" if split == "train" else "t10k"
    x = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 4, 4))
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(x))
    labels = (np.arange(n) % 10).astype(np.uint8)
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))


def cifar_records(n: int, kind: str = "cifar10", seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    lead = 1 if kind == "cifar10" else 2
    records = rng.integers(0, 256, (n, lead + 3072), dtype=np.uint8)
    records[:, 0] = rng.integers(0, 10 if lead == 1 else 20, n)
    if lead == 2:
        records[:, 1] = rng.integers(0, 100, n)
    return records.tobytes()


def python2_pickle(data: np.ndarray, lists: dict[str, list[int]]) -> bytes:
    """What Python 2's cPickle wrote (protocol 2): the opcodes of the official CIFAR files."""
    memo = iter(range(256))

    def put() -> bytes:
        return b"q" + bytes([next(memo)])

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text + put()

    raw = data.tobytes()
    out = b"\x80\x02}" + put() + b"("
    out += short(b"batch_label") + short(b"training batch 1 of 5")
    for name, values in lists.items():
        items = b"".join(b"K" + bytes([v]) for v in values)
        out += short(name.encode()) + b"]" + put() + b"(" + items + b"e"
    out += short(b"data") + b"cnumpy.core.multiarray\n_reconstruct\n" + put()
    out += b"cnumpy\nndarray\n" + put() + b"K\x00\x85U\x01b\x87R" + put()
    n, width = data.shape
    out += b"(K\x01M" + struct.pack("<H", n) + b"M" + struct.pack("<H", width) + b"\x86"
    out += b"cnumpy\ndtype\n" + put() + b"U\x02u1K\x00K\x01\x87R" + put()
    out += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return out + b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tbu."
