"""Arithmetic on elements, and casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import striate as st
from striate.core.array import Array
from striate.errors import DTypeError
from striate.onnx.registry import Call, operator, unary

_VARIADIC: dict[str, Callable[[Array, Array], Array]] = {
    "Max": st.maximum, "Min": st.minimum, "Sum": st.add,
}  # fmt: skip

unary({
    "Abs": st.abs, "Acos": st.acos, "Acosh": st.acosh, "Asin": st.asin, "Asinh": st.asinh,
    "Atan": st.atan, "Atanh": st.atanh, "Ceil": st.ceil, "Cos": st.cos, "Cosh": st.cosh,
    "Erf": st.erf, "Exp": st.exp, "Floor": st.floor, "Log": st.log, "Neg": st.negative,
    "Reciprocal": st.reciprocal, "Round": st.round, "Sign": st.sign, "Sin": st.sin,
    "Sinh": st.sinh, "Sqrt": st.sqrt, "Tan": st.tan, "Tanh": st.tanh,
})  # fmt: skip


def _enter_table() -> None:
    def variadic(fn: Callable[[Array, Array], Array]) -> Callable[..., Array]:
        return lambda node, x, *xs: reduce(fn, xs, x)

    for name, pair in _VARIADIC.items():
        operator(name)(variadic(pair))


_enter_table()


def old_broadcast(node: Call, x: Array, y: Array) -> Array:
    """Before opset 7, `y` may be aligned with the axes of x from `axis` on."""
    if node.opset >= 7 or not node.int("broadcast", 0):
        return y
    axis = node.int("axis", x.ndim - y.ndim)
    return y.reshape(*y.shape, *(1,) * (x.ndim - y.ndim - axis))


@operator("Add")
def add(node: Call, x: Array, y: Array) -> Array:
    return x + old_broadcast(node, x, y)


@operator("Sub")
def sub(node: Call, x: Array, y: Array) -> Array:
    return x - old_broadcast(node, x, y)


@operator("Mul")
def mul(node: Call, x: Array, y: Array) -> Array:
    return x * old_broadcast(node, x, y)


@operator("Div")
def div(node: Call, x: Array, y: Array) -> Array:
    """Of integers, the quotient is cut towards 0."""
    y = old_broadcast(node, x, y)
    if x.dtype.is_floating:
        return x / y
    quotient = x // y
    up = (quotient * y != x) & ((x < 0) ^ (y < 0))
    return quotient + up.astype(quotient.dtype)


@operator("Mod")
def mod(node: Call, x: Array, y: Array) -> Array:
    """The remainder has the sign of y; with fmod=1, that of x."""
    if not node.int("fmod", 0):
        return x % y
    rest = st.abs(x) % st.abs(y)
    return st.where(x < 0, -rest, rest) if x.dtype.kind != "u" else rest


@operator("Pow")
def pow(node: Call, x: Array, y: Array) -> Array:
    """In the dtype of x."""
    y = old_broadcast(node, x, y)
    if x.dtype.is_floating or y.dtype.is_floating:
        common = x.dtype if x.dtype.is_floating else y.dtype
        return st.pow(x.astype(common), y.astype(common)).astype(x.dtype)
    return st.pow(x, y).astype(x.dtype)


@operator("Mean")
def mean(node: Call, x: Array, *xs: Array) -> Array:
    return reduce(st.add, xs, x) / (1 + len(xs))


@operator("BitShift")
def bit_shift(node: Call, x: Array, y: Array) -> Array:
    """Bits that leave are lost, so a shift by the width or more gives 0."""
    direction = node.string("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise DTypeError(f"direction must be LEFT or RIGHT, got {direction!r}")
    if not x.dtype.is_integer or x.dtype.bits > 32:
        raise DTypeError(f"shifts integers of at most 32 bits, got {x.type}")
    bits = x.dtype.bits
    power = st.pow(st.full((), 2, "int64"), st.clip(y.astype("int64"), 0, bits))
    wide = x.astype("int64")
    if direction == "RIGHT":
        return (wide // power).astype(x.dtype)
    return (wide * power).astype(x.dtype)
