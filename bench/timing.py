"""Contenders side by side: each is called in turn, round after round (A B C A B C ...).

A contender that cannot be prepared, fails, or computes something else is a row that says so. Before
each sample there is a pause and a call that is not timed, so that threads that still spin for the
contender before have gone to sleep, and caches hold this one's data.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

OURS = "striate"
PAUSE = 0.25  # seconds: OpenMP threads spin for a fifth of one after their work
SLACK = 4


class Unavailable(Exception):
    """A contender is not to be had here, for the reason that is the message."""


@dataclass(frozen=True)
class Contender:
    """One way to compute something.

    Attributes:
        name: `striate`, or a peer and its form.
        prepare: compiles, converts, warms up; returns the call to be timed. What it raises is the
            reason for which there is no measurement.
        result: the numbers, of what the call returned; None if they are not compared.
    """

    name: str
    prepare: Callable[[], Callable[[], Any]]
    result: Callable[[Any], NDArray[Any]] | None = np.asarray


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: samples per contender, if the budget allows; never less than 3 of fast calls.
        sample: seconds of one sample, at least; fast calls are repeated within it.
        budget: seconds for all samples of one contender; one slow call is one sample.
    """

    rounds: int = 9
    sample: float = 0.02
    budget: float = 30.0


QUICK = Effort(3, 0.005, 3.0)


@dataclass
class Row:
    """What was measured of one contender.

    Attributes:
        name: of the contender.
        samples: seconds of one call, per round.
        prepared: seconds until the first result.
        error: L2 distance to the reference's result, relative to its L2 norm.
        reason: why there is no measurement, or why it does not count.
    """

    name: str
    samples: list[float] = field(default_factory=list)
    prepared: float | None = None
    error: float | None = None
    reason: str = ""

    @property
    def seconds(self) -> float | None:
        """The median; None if there is none or the result is wrong."""
        return statistics.median(self.samples) if self.samples and not self.reason else None


@dataclass(frozen=True)
class Case:
    """Something to compute.

    Attributes:
        group, name: for the report.
        contenders: how.
        tolerance: on the error of a right result.
        reference: the result in float64, where rounding is amplified; then `SLACK` times the least
            error of a peer is right, too. Without it the first peer is the reference.
        flops, nbytes: of one call, if known.
        count: how often a network has it.
    """

    group: str
    name: str
    contenders: Sequence[Contender]
    tolerance: float = 0.0
    flops: float = 0.0
    nbytes: float = 0.0
    count: int = 1
    reference: Callable[[], NDArray[Any]] | None = None


@dataclass
class Result:
    """A case and its rows.

    Attributes:
        group, name, rows, flops, nbytes, count: see `Case` and `Row`.
        peak: the most FLOP/s of the processor that was measured in the same rounds.
        unit: in which samples are shown; they are seconds, or bytes where it is MB.
    """

    group: str
    name: str
    rows: list[Row]
    flops: float = 0.0
    nbytes: float = 0.0
    count: int = 1
    peak: float | None = None
    unit: str = "ms"

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Result:
        """The result whose `dataclasses.asdict` these fields are."""
        return cls(**fields | {"rows": [Row(**row) for row in fields["rows"]]})

    @property
    def ours(self) -> float | None:
        """Seconds of striate."""
        return next((r.seconds for r in self.rows if r.name == OURS), None)

    @property
    def best(self) -> Row | None:
        """The fastest peer."""
        peers = [r for r in self.rows if r.name != OURS and r.seconds is not None]
        return min(peers, key=lambda r: r.seconds or math.inf, default=None)

    @property
    def ratio(self) -> float | None:
        """Seconds of the best peer per second of striate: above 1, striate is faster."""
        best = self.best
        return best.seconds / self.ours if best and best.seconds and self.ours else None

    @property
    def share(self) -> float | None:
        """Of the processor's peak; above 1 for algorithms that multiply less."""
        return self.flops / self.ours / self.peak if self.ours and self.peak else None


