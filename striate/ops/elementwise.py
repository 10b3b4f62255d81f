"""Ops that act on each element alone: arithmetic, comparison, selection, casts, functions.

A differentiable op is one row: its NumPy function and its partial derivatives as graph
expressions, from which both vjp (g * partial) and jvp (sum of partial * tangent) follow.
Operands are promoted and broadcast by the functions; the ops themselves want equal types.
bfloat16 is storage: arithmetic on it is done in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from striate.dtype import DType, as_dtype, bool_, float32, promote
from striate.errors import DTypeError
from striate.ir.graph import Cotangents, Node, Op, Value, apply
from striate.ir.types import TensorType, broadcast_shapes
from striate.ops.movement import broadcast_to
from striate.ops.operand import Operand, as_node, as_number

Partial = Node | float | None  # the derivative by one input: an expression, a number, or zero
BFLOAT16 = as_dtype("bfloat16").numpy


# ---- the three ways to make an op ----------------------------------------------------------


def _in_float32(fn: Callable[..., Value]) -> Callable[..., Value]:
    """`fn`, with bfloat16 values widened before and the result rounded after."""

    def run(attrs: object, *xs: Value) -> Value:
        if all(x.dtype != BFLOAT16 for x in xs):
            return np.asarray(fn(*xs))
        wide = [x.astype(np.float32) if x.dtype == BFLOAT16 else x for x in xs]
        y = np.asarray(fn(*wide))
        return y.astype(BFLOAT16) if y.dtype == np.float32 else y

    return run


def _scaled(g: Node, p: Partial) -> Node | None:
    if p is None or p == 0:
        return None
    if isinstance(p, Node):
        return multiply(g, p)
    return g if p == 1 else negative(g) if p == -1 else multiply(g, p)


def pointwise(
    name: str,
    fn: Callable[..., Value],
    infer: Callable[..., TensorType],
    partials: Callable[..., tuple[Partial, ...]] | None = None,
) -> Op:
    """An op whose derivative is `partials(out, *inputs)`; without them it is locally constant."""
    if partials is None:
        return Op(name, infer, _in_float32(fn), elementwise=True)

    def vjp(attrs: object, g: Node, out: Node, *xs: Node) -> Cotangents:
        return tuple(_scaled(g, p) for p in partials(out, *xs))

    def jvp(attrs: object, tangents: Cotangents, out: Node, *xs: Node) -> Node | None:
        total: Node | None = None
        for t, p in zip(tangents, partials(out, *xs), strict=True):
            part = None if t is None else _scaled(t, p)
            if part is not None:
                total = part if total is None else add(total, part)
        return total

    return Op(name, infer, _in_float32(fn), vjp, jvp, elementwise=True)


def same(name: str, kinds: str) -> Callable[..., TensorType]:
    """Inputs of one type whose dtype is of these kinds; the output has it too."""

    def infer(attrs: object, *xs: TensorType) -> TensorType:
        for x in xs:
            if x != xs[0]:
                raise DTypeError(f"{name}: operands must have one type, got {xs[0]} and {x}")
        if xs[0].dtype.kind not in kinds:
            raise DTypeError(f"{name}: not defined on {xs[0]}; cast it first")
        return xs[0]

    return infer


def boolean(name: str, kinds: str = "biuf") -> Callable[..., TensorType]:
    """Like `same`, with a bool as output."""
    infer = same(name, kinds)
    return lambda attrs, *xs: infer(attrs, *xs).with_dtype(bool_)


def floating(op: Op, x: Operand) -> Node:
    """`op(x)`, with integers and bools taken as float32."""
    x = as_node(x)
    return apply(op, (x if x.type.dtype.is_floating else cast(x, float32),))


def nary(op: Op, *xs: Operand, to_float: bool = False) -> Node:
    """`op` on operands promoted to one dtype and broadcast to one shape."""
    return apply(op, tuple(aligned(op.name, *xs, to_float=to_float)))


def aligned(name: str, *xs: Operand, to_float: bool = False) -> list[Node]:
    """The operands promoted to one dtype and broadcast to one shape."""
    numbers = [as_number(x) for x in xs]
    nodes = [as_node(x) if v is None else None for x, v in zip(xs, numbers, strict=True)]
    dtype: DType | None = None
    for node in nodes:
        if node is not None:
            dtype = node.type.dtype if dtype is None else promote(dtype, node.type.dtype)
    for v in numbers:
        if v is not None:
            dtype = as_node(v, dtype).type.dtype
    assert dtype is not None
    if to_float and not dtype.is_floating:
        dtype = float32
    shape = broadcast_shapes(name, *(n.shape for n in nodes if n is not None))
    whole = [
        cast(n, dtype) if n is not None else as_node(v, dtype)  # type: ignore[arg-type]
        for n, v in zip(nodes, numbers, strict=True)
    ]
    return [broadcast_to(n, shape) for n in whole]


# ---- cast ----------------------------------------------------------------------------------


def _cast_reference(dtype: DType, x: Value) -> Value:
    if dtype.is_integer and x.dtype.kind not in "biu":
        x = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0)
        info = np.iinfo(dtype.name)
        wide = np.clip(x, float(info.min), float(info.max))
        y = wide.astype(dtype.numpy)
        return np.where(x >= float(info.max), info.max, y).astype(dtype.numpy)
    return x.astype(dtype.numpy)


def _cast_vjp(dtype: DType, g: Node, out: Node, x: Node) -> Cotangents:
    both = x.type.dtype.is_floating and dtype.is_floating
    return (cast(g, x.type.dtype) if both else None,)


def _cast_jvp(dtype: DType, tangents: Cotangents, out: Node, x: Node) -> Node | None:
    t = tangents[0]
    return cast(t, dtype) if t is not None and dtype.is_floating else None


CAST: Op = Op(
    "cast",
    lambda dtype, x: x.with_dtype(dtype),
    _cast_reference,
    _cast_vjp,
    _cast_jvp,
    elementwise=True,
)


def cast(x: Operand, dtype: object) -> Node:
    """`x` in another dtype (array API: `astype`); floats to integers truncate and saturate.

    >>> st.astype(np.float32([1.7, -1.7, 300.0]), "uint8").numpy()
    array([  1,   0, 255], dtype=uint8)
    """
    x = as_node(x)
    to = as_dtype(dtype)
    return x if x.type.dtype is to else apply(CAST, (x,), to)


# ---- arithmetic ----------------------------------------------------------------------------


def _larger_first(out: Node, x: Node, y: Node) -> tuple[Partial, ...]:
    """Half to each of two equal values, as PyTorch does; the derivative of max and min alike."""
    by_x = where(equal(x, y), 0.5, cast(equal(out, x), x.type.dtype))
    return by_x, subtract(1.0, by_x)


ADD: Op = pointwise("add", np.add, same("add", "iuf"), lambda out, x, y: (1.0, 1.0))
SUBTRACT: Op = pointwise(
    "subtract", np.subtract, same("subtract", "iuf"), lambda out, x, y: (1.0, -1.0)
)
MULTIPLY: Op = pointwise("multiply", np.multiply, same("multiply", "iuf"), lambda out, x, y: (y, x))
DIVIDE: Op = pointwise(
    "divide", np.divide, same("divide", "f"),
    lambda out, x, y: (divide(1.0, y), negative(divide(out, y))),
)  # fmt: skip
MAXIMUM: Op = pointwise("maximum", np.maximum, same("maximum", "biuf"), _larger_first)
MINIMUM: Op = pointwise("minimum", np.minimum, same("minimum", "biuf"), _larger_first)
FLOOR_DIVIDE: Op = pointwise("floor_divide", np.floor_divide, same("floor_divide", "iuf"))
REMAINDER: Op = pointwise(
    "remainder", np.remainder, same("remainder", "iuf"),
    lambda out, x, y: (1.0, negative(floor_divide(x, y))),
)  # fmt: skip
ATAN2: Op = pointwise(
    "atan2", np.arctan2, same("atan2", "f"),
    lambda out, y, x: (
        divide(x, add(multiply(x, x), multiply(y, y))),
        negative(divide(y, add(multiply(x, x), multiply(y, y)))),
    ),
)  # fmt: skip
NEGATIVE: Op = pointwise("negative", np.negative, same("negative", "iuf"), lambda out, x: (-1.0,))


def add(x: Operand, y: Operand) -> Node:
    """x + y, promoted and broadcast.

    >>> st.add(np.float32([1, 2]), 3).numpy()
    array([4., 5.], dtype=float32)
    """
    return nary(ADD, x, y)


def subtract(x: Operand, y: Operand) -> Node:
    """x - y."""
    return nary(SUBTRACT, x, y)


def multiply(x: Operand, y: Operand) -> Node:
    """x * y."""
    return nary(MULTIPLY, x, y)


def divide(x: Operand, y: Operand) -> Node:
    """x / y; integers divide as float32."""
    return nary(DIVIDE, x, y, to_float=True)


def floor_divide(x: Operand, y: Operand) -> Node:
    """The largest integer at most x / y, in the dtype of the operands."""
    return nary(FLOOR_DIVIDE, x, y)


def remainder(x: Operand, y: Operand) -> Node:
    """x - y * floor(x / y): it has the sign of y."""
    return nary(REMAINDER, x, y)


def maximum(x: Operand, y: Operand) -> Node:
    """The larger of x and y; NaN if either is."""
    return nary(MAXIMUM, x, y)


def minimum(x: Operand, y: Operand) -> Node:
    """The smaller of x and y; NaN if either is."""
    return nary(MINIMUM, x, y)


def atan2(y: Operand, x: Operand) -> Node:
    """The angle of the point (x, y), in (-pi, pi]."""
    return nary(ATAN2, y, x, to_float=True)


def negative(x: Operand) -> Node:
    """-x."""
    return apply(NEGATIVE, (as_node(x),))


# ---- comparison, logic, selection ----------------------------------------------------------

EQUAL: Op = pointwise("equal", np.equal, boolean("equal"))
NOT_EQUAL: Op = pointwise("not_equal", np.not_equal, boolean("not_equal"))
LESS: Op = pointwise("less", np.less, boolean("less"))
LESS_EQUAL: Op = pointwise("less_equal", np.less_equal, boolean("less_equal"))
LOGICAL_AND: Op = pointwise("logical_and", np.logical_and, boolean("logical_and", "b"))
LOGICAL_OR: Op = pointwise("logical_or", np.logical_or, boolean("logical_or", "b"))
LOGICAL_XOR: Op = pointwise("logical_xor", np.logical_xor, boolean("logical_xor", "b"))
LOGICAL_NOT: Op = pointwise("logical_not", np.logical_not, boolean("logical_not", "b"))
ISNAN: Op = pointwise("isnan", np.isnan, boolean("isnan", "f"))
ISINF: Op = pointwise("isinf", np.isinf, boolean("isinf", "f"))


def equal(x: Operand, y: Operand) -> Node:
    """x == y, as bool."""
    return nary(EQUAL, x, y)


def not_equal(x: Operand, y: Operand) -> Node:
    """x != y, as bool."""
    return nary(NOT_EQUAL, x, y)


def less(x: Operand, y: Operand) -> Node:
    """x < y, as bool."""
    return nary(LESS, x, y)


def less_equal(x: Operand, y: Operand) -> Node:
    """x <= y, as bool."""
    return nary(LESS_EQUAL, x, y)


def greater(x: Operand, y: Operand) -> Node:
    """x > y, as bool."""
    return less(y, x)


def greater_equal(x: Operand, y: Operand) -> Node:
    """x >= y, as bool."""
    return less_equal(y, x)


def logical_and(x: Operand, y: Operand) -> Node:
    """Both are true (not zero)."""
    return apply(LOGICAL_AND, tuple(aligned("logical_and", _truth(x), _truth(y))))


def logical_or(x: Operand, y: Operand) -> Node:
    """At least one is true (not zero)."""
    return apply(LOGICAL_OR, tuple(aligned("logical_or", _truth(x), _truth(y))))


def logical_xor(x: Operand, y: Operand) -> Node:
    """Exactly one is true (not zero)."""
    return apply(LOGICAL_XOR, tuple(aligned("logical_xor", _truth(x), _truth(y))))


def logical_not(x: Operand) -> Node:
    """True where x is zero or False."""
    return apply(LOGICAL_NOT, (_truth(x),))


def _truth(x: Operand) -> Node:
    x = as_node(x)
    return x if x.type.dtype is bool_ else not_equal(x, 0)


def isnan(x: Operand) -> Node:
    """True where x is NaN."""
    return floating(ISNAN, x)


def isinf(x: Operand) -> Node:
    """True where x is infinite."""
    return floating(ISINF, x)


def isfinite(x: Operand) -> Node:
    """True where x is neither NaN nor infinite."""
    return logical_not(logical_or(isnan(x), isinf(x)))


def _where_infer(attrs: object, c: TensorType, x: TensorType, y: TensorType) -> TensorType:
    if c.dtype is not bool_ or x != y or c.shape != x.shape:
        raise DTypeError(f"where: wants a bool and two values of one type, got {c}, {x}, {y}")
    return x


def _where_vjp(attrs: object, g: Node, out: Node, c: Node, x: Node, y: Node) -> Cotangents:
    return None, where(c, g, 0), where(c, 0, g)


def _where_jvp(
    attrs: object, tangents: Cotangents, out: Node, c: Node, x: Node, y: Node
) -> Node | None:
    _, tx, ty = tangents
    return where(c, 0 if tx is None else tx, 0 if ty is None else ty) if tx or ty else None


WHERE: Op = Op(
    "where",
    _where_infer,
    lambda attrs, c, x, y: np.asarray(np.where(c, x, y)),
    _where_vjp,
    _where_jvp,
    elementwise=True,
)


def where(condition: Operand, x: Operand, y: Operand) -> Node:
    """x where the condition is true, else y.

    >>> st.where(np.array([True, False]), 1.0, 2.0).numpy()
    array([1., 2.], dtype=float32)
    """
    c = as_node(condition)
    x, y = aligned("where", x, y)
    shape = broadcast_shapes("where", c.shape, x.shape)
    return apply(WHERE, (broadcast_to(c, shape), broadcast_to(x, shape), broadcast_to(y, shape)))


# ---- bits ----------------------------------------------------------------------------------

BITWISE_AND: Op = pointwise("bitwise_and", np.bitwise_and, same("bitwise_and", "biu"))
BITWISE_OR: Op = pointwise("bitwise_or", np.bitwise_or, same("bitwise_or", "biu"))
BITWISE_XOR: Op = pointwise("bitwise_xor", np.bitwise_xor, same("bitwise_xor", "biu"))
BITWISE_INVERT: Op = pointwise("bitwise_invert", np.invert, same("bitwise_invert", "biu"))


def bitwise_and(x: Operand, y: Operand) -> Node:
    """x & y; of bools, both are true."""
    return nary(BITWISE_AND, x, y)


def bitwise_or(x: Operand, y: Operand) -> Node:
    """x | y; of bools, at least one is true."""
    return nary(BITWISE_OR, x, y)


def bitwise_xor(x: Operand, y: Operand) -> Node:
    """x ^ y; of bools, exactly one is true."""
    return nary(BITWISE_XOR, x, y)


def bitwise_invert(x: Operand) -> Node:
    """~x; of bools, not."""
    return apply(BITWISE_INVERT, (as_node(x),))
