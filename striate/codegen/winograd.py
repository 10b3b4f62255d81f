"""Convolution by one of Winograd's algorithms, as steps: pack weights, transform, use them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from striate.codegen.dense import Region, pack_panels, panels_of
from striate.codegen.dense_plan import Channels
from striate.codegen.epilogue import Epilogue
from striate.codegen.kernel import ALIGNMENT, Buffer, Scratch, Step, View, Word
from striate.codegen.separable import scratch_vectors
from striate.codegen.weight_pack import rows_of
from striate.codegen.winograd_kernel import WinogradKernel
from striate.codegen.winograd_plan import Plan
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


def _packed(spec: ConvSpec, w: View, plan: Plan) -> tuple[Buffer, list[Step]]:
    """w as panels [panel][block][tap][c][NR*V]"""
    lanes = plan.lanes
    steps = [[k * s for k in a.taps] for a, s in zip(plan.axes, w.strides[3:], strict=True)]
    offsets = tuple([sum(t) for t in product(*steps)])
    channels = Channels.of(spec.in_features, lanes)
    rows = rows_of(channels, lanes, offsets, w.strides[2], w.strides[1], lanes)
    panels = panels_of(spec, plan.nr, lanes)
    flags = aligned_elements(panels * rows.chunks * rows.count * plan.nr * lanes) * FLOAT
    buffer = Buffer(flags + aligned_elements(2 * panels * rows.chunks) * FLOAT, "packed weights")
    region = Region(plan.nr, 0, flags, panels * rows.chunks)
    return buffer, [pack_panels(spec, float32, w, buffer, region, lanes, rows)]


def _transformed(spec: ConvSpec, packed: Buffer, plan: Plan) -> tuple[Buffer, Step]:
    """U [panel][slot][c][NR*V]"""
    outputs, taps = (tuple(getattr(t, name) for t in plan.tiles) for name in ("outputs", "taps"))
    kernel = WinogradWeights(outputs, taps, plan.nr)
    slots = [t.slots for t in plan.tiles]
    panels = panels_of(spec, plan.nr, plan.lanes)
    size = panels * prod(slots) * (spec.in_features * plan.nr + 1) * plan.lanes
    u = Buffer(size * FLOAT, "transformed weights")
    scratch = aligned_elements(scratch_vectors(list(zip(taps, slots, strict=True))) * plan.lanes)
    words: dict[str, Word] = {
        "packed": packed,
        "u": u,
        "panels": panels,
        "channel_blocks": spec.in_features // plan.lanes,
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
) -> list[Step]:
    """x: f32[N, C/V, *I, V], w: f32[1, K, C, *W] at any strides -> y: f32[N, K/V, *O, V]."""
    packed, steps = _packed(spec, w, plan)
    u = packed
    if not plan.fused:
        u, transform = _transformed(spec, packed, plan)
        steps.append(transform)
    return [*steps, _step(spec, plan, x, packed, u, y, epilogue, operands)]


def _step(
    spec: ConvSpec,
    plan: Plan,
    x: Buffer,
    packed: Buffer,
    u: Buffer,
    y: Buffer,
    epilogue: Epilogue | None,
    operands: Sequence[Buffer],
) -> Step:
    lanes, tiles = plan.lanes, plan.tiles
    channels = spec.in_features // lanes
    panels = panels_of(spec, plan.nr, lanes)
    slots = [t.slots for t in tiles]
    ins, outs = [a.in_size for a in plan.axes], [a.out_size for a in plan.axes]
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
    v_slot, m_slot = _odd(channels * v_row, lanes), _odd(plan.panel_group * m_row, lanes)
    u_slots = prod(slots) if plan.fused and not plan.few else 0
    m_area = aligned_elements(prod(slots) * v_slot + slack)
    u_area = m_area + aligned_elements(prod(slots) * m_slot)
    patch = u_area + aligned_elements(u_slots * (plan.chunk * lanes * plan.nr + 1) * lanes)
    lines = 1 + max(
        scratch_vectors([(t.taps, t.slots) for t in tiles]),
        scratch_vectors([(n, n) for n in slots]),
        scratch_vectors([(t.slots, t.outputs) for t in tiles]),
    )
    scratch = patch + aligned_elements(lines * lanes)
    words: dict[str, Word] = {
        "x": x,
        "y": y,
        "u": u,
        "w": packed,
        "scratch": Scratch(scratch * FLOAT),
        "scratch_each": scratch,
        "m_area": m_area,
        "u_area": u_area,
        "patch": patch,
        "features": spec.out_features,
        "channel_blocks": channels,
        "chunk": plan.chunk,
        "panels": panels,
        "panel_group": plan.panel_group,
        "panel_groups": -(-panels // plan.panel_group),
        "images": spec.batch,
        "image_blocks": plan.image_blocks,
        "x_image": spec.in_features * prod(ins),
        "y_image": spec.out_features * prod(outs),
        "x_plane": lanes * prod(ins),
        "y_plane": lanes * prod(outs),
        "x_slot": v_slot,
        "x_row": v_row,
        "m_slot": m_slot,
        "m_row": m_row,
    }
    for j, (axis, tile) in enumerate(zip(plan.axes, tiles, strict=True)):
        words |= {
            f"long{j}": tile.long,
            f"tiles{j}": tile.count,
            f"blocks{j}": plan.blocks[j],
            f"x_size{j}": axis.in_size,
            f"x_step{j}": prod(ins[j + 1 :]),
            f"x_shift{j}": axis.shift,
            f"y_step{j}": lanes * prod(outs[j + 1 :]),
        }
    words |= {f"operand{i}": operand for i, operand in enumerate(operands)}
    return Step(kernel, arranged(kernel.words, words), (y,), kernel.name, spec.macs)
