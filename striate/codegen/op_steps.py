"""The kernels of each op that is no view, no elementwise function and no sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from striate.codegen.boxes import Operand, copy_step, fill_step
from striate.codegen.dense import dense_conv, pack_weights
from striate.codegen.epilogue import Epilogue
from striate.codegen.extreme import extreme
from striate.codegen.fft import fft_conv
from striate.codegen.generic_conv import generic_conv
from striate.codegen.grouped import grouped_conv, grouped_weight_gradient
from striate.codegen.indexing import last_writer, put_add, scatter_add, take, take_along_axis
from striate.codegen.kernel import Buffer, Step, View
from striate.codegen.layouts import TargetLayouts
from striate.codegen.pool import argmax_pool, max_and_argmax_pool, max_pool, max_pool_gradient
from striate.codegen.random import random_uniform
from striate.codegen.small import small_conv, small_weight_gradient, small_weight_supports
from striate.codegen.weight_blocks import features_in_vectors
from striate.codegen.weight_gradient import weight_gradient, weight_gradient_supports
from striate.codegen.winograd_gradient import (
    gradient_plan,
    winograd_gradient,
    winograd_gradient_supports,
)
from striate.codegen.winograd_parts import conv_by_parts
from striate.config import settings
from striate.ir.graph import Node
from striate.ops.movement import Padding
from striate.target import Target
from striate.transform.views import dense_strides


class Context(Protocol):
    """What a lowering uses: see `lower.Lowering`."""

    target: Target

    def view(self, n: Node) -> View:
        """How to walk over a node's value."""
        ...

    def allocate(self, n: Node) -> Buffer:
        """The memory of a node's own value."""
        ...

    def dense(self, n: Node) -> Buffer:
        """A node's value in row-major order."""
        ...

    def fault(self, n: Node) -> Buffer:
        """Where a kernel says that an index is out of range."""
        ...

    def add(self, steps: list[Step]) -> None:
        """Append steps."""
        ...


def _conv(c: Context, n: Node, out: Buffer) -> None:
    x, w = n.inputs
    y = View(out, 0, dense_strides(n.shape))
    c.add(generic_conv(c.target, n.attrs, n.type.dtype, c.view(x), c.view(w), y))


def _concat(c: Context, n: Node, out: Buffer) -> None:
    strides = dense_strides(n.shape)
    start = 0
    for x in n.inputs:
        place = View(out, start * strides[n.attrs], strides)
        dtype = n.type.dtype
        c.add(copy_step(x.shape, Operand(dtype, c.view(x)), Operand(dtype, place)))
        start += x.shape[n.attrs]


