"""Rules of ATen's operators that make, move, index and join tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from striate.dtype import DType, int64
from striate.ir.graph import Node, constant
from striate.ir.types import TensorType
from striate.ops import index as indexing, movement, padding, rearrange
from striate.ops.elementwise import (
    add,
    cast,
    greater_equal,
    less,
    logical_or,
    multiply,
    where,
)
from striate.ops.movement import broadcast_to, reshape, slice_axes, transpose, zeros
from striate.ops.operand import Operand, as_node
from striate.torch_backend.rules import Unsupported, rule, typed

Sizes = Sequence[int]

# ---- made of nothing -----------------------------------------------------------------------


@typed("full.default", "full_like.default", "scalar_tensor.default")
def _full(out: DType, *args: Any, **options: object) -> Node:
    *like, value = args
    size = like[0] if like else ()
    shape = size.shape if isinstance(size, Node) else tuple(size)
    filled = cast(value, out) if isinstance(value, Node) else constant(np.asarray(value, out.numpy))
    return broadcast_to(filled, shape)


@typed("new_empty_strided.default")
def _new_empty(out: DType, x: Node, size: Sizes, *strides: object, **options: object) -> Node:
    return zeros(TensorType(tuple(size), out))  # any content is right


@typed("arange.start_step")
def _arange(out: DType, start: float, end: float, step: float = 1, **options: object) -> Node:
    return constant(np.arange(start, end, step).astype(out.numpy))


# ---- views ---------------------------------------------------------------------------------


@rule("view.default", "reshape.default", "_unsafe_view.default")
def _view(x: Node, size: Sizes) -> Node:
    return reshape(x, tuple(size))


@rule("permute.default")
def _permute(x: Node, dims: Sizes) -> Node:
    return transpose(x, tuple(d % x.ndim for d in dims))


@rule("transpose.int")
def _transpose(x: Node, a: int, b: int) -> Node:
    return rearrange.swapaxes(x, a, b) if x.ndim else x


@rule("t.default")
def _t(x: Node) -> Node:
    return transpose(x)


@rule("unsqueeze.default")
def _unsqueeze(x: Node, dim: int) -> Node:
    return rearrange.expand_dims(x, dim)


@rule("squeeze.dims", "squeeze.dim")
def _squeeze(x: Node, dims: int | Sizes) -> Node:
    given = (dims,) if isinstance(dims, int) else dims
    gone = {d % x.ndim for d in given if x.ndim}
    return reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in gone or n != 1))


@rule("expand.default")
def _expand(x: Node, size: Sizes, implicit: bool = False) -> Node:
    own = (1,) * (len(size) - x.ndim) + x.shape
    return broadcast_to(x, tuple(m if n == -1 else n for n, m in zip(size, own, strict=True)))


def _on_axis(x: Node, dim: int, part: slice) -> Node:
    dim %= x.ndim
    return slice_axes(x, [part if a == dim else slice(None) for a in range(x.ndim)])


@rule("slice.Tensor")
def _slice(
    x: Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Node:
    return _on_axis(x, dim, slice(start, end, step))


@rule("select.int")
def _select(x: Node, dim: int, index: int) -> Node:
    dim %= x.ndim
    index %= x.shape[dim]
    part = _on_axis(x, dim, slice(index, index + 1))
    return reshape(part, (*x.shape[:dim], *x.shape[dim + 1 :]))


@rule("split_with_sizes.default")
def _split(x: Node, sizes: Sizes, dim: int = 0) -> tuple[Node, ...]:
    ends = np.cumsum(sizes).tolist()
    return tuple(_on_axis(x, dim, slice(e - n, e)) for n, e in zip(sizes, ends, strict=True))


@rule("flip.default")
def _flip(x: Node, dims: Sizes) -> Node:
    return movement.flip(x, tuple(dims))


@rule("repeat.default")
def _repeat(x: Node, repeats: Sizes) -> Node:
    return rearrange.tile(x, tuple(repeats))


@rule("roll.default")
def _roll(x: Node, shifts: Sizes, dims: Sizes = ()) -> Node:
    return rearrange.roll(x, tuple(shifts), tuple(dims) or None)


@typed("cat.default")
def _cat(out: DType, xs: Sequence[Node], dim: int = 0) -> Node:
    ndim = max(x.ndim for x in xs)
    kept = [cast(x, out) for x in xs if x.ndim == ndim]  # an empty tensor of one axis joins any
    return rearrange.concat(kept, dim)


@rule("slice_scatter.default")
def _slice_scatter(
    x: Node,
    source: Node,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Node:
    dim %= x.ndim
    start, end, step = slice(start, end, step).indices(x.shape[dim])
    if step != 1:
        raise Unsupported("slice_scatter: step")
    parts = [
        _on_axis(x, dim, slice(0, start)),
        source,
        _on_axis(x, dim, slice(max(start, end), None)),
    ]
    return rearrange.concat([p for p in parts if p.shape[dim]] or [x], dim)


@typed("copy.default")
def _copy(out: DType, x: Node, source: Node, non_blocking: bool = False) -> Node:
    return broadcast_to(cast(source, out), x.shape)


# ---- padding -------------------------------------------------------------------------------


def _pairs(x: Node, flat: Sizes) -> list[tuple[int, int]]:
    """PyTorch's widths, last axis first, as (lo, hi) per axis."""
    given = list(zip(flat[::2], flat[1::2], strict=True))[::-1]
    return [(0, 0)] * (x.ndim - len(given)) + given


@rule("constant_pad_nd.default")
def _constant_pad(x: Node, pad: Sizes, value: float = 0) -> Node:
    return padding.pad(x, _pairs(x, pad), value=value)


