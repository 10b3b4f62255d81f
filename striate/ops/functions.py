"""Functions of one number (and powers): one row each, value and derivative."""

from __future__ import annotations

import math

import numpy as np

from striate.ir.graph import Node, apply
from striate.ops.elementwise import (
    Partial,
    add,
    divide,
    equal,
    floating,
    multiply,
    nary,
    negative,
    pointwise,
    same,
    subtract,
    where,
)
from striate.ops.operand import Operand, as_node, as_number

# ---- powers --------------------------------------------------------------------------------


def _pow_partials(out: Node, x: Node, y: Node) -> tuple[Partial, ...]:
    by_x = multiply(y, pow(x, subtract(y, 1)))
    by_y = where(equal(x, 0), 0.0, multiply(out, log(where(equal(x, 0), 1.0, x))))
    return where(equal(y, 0), 0.0, by_x), by_y


POW = pointwise("pow", np.power, same("pow", "iuf"), _pow_partials)


def pow(x: Operand, y: Operand) -> Node:
    """x to the power y."""
    return square(x) if as_number(y) == 2 else nary(POW, x, y)


# ---- functions of one number: name, value, dtypes, derivative (x: input, y: output) ----------

ABS = pointwise("abs", np.abs, same("abs", "iuf"), lambda y, x: (sign(x),))
SIGN = pointwise("sign", np.sign, same("sign", "iuf"))
EXP = pointwise("exp", np.exp, same("exp", "f"), lambda y, x: (y,))
EXPM1 = pointwise("expm1", np.expm1, same("expm1", "f"), lambda y, x: (add(y, 1.0),))
LOG = pointwise("log", np.log, same("log", "f"), lambda y, x: (divide(1.0, x),))
LOG1P = pointwise("log1p", np.log1p, same("log1p", "f"), lambda y, x: (divide(1.0, add(x, 1.0)),))
LOG2 = pointwise("log2", np.log2, same("log2", "f"), lambda y, x: (divide(1.0 / math.log(2.0), x),))
LOG10 = pointwise(
    "log10", np.log10, same("log10", "f"), lambda y, x: (divide(1.0 / math.log(10.0), x),)
)
SQRT = pointwise("sqrt", np.sqrt, same("sqrt", "f"), lambda y, x: (divide(0.5, y),))
RSQRT = pointwise(
    "rsqrt",
    lambda x: 1 / np.sqrt(x),
    same("rsqrt", "f"),
    lambda y, x: (multiply(-0.5, divide(y, x)),),
)
SQUARE = pointwise("square", np.square, same("square", "iuf"), lambda y, x: (multiply(2, x),))
RECIPROCAL = pointwise(
    "reciprocal", np.reciprocal, same("reciprocal", "f"), lambda y, x: (negative(multiply(y, y)),)
)
SIN = pointwise("sin", np.sin, same("sin", "f"), lambda y, x: (cos(x),))
COS = pointwise("cos", np.cos, same("cos", "f"), lambda y, x: (negative(sin(x)),))
TAN = pointwise("tan", np.tan, same("tan", "f"), lambda y, x: (add(1.0, multiply(y, y)),))
ASIN = pointwise(
    "asin", np.arcsin, same("asin", "f"), lambda y, x: (rsqrt(subtract(1.0, multiply(x, x))),)
)
ACOS = pointwise(
    "acos",
    np.arccos,
    same("acos", "f"),
    lambda y, x: (negative(rsqrt(subtract(1.0, multiply(x, x)))),),
)
ATAN = pointwise(
    "atan", np.arctan, same("atan", "f"), lambda y, x: (divide(1.0, add(1.0, multiply(x, x))),)
)
SINH = pointwise("sinh", np.sinh, same("sinh", "f"), lambda y, x: (cosh(x),))
COSH = pointwise("cosh", np.cosh, same("cosh", "f"), lambda y, x: (sinh(x),))
TANH = pointwise("tanh", np.tanh, same("tanh", "f"), lambda y, x: (subtract(1.0, multiply(y, y)),))
ASINH = pointwise(
    "asinh", np.arcsinh, same("asinh", "f"), lambda y, x: (rsqrt(add(1.0, multiply(x, x))),)
)
ACOSH = pointwise(
    "acosh", np.arccosh, same("acosh", "f"), lambda y, x: (rsqrt(subtract(multiply(x, x), 1.0)),)
)
ATANH = pointwise(
    "atanh",
    np.arctanh,
    same("atanh", "f"),
    lambda y, x: (divide(1.0, subtract(1.0, multiply(x, x))),),
)
FLOOR = pointwise("floor", np.floor, same("floor", "iuf"))
CEIL = pointwise("ceil", np.ceil, same("ceil", "iuf"))
TRUNC = pointwise("trunc", np.trunc, same("trunc", "iuf"))
ROUND = pointwise("round", np.round, same("round", "iuf"))


