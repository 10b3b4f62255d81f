"""The idx format of MNIST and its kin: a magic number, sizes, then the raw array.

bytes 0..1  zero        byte 2  type code        byte 3  rank
rank sizes as big-endian u32, then the elements, big-endian, last axis fastest
"""

import math

import numpy as np

from .files import MAX_BYTES, Array, FormatError, PathLike, expect_end, open_bounded, read_array

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_RANK = 8


def read_idx(path: PathLike, *, max_bytes: int = MAX_BYTES) -> Array:
    """Read an idx file, gzip or plain, as an array in native byte order.

    Returns `dtype[*sizes]` with the type and sizes of the header. Raises FileNotFoundError, and
    FormatError where the magic number, the sizes or the length do not fit together, or where
    the array would take more than `max_bytes`.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "labels.idx")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    where = "read_idx"
    with open_bounded(where, path) as (stream, most):
        head = stream.read(4)
        if len(head) < 4:
            raise FormatError(
                where,
                path,
                "an idx header has 4 bytes and 4 more an axis",
                f"found {len(head)} bytes",
                "the file is truncated",
            )
        if head[:2] != b"\0\0" or head[2] not in _TYPES:
            raise FormatError(
                where,
                path,
                "the magic number is 00 00, a type code in 08 09 0b 0c 0d 0e, a rank",
                f"found {head.hex(' ')}",
                "is this an idx file?",
            )
        rank = head[3]
        if not 1 <= rank <= _MAX_RANK:
            raise FormatError(
                where, path, f"the rank is in 1..{_MAX_RANK}", f"the header announces {rank}"
            )
        sizes = stream.read(4 * rank)
        if len(sizes) < 4 * rank:
            raise FormatError(
                where,
                path,
                f"a header of rank {rank} has {4 + 4 * rank} bytes",
                f"found {4 + len(sizes)}",
                "the file is truncated",
            )
        shape = tuple(int(s) for s in np.frombuffer(sizes, ">u4"))
        dtype = np.dtype(_TYPES[head[2]])
        out = read_array(where, path, stream, shape, dtype, most - 4 - 4 * rank, max_bytes)
        expect_end(where, path, stream, math.prod(shape) * dtype.itemsize)
    return out.astype(dtype.newbyteorder("="), copy=False)


def read_idx_pair(images: PathLike, labels: PathLike, classes: int) -> tuple[Array, Array]:
    """Read an images file and its labels file.

    Returns `(x: u8[N, 1, H, W], y: i64[N])`. Raises FormatError as `read_idx`, and where the
    ranks, the types, the two counts or a label outside `0..classes-1` do not fit.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     a, b = pathlib.Path(d, "images"), pathlib.Path(d, "labels")
    ...     _ = a.write_bytes(bytes([0, 0, 8, 3] + [0, 0, 0, 2] * 3 + [9] * 8))
    ...     _ = b.write_bytes(bytes([0, 0, 8, 1] + [0, 0, 0, 2] + [1, 0]))
    ...     x, y = read_idx_pair(a, b, 10)
    >>> x.shape, y
    ((2, 1, 2, 2), array([1, 0]))
    """
    where = "read_idx_pair"
    x, y = read_idx(images), read_idx(labels)
    for path, array, rank in ((images, x, 3), (labels, y, 1)):
        if array.ndim != rank or array.dtype != np.uint8:
            raise FormatError(
                where,
                path,
                f"the array is uint8 of rank {rank}",
                f"found {array.dtype} of rank {array.ndim}",
                "are images and labels exchanged?",
            )
    if len(x) != len(y):
        raise FormatError(
            where,
            labels,
            f"there is one label for each of the {len(x)} images",
            f"found {len(y)} labels",
            "train and test files may be mixed",
        )
    check_labels(where, labels, y, classes)
    return x[:, None], y.astype(np.int64)  # [n, h, w] -> [n, 1, h, w]


def check_labels(where: str, path: PathLike, y: Array, classes: int) -> None:
    """Raise FormatError at the first label outside `0..classes-1`."""
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        raise FormatError(
            where,
            path,
            f"labels are in 0..{classes - 1}",
            f"sample {wrong[0]} has the label {y[wrong[0]]}",
        )
