"""The kernel of max pooling's gradient: dx[i] = sum of g[o] over the windows o that chose i.

Gathered for every element i of [*I], over the windows that reach over it, in their order: nothing
is filled with zeros first, and no element has two writers. Elements of a row are taken in tiles
that begin with a window, so that an index and its g are loaded once for the whole tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llvmlite import ir

from striate.codegen.elements import load_element
from striate.codegen.emitter import I32, I64, Emitter, Index, Value, element, storage, vector
from striate.codegen.index_kernels import plus
from striate.codegen.ordering import comparable
from striate.codegen.pool_window import Axis, axes, each_chunk, split, tap_numbers
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


# (place in g along its row, sums of the elements, per element that it reaches its tap along the
# row) -> the sums with it
Meet = Callable[[Value, list[Value], Mapping[int, Index]], list[Value]]


@dataclass(frozen=True)
class MaxPoolGradient:
    """Words: index, g, dx, planes, block, first and last + 1 window at which a tile may begin or
    end, then `axis_words`.

    Attributes:
        dtype: of g and dx.
        limit: lanes at most, a power of two.
        exact: the block has `limit` channels.
        steps: `steps_of` the windows.
        index: bits of an index; 8 are the number of a tap.
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
        windows = e.b.mul(every[0].out, every[0].out_pitch)  # of a plane
        block, first, stop = e.number(4), e.number(5), e.number(6)
        lanes = min(self.limit, e.target.lanes(max(32, self.dtype.bits)))
        size, count = self.tile
        stride = self.steps[-1][0]
        begin = e.b.sub(e.mul(first, stride), last.pad)  # elements that tiles hold
        inside = e.mul(e.b.sub(stop, first), stride)

        def row(i: Value) -> None:
            plane, places = split(e, i, [a.size for a in outer])
            bounds = [a.windows(e, p) for a, p in zip(outer, places, strict=True)]
            flat = e.add(*(e.mul(p, a.pitch) for a, p in zip(outer, places, strict=True)), 0)
            start, origin = e.mul(i, last.size), e.b.mul(plane, windows)
            elements = _Row(self, e, every, places, bounds, origin, flat, start, block, lanes)

            def tile(q: Value) -> None:
                q = e.smaller(q, e.b.sub(stop, e.index(count)))
                before = (size - 1) // stride
                reached = [
                    {t: t - stride * r for t in range(stride * count) if 0 <= t - stride * r < size}
                    for r in range(-before, count)
                ]

                def inner(sums: list[Value], meet: Meet) -> list[Value]:
                    for n, taps in enumerate(reached):
                        sums = meet(e.add(q, n - before), sums, taps)
                    return sums

                elements.gather(e.b.sub(e.mul(q, stride), last.pad), stride * count, inner)

            def border(j: Value) -> None:
                i = e.b.select(e.b.icmp_signed("<", j, begin), j, e.b.add(j, inside))
                ends = last.windows(e, i)

                def inner(sums: list[Value], meet: Meet) -> list[Value]:
                    def window(o: Value, sums: list[Value]) -> list[Value]:
                        return meet(o, sums, {0: last.tap(e, i, o) if self.index == 8 else 0})

                    return e.loop(*ends, 1, sums, window)

                elements.gather(i, 1, inner)

            if count:
                e.each(first, stop, tile, count)
            e.each(0, e.b.sub(last.size, inside), border)

        e.each(*e.share(rows), row)


@dataclass(frozen=True)
class _Row:
    """One row of elements, while it is emitted.

    Attributes:
        kernel, e: what is emitted, and where.
        axes: all of them.
        places: of the outer axes, where the row is.
        bounds: of the outer axes, the windows that reach over the row.
        origin: where the plane begins in g, in positions.
        flat: where the row begins in its plane.
        start: where the row begins in dx, in positions.
        block: channels in a block.
        lanes: channels at a time.
    """

    kernel: MaxPoolGradient
    e: Emitter
    axes: Sequence[Axis]
    places: Sequence[Value]
    bounds: Sequence[tuple[Value, Value]]
    origin: Value
    flat: Value
    start: Value
    block: Value
    lanes: int

    def gather(
        self, i: Value, width: int, inner: Callable[[list[Value], Meet], list[Value]]
    ) -> None:
        """dx at elements i .. i + width - 1 of the row; `inner(sums, meet)` lets the sums meet
        windows of a row of g.
        """
        e, k = self.e, self.kernel
        kind, counted = comparable(k.dtype), k.index == 8
        positions = [] if counted else [self.spread(e.add(self.flat, i, t)) for t in range(width)]
        apart = tap_numbers(e, self.axes)

        def chunk(c: Index) -> None:
            def visit(axis: int, at: Value, number: Value, sums: list[Value]) -> list[Value]:
                """`at`: where the row of g begins; `number`: of the row's first tap."""

                def meet(o: Value, sums: list[Value], taps: Mapping[int, Index]) -> list[Value]:
                    place = e.add(e.mul(e.add(at, o), self.block), c)
                    index = self.indices(place)
                    g = load_element(e, e.at(e.pointer(1), place, storage(kind)), kind, self.lanes)
                    sums = [*sums]
                    for t, tap in taps.items():
                        wanted = self.spread(e.add(number, tap)) if counted else positions[t]
                        chosen = e.b.icmp_signed("==", index, wanted)
                        sums[t] = e.b.select(chosen, plus(e, k.dtype, sums[t], g), sums[t])
                    return sums

                if axis == len(self.bounds):
                    return inner(sums, meet)
                a, (first, stop) = self.axes[axis], self.bounds[axis]

                def window(o: Value, sums: list[Value]) -> list[Value]:
                    tap = e.mul(a.tap(e, self.places[axis], o), apart[axis]) if counted else 0
                    start = e.b.add(at, e.b.mul(o, a.out_pitch))
                    return visit(axis + 1, start, e.add(number, tap), sums)

                return e.loop(first, stop, 1, sums, window)

            zero = e.const(vector(element(kind), self.lanes), 0)
            sums = visit(0, self.origin, e.index(0), [zero] * width)
            for t, total in enumerate(sums):
                to = e.add(e.mul(e.add(self.start, i, t), self.block), c)
                e.store(e.narrow(total, kind), e.at(e.pointer(2), to, storage(kind)))

        each_chunk(e, self.block, k.limit, self.lanes, k.exact, chunk)

    def indices(self, at: Value) -> Value:
        """The indices at a place, as they are compared."""
        e, kind = self.e, ir.IntType(self.kernel.index)
        index = e.load(e.at(e.pointer(0), at, kind), vector(kind, self.lanes))
        if self.kernel.index == 8:
            return e.b.zext(index, vector(I64 if self.kernel.wide else I32, self.lanes))
        narrow = self.kernel.index == 64 and not self.kernel.wide
        return e.b.trunc(index, vector(I32, self.lanes)) if narrow else index

    def spread(self, i: Value) -> Value:
        """A position in all lanes, as it is compared."""
        return self.e.splat(i if self.kernel.wide else self.e.b.trunc(i, I32), self.lanes)
