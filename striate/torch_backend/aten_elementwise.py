"""Rules of ATen's elementwise operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from striate.dtype import DType, bool_
from striate.ir.graph import Node
from striate.ops import activation, elementwise, functions, special
from striate.ops.operand import Operand, as_node
from striate.torch_backend.rules import Unsupported, arithmetic, rule, typed

Functions = dict[str, Callable[..., Node]]

_UNARY: Functions = {
    "abs": functions.abs, "acos": functions.acos, "acosh": functions.acosh,
    "asin": functions.asin, "asinh": functions.asinh, "atan": functions.atan,
    "atanh": functions.atanh, "ceil": functions.ceil, "cos": functions.cos,
    "cosh": functions.cosh, "erf": special.erf, "exp": functions.exp, "expm1": functions.expm1,
    "floor": functions.floor, "log": functions.log, "log10": functions.log10,
    "log1p": functions.log1p, "log2": functions.log2, "neg": elementwise.negative,
    "reciprocal": functions.reciprocal, "relu": activation.relu, "round": functions.round,
    "rsqrt": functions.rsqrt, "sigmoid": special.sigmoid, "sign": functions.sign,
    "sin": functions.sin, "sinh": functions.sinh, "sqrt": functions.sqrt, "tan": functions.tan,
    "tanh": functions.tanh, "trunc": functions.trunc,
}  # fmt: skip
for _name, _function in _UNARY.items():
    arithmetic(f"{_name}.default")(_function)

_PREDICATES: Functions = {
    "isnan": elementwise.isnan,
    "isinf": elementwise.isinf,
    "logical_not": elementwise.logical_not,
    "bitwise_not": elementwise.bitwise_invert,
}
for _name, _function in _PREDICATES.items():
    rule(f"{_name}.default")(_function)

_COMPARISONS: Functions = {
    "eq": elementwise.equal, "ne": elementwise.not_equal, "lt": elementwise.less,
    "le": elementwise.less_equal, "gt": elementwise.greater, "ge": elementwise.greater_equal,
}  # fmt: skip
for _name, _function in _COMPARISONS.items():
    rule(f"{_name}.Tensor", f"{_name}.Scalar")(_function)

_BINARY: Functions = {
    "maximum.default": elementwise.maximum, "minimum.default": elementwise.minimum,
    "atan2.default": elementwise.atan2, "hypot.default": special.hypot,
    "remainder.Tensor": elementwise.remainder, "remainder.Scalar": elementwise.remainder,
    "bitwise_and.Tensor": elementwise.bitwise_and, "bitwise_and.Scalar": elementwise.bitwise_and,
    "bitwise_or.Tensor": elementwise.bitwise_or, "bitwise_or.Scalar": elementwise.bitwise_or,
    "bitwise_xor.Tensor": elementwise.bitwise_xor, "bitwise_xor.Scalar": elementwise.bitwise_xor,
}  # fmt: skip
for _name, _function in _BINARY.items():
    arithmetic(_name)(_function)
for _name in ("and", "or", "xor"):
    rule(f"logical_{_name}.default")(getattr(elementwise, f"logical_{_name}"))


@arithmetic("mul.Tensor", "mul.Scalar")
def _mul(x: Operand, y: Operand) -> Node:
    if as_node(x).type.dtype is bool_:
        return elementwise.logical_and(x, y)
    return elementwise.multiply(x, y)


def _scaled(y: Operand, alpha: float) -> Operand:
    return y if alpha == 1 else elementwise.multiply(y, alpha)


@arithmetic("add.Tensor", "add.Scalar")
def _add(x: Operand, y: Operand, alpha: float = 1) -> Node:
    if as_node(x).type.dtype is bool_:
        return elementwise.logical_or(x, y)
    return elementwise.add(x, _scaled(y, alpha))


@arithmetic("sub.Tensor", "sub.Scalar")
def _sub(x: Operand, y: Operand, alpha: float = 1) -> Node:
    return elementwise.subtract(x, _scaled(y, alpha))


@arithmetic("div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode")
def _div(x: Operand, y: Operand, rounding_mode: str | None = None) -> Node:
    if rounding_mode == "floor":
        return elementwise.floor_divide(x, y)
    quotient = elementwise.divide(x, y)
    return functions.trunc(quotient) if rounding_mode == "trunc" else quotient


@arithmetic("fmod.Tensor", "fmod.Scalar")
def _fmod(x: Operand, y: Operand) -> Node:
    whole = functions.trunc(elementwise.divide(x, y))
    return elementwise.subtract(x, elementwise.multiply(whole, y))


_POWERS: dict[float, Callable[[Operand], Node]] = {
    2: functions.square,
    0.5: functions.sqrt,
    -0.5: functions.rsqrt,
}


@arithmetic("pow.Tensor_Scalar", "pow.Scalar", "pow.Tensor_Tensor")
def _pow(x: Operand, y: Operand) -> Node:
    if isinstance(y, int | float) and not isinstance(y, bool):
        if y == 1:
            return as_node(x)
        if y in _POWERS:
            return _POWERS[y](x)
        if y == 3:
            return elementwise.multiply(functions.square(x), x)
    return functions.pow(x, y)


@arithmetic("clamp.default", "clamp.Tensor", "clamp_min.default", "clamp_min.Tensor")
def _clamp(x: Node, min: Operand | None = None, max: Operand | None = None) -> Node:
    return activation.clip(x, min, max)


@arithmetic("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(x: Node, max: Operand) -> Node:
    return activation.clip(x, None, max)


@arithmetic("hardtanh.default")
def _hardtanh(x: Node, lo: float = -1.0, hi: float = 1.0) -> Node:
    return activation.hardtanh(x, lo, hi)


@arithmetic("leaky_relu.default")
def _leaky_relu(x: Node, negative_slope: float = 0.01) -> Node:
    return activation.leaky_relu(x, negative_slope)


@arithmetic("elu.default")
def _elu(x: Node, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Node:
    if input_scale != 1.0:
        raise Unsupported("elu: input_scale")
    y = activation.elu(x, alpha)
    return y if scale == 1.0 else elementwise.multiply(y, scale)


@arithmetic("gelu.default")
def _gelu(x: Node, approximate: Literal["none", "tanh"] = "none") -> Node:
    return activation.gelu(x, approximate)


_ACTIVATIONS: Functions = {
    "silu": activation.silu,
    "mish": activation.mish,
    "hardswish": activation.hardswish,
    "hardsigmoid": activation.hardsigmoid,
}
for _name, _function in _ACTIVATIONS.items():
    arithmetic(f"{_name}.default")(_function)


@typed("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(out: DType, condition: Node, x: Operand, y: Operand) -> Node:
    return elementwise.where(
        condition, *(elementwise.cast(v, out) if isinstance(v, Node) else v for v in (x, y))
    )


@typed("_to_copy.default")
def _to_copy(out: DType, x: Node, **options: object) -> Node:
    return elementwise.cast(x, out)


@rule("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(x: Node, mask: Node, value: Operand) -> Node:
    return elementwise.where(mask, value, x)


@rule("alias.default", "clone.default", "detach.default", "lift_fresh_copy.default")
def _same(x: Node, **options: object) -> Node:
    return x


@typed("prims.convert_element_type.default")
def _convert(out: DType, x: Node, dtype: DType) -> Node:
    return elementwise.cast(x, out)
