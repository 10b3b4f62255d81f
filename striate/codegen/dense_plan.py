"""The schedule of a dense part: register tile, run of pixels, packed tile; a small cost model.

It depends on the shape of one image, on the target, and (for the size of a tile only) on the batch.
No choice changes a result: every output is summed by channel blocks, then taps, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache, partial
from math import gcd, prod

from striate.codegen.dense_geometry import Axis, Part, Planes, by_tap, count_parts, planes, split
from striate.dtype import DType, bfloat16, compute_dtype
from striate.ops.conv import ConvSpec
from striate.target import Target

PARTS = 64  # more phases than this are refused
BLOCK = 16  # channels of a packed block at most
UNROLL = 4  # channels of an entry where there are many
LONG = 1 << 13  # entries: a table that the caches do not notice
LATENCY = 4.0  # cycles of an FMA
STREAM = 160.0  # bytes of weights whose way from L2 costs a cycle
COPY = 2.0  # cycles to pack one position of one channel block
TEAM = 4  # threads that a schedule has in mind
PIECES = 24  # shares of work that are wanted for several threads


@dataclass(frozen=True, slots=True)
class Channels:
    """How the input channels of a group are cut: `blocks` of x times `subs`, each `size` wide.

    Attributes:
        size: channels of a packed block.
        blocks: blocks of x per group.
        subs: packed blocks per block of x.
        tail: channels in the last of them, 0 if it is full.
    """

    size: int
    blocks: int
    subs: int
    tail: int

    def unit(self, taps: int) -> int:
        """Channels of an entry: one, unless the table of entries would be long."""
        if self.blocks * self.subs * self.size * taps <= LONG:
            return 1
        return max(d for d in range(1, UNROLL + 1) if self.size % d == 0)

    @classmethod
    def of(cls, features: int, x_block: int) -> Channels:
        """The cut of C features in blocks of xb."""
        fits = max(d for d in range(1, BLOCK + 1) if x_block % d == 0)
        size = fits if x_block <= BLOCK or fits >= BLOCK // 2 else BLOCK
        subs = -(-x_block // size)
        return cls(size, features // x_block, subs, x_block % size)


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule of one part.

    Attributes:
        part: what it is for.
        mr, nr: pixels and vectors of output channels of a register tile.
        lanes: output channels of a vector.
        run: the axis at which a run of pixels begins; the later axes are walked whole.
        tiles: per axis, into how many tiles it is cut.
        planes: per axis, the planes of the packed tile.
        direct: x is read in place.
    """

    part: Part
    mr: int
    nr: int
    lanes: int
    run: int
    tiles: tuple[int, ...]
    planes: tuple[Planes, ...]
    direct: bool

    @property
    def lengths(self) -> tuple[int, ...]:
        """Per axis, the outputs of the largest tile."""
        return tuple(-(-a.out_size // n) for a, n in zip(self.part.axes, self.tiles, strict=True))

    @property
    def extents(self) -> tuple[int, ...]:
        """Per axis, the positions of a plane of the largest tile."""
        return tuple(n + p.extra for n, p in zip(self.lengths, self.planes, strict=True))

    @property
    def positions(self) -> int:
        """Positions of a packed tile; odd, so that blocks do not meet in one cache set."""
        return prod(len(p.offsets) for p in self.planes) * prod(self.extents) | 1


@cache
def register_tiles(target: Target) -> tuple[tuple[int, int, float], ...]:
    """(MR, NR, cycles per channel) of the tiles that fit the registers.

    Two FMAs, not quite two loads a cycle; a tile needs MR*NR sums, NR weights, and one pixel in all
    lanes (without FMA a product, too). Every channel streams NR vectors of weights.
    """
    spare = 1 if target.name != "x86-64-v2" else 2
    found = []
    for nr in range(1, 7):
        for mr in range(1, 29):
            if mr * nr + nr + spare <= target.registers - (target.registers == 32):
                loads, stream = mr + nr, nr * target.vector_bytes
                cycles = max(mr * nr / 2, 0.55 * loads, LATENCY)
                found.append((mr, nr, cycles + loads / 32 + stream / STREAM))
    return tuple(found)


def _fits(axes: tuple[Axis, ...], channels: Channels, x_block: int, widened: bool) -> bool:
    """Whether the pixels of x are read in place: they lie side by side. (Strided ones are in
    conflict over a few sets of the first cache; copied once, they serve all panels.)
    """
    last = axes[-1]
    return (
        not widened
        and x_block == channels.size
        and last.x_step == x_block
        and last.stride == 1
        and all(len(a.offsets) == 1 and a.inside for a in axes)
    )


def _lengths(axes: tuple[Axis, ...], tiles: list[int]) -> list[int]:
    return [-(-a.out_size // n) for a, n in zip(axes, tiles, strict=True)]


def _layout(axes: tuple[Axis, ...], run: int, tiles: list[int]) -> list[Planes]:
    lengths = _lengths(axes, tiles)
    return [by_tap(a) if j > run else planes(a, lengths[j]) for j, a in enumerate(axes)]


def _volume(axes: tuple[Axis, ...], run: int, tiles: list[int]) -> int:
    """Positions that are packed in the largest tile."""
    lengths = _lengths(axes, tiles)
    return prod(p.positions(n) for p, n in zip(_layout(axes, run, tiles), lengths, strict=True))


def _cut(
    axes: tuple[Axis, ...], run: int, depth: int, budget: int, least: int, pieces: int
) -> list[int]:
    """Tiles per axis such that a tile of `depth` bytes a position fits the budget.

    Whichever axis costs the least overlap is halved. A run keeps `least` pixels where it can.
    """
    tiles = [a.out_size if j == 0 and j < run else 1 for j, a in enumerate(axes)]
    inner = prod(a.out_size for a in axes[run + 1 :])

    def shorter(j: int) -> list[int] | None:
        size = axes[j].out_size
        n = min(2 * tiles[j], size)
        if n == tiles[j] or (j == run and size // n * inner < least):
            return None
        return [*tiles[:j], n, *tiles[j + 1 :]]

    while True:
        large = _volume(axes, run, tiles) * depth > budget
        few = prod(tiles[min(1, run) :]) < pieces
        if not large and not few:
            return tiles
        options = [t for j in range(run + 1) if (t := shorter(j)) is not None]
        if not options:
            return tiles
        best = min(options, key=lambda t: _volume(axes, run, t) * prod(t))
        if not large and _volume(axes, run, best) * 1.7 > _volume(axes, run, tiles):
            return tiles  # the overlap would cost more than a balanced team gains
        tiles = best


def _work(axes: tuple[Axis, ...], run: int, tiles: list[int], mr: int) -> int:
    """Register tiles of all pixels of the part."""
    size, n = axes[run].out_size, tiles[run]
    inner = prod(a.out_size for a in axes[run + 1 :])
    short, longer = size // n, size % n
    runs = longer * -(-(short + 1) * inner // mr) + (n - longer) * -(-short * inner // mr)
    return runs * prod(a.out_size for a in axes[:run])


def _uneven(pieces: int) -> float:
    """How much longer a team takes for so many pieces than for work that can be cut anywhere."""
    rounds = max(1, -(-pieces // TEAM))
    return max(1.0, rounds * TEAM / pieces) if pieces >= TEAM else 1.0


def plan_part(target: Target, part: Part, spec: ConvSpec, dtype: DType, x_block: int) -> Plan:
    """The cheapest schedule."""
    axes = part.axes
    computed = compute_dtype(dtype)
    lanes = target.lanes(computed.bits)
    channels = Channels.of(spec.in_features, x_block)
    blocks = channels.blocks * channels.subs if part.live else 0
    entries = blocks * prod(len(t) for t in part.taps) * channels.size
    vectors = -(-spec.out_features // lanes)
    direct = not blocks or _fits(axes, channels, x_block, computed is not dtype)
    budget = max(target.l2, 1 << 19) // 2
    depth = blocks * channels.size * computed.itemsize
    best: tuple[float, Plan] | None = None
    for run in range(len(axes)):
        if direct and run < len(axes) - 1:
            continue
        whole = prod(a.out_size for a in axes[run:])
        pieces = max(1, PIECES // (spec.groups * -(-vectors // 2)))
        tiles = _cut(axes, run, depth, budget, min(whole, 64), pieces)
        shortest = axes[run].out_size // tiles[run] * prod(a.out_size for a in axes[run + 1 :])
        layout = tuple(_layout(axes, run, tiles))
        volume = _volume(axes, run, tiles)
        packed = 0 if direct else volume * prod(tiles) * max(1, blocks)
        spill = 1.0 + 0.3 * (volume * depth > budget) + 0.7 * (volume * depth > 2 * budget)
        pack = packed * (COPY if channels.size > 1 else 1.0)
        shares = spec.groups * prod(tiles[min(1, run) :])
        packing = pack * spec.groups * TEAM * _uneven(shares) / min(shares, TEAM)
        work_of = cache(partial(_work, axes, run, tiles))
        for mr, nr, cycles in register_tiles(target):
            if mr > shortest or nr > vectors:
                continue
            calls = work_of(mr) * -(-vectors // nr) * spec.groups
            uneven = _uneven(shares * -(-vectors // nr))
            cost = uneven * calls * (entries * cycles + mr * nr + 30)
            cost = spill * (cost + packing)
            if best is None or cost < best[0]:
                best = cost, Plan(part, mr, nr, lanes, run, tuple(tiles), layout, direct)
    assert best is not None
    return best[1]


@lru_cache(maxsize=4096)
def plan_dense(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int
) -> tuple[Plan, ...]:
    """The schedules of the parts of a convolution."""
    return tuple(
        plan_part(target, part, spec, dtype, x_block) for part in split(spec, x_block, y_block)
    )


def granule(y_block: int, features: int, lanes: int) -> tuple[int, int]:
    """(block, lanes of a store) of y: block 0 is one block of all channels."""
    if y_block == features and lanes % y_block and y_block % lanes:
        return 0, lanes
    return y_block, gcd(y_block, lanes)


def dense_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int
) -> bool:
    """Whether `dense_conv` can do it: a floating dtype, blocks that divide the channels of a
    group, not too many phases.
    """
    return (
        dtype.is_floating
        and (dtype is bfloat16 or dtype.bits >= 32)
        and x_block > 0
        and y_block > 0
        and spec.in_features % x_block == 0
        and spec.out_features % y_block == 0
        and count_parts(spec) <= PARTS
    )
