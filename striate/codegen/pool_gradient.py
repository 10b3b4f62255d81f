"""The kernel of max pooling's gradient: dx[i] = sum of g[o] over the windows o that chose i.

Gathered for every element i of [*I], over the windows that reach over it, in their order: nothing
is filled with zeros first, and no element has two writers. Elements of a row are taken in tiles
that begin with a window, so that an index and its g are loaded once for the whole tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from striate.codegen.elements import load_element
from striate.codegen.emitter import I32, Emitter, Index, Value, element, storage, vector
from striate.codegen.pool_window import axes, each_chunk, split
from striate.dtype import DType
from striate.ops.window import Window


def tiles_of(w: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """((kernel, windows a tile), (first, last + 1) window) of the axis along a row: tiles
    of stride * windows elements that begin where window 0 of the tile begins, such that every
    window that meets one of them exists. (0, 0) where there are none.
    """
    k, s, p = w.kernel_size, w.stride, w.pad_lo
    if w.rhs_dilation != 1 or s > 4 or k > 5:
        return (0, 0), (0, 0)
    first = max((k - 1) // s, -(-p // s))
    stop = min(w.out_size, (w.in_size + p) // s)
    m = min(max(1, 4 // s), stop - first)
    return ((k, m), (first, stop)) if m > 0 else ((0, 0), (0, 0))


@dataclass(frozen=True)
class MaxPoolGradient:
    """Words: index, g, dx, planes, block, first and last + 1 window at which a tile may begin or
    end, then `axis_words`.

    Attributes:
        dtype: of g and dx, not bool.
        limit: lanes at most, a power of two.
        exact: the block has `limit` channels.
        steps: `steps_of` the windows.
        index: bits of an index.
        tile: `tiles_of` the last window.
        wide: positions are compared in 64 bits.
    """

    dtype: DType
    limit: int
    exact: bool
    steps: tuple[tuple[int, int], ...]
    index: int
    tile: tuple[int, int]
    wide: bool

    @property
    def name(self) -> str:
        """As `max_pool_gradient_f32_3_2`."""
        return f"max_pool_gradient_{self.dtype.short}_{self.tile[0] or 'n'}_{self.steps[-1][0]}"

    def emit(self, e: Emitter) -> None:
        """Rows of elements are shared."""
        every = axes(e, 7, self.steps)
        outer, last = every[:-1], every[-1]
        rows = e.number(3)
        for axis in outer:
            rows = e.b.mul(rows, axis.size)
        block, first, stop = e.number(4), e.number(5), e.number(6)
        lanes = min(self.limit, e.target.lanes(max(32, self.dtype.bits)))
        windows = e.b.mul(every[0].out, every[0].out_pitch)  # of a plane
        size, count = self.tile
        stride = self.steps[-1][0]

        def row(i: Value) -> None:
            plane, places = split(e, i, [a.size for a in outer])
            bounds = [a.windows(e, p) for a, p in zip(outer, places, strict=True)]
            flat = e.add(*(e.mul(p, a.pitch) for a, p in zip(outer, places, strict=True)), 0)
            start = e.mul(i, last.size)

            def gather(
                i: Value,
                c: Index,
                width: int,
                inner: tuple[Value, Value],
                reached: Sequence[range],
            ) -> None:
                """dx at elements i .. i + width - 1 of the row from windows [inner) of the last
                axis, or those of one loop if `reached` says which elements each one reaches."""
                wanted = [self.spread(e, e.add(flat, i, t), lanes) for t in range(width)]

                def meet(at: Value, sums: list[Value], columns: range) -> list[Value]:
                    at = e.add(e.mul(at, block), c)
                    index = self.positions(e, at, lanes)
                    g = load_element(
                        e, e.at(e.pointer(1), at, storage(self.dtype)), self.dtype, lanes
                    )
                    for t in columns:
                        plus = e.b.fadd if self.dtype.is_floating else e.b.add
                        chosen = e.b.icmp_signed("==", index, wanted[t])
                        sums[t] = e.b.select(chosen, plus(sums[t], g), sums[t])
                    return sums

                def visit(axis: int, at: Value, sums: list[Value]) -> list[Value]:
                    if axis < len(outer):
                        pitch = outer[axis].out_pitch
                        return e.loop(
                            *bounds[axis],
                            1,
                            sums,
                            lambda o, s: visit(axis + 1, e.b.add(at, e.b.mul(o, pitch)), s),
                        )
                    if not reached:
                        return e.loop(
                            *inner, 1, sums, lambda o, s: meet(e.b.add(at, o), s, range(1))
                        )
                    for n, columns in enumerate(reached):
                        sums = meet(e.add(at, inner[0], n), sums, columns)
                    return sums

                zero = e.const(vector(element(self.dtype), lanes), 0)
                for t, total in enumerate(visit(0, e.b.mul(plane, windows), [zero] * width)):
                    to = e.at(
                        e.pointer(2),
                        e.add(e.mul(e.add(start, i, t), block), c),
                        storage(self.dtype),
                    )
                    e.store(e.narrow(total, self.dtype), to)

            def tile(q: Value) -> None:
                q = e.smaller(q, e.b.sub(stop, e.index(count)))
                before = (size - 1) // stride
                reached = [
                    range(max(0, stride * r), min(stride * count, stride * r + size))
                    for r in range(-before, count)
                ]
                inner = (e.add(q, -before), e.index(0))
                i = e.b.sub(e.mul(q, stride), last.pad)
                each_chunk(
                    e,
                    block,
                    self.limit,
                    lanes,
                    self.exact,
                    lambda c: gather(i, c, stride * count, inner, reached),
                )

            def border(j: Value) -> None:
                if count:
                    i = e.b.select(e.b.icmp_signed("<", j, begin), j, e.b.add(j, inside))
                else:
                    i = j
                inner = last.windows(e, i)
                each_chunk(
                    e,
                    block,
                    self.limit,
                    lanes,
                    self.exact,
                    lambda c: gather(i, c, 1, inner, ()),
                )

            begin = e.b.sub(e.mul(first, stride), last.pad)
            inside = e.mul(e.b.sub(stop, first), stride)
            if count:
                e.each(first, stop, tile, count)
            e.each(0, e.b.sub(last.size, inside), border)

        e.each(*e.share(rows), row)

    def positions(self, e: Emitter, at: Value, lanes: int) -> Value:
        """The indices at a place, as they are compared."""
        kind = ir.IntType(self.index)
        index = e.load(e.at(e.pointer(0), at, kind), vector(kind, lanes))
        if self.wide or self.index == 32:
            return index
        return e.b.trunc(index, vector(I32, lanes))

    def spread(self, e: Emitter, i: Value, lanes: int) -> Value:
        """A position in all lanes, as it is compared."""
        return e.splat(i if self.wide else e.b.trunc(i, I32), lanes)
