"""The type of a value in a graph: shape and dtype, and the rules of broadcasting."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from striate.dtype import DType
from striate.errors import RangeError, ShapeError

MAX_BYTES = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape and dtype.

    Raises:
        ShapeError: a size is negative.
        RangeError: the value would need more than 2**63 - 1 bytes.

    >>> from striate.dtype import float32
    >>> TensorType((8, 3, 32, 32), float32)
    f32[8,3,32,32]
    """

    shape: tuple[int, ...]
    dtype: DType
    size: int = field(init=False, repr=False, compare=False)  # elements

    def __post_init__(self) -> None:
        if self.shape and min(self.shape) < 0:
            raise ShapeError(f"shape: sizes must be >= 0, got {self.shape}")
        object.__setattr__(self, "size", math.prod(self.shape))
        if self.nbytes > MAX_BYTES:
            raise RangeError(
                f"shape: {self} needs {self.nbytes} bytes; the limit is {MAX_BYTES} (2**63 - 1)"
            )

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a dense value."""
        return self.size * self.dtype.itemsize

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        """The same dtype with another shape."""
        return TensorType(shape, self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same shape with another dtype."""
        return TensorType(self.shape, dtype)

    def __repr__(self) -> str:
        return f"{self.dtype.short}[{','.join(map(str, self.shape))}]"


def broadcast_shapes(op: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape under NumPy's rule: axes align at the right, 1 stretches.

    Raises:
        ShapeError: two sizes differ and neither is 1.

    >>> broadcast_shapes("add", (8, 1, 3), (5, 1))
    (8, 5, 3)
    """
    rank = max((len(s) for s in shapes), default=0)
    out = [1] * rank
    for shape in shapes:
        for axis, n in enumerate(shape, start=rank - len(shape)):
            if out[axis] == 1:
                out[axis] = n
            elif n not in (1, out[axis]):
                listed = " and ".join(map(str, shapes))
                raise ShapeError(
                    f"{op}: shapes {listed} do not broadcast: axis {axis - rank} has sizes "
                    f"{out[axis]} and {n}; sizes must be equal or 1"
                )
    return tuple(out)


def normalize_axis(op: str, axis: int, ndim: int) -> int:
    """`axis` counted from the front.

    Raises:
        ShapeError: it is outside [-ndim, ndim).
    """
    if not -ndim <= axis < ndim:
        raise ShapeError(f"{op}: axis {axis} is out of range for {ndim} axes")
    return axis % ndim


def normalize_axes(
    op: str, axis: int | tuple[int, ...] | list[int] | None, ndim: int
) -> tuple[int, ...]:
    """Axes counted from the front, sorted; None is all of them.

    Raises:
        ShapeError: an axis is out of range or named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = tuple(sorted(normalize_axis(op, a, ndim) for a in given))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: axis {given} names an axis twice")
    return axes
