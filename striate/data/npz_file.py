"""NumPy's .npz archives, read without pickle and without trust in their headers.

Each member announces its size three times: in the zip directory, in its npy header, and by
what it holds. All three have to agree before, or while, memory is taken.
"""

import ast
import math
import zipfile
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.lib import format as npy

from striate.errors import ShapeError

from .dataset import ArrayDataset
from .files import (
    DEFLATE_RATIO,
    MAX_BYTES,
    Array,
    FormatError,
    PathLike,
    read_array,
    regular_size,
)
from .zip_file import MAX_MEMBERS, checked_members, intact_zip


def read_npz(
    path: PathLike, *, max_bytes: int = MAX_BYTES, max_ratio: float = DEFLATE_RATIO
) -> dict[str, Array]:
    """Read all arrays of an .npz file.

    Returns name -> array, with the dtypes and shapes of the file. Raises FileNotFoundError, and
    FormatError for a broken archive, for arrays of Python objects (they need pickle, which could
    execute code), and for more than `max_bytes` bytes or `max_ratio` times the file's size in all.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "a.npz")
    ...     np.savez(path, x=np.zeros((2, 3)))
    ...     read_npz(path)["x"].shape
    (2, 3)
    """
    where = "read_npz"
    size = regular_size(where, path)
    with intact_zip(where, path), zipfile.ZipFile(path) as archive:
        members = checked_members(where, path, archive, size)
        total = sum(m.file_size for m in members)
        if total > min(max_bytes, max_ratio * size):
            raise FormatError(
                where,
                path,
                f"at most {MAX_MEMBERS} arrays and {max_bytes} bytes, {max_ratio:g} times the "
                f"file's {size}, are read",
                f"the archive announces {len(members)} and {total}",
                "raise max_bytes or max_ratio if this is meant",
            )
        out: dict[str, Array] = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in out:
                raise FormatError(where, path, "each name occurs once", f"found {name!r} twice")
            with archive.open(member) as stream:
                out[name] = _read_npy(
                    path, cast(BinaryIO, stream), member.filename, member.file_size, max_bytes
                )
        return out


def _read_npy(path: PathLike, stream: BinaryIO, name: str, size: int, max_bytes: int) -> Array:
    where = "read_npz"
    head = stream.read(8)
    if head[:6] != b"\x93NUMPY" or head[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise FormatError(
            where,
            path,
            f"{name!r} begins with 93 'NUMPY' and a version in 1..3",
            f"found {head.hex(' ')}",
            "an .npz holds .npy members only",
        )
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > 10_000:
        raise FormatError(
            where, path, f"the header of {name!r} has at most 10000 bytes", f"announced: {length}"
        )
    text = stream.read(length)
    if len(text) != length:
        raise FormatError(
            where, path, f"the header of {name!r} announces {length} bytes", f"found {len(text)}"
        )
    header = ast.literal_eval(text.decode("utf-8" if head[6] == 3 else "latin-1").strip())
    if type(header) is not dict or set(header) != {"descr", "fortran_order", "shape"}:
        raise FormatError(
            where,
            path,
            f"the header of {name!r} has descr, fortran_order and shape",
            f"found {str(header)[:80]}",
        )
    shape: Any = header["shape"]
    if (
        type(shape) is not tuple
        or len(shape) > 32
        or any(type(s) is not int or s < 0 for s in shape)
    ):
        raise FormatError(
            where,
            path,
            f"the shape of {name!r} is a tuple of at most 32 sizes >= 0",
            f"found {str(shape)[:80]}",
        )
    dtype: np.dtype[Any] = npy.descr_to_dtype(header["descr"])
    if dtype.hasobject or dtype.itemsize == 0:
        raise FormatError(
            where,
            path,
            f"{name!r} is an array of numbers or text",
            f"found the dtype {dtype}",
            "arrays of Python objects need pickle, which is not read here",
        )
    need, left = math.prod(shape) * dtype.itemsize, size - 8 - width - length
    if need != left:
        raise FormatError(
            where,
            path,
            f"{name!r} announces {shape} of {dtype} = {need} bytes",
            f"the archive holds {left}",
        )
    fortran = bool(header["fortran_order"])
    sizes = shape[::-1] if fortran else shape
    out = read_array(where, path, stream, sizes, dtype, left, max_bytes)
    stream.read(1)  # the end of the member: the zip layer checks its CRC here
    return out.transpose() if fortran else out


def npz(
    path: PathLike,
    *,
    x: str = "x",
    y: str = "y",
    layout: Literal["NCHW", "NHWC", "NHW"] = "NCHW",
) -> ArrayDataset:
    """The arrays called `x` and `y` of an .npz file as a dataset.

    `layout` says how the file holds images: "NCHW" leaves `x` as it is (whatever its rank),
    "NHWC" moves the channels to axis 1, "NHW" adds one channel. Integer labels of rank 1 come as
    i64[N]; other targets (masks, soft labels) as stored. Raises FormatError for a broken file or
    a name that it does not hold, ShapeError where the counts or the rank do not fit.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "a.npz")
    ...     np.savez(path, images=np.zeros((5, 8, 8), np.uint8), labels=np.arange(5))
    ...     data = npz(path, x="images", y="labels", layout="NHW")
    >>> len(data), data.x.shape
    (5, (5, 1, 8, 8))
    """
    arrays = read_npz(path)
    for name in (x, y):
        if name not in arrays:
            raise FormatError(
                "npz",
                path,
                f"the file holds an array called {name!r}",
                f"found {sorted(arrays)[:8]}",
                "pass x= and y=",
            )
    images = arrays[x]
    rank = {"NCHW": images.ndim, "NHWC": 4, "NHW": 3}.get(layout)
    if rank is None:
        raise ValueError(f"npz: layout is 'NCHW', 'NHWC' or 'NHW', found {layout!r}")
    if images.ndim != rank:
        raise ShapeError(f"npz: layout {layout!r} needs rank {rank}, {x!r} has rank {images.ndim}")
    if layout == "NHWC":
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # [n,h,w,c] -> [n,c,h,w]
    elif layout == "NHW":
        images = images[:, None]  # [n, h, w] -> [n, 1, h, w]
    return ArrayDataset(images, arrays[y])
