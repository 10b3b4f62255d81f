"""Rules of ATen's reductions, softmax and matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from striate.dtype import DType, bool_, compute_dtype
from striate.ir.graph import Node
from striate.ops import functions, matmul, rearrange, reduce
from striate.ops.elementwise import add, cast, multiply, not_equal
from striate.torch_backend.rules import Result, Unsupported, rule, typed

Dims = int | Sequence[int] | None


def _axes(x: Node, dims: Dims) -> tuple[int, ...]:
    """PyTorch's axes: none given means all."""
    given = (dims,) if isinstance(dims, int) else dims or range(x.ndim)
    return tuple(d % x.ndim for d in given) if x.ndim else ()


@typed("sum.dim_IntList", "sum.default")
def _sum(out: DType, x: Node, dims: Dims = None, keepdim: bool = False, **_: object) -> Node:
    return reduce.sum(cast(x, out), _axes(x, dims), keepdims=keepdim)


@typed("mean.dim", "mean.default")
def _mean(out: DType, x: Node, dims: Dims = None, keepdim: bool = False, **_: object) -> Node:
    return reduce.mean(cast(x, out), _axes(x, dims), keepdims=keepdim)


@typed("var.correction")
def _var(
    out: DType, x: Node, dims: Dims = None, correction: float | None = None, keepdim: bool = False
) -> Node:
    wide = cast(x, compute_dtype(out))
    unbiased = 1.0 if correction is None else float(correction)
    return reduce.var(wide, _axes(x, dims), correction=unbiased, keepdims=keepdim)


@typed("var_mean.correction")
def _var_mean(
    out: DType, x: Node, dims: Dims = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Node, Node]:
    var = _var(out, x, dims, correction, keepdim)
    return var, reduce.mean(cast(x, var.type.dtype), _axes(x, dims), keepdims=keepdim)


@typed("linalg_vector_norm.default")
def _vector_norm(
    out: DType,
    x: Node,
    order: float = 2,
    dims: Dims = None,
    keepdim: bool = False,
    **_: object,
) -> Node:
    axes, wide = _axes(x, dims), functions.abs(cast(x, compute_dtype(out)))
    if order in (inf, -inf):
        return (reduce.max if order > 0 else reduce.min)(wide, axes, keepdims=keepdim)
    if order == 0:
        return reduce.sum(cast(not_equal(wide, 0), wide.type.dtype), axes, keepdims=keepdim)
    if order == 1:
        return reduce.sum(wide, axes, keepdims=keepdim)
    if order == 2:
        return functions.sqrt(reduce.sum(functions.square(wide), axes, keepdims=keepdim))
    total = reduce.sum(functions.pow(wide, order), axes, keepdims=keepdim)
    return functions.pow(total, 1 / order)


@rule("amax.default", "max.default")
def _amax(x: Node, dims: Dims = None, keepdim: bool = False) -> Node:
    return reduce.max(x, _axes(x, dims), keepdims=keepdim)


@rule("amin.default", "min.default")
def _amin(x: Node, dims: Dims = None, keepdim: bool = False) -> Node:
    return reduce.min(x, _axes(x, dims), keepdims=keepdim)


def _with_index(value: Callable[..., Node], index: Callable[..., Node]) -> Callable[..., Result]:
    def both(x: Node, dim: int, keepdim: bool = False) -> tuple[Node, Node]:
        if not x.ndim:
            raise Unsupported("max: a tensor without axes")
        return value(x, dim, keepdims=keepdim), index(x, dim, keepdims=keepdim)

    return both


rule("max.dim")(_with_index(reduce.max, reduce.argmax))
rule("min.dim")(_with_index(reduce.min, reduce.argmin))


@rule("argmax.default")
def _argmax(x: Node, dim: int | None = None, keepdim: bool = False) -> Node:
    return reduce.argmax(x, dim, keepdims=keepdim)


@rule("argmin.default")
def _argmin(x: Node, dim: int | None = None, keepdim: bool = False) -> Node:
    return reduce.argmin(x, dim, keepdims=keepdim)


@rule("any.default", "any.dim", "any.dims")
def _any(x: Node, dims: Dims = None, keepdim: bool = False) -> Node:
    return reduce.any(cast(x, bool_), _axes(x, dims), keepdims=keepdim)


@rule("all.default", "all.dim", "all.dims")
def _all(x: Node, dims: Dims = None, keepdim: bool = False) -> Node:
    return reduce.all(cast(x, bool_), _axes(x, dims), keepdims=keepdim)


@typed("cumsum.default")
def _cumsum(out: DType, x: Node, dim: int, **_: object) -> Node:
    return rearrange.cumulative_sum(cast(x, out), dim)


def _wide(x: Node, out: DType) -> Node:
    return cast(x, compute_dtype(out))


@typed("_softmax.default", "_safe_softmax.default")
def _softmax(out: DType, x: Node, dim: int, *_: object, **options: object) -> Node:
    return reduce.softmax(_wide(x, out), dim)


@typed("_log_softmax.default")
def _log_softmax(out: DType, x: Node, dim: int, half_to_float: bool = False) -> Node:
    return reduce.log_softmax(_wide(x, out), dim)


# ---- matrix products -----------------------------------------------------------------------


@rule("mm.default", "bmm.default", "mv.default", "dot.default", "matmul.default")
def _matmul(x: Node, y: Node) -> Node:
    return matmul.matmul(x, y)


def _plus(bias: Node, product: Node, beta: float, alpha: float) -> Node:
    scaled = product if alpha == 1 else multiply(product, alpha)
    if beta == 0:
        return scaled
    return add(scaled, bias if beta == 1 else multiply(bias, beta))


@rule("addmm.default", "baddbmm.default")
def _addmm(bias: Node, x: Node, y: Node, beta: float = 1, alpha: float = 1) -> Node:
    return _plus(bias, matmul.matmul(x, y), beta, alpha)


@rule("linear.default")
def _linear(x: Node, w: Node, bias: Node | None = None) -> Node:
    return matmul.linear(x, w, bias)
