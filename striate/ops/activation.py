"""Activations: the nonlinearities between layers, composed of elementwise ops.

They are selections (relu and its kin) or gates x * s(x) (silu, gelu, mish, hardswish), with the
values and one-sided derivatives of PyTorch. NaN stays NaN; -inf times a gate of 0 is NaN, as IEEE
says. A branch that is not taken is fed what keeps it and its derivatives finite. bfloat16 is
widened to float32 for the whole formula and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Literal, ParamSpec

from striate.dtype import bfloat16, compute_dtype, float32, promote
from striate.errors import ShapeError
from striate.ir.graph import Node
from striate.ir.types import normalize_axis
from striate.ops.elementwise import (
    add,
    cast,
    divide,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    multiply,
    negative,
    subtract,
    where,
)
from striate.ops.functions import abs, expm1, tanh
from striate.ops.movement import reshape, slice_axes
from striate.ops.operand import Operand, as_node, as_number
from striate.ops.special import erf, sigmoid, soft_maximum

P = ParamSpec("P")


def _computed_wide(
    fn: Callable[Concatenate[Node, P], Node],
) -> Callable[Concatenate[Operand, P], Node]:
    """`fn`, with integers taken as float32, and bfloat16 as float32 that is rounded at the end."""

    @wraps(fn)
    def run(x: Operand, /, *args: P.args, **kwargs: P.kwargs) -> Node:
        x = as_node(x)
        dtype = x.type.dtype
        y = fn(cast(x, compute_dtype(dtype) if dtype.is_floating else float32), *args, **kwargs)
        return cast(y, dtype) if dtype is bfloat16 else y

    return run


# ---- selections ----------------------------------------------------------------------------


def relu(x: Operand) -> Node:
    """max(x, 0); its derivative at 0 is 0.

    >>> st.relu(np.float32([-1, 0, 2])).numpy()
    array([0., 0., 2.], dtype=float32)
    """
    x = as_node(x)
    return where(less_equal(x, 0), 0, x)


def hardtanh(x: Operand, lo: float = -1.0, hi: float = 1.0) -> Node:
    """`x` limited to [lo, hi]; its derivative at the ends is 0 (that of `clip` is 1).

    Raises:
        ShapeError: lo > hi.

    >>> st.hardtanh(np.float32([-3, 0.5, 3])).numpy()
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    if lo > hi:
        raise ShapeError(f"hardtanh: lo must be at most hi, got {lo} and {hi}")
    x = as_node(x)
    return where(less_equal(x, lo), lo, where(greater_equal(x, hi), hi, x))


def relu6(x: Operand) -> Node:
    """min(max(x, 0), 6); its derivative at 0 and 6 is 0."""
    return hardtanh(x, 0, 6)


def clip(x: Operand, min: Operand | None = None, max: Operand | None = None) -> Node:
    """`x` limited to [min, max]; its derivative at the ends is 1.

    Args:
        x: any shape.
        min, max: numbers or arrays that broadcast with `x`; None is no limit. Where min > max
            the result is max.

    Raises:
        ShapeError: shapes do not broadcast.

    >>> st.clip(np.arange(5), 1, 3).numpy()
    array([1, 1, 2, 3, 3])
    """
    y = as_node(x)
    for limit, outside in ((min, less), (max, greater)):
        if limit is not None:
            y = where(outside(y, limit), limit, _unless_nan(limit, y))
    return y


def _unless_nan(limit: Operand, x: Node) -> Node:
    """`x`, but NaN where the limit is."""
    number = as_number(limit)
    if number is not None and not math.isnan(number):
        return x
    limit = as_node(limit)
    return where(equal(limit, limit), x, limit) if limit.type.dtype.is_floating else x


def threshold(x: Operand, threshold: float, value: float) -> Node:
    """`x` where it is above the threshold, else `value`.

    >>> st.threshold(np.float32([0.5, 2]), 1.0, 9.0).numpy()
    array([9., 2.], dtype=float32)
    """
    x = as_node(x)
    return where(less_equal(x, threshold), value, x)


@_computed_wide
def hardshrink(x: Node, lambd: float = 0.5) -> Node:
    """`x` where it is outside [-lambd, lambd], else 0."""
    return where(less_equal(abs(x), lambd), 0, x)


@_computed_wide
def softshrink(x: Node, lambd: float = 0.5) -> Node:
    """`x` moved towards 0 by lambd, and 0 where it would pass it.

    Raises:
        ShapeError: lambd < 0.
    """
    if lambd < 0:
        raise ShapeError(f"softshrink: lambd must be >= 0, got {lambd}")
    below = where(less(x, -lambd), add(x, lambd), where(equal(x, x), 0, x))
    return where(greater(x, lambd), subtract(x, lambd), below)


@_computed_wide
def leaky_relu(x: Node, negative_slope: float = 0.01) -> Node:
    """`x` where it is positive, else negative_slope * x.

    Method: Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic models"
    (2013).
    """
    return where(greater(x, 0), x, multiply(x, negative_slope))


