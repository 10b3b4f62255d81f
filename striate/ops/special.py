"""Functions of one or two numbers beyond `functions`: erf, sigmoid, logaddexp, hypot, signs.

erf is W. J. Cody's rational Chebyshev approximation (Math. Comp. 23, 1969), with y = |x|:

    erf(y)  = y R(y^2)                                 y <= 0.5
    erfc(y) = exp(-y^2) R(y)                           0.5 < y <= 4
    erfc(y) = exp(-y^2)/y (1/sqrt(pi) - y^-2 R(y^-2))  4 < y

in float64 with a relative error below 1e-15; narrower types are rounded from it.
"""

from __future__ import annotations

import math

import numpy as np

from striate.dtype import compute_dtype
from striate.ir.graph import Node, Value
from striate.ops.elementwise import (
    add,
    aligned,
    boolean,
    cast,
    divide,
    equal,
    floating,
    greater,
    isinf,
    logical_and,
    multiply,
    nary,
    pointwise,
    same,
    subtract,
    where,
)
from striate.ops.functions import abs, exp, log1p
from striate.ops.operand import Operand

# ---- erf -----------------------------------------------------------------------------------

# Numerator and denominator from the highest power down, as Cody lists them for calerf.
_SMALL = (
    (
        1.85777706184603153e-1, 3.16112374387056560e00, 1.13864154151050156e02,
        3.77485237685302021e02, 3.20937758913846947e03,
    ),
    (
        1.0, 2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03,
        2.84423683343917062e03,
    ),
)  # fmt: skip
_MIDDLE = (
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e00,
        6.61191906371416295e01, 2.98635138197400131e02, 8.81952221241769090e02,
        1.71204761263407058e03, 2.05107837782607147e03, 1.23033935479799725e03,
    ),
    (
        1.0, 1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02,
        1.62138957456669019e03, 3.29079923573345963e03, 4.36261909014324716e03,
        3.43936767414372164e03, 1.23033935480374942e03,
    ),
)  # fmt: skip
_LARGE = (
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
        1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (
        1.0, 2.56852019228982242e00, 1.87295284992346725e00, 5.27905102951428412e-1,
        6.05183413124413191e-2, 2.33520497626869185e-3,
    ),
)  # fmt: skip
_LAST = 6.0  # erf(6) is 1 in float64
_PIECES = ((0.5, _SMALL), (4.0, _MIDDLE), (_LAST, _LARGE))


def _erf_piece(y: Value, piece: int) -> Value:
    numerator, denominator = _PIECES[piece][1]
    t = y if piece == 1 else y * y if piece == 0 else 1 / (y * y)
    ratio = np.polyval(numerator, t) / np.polyval(denominator, t)
    if piece == 0:
        return np.asarray(y * ratio)
    if piece == 2:
        ratio = (1 / math.sqrt(math.pi) - t * ratio) / y
    return np.asarray(1 - np.exp(-y * y) * ratio)


def _erf(x: Value) -> Value:
    y = np.abs(x.astype(np.float64)).ravel()
    out = np.where(np.isnan(y), y, 1.0)
    lo = -1.0
    for piece, (hi, _) in enumerate(_PIECES):
        inside = (y > lo) & (y <= hi)
        out[inside] = _erf_piece(y[inside], piece)
        lo = hi
    return np.copysign(out.reshape(x.shape), x).astype(x.dtype)


ERF = pointwise(
    "erf",
    _erf,
    same("erf", "f"),
    lambda y, x: (multiply(2 / math.sqrt(math.pi), exp(multiply(-1.0, multiply(x, x)))),),
)


def erf(x: Operand) -> Node:
    """The error function: 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Method: W. J. Cody, "Rational Chebyshev approximations for the error function" (1969).

    >>> st.erf(np.float64([0.5])).numpy()
    array([0.52049988])
    """
    return floating(ERF, x)


# ---- sigmoid and logaddexp -----------------------------------------------------------------


def _sigmoid(x: Value) -> Value:
    e = np.exp(-np.abs(x))  # at most 1
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


SIGMOID = pointwise(
    "sigmoid", _sigmoid, same("sigmoid", "f"), lambda y, x: (multiply(y, subtract(1.0, y)),)
)


def sigmoid(x: Operand) -> Node:
    """1 / (1 + exp(-x)), without overflow.

    >>> st.sigmoid(np.float32([-1000, 0, 1000])).numpy()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return floating(SIGMOID, x)


def soft_maximum(x: Node, y: Operand) -> Node:
    """log(exp(x) + exp(y)) where x and y are not the same infinity.

    Each branch is smooth up to and with its end, so derivatives of any order are right at x == y.
    """
    above = greater(x, y)
    distance = where(above, subtract(y, x), subtract(x, y))  # <= 0
    return add(where(above, x, y), log1p(exp(distance)))


def logaddexp(x: Operand, y: Operand) -> Node:
    """log(exp(x) + exp(y)), without overflow.

    >>> round(st.logaddexp(np.float64(1000), np.float64(1000)).item(), 3)
    1000.693
    """
    x, y = aligned("logaddexp", x, y, to_float=True)
    dtype = x.type.dtype
    x, y = cast(x, compute_dtype(dtype)), cast(y, compute_dtype(dtype))
    infinite = logical_and(equal(x, y), isinf(x))  # inf - inf must not reach a derivative
    finite = soft_maximum(where(infinite, 0, x), where(infinite, 0, y))
    return cast(where(infinite, x, finite), dtype)


# ---- lengths and signs ---------------------------------------------------------------------


def _by_length(out: Node, x: Node) -> Node:
    return divide(x, where(equal(out, 0), 1, out))


HYPOT = pointwise(
    "hypot",
    np.hypot,
    same("hypot", "f"),
    lambda out, x, y: (_by_length(out, x), _by_length(out, y)),
)
SIGNBIT = pointwise("signbit", np.signbit, boolean("signbit", "f"))


def hypot(x: Operand, y: Operand) -> Node:
    """sqrt(x^2 + y^2), without overflow; its derivative at the origin is 0.

    >>> st.hypot(np.float32(3), np.float32(4)).item()
    5.0
    """
    return nary(HYPOT, x, y, to_float=True)


def signbit(x: Operand) -> Node:
    """True where the sign of x is minus: of -0.0 too.

    >>> st.signbit(np.float32([-0.0, 0.0])).numpy()
    array([ True, False])
    """
    return floating(SIGNBIT, x)


def copysign(x: Operand, y: Operand) -> Node:
    """|x| with the sign of y; constant in y, and with derivative 0 at x = 0.

    >>> st.copysign(np.float32(2), np.float32(-0.0)).item()
    -2.0
    """
    x, y = aligned("copysign", x, y, to_float=True)
    return multiply(abs(x), where(signbit(y), -1, 1))
