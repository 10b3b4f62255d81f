"""Zeros in strided memory: what a convolution leaves where no tap meets an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from striate.codegen.emitter import Emitter, Index, Value, storage, vector
from striate.codegen.kernel import At, Step, View, Word
from striate.dtype import DType
from striate.target import Target

CHUNK = 4096  # elements of a row that are one piece of work


def pieces(e: Emitter, n: Index, size: Index) -> Value:
    """How many pieces of a size n things make."""
    return e.b.udiv(e.add(n, size, -1), e.index(size))


def unravel(e: Emitter, i: Value, sizes: Sequence[Index]) -> list[Value]:
    """The indices of item i of an array of this shape, row-major."""
    found = []
    for size in reversed(sizes[1:]):
        found.append(e.b.urem(i, e.index(size)))
        i = e.b.udiv(i, e.index(size))
    return [i, *reversed(found)]


@dataclass(frozen=True)
class Fill:
    """Zeros. Words: y, then (size, stride) per axis.

    Attributes:
        dtype: of the elements.
        rank: number of axes, > 0.
        contiguous: whether the last axis has stride 1.
    """

    dtype: DType
    rank: int
    contiguous: bool

    @property
    def name(self) -> str:
        """`fill_f32_2`"""
        return f"fill_{self.dtype.short}_{self.rank}"

    def emit(self, e: Emitter) -> None:
        """A thread fills chunks of rows."""
        one = storage(self.dtype)
        lanes = max(2, e.target.lanes(self.dtype.bits))
        zeros = e.const(vector(one, lanes), 0)
        sizes = [e.number(1 + 2 * d) for d in range(self.rank)]
        strides = [e.number(2 + 2 * d) for d in range(self.rank)]
        shape = [*sizes[:-1], pieces(e, sizes[-1], CHUNK)]

        def item(i: Value) -> None:
            *outer, chunk = unravel(e, i, shape)
            start = e.mul(chunk, CHUNK)
            stop = e.smaller(e.add(start, CHUNK), sizes[-1])
            offset = e.add(0, *map(e.mul, outer, strides))
            row = e.at(e.pointer(0), offset, one)
            zero = e.const(one, 0)
            if not self.contiguous:
                e.each(start, stop, lambda j: e.store(zero, e.at(row, e.mul(j, strides[-1]), one)))
                return
            full = e.b.sub(stop, e.b.urem(e.b.sub(stop, start), e.index(lanes)))
            e.each(start, full, lambda j: e.store(zeros, e.at(row, j, one)), lanes)
            e.each(full, stop, lambda j: e.store(zero, e.at(row, j, one)))

        total = e.index(1)
        for n in shape:
            total = e.mul(total, n)
        e.each(*e.share(total), item)


def fill_zero(target: Target, dtype: DType, shape: tuple[int, ...], y: View) -> list[Step]:
    """y[*shape] = 0. No element of the view may stand twice."""
    if 0 in shape:
        return []
    offset = y.offset
    axes: list[tuple[int, int]] = []  # (size, stride), largest stride first
    for size, stride in zip(shape, y.strides, strict=True):
        offset += min(0, stride) * (size - 1)
        if size > 1:
            axes.append((size, abs(stride)))
    axes.sort(key=lambda a: -a[1])
    merged: list[tuple[int, int]] = []
    for size, stride in axes:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    merged = merged or [(1, 1)]
    kernel = Fill(dtype, len(merged), merged[-1][1] == 1)
    words: list[Word] = [At(y.buffer, offset * dtype.itemsize)]
    words += [n for axis in merged for n in axis]
    small = prod(shape) * dtype.itemsize < 1 << 14
    return [Step(kernel, tuple(words), (y.buffer,), "fill", single=small)]
