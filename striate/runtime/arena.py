"""Where the values of a plan live: one arena, in which memory is used again after a last reading.

Steps are numbered; a buffer lives from the step that first writes it to the last that touches it.
`place` walks over the steps and gives each new buffer the smallest free hole that holds it.
`barriers` then finds the steps after which all threads must meet: a step may run beside the one
before it unless they share a byte that one of them writes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from striate.codegen.kernel import ALIGNMENT, At, Buffer, Scratch, Step


def _rounded(nbytes: int) -> int:
    return max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)


class Holes:
    """The free parts of an arena that grows: [start, stop) by start, none touching another."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.stops: dict[int, int] = {}
        self.end = 0

    def take(self, nbytes: int) -> int:
        """The offset of a place of this size: in the smallest hole, or at the end."""
        fitting = [s for s in self.starts if self.stops[s] - s >= nbytes]
        if fitting:
            start = min(fitting, key=lambda s: self.stops[s] - s)
            stop = self.stops.pop(start)
            self.starts.remove(start)
            if start + nbytes < stop:
                insort(self.starts, start + nbytes)
                self.stops[start + nbytes] = stop
            return start
        if self.starts and self.stops[self.starts[-1]] == self.end:  # a hole at the end grows
            start = self.starts.pop()
            del self.stops[start]
        else:
            start = self.end
        self.end = start + nbytes
        return start

    def give(self, start: int, nbytes: int) -> None:
        """Free a place."""
        stop = start + nbytes
        i = bisect_left(self.starts, start)
        if i < len(self.starts) and self.starts[i] == stop:
            stop = self.stops.pop(stop)
            del self.starts[i]
        if i and self.stops[self.starts[i - 1]] == start:
            start = self.starts[i - 1]
        else:
            self.starts.insert(i, start)
        self.stops[start] = stop


@dataclass(slots=True)
class Placement:
    """The plan of the arena.

    Attributes:
        offsets: of the buffers.
        scratch: per step the offset of each scratch word.
        nbytes: the size of the arena.
    """

    offsets: dict[Buffer, int]
    scratch: list[list[int]]
    nbytes: int


def lifetimes(steps: Sequence[Step], outside: set[Buffer]) -> dict[Buffer, tuple[int, int]]:
    """(first, last) step of every buffer that is not from outside."""
    found: dict[Buffer, tuple[int, int]] = {}
    for i, step in enumerate(steps):
        for b in step.buffers():
            if b not in outside:
                found[b] = (found[b][0] if b in found else i, i)
    return found


def place(steps: Sequence[Step], outside: set[Buffer], threads: int) -> Placement:
    """Offsets of all buffers that are not from outside, and of scratch memory."""
    lives = lifetimes(steps, outside)
    ends: dict[int, list[Buffer]] = {}
    for b, (_, last) in lives.items():
        ends.setdefault(last, []).append(b)
    holes = Holes()
    offsets: dict[Buffer, int] = {}
    scratch: list[list[int]] = []
    for i, step in enumerate(steps):
        for b in step.buffers():
            if b in lives and b not in offsets:
                offsets[b] = holes.take(_rounded(b.nbytes))
        count = 1 if step.single else threads
        sizes = [_rounded(w.nbytes * count) for w in step.words if isinstance(w, Scratch)]
        scratch.append([holes.take(n) for n in sizes])
        for start, n in zip(scratch[-1], sizes, strict=True):
            holes.give(start, n)
        for b in ends.get(i, ()):
            holes.give(offsets[b], _rounded(b.nbytes))
    return Placement(offsets, scratch, holes.end)


class _Ranges:
    """Bytes that steps touch, per space (the arena, or a buffer from outside)."""

    def __init__(self) -> None:
        self.found: dict[object, list[tuple[int, int]]] = {}

    def add(self, space: object, start: int, stop: int) -> None:
        self.found.setdefault(space, []).append((start, stop))

    def meets(self, space: object, start: int, stop: int) -> bool:
        return any(a < stop and start < b for a, b in self.found.get(space, ()))


def barriers(steps: Sequence[Step], placement: Placement, threads: int) -> list[bool]:
    """Per step whether all threads must meet after it."""
    after = [False] * len(steps)
    reads, writes = _Ranges(), _Ranges()
    for i, step in enumerate(steps):
        written = {*step.writes}
        touched: list[tuple[object, int, int, bool]] = []
        scratch = iter(placement.scratch[i])
        for word in step.words:
            if isinstance(word, Scratch):
                start = next(scratch)
                touched.append((None, start, start + word.nbytes * threads, True))
                continue
            b = word.buffer if isinstance(word, At) else word
            if isinstance(b, Buffer):
                at = placement.offsets.get(b)
                space: object = b if at is None else None
                start = at or 0
                touched.append((space, start, start + max(1, b.nbytes), b in written))
        if any(
            writes.meets(s, a, z) or (writing and reads.meets(s, a, z))
            for s, a, z, writing in touched
        ):
            after[i - 1] = True
            reads, writes = _Ranges(), _Ranges()
        for space, start, stop, writing in touched:
            (writes if writing else reads).add(space, start, stop)
    return after
