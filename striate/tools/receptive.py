"""Which part of the input one element of a value depends on, read from the graph.

A need is an interval of indices per axis, or None for the whole axis. It is carried backward
from the central element of a value through each op, so what counts is the arithmetic that is
there, not what a layer is called. Indices may lie in the padding: the field is that of an input
without borders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from math import prod
from typing import Any

from striate.ir.graph import Node, topological
from striate.ops.conv import CONV
from striate.ops.index import TAKE_ALONG_AXIS
from striate.ops.movement import (
    ALIAS,
    BROADCAST_TO,
    CONCAT,
    FLIP,
    PAD,
    RESHAPE,
    SLICE,
    SUM,
    TRANSPOSE,
)
from striate.ops.pool import ARGMAX_POOL, pool_of
from striate.ops.window import Window

Interval = tuple[int, int] | None  # first and last index; None: all of them
Need = tuple[Interval, ...]
Needs = list[tuple[Node, Need]]


class ReceptiveFields:
    """Calls give the receptive field of a value with respect to `source`."""

    def __init__(self, source: Node) -> None:
        self.source = source
        self._order: dict[Node, int] = {source: 0}  # what depends on it, inputs before users
        self._seen: set[Node] = {source}

    def __call__(self, value: Node) -> tuple[int | None, ...] | None:
        """How many indices of each axis of the source the central element of `value` depends on.

        None for an axis of which it depends on all; None in all if it does not depend on it.
        """
        for node in topological([value], stop=self._seen.__contains__):
            if node not in self._seen:
                self._seen.add(node)
                if any(x in self._order for x in node.inputs):
                    self._order[node] = len(self._order)
        if value not in self._order:
            return None
        needs: dict[Node, Need] = {value: tuple(((n - 1) // 2,) * 2 for n in value.shape)}
        todo = [(-self._order[value], value)]
        while todo:
            _, node = heappop(todo)
            if node is self.source:
                return tuple(None if i is None else i[1] - i[0] + 1 for i in needs[node])
            for x, part in _inputs(node, needs[node]):
                if x in needs:
                    needs[x] = _union(needs[x], part)
                elif x in self._order:
                    needs[x] = part
                    heappush(todo, (-self._order[x], x))
        return None


def _union(a: Need, b: Need) -> Need:
    return tuple(
        None if x is None or y is None else (min(x[0], y[0]), max(x[1], y[1]))
        for x, y in zip(a, b, strict=True)
    )


def _inputs(node: Node, need: Need) -> list[tuple[Node, Need]]:
    """What is needed of which nodes before `node` for `need` of itself."""
    if node.op.elementwise or node.op is ALIAS:
        return [(x, need) for x in node.inputs]
    rule = _RULES.get(node.op)
    if rule is None:
        return [(x, (None,) * x.ndim) for x in node.inputs]
    return rule(node, need)


def _through(window: Window, i: Interval) -> Interval:
    """lhs_dilation * x = stride * o + rhs_dilation * k - pad_lo, for o in the interval, all k."""
    if i is None:
        return None
    ends = [
        window.stride * o + window.rhs_dilation * k - window.pad_lo
        for o in i
        for k in (0, window.kernel_size - 1)
    ]
    return -(-min(ends) // window.lhs_dilation), max(ends) // window.lhs_dilation


def _conv(node: Node, need: Need) -> Needs:
    """[N, G, K, *O] of [N, G, C, *I] and [G, K, C, *W]"""
    windows = node.attrs.windows
    spatial = tuple(_through(w, i) for w, i in zip(windows, need[3:], strict=True))
    x, w = node.inputs
    weights = (w, (need[1], need[2], *(None,) * (w.ndim - 2)))
    if any(i is not None and i[0] > i[1] for i in spatial):  # between the inputs: no tap meets one
        return [weights]
    return [(x, (need[0], need[1], None, *spatial)), weights]


def _argmax_pool(node: Node, need: Need) -> Needs:
    lead = node.ndim - len(node.attrs)
    spatial = (_through(w, i) for w, i in zip(node.attrs, need[lead:], strict=True))
    return [(node.inputs[0], (*need[:lead], *spatial))]


def _pooled(node: Node) -> Node | None:
    """The `argmax_pool` whose indices `node` takes: a maximum depends on what its index does."""
    return pool_of(node.inputs[1]) if node.op is TAKE_ALONG_AXIS else None


def _take_along_axis(node: Node, need: Need) -> Needs:
    x, index = node.inputs
    axis = node.attrs.axis
    if _pooled(node) is index:
        return [(index, need)]
    return [(x, tuple(None if a == axis else i for a, i in enumerate(need))), (index, need)]


def _pad(node: Node, need: Need) -> Needs:
    out: list[Interval] = []
    for p, i in zip(node.attrs.axes, need, strict=True):
        step = p.interior + 1
        out.append(None if i is None else (-((p.lo - i[0]) // step), (i[1] - p.lo) // step))
    if any(i is not None and i[0] > i[1] for i in out):
        return []
    return [(node.inputs[0], tuple(out))]


def _slice(node: Node, need: Need) -> Needs:
    inner = (
        None if i is None else (s.start + s.step * i[0], s.start + s.step * i[1])
        for s, i in zip(node.attrs, need, strict=True)
    )
    return [(node.inputs[0], tuple(inner))]


def _flip(node: Node, need: Need) -> Needs:
    inner = (
        (n - 1 - i[1], n - 1 - i[0]) if i is not None and a in node.attrs else i
        for a, (n, i) in enumerate(zip(node.shape, need, strict=True))
    )
    return [(node.inputs[0], tuple(inner))]


def _concat(node: Node, need: Need) -> Needs:
    axis, at = node.attrs, 0
    out: Needs = []
    for x in node.inputs:
        i, n = need[axis], x.shape[axis]
        if i is None or (i[1] >= at and i[0] < at + n):
            part = None if i is None else (max(i[0] - at, 0), min(i[1] - at, n - 1))
            out.append((x, (*need[:axis], part, *need[axis + 1 :])))
        at += n
    return out


def _transpose(node: Node, need: Need) -> Needs:
    out: list[Interval] = [None] * len(need)
    for axis, i in zip(node.attrs, need, strict=True):
        out[axis] = i
    return [(node.inputs[0], tuple(out))]


def _broadcast(node: Node, need: Need) -> Needs:
    (x,) = node.inputs
    inner = need[node.ndim - x.ndim :]
    return [(x, tuple((0, 0) if n == 1 else i for n, i in zip(x.shape, inner, strict=True)))]


def _sum(node: Node, need: Need) -> Needs:
    (x,) = node.inputs
    rest = iter(need)
    return [(x, tuple(None if a in node.attrs else next(rest) for a in range(x.ndim)))]


def _reshape(node: Node, need: Need) -> Needs:
    (x,) = node.inputs
    pooled = _pooled(x)
    if pooled is not None and pooled.shape == node.shape:
        return [(pooled, need)]
    out: list[Interval] = [(0, 0)] * x.ndim
    for sources, targets in _groups(x.shape, node.shape):
        flat = _flatten([node.shape[a] for a in targets], [need[a] for a in targets])
        for a, i in zip(sources, _unflatten([x.shape[a] for a in sources], flat), strict=True):
            out[a] = i
    return [(x, tuple(out))]


def _flatten(shape: list[int], need: list[Interval]) -> Interval:
    """An interval of row-major positions that holds all that is needed."""
    if need[0] is None:
        return None
    low = high = 0
    for n, i in zip(shape, need, strict=True):
        first, last = (0, n - 1) if i is None else i
        low, high = low * n + first, high * n + last
    return low, high


def _unflatten(shape: list[int], flat: Interval) -> list[Interval]:
    """The indices of an interval of positions: behind the first axis that varies, all."""
    out: list[Interval] = []
    for axis in range(len(shape)):
        if flat is None:
            out.append(None)
            continue
        inner = max(1, prod(shape[axis + 1 :]))
        first, last = flat[0] // inner, flat[1] // inner
        out.append((first, last))
        flat = (flat[0] % inner, flat[1] % inner) if first == last else None
    return out


def _groups(a: tuple[int, ...], b: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Axes of both shapes, sizes of 1 left out, in the shortest runs that have the same product."""
    left = [i for i, n in enumerate(a) if n != 1]
    right = [i for i, n in enumerate(b) if n != 1]
    while left and right:
        i = j = 1
        while (p := prod(a[k] for k in left[:i])) != (q := prod(b[k] for k in right[:j])):
            if p < q and i < len(left):
                i += 1
            elif j < len(right):
                j += 1
            else:
                i, j = len(left), len(right)
                break
        yield left[:i], right[:j]
        left, right = left[i:], right[j:]


_RULES: dict[Any, Callable[[Node, Need], Needs]] = {
    CONV: _conv,
    ARGMAX_POOL: _argmax_pool,
    TAKE_ALONG_AXIS: _take_along_axis,
    PAD: _pad,
    SLICE: _slice,
    FLIP: _flip,
    CONCAT: _concat,
    TRANSPOSE: _transpose,
    BROADCAST_TO: _broadcast,
    SUM: _sum,
    RESHAPE: _reshape,
}
