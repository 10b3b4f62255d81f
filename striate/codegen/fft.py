"""Which depthwise convolutions are done by Fourier transforms, and their steps: a cost model.

The length of a window depends on the shape of one image and on the target only. Costs are cycles of
one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import prod

from striate.codegen.boxes import Operand, copy_step
from striate.codegen.epilogue import Epilogue
from striate.codegen.fft_algebra import packed, radices, rows, stages, tables
from striate.codegen.fft_kernel import FftConv, FftWeights
from striate.codegen.kernel import ALIGNMENT, Buffer, Scratch, Step, Table, View, Word
from striate.codegen.winograd_axes import Axis, dense_axes
from striate.codegen.words import arranged
from striate.dtype import DType, float32, float64
from striate.ops.conv import ConvSpec
from striate.target import Target
from striate.transform.views import dense_strides

LONGEST = 1 << 18  # inputs of a window
SHORTEST = 8

# Cycles of a vector:
LEVEL = 2.2  # of an element, in a transform, for each doubling of its length
ELEMENT = 9.0  # read, multiplied and written
TURNED = 8.0  # more, where windows are transposed
FAR = 1.4  # what a stage beyond L2 costs more
TAP = 0.6  # of the direct kernel, on vectors of channels
TAP_ALONE = 4.0  # where channels are no vectors
FEWEST = 16  # taps
NOMINAL = 8  # images among which the transforms of the filters are shared


@dataclass(frozen=True, slots=True)
class Plan:
    """How an image is cut into windows.

    Attributes:
        axes: per axis.
        windows: inputs of a window, powers of two.
        lanes, together: channels and windows of a vector.
    """

    axes: tuple[Axis, ...]
    windows: tuple[int, ...]
    lanes: int
    together: int

    @property
    def hops(self) -> tuple[int, ...]:
        """Outputs of a window."""
        return tuple(
            min(n - len(a.taps) + 1, a.out_size)
            for n, a in zip(self.windows, self.axes, strict=True)
        )

    @property
    def tiles(self) -> tuple[int, ...]:
        """How many windows; of the last axis, vectors of them."""
        counts = [-(-a.out_size // h) for a, h in zip(self.axes, self.hops, strict=True)]
        return (*counts[:-1], -(-counts[-1] // self.together))

    @property
    def elements(self) -> int:
        """Complex elements of a window."""
        return prod(self.windows) // 2

    def cost(self, target: Target, dtype: DType) -> float:
        """Cycles of an image, for one vector of channels."""
        n = self.elements
        vector = self.lanes * self.together * dtype.itemsize
        far = FAR if 2 * n * vector > target.l2 // 2 else 1.0
        turned = TURNED if self.together > 1 else 0.0
        level = 2 * LEVEL * far * (n.bit_length() - 1)
        return n * (prod(self.tiles) * (level + ELEMENT + turned) + level / NOMINAL)

    def factors(self, target: Target, dtype: DType) -> tuple[tuple[tuple[int, ...], ...], int]:
        """(radices per axis, how many of all of them are of leading stages)."""
        found = (*(radices(n) for n in self.windows[:-1]), radices(self.windows[-1] // 2))
        outer = sum(len(f) for f in found[:-1])
        last, vector = found[-1], self.lanes * self.together * dtype.itemsize
        if len(found) == 1:
            while outer < len(last) - 1 and 2 * prod(last[outer:]) * vector > target.l1 * 2 // 3:
                outer += 1
        return tuple(tuple(f) for f in found), outer


def _windows(axis: Axis, last: bool, together: int) -> Iterator[int]:
    """Lengths that hold the taps and at least one output, up to all outputs."""
    n = max(SHORTEST, 2 * together) if last else 1
    while n < len(axis.taps):
        n *= 2
    while n <= LONGEST:
        yield n
        if n - len(axis.taps) + 1 >= axis.out_size:
            return
        n *= 2


@lru_cache(maxsize=1024)
def _plan(target: Target, spec: ConvSpec, dtype: DType, block: int) -> tuple[float, Plan] | None:
    axes = dense_axes(spec)
    if axes is None or not 0 < len(axes) <= 2 or not all(a.taps and a.plain for a in axes):
        return None
    together = target.lanes(dtype.bits) if block == 1 else 1
    options = [list(_windows(a, j == len(axes) - 1, together)) for j, a in enumerate(axes)]
    plans = [
        Plan(axes, windows, block, together)
        for windows in product(*options)
        if prod(windows) <= LONGEST
    ]
    costs = [(p.cost(target, dtype), p) for p in plans]
    return min(costs, key=lambda c: c[0], default=None)


def plan_fft(target: Target, spec: ConvSpec, dtype: DType, block: int) -> Plan | None:
    """The cheapest way for a depthwise convolution in blocks of channels; None if there is none."""
    found = _plan(target, replace(spec, batch=1), dtype, block)
    return found[1] if found else None


def fft_supports(target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int) -> bool:
    """Whether a convolution is done by Fourier transforms: it is depthwise, of stride 1, in float32
    or float64, and that is cheaper than the definition.
    """
    if dtype not in (float32, float64) or x_block != y_block:
        return False
    if spec.in_features != 1 or spec.out_features != 1 or spec.groups % x_block:
        return False
    if 0 in (*spec.lhs_shape, *spec.rhs_shape, *spec.out_shape):
        return False
    found = _plan(target, replace(spec, batch=1), dtype, x_block)
    if found is None:
        return False
    taps, macs = (
        prod(t.kernel_size for t in spec.windows),
        spec.macs // (spec.batch * spec.groups),
    )
    width = target.lanes(dtype.bits) if x_block == 1 else 1
    return taps >= FEWEST and found[0] < macs * (TAP_ALONE / width if x_block == 1 else TAP)


# ---- steps ---------------------------------------------------------------------------------


def _transform_words(target: Target, plan: Plan, dtype: DType) -> dict[str, Word]:
    """The words that say how a window is transformed."""
    factors, outer = plan.factors(target, dtype)
    last = plan.windows[-1] // 2
    if len(factors) == 1:
        (all_factors,) = factors
        first, rest = tables(all_factors, outer)
        blocks = prod(all_factors[:outer])
        outer_rows = rows(stages(last, all_factors[:outer]))
        inner = all_factors[outer:]
        step = len(rest) // blocks
    else:
        leading, inner = factors
        first, _ = tables(leading, len(leading))
        _, rest = tables(inner, 0)
        blocks, step = plan.windows[0], 0
        outer_rows = rows(stages(plan.windows[0], leading), last)
    within = stages(prod(inner), inner)
    return {
        "outer_stages": Table(outer_rows),
        "outer_count": outer,
        "outer_constants": Table(packed(first, dtype)),
        "inner_stages": Table(rows(within)),
        "inner_count": len(inner) - 1,
        "inner_constants": Table(packed(rest, dtype)),
        "inner_step": step,
        "blocks": blocks,
        "block_length": prod(inner),
        "last_constants": sum(s.constants for s in within[:-1]),
    }


def _axis_words(plan: Plan, weights: bool) -> dict[str, Word]:
    """The words of the axes: of x and y, or of the filter as a window."""
    words: dict[str, Word] = {}
    for j, axis in enumerate(plan.axes):
        inner = plan.axes[j + 1 :]
        taps = prod(len(a.taps) for a in inner)
        ins = taps if weights else prod(a.in_size for a in inner)
        words |= {
            f"size{j}": len(axis.taps) if weights else axis.in_size,
            f"step{j}": ins,
            f"shift{j}": 0 if weights else axis.shift,
            f"window{j}": plan.windows[j],
            f"taps{j}": len(axis.taps),
            f"outs{j}": axis.out_size,
            f"y_step{j}": prod(a.out_size for a in inner),
            f"hop{j}": plan.hops[j],
            f"tiles{j}": plan.tiles[j],
            f"w_step{j}": taps,
        }
    return words


def _ordered(
    spec: ConvSpec, dtype: DType, w: View, block: int, plan: Plan
) -> tuple[Buffer, list[Step]]:
    """w as [G/b, *taps, b], the taps in the order of the inputs that they meet."""
    feature, _, _, *ws = w.strides
    taps = [a.taps for a in plan.axes]
    shape = (spec.groups // block, *map(len, taps), block)
    first = w.offset + sum(t[0] * s for t, s in zip(taps, ws, strict=True))
    steps = [s if t[0] <= t[-1] else -s for t, s in zip(taps, ws, strict=True)]
    buffer = Buffer(prod(shape) * dtype.itemsize, "filters")
    source = View(w.buffer, first, (block * feature, *steps, feature))
    target = View(buffer, 0, dense_strides(shape))
    return buffer, copy_step(shape, Operand(dtype, source), Operand(dtype, target))


def fft_conv(
    target: Target,
    spec: ConvSpec,
    dtype: DType,
    block: int,
    x: Buffer,
    w: View,
    y: Buffer,
    epilogue: Epilogue | None = None,
    operands: Sequence[Buffer] = (),
    plan: Plan | None = None,
) -> list[Step]:
    """y [N, G/b, *O, b] = epilogue(conv(x [N, G/b, *I, b], w [G, 1, 1, *W] at any strides)).

    Args:
        target, spec, dtype, block: as `fft_supports` accepts them.
        x, y: dense buffers.
        w: the filters.
        epilogue, operands: what is done before y is stored, and with what.
        plan: by default the cheapest.
    """
    plan = plan or plan_fft(target, spec, dtype, block)
    assert plan is not None
    channels, elements = spec.groups // block, plan.elements
    packed_w, steps = _ordered(spec, dtype, w, block, plan)
    item, taps = dtype.itemsize, prod(len(a.taps) for a in plan.axes)
    u = Buffer(channels * 2 * elements * block * item, "transformed filters")
    transform = _transform_words(target, plan, dtype)
    ins, outs = (prod(a.in_size for a in plan.axes), prod(a.out_size for a in plan.axes))

    def scratch(lanes: int) -> dict[str, Word]:
        nbytes = -(-2 * elements * lanes * item // ALIGNMENT) * ALIGNMENT
        return {"scratch": Scratch(nbytes), "scratch_each": nbytes // (lanes * item)}

    weights = FftWeights(dtype, len(plan.axes), block)
    words: dict[str, Word] = {
        **scratch(block),
        **transform,
        **_axis_words(plan, True),
        "u": u,
        "images": 1,
        "channels": channels,
        "x": packed_w,
        "x_image": 0,
        "x_plane": taps * block,
        "y_image": 0,
        "y_plane": 0,
        "scale": Table(packed([1 / elements], dtype)),
    }
    steps.append(Step(weights, arranged(weights.words, words), (u,), weights.name))
    kernel = FftConv(dtype, len(plan.axes), block, plan.together, epilogue)
    words = {
        **scratch(block * plan.together),
        **transform,
        **_axis_words(plan, False),
        "u": u,
        "w": packed_w,
        "x": x,
        "y": y,
        "images": spec.batch,
        "channels": channels,
        "x_image": spec.groups * ins,
        "x_plane": ins * block,
        "y_image": spec.groups * outs,
        "y_plane": outs * block,
        **{f"operand{i}": operand for i, operand in enumerate(operands)},
    }
    return [*steps, Step(kernel, arranged(kernel.words, words), (y,), kernel.name, spec.macs)]
