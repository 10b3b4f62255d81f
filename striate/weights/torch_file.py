"""PyTorch's files, zip and legacy, read without PyTorch and without executing anything.

    zip:     data.pkl (the objects, tensors by the key of their storage), data/KEY (the bytes)
    legacy:  pickles of a magic number, a version, the system, the objects, the keys in order;
             then for each key a count (i64) and the bytes

Both give a tree of plain containers whose leaves are `Tensor` records, and where the bytes of each
storage are. Arrays are views of the file's bytes: what is never asked for costs nothing.
"""

import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from striate.data.files import Array, FormatError, PathLike
from striate.data.pickle_machine import Refused, run_pickle
from striate.data.zip_file import checked_members, intact_zip
from striate.weights.torch_pickle import TORCH, Storage, Tensor, storage_of

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_RULE = "tensors in plain containers are expected, as of torch.save(net.state_dict(), path)"
_COPIES = 16  # tensors that share storages may have this many times the file's bytes in all
_LOCAL = 30

Span = tuple[int, int]  # first byte and end


class TorchFile:
    """The objects of a file; `array` gives the elements of a tensor.

    Attributes:
        root: what was saved: containers, numbers, text, and `Tensor` for tensors.
    """

    def __init__(
        self,
        where: str,
        path: PathLike,
        data: bytes,
        root: object,
        find: Callable[[Storage], Span],
        big: bool = False,
    ) -> None:
        self.where, self.path, self.data, self.root = where, path, data, root
        self._find, self._big = find, big
        self._spans: dict[str, Span] = {}
        self._given = 0

    def array(self, tensor: Tensor) -> Array:
        """The elements as a read-only view of the file's bytes.

        Raises:
            FormatError: its storage is not there, too small or damaged, or tensors that share
                storages would have more than 16 times the bytes of the file.
        """
        self._given += tensor.nbytes
        most = _COPIES * len(self.data) + (1 << 20)
        if self._given > most:
            raise FormatError(
                self.where,
                self.path,
                f"tensors may have {most} bytes in all, {_COPIES} times the file's",
                f"found {self._given} or more",
                "tensors are expanded from few elements",
            )
        storage = tensor.storage
        if storage.key not in self._spans:
            self._spans[storage.key] = self._find(storage)
        begin, end = self._spans[storage.key]
        need = storage.whole * storage.dtype.itemsize
        if need > end - begin:
            raise FormatError(
                self.where,
                self.path,
                f"the storage {storage.key[:40]!r} has {need} bytes",
                f"the file holds {end - begin}",
                "the file is truncated",
            )
        dtype, bits = tensor.dtype.newbyteorder(">" if self._big else "<"), tensor.dtype.itemsize
        out: Array = np.ndarray(
            tensor.shape,
            np.dtype(np.uint8) if dtype == np.bool_ else dtype,
            self.data if 0 not in tensor.shape else b"",
            0
            if 0 in tensor.shape
            else begin + storage.start * storage.dtype.itemsize + tensor.offset * bits,
            tuple(s * bits for s in tensor.strides),
        )
        return out != 0 if dtype == np.bool_ else out


def parse_torch_zip(where: str, path: PathLike, data: bytes) -> TorchFile:
    """The objects of an archive that torch.save wrote (PyTorch 1.6 and later).

    Raises:
        FormatError: it is damaged, a TorchScript archive, or holds more than tensors and plain
            containers.
    """
    with intact_zip(where, path), zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = checked_members(where, path, archive, len(data))
    names = {member.filename for member in members}
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise FormatError(where, path, "one data.pkl in one folder", f"found {len(pickles)}")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise FormatError(
            where,
            path,
            _RULE,
            "found a TorchScript archive, which holds code",
            "save module.state_dict() instead",
        )
    spans: dict[str, tuple[zipfile.ZipInfo, int]] = {}
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise FormatError(
                where,
                path,
                "the members of a PyTorch file are stored as they are",
                f"{member.filename[:80]!r} is compressed",
            )
        spans[member.filename] = member, _first_byte(where, path, data, member)

    def content(name: str) -> Span:
        member, begin = spans[name]
        end = begin + member.file_size
        # a CRC of 0 says that the writer left it out
        if member.CRC and zlib.crc32(memoryview(data)[begin:end]) != member.CRC:
            raise FormatError(
                where, path, f"the CRC of {name[:80]!r} is {member.CRC:#x}", "the bytes differ"
            )
        return begin, end

    def find(storage: Storage) -> Span:
        name = f"{folder}data/{storage.key}"
        if name not in spans:
            raise FormatError(where, path, f"a member {name[:80]!r} holds a storage", "found none")
        return content(name)

    order = b"little"
    if f"{folder}byteorder" in spans:
        begin, end = content(f"{folder}byteorder")
        order = data[begin:end]
    if order not in (b"little", b"big"):
        raise FormatError(where, path, "the byte order is little or big", f"found {order[:20]!r}")
    begin, end = content(pickles[0])
    root, _ = run_pickle(where, path, data[begin:end], TORCH, _RULE)
    return TorchFile(where, path, data, root, find, order == b"big")


