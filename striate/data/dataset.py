"""Datasets: anything with `len` and `data[i] -> (x, y)`.

A dataset that can also give many samples at once has `take(indices)`; the loader uses it.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError

from .files import Array

Batch: TypeAlias = tuple[Array, Array]


@runtime_checkable
class Dataset(Protocol):
    """What the loader needs: a length, and samples `(x: dtype[C, H, W], y: int or array)`.

    >>> class Ramp:
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, i):
    ...         return np.full((1, 2, 2), i, np.uint8), i
    >>> isinstance(Ramp(), Dataset)
    True
    """

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> tuple[Any, Any]: ...


class ArrayDataset:
    """Samples held in two arrays: `x: dtype[N, ...]`, `y: dtype[N, ...]`.

    Integer labels of rank 1 become i64[N]; other targets stay as they are. `classes` are the names
    of the labels. Nothing is copied where the types fit. Raises ShapeError where the two lengths
    differ or an array has no axis.

    >>> data = ArrayDataset(np.zeros((3, 1, 8, 8), np.uint8), [0, 1, 0], classes=["cat", "dog"])
    >>> len(data), data[1][1], data.take([2, 0])[0].shape
    (3, 1, (2, 1, 8, 8))
    """

    def __init__(self, x: ArrayLike, y: ArrayLike, *, classes: Sequence[str] | None = None) -> None:
        self.x: Array = np.asarray(x)
        self.y: Array = np.asarray(y)
        if self.x.ndim == 0 or self.y.ndim == 0 or len(self.x) != len(self.y):
            raise ShapeError(
                "ArrayDataset: x and y have one entry a sample along axis 0, "
                f"found x of shape {self.x.shape} and y of shape {self.y.shape}"
            )
        if self.y.ndim == 1 and self.y.dtype.kind in "iu":
            self.y = self.y.astype(np.int64, copy=False)
        self.classes: tuple[str, ...] | None = None if classes is None else tuple(classes)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int, /) -> tuple[Any, Any]:
        y = self.y[i]
        return self.x[i], int(y) if self.y.ndim == 1 and self.y.dtype.kind in "iu" else y

    def take(self, indices: ArrayLike) -> Batch:
        """`(x[indices], y[indices])`, copied; raises IndexError for an index out of range."""
        ids = np.asarray(indices, np.intp)
        return self.x[ids], self.y[ids]

    def __repr__(self) -> str:
        return (
            f"ArrayDataset(x: {self.x.dtype}{list(self.x.shape)}, y: {self.y.dtype}"
            f"{list(self.y.shape)})"
        )


class Subset:
    """The samples of `base` at `indices`, in that order; raises IndexError out of range.

    >>> data = ArrayDataset(np.zeros((9, 1, 2, 2), np.uint8), np.arange(9))
    >>> part = Subset(data, range(0, 9, 4))
    >>> len(part), part[2][1]
    (3, 8)
    """

    def __init__(self, base: Dataset, indices: ArrayLike) -> None:
        self.base = base
        self.indices = np.asarray(indices, np.int64).reshape(-1)
        wrong = (self.indices < 0) | (self.indices >= len(base))
        if wrong.any():
            raise IndexError(
                f"Subset: indices are in 0..{len(base) - 1}, found {self.indices[wrong][0]}"
            )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the labels, where the base knows them."""
        return getattr(self.base, "classes", None)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int, /) -> tuple[Any, Any]:
        return self.base[int(self.indices[i])]


def unwrap(data: Dataset, indices: Array) -> tuple[Dataset, Array]:
    """The dataset under any Subsets, and the indices there: i64[B] -> i64[B]."""
    while isinstance(data, Subset):
        indices = data.indices[indices]
        data = data.base
    return data, indices


def collate(indices: Sequence[int], samples: Sequence[tuple[Any, Any]]) -> Batch:
    """Stack samples: `x: dtype[N, ...]`, `y: i64[N]` for integer labels, else `dtype[N, ...]`.

    Raises ShapeError that names two samples whose shapes or types differ.

    >>> x, y = collate([0, 1], [(np.zeros((1, 4, 4)), 3), (np.ones((1, 4, 4)), 5)])
    >>> x.shape, y
    ((2, 1, 4, 4), array([3, 5]))
    """
    xs = [np.asarray(x) for x, _ in samples]
    ys = [np.asarray(y) for _, y in samples]
    for what, arrays in (("x", xs), ("y", ys)):
        for i, array in zip(indices, arrays, strict=True):
            if array.shape != arrays[0].shape or array.dtype != arrays[0].dtype:
                raise ShapeError(
                    f"collate: the samples of a batch have one shape and type, found {what} of "
                    f"{arrays[0].dtype}{list(arrays[0].shape)} at {indices[0]} and "
                    f"{array.dtype}{list(array.shape)} at {i}; resize or crop in sample_transform"
                )
    y = np.stack(ys)
    if y.ndim == 1 and y.dtype.kind in "iu":
        y = y.astype(np.int64, copy=False)
    return np.stack(xs), y
