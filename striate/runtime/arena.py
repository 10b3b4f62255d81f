"""Where the values of a plan live: one arena, in which memory is used again after a last reading.

Steps are numbered; a buffer lives from the step that first writes it to the last that touches it.
`place` walks over the steps and gives each new buffer the smallest free hole that holds it, or, if
that leaves much unused, goes by size. The memory of results is lent out until a step touches them:
what a training step remembers for the gradient of a layer stands where the layer's new weights will
be. `barriers` then finds the steps after which all threads must meet: a step may run beside the one
before it unless they share a byte that one of them writes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate, islice
from typing import NamedTuple

from striate.codegen.kernel import ALIGNMENT, At, Buffer, Scratch, Step

SLACK = 1.05  # of what is needed at once: an arena that is larger is planned again


def _rounded(nbytes: int) -> int:
    return max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)


class Holes:
    """The free parts of an arena that grows: [start, stop) by start, none touching another."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.stops: dict[int, int] = {}
        self.end = 0

    def fit(self, nbytes: int) -> int | None:
        """The offset of a place of this size in the smallest hole that holds it, if one does."""
        fitting = [s for s in self.starts if self.stops[s] - s >= nbytes]
        if not fitting:
            return None
        start = min(fitting, key=lambda s: self.stops[s] - s)
        stop = self.stops.pop(start)
        self.starts.remove(start)
        if start + nbytes < stop:
            insort(self.starts, start + nbytes)
            self.stops[start + nbytes] = stop
        return start

    def take(self, nbytes: int) -> int:
        """The offset of a place of this size: in the smallest hole, or at the end."""
        found = self.fit(nbytes)
        if found is not None:
            return found
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
        offsets: of the buffers in the arena.
        lent: of the others the buffer from outside in whose memory they stand, and the offset.
        scratch: per step the offset of each scratch word.
        nbytes: the size of the arena.
    """

    offsets: dict[Buffer, int]
    lent: dict[Buffer, tuple[Buffer, int]]
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


class Span(NamedTuple):
    """Bytes that are needed from one step to another; a multiple of the alignment."""

    nbytes: int
    first: int
    last: int


def peak(spans: Iterable[Span]) -> tuple[int, int]:
    """(the most bytes that are needed at once, the first step in which they are)."""
    change: dict[int, int] = {}
    for nbytes, first, last in spans:
        change[first] = change.get(first, 0) + nbytes
        change[last + 1] = change.get(last + 1, 0) - nbytes
    steps = sorted(change)
    needed = [*accumulate(change[i] for i in steps)]
    most = max(needed, default=0)
    return most, steps[needed.index(most)] if steps else 0


def in_order(spans: Sequence[Span]) -> tuple[list[int], int]:
    """(offsets, size of the arena): one after another, as they begin, each in the smallest hole
    that holds it then. What has just been freed, and is in the caches, is used first.
    """
    holes = Holes()
    offsets = [0] * len(spans)
    living: list[tuple[int, int]] = []  # last step, number
    for n in sorted(range(len(spans)), key=lambda n: spans[n].first):
        while living and living[0][0] < spans[n].first:
            over = heappop(living)[1]
            holes.give(offsets[over], spans[over].nbytes)
        offsets[n] = holes.take(spans[n].nbytes)
        heappush(living, (spans[n].last, n))
    return offsets, holes.end


def by_size(spans: Sequence[Span]) -> tuple[list[int], int]:
    """(offsets, size of the arena): the largest first, each in the smallest gap between those whose
    time it shares (Pisarchyk & Lee, Efficient memory management for deep neural net inference).
    """
    offsets, end = [0] * len(spans), 0
    placed: list[int] = []
    for n in sorted(range(len(spans)), key=lambda n: (-spans[n].nbytes, spans[n])):
        nbytes, first, last = spans[n]
        beside = [k for k in placed if spans[k].first <= last and first <= spans[k].last]
        at, best = 0, (0, 0)  # the end of those that were seen; (size, start) of the best gap
        for start, stop in sorted((offsets[k], offsets[k] + spans[k].nbytes) for k in beside):
            if start - at >= nbytes and not 0 < best[0] <= start - at:
                best = start - at, at
            at = max(at, stop)
        offsets[n] = best[1] if best[0] else at
        end = max(end, offsets[n] + nbytes)
        placed.append(n)
    return offsets, end


def lend(
    lives: dict[Buffer, tuple[int, int]], until: dict[Buffer, int]
) -> dict[Buffer, tuple[Buffer, int]]:
    """Places for buffers that count at the peak: `until` says of memory from outside the step that
    first touches it. Each goes where the memory is asked back soonest after its own end.
    """
    lenders = sorted(((i, b, Holes()) for b, i in until.items()), key=lambda t: t[0])
    for _, b, holes in lenders:
        if b.nbytes >= ALIGNMENT:
            holes.give(0, b.nbytes // ALIGNMENT * ALIGNMENT)
    found: dict[Buffer, tuple[Buffer, int]] = {}
    _, step = peak(Span(_rounded(b.nbytes), *live) for b, live in lives.items())
    crucial = [b for b, (first, last) in lives.items() if first <= step <= last]
    for b in sorted(crucial, key=lambda b: (-b.nbytes, lives[b])):  # all live at once: no order
        for i, lender, holes in lenders:
            start = holes.fit(_rounded(b.nbytes)) if i > lives[b][1] else None
            if start is not None:
                found[b] = lender, start
                break
    return found


def place(
    steps: Sequence[Step], outside: set[Buffer], threads: int, results: Collection[Buffer] = ()
) -> Placement:
    """Offsets of all buffers that are not from outside, and of scratch memory; of what is from
    outside, `results` hold nothing before a step touches them.
    """
    lives = lifetimes(steps, outside)
    touched = lifetimes(steps, outside.difference(results)) if results else {}
    lent = lend(lives, {b: touched[b][0] for b in results if b in touched})
    for b in lent:
        del lives[b]
    spans = [Span(_rounded(b.nbytes), *live) for b, live in lives.items()]
    counts = []
    for i, step in enumerate(steps):
        each = 1 if step.single else threads
        sizes = [_rounded(w.nbytes * each) for w in step.words if isinstance(w, Scratch)]
        counts.append(len(sizes))
        spans += [Span(n, i, i) for n in sizes]
    places, end = in_order(spans)
    if end > SLACK * peak(spans)[0]:
        places, end = min((places, end), by_size(spans), key=lambda found: found[1])
    rest = iter(places)
    offsets = dict(zip(lives, islice(rest, len(lives)), strict=True))
    return Placement(offsets, lent, [[*islice(rest, n)] for n in counts], end)


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
        space: object
        scratch = iter(placement.scratch[i])
        for word in step.words:
            if isinstance(word, Scratch):
                start = next(scratch)
                touched.append((None, start, start + word.nbytes * threads, True))
                continue
            b = word.buffer if isinstance(word, At) else word
            if isinstance(b, Buffer):
                space, start = placement.lent.get(b, (b, 0))
                if b in placement.offsets:
                    space, start = None, placement.offsets[b]
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