def _first_byte(where: str, path: PathLike, data: bytes, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin: behind its local header."""
    at = member.header_offset
    head = data[at : at + _LOCAL]
    begin = (
        at + _LOCAL + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:], "little")
    )
    if head[:4] != b"PK\x03\x04" or begin + member.file_size > len(data):
        raise FormatError(
            where,
            path,
            f"{member.filename[:80]!r} has a header and {member.file_size} bytes at {at}",
            f"found {head[:4]!r} and {max(0, len(data) - begin)} bytes",
        )
    return begin


def parse_torch_legacy(where: str, path: PathLike, data: bytes) -> TorchFile:
    """The objects of a file that torch.save wrote before PyTorch 1.6.

    Raises:
        FormatError: it is damaged, or holds more than tensors and plain containers.
    """
    magic, at = run_pickle(where, path, data, TORCH, _RULE)
    if type(magic) is not int or magic != _MAGIC:
        raise FormatError(
            where,
            path,
            f"a PyTorch file begins with {_MAGIC:#x}",
            f"found a pickle of {_tell(magic)}",
        )
    version, at = run_pickle(where, path, data, TORCH, _RULE, at)
    if type(version) is not int or version != _VERSION:
        raise FormatError(where, path, f"the version is {_VERSION}", f"found {_tell(version)}")
    system, at = run_pickle(where, path, data, TORCH, _RULE, at)
    sizes: dict[str, int] = {}  # bytes per element of each storage

    def note(key: Any) -> Storage:
        storage = storage_of(key)
        size = storage.dtype.itemsize
        if sizes.setdefault(storage.key, size) != size:
            raise Refused(f"the storage {storage.key[:40]!r} with two types")
        return storage

    root, at = run_pickle(where, path, data, replace(TORCH, persistent=note), _RULE, at)
    keys, at = run_pickle(where, path, data, TORCH, _RULE, at)
    if type(system) is not dict or type(keys) is not list or any(type(k) is not str for k in keys):
        raise FormatError(
            where,
            path,
            "the system and the keys of storages",
            f"found {_tell(system)}, {_tell(keys)}",
        )
    big = system.get("little_endian") is False
    if len(set(keys)) != len(keys):
        raise FormatError(where, path, "each storage has a key of its own", "found one twice")
    spans: dict[str, Span] = {}
    for key in keys:
        count = int.from_bytes(data[at : at + 8], "big" if big else "little")
        end = at + 8 + count * sizes.get(key, 0)
        if key not in sizes or end > len(data):
            raise FormatError(
                where,
                path,
                f"{count} elements of the storage {key[:40]!r} from byte {at + 8} on",
                f"the file has {len(data)} bytes" if key in sizes else "no tensor is in it",
                "the file is truncated or damaged",
            )
        spans[key] = at + 8, end
        at = end

    def find(storage: Storage) -> Span:
        if storage.key not in spans:
            raise FormatError(
                where, path, f"a storage called {storage.key[:40]!r}", f"found {len(spans)} others"
            )
        return spans[storage.key]

    return TorchFile(where, path, data, root, find, big)


def _tell(value: object) -> str:
    return str(value)[:40] if type(value) is int else type(value).__name__
