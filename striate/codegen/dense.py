"""The dense contraction as steps: forward convolutions, input gradients, matrix products.

    y[n, g, k, o] = sum over c, t of  x[n, g, c, i(o, t)] * w[g, k, c, t]

Weights are packed by a step of their own, then each dense part is one step. A gradient is no
special case: its spec and the strides of its weights say what is flipped and exchanged.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from striate.codegen.dense_kernel import DenseKernel
from striate.codegen.dense_plan import Channels, Plan, dense_supports, granule, plan_dense
from striate.codegen.epilogue import Epilogue
from striate.codegen.kernel import ALIGNMENT, At, Buffer, Scratch, Step, Table, View, Word
from striate.codegen.weight_blocks import vector_step
from striate.codegen.weight_pack import NO_SOURCE, Rows, WeightPack, rows_of
from striate.codegen.words import arranged
from striate.dtype import DType, compute_dtype
from striate.ops.conv import ConvSpec
from striate.target import Target

__all__ = [
    "Packed",
    "Region",
    "dense_conv",
    "dense_supports",
    "pack_panels",
    "pack_weights",
    "panels_of",
]

FEW = 1 << 15  # multiply-adds that one thread does sooner than two meet


@dataclass(frozen=True)
class Region:
    """Where the weights of a part are.

    Attributes:
        nr: vectors of a panel.
        offset, flags: bytes in the buffer.
        flag_count: one i64 per piece of packing.
    """

    nr: int
    offset: int
    flags: int
    flag_count: int


@dataclass(frozen=True)
class Packed:
    """Weights as `dense_conv` of the same spec, blocks and target reads them.

    Attributes:
        buffer: the memory.
        regions: one per part.
    """

    buffer: Buffer
    regions: tuple[Region, ...]


def _up(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def panels_of(spec: ConvSpec, nr: int, lanes: int) -> int:
    """Panels of NR vectors of features."""
    return -(-spec.out_features // (nr * lanes))


def pack_weights(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    w: View,
    x_block: int,
    y_block: int,
    parts: Container[int] | None = None,
) -> tuple[Packed, list[Step]]:
    """Weights [G, K, C, *W] at any strides, as panels; the steps write a new buffer. Only those of
    some `parts`, if they are given.
    """
    channels = Channels.of(spec.in_features, x_block)
    itemsize = compute_dtype(dtype).itemsize
    regions, chunks, offset = [], [], 0
    for i, plan in enumerate(plan_dense(target, spec, dtype, x_block, y_block)):
        wanted = parts is None or i in parts
        if not wanted or not plan.part.live or not spec.in_features:
            regions.append(Region(plan.nr, offset, offset, 0))
            continue
        per_axis = [
            [k * s for k in taps] for taps, s in zip(plan.part.taps, w.strides[3:], strict=True)
        ]
        offsets = tuple([sum(t) for t in product(*per_axis)])
        rows = rows_of(channels, x_block, offsets, w.strides[2], w.strides[1], plan.lanes)
        panels = spec.groups * panels_of(spec, plan.nr, plan.lanes)
        nbytes = panels * rows.chunks * rows.count * plan.nr * plan.lanes * itemsize
        flags = offset + _up(nbytes)
        regions.append(Region(plan.nr, offset, flags, panels * rows.chunks))
        chunks.append((regions[-1], plan.lanes, rows))
        offset = flags + _up(8 * panels * rows.chunks)
    packed = Packed(Buffer(offset, "packed weights"), tuple(regions))
    return packed, [pack_panels(spec, dtype, w, packed.buffer, *piece) for piece in chunks]


def pack_panels(
    spec: ConvSpec, dtype: DType, w: View, out: Buffer, region: Region, lanes: int, rows: Rows
) -> Step:
    """The step that packs the weights of one part."""
    words: dict[str, Word] = {
        "w": At(w.buffer, w.offset * dtype.itemsize),
        "out": At(out, region.offset),
        "flags": At(out, region.flags),
        "groups": spec.groups,
        "panels": panels_of(spec, region.nr, lanes),
        "chunks": rows.chunks,
        "vectors": region.nr,
        "features": spec.out_features,
        "rows": rows.count,
        "group_step": w.strides[0],
        "vector_step": vector_step(w, lanes),
        "feature_step": w.strides[1],
        "chunk_step": rows.channels * w.strides[2],
    }
    if rows.mode == "lines":
        words |= {
            "lines": len(rows.starts),
            "starts": Table(rows.starts),
            "sizes": Table(rows.sizes),
            "length": rows.length,
            "targets": Table(rows.targets),
        }
    else:
        words["sources"] = Table(tuple(NO_SOURCE if s is None else s for s in rows.sources))
    kernel = WeightPack(dtype, rows.mode, rows.padded)
    small = 16 * prod(spec.rhs_shape) < FEW
    return Step(kernel, arranged(kernel.words, words), (out,), kernel.name, single=small)


def dense_conv(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    x: Buffer,
    x_block: int,
    w: Packed,
    w_view: View,
    y: Buffer,
    y_block: int,
    epilogue: Epilogue | None = None,
    operands: Sequence[Buffer] = (),
    parts: Container[int] | None = None,
) -> list[Step]:
    """x: [N, G*C/xb, *I, xb] -> y: [N, G*K/yb, *O, yb], one step per dense part of the outputs; or
    only those of some `parts`.
    """
    plans = plan_dense(target, spec, dtype, x_block, y_block)
    return [
        _step(spec, dtype, x, x_block, w.buffer, region, plan, y, y_block, epilogue, operands)
        for i, (plan, region) in enumerate(zip(plans, w.regions, strict=True))
        if parts is None or i in parts
    ]


def _pitches(plan: Plan) -> tuple[list[int], list[int]]:
    """(per axis, positions between planes; between positions) of a packed tile."""
    extents, counts = plan.extents, [len(p.offsets) for p in plan.planes]
    n = len(extents)
    pitch = [prod(extents[j + 1 :]) for j in range(n)]
    plane = [prod(extents) * prod(counts[j + 1 :]) for j in range(n)]
    return plane, pitch


def _tap_positions(plan: Plan) -> list[int]:
    """Per tap, its distance from the output's own position in a packed tile."""
    plane, pitch = _pitches(plan)
    per_axis = [
        [p * plane[j] + shift * pitch[j] for p, shift in planes.places]
        for j, planes in enumerate(plan.planes)
    ]
    return [sum(t) for t in product(*per_axis)]