def explain(error: BaseException) -> str:
    """One line about a failure."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if isinstance(error, Unavailable) else f"{type(error).__name__}: {lines[0]}"
    return text[:200]


def distance(got: NDArray[Any], want: NDArray[Any]) -> float:
    """|got - want| / |want| in L2; infinite if shapes differ or a number is missing."""
    if got.shape != want.shape or not np.isfinite(got).all():
        return math.inf
    a, b = got.astype(np.float64).ravel(), want.astype(np.float64).ravel()
    norm = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / norm if norm else float(np.abs(a).max(initial=0))


def compare(
    case: Case,
    effort: Effort,
    probe: Callable[[], float] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    watch: Callable[[str], None] = lambda name: None,
    skip: Mapping[str, str] = MappingProxyType({}),
) -> Result:
    """Prepare, check and time the contenders of a case.

    Striate is judged by the reference, and so is every peer (but the one that is the reference).

    Args:
        case: what to compute.
        effort: how long.
        probe: the processor's peak in FLOP/s, measured once a round.
        clock: seconds.
        watch: is told the name of each contender before its turn.
        skip: contenders to leave out, and why.
    """
    rows = [Row(c.name) for c in case.contenders]
    calls: dict[int, Callable[[], Any]] = {}
    results: dict[int, NDArray[Any]] = {}
    for i, contender in enumerate(case.contenders):
        if contender.name in skip:
            rows[i].reason = skip[contender.name]
            continue
        watch(contender.name)
        try:
            start = clock()
            call = contender.prepare()
            out = call()
            rows[i].prepared = clock() - start
            if contender.result is not None:
                results[i] = np.array(contender.result(out))
            calls[i] = call
        except Exception as error:
            rows[i].reason = explain(error)
    _judge(case, rows, results)
    del results
    peaks = _rounds(rows, calls, effort, probe, clock, watch)
    return Result(
        case.group, case.name, rows, case.flops, case.nbytes, case.count,
        max(peaks, default=None),
    )  # fmt: skip


def _judge(case: Case, rows: list[Row], results: Mapping[int, NDArray[Any]]) -> None:
    """Fill the errors of the rows; those of wrong results get a reason."""
    first = next((i for i in results if rows[i].name != OURS), None)
    if case.reference is not None and first is not None:
        reference, judged = case.reference(), [*results]
    elif first is not None:
        reference, judged = results[first], [i for i in results if i != first]
    else:
        return
    for i in judged:
        rows[i].error = distance(results[i], reference)
    peers = [row.error for row in rows if row.name != OURS and row.error is not None]
    bound = case.tolerance
    if case.reference is not None:
        bound = max(bound, SLACK * min(peers))
    for i in judged:
        error = rows[i].error
        if error is not None and not error <= bound:
            rows[i].reason = f"wrong: relative error {error:.1e}, the bound is {bound:.1e}"


def _rounds(
    rows: list[Row],
    calls: dict[int, Callable[[], Any]],
    effort: Effort,
    probe: Callable[[], float] | None,
    clock: Callable[[], float],
    watch: Callable[[str], None],
) -> list[float]:
    """Fill the rows' samples; returns what the probe measured."""

    def timed(call: Callable[[], Any], n: int) -> float:
        start = clock()
        for _ in range(n):
            call()
        return (clock() - start) / n

    repeats: dict[int, int] = {}
    rounds: dict[int, int] = {}
    for i, call in list(calls.items()):
        watch(rows[i].name)
        try:
            once = timed(call, 1)
            if once < effort.budget / 16:  # the first call after others' may be many times slower
                once = min(once, *(timed(call, 1) for _ in range(3)))
        except Exception as error:
            rows[i].reason = explain(error)
            del calls[i]
            continue
        if once > effort.budget / 2:
            rows[i].samples.append(once)  # too slow for more
        repeats[i] = max(1, math.ceil(effort.sample / max(once, 1e-9)))
        affordable = int(effort.budget / max(once * repeats[i], 1e-9))
        rounds[i] = 0 if rows[i].samples else max(1, min(effort.rounds, affordable))
    peaks = [probe()] if probe is not None else []  # all calls may be too slow for a round
    for n in range(max(rounds.values(), default=0)):
        if probe is not None:
            time.sleep(PAUSE)
            peaks.append(probe())
        for i, call in calls.items():
            if n < rounds[i]:
                watch(rows[i].name)
                time.sleep(PAUSE)
                if repeats[i] > 1:
                    call()
                rows[i].samples.append(timed(call, repeats[i]))
    return peaks
