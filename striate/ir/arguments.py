"""Arguments that are integers: what counts as one, and what is said of one that is not.

Python and NumPy integers and integer arrays without axes are integers; bools, floats and strings
are not, even where Python would take them for one.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable

from striate.errors import DTypeError, RangeError, ShapeError

LIMIT = 2**63 - 1


def as_integer(value: object) -> int | None:
    """A Python int for an integer, None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or getattr(value, "ndim", None):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def integer(op: str, name: str, value: object, least: int | None = None) -> int:
    """A Python int for an integer.

    Raises:
        DTypeError: it is not an integer.
        ShapeError: it is less than `least`.
        RangeError: it is beyond 64-bit signed integers.
    """
    number = as_integer(value)
    if number is None:
        raise DTypeError(f"{op}: {name} must be an integer, got {value!r}")
    if least is not None and number < least:
        raise ShapeError(f"{op}: {name} must be >= {least}, got {number}")
    if abs(number) > LIMIT:
        raise RangeError(f"{op}: {name} {number} is beyond the limit {LIMIT} (2**63 - 1)")
    return number


def integers(op: str, name: str, values: object, least: int | None = None) -> tuple[int, ...]:
    """Python ints for several integers.

    Raises:
        DTypeError: `values` is not a sequence of integers.
        ShapeError: one is less than `least`.
        RangeError: one is beyond 64-bit signed integers.
    """
    if type(values) is tuple and least is None and all(map(_plain, values)):  # nearly always
        return values
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise DTypeError(f"{op}: {name} must be integers, got {values!r}")
    return tuple(integer(op, name, v, least) for v in values)


def _plain(value: object) -> bool:
    return type(value) is int and -LIMIT <= value <= LIMIT


def pair(op: str, name: str, value: object) -> tuple[int, int]:
    """Two Python ints, as (lo, hi).

    Raises:
        DTypeError: `value` is not a sequence of integers.
        ShapeError: there are not two.
        RangeError: one is beyond 64-bit signed integers.
    """
    both = integers(op, name, value)
    if len(both) != 2:
        raise ShapeError(f"{op}: {name} must be a pair (lo, hi), got {value!r}")
    return both[0], both[1]
