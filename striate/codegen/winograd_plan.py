"""Which of Winograd's algorithms a convolution takes, if any, and its schedule: a cost model.

The algorithm depends on the shape of one image, on the target and on the setting `precision` only,
so results do not depend on the batch. The schedule (blocks, register tile) changes no result.

Costs are cycles of one core. Precision bounds the amplification of rounding errors, the product
over the axes of what `winograd_algebra` says. Where three axes are cut into tiles, more terms are
summed, and of their absolute values the errors, which are random, are a smaller part: more
amplification keeps the bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import product
from math import prod

from striate.codegen.dense_plan import register_tiles
from striate.codegen.winograd_algebra import longest, winograd
from striate.codegen.winograd_few import MOST_ROWS, SPARE, FewTiles
from striate.config import settings
from striate.dtype import DType, float32
from striate.ops.conv import ConvSpec
from striate.ops.window import Window
from striate.target import Target

AMPLIFICATION = {"highest": 5.5, "high": 27.0, "fast": 140.0}
VOLUMES = {"highest": 13.0, "high": 115.0, "fast": 300.0}  # with three axes of tiles
NOMINAL = 8  # images among which the weights' way from memory is shared
LOAD = 8.0  # bytes a cycle from beyond L2: one stream while nothing else is done
STREAM = 12.0  # one stream, beside products
AHEAD = 6.0  # weights that are fetched ahead
BESIDE = 32.0  # what these cost beside products
MOST_WEIGHTS = 24  # of the size of L2: more are not kept, they'd take too much memory
FAR = 5.0  # weights, which nobody has read since the last image
SCATTER = 3.0  # many streams at once
FEW_SUMS = 5.5  # cycles of a channel of a small register tile: its sums wait for one another
TEAM = 2  # threads that a schedule has in mind


def keeps_bound(precision: str, outputs: Sequence[int], lost: float) -> bool:
    """Whether tiles of so many outputs per axis, which lose `lost`, keep the bound of `precision`.
    An axis of single outputs adds no terms: in a flat volume its padding takes them away.
    """
    axes = sum(m > 1 for m in outputs)
    return lost <= (VOLUMES if axes > 2 else AMPLIFICATION)[precision]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of stride 1: output o meets input o + t + shift through tap t of `taps`.

    Attributes:
        in_size, out_size: numbers of inputs and outputs.
        taps: which taps of the kernel these are, in the order of the inputs that they meet.
        shift: of the first.
    """

    in_size: int
    out_size: int
    taps: tuple[int, ...]
    shift: int

    @classmethod
    def of(cls, window: Window) -> Axis | None:
        """The axis of a window that has neither stride nor dilation, flipped or not."""
        t = window.canonical_sign()
        if t.stride != 1 or t.lhs_dilation != 1 or abs(t.rhs_dilation) != 1:
            return None
        taps = tuple(range(t.kernel_size))
        if t.rhs_dilation == 1:
            return cls(t.in_size, t.out_size, taps, -t.pad_lo)
        return cls(t.in_size, t.out_size, taps[::-1], -t.pad_lo - t.kernel_size + 1)


