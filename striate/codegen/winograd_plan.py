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
from striate.codegen.winograd_axes import MOST_CLASSES, Axis, Tiles, channels_of, dense_axes, saves
from striate.codegen.winograd_few import MOST_ROWS, SPARE, FewTiles
from striate.ops.conv import ConvSpec
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


def _far(target: Target, nbytes: int) -> float:
    """Cycles for an image's share of the way of so many bytes of weights."""
    return nbytes / LOAD / NOMINAL if nbytes > target.l2 / 2 else 0.0


def _cost(target: Target, spec: ConvSpec, channels: int, tiles: tuple[Tiles, ...]) -> float:
    """Cycles for one image, in a batch; `channels` are those of all classes of taps."""
    lanes = target.lanes(32)
    x, y = _transforms(tiles)
    c, k = channels / lanes, spec.out_features / lanes
    sums = prod(t.products for t in tiles) * channels * k
    moved = prod(t.slots for t in tiles) * channels * spec.out_features * 4
    each = 0.56 * sums + prod(t.count for t in tiles) * (c * x + k * y)
    return spec.groups * each + 0.6 * _far(target, spec.groups * moved)


def _direct(target: Target, spec: ConvSpec) -> float:
    """Cycles of the direct kernel for one image."""
    macs = prod(t.out_size * t.kernel_size for t in spec.windows) * prod(spec.rhs_shape[:3])
    moved = prod(spec.rhs_shape) * 4
    return 0.54 * macs / target.lanes(32) + 0.6 * _far(target, moved)


def algorithm(target: Target, spec: ConvSpec, precision: str) -> tuple[Tiles, ...] | None:
    """The tiles of the cheapest algorithm that loses no more than `precision` allows; None if that
    is the definition.
    """
    return _algorithm(target, replace(spec, batch=1), precision)


@lru_cache(maxsize=1024)
def _algorithm(target: Target, spec: ConvSpec, precision: str) -> tuple[Tiles, ...] | None:
    axes = dense_axes(spec)
    if not axes or prod(a.classes for a in axes) > MOST_CLASSES:
        return None
    channels = channels_of(spec, axes)
    options = [outputs_of(a, a.width) for a in axes]
    best: tuple[float, tuple[Tiles, ...] | None] = _direct(target, spec), None
    for tiles in product(*options):
        if all(t.outputs == 1 for t in tiles) or not saves(axes, tiles):
            continue
        lost = prod(winograd(t.outputs, t.taps).amplification for t in tiles)
        if keeps_bound(precision, [t.outputs for t in tiles], lost):
            best = min(best, (_cost(target, spec, channels, tiles), tiles), key=lambda p: p[0])
    return best[1]


def outputs_of(axis: Axis, taps: int) -> list[Tiles]:
    """The ways to cut an axis for so many taps."""
    most = min(longest(taps), max(axis.sizes), 8) if taps > 1 else 1
    return list(dict.fromkeys(Tiles.of(axis.sizes, m, taps) for m in range(1, most + 1)))


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
    if row * few.count > target.registers - SPARE or rows > MOST_ROWS or spec.groups > 1:
        return None
    channels, vectors = channels_of(spec, axes) // lanes, spec.out_features // lanes
    block = taps * lanes * lanes * 4  # bytes of weights of a block of channels
    x, y = _transforms(tiles)
    each = 1.3 * (rows * (0.7 * taps + row) + prod(t.products for t in tiles) / 2)
    work = max(each * channels * lanes, channels * block / FAR) + few.count * y
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
    lanes, groups = target.lanes(32), spec.groups
    channels, vectors = channels_of(spec, axes) // lanes, spec.out_features // lanes
    slots = prod(t.slots for t in tiles)
    x, y = _transforms(tiles)
    counts = (spec.batch, *(t.count for t in tiles))
    weights = slots * groups * channels * lanes * spec.out_features * 4
    transform = 5.3 * slots  # cycles for a vector of weights
    best = _few(target, spec, tiles)
    for parts in cuts(counts):
        images, *sizes = (-(-n // p) for n, p in zip(counts, parts, strict=True))
        block = images * prod(sizes)
        v = slots * block * groups * channels * lanes * 4
        if block > 512 or (v > 4 * target.l2 and block > 16):
            continue
        blocks = prod(parts)
        groups_of = cache(partial(register_groups, tiles, images, parts[1:]))
        for mr, nr, cycles in register_tiles(target):
            if mr > block or nr > vectors or (mr * nr < 6 and mr < block):
                continue
            if groups > 1 and vectors % nr:
                continue
            panels = groups * -(-vectors // nr)
            tile_groups = groups_of(mr)
            channel = max(cycles, FEW_SUMS)
            per_panel = tile_groups * (channels * lanes * channel + 1.5 * mr * nr + 20)
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
                passes = 1 if shares == 1 or groups > 1 else min(shares, TEAM)
                repeated = block * groups * channels * x * passes / shares
                cost = pieces * (work + repeated) * rounds
                if not fused and spec.batch > 1:  # weights that are trained are transformed anew
                    cost += weights / SCATTER
                if best is None or cost < best[0]:
                    cut = parts[0], parts[1:]
                    plan = Plan(axes, tiles, mr, nr, lanes, *cut, group, chunk, fused, ahead)
                    best = cost, plan
    assert best is not None
    return best[1]