def _run_offsets(plan: Plan) -> tuple[int, ...]:
    """Per pixel of the longest run, its distance in y from the first, in elements."""
    axes, lengths = plan.part.axes[plan.run :], plan.lengths[plan.run :]
    steps = [[i * a.y_step for i in range(n)] for a, n in zip(axes, lengths, strict=True)]
    return tuple(sum(t) for t in product(*steps))


def _step(
    spec: ConvSpec,
    dtype: DType,
    x: Buffer,
    x_block: int,
    w: Buffer,
    region: Region,
    plan: Plan,
    y: Buffer,
    y_block: int,
    epilogue: Epilogue | None,
    operands: Sequence[Buffer],
) -> Step:
    part, axes = plan.part, plan.part.axes
    channels = Channels.of(spec.in_features, x_block)
    blocks = channels.blocks * channels.subs if part.live else 0
    computed = compute_dtype(dtype)
    x_plane = x_block * prod(t.in_size for t in spec.windows)
    y_plane = y_block * prod(t.out_size for t in spec.windows)
    plane, pitch = _pitches(plan)
    taps = _tap_positions(plan) if blocks else [0]
    padded = bool(blocks) and not plan.direct and not all(a.inside for a in axes)
    size, unit = channels.size, channels.unit(len(taps))
    if plan.direct:
        origin = sum(a.offsets[0] * a.x_step for a in axes)
        starts = [origin + b * x_plane for b in range(blocks)]
    else:
        starts = [(b * plan.positions + t) * size for b in range(blocks) for t in taps]
    entries = [start + c for start in starts for c in range(0, size, unit)]
    aheads = (
        [start + (plan.mr + i) * size for start in starts for i in range(size // unit)]
        if plan.direct
        else []
    )
    masks = [t for _ in range(blocks) for t in taps for _ in range(0, size, unit)]
    mask = blocks * plan.positions * size
    scratch = 0 if plan.direct else _up((mask + padded * plan.positions) * computed.itemsize)
    block, lanes = granule(y_block, spec.out_features, plan.lanes)
    run = _run_offsets(plan)
    kernel = DenseKernel(
        dtype,
        plan.mr,
        plan.nr,
        size,
        unit,
        channels.tail,
        len(axes),
        plan.run,
        not plan.direct,
        padded,
        block,
        lanes,
        lanes == 1 and run == tuple(range(len(run))),
        spec.out_features % (plan.nr * plan.lanes) != 0,
        epilogue,
    )
    result = epilogue.result if epilogue else dtype
    words: dict[str, Word] = {
        "x": At(x, part.x_offset * dtype.itemsize),
        "w": At(w, region.offset),
        "y": At(y, part.y_offset * result.itemsize),
        "scratch": Scratch(scratch),
        "scratch_each": scratch // computed.itemsize,
        "flags": At(w, region.flags),
        "mask": mask,
        "entries": Table(tuple(entries)),
        "entry_count": len(entries),
        "mask_entries": Table(tuple(masks) if padded else ()),
        "aheads": Table(tuple(aheads)),
        "y_run": Table(run),
        "groups": spec.groups,
        "features": spec.out_features,
        "panels": panels_of(spec, plan.nr, plan.lanes),
        "panel_size": len(entries) * unit * plan.nr * plan.lanes,
        "x_group": spec.in_features // x_block * x_plane,
        "x_block": x_plane,
        "blocks": channels.blocks,
        "subs": channels.subs,
        "block_pitch": plan.positions,
        "y_group": spec.out_features // y_block * y_plane,
        "y_block": y_plane,
        "flag_count": region.flag_count,
    }
    for j, (axis, planes) in enumerate(zip(axes, plan.planes, strict=True)):
        words |= {
            f"out{j}": axis.out_size,
            f"tiles{j}": plan.tiles[j],
            f"in{j}": axis.in_size,
            f"stride{j}": axis.stride,
            f"x_step{j}": axis.x_step,
            f"y_step{j}": axis.y_step,
            f"planes{j}": len(planes.offsets),
            f"plane_pitch{j}": plane[j],
            f"pitch{j}": pitch[j],
            f"extra{j}": planes.extra,
            f"offsets{j}": Table(planes.offsets),
        }
    for i, operand in enumerate(operands):
        assert epilogue is not None
        moves = part.y_offset * epilogue.dtypes[i].itemsize if epilogue.kinds[i] == "tensor" else 0
        words[f"operand{i}"] = At(operand, moves)
    macs = spec.batch * spec.groups * spec.out_features * len(entries) * unit
    macs *= prod(a.out_size for a in axes[1:])
    small = macs < FEW
    return Step(kernel, arranged(kernel.words, words), (y,), kernel.name, macs, small)
