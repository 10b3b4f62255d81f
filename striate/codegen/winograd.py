"""Convolution by one of Winograd's algorithms, as steps: pack weights, transform, use them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from striate.codegen.dense import Region, pack_panels, panels_of
from striate.codegen.dense_plan import Channels
from striate.codegen.epilogue import Epilogue
from striate.codegen.kernel import ALIGNMENT, At, Buffer, Scratch, Step, Table, View, Word
from striate.codegen.separable import scratch_vectors
from striate.codegen.weight_pack import rows_of
from striate.codegen.winograd_axes import Axis, channels_of, classes
from striate.codegen.winograd_kernel import WinogradKernel
from striate.codegen.winograd_plan import Plan
from striate.codegen.winograd_tiles import edge_vectors
from striate.codegen.winograd_weights import WinogradWeights
from striate.codegen.words import arranged
from striate.dtype import float32
from striate.ops.conv import ConvSpec

FLOAT = 4  # bytes


def aligned_elements(elements: int) -> int:
    """A multiple of 64 bytes, in elements."""
    return -(-elements * FLOAT // ALIGNMENT) * ALIGNMENT // FLOAT


def _odd(elements: int, lanes: int) -> int:
    """An odd number of vectors: slots do not meet in one set of a cache."""
    return (elements // lanes | 1) * lanes


def tap_offsets(axes: Sequence[Axis], strides: Sequence[int]) -> tuple[int | None, ...]:
    """Where the weights of the taps of all classes are, class by class; None for taps that a class
    lacks.
    """
    found: list[int | None] = []
    for of in classes(axes):
        per_axis = [a.taps_of(c) for a, c in zip(axes, of, strict=True)]
        for taps in product(*per_axis):
            there = [k * s for k, s in zip(taps, strides, strict=True) if k is not None]
            found.append(sum(there) if len(there) == len(axes) else None)
    return tuple(found)


def _packed(spec: ConvSpec, w: View, plan: Plan) -> tuple[Buffer, list[Step]]:
    """w as panels [group, panel][block][class][tap][c][NR*V]"""
    lanes = plan.lanes
    channels = Channels.of(spec.in_features, lanes)
    offsets = tap_offsets(plan.axes, w.strides[3:])
    rows = rows_of(channels, lanes, offsets, w.strides[2], w.strides[1], lanes)
    panels = spec.groups * panels_of(spec, plan.nr, lanes)
    flags = aligned_elements(panels * rows.chunks * rows.count * plan.nr * lanes) * FLOAT
    buffer = Buffer(flags + aligned_elements(2 * panels * rows.chunks) * FLOAT, "packed weights")
    region = Region(plan.nr, 0, flags, panels * rows.chunks)
    return buffer, [pack_panels(spec, float32, w, buffer, region, lanes, rows)]


def _transformed(spec: ConvSpec, packed: Buffer, plan: Plan) -> tuple[Buffer, Step]:
    """U [group, panel][slot][block][class][c][NR*V]"""
    outputs, taps = (tuple(getattr(t, name) for t in plan.tiles) for name in ("outputs", "taps"))
    kernel = WinogradWeights(outputs, taps, plan.nr)
    slots = [t.slots for t in plan.tiles]
    panels = spec.groups * panels_of(spec, plan.nr, plan.lanes)
    channels = channels_of(spec, plan.axes)
    size = panels * prod(slots) * (channels * plan.nr + 1) * plan.lanes
    u = Buffer(size * FLOAT, "transformed weights")
    scratch = aligned_elements(scratch_vectors(list(zip(taps, slots, strict=True))) * plan.lanes)
    words: dict[str, Word] = {
        "packed": packed,
        "u": u,
        "panels": panels,
        "channel_blocks": channels // plan.lanes,
        "scratch": Scratch(scratch * FLOAT),
        "scratch_each": scratch,
    }
    return u, Step(kernel, arranged(kernel.words, words), (u,), kernel.name)


def winograd_conv(
    spec: ConvSpec,
    plan: Plan,
    x: Buffer,
    w: View,
    y: Buffer,
    epilogue: Epilogue | None = None,
    operands: Sequence[Buffer] = (),
    outs: Sequence[range] | None = None,
) -> list[Step]:
    """x: f32[N, G*C/V, *I, V], w: f32[G, K, C, *W] at any strides -> y: f32[N, G*K/V, *O, V].

    Args:
        spec, plan: the convolution, and how it is done.
        x, w, y: dense buffers, and a view of the weights.
        epilogue, operands: what is done before y is stored, and with what.
        outs: per axis, which elements of a larger y these outputs are, and its size as
            `range.stop`.
    """
    packed, steps = _packed(spec, w, plan)
    u = packed
    if not plan.fused:
        u, transform = _transformed(spec, packed, plan)
        steps.append(transform)
    outs = outs or [range(a.out_size) for a in plan.axes]
    return [*steps, _step(spec, plan, x, packed, u, y, epilogue, operands, outs)]


def _step(
    spec: ConvSpec,
    plan: Plan,
    x: Buffer,
    packed: Buffer,
    u: Buffer,
    y: Buffer,
    epilogue: Epilogue | None,
    operands: Sequence[Buffer],
    outs: Sequence[range],
) -> Step:
    lanes, tiles, axes = plan.lanes, plan.tiles, plan.axes
    channels, groups = channels_of(spec, axes) // lanes, spec.groups
    panels = panels_of(spec, plan.nr, lanes)
    slots = [t.slots for t in tiles]
    ins, ys = [a.in_size for a in axes], [o.stop for o in outs]
    y_steps = [lanes * prod(ys[j + 1 :]) for j in range(len(axes))]
    y_first = sum(o.start * s for o, s in zip(outs, y_steps, strict=True))
    kernel = WinogradKernel(
        tuple(t.outputs for t in tiles),
        tuple(t.taps for t in tiles),
        tuple(t.short > 0 for t in tiles),
        plan.mr,
        plan.nr,
        spec.out_features % (plan.nr * lanes) != 0,
        plan.fused,
        plan.chunk < channels,
        plan.ahead,
        plan.few,
        epilogue,
    )
    most = plan.most_tiles(spec.batch)
    slack = plan.mr * lanes  # a register tile may reach beyond the block
    v_row, m_row = most * lanes, (most + plan.mr) * plan.nr * lanes
    v_slot, m_slot = _odd(groups * channels * v_row, lanes), _odd(plan.panel_group * m_row, lanes)
    u_slots = prod(slots) if plan.fused and not plan.few else 0
    m_area = aligned_elements(prod(slots) * v_slot + slack)
    u_area = m_area + aligned_elements(prod(slots) * m_slot)
    patch = u_area + aligned_elements(u_slots * (plan.chunk * lanes * plan.nr + 1) * lanes)
    lines = 1 + max(
        scratch_vectors([(t.taps, t.slots) for t in tiles]),
        edge_vectors([(n, n) for n in slots]),
        scratch_vectors([(t.slots, t.outputs) for t in tiles]),
    )
    scratch = patch + aligned_elements(lines * lanes)
    words: dict[str, Word] = {
        "x": x,
        "y": At(y, y_first * (epilogue.result if epilogue else float32).itemsize),
        "u": u,
        "w": packed,
        "scratch": Scratch(scratch * FLOAT),
        "scratch_each": scratch,
        "m_area": m_area,
        "u_area": u_area,
        "patch": patch,
        "features": groups * spec.out_features,
        "channel_blocks": channels,
        "classes": len(classes(axes)),
        "chunk": plan.chunk,
        "panels": groups * panels,
        "panel_group": plan.panel_group,
        "panel_groups": -(-groups * panels // plan.panel_group),
        "own_panels": panels,
        "images": spec.batch,
        "image_blocks": plan.image_blocks,
        "x_image": groups * spec.in_features * prod(ins),
        "y_image": groups * spec.out_features * prod(ys),
        "x_plane": lanes * prod(ins),
        "y_plane": lanes * prod(ys),
        "x_slot": v_slot,
        "x_row": v_row,
        "m_slot": m_slot,
        "m_row": m_row,
    }
    for j, (axis, tile) in enumerate(zip(axes, tiles, strict=True)):
        of = [c[j] for c in classes(axes)]
        has = [sum(t is not None for t in axis.taps_of(c)) for c in of]
        words |= {
            f"long{j}": tile.long,
            f"tiles{j}": tile.count,
            f"starts{j}": Table(tile.starts(axis)),
            f"blocks{j}": plan.blocks[j],
            f"x_size{j}": axis.in_size,
            f"x_step{j}": prod(ins[j + 1 :]),
            f"x_stride{j}": axis.stride,
            f"x_gap{j}": axis.gap,
            f"x_shifts{j}": Table(tuple(axis.shift_of(c) for c in of)),
            f"class_taps{j}": Table(tuple(has)),
            f"y_step{j}": y_steps[j] * outs[j].step,
            f"y_gap{j}": y_steps[j] * outs[j].step * axis.pace,
        }
    for i, operand in enumerate(operands):
        assert epilogue is not None
        moves = y_first * epilogue.dtypes[i].itemsize if epilogue.kinds[i] == "tensor" else 0
        words[f"operand{i}"] = At(operand, moves)
    return Step(kernel, arranged(kernel.words, words), (y,), kernel.name, spec.macs)
