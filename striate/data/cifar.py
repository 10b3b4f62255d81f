"""The two formats of CIFAR-10 and CIFAR-100: records of bytes, and pickles of one batch.

binary     1 label byte (CIFAR-100: 2, coarse then fine), 3072 bytes [3, 32, 32]; repeated
pickled    {b"data": u8[N, 3072], b"labels" or b"fine_labels", b"coarse_labels": list of int}
"""

from typing import Any, Literal, TypeAlias

import numpy as np

from .files import MAX_BYTES, Array, FormatError, PathLike, read_into, regular_size
from .idx import check_labels
from .safe_pickle import read_pickle

Kind: TypeAlias = Literal["cifar10", "cifar100"]
Labels: TypeAlias = Literal["fine", "coarse"]
_PIXELS = 3 * 32 * 32


def check_kind(where: str, kind: str, labels: str) -> int:
    """The number of classes; raises ValueError for an unknown kind or kind of labels."""
    if kind not in ("cifar10", "cifar100"):
        raise ValueError(f"{where}: kind is 'cifar10' or 'cifar100', found {kind!r}")
    if labels not in ("fine", "coarse"):
        raise ValueError(f"{where}: labels is 'fine' or 'coarse', found {labels!r}")
    return 10 if kind == "cifar10" else 100 if labels == "fine" else 20


def read_cifar_binary(
    path: PathLike,
    kind: Kind = "cifar10",
    *,
    labels: Labels = "fine",
    max_bytes: int = MAX_BYTES,
) -> tuple[Array, Array]:
    """Read a file in CIFAR's binary format, of any number of records.

    Returns `(x: u8[N, 3, 32, 32], y: i64[N])`; `labels` picks CIFAR-100's 100 fine or 20 coarse
    classes. Raises FileNotFoundError; FormatError where the size is no multiple of a record or
    a label is out of range; ValueError for an unknown kind.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "data.bin")
    ...     _ = path.write_bytes((bytes([7]) + bytes(3072)) * 2)
    ...     x, y = read_cifar_binary(path, "cifar10")
    >>> x.shape, y
    ((2, 3, 32, 32), array([7, 7]))
    """
    where = "read_cifar_binary"
    classes = check_kind(where, kind, labels)
    lead = 1 if kind == "cifar10" else 2
    size, record = regular_size(where, path), lead + _PIXELS
    if size == 0 or size % record:
        raise FormatError(
            where,
            path,
            f"a {kind} file is a whole number of records of {record} bytes",
            f"found {size} bytes = {size // record} records and {size % record} bytes",
            "the file is truncated, or of the other kind",
        )
    if size > max_bytes:
        raise FormatError(where, path, f"at most {max_bytes} bytes are read", f"found {size}")
    raw = np.empty((size // record, record), np.uint8)
    with open(path, "rb") as stream:
        got = read_into(stream, raw)
    if got != size:
        raise FormatError(where, path, f"the file holds {size} bytes", f"only {got} came")
    column = 1 if (kind == "cifar100" and labels == "fine") else 0
    y = raw[:, column].astype(np.int64)
    check_labels(where, path, y, classes)
    x = np.ascontiguousarray(raw[:, lead:])
    return x.reshape(-1, 3, 32, 32), y  # [n, 3072] -> [n, 3, 32, 32]


def read_cifar_pickle(
    path: PathLike, kind: Kind = "cifar10", *, labels: Labels = "fine"
) -> tuple[Array, Array]:
    """Read a batch file of CIFAR's "python version", executing nothing of the pickle.

    Returns `(x: u8[N, 3, 32, 32], y: i64[N])`. Raises FileNotFoundError; FormatError for a broken
    or foreign pickle, or arrays and labels that do not fit; ValueError for an unknown kind.

    >>> import pickle, tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "data_batch_1")
    ...     batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [3, 9]}
    ...     _ = path.write_bytes(pickle.dumps(batch, protocol=2))
    ...     x, y = read_cifar_pickle(path)
    >>> x.shape, y
    ((2, 3, 32, 32), array([3, 9]))
    """
    where = "read_cifar_pickle"
    classes = check_kind(where, kind, labels)
    batch = read_pickle(path)
    name = "labels" if kind == "cifar10" else f"{labels}_labels"
    data, y = _entry(batch, "data"), _entry(batch, name)
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or (data.ndim != 2 or data.shape[1] != _PIXELS)
    ):
        found = (
            f"{data.dtype}{list(data.shape)}"
            if isinstance(data, np.ndarray)
            else type(data).__name__
        )
        raise FormatError(where, path, f"'data' is uint8[N, {_PIXELS}]", f"found {found}")
    if type(y) is not list or any(type(v) is not int for v in y):
        raise FormatError(
            where,
            path,
            f"{name!r} is a list of integers",
            f"found {type(y).__name__}",
            "CIFAR-10 has 'labels', CIFAR-100 'fine_labels' and 'coarse_labels'",
        )
    if len(y) != len(data):
        raise FormatError(
            where,
            path,
            f"there is one label for each of the {len(data)} images",
            f"found {len(y)} labels",
        )
    try:
        target = np.array(y, np.int64).reshape(-1)
    except OverflowError:
        raise FormatError(
            where, path, f"labels are in 0..{classes - 1}", "found one above 2^63"
        ) from None
    check_labels(where, path, target, classes)
    x = np.array(data, order="C")  # a copy: the pickle's bytes are read-only
    return x.reshape(-1, 3, 32, 32), target  # [n, 3072] -> [n, 3, 32, 32]


def _entry(batch: object, name: str) -> Any:
    if not isinstance(batch, dict):
        return None
    return batch.get(name, batch.get(name.encode()))
