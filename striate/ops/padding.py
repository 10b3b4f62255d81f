"""Padding by mode: zeros, constant, reflect, symmetric, replicate (edge) or circular (wrap).

A mode other than a constant is an index map per axis: y[j] = x[map(j - lo)]. So it is `take`, and
its adjoint `put_add` folds the padding back onto the elements that it was copied from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from striate.errors import DTypeError, RangeError, ShapeError
from striate.ir.arguments import LIMIT, pair
from striate.ir.graph import Node
from striate.ops import movement
from striate.ops.index import put_add, take
from striate.ops.operand import Operand, as_node
from striate.target import memory_bytes

PadMode = Literal["zeros", "reflect", "replicate", "circular"]


def _source(op: str, n: int, lo: int, hi: int, mode: str) -> NDArray[np.int64]:
    """For each padded position, the element that stands there: i64[lo + n + hi].

    Raises:
        ShapeError: unknown mode; nothing to copy; a crop larger than the axis; reflection wider
            than n - 1, or wrapping wider than n.
        RangeError: a size beyond 2**63 - 1.
        MemoryError: the positions alone need more memory than the machine has.
    """
    limits = {"reflect": n - 1, "symmetric": n, "circular": n, "replicate": None}
    if not isinstance(mode, str) or mode not in limits:
        raise ShapeError(f"{op}: padding_mode {mode!r} is not 'zeros' or one of {sorted(limits)}")
    if n + lo + hi < 0:
        raise ShapeError(f"{op}: a crop of ({lo}, {hi}) is larger than the axis of {n}")
    if n == 0 and (lo > 0 or hi > 0):
        raise ShapeError(f"{op}: {mode} padding ({lo}, {hi}) of an axis of size 0 copies nothing")
    limit = limits[mode]
    if limit is not None and max(lo, hi) > limit:
        raise ShapeError(
            f"{op}: {mode} padding ({lo}, {hi}) must be at most {limit} for an axis of size {n}"
        )
    if max(abs(lo), abs(hi), n + max(lo, 0) + max(hi, 0)) > LIMIT // 2:
        raise RangeError(f"{op}: padding ({lo}, {hi}) of an axis of {n} is beyond 2**62")
    needed = 8 * (n + lo + hi)  # bytes of the positions alone
    if needed > memory_bytes():
        raise MemoryError(
            f"{op}: {mode} padding ({lo}, {hi}) of an axis of {n} needs {needed:,} bytes; this "
            f"machine has {memory_bytes():,}"
        )
    j = np.arange(-lo, n + hi, dtype=np.int64)
    if mode == "replicate":
        return np.clip(j, 0, max(n - 1, 0))
    if mode == "circular":
        return j % max(n, 1)
    if mode == "symmetric":
        return np.where(j < 0, -1 - j, np.where(j >= n, 2 * n - 1 - j, j))
    return np.where(j < 0, -j, np.where(j >= n, 2 * (n - 1) - j, j))


def pad_axis(op: str, x: Node, axis: int, lo: int, hi: int, mode: str) -> Node:
    """One axis padded by a mode that copies elements."""
    source = _source(op, x.shape[axis], lo, hi, mode)
    return take(x, source, axis) if lo or hi else x


def fold_axis(op: str, y: Node, axis: int, lo: int, hi: int, mode: str) -> Node:
    """The adjoint of `pad_axis`: [.., lo + n + hi, ..] -> [.., n, ..]."""
    n = y.shape[axis] - lo - hi
    source = _source(op, n, lo, hi, mode)
    return put_add(y, source, n, axis) if lo or hi else y


def pad(
    x: Operand, widths: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0
) -> Node:
    """`x` with more elements at both ends of its axes; negative widths crop.

    Args:
        x: any shape.
        widths: (lo, hi) per axis; fewer pairs are for the last axes.
        mode: `"constant"`, `"reflect"` (without the edge), `"symmetric"` (with the edge),
            `"replicate"` or `"circular"`.
        value: of the new elements, for `"constant"`.

    Raises:
        DTypeError: a width is not an integer, or `value` no number of the dtype of `x`.
        ShapeError: unknown mode, more pairs than axes, or widths too large for the mode.
        RangeError: sizes beyond 2**63 - 1.

    >>> st.pad(np.float32([1, 2, 3]), [(2, 1)], mode="reflect").numpy()
    array([3., 2., 1., 2., 3., 2.], dtype=float32)
    """
    x = as_node(x)
    if not isinstance(widths, Iterable):
        raise DTypeError(f"pad: widths must be pairs (lo, hi), got {widths!r}")
    given = [pair("pad", "widths", width) for width in widths]
    if len(given) > x.ndim:
        raise ShapeError(f"pad: {len(given)} pairs of widths for the {x.ndim} axes of {x.type}")
    pairs = [(0, 0)] * (x.ndim - len(given)) + given
    if mode in ("constant", "zeros"):
        return movement.pad(x, pairs, value)
    for axis, (lo, hi) in enumerate(pairs):
        x = pad_axis("pad", x, axis, lo, hi, mode)
    return x