def prelu(x: Operand, w: Operand) -> Node:
    """`x` where it is positive, else w * x, with a slope per channel.

    Args:
        x: [N, C, *I].
        w: [C], or one number for all channels.

    Raises:
        ShapeError: w has not one value, nor one for each channel of x.

    Method: He, Zhang, Ren & Sun, "Delving deep into rectifiers" (2015).
    """
    x = as_node(x)
    w = as_node(w, x.type.dtype)
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.ndim > 1 or w.type.size not in (1, channels):
        raise ShapeError(f"prelu: w must be [1] or [{channels}] for x {x.type}, got {w.type}")
    if w.type.size == channels and x.ndim > 1:
        w = reshape(w, (channels, *[1] * (x.ndim - 2)))
    elif w.ndim:
        w = reshape(w, ())
    dtype = promote(x.type.dtype, w.type.dtype)
    dtype = dtype if dtype.is_floating else float32
    x, w = cast(x, compute_dtype(dtype)), cast(w, compute_dtype(dtype))
    return cast(where(greater(x, 0), x, multiply(w, x)), dtype)


# ---- exponentials --------------------------------------------------------------------------


@_computed_wide
def elu(x: Node, alpha: float = 1.0) -> Node:
    """`x` where it is positive, else alpha * (exp(x) - 1).

    Method: Clevert, Unterthiner & Hochreiter, "Fast and accurate deep network learning by
    exponential linear units" (2016).
    """
    positive = greater(x, 0)
    return where(positive, x, multiply(alpha, expm1(where(positive, 0, x))))


@_computed_wide
def celu(x: Node, alpha: float = 1.0) -> Node:
    """`x` where it is positive, else alpha * (exp(x / alpha) - 1).

    Raises:
        ShapeError: alpha is 0.
    """
    if alpha == 0:
        raise ShapeError("celu: alpha must not be 0")
    positive = greater(x, 0)
    return where(positive, x, multiply(alpha, expm1(divide(where(positive, 0, x), alpha))))


SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@_computed_wide
def selu(x: Node) -> Node:
    """SELU_SCALE * elu(x, SELU_ALPHA), which keeps mean 0 and variance 1 through the layers.

    Method: Klambauer, Unterthiner, Mayr & Hochreiter, "Self-normalizing neural networks" (2017).
    """
    return multiply(SELU_SCALE, elu(x, SELU_ALPHA))


@_computed_wide
def softplus(x: Node, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """log(1 + exp(beta * x)) / beta; `x` itself where beta * x > threshold.

    >>> st.softplus(np.float32([-1000, 0, 1000])).numpy()
    array([0.000000e+00, 6.931472e-01, 1.000000e+03], dtype=float32)
    """
    scaled = multiply(x, beta)
    return where(greater(scaled, threshold), x, divide(soft_maximum(scaled, 0), beta))


@_computed_wide
def log_sigmoid(x: Node) -> Node:
    """log(sigmoid(x)) = -log(1 + exp(-x)), without overflow."""
    return negative(soft_maximum(negative(x), 0))


@_computed_wide
def tanhshrink(x: Node) -> Node:
    """x - tanh(x)."""
    return subtract(x, tanh(x))


@_computed_wide
def softsign(x: Node) -> Node:
    """x / (1 + |x|)."""
    return divide(x, add(1, abs(x)))


# ---- gates: x * s(x) -----------------------------------------------------------------------


@_computed_wide
def silu(x: Node) -> Node:
    """x * sigmoid(x), also known as swish.

    Method: Elfwing, Uchibe & Doya, "Sigmoid-weighted linear units" (2018).
    """
    return multiply(x, sigmoid(x))


@_computed_wide
def mish(x: Node) -> Node:
    """x * tanh(softplus(x)).

    Method: Misra, "Mish: a self regularized non-monotonic activation function" (2020).
    """
    return multiply(x, tanh(softplus(x)))


@_computed_wide
def gelu(x: Node, approximate: Literal["none", "tanh"] = "none") -> Node:
    """x times the normal distribution function of x.

    Args:
        x: any shape.
        approximate: `"none"` is exact, x/2 * (1 + erf(x / sqrt(2))); `"tanh"` is
            x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).

    Raises:
        ShapeError: `approximate` is another string.

    Method: Hendrycks & Gimpel, "Gaussian error linear units" (2016).

    >>> st.gelu(np.float64([1.0])).numpy()
    array([0.84134475])
    """
    if approximate == "none":
        s = erf(multiply(x, math.sqrt(0.5)))
    elif approximate == "tanh":
        cubic = add(x, multiply(0.044715, multiply(x, multiply(x, x))))
        s = tanh(multiply(math.sqrt(2 / math.pi), cubic))
    else:
        raise ShapeError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return multiply(multiply(0.5, x), add(1, s))


@_computed_wide
def hardsigmoid(x: Node) -> Node:
    """relu6(x + 3) / 6."""
    return divide(relu6(add(x, 3)), 6)


@_computed_wide
def hardswish(x: Node) -> Node:
    """x * relu6(x + 3) / 6.

    Method: Howard et al., "Searching for MobileNetV3" (2019).
    """
    return divide(multiply(x, relu6(add(x, 3))), 6)


@_computed_wide
def glu(x: Node, axis: int = -1) -> Node:
    """The first half of an axis times the sigmoid of the second: [*A, 2n, *B] -> [*A, n, *B].

    Raises:
        ShapeError: the axis is of odd size.

    Method: Dauphin, Fan, Auli & Grangier, "Language modeling with gated convolutional networks"
    (2017).
    """
    axis = normalize_axis("glu", axis, x.ndim)
    n, odd = divmod(x.shape[axis], 2)
    if odd:
        raise ShapeError(f"glu: axis {axis} must be of even size, got {x.type}")
    index = [slice(None)] * x.ndim
    halves = []
    for half in (slice(0, n), slice(n, 2 * n)):
        index[axis] = half
        halves.append(slice_axes(x, index))
    return multiply(halves[0], sigmoid(halves[1]))