def abs(x: Operand) -> Node:
    """The absolute value; its derivative at 0 is 0."""
    return apply(ABS, (as_node(x),))


def sign(x: Operand) -> Node:
    """-1, 0 or 1; NaN stays NaN."""
    return apply(SIGN, (as_node(x),))


def exp(x: Operand) -> Node:
    """e to the power x."""
    return floating(EXP, x)


def expm1(x: Operand) -> Node:
    """exp(x) - 1, accurate near 0."""
    return floating(EXPM1, x)


def log(x: Operand) -> Node:
    """The natural logarithm."""
    return floating(LOG, x)


def log1p(x: Operand) -> Node:
    """log(1 + x), accurate near 0."""
    return floating(LOG1P, x)


def log2(x: Operand) -> Node:
    """The logarithm to base 2."""
    return floating(LOG2, x)


def log10(x: Operand) -> Node:
    """The logarithm to base 10."""
    return floating(LOG10, x)


def sqrt(x: Operand) -> Node:
    """The square root."""
    return floating(SQRT, x)


def rsqrt(x: Operand) -> Node:
    """1 / sqrt(x)."""
    return floating(RSQRT, x)


def square(x: Operand) -> Node:
    """x * x."""
    return apply(SQUARE, (as_node(x),))


def reciprocal(x: Operand) -> Node:
    """1 / x."""
    return floating(RECIPROCAL, x)


def sin(x: Operand) -> Node:
    """The sine of x radians."""
    return floating(SIN, x)


def cos(x: Operand) -> Node:
    """The cosine of x radians."""
    return floating(COS, x)


def tan(x: Operand) -> Node:
    """The tangent of x radians."""
    return floating(TAN, x)


def asin(x: Operand) -> Node:
    """The angle in [-pi/2, pi/2] whose sine is x."""
    return floating(ASIN, x)


def acos(x: Operand) -> Node:
    """The angle in [0, pi] whose cosine is x."""
    return floating(ACOS, x)


def atan(x: Operand) -> Node:
    """The angle in (-pi/2, pi/2) whose tangent is x."""
    return floating(ATAN, x)


def sinh(x: Operand) -> Node:
    """The hyperbolic sine."""
    return floating(SINH, x)


def cosh(x: Operand) -> Node:
    """The hyperbolic cosine."""
    return floating(COSH, x)


def tanh(x: Operand) -> Node:
    """The hyperbolic tangent."""
    return floating(TANH, x)


def asinh(x: Operand) -> Node:
    """The inverse of sinh."""
    return floating(ASINH, x)


def acosh(x: Operand) -> Node:
    """The inverse of cosh."""
    return floating(ACOSH, x)


def atanh(x: Operand) -> Node:
    """The inverse of tanh."""
    return floating(ATANH, x)


def floor(x: Operand) -> Node:
    """The largest integer at most x."""
    return apply(FLOOR, (as_node(x),))


def ceil(x: Operand) -> Node:
    """The smallest integer at least x."""
    return apply(CEIL, (as_node(x),))


def trunc(x: Operand) -> Node:
    """x without its fraction."""
    return apply(TRUNC, (as_node(x),))


def round(x: Operand) -> Node:
    """The nearest integer, halves to even."""
    return apply(ROUND, (as_node(x),))
