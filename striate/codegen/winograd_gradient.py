"""A weight gradient by one of Winograd's algorithms: the choice, the schedule, the steps.

The sums go over the batch, so the choice may depend on it here, unlike forward; never on threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from striate.codegen.kernel import At, Buffer, Scratch, Step, Table, View, Word
from striate.codegen.separable import scratch_vectors
from striate.codegen.winograd import FLOAT, aligned_elements, tap_offsets
from striate.codegen.winograd_algebra import winograd
from striate.codegen.winograd_axes import (
    MOST_CLASSES,
    Axis,
    Tiles,
    channels_of,
    classes,
    dense_axes,
    has_vectors,
    saves,
)
from striate.codegen.winograd_gradient_kernel import WinogradGradient, WinogradGradientStore
from striate.codegen.winograd_plan import (
    LOAD,
    SCATTER,
    STREAM,
    beyond,
    cuts,
    keeps_bound,
    outputs_of,
    register_groups,
)
from striate.codegen.winograd_tiles import edge_vectors
from striate.codegen.words import arranged
from striate.config import settings
from striate.dtype import DType
from striate.ops.conv import ConvSpec
from striate.target import Target

TEAM = 4  # threads that a schedule has in mind
MOST_PARTS = 16


@dataclass(frozen=True, slots=True)
class GradientPlan:
    """A schedule.

    Attributes:
        axes, tiles: per axis.
        mr, nr: channels and vectors of features of a register tile.
        image_blocks, blocks: into how many blocks the images and each axis of tiles are cut.
        parts: into how many parts the blocks.
        chunk: blocks of channels of x that are transformed at a time.
    """

    axes: tuple[Axis, ...]
    tiles: tuple[Tiles, ...]
    mr: int
    nr: int
    image_blocks: int
    blocks: tuple[int, ...]
    parts: int
    chunk: int


def _register_tiles(target: Target, vectors: int) -> Iterator[tuple[int, int, float]]:
    """(MR, NR, cycles per tile) that fit the registers."""
    lanes = target.lanes(32)
    spare = 2 if target.name == "x86-64-v2" else 1
    for mr in (r for r in (1, 2, 4, 8, 16) if lanes % r == 0):
        for nr in (n for n in range(1, 7) if vectors % n == 0):
            if mr * nr + nr + spare <= target.registers - (target.registers == 32):
                loads = mr + nr
                yield mr, nr, max(mr * nr / 2, 0.7 * loads, 4.0) + 0.4 + 0.6 * nr


def _transforms(tiles: tuple[Tiles, ...]) -> tuple[float, float, float]:
    """Cycles to transform a vector of channels of x and of g, of a long tile; and the sums of one
    channel and a vector of features.
    """
    slots, outs, taps = ([getattr(t, n) for t in tiles] for n in ("slots", "outputs", "taps"))
    x = g = 10.0
    back = 6.0
    for a in range(len(tiles)):
        x += prod(slots) / slots[a] * (4 + 2.0 * slots[a])
        g += prod(slots[:a]) * prod(outs[a + 1 :]) * (4 + 1.5 * outs[a] + 0.5 * slots[a])
        back += prod(taps[:a]) * prod(slots[a + 1 :]) * (4 + 1.2 * slots[a] + taps[a])
    return x, g, back


def _chunk(target: Target, channels: int, each: int, y: int) -> int:
    """Of so many blocks of channels those that are transformed at a time, of `each` bytes: one, if
    Y stays in L2 beside it; else as many as stay there beside two panels of Y.
    """
    return 1 if each + y < 0.7 * target.l2 else max(1, min(channels, int(0.3 * target.l2 / each)))


@lru_cache(maxsize=1024)
def _schedule(
    target: Target, spec: ConvSpec, tiles: tuple[Tiles, ...]
) -> tuple[float, GradientPlan]:
    """The cheapest schedule, and cycles of one core of a team."""
    axes = dense_axes(spec)
    assert axes is not None
    lanes, groups = target.lanes(32), spec.groups
    channels, vectors = channels_of(spec, axes) // lanes, spec.out_features // lanes
    slots = prod(t.slots for t in tiles)
    x, g, back = _transforms(tiles)
    counts = (spec.batch, *(t.count for t in tiles))
    sums = prod(t.taps for t in tiles) * groups * channels * vectors * lanes**2 * FLOAT
    best: tuple[float, GradientPlan] | None = None
    for cut in cuts(counts):
        images, *sizes = (-(-n // p) for n, p in zip(counts, cut, strict=True))
        block = images * prod(sizes)
        v, y = (slots * block * groups * b * lanes * FLOAT for b in (channels, vectors))
        if block > 1024 or (block > 16 and v > 8 * target.l2):
            continue
        blocks = prod(cut)
        used = register_groups(tiles, images, cut[1:], 1)
        for mr, nr, cycles in _register_tiles(target, vectors):
            panels = groups * vectors // nr
            pairs = channels * lanes / mr * panels
            each = used * cycles + slots * (mr * nr + 12.0) + mr * nr * back
            chunk = _chunk(target, channels, v // (groups * channels), y // groups)
            part = v * chunk // (groups * channels)
            passes = -(-channels // chunk)
            far = beyond(target, y + part) * y * (1 / SCATTER + passes / (2 * STREAM))
            panel = slots * block * nr * lanes * FLOAT  # of Y, which the channels pass over
            far += beyond(target, 2.0 * panel) * panel * channels * lanes / mr / STREAM
            far += beyond(target, sums / 1.5) * 2 * sums / STREAM
            for parts in (p for p in (1, 2, 4, 8, MOST_PARTS) if p <= blocks):
                pieces = parts * panels
                rounds = -(-pieces // TEAM) / (pieces / TEAM)
                twice = -(-blocks // parts) / (blocks / parts)
                again = TEAM / min(parts, TEAM) if groups == 1 else 1
                shared = blocks * block * groups * (channels * x * again + vectors * g)
                work = blocks * (pairs * each + far) * rounds * twice + shared
                work += 3 * parts * sums / LOAD
                if best is None or work < best[0]:
                    best = work, GradientPlan(axes, tiles, mr, nr, cut[0], cut[1:], parts, chunk)
    assert best is not None
    return best


def _direct(target: Target, spec: ConvSpec) -> float:
    """Cycles of the direct kernel."""
    return 0.56 * spec.macs / target.lanes(32) + 3 * prod(spec.rhs_shape) * FLOAT / LOAD


def gradient_plan(target: Target, spec: ConvSpec, precision: str) -> GradientPlan | None:
    """The schedule of the cheapest algorithm that loses no more than `precision` allows; None if
    that is the definition.
    """
    return _plan(target, spec, precision)


@lru_cache(maxsize=1024)
def _plan(target: Target, spec: ConvSpec, precision: str) -> GradientPlan | None:
    axes = dense_axes(spec)
    if not axes or all(a.width == 1 for a in axes):
        return None
    if prod(a.classes for a in axes) > MOST_CLASSES:
        return None
    options = [outputs_of(a, a.width) for a in axes]
    found = []
    for tiles in product(*options):
        lost = prod(winograd(t.taps, t.outputs).amplification for t in tiles)
        outputs = [t.outputs for t in tiles]
        if max(outputs) > 1 and keeps_bound(precision, outputs, lost):
            found.append((prod(t.products for t in tiles), tiles))
    direct = _direct(target, spec)
    best: tuple[float, GradientPlan | None] = direct, None
    for products, tiles in sorted(found, key=lambda f: f[0])[:4]:
        whole = prod(t.out_size * t.kernel_size for t in spec.windows)
        if products < whole and saves(axes, tiles):
            best = min(best, _schedule(target, spec, tiles), key=lambda p: p[0])
    return best[1]


def winograd_gradient_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, g_block: int
) -> bool:
    """Whether a weight gradient is done by one of Winograd's algorithms: float32, in blocks of a
    vector's lanes, and the cost model says so.
    """
    return (
        has_vectors(target, spec, dtype, x_block, g_block)
        and gradient_plan(target, spec, settings().precision) is not None
    )


def winograd_gradient(
    target: Target, spec: ConvSpec, plan: GradientPlan, x: Buffer, g: Buffer, dw: View
) -> list[Step]:
    """x: f32[N, G*C/V, *I, V], g: f32[N, G*K/V, *O, V] -> dw: f32[G, K, C, *W] at any strides."""
    lanes = target.lanes(32)
    taps, outputs = tuple(t.taps for t in plan.tiles), tuple(t.outputs for t in plan.tiles)
    channels = channels_of(spec, plan.axes)
    size = plan.parts * prod(taps) * spec.groups * channels * spec.out_features
    sums = Buffer(size * FLOAT, "sums of parts")
    own = spec.out_features // (plan.nr * lanes)
    common: dict[str, Word] = {
        "x": x,
        "g": g,
        "sums": sums,
        "parts": plan.parts,
        "panels": spec.groups * own,
        "own_panels": own,
        "classes": len(classes(plan.axes)),
        **_sources(spec, plan, lanes),
    }
    short = tuple(t.short > 0 for t in plan.tiles)
    kernel = WinogradGradient(outputs, taps, short, plan.mr, plan.nr)
    words = common | _areas(target, spec, plan, lanes) | {"channel_blocks": channels // lanes}
    for j, axis in enumerate(plan.axes):
        words |= {
            f"x_gap{j}": axis.gap,
            f"x_shifts{j}": Table(tuple(axis.shift_of(c[j]) for c in classes(plan.axes))),
            f"g_stride{j}": 1,
            f"g_gap{j}": axis.pace,
            f"g_shifts{j}": Table((0,)),
        }
    first = Step(kernel, arranged(kernel.words, words), (sums,), kernel.name, spec.macs)
    return [first, _store(spec, plan, lanes, common, sums, dw)]


def _sources(spec: ConvSpec, plan: GradientPlan, lanes: int) -> dict[str, Word]:
    """Where the elements of x and g stand."""
    ins, outs = [a.in_size for a in plan.axes], [a.out_size for a in plan.axes]
    words: dict[str, Word] = {
        "x_image": spec.groups * spec.in_features * prod(ins),
        "x_plane": lanes * prod(ins),
        "g_image": spec.groups * spec.out_features * prod(outs),
        "g_plane": lanes * prod(outs),
    }
    for j, axis in enumerate(plan.axes):
        words |= {
            f"x_size{j}": axis.in_size,
            f"x_step{j}": prod(ins[j + 1 :]),
            f"x_stride{j}": axis.stride,
            f"g_size{j}": axis.out_size,
            f"g_step{j}": prod(outs[j + 1 :]),
        }
    return words


def _areas(target: Target, spec: ConvSpec, plan: GradientPlan, lanes: int) -> dict[str, Word]:
    """The blocks, and the scratch memory of a thread."""
    tiles = plan.tiles
    slots, outputs, taps = ([getattr(t, n) for t in tiles] for n in ("slots", "outputs", "taps"))
    cut = [-(-t.count // b) for t, b in zip(tiles, plan.blocks, strict=True)]
    row = -(-spec.batch // plan.image_blocks) * prod(cut) * lanes
    x_slot, g_slot = (
        (channels * row // lanes | 1) * lanes
        for channels in (plan.chunk, spec.groups * spec.out_features // lanes)
    )
    g_area = aligned_elements(prod(slots) * x_slot)
    m_area = g_area + aligned_elements(prod(slots) * g_slot)
    patch = m_area + aligned_elements(prod(slots) * (plan.mr * plan.nr + 1) * lanes)
    boxes = (
        edge_vectors([(n, n) for n in slots]),
        edge_vectors(list(zip(outputs, slots, strict=True))),
        scratch_vectors(list(zip(slots, taps, strict=True))),
    )
    scratch = patch + aligned_elements((1 + max(boxes)) * lanes)
    words: dict[str, Word] = {
        "scratch": Scratch(scratch * FLOAT),
        "scratch_each": scratch,
        "chunk": plan.chunk,
        "g_area": g_area,
        "m_area": m_area,
        "patch": patch,
        "x_slot": x_slot,
        "x_row": row,
        "g_slot": g_slot,
        "g_row": row,
        "images": spec.batch,
        "image_blocks": plan.image_blocks,
    }
    for j, (tile, blocks) in enumerate(zip(tiles, plan.blocks, strict=True)):
        words |= {
            f"long{j}": tile.long,
            f"tiles{j}": tile.count,
            f"blocks{j}": blocks,
            f"starts{j}": Table(tile.starts(plan.axes[j])),
        }
    return words


def _store(
    spec: ConvSpec,
    plan: GradientPlan,
    lanes: int,
    common: dict[str, Word],
    sums: Buffer,
    dw: View,
) -> Step:
    """The step that adds the parts and writes dw."""
    axes, taps = plan.axes, tuple(len(a.taps) for a in plan.axes)
    places = [[k * s for k in range(n)] for n, s in zip(taps, dw.strides[3:], strict=True)]
    where = tuple(sum(t) for t in product(*places))
    dense = where == tuple(range(prod(taps))) and dw.strides[2] == prod(taps)
    rows = tap_offsets(axes, [prod(taps[j + 1 :]) for j in range(len(taps))])
    kernel = WinogradGradientStore(taps, tuple(t.taps for t in plan.tiles), plan.mr, plan.nr, dense)
    # `store_dense` reads up to a vector's number of rows behind the last
    scratch = aligned_elements((lanes * prod(taps) + lanes) * plan.nr * lanes)
    words = common | {
        "dw": At(dw.buffer, dw.offset * FLOAT),
        "scratch": Scratch(scratch * FLOAT),
        "scratch_each": scratch,
        "where": Table(where),
        "rows": Table(tuple(-1 if r is None else r for r in rows)),
        "channel_blocks": spec.in_features // lanes,
        "features": spec.out_features,
        "images": spec.batch,
        "dw_group": dw.strides[0],
        "dw_feature": dw.strides[1],
        "dw_channel": dw.strides[2],
    }
    for j, axis in enumerate(axes):
        order = sorted(range(taps[j]), key=lambda t, axis=axis: axis.taps[t])  # type: ignore[misc]
        words[f"x_reach{j}"] = Table(tuple(axis.shift + axis.dilation * t for t in order))
    return Step(kernel, arranged(kernel.words, words), (dw.buffer,), kernel.name)