@rule("reflection_pad1d.default", "reflection_pad2d.default", "reflection_pad3d.default")
def _reflection_pad(x: Node, pad: Sizes) -> Node:
    return padding.pad(x, _pairs(x, pad), "reflect")


@rule("replication_pad1d.default", "replication_pad2d.default", "replication_pad3d.default")
def _replication_pad(x: Node, pad: Sizes) -> Node:
    return padding.pad(x, _pairs(x, pad), "replicate")


def _fold(mode: str) -> Callable[..., Node]:
    def rule_of(g: Node, x: Node, pad: Sizes) -> Node:
        for axis, (lo, hi) in enumerate(_pairs(x, pad)):
            g = padding.fold_axis("pad", g, axis, lo, hi, mode)
        return g

    return rule_of


for _rank in (1, 2, 3):
    rule(f"reflection_pad{_rank}d_backward.default")(_fold("reflect"))
    rule(f"replication_pad{_rank}d_backward.default")(_fold("replicate"))


# ---- indexing ------------------------------------------------------------------------------


@rule("index_select.default")
def _index_select(x: Node, dim: int, index: Node) -> Node:
    return indexing.take(x, index, dim)


@rule("gather.default")
def _gather(x: Node, dim: int, index: Node, sparse_grad: bool = False) -> Node:
    dim %= max(x.ndim, 1)
    if index.ndim != x.ndim:
        raise Unsupported("gather: ranks")
    cut = [slice(None) if a == dim else slice(0, n) for a, n in enumerate(index.shape)]
    return indexing.take_along_axis(slice_axes(x, cut), index, dim)


def _whole(index: Node, x: Node, dim: int) -> None:
    if any(a != dim and n != m for a, (n, m) in enumerate(zip(index.shape, x.shape, strict=True))):
        raise Unsupported("scatter: a part of the tensor")


@rule("scatter_add.default")
def _scatter_add(x: Node, dim: int, index: Node, source: Node) -> Node:
    dim %= max(x.ndim, 1)
    _whole(index, x, dim)
    part = slice_axes(source, [slice(0, n) for n in index.shape])
    return add(x, indexing.scatter_add(part, index, x.shape[dim], dim))


@rule("scatter.value", "scatter.src")
def _scatter(x: Node, dim: int, index: Node, source: Operand) -> Node:
    dim %= max(x.ndim, 1)
    _whole(index, x, dim)
    if isinstance(source, Node):
        if index.shape[dim] != 1:
            raise Unsupported("scatter: tensors of which one element may hide another")
        source = slice_axes(source, [slice(0, n) for n in index.shape])
    ones = broadcast_to(constant(np.ones((), np.float32)), index.shape)
    hit = indexing.scatter_add(
        ones, index, x.shape[dim], dim
    )  # raises where there is no such place
    return where(greater_equal(hit, 1), source, x)


@rule("embedding.default")
def _embedding(weight: Node, index: Node, *options: object) -> Node:
    rows = indexing.take(weight, reshape(index, (prod(index.shape),)), 0)
    return reshape(rows, (*index.shape, *weight.shape[1:]))


class _Block:
    """What x[..., i, j, ...] reads, for index tensors of adjacent axes: x as [*A, n, *B] and
    positions [m] in n; the result is [*A, *S, *B] with the shape S of the index tensors.
    """

    def __init__(self, x: Node, indices: Sequence[Node | None]) -> None:
        axes = [a for a, i in enumerate(indices) if i is not None]
        if not axes or axes != list(range(axes[0], axes[-1] + 1)):
            raise Unsupported("index: axes that are not adjacent")
        given = rearrange.broadcast_arrays(*(i for i in indices if i is not None))
        if any(not i.type.dtype.is_integer for i in given):
            raise Unsupported("index: a mask")
        self.lead, self.tail = x.shape[: axes[0]], x.shape[axes[-1] + 1 :]
        sizes = x.shape[axes[0] : axes[-1] + 1]
        self.size, self.shape = prod(sizes), given[0].shape
        flat = cast(given[0], int64)
        if len(given) > 1:
            flat = as_node(0)
            for i, n in zip(given, sizes, strict=True):
                at = cast(i, int64)
                at = where(less(at, 0), add(at, n), at)
                outside = logical_or(less(at, 0), greater_equal(at, n))
                flat = where(outside, self.size, add(multiply(flat, n), at))  # raises when it runs
        self.positions = reshape(flat, (prod(self.shape),))

    @property
    def out_shape(self) -> tuple[int, ...]:
        """[*A, *S, *B]"""
        return (*self.lead, *self.shape, *self.tail)

    def take(self, x: Node) -> Node:
        """x[*A, *sizes, *B] -> [*A, *S, *B]"""
        flat = reshape(x, (*self.lead, self.size, *self.tail))
        return reshape(indexing.take(flat, self.positions, len(self.lead)), self.out_shape)

    def put(self, g: Node, shape: tuple[int, ...]) -> Node:
        """Zeros of a shape with g[*A, *S, *B] added at the positions: the adjoint of `take`."""
        rows = reshape(broadcast_to(g, self.out_shape), (*self.lead, -1, *self.tail))
        return reshape(indexing.put_add(rows, self.positions, self.size, len(self.lead)), shape)


@rule("index.Tensor", "_unsafe_index.Tensor")
def _index(x: Node, indices: Sequence[Node | None]) -> Node:
    return _Block(x, indices).take(x)


@rule("index_put.default", "_unsafe_index_put.default")
def _index_put(
    x: Node, indices: Sequence[Node | None], values: Node, accumulate: bool = False
) -> Node:
    if not accumulate:
        raise Unsupported("index_put: without accumulation")
    return add(x, _Block(x, indices).put(cast(values, x.type.dtype), x.shape))