def kept_elements(p: Padding, n: int) -> tuple[int, int, int]:
    """(first element that survives, how many do, where the first lands)."""
    step = p.interior + 1
    first = -(p.lo // step) if p.lo < 0 else 0
    last = min(n - 1, (p.of(n) - 1 - p.lo) // step)
    return first, max(0, last - first + 1), p.lo + first * step


def _pad(c: Context, n: Node, out: Buffer) -> None:
    (x,) = n.inputs
    dtype, strides = n.type.dtype, dense_strides(n.shape)
    kept = [kept_elements(p, size) for p, size in zip(n.attrs.axes, x.shape, strict=True)]
    box = tuple(count for _, count, _ in kept)
    if box != n.shape:
        c.add(fill_step(n.shape, Operand(dtype, View(out, 0, strides)), n.attrs.value))
    if 0 in box:
        return
    source = c.view(x)
    start = source.offset + sum(f * s for (f, _, _), s in zip(kept, source.strides, strict=True))
    to = sum(t * s for (_, _, t), s in zip(kept, strides, strict=True))
    steps = tuple(s * (p.interior + 1) for p, s in zip(n.attrs.axes, strides, strict=True))
    c.add(
        copy_step(
            box,
            Operand(dtype, View(source.buffer, start, source.strides)),
            Operand(dtype, View(out, to, steps)),
        )
    )


def _extreme(c: Context, n: Node, out: Buffer) -> None:
    (x,) = n.inputs
    c.add(extreme(n.op.name, c.dense(x), x.type, out))


def _indexed(
    steps: Callable[..., list[Step]],
) -> Callable[[Context, Node, Buffer], None]:
    """An op of (values, indices) with the attributes of `Indexing`."""

    def lowering(c: Context, n: Node, out: Buffer) -> None:
        x, index = n.inputs
        c.add(steps(n.attrs, c.dense(x), x.type, c.dense(index), index.type, out, c.fault(n)))

    return lowering


def _last_writer(c: Context, n: Node, out: Buffer) -> None:
    (index,) = n.inputs
    c.add(last_writer(n.attrs, c.dense(index), index.type, out, c.fault(n)))


def _argmax_pool(c: Context, n: Node, out: Buffer) -> None:
    (x,) = n.inputs
    images, channels = x.shape[:2]
    c.add(argmax_pool(x.type.dtype, n.attrs, images, channels, 1, c.dense(x), out, 64))


def blocked_conv(
    c: Context,
    n: Node,
    out: Buffer,
    epilogue: Epilogue | None = None,
    operands: Sequence[Buffer] = (),
) -> None:
    """The steps of a convolution on blocks, with what is done before its sums are stored."""
    x, w = n.inputs
    spec, xb, yb = n.attrs.spec, n.attrs.x_block, n.attrs.y_block
    dtype, data, weights = n.type.dtype, c.dense(x), c.view(w)
    kernel = TargetLayouts(c.target).kernel(spec, dtype, xb, yb)
    if kernel in ("dense", "winograd"):
        weights, steps = features_in_vectors(c.target, spec, dtype, weights)
        c.add(steps)
    if kernel == "dense":
        packed, steps = pack_weights(c.target, spec, dtype, weights, xb, yb)
        c.add(steps)
        steps = dense_conv(
            c.target, spec, dtype, data, xb, packed, weights, out, yb, epilogue, operands
        )
        c.add(steps)
        return
    if kernel == "small":
        c.add(small_conv(c.target, spec, dtype, data, xb, weights, out, yb, epilogue, operands))
        return
    if kernel == "winograd":
        c.add(conv_by_parts(c.target, spec, data, weights, out, epilogue, operands))
        return
    if kernel == "fft":
        c.add(fft_conv(c.target, spec, dtype, xb, data, weights, out, epilogue, operands))
        return
    assert kernel == "grouped", f"no kernel for {spec} in blocks {xb}, {yb}"
    c.add(grouped_conv(c.target, spec, dtype, data, xb, weights, out, yb, epilogue, operands))


def _blocked_weight_gradient(c: Context, n: Node, out: Buffer) -> None:
    x, g = n.inputs
    spec, xb, gb = n.attrs.spec, n.attrs.x_block, n.attrs.y_block
    dtype, to = n.type.dtype, View(out, 0, dense_strides(n.shape))
    if small_weight_supports(c.target, spec, dtype, xb, gb):
        c.add(small_weight_gradient(c.target, spec, dtype, c.dense(x), xb, c.dense(g), gb, to))
    elif winograd_gradient_supports(c.target, spec, dtype, xb, gb):
        plan = gradient_plan(c.target, spec, settings().precision)
        assert plan is not None
        c.add(winograd_gradient(c.target, spec, plan, c.dense(x), c.dense(g), to))
    elif weight_gradient_supports(c.target, spec, dtype, xb, gb):
        c.add(weight_gradient(c.target, spec, dtype, c.dense(x), xb, c.dense(g), gb, to))
    else:
        c.add(grouped_weight_gradient(c.target, spec, dtype, c.dense(x), xb, c.dense(g), gb, to))


def _pool_sizes(n: Node) -> tuple[int, int, int]:
    images, blocks, *_, b = n.inputs[0].shape
    return images, blocks * b, b


def _blocked_max_pool(c: Context, n: Node, out: Buffer) -> None:
    (x,) = n.inputs
    c.add(max_pool(x.type.dtype, n.attrs.windows, *_pool_sizes(n), c.dense(x), out))


def _blocked_argmax_pool(c: Context, n: Node, out: Buffer) -> None:
    (x,) = n.inputs
    bits = n.type.dtype.bits
    c.add(argmax_pool(x.type.dtype, n.attrs.windows, *_pool_sizes(n), c.dense(x), out, bits))


def blocked_max_with_index(c: Context, nodes: Sequence[Node]) -> None:
    """The largest elements and their indices, the two nodes in any order, in one pass."""
    values, index = sorted(nodes, key=lambda n: n.op.name == "blocked_argmax_pool")
    (x,) = values.inputs
    dtype, bits, windows = x.type.dtype, index.type.dtype.bits, values.attrs.windows
    out = c.allocate(values), c.allocate(index)
    c.add(max_and_argmax_pool(dtype, windows, *_pool_sizes(values), c.dense(x), *out, bits))


def _blocked_pool_gradient(c: Context, n: Node, out: Buffer) -> None:
    g, index = n.inputs
    dtype, bits, sizes = g.type.dtype, index.type.dtype.bits, _pool_sizes(n)
    c.add(max_pool_gradient(dtype, n.attrs.windows, *sizes, c.dense(index), bits, c.dense(g), out))


def _random_uniform(c: Context, n: Node, out: Buffer) -> None:
    c.add(random_uniform(n.attrs, c.dense(n.inputs[0]), out))


LOWERINGS: dict[str, Callable[[Context, Node, Buffer], None]] = {
    "conv": _conv,
    "blocked_conv": blocked_conv,
    "blocked_weight_gradient": _blocked_weight_gradient,
    "blocked_max_pool": _blocked_max_pool,
    "blocked_argmax_pool": _blocked_argmax_pool,
    "blocked_pool_gradient": _blocked_pool_gradient,
    "random_uniform": _random_uniform,
    "concat": _concat,
    "pad": _pad,
    "take": _indexed(take),
    "put_add": _indexed(put_add),
    "take_along_axis": _indexed(take_along_axis),
    "scatter_add": _indexed(scatter_add),
    "last_writer": _last_writer,
    "argmax_pool": _argmax_pool,
    **dict.fromkeys(("max", "min", "argmax", "argmin"), _extreme),
}
