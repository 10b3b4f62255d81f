"""Comparison, logic and bits."""

from __future__ import annotations

from collections.abc import Callable

import striate as st
from striate.core.array import Array
from striate.onnx.operators.arithmetic import old_broadcast
from striate.onnx.registry import Call, operator, unary

_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "And": st.logical_and, "Or": st.logical_or, "Xor": st.logical_xor,
    "Equal": st.equal, "Less": st.less, "LessOrEqual": st.less_equal,
    "Greater": st.greater, "GreaterOrEqual": st.greater_equal,
    "BitwiseAnd": st.bitwise_and, "BitwiseOr": st.bitwise_or, "BitwiseXor": st.bitwise_xor,
}  # fmt: skip


def _enter_table() -> None:
    def binary(fn: Callable[[Array, Array], Array]) -> Callable[[Call, Array, Array], Array]:
        return lambda node, x, y: fn(x, old_broadcast(node, x, y))

    for name, fn in _BINARY.items():
        operator(name)(binary(fn))


_enter_table()
unary({"BitwiseNot": st.bitwise_invert, "IsNaN": st.isnan, "Not": st.logical_not})


@operator("Where")
def where(node: Call, condition: Array, x: Array, y: Array) -> Array:
    return st.where(condition, x, y)


@operator("IsInf")
def is_inf(node: Call, x: Array) -> Array:
    found = st.isinf(x)
    if not node.int("detect_positive", 1):
        found = found & (x < 0)
    if not node.int("detect_negative", 1):
        found = found & (x > 0)
    return found
