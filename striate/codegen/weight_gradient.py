"""Weight gradients, direct: the contraction of a convolution over the batch and its outputs.

    dw[g, k, c, *w] = sum over n, o of x[n, g * C + c, i(o, w)] * gy[n, g * K + k, o]

For each axis, the solutions (i, o) of  a * i = s * o + d * w - p  at one tap w are the points

    i = x_step * m + x_shift[w],   o = g_step * m + g_shift[w],   first[w] <= m < stop[w]

with x_step = s / gcd(a, s) and g_step = a / gcd(a, s): so strides, dilations of either kind, flips
and padding are numbers in a table, and no product with an inserted zero is left. The batch is one
more axis, with one tap; axes with one tap are merged where their pixels follow one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import ceil, gcd, prod

from striate.codegen.kernel import ALIGNMENT, At, Buffer, Scratch, Step, Table, View, Word
from striate.codegen.weight_gradient_copy import Packing
from striate.codegen.weight_gradient_kernel import UNIT_LIMIT, WeightGradientKernel
from striate.dtype import DType, float64
from striate.ops.conv import ConvSpec
from striate.ops.window import Window
from striate.target import Target

SUMS_BYTES = 1 << 20  # of the sums of one unit
MOST_VECTORS = 8  # of features in a register tile
BLOCK_BYTES = 24 << 10  # of the operands of a tile in one block of pixels


@dataclass(frozen=True, slots=True)
class Tap:
    """The pixels first <= m < stop of one tap, and its (x, g) shifts in positions."""

    first: int
    stop: int
    x: int = 0
    g: int = 0


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of pixels.

    Attributes:
        size: number of pixels m.
        taps: the taps.
        x_step, g_step: positions of an operand from pixel to pixel.
        x_stride, g_stride: elements of an operand from position to position.
        x_size, g_size: positions of an operand.
    """

    size: int
    taps: tuple[Tap, ...]
    x_step: int
    g_step: int
    x_stride: int
    g_stride: int
    x_size: int
    g_size: int

    @classmethod
    def of(cls, window: Window, x_stride: int, g_stride: int) -> Axis:
        """The pixels of one spatial axis."""
        t = window.canonical_sign()
        a, s, d, p = t.lhs_dilation, t.stride, t.rhs_dilation, t.pad_lo
        x_step, g_step = s // gcd(a, s), a // gcd(a, s)
        taps = []
        for w in range(t.kernel_size):
            outs = range(min(g_step, t.out_size))
            o = next((o for o in outs if (s * o + d * w - p) % a == 0), None)
            if o is None:
                taps.append(Tap(0, 0))
                continue
            i = (s * o + d * w - p) // a
            inside = Window(t.in_size, -(-(t.out_size - o) // g_step), 1, x_step, pad_lo=-i)
            ms = inside.outputs_of(0)
            taps.append(Tap(ms.start, ms.stop, i, o) if ms else Tap(0, 0))
        size = max(t.stop for t in taps) if taps else 0
        return cls(size, tuple(taps), x_step, g_step, x_stride, g_stride, t.in_size, t.out_size)

    def plain(self) -> tuple[Axis, int, int]:
        """An axis of one tap as one whose positions are its pixels, and where its pixel 0 stands in
        x and in g; another axis as it is.
        """
        if len(self.taps) != 1:
            return self, 0, 0
        (tap,) = self.taps
        size = tap.stop - tap.first
        strides = self.x_step * self.x_stride, self.g_step * self.g_stride
        x = tap.first * strides[0] + tap.x * self.x_stride
        g = tap.first * strides[1] + tap.g * self.g_stride
        return Axis(size, (Tap(0, size),), 1, 1, *strides, size, size), x, g

    def follows(self, outer: Axis) -> bool:
        """Whether the pixels of `outer` and of this plain axis are one row in both operands."""
        return (
            len(outer.taps) == len(self.taps) == 1
            and outer.x_stride == self.x_stride * self.size
            and outer.g_stride == self.g_stride * self.size
        )


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    """The axes, neighbours merged where they are one row."""
    done: list[Axis] = []
    for axis in axes:
        if done and axis.follows(done[-1]):
            size = done.pop().size * axis.size
            done.append(replace(axis, size=size, taps=(Tap(0, size),), x_size=size, g_size=size))
        else:
            done.append(axis)
    return done


def _steps(axes: Sequence[Axis], pixels: int) -> list[int]:
    """How much of each axis one block has: equal parts of at most about `pixels` in all."""
    steps: list[int] = []
    for axis in reversed(axes):
        part = max(1, min(axis.size, pixels))
        parts = ceil(axis.size / part) or 1
        steps.insert(0, max(1, ceil(axis.size / parts)))
        pixels = pixels // part if parts == 1 else 1
    return steps


@dataclass(frozen=True, slots=True)
class Operand:
    """How x or g is read.

    Attributes:
        buffer: its memory.
        origin: elements before pixel 0 of all axes.
        channels: per group.
        block, block_stride: channel c stands at c // block * block_stride + c % block.
        packing: as the kernel's, or None.
        width: channels of a panel.
        strides: elements from position to position of each axis, packed or not.
        panel: elements from panel to panel.
    """

    buffer: Buffer
    origin: int
    channels: int
    block: int
    block_stride: int
    packing: Packing | None
    width: int
    strides: tuple[int, ...]
    panel: int


def _packing(lanes: int, groups: int, channels: int, block: int) -> Packing | None:
    """How blocks are packed; None if they are neither parts of a vector nor made of vectors."""
    if block == 1:
        return "planes"
    if block in (channels, groups * channels) or block % lanes == 0:
        return "lanes"
    return "parts" if lanes % block == 0 else None


def _lanes(target: Target, dtype: DType) -> int:
    return target.lanes(64 if dtype is float64 else 32)


def weight_gradient_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, g_block: int
) -> bool:
    """Whether `weight_gradient` takes these layouts, and has a schedule that suits the sizes."""
    lanes = _lanes(target, dtype)
    if not dtype.is_floating or (spec.groups > 1 and min(spec.in_features, spec.out_features) < 4):
        return False
    pairs = ((spec.in_features, x_block), (spec.out_features, g_block))
    return all(
        block >= 1
        and (features % block == 0 or block == spec.groups * features)
        and _packing(lanes, spec.groups, features, block) is not None
        for features, block in pairs
    )


def _tilings(vectors: int) -> Iterator[dict[int, int]]:
    """{vectors of a register tile: number of tiles} that cover the features."""
    for n in range(1, min(vectors, MOST_VECTORS) + 1):
        count, rest = divmod(vectors, n)
        if not rest:
            yield {n: count}
        for m, few in product(range(1, n), range(1, n)):
            many, rest = divmod(vectors - few * m, n)
            if not rest and many > 0:
                yield {n: many, m: few}


@lru_cache(maxsize=256)
def _tile(target: Target, vectors: int, rows: tuple[int, ...]) -> tuple[int, dict[int, int]]:
    """The register tile: channels, one of `rows`, and the tiling of the features."""
    spare = 2 if target.name == "x86-64-v2" else 1  # a product without FMA has a register

    def cost(r: int, tiling: dict[int, int]) -> float:
        """Cycles a channel: two FMAs and two loads a cycle, FMAs four cycles apart; and a loop."""
        each = sum(count * (max(r * n, r + n, 10) + 2) for n, count in tiling.items())
        return each / r * (1 + 0.05 * (len(tiling) - 1))

    every = [(r, t) for r in rows for t in _tilings(vectors)]
    fits = [(r, t) for r, t in every if max(t) * (r + 1) + spare < target.registers + (r <= 4)]
    return min(fits or every[:1], key=lambda p: cost(*p))


def _chains(target: Target, rows: int, vectors: int) -> int:
    """Pixels in flight: enough sums that an FMA does not wait for the one before it."""
    room = (target.registers - 2 - vectors) // (rows * vectors)
    return 2 if room > 1 and rows * vectors < 9 else 1  # LLVM takes forever over 3


@lru_cache(maxsize=256)
def _units(
    groups: int, tiles: int, blocks: int, taps: int, bytes_each: int
) -> tuple[tuple[int, int, int], ...]:
    """(tiles of features, blocks of channels, taps) of a unit, for each number of threads."""
    sizes = [
        (k, c, t)
        for k, c in product(_parts(tiles), _parts(blocks))
        for t in (_parts(taps) if k * c == 1 else [taps])
        if k * c * t * bytes_each <= SUMS_BYTES or k * c * t == 1
    ]

    def cost(threads: int, k: int, c: int, t: int) -> float:
        rounds = ceil(groups * ceil(tiles / k) * ceil(blocks / c) * ceil(taps / t) / threads)
        return rounds * k * c * t * (1 + 0.1 / k + 0.1 / c + 0.01 * taps / t)

    table: list[tuple[int, int, int]] = []
    for threads in range(1, UNIT_LIMIT + 1):
        few = threads <= 8 or not threads % 8  # between them, as the smaller team
        table.append(min(sizes, key=lambda s: cost(threads, *s)) if few else table[-1])
    return tuple(table)


def _parts(n: int) -> list[int]:
    """The distinct sizes of the largest part when n things are cut into few parts, or into many."""
    cuts = {*range(1, 9), *(2**i * 8 for i in range(1, 4)), 12, 24, 48, n}
    return sorted({ceil(n / parts) for parts in cuts if parts <= n})


def weight_gradient(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    x: Buffer,
    x_block: int,
    g: Buffer,
    g_block: int,
    dw: View,
) -> list[Step]:
    """The steps that write dw[G, K, C, *W], whatever it held before.

    Args:
        target: the processor.
        spec: of the forward convolution.
        dtype: of all three; bfloat16 is computed in float32 and rounded once.
        x, x_block: [N, G * C / x_block, *I, x_block].
        g, g_block: [N, G * K / g_block, *O, g_block].
        dw: strides of [G, K, C, *W].
    """
    if not prod(spec.rhs_shape):
        return []
    return _Plan(target, spec, dtype, (x, x_block), (g, g_block), dw).steps()


class _Plan:
    """The sizes that all steps of one weight gradient share."""

    def __init__(
        self,
        target: Target,
        spec: ConvSpec,
        dtype: DType,
        x: tuple[Buffer, int],
        g: tuple[Buffer, int],
        dw: View,
    ) -> None:
        self.target, self.spec, self.dtype, self.dw = target, spec, dtype, dw
        self.x, self.g = x, g
        self.lanes = _lanes(target, dtype)
        self.bytes = 8 if dtype is float64 else 4  # of what is computed
        ins = tuple(t.in_size for t in spec.windows)
        outs = tuple(t.out_size for t in spec.windows)
        self.x_positions, self.g_positions = prod(ins), prod(outs)
        x_image = spec.groups * spec.in_features * prod(ins)
        g_image = spec.groups * spec.out_features * prod(outs)
        axes = [Axis(spec.batch, (Tap(0, spec.batch),), 1, 1, x_image, g_image, *[spec.batch] * 2)]
        for j, window in enumerate(spec.windows):
            strides = x[1] * prod(ins[j + 1 :]), g[1] * prod(outs[j + 1 :])
            axes.append(Axis.of(window, *strides))
        plain = [axis.plain() for axis in axes]
        self.x_origin, self.g_origin = sum(p[1] for p in plain), sum(p[2] for p in plain)
        self.axes = _merged([p[0] for p in plain])
        self.count = prod(t.kernel_size for t in spec.windows)

    def steps(self) -> list[Step]:
        """One step for each width of register tiles."""
        channels, block = self.spec.in_features, self.x[1]
        stored = self.dtype.itemsize == self.bytes
        options: tuple[int, ...]
        few = [r for r in range(1, 9) if channels % r == 0]
        width, options, direct = max(4, self.lanes), (4, 8, 16), False
        if stored and block == 1 and (max(few) >= 4 or channels in few):
            width, options, direct = max(few), (max(few),), True
        elif stored and block in (4, 8, 16) and block < 2 * self.lanes and not channels % block:
            width, direct = block, True
        options = tuple(r for r in options if width % r == 0)
        rows, tiling = _tile(self.target, ceil(self.spec.out_features / self.lanes), options)
        steps: list[Step] = []
        first = 0
        for vectors, count in tiling.items():
            steps.append(self._step(first, (rows, vectors, count), width, direct))
            first += vectors * count * self.lanes
        return steps

    def _step(self, first: int, tile: tuple[int, int, int], x_width: int, direct: bool) -> Step:
        """The gradient of the features from `first` on that (rows, vectors, number) tiles have;
        x in panels of `x_width` channels, as it is if `direct`.
        """
        spec, axes, dw = self.spec, self.axes, self.dw
        rows, vectors, tiles = tile
        width = vectors * self.lanes
        features = min(spec.out_features - first, tiles * width)
        steps = _steps(axes, BLOCK_BYTES // ((x_width + width) * self.bytes))
        x = self._operand(True, x_width, steps, direct)
        stored = self.dtype.itemsize == self.bytes
        whole = self.g[1] == self.lanes and not spec.out_features % self.lanes
        g = self._operand(False, width, steps, stored and whole)

        blocks = ceil(spec.in_features / x_width)
        each = x_width * width * self.bytes  # sums of a tile, a block of channels, and a tap
        units = _units(spec.groups, tiles, blocks, self.count, each)
        where = self._where()
        dense = where == tuple(range(self.count)) and (
            dw.strides[2] == self.count or spec.in_features == 1
        )
        most = max(k * c * t for k, c, t in units)
        sizes = [most * each + self.lanes * width * self.bytes]
        for operand, panels in ((x, max(u[1] for u in units)), (g, max(u[0] for u in units))):
            slack = self.lanes * operand.width
            sizes.append((panels * operand.panel + slack) * self.bytes if operand.packing else 0)
        sums, x_size, g_size = (-(-n // ALIGNMENT) * ALIGNMENT for n in sizes)

        kernel = WeightGradientKernel(
            self.dtype,
            len(axes),
            rows,
            vectors,
            x_width,
            _chains(self.target, rows, vectors),
            direct and x.block == 1,
            x.packing,
            g.packing,
            x.block if x.packing == "parts" else 0,
            g.block if g.packing == "parts" else 0,
            dense,
        )
        size = self.dtype.itemsize
        skipped = first // g.block * g.block_stride if g.packing is None else 0
        words: list[Word] = [
            At(x.buffer, x.origin * size),
            At(g.buffer, (g.origin + skipped) * size),
            At(dw.buffer, (dw.offset + first * dw.strides[1]) * size),
            Scratch(sums + x_size + g_size),
            sums + x_size + g_size,
            sums,
            sums + x_size,
            Table(self._taps(x, g)),
            Table(tuple(n for unit in units for n in unit)),
            Table(where),
            spec.groups,
            spec.in_features,
            features,
            blocks,
            tiles,
            self.count,
            spec.in_features // x.block * x.block_stride if direct else 0,
            x.block_stride if direct else 1,
            x.panel,
            0 if g.packing else spec.out_features // g.block * g.block_stride,
            g.panel,
            self.lanes if g.packing else g.block_stride,
            *dw.strides[:3],
        ]
        for j, (axis, step) in enumerate(zip(axes, steps, strict=True)):
            words += axis.size, step, axis.x_step * x.strides[j], axis.g_step * g.strides[j]
        for operand, offset in ((x, 0), (g, first)):
            if operand.packing:
                words += offset, operand.channels, operand.block, operand.block_stride
                words += self._positions(operand)
        label = f"weight gradient in tiles of {rows} x {width}"
        macs = spec.macs // spec.out_features * features
        return Step(kernel, tuple(words), (dw.buffer,), label, macs)

    def _operand(self, is_x: bool, width: int, steps: Sequence[int], direct: bool) -> Operand:
        """x, or g."""
        spec, axes = self.spec, self.axes
        (buffer, block), positions = (
            (self.x, self.x_positions) if is_x else (self.g, self.g_positions)
        )
        channels = spec.in_features if is_x else spec.out_features
        origin = self.x_origin if is_x else self.g_origin
        stride = block * positions
        strides = tuple(a.x_stride if is_x else a.g_stride for a in axes)
        if direct:
            panel = stride * (width // block)
            packing = None
        else:
            packing = _packing(self.lanes, spec.groups, channels, block)
            if packing == "planes" and strides[-1] != 1:
                packing = "gather"
            panel = width
            packed: list[int] = []
            for axis, step in zip(reversed(axes), reversed(steps), strict=True):
                packed.insert(0, panel)
                mult, size, shifts = self._reads(axis, is_x)
                panel *= max(1, min(size, abs(mult) * (step - 1) + shifts[1] - shifts[0] + 1))
            strides = tuple(packed)
        return Operand(buffer, origin, channels, block, stride, packing, width, strides, panel)

    @staticmethod
    def _reads(axis: Axis, is_x: bool) -> tuple[int, int, tuple[int, int]]:
        """(positions from pixel to pixel, positions, (least, largest) shift) of one operand."""
        shifts = [t.x if is_x else t.g for t in axis.taps if t.stop > t.first] or [0]
        mult, size = (axis.x_step, axis.x_size) if is_x else (axis.g_step, axis.g_size)
        return mult, size, (min(shifts), max(shifts))

    def _positions(self, operand: Operand) -> list[int]:
        """The kernel's POSITIONS of each axis."""
        words: list[int] = []
        is_x = operand.buffer is self.x[0]
        for axis, packed in zip(self.axes, operand.strides, strict=True):
            mult, size, shifts = self._reads(axis, is_x)
            words += mult, *shifts, size, axis.x_stride if is_x else axis.g_stride, packed
        return words

    def _taps(self, x: Operand, g: Operand) -> tuple[int, ...]:
        """The kernel's `tap_table`."""
        table: list[int] = []
        for taps in product(*(axis.taps for axis in self.axes)):
            table.append(sum(t.x * s for t, s in zip(taps, x.strides, strict=True)))
            table.append(sum(t.g * s for t, s in zip(taps, g.strides, strict=True)))
            for tap in taps:
                table += tap.first, tap.stop
        return tuple(table)

    def _where(self) -> tuple[int, ...]:
        """Where each tap stands in dw."""
        sizes = (range(t.kernel_size) for t in self.spec.windows)
        strides = self.dw.strides[3:]
        return tuple(sum(i * s for i, s in zip(w, strides, strict=True)) for w in product(*sizes))
