"""Rules of the operators that networks are made of: convolutions, norms, pools, resizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from striate.dtype import DType, compute_dtype
from striate.ir.graph import Node
from striate.ops import adaptive, avg_pool, convolution, pool, reduce
from striate.ops.elementwise import add, cast, multiply, subtract
from striate.ops.functions import rsqrt, square
from striate.ops.index import scatter_add
from striate.ops.movement import alias, reshape, zeros
from striate.torch_backend.rules import Result, rule, typed
from striate.transform.autodiff import vjp

Sizes = Sequence[int]


def adjoint(f: Callable[..., Node], g: Node, *inputs: Node) -> list[Node]:
    """The gradients of f(*inputs) for the cotangent g."""
    fresh = [alias(x) for x in inputs]
    return vjp([f(*fresh)], fresh, [g])


def linear_adjoint(f: Callable[[Node], Node], g: Node, x: Node) -> Node:
    """The adjoint of a linear function, in which no value of x has a part."""
    return adjoint(f, g, zeros(x.type))[0]


# ---- convolutions --------------------------------------------------------------------------


def _all_axes(sizes: Sizes, rank: int) -> tuple[int, ...]:
    return tuple(sizes) * rank if len(sizes) == 1 else tuple(sizes)


@rule("convolution.default")
def _convolution(
    x: Node,
    w: Node,
    bias: Node | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Node:
    rank = w.ndim - 2
    shared: dict[str, Any] = {
        "stride": _all_axes(stride, rank),
        "padding": _all_axes(padding, rank),
        "dilation": _all_axes(dilation, rank),
        "groups": groups,
    }
    if transposed:
        extra = _all_axes(output_padding, rank)
        return convolution.convolution_transpose(x, w, bias, output_padding=extra, **shared)
    return convolution.convolution(x, w, bias, **shared)


@rule("convolution_backward.default")
def _convolution_backward(
    g: Node, x: Node, w: Node, bias_sizes: Sizes | None, *geometry: Any
) -> Result:
    *given, mask = geometry
    dx, dw = adjoint(lambda x, w: _convolution(x, w, None, *given), g, x, w)
    over = tuple(a for a in range(g.ndim) if a != 1)
    db = reduce.sum(cast(g, compute_dtype(g.type.dtype)), over)
    parts = (dx, dw, cast(db, g.type.dtype))
    return tuple(p if wanted else None for p, wanted in zip(parts, mask, strict=True))


# ---- norms ---------------------------------------------------------------------------------


def _column(v: Node, x: Node, axis: int = 1) -> Node:
    return reshape(v, tuple(-1 if a == axis else 1 for a in range(x.ndim)))


def _scaled(y: Node, weight: Node | None, bias: Node | None, shape: tuple[int, ...]) -> Node:
    dtype = y.type.dtype
    y = y if weight is None else multiply(y, cast(reshape(weight, shape), dtype))
    return y if bias is None else add(y, cast(reshape(bias, shape), dtype))


def _moments(x: Node, axes: tuple[int, ...]) -> tuple[Node, Node]:
    mean = reduce.mean(x, axes, keepdims=True)
    return mean, reduce.mean(square(subtract(x, mean)), axes, keepdims=True)


def _batch_norm(
    out: DType, x: Node, weight: Node | None, bias: Node | None, mean: Node, var: Node, eps: float
) -> tuple[Node, Node]:
    """(y, 1 / sqrt(var + eps)); mean and var [1, C, 1, ...]."""
    wide = cast(x, compute_dtype(out))
    scale = rsqrt(add(cast(var, wide.type.dtype), eps))
    shape = tuple(-1 if a == 1 else 1 for a in range(x.ndim))
    centred = subtract(wide, cast(mean, wide.type.dtype))
    if weight is not None:
        factor = multiply(scale, cast(reshape(weight, shape), wide.type.dtype))
        return _scaled(multiply(centred, factor), None, bias, shape), scale
    return _scaled(multiply(centred, scale), None, bias, shape), scale


@typed("_native_batch_norm_legit_no_training.default")
def _batch_norm_inference(
    out: DType,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node,
    var: Node,
    momentum: float,
    eps: float,
) -> Result:
    y, _ = _batch_norm(out, x, weight, bias, _column(mean, x), _column(var, x), eps)
    empty = zeros(mean.type.with_shape((0,)))
    return cast(y, out), empty, empty


@typed("_native_batch_norm_legit_functional.default", "_native_batch_norm_legit.no_stats")
def _batch_norm_training(
    out: DType, x: Node, weight: Node | None, bias: Node | None, *rest: Any
) -> Result:
    *stats, training, momentum, eps = rest
    running_mean: Any
    running_var: Any
    running_mean, running_var = stats or (None, None)
    if not training:
        y, _ = _batch_norm(
            out, x, weight, bias, _column(running_mean, x), _column(running_var, x), eps
        )
        empty = zeros(running_mean.type.with_shape((0,)))
        return cast(y, out), empty, empty, running_mean, running_var
    axes = tuple(a for a in range(x.ndim) if a != 1)
    mean, var = _moments(cast(x, compute_dtype(x.type.dtype)), axes)
    y, scale = _batch_norm(out, x, weight, bias, mean, var, eps)
    c = (x.shape[1],)
    result = (cast(y, out), reshape(mean, c), reshape(scale, c))
    if running_mean is None:
        return result
    n = prod(x.shape) // max(1, x.shape[1])
    unbiased = multiply(reshape(var, c), n / max(1, n - 1))
    return (
        *result,
        _moved(running_mean, reshape(mean, c), momentum),
        _moved(running_var, unbiased, momentum),
    )


def _moved(old: Node, new: Node, momentum: float) -> Node:
    wide = compute_dtype(old.type.dtype)
    kept = multiply(cast(old, wide), 1 - momentum)
    return cast(add(kept, multiply(cast(new, wide), momentum)), old.type.dtype)


@typed("native_layer_norm.default")
def _layer_norm(
    out: DType, x: Node, shape: Sizes, weight: Node | None, bias: Node | None, eps: float
) -> Result:
    wide = cast(x, compute_dtype(out))
    mean, var = _moments(wide, tuple(range(x.ndim - len(shape), x.ndim)))
    scale = rsqrt(add(var, eps))
    y = _scaled(multiply(subtract(wide, mean), scale), weight, bias, tuple(shape))
    return cast(y, out), mean, scale


@typed("native_group_norm.default")
def _group_norm(
    out: DType,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    n: int,
    c: int,
    size: int,
    groups: int,
    eps: float,
) -> Result:
    wide = reshape(cast(x, compute_dtype(out)), (n, groups, -1))
    mean, var = _moments(wide, (2,))
    scale = rsqrt(add(var, eps))
    y = reshape(multiply(subtract(wide, mean), scale), x.shape)
    shape = tuple(-1 if a == 1 else 1 for a in range(x.ndim))
    y = _scaled(y, weight, bias, shape)
    return cast(y, out), reshape(mean, (n, groups)), reshape(scale, (n, groups))


# ---- pools ---------------------------------------------------------------------------------


@rule("max_pool2d_with_indices.default", "max_pool3d_with_indices.default")
def _max_pool(
    x: Node,
    window: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    dilation: Sizes = (1,),
    ceil_mode: bool = False,
) -> Result:
    return pool.max_pool(
        x,
        tuple(window),
        stride=tuple(stride) or None,
        padding=tuple(padding) if len(padding) > 1 else padding[0],
        dilation=tuple(dilation) if len(dilation) > 1 else dilation[0],
        ceil_mode=ceil_mode,
        return_indices=True,
    )


@rule("max_pool2d_with_indices_backward.default")
def _max_pool_backward(g: Node, x: Node, *rest: object) -> Node:
    return _spread_over(g, rest[-1], x, 2)


@rule("max_pool3d_with_indices_backward.default")
def _max_pool3d_backward(g: Node, x: Node, *rest: object) -> Node:
    return _spread_over(g, rest[-1], x, 3)


def _spread_over(g: Node, index: object, x: Node, rank: int) -> Node:
    """Zeros of the shape of x, with each element of g added at its flat spatial index."""
    assert isinstance(index, Node)
    lead = x.shape[:-rank]
    total = prod(x.shape[-rank:])
    flat = (*lead, prod(g.shape[-rank:]))
    spread = scatter_add(reshape(g, flat), reshape(index, flat), total, len(lead))
    return reshape(spread, x.shape)


def _averages(
    x: Node,
    window: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Node:
    return avg_pool.avg_pool(
        x,
        tuple(window),
        stride=tuple(stride) or None,
        padding=tuple(padding) if len(padding) > 1 else padding[0],
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )


rule("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")(_averages)


@rule("avg_pool2d_backward.default", "avg_pool3d_backward.default")
def _avg_pool_backward(g: Node, x: Node, *geometry: Any) -> Node:
    return linear_adjoint(lambda v: _averages(v, *geometry), g, x)


@rule(
    "adaptive_avg_pool1d.default",
    "_adaptive_avg_pool2d.default",
    "_adaptive_avg_pool3d.default",
    "adaptive_avg_pool2d.default",
)
def _adaptive_avg_pool(x: Node, size: Sizes) -> Node:
    return adaptive.adaptive_avg_pool(x, tuple(size))


def _adaptive_backward(rank: int) -> Callable[[Node, Node], Node]:
    def backward(g: Node, x: Node) -> Node:
        return linear_adjoint(lambda v: _adaptive_avg_pool(v, g.shape[-rank:]), g, x)

    return backward


rule("_adaptive_avg_pool2d_backward.default")(_adaptive_backward(2))
rule("_adaptive_avg_pool3d_backward.default")(_adaptive_backward(3))


@rule("adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def _adaptive_max_pool(x: Node, size: Sizes) -> Result:
    return adaptive.adaptive_max_pool(x, tuple(size), return_indices=True)


@rule("adaptive_max_pool2d_backward.default")
def _adaptive_max_pool_backward(g: Node, x: Node, index: Node) -> Node:
    return _spread_over(g, index, x, 2)
