"""TAKE, PUT_ADD, TAKE_ALONG_AXIS, SCATTER_ADD and LAST_WRITER on dense row-major buffers.

With A elements before the indexed axis of size n and B behind it, and m indices along it, x is
[A, n, B] and a gather from it [A, m, B]; a scatter goes the other way. The index is [m] (`take`,
`put_add`) or [A, m, B]. One out of range touches nothing: `fault` i64[2] becomes (1, index).
"""

from __future__ import annotations

from math import prod

from striate.codegen.index_kernels import Gather, LastWriter, Scatter
from striate.codegen.kernel import ALIGNMENT, Buffer, Scratch, Step, Word
from striate.dtype import DType, bfloat16, int8, int16, int32, int64
from striate.ir.types import TensorType
from striate.ops.index import Indexing

SMALL = 1 << 13  # elements: too few to share
PIECE = 64  # bytes of an inner row that a thread takes at least
ROWS = 8  # pieces from which they are shared, and not the places
_BYTES = {1: int8, 2: int16, 4: int32, 8: int64}  # a dtype to copy elements of a size with


def take(
    attrs: Indexing,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
) -> list[Step]:
    """x[*A, n, *B] at index[m] -> out[*A, m, *B]; `fault` i64[2]. See ops/index.py."""
    a, b = _around(x_type.shape, attrs.axis)
    sizes = (a, attrs.size, index_type.size, b)
    return _gather("take", x, x_type, index, index_type, out, fault, sizes, (0, 1))


def take_along_axis(
    attrs: Indexing,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
) -> list[Step]:
    """x[*A, n, *B] at index[*A, m, *B] -> out[*A, m, *B]; `fault` i64[2]."""
    a, b = _around(x_type.shape, attrs.axis)
    m = index_type.shape[attrs.axis]
    strides = (m, 1) if b == 1 else None
    name = "take_along_axis"
    return _gather(name, x, x_type, index, index_type, out, fault, (a, attrs.size, m, b), strides)


def put_add(
    attrs: Indexing,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
) -> list[Step]:
    """Zeros out[*A, n, *B] plus x[*A, m, *B] at index[m]; `fault` i64[2]. Bools are or-ed."""
    a, b = _around(x_type.shape, attrs.axis)
    sizes = (a, attrs.size, index_type.size, b)
    return _scatter("put_add", x, x_type, index, index_type, out, fault, sizes, (0, 1))


def scatter_add(
    attrs: Indexing,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
) -> list[Step]:
    """Zeros out[*A, n, *B] plus x[*A, m, *B] at index[*A, m, *B]; `fault` i64[2]."""
    a, b = _around(x_type.shape, attrs.axis)
    m = index_type.shape[attrs.axis]
    strides = (m, 1) if b == 1 else None
    sizes = (a, attrs.size, m, b)
    return _scatter("scatter_add", x, x_type, index, index_type, out, fault, sizes, strides)


def last_writer(
    size: int, index: Buffer, index_type: TensorType, out: Buffer, fault: Buffer
) -> list[Step]:
    """index[*B, m] in [0, size) -> bool[*B, m]: no later place of the row has the same index."""
    if not index_type.size:
        return []
    m = index_type.shape[-1]
    rows = index_type.size // m
    small = rows == 1 or index_type.size < SMALL
    owners = Scratch(aligned(8 * max(1, size)))
    words = (index, out, fault, owners, rows, size, m, owners.nbytes)
    kernel, label = LastWriter(index_type.dtype), f"last_writer {index_type}"
    return [Step(kernel, words, (out, fault), label, single=small, updates=(fault,))]


def scatter_rows(
    label: str,
    dtype: DType,
    index_dtype: DType,
    outer: int,
    n: int,
    m: int,
    inner: int,
    x: Buffer,
    index: Buffer,
    out: Buffer,
) -> list[Step]:
    """`scatter_add` of x[outer, m, inner] at index[outer, m, inner] -> out[outer, n, inner]; the
    indices are known to lie in [0, n).
    """
    x_type = TensorType((outer, m, inner), dtype)
    strides = (m, 1) if inner == 1 else None
    sizes = (outer, n, m, inner)
    index_type = x_type.with_dtype(index_dtype)
    return _scatter(label, x, x_type, index, index_type, out, None, sizes, strides)


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Elements before and behind an axis."""
    return prod(shape[:axis]), prod(shape[axis + 1 :])


def aligned(nbytes: int) -> int:
    """The number of bytes, rounded up to a whole scratch region."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _rows(b: int, strides: tuple[int, int] | None) -> str:
    """How many elements an index is for: `one`, the `whole` row b, or `each` has its own."""
    return "one" if b == 1 else "each" if strides is None else "whole"


def _gather(
    name: str,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer,
    sizes: tuple[int, int, int, int],
    strides: tuple[int, int] | None,
) -> list[Step]:
    """`sizes` are A, n, m, B; `strides` of the index over (a, j), or None if it has all axes."""
    a, n, m, b = sizes
    if not index_type.size:
        return []
    if strides and not a * n * b:  # nothing to read: the indices are only checked
        a, b = 1, 0
    elif not a * n * b:
        a, m, b, strides = 1, index_type.size, 0, (0, 1)
    kernel = Gather(_BYTES[x_type.dtype.itemsize], index_type.dtype, _rows(b, strides))
    words = (x, index, out, fault, a, n, m, b, *(strides or (m * b, b)))
    small = a * m * b < SMALL
    return [Step(kernel, words, (out, fault), f"{name} {x_type}", single=small, updates=(fault,))]


def _scatter(
    name: str,
    x: Buffer,
    x_type: TensorType,
    index: Buffer,
    index_type: TensorType,
    out: Buffer,
    fault: Buffer | None,
    sizes: tuple[int, int, int, int],
    strides: tuple[int, int] | None,
) -> list[Step]:
    """As `_gather`; without `fault` the indices are not checked, and not negative."""
    a, n, m, b = sizes
    dtype, written = x_type.dtype, (out,) if fault is None else (out, fault)
    if not a * n * b:
        if fault is None or not index_type.size:
            return []
        kernel: Gather | Scatter = Gather(_BYTES[dtype.itemsize], index_type.dtype, "whole")
        words: tuple[Word, ...] = (x, index, out, fault, 1, n, index_type.size, 0, 0, 1)
        return [Step(kernel, words, written, f"{name} {x_type}", single=True, updates=(fault,))]
    grain = min(b, max(1, PIECE // dtype.itemsize))
    owned = a * -(-b // grain) < ROWS and dtype is not bfloat16
    kernel = Scatter(dtype, index_type.dtype, _rows(b, strides), owned, fault is not None)
    sums = Scratch(aligned(4 * n * grain if dtype is bfloat16 else 1))
    places = (x, index, out, fault or 0, sums)
    words = (*places, a, n, m, b, *(strides or (m * b, b)), grain, sums.nbytes)
    small = a * max(m, n) * b < SMALL
    return [Step(kernel, words, written, f"{name} {x_type}", single=small, updates=written[1:])]
