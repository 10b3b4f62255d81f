"""Layouts: convolutions and all that stands between them work on blocks of channels.

A value [N, C, *I] is held as [N, C/b, *I, b], so that a vector holds b channels of one place. The
conversions are reshapes and transposes like any others; they stand where a blocked value meets an
op that is not, and cancel where two meet. Ops that act on each element, sums, pooling, and moves
along spatial axes are done on blocks; anything else is given the plain value. Which blocks a
convolution wants depends on the processor: a `Layouts` says it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

import numpy as np

from striate.dtype import DType
from striate.ir.graph import CONSTANT, PARAMETER, Graph, Node, Op, Value, apply, made_for
from striate.ir.types import TensorType
from striate.ops.conv import CONV, ConvSpec
from striate.ops.index import PUT_ADD, SCATTER_ADD, TAKE, TAKE_ALONG_AXIS
from striate.ops.movement import (
    BROADCAST_TO,
    CONCAT,
    FLIP,
    PAD,
    RESHAPE,
    SLICE,
    SUM,
    TRANSPOSE,
    PadAttrs,
    Padding,
    Span,
    broadcast_to,
    pad,
    reshape,
    slice_axes,
    sum_axes,
    transpose,
)
from striate.ops.pool import ARGMAX_POOL, pool_of
from striate.transform.blocked_pool import (
    BLOCKED_ARGMAX_POOL,
    BLOCKED_MAX_POOL,
    BLOCKED_POOL_GRADIENT,
    BlockedPool,
)
from striate.transform.channel_blocks import (
    block,
    block_value,
    fill_blocks,
    unblock,
    unblock_value,
)
from striate.transform.views import StridedView, is_dense, view_through, whole

FEW_TAPS = 36  # of a window: so few that a gradient is gathered, not scattered


class Layouts(Protocol):
    """The blocks that the kernels of a processor want."""

    def block(self, channels: int, dtype: DType) -> int:
        """The block of a number of channels; 1 is none."""
        ...

    def conv(self, spec: ConvSpec, dtype: DType) -> tuple[int, int] | None:
        """Blocks of x and y for which there is a kernel; None if there are none."""
        ...

    def weight_gradient(self, spec: ConvSpec, dtype: DType) -> tuple[int, int] | None:
        """Blocks of x and g for which there is a kernel; `spec` is the forward one."""
        ...

    def small(self, spec: ConvSpec, dtype: DType) -> bool:
        """Whether there is a kernel in any blocks, since images are small."""
        ...

    def small_weights(self, spec: ConvSpec, dtype: DType) -> bool:
        """The same of a weight gradient; `spec` is the forward one."""
        ...

    def filled(self, spec: ConvSpec, dtype: DType) -> int | None:
        """The block that a depthwise convolution or its weight gradient wants, where it does not
        divide the channels and the last block is to be filled with zeros; None: as they are.
        """
        ...


# ---- ops on blocks, and their references ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockedConv:
    """A convolution of x [N, G*C/xb, *I, xb] and w [G, K, C, *W] to y [N, G*K/yb, *O, yb]; or the
    weight gradient of x and g [N, G*K/yb, *O, yb], which is [G, K, C, *W].
    """

    spec: ConvSpec
    x_block: int
    y_block: int

    @property
    def x_shape(self) -> tuple[int, ...]:
        """[N, G*C/xb, *I, xb]"""
        return _blocked_shape(self.spec.lhs_shape, self.x_block)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """[N, G*K/yb, *O, yb]"""
        return _blocked_shape(self.spec.out_shape, self.y_block)


def _blocked_shape(shape: tuple[int, ...], b: int) -> tuple[int, ...]:
    n, g, c, *rest = shape
    return (n, g * c // b, *rest, b)


def _conv_reference(attrs: BlockedConv, x: Value, w: Value) -> Value:
    spec = attrs.spec
    y = CONV.reference(spec, unblock_value(x).reshape(spec.lhs_shape), w)
    n, g, k, *rest = y.shape
    return np.ascontiguousarray(block_value(y.reshape(n, g * k, *rest), attrs.y_block))


def _gradient_reference(attrs: BlockedConv, x: Value, g: Value) -> Value:
    spec = attrs.spec
    lhs = unblock_value(x).reshape(spec.lhs_shape).swapaxes(0, 2)
    rhs = np.moveaxis(unblock_value(g).reshape(spec.out_shape), 0, 2)
    return np.moveaxis(CONV.reference(spec.rhs_adjoint(), lhs, rhs), 0, 2)


BLOCKED_CONV = Op("blocked_conv", lambda a, x, w: TensorType(a.y_shape, x.dtype), _conv_reference)
BLOCKED_WEIGHT_GRADIENT = Op(
    "blocked_weight_gradient",
    lambda a, x, g: TensorType(a.spec.rhs_shape, x.dtype),
    _gradient_reference,
)


# ---- the pass ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blocked:
    """A value [N, C, *I], whatever axes its node has merged or split, as blocks.

    Attributes:
        node: [N, C/b, *I, b].
        shape: (N, C, *I).
    """

    node: Node
    shape: tuple[int, ...]

    @property
    def b(self) -> int:
        """Channels of a block."""
        return self.node.shape[-1]

    def stands_for(self, shape: tuple[int, ...]) -> bool:
        """Whether a node of this shape holds the same elements in the same order, with the axes of
        this value merged or split only as convolutions and pools do.
        """
        n, c, *rest = self.shape
        if prod(shape) != prod(self.shape):
            return False
        grouped = len(shape) == len(self.shape) + 1 and shape[0] == n and shape[3:] == (*rest,)
        singles = shape == (n * c, 1, 1, *rest)
        return shape in (self.shape, (n, c, prod(rest))) or grouped or singles


class _Pass:
    def __init__(self, graph: Graph, layouts: Layouts) -> None:
        self.layouts = layouts
        self.plain: dict[Node, Node] = {x: x for x in graph.inputs}
        self.blocked: dict[Node, Blocked] = {}
        self.positions: dict[Node, Node] = {}  # of argmax_pool, blocked
        self.views: dict[Node, StridedView] = {}
        for n in graph.nodes():
            self._view(n)
            if n not in self.plain:
                with made_for(n.origin):
                    self._visit(n)
        self.outputs = tuple(self.as_plain(y) for y in graph.outputs)

    def _view(self, n: Node) -> None:
        of = self.views.get(n.inputs[0]) if n.inputs else None
        view = None if of is None or n.op.elementwise else view_through(n, of)
        self.views[n] = whole(n) if view is None else view

    def _stored_dense(self, n: Node) -> bool:
        if n not in self.views:
            for x in n.inputs:
                self._stored_dense(x)
            self._view(n)
        return is_dense(n.shape, self.views[n].strides)

    # ---- both forms of a value ---------------------------------------------------------

    def as_plain(self, n: Node) -> Node:
        """The value with its own axes."""
        if n not in self.plain:
            self.plain[n] = reshape(unblock(self.blocked[n].node), n.shape)
        return self.plain[n]

    def as_blocked(self, n: Node, shape: tuple[int, ...], b: int) -> Node:
        """The value, taken for [N, C, *I], as blocks."""
        found = self.blocked.get(n)
        if found is not None and found.shape == shape and found.b == b:
            return found.node
        if n.op is BROADCAST_TO and n.shape == shape and n not in self.blocked:
            return self._broadcast(n, b)
        return block(reshape(self.as_plain(n), shape), b)

    def block_of(self, n: Node, shape: tuple[int, ...]) -> int:
        """The block in which the value [N, G, C, *I] is at hand; 1 if in none."""
        found, (size, g, c, *rest) = self.blocked.get(n), shape
        return found.b if found is not None and found.shape == (size, g * c, *rest) else 1

    def _broadcast(self, n: Node, b: int) -> Node:
        x = n.inputs[0]
        shape = (*[1] * (n.ndim - x.ndim), *x.shape)
        size, c, *rest = n.shape
        whole_shape = (size, c // b, *rest, b)
        if shape[1] == 1:
            one = reshape(self.as_plain(x), (shape[0], 1, *shape[2:], 1))
            return broadcast_to(one, whole_shape)
        return broadcast_to(block(reshape(self.as_plain(x), shape), b), whole_shape)

    def _any_blocked(self, n: Node) -> Blocked | None:
        for x in n.inputs:
            found = self.blocked.get(x)
            if found is not None and found.shape == x.shape:
                return found
        return None

    # ---- nodes -------------------------------------------------------------------------

    def _visit(self, n: Node) -> None:
        if n.op is PARAMETER or n.op is CONSTANT:
            self.plain[n] = n
            return
        rule = RULES.get(n.op)
        if n.op.elementwise:
            rule = _elementwise
        if rule is None or not rule(self, n):
            self.plain[n] = apply(n.op, tuple(self.as_plain(x) for x in n.inputs), n.attrs)

    def put(self, n: Node, node: Node, shape: tuple[int, ...]) -> bool:
        """Note the blocks of a node."""
        self.blocked[n] = Blocked(node, shape)
        return True


Rule = Callable[[_Pass, Node], bool]


def _elementwise(p: _Pass, n: Node) -> bool:
    found = p._any_blocked(n) or next(
        (p.blocked[x] for x in n.inputs if x in p.blocked and p.blocked[x].stands_for(n.shape)),
        None,  # as the sum of two convolutions' gradients [N, G, C, *I]
    )
    if found is None:
        return False
    inputs = tuple(p.as_blocked(x, found.shape, found.b) for x in n.inputs)
    return p.put(n, apply(n.op, inputs, n.attrs), found.shape)


def _reshape(p: _Pass, n: Node) -> bool:
    found = p.blocked.get(n.inputs[0])
    if found is None or not found.stands_for(n.shape):
        return False
    return p.put(n, found.node, found.shape)


def _conv(p: _Pass, n: Node) -> bool:
    x, w = n.inputs
    rules = (_single_channels, _small, _weight_gradient, _dense)
    return any(rule(p, n, x, w) for rule in rules)


def _exchanged(x: Node) -> bool:
    """Whether the channels of a value have been made images, as they are for a weight gradient."""
    return x.op is TRANSPOSE and x.attrs[0] == 2


def _small(p: _Pass, n: Node, x: Node, w: Node) -> bool:
    """Images of a few pixels, in the blocks in which they are."""
    spec: ConvSpec = n.attrs
    if not p.layouts.small(spec, n.type.dtype) or _exchanged(x):
        return False
    b = p.block_of(x, spec.lhs_shape)
    y_block = p.layouts.block(spec.out_features, n.type.dtype) if b > 1 else 1
    return _apply_conv(p, n, spec, x, p.as_plain(w), (b, y_block))


def _filled(p: _Pass, v: Node, b: int) -> Node:
    """[N, G, 1, *I] -> [N, ceil(G/b), *I, b]"""
    return fill_blocks(reshape(p.as_plain(v), (*v.shape[:2], *v.shape[3:])), b)


def _first(y: Node, axis: int, n: int) -> Node:
    """The first n elements of an axis."""
    return slice_axes(y, [slice(n) if a == axis else slice(None) for a in range(y.ndim)])


def _dense(p: _Pass, n: Node, x: Node, w: Node) -> bool:
    spec: ConvSpec = n.attrs
    b = p.layouts.filled(spec, n.type.dtype)
    if b is not None:
        groups = -(-spec.groups // b) * b
        more = [(0, groups - spec.groups), *[(0, 0)] * (w.ndim - 1)]
        attrs = BlockedConv(replace(spec, groups=groups), b, b)
        y = apply(BLOCKED_CONV, (_filled(p, x, b), pad(p.as_plain(w), more)), attrs)
        p.plain[n] = reshape(_first(unblock(y), 1, spec.groups), n.shape)
        return True
    blocks = p.layouts.conv(spec, n.type.dtype)
    if blocks is None:
        return False
    return _apply_conv(p, n, spec, x, p.as_plain(w), blocks)


def _apply_conv(
    p: _Pass, n: Node, spec: ConvSpec, x: Node, w: Node, blocks: tuple[int, int]
) -> bool:
    size, g, c, *rest = spec.lhs_shape
    lhs = p.as_blocked(x, (size, g * c, *rest), blocks[0])
    y = apply(BLOCKED_CONV, (lhs, w), BlockedConv(spec, *blocks))
    size, g, k, *rest = spec.out_shape
    return p.put(n, y, (size, g * k, *rest))


def _single_channels(p: _Pass, n: Node, x: Node, w: Node) -> bool:
    """Channels that were made images, each with the same filter: average pooling and its adjoint
    are depthwise convolutions.
    """
    spec: ConvSpec = n.attrs
    found = p.blocked.get(x)
    if found is None or (spec.groups, spec.in_features, spec.out_features) != (1, 1, 1):
        return False
    size, c = found.shape[:2]
    if x.shape != (size * c, 1, 1, *found.shape[2:]) or not spec.windows:
        return False
    whole_spec = ConvSpec(size, c, 1, 1, spec.windows)
    blocks = p.layouts.conv(whole_spec, n.type.dtype)
    if blocks is None:
        return False
    weights = broadcast_to(p.as_plain(w), whole_spec.rhs_shape)
    return _apply_conv(p, n, whole_spec, x, weights, blocks)


def _weight_gradient(p: _Pass, n: Node, x: Node, w: Node) -> bool:
    """x[C, G, N, *I], g[G, K, N, *O] -> [C, G, K, *W]: a sum over images and places."""
    forward: ConvSpec = n.attrs.rhs_adjoint()
    lhs = transpose(x, (2, 1, 0, *range(3, x.ndim)))  # [N, G, C, *I]
    rhs = transpose(w, (2, 0, 1, *range(3, w.ndim)))  # [N, G, K, *O]
    taps, outs = (prod(s[3:]) for s in (n.attrs.rhs_shape, n.attrs.out_shape))
    small = _exchanged(x) and p.layouts.small_weights(forward, n.type.dtype)
    if (
        not small
        and taps <= outs
        and (n.attrs.windows or not (p._stored_dense(lhs) and p._stored_dense(rhs)))
    ):
        return False
    for v in (lhs, rhs):
        if v not in p.plain and v not in p.blocked:
            p.plain[v] = apply(v.op, tuple(p.as_plain(y) for y in v.inputs), v.attrs)
    filled = p.layouts.filled(forward, n.type.dtype)
    if filled is not None:
        more = replace(forward, groups=-(-forward.groups // filled) * filled)
        if p.layouts.weight_gradient(more, n.type.dtype) != (filled, filled):
            return False
        attrs = BlockedConv(more, filled, filled)
        operands = tuple(_filled(p, v, filled) for v in (lhs, rhs))
        dw = apply(BLOCKED_WEIGHT_GRADIENT, operands, attrs)
        dw = _first(dw, 0, forward.groups)
        p.plain[n] = transpose(dw, (2, 0, 1, *range(3, dw.ndim)))
        return True
    blocks = p.layouts.weight_gradient(forward, n.type.dtype)
    if small:
        blocks = (p.block_of(lhs, lhs.shape), p.block_of(rhs, rhs.shape))
    if blocks is None:
        return False
    parts = []
    for v, b in ((lhs, blocks[0]), (rhs, blocks[1])):
        size, g, c, *rest = v.shape
        parts.append(p.as_blocked(v, (size, g * c, *rest), b))
    dw = apply(BLOCKED_WEIGHT_GRADIENT, tuple(parts), BlockedConv(forward, *blocks))
    p.plain[n] = transpose(dw, (2, 0, 1, *range(3, dw.ndim)))  # [G, K, C, *W] -> [C, G, K, *W]
    return True


def _sum(p: _Pass, n: Node) -> bool:
    (x,) = n.inputs
    found = p.blocked.get(x)
    if found is None or found.shape != x.shape:
        return False
    axes, last = n.attrs, found.node.ndim - 1
    spatial = {*range(2, x.ndim)}
    if 1 in axes:
        p.plain[n] = sum_axes(found.node, (*axes, last))
        return True
    if spatial <= {*axes}:
        p.plain[n] = reshape(sum_axes(found.node, axes), n.shape)
        return True
    if 0 in axes:
        return False
    return p.put(n, sum_axes(found.node, axes), n.shape)


def _pad(p: _Pass, n: Node) -> bool:
    found = p._any_blocked(n)
    if found is None or any(a != Padding() for a in n.attrs.axes[:2]):
        return False
    attrs = PadAttrs((*n.attrs.axes, Padding()), n.attrs.value)
    return p.put(n, apply(PAD, (found.node,), attrs), n.shape)


def _slice(p: _Pass, n: Node) -> bool:
    found = p._any_blocked(n)
    if found is None:
        return False
    channels: Span = n.attrs[1]
    b = found.b
    if channels.step != 1 or channels.start % b or channels.stop % b:
        return False
    spans = (n.attrs[0], Span(channels.start // b, channels.stop // b), *n.attrs[2:], Span(0, b))
    return p.put(n, apply(SLICE, (found.node,), spans), n.shape)


def _flip(p: _Pass, n: Node) -> bool:
    found = p._any_blocked(n)
    if found is None or 1 in n.attrs:
        return False
    return p.put(n, apply(FLIP, (found.node,), n.attrs), n.shape)


def _concat(p: _Pass, n: Node) -> bool:
    found = [p.blocked[x].b for x in n.inputs if x in p.blocked and p.blocked[x].shape == x.shape]
    if not found:
        return False
    b = min(found)
    if any(x.shape[1] % b for x in n.inputs):
        return False
    inputs = tuple(p.as_blocked(x, x.shape, b) for x in n.inputs)
    return p.put(n, apply(CONCAT, inputs, n.attrs), n.shape)


def _along_space(p: _Pass, n: Node) -> bool:
    x, index = n.inputs
    found = p.blocked.get(x)
    if found is None or found.shape != x.shape or n.attrs.axis < 2:
        return False
    return p.put(n, apply(n.op, (found.node, p.as_plain(index)), n.attrs), n.shape)


def _transpose(p: _Pass, n: Node) -> bool:
    """The two axes of the channels stay neighbours: one copy, not two."""
    (x,) = n.inputs
    found = p.blocked.get(x)
    if found is None or found.shape != x.shape or x in p.plain:
        return False
    order: list[int] = []
    for a in n.attrs:
        order += [1, found.node.ndim - 1] if a == 1 else [a]
    p.plain[n] = reshape(transpose(found.node, tuple(order)), n.shape)
    return True


# ---- max pooling ---------------------------------------------------------------------------


def _positions(n: Node, shape: tuple[int, ...]) -> Node | None:
    """The argmax_pool that gives these flat indices [N, C, prod(O)], if one does."""
    return pool_of(n) if n.shape == shape else None


def _argmax(p: _Pass, n: Node) -> bool:
    """Lazily: where the plain indices are asked for, they are computed plainly."""
    found = p._any_blocked(n)
    if found is None or prod(n.inputs[0].shape[2:]) >= 2**31:
        return False
    counted = found.b >= 4 and prod(w.kernel_size for w in n.attrs) <= FEW_TAPS
    p.positions[n] = apply(BLOCKED_ARGMAX_POOL, (found.node,), BlockedPool(n.attrs, counted))
    return False


def _take_along(p: _Pass, n: Node) -> bool:
    x, index = n.inputs
    found = p.blocked.get(x)
    pool = _positions(index, n.shape)
    if found is None or pool is None or n.attrs.axis != 2 or pool not in p.positions:
        return False
    of = p.blocked.get(pool.inputs[0])
    if of is None or x.shape != (*found.shape[:2], prod(found.shape[2:])):
        return False
    if of.node is not found.node:  # the values of another array at these places
        return False
    y = apply(BLOCKED_MAX_POOL, (found.node,), p.positions[pool].attrs)
    return p.put(n, y, pool.shape)


def _scatter(p: _Pass, n: Node) -> bool:
    g, index = n.inputs
    pool = _positions(index, g.shape)
    if pool is None or n.attrs.axis != 2 or pool not in p.positions:
        return False
    if n.attrs.size != prod(pool.inputs[0].shape[2:]):
        return False
    positions = p.positions[pool]
    grad = p.as_blocked(g, pool.shape, positions.shape[-1])
    y = apply(BLOCKED_POOL_GRADIENT, (grad, positions), positions.attrs)
    return p.put(n, y, pool.inputs[0].shape)


RULES: dict[Op, Rule] = {
    RESHAPE: _reshape,
    CONV: _conv,
    SUM: _sum,
    PAD: _pad,
    SLICE: _slice,
    FLIP: _flip,
    CONCAT: _concat,
    TAKE: _along_space,
    PUT_ADD: _along_space,
    TRANSPOSE: _transpose,
    ARGMAX_POOL: _argmax,
    TAKE_ALONG_AXIS: _take_along,
    SCATTER_ADD: _scatter,
}


def block_channels(graph: Graph, layouts: Layouts) -> Graph:
    """The graph with convolutions, and what lies between them, on blocks of channels."""
    done = _Pass(graph, layouts)
    return Graph(graph.inputs, done.outputs)