@dataclass(frozen=True, slots=True)
class Tiles:
    """How an axis is cut into tiles: `long` of m outputs, then `short` of m - 1.

    Attributes:
        outputs: m, of the long ones.
        taps: r
        long, short: how many.
    """

    outputs: int
    taps: int
    long: int
    short: int

    @classmethod
    def of(cls, size: int, most: int, taps: int) -> Tiles:
        """As few tiles of at most `most` outputs as cover `size`, as equal as can be."""
        count = -(-size // most)
        outputs = -(-size // count)
        short = count * outputs - size
        return cls(outputs, taps, count - short, short)

    @property
    def count(self) -> int:
        """All tiles."""
        return self.long + self.short

    @property
    def slots(self) -> int:
        """n"""
        return self.outputs + self.taps - 1

    @property
    def products(self) -> int:
        """Products of all tiles."""
        return self.long * self.slots + self.short * (self.slots - 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule.

    Attributes:
        axes, tiles: per axis.
        mr, nr: tiles and vectors of features of a register tile.
        lanes: channels of a block.
        image_blocks, blocks: into how many blocks the images and each axis of tiles are cut.
        panel_group: panels of features whose products exist at a time.
        chunk: blocks of channels that are summed before others.
        fused: their weights are transformed by the kernel itself, else by a step before it.
        ahead: lines of the next weights that a register tile fetches per block of channels.
        few: how many tiles a block has, if its products are those of `winograd_few`.
    """

    axes: tuple[Axis, ...]
    tiles: tuple[Tiles, ...]
    mr: int
    nr: int
    lanes: int
    image_blocks: int
    blocks: tuple[int, ...]
    panel_group: int
    chunk: int
    fused: bool
    ahead: int = 0
    few: FewTiles | None = None

    def most_tiles(self, images: int) -> int:
        """Tiles of the largest block."""
        cut = (-(-t.count // b) for t, b in zip(self.tiles, self.blocks, strict=True))
        return -(-images // self.image_blocks) * prod(cut)


def _transforms(tiles: tuple[Tiles, ...]) -> tuple[float, float]:
    """Cycles to transform one vector of channels of x and of y, of a long tile."""
    slots, outs = [t.slots for t in tiles], [t.outputs for t in tiles]
    x = y = 10.0
    for a in range(len(tiles)):
        x += prod(slots) / slots[a] * (4 + 2.0 * slots[a])
        y += prod(outs[:a]) * prod(slots[a + 1 :]) * (4 + 1.5 * slots[a] + 0.5 * outs[a])
    return x, y


def _cost(target: Target, spec: ConvSpec, tiles: tuple[Tiles, ...]) -> float:
    """Cycles for one image, in a batch."""
    lanes = target.lanes(32)
    x, y = _transforms(tiles)
    c, k = spec.in_features / lanes, spec.out_features / lanes
    sums = prod(t.products for t in tiles) * spec.in_features * k
    moved = prod(t.slots for t in tiles) * spec.in_features * spec.out_features * 4
    far = moved / LOAD / NOMINAL if moved > target.l2 / 2 else 0.0
    return 0.56 * sums + prod(t.count for t in tiles) * (c * x + k * y) + 0.6 * far


def _direct(target: Target, spec: ConvSpec) -> float:
    """Cycles of the direct kernel for one image."""
    macs = prod(t.out_size * t.kernel_size for t in spec.windows)
    moved = prod(t.kernel_size for t in spec.windows) * spec.in_features * spec.out_features * 4
    far = moved / LOAD / NOMINAL if moved > target.l2 / 2 else 0.0
    return 0.54 * macs * spec.in_features * spec.out_features / target.lanes(32) + 0.6 * far


def dense_axes(spec: ConvSpec) -> tuple[Axis, ...] | None:
    """The axes of a convolution of stride 1; None if one has a stride or dilation."""
    found = [Axis.of(t) for t in spec.windows]
    return None if None in found else tuple(a for a in found if a is not None)


def algorithm(target: Target, spec: ConvSpec, precision: str) -> tuple[Tiles, ...] | None:
    """The tiles of the cheapest algorithm that loses no more than `precision` allows; None if that
    is the definition.
    """
    return _algorithm(target, replace(spec, batch=1), precision)


@lru_cache(maxsize=1024)
def _algorithm(target: Target, spec: ConvSpec, precision: str) -> tuple[Tiles, ...] | None:
    axes = dense_axes(spec)
    if axes is None or not axes:
        return None
    options: list[list[Tiles]] = []
    for a in axes:
        taps = len(a.taps)
        most = min(longest(taps), a.out_size, 8) if taps > 1 else 1
        options.append(
            list(dict.fromkeys(Tiles.of(a.out_size, m, taps) for m in range(1, most + 1)))
        )
    best: tuple[float, tuple[Tiles, ...] | None] = _direct(target, spec), None
    for tiles in product(*options):
        if all(t.outputs == 1 for t in tiles):
            continue
        lost = prod(winograd(t.outputs, t.taps).amplification for t in tiles)
        if keeps_bound(precision, [t.outputs for t in tiles], lost):
            best = min(best, (_cost(target, spec, tiles), tiles), key=lambda p: p[0])
    return best[1]


def winograd_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int
) -> bool:
    """Whether a convolution is done by one of Winograd's algorithms: it is dense, in float32 and in
    blocks of a vector's lanes, and the cost model says so.
    """
    lanes = target.lanes(32)
    return (
        dtype is float32
        and spec.groups == 1
        and x_block == y_block == lanes
        and spec.in_features % lanes == spec.out_features % lanes == 0
        and 0 < len(spec.windows) <= 3
        and 0 not in (*spec.lhs_shape, *spec.rhs_shape, *spec.out_shape)
        and algorithm(target, spec, settings().precision) is not None
    )


# ---- the schedule --------------------------------------------------------------------------


def cuts(counts: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Into how many parts each axis, the images first, may be cut: the inner ones are whole, the
    outer ones single, one between them is cut anywhere.
    """
    for a in range(len(counts)):
        for parts in sorted({-(-counts[a] // s) for s in range(1, counts[a] + 1)}):
            yield (*counts[:a], parts, *(1 for _ in counts[a + 1 :]))


def register_groups(tiles: tuple[Tiles, ...], images: int, parts: tuple[int, ...], mr: int) -> int:
    """Register tiles of all slots of the largest block."""
    total = 0
    sizes = [-(-t.count // p) for t, p in zip(tiles, parts, strict=True)]
    longs = [min(s, -(-t.long // p)) for s, t, p in zip(sizes, tiles, parts, strict=True)]
    for last in product(*([False, True] if t.short else [False] for t in tiles)):
        slots = prod(
            1 if only else t.slots - bool(t.short) for only, t in zip(last, tiles, strict=True)
        )
        have = prod(l if only else s for only, l, s in zip(last, longs, sizes, strict=True))
        total += slots * -(-images * have // mr)
    return total


def beyond(target: Target, nbytes: int | float) -> float:
    """How much of so many bytes L2 doesn't hold, for a cost: it has other things to hold too."""
    return min(1.0, max(0.0, nbytes / target.l2 - 0.4) / 0.4)


def _lines_ahead(lines: int, passes: int) -> int:
    """Of so many lines of weights, those that each pass over them fetches: a power of two, so that
    kernels are few.
    """
    return 1 << max(0, (-(-lines // passes) - 1).bit_length())


def _few(target: Target, spec: ConvSpec, tiles: tuple[Tiles, ...]) -> tuple[float, Plan] | None:
    """The schedule image by image, if it has so few tiles that their sums stay in registers."""
    axes = dense_axes(spec)
    assert axes is not None
    lanes, taps = target.lanes(32), prod(t.taps for t in tiles)
    few = FewTiles.of(1, [t.long for t in tiles], [t.short for t in tiles])
    rows, row = prod(t.slots for t in tiles[:-1]), tiles[-1].slots
    if row * few.count > target.registers - SPARE or rows > MOST_ROWS:
        return None
    channels, vectors = spec.in_features // lanes, spec.out_features // lanes
    block = taps * lanes * lanes * 4  # bytes of weights of a block of channels
    x, y = _transforms(tiles)
    each = 1.3 * (rows * (0.7 * taps + row) + prod(t.products for t in tiles) / 2)
    work = max(each * spec.in_features, channels * block / FAR) + few.count * y
    rounds = -(-vectors // TEAM) / (vectors / TEAM)
    cost = spec.batch * (vectors * work * rounds + few.count * channels * x * TEAM)
    chunk = max(1, min(channels, target.l1 // 2 // block))
    ones = (1,) * len(tiles)
    plan = Plan(axes, tiles, few.count, 1, lanes, spec.batch, ones, 1, chunk, True, 0, few)
    return cost, plan


@lru_cache(maxsize=1024)
def plan_winograd(target: Target, spec: ConvSpec, tiles: tuple[Tiles, ...]) -> Plan:
    """The cheapest schedule."""
    axes = dense_axes(spec)
    assert axes is not None
    lanes = target.lanes(32)
    channels, vectors = spec.in_features // lanes, spec.out_features // lanes
    slots = prod(t.slots for t in tiles)
    x, y = _transforms(tiles)
    counts = (spec.batch, *(t.count for t in tiles))
    weights = slots * spec.in_features * spec.out_features * 4
    transform = 5.3 * slots  # cycles for a vector of weights
    best = _few(target, spec, tiles)
    for parts in cuts(counts):
        images, *sizes = (-(-n // p) for n, p in zip(counts, parts, strict=True))
        block = images * prod(sizes)
        v = slots * block * spec.in_features * 4
        if block > 512 or (v > 4 * target.l2 and block > 16):
            continue
        blocks = prod(parts)
        groups_of = cache(partial(register_groups, tiles, images, parts[1:]))
        for mr, nr, cycles in register_tiles(target):
            if mr > block or nr > vectors or (mr * nr < 6 and mr < block):
                continue
            panels = -(-vectors // nr)
            tile_groups = groups_of(mr)
            channel = max(cycles, FEW_SUMS)
            per_panel = tile_groups * (spec.in_features * channel + 1.5 * mr * nr + 20)
            per_panel += block * nr * y
            slice_bytes = slots * lanes * nr * lanes * 4  # of U: a block of channels, a panel
            options = [(group, False) for group in {-(-panels // n) for n in (1, 2, 4, 8, panels)}]
            if weights > MOST_WEIGHTS * target.l2:
                options = []
            for group, fused in sorted([*options, (1, True)]):
                room = target.l2 / 4 / slice_bytes if fused else target.l1 / 2 * slots / slice_bytes
                chunk = max(1, min(channels, int(room)))
                shares = -(-panels // group)
                m = slots * block * group * nr * lanes * 4
                work = group * per_panel
                work += beyond(target, v + m) * v / STREAM
                work += beyond(target, 1.5 * m) * 2 * m / SCATTER
                work += (-(-channels // chunk) - 1) * tile_groups * mr * nr * group
                ahead = 0
                if fused:
                    work += channels * lanes * nr * transform
                    work += slice_bytes * channels * prod(t.taps for t in tiles) / slots / FAR
                elif weights > target.l2 / 2:
                    ahead = _lines_ahead(lanes * nr, -(-block // mr))
                    far = slice_bytes * channels * group
                    work = max(work, 0.15 * work + far / AHEAD) + far / BESIDE
                pieces = blocks * shares
                rounds = -(-pieces // TEAM) / (pieces / TEAM)
                repeated = block * channels * x * (1 if shares == 1 else min(shares, TEAM) / shares)
                cost = pieces * (work + repeated) * rounds
                if not fused and spec.batch > 1:  # weights that are trained are transformed anew
                    cost += weights / SCATTER
                if best is None or cost < best[0]:
                    cut = parts[0], parts[1:]
                    plan = Plan(axes, tiles, mr, nr, lanes, *cut, group, chunk, fused, ahead)
                    best = cost, plan
    assert best is not None
    return best[1]
