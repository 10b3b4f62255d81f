"""Weights for Winograd's algorithms: U = G w G' of every channel and feature.

    packed [panel][block][tap][c][NR*V]  ->  U [panel][slot][block][c][NR*V]

A piece of work is a block of channels of one panel. Behind each slot a vector is left unused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from striate.codegen.emitter import F32, Emitter, Index, Value, vector
from striate.codegen.separable import Line, separable
from striate.codegen.winograd_algebra import Algorithm, winograd
from striate.codegen.winograd_tiles import slot_number
from striate.codegen.words import Words

WORDS = ("packed", "u", "panels", "channel_blocks", "scratch", "scratch_each")


@dataclass(frozen=True)
class WinogradWeights:
    """One piece of work per (panel, block of channels).

    Attributes:
        outputs, taps: per axis, of the algorithm.
        nr: vectors of a panel.
    """

    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    nr: int

    @property
    def name(self) -> str:
        """`winograd_weights_f4x4_3x3`"""
        sizes = ["x".join(map(str, n)) for n in (self.outputs, self.taps)]
        return f"winograd_weights_f{sizes[0]}_{sizes[1]}"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        return WORDS

    def emit(self, e: Emitter) -> None:
        """The whole kernel."""
        n = Words(e, WORDS)
        lanes = e.target.lanes(32)
        wide = vector(F32, lanes)
        algorithms = [winograd(m, r) for m, r in zip(self.outputs, self.taps, strict=True)]
        slots = prod(a.products for a in algorithms)
        each = lanes * self.nr  # vectors of a tap of a block
        blocks = n.number("channel_blocks")
        area = e.at(n.pointer("scratch"), e.mul(e.thread, n.number("scratch_each")), F32)

        def piece(item: Value) -> None:
            panel, block = e.b.udiv(item, blocks), e.b.urem(item, blocks)
            source = e.at(n.pointer("packed"), e.mul(item, prod(self.taps) * each), wide)
            slot = e.add(e.mul(blocks, each), 1)  # odd: slots do not meet in one set of a cache
            place = e.add(e.mul(e.mul(panel, slots), slot), e.mul(block, each))
            target = e.at(n.pointer("u"), place, wide)
            transform_block(e, algorithms, each, source, target, slot, area)

        first, last = e.share(e.mul(n.number("panels"), blocks))
        e.each(first, last, piece)


def transform_block(
    e: Emitter,
    algorithms: Sequence[Algorithm],
    each: int,
    source: Value,
    target: Value,
    slot: Index,
    area: Value,
) -> None:
    """packed [tap][each] of one block of channels -> [slot][each], vectors; the slots are `slot`
    vectors apart, and `area` is scratch for `separable`.
    """
    wide = vector(F32, e.target.lanes(32))
    taps, slots = [a.taps for a in algorithms], [a.products for a in algorithms]
    lines = [Line(a.weights()) for a in algorithms]
    steps = [prod(taps[j + 1 :]) * each for j in range(len(taps))]

    def one(q: Value) -> None:
        def put(where: list[Index], values: list[Value], _: list[Value]) -> list[Value]:
            for i, value in enumerate(values):
                at = e.add(e.mul(slot_number(e, slots, [*where, i]), slot), q)
                e.store(value, e.at(target, at, wide), e.target.vector_bytes)
            return []

        separable(e, lines, e.at(source, q, wide), steps, area, wide, put)

    e.each(0, each, one)
