"""Matrix products: the convolution primitive without spatial axes."""

from __future__ import annotations

from math import prod

from striate.dtype import promote
from striate.errors import ShapeError
from striate.ir.graph import Node
from striate.ir.types import broadcast_shapes
from striate.ops.conv import ConvSpec, conv
from striate.ops.elementwise import add, cast
from striate.ops.movement import broadcast_to, reshape, transpose
from striate.ops.operand import Operand, as_node


def matmul(x: Operand, y: Operand) -> Node:
    """The matrix product, batched over leading axes.

    Args:
        x: [*B, M, K] or [K].
        y: [*B, K, N] or [K]; the batch axes broadcast.

    Returns:
        [*B, M, N], without M or N where the operand has one axis.

    Raises:
        ShapeError: the inner sizes differ, or an operand has no axes.

    >>> st.matmul(np.eye(2, dtype=np.float32), np.float32([3, 4])).numpy()
    array([3., 4.], dtype=float32)
    """
    x, y = as_node(x), as_node(y)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"matmul: operands need an axis, got {x.type} and {y.type}; use *")
    dtype = promote(x.type.dtype, y.type.dtype)
    a = cast(reshape(x, (1, *x.shape)) if x.ndim == 1 else x, dtype)
    b = cast(reshape(y, (*y.shape, 1)) if y.ndim == 1 else y, dtype)
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"matmul: inner sizes must be equal, got {a.shape[-1]} and {b.shape[-2]} "
            f"(operands {x.type} and {y.type})"
        )
    batch = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
    (m, k), n = a.shape[-2:], b.shape[-1]
    shape = (*batch, *((m,) if x.ndim > 1 else ()), *((n,) if y.ndim > 1 else ()))
    g = prod(batch)
    if b.ndim == 2:  # one matrix for all rows
        g, m = 1, g * m
    else:
        a, b = broadcast_to(a, (*batch, m, k)), broadcast_to(b, (*batch, k, n))
    a, b = reshape(a, (g, m, k)), reshape(b, (g, k, n))
    spec = ConvSpec(m, g, k, n)
    out = conv(transpose(a, (1, 0, 2)), transpose(b, (0, 2, 1)), spec)  # [m,g,k] [g,n,k] -> [m,g,n]
    return reshape(transpose(out, (1, 0, 2)), shape)


def linear(x: Operand, w: Operand, bias: Operand | None = None) -> Node:
    """x times the transpose of w, plus bias.

    Args:
        x: [*B, C].
        w: [K, C].
        bias: [K].

    Returns:
        [*B, K].

    Raises:
        ShapeError: the numbers of features differ.
    """
    x, w = as_node(x), as_node(w)
    if w.ndim != 2 or not x.ndim or x.shape[-1] != w.shape[1]:
        raise ShapeError(f"linear: wants x [*B, C] and w [K, C], got x {x.type} and w {w.type}")
    y = matmul(x, transpose(w))
    return y if bias is None else add(y, bias)
