"""Reading of files that may be broken: every size is checked before memory is taken for it.

Invariant: a reader allocates at most what the header announces, and the header may announce at
most what the file can hold: its own size where it is plain, 1032 times its size where it is
deflated (the best that DEFLATE can do), and never more than a cap in bytes.
"""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from striate.errors import StriateError

Array: TypeAlias = NDArray[Any]
PathLike: TypeAlias = str | os.PathLike[str]

MAX_BYTES = 4 << 30  # the default cap of one decoded file
DEFLATE_RATIO = 1032  # DEFLATE codes at most 258 bytes in 2 bits


class FormatError(StriateError, ValueError):
    """A file does not hold what its format promises.

    The message names the reader, the file, the rule and both numbers.

    >>> print(FormatError("read_idx", "a.idx", "the magic number is 0x803", "found 0x0"))
    read_idx: 'a.idx': the magic number is 0x803, found 0x0
    """

    def __init__(self, where: str, path: PathLike, rule: str, found: str, hint: str = "") -> None:
        self.where, self.path = where, os.fspath(path)
        tail = f" ({hint})" if hint else ""
        super().__init__(f"{where}: {self.path!r}: {rule}, {found}{tail}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (self.where, self.path, str(self)))


def _restored(where: str, path: str, text: str) -> FormatError:
    error = FormatError.__new__(FormatError, text)
    error.where, error.path, error.args = where, path, (text,)
    return error


def regular_size(where: str, path: PathLike) -> int:
    """Size in bytes of a regular file; raises FileNotFoundError, or FormatError for a device."""
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):
        kind = "a directory" if stat.S_ISDIR(info.st_mode) else "a device, pipe or socket"
        raise FormatError(where, path, "a regular file is expected", f"found {kind}")
    return info.st_size


@contextmanager
def open_bounded(where: str, path: PathLike) -> Iterator[tuple[BinaryIO, int]]:
    """Open a plain or gzip file (told by its first bytes, not by its name).

    Gives `(stream, most)`: `most` is the number of bytes that the stream can hold at most.
    Damage of the gzip layer comes out as FormatError, also while the caller reads.
    """
    size = regular_size(where, path)
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw, size
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream), size * DEFLATE_RATIO
        except EOFError:
            raise FormatError(
                where,
                path,
                "a gzip stream ends with its checksum",
                f"found the end of the file after {size} bytes",
                "the file is truncated",
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(
                where,
                path,
                "the gzip stream is intact",
                f"found: {error}",
                "the file is damaged: get it again",
            ) from None


def read_array(
    where: str,
    path: PathLike,
    stream: BinaryIO,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    most: int,
    max_bytes: int = MAX_BYTES,
) -> Array:
    """Read one C-ordered array from the stream; `most` bytes can be left in it at most."""
    need = dtype.itemsize
    for size in shape:
        need *= max(size, 1)  # zero sizes must not hide an overflow in the others
    announced = " x ".join(map(str, shape)) + f" of {dtype.itemsize} bytes"
    if need > max_bytes:
        raise FormatError(
            where,
            path,
            f"at most {max_bytes} bytes are read",
            f"the header announces {announced} = {need} bytes",
            "raise max_bytes if this is meant",
        )
    wanted = need if 0 not in shape else 0
    if wanted > most:
        raise FormatError(
            where,
            path,
            f"the header announces {announced} = {wanted} bytes",
            f"found at most {most} bytes behind it",
            "the file is truncated, or its header broken",
        )
    out = np.empty(shape, dtype)
    got = read_into(stream, out)
    if got != wanted:
        raise FormatError(
            where,
            path,
            f"the header announces {announced} = {wanted} bytes",
            f"found {got} bytes behind it",
            "the file is truncated",
        )
    return out


def read_into(stream: BinaryIO, out: Array) -> int:
    """Fill a C-contiguous array from the stream; returns the number of bytes that came."""
    if out.nbytes == 0:
        return 0
    view = out.reshape(-1).view(np.uint8).data
    got = 0
    while got < len(view):
        # whole-MiB pieces keep the copy inside GzipFile.readinto small
        n = cast(Any, stream).readinto(view[got : got + (1 << 20)])
        if not n:
            break
        got += n
    return got


def expect_end(where: str, path: PathLike, stream: BinaryIO, wanted: int) -> None:
    """Raise FormatError if the stream goes on behind the `wanted` bytes that were announced."""
    if stream.read(1):
        raise FormatError(
            where,
            path,
            f"the header announces {wanted} bytes",
            "found more bytes behind them",
            "the header is broken, or files were joined",
        )


def read_bytes(where: str, path: PathLike, max_bytes: int) -> bytes:
    """The whole of a regular file of at most `max_bytes` bytes."""
    size = regular_size(where, path)
    if size > max_bytes:
        raise FormatError(
            where,
            path,
            f"at most {max_bytes} bytes are read",
            f"the file holds {size}",
            "raise max_bytes if this is meant",
        )
    with open(path, "rb") as stream:
        return stream.read(size)  # not max_bytes: read() takes what it is told at once
