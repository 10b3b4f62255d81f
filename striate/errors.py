"""The exceptions that striate raises on bad input.

Every message names the op, the rule that was broken, both numbers (or types), and a hint if there
is one. All of them are subclasses of the builtin that a caller would expect to catch.
"""


class StriateError(Exception):
    """Base of every error that striate raises on purpose."""


class ShapeError(StriateError, ValueError):
    """Sizes, ranks, axes or window parameters do not fit together."""


class DTypeError(StriateError, TypeError):
    """An op does not accept this dtype, or two dtypes may not meet."""


class RangeError(StriateError, OverflowError):
    """A size or an index leaves the range of 64-bit signed integers."""


class TraceError(StriateError, RuntimeError):
    """A value was needed while a function is traced, when only shapes are known."""
