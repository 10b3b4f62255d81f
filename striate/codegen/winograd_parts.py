"""A convolution by Winograd's algorithms, part by part: inputs that are apart are split into dense
parts (`ops.window.Phase`), each of which takes an algorithm of its own or the definition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from striate.codegen.dense import dense_conv, pack_weights
from striate.codegen.dense_geometry import count_parts
from striate.codegen.epilogue import Epilogue
from striate.codegen.kernel import Buffer, Step, View
from striate.codegen.winograd import winograd_conv
from striate.codegen.winograd_axes import Tiles, has_vectors
from striate.codegen.winograd_plan import algorithm, plan_winograd
from striate.config import settings
from striate.dtype import DType, float32
from striate.ops.conv import ConvSpec
from striate.target import Target

MOST_PARTS = 16  # more are small, and none saves much


@dataclass(frozen=True, slots=True)
class Part:
    """A dense part of a convolution.

    Attributes:
        spec: its windows; None if no tap meets its outputs.
        outs: per axis, which outputs these are, and of how many as `range.stop`.
        taps: per axis, the first tap and the distance of two.
    """

    spec: ConvSpec | None
    outs: tuple[range, ...]
    taps: tuple[tuple[int, int], ...]

    def weights(self, w: View) -> View:
        """The weights of the part."""
        pairs = list(zip(self.taps, w.strides[3:], strict=True))
        first = sum(first * s for (first, _), s in pairs)
        strides = (*w.strides[:3], *(n * s for (_, n), s in pairs))
        return replace(w, offset=w.offset + first, strides=strides)


def parts_of(spec: ConvSpec) -> Iterator[Part]:
    """The parts, in the order of `dense_geometry.split`."""
    for phases in product(*(t.phases() for t in spec.windows)):
        windows = tuple(f.window for f in phases if f.window is not None)
        taps = tuple(
            (f.kernel.start or 0, f.kernel.step or 1) for f in phases if f.kernel is not None
        )
        outs = tuple(
            range(f.out.start or 0, t.out_size, f.out.step or 1)
            for f, t in zip(phases, spec.windows, strict=True)
        )
        live = len(windows) == len(phases)
        yield Part(replace(spec, windows=windows) if live else None, outs, taps)


@lru_cache(maxsize=1024)
def algorithms(
    target: Target, spec: ConvSpec, precision: str
) -> tuple[tuple[Part, tuple[Tiles, ...] | None], ...]:
    """The parts, each with the tiles of its algorithm, or None where that is the definition."""
    return tuple(
        (part, algorithm(target, part.spec, precision) if part.spec else None)
        for part in parts_of(spec)
    )


def winograd_supports(
    target: Target, spec: ConvSpec, dtype: DType, x_block: int, y_block: int
) -> bool:
    """Whether a convolution, or a part of it, is done by one of Winograd's algorithms: it is in
    float32 and in blocks of a vector's lanes, and the cost model says so.
    """
    return (
        has_vectors(target, spec, dtype, x_block, y_block)
        and count_parts(spec) <= MOST_PARTS
        and any(tiles for _, tiles in algorithms(target, spec, settings().precision))
    )


def conv_by_parts(
    target: Target,
    spec: ConvSpec,
    x: Buffer,
    w: View,
    y: Buffer,
    epilogue: Epilogue | None = None,
    operands: Sequence[Buffer] = (),
) -> list[Step]:
    """x: f32[N, G*C/V, *I, V], w: f32[G, K, C, *W] at any strides -> y: f32[N, G*K/V, *O, V], where
    `winograd_supports`.
    """
    steps: list[Step] = []
    lanes = target.lanes(32)
    left = set()
    for i, (part, tiles) in enumerate(algorithms(target, spec, settings().precision)):
        if part.spec is None or tiles is None:
            left.add(i)
            continue
        plan = plan_winograd(target, part.spec, tiles)
        weights = part.weights(w)
        steps += winograd_conv(part.spec, plan, x, weights, y, epilogue, operands, part.outs)
    if left:
        packed, packing = pack_weights(target, spec, float32, w, lanes, lanes, left)
        steps += packing
        steps += dense_conv(
            target, spec, float32, x, lanes, packed, w, y, lanes, epilogue, operands, left
        )
    return steps
