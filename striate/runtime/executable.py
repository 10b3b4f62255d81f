"""A compiled graph: steps, their words, and the one call that runs them.

The words of all steps stand in one array. Those that hold addresses of inputs, outputs or of the
arena are written anew before each run, by one vector operation. The arena is shared by all plans:
one plan runs at a time.

The caller may say which inputs are state that it expects to stay (the weights of a network that is
not trained). What depends on these alone (packed panels, folded statistics) is computed once and
kept, until one of them is another object.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from operator import is_
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from striate.codegen.kernel import At, Buffer, Kernel, Scratch, Step, Table
from striate.codegen.lower import Program
from striate.codegen.machine import current_target
from striate.ir.graph import Graph, Value
from striate.memory import address, aligned_copy, aligned_empty, allocate, located
from striate.runtime import team
from striate.runtime.arena import barriers, place
from striate.runtime.debug import show_plan
from striate.runtime.jit import load
from striate.runtime.profile import Profile
from striate.runtime.programs import program_for
from striate.runtime.team import BARRIER, SINGLE, get_num_threads, profile, run
from striate.target import Target
from striate.transform.canonical import Canonical

WORTH_KEEPING = 1 << 14  # bytes that steps on constant inputs must make to be kept
KEPT_BYTES = 1 << 30  # the most that all plans keep together; those not used longest let go first
CHANGES = 3  # of the inputs that were the same, too soon, after which nothing is kept any more
SOON = 10  # calls that pay for keeping

ALONE = 1 << 19  # a plan of less work than this takes one thread less time than waking others

_BYTES = np.dtype(np.uint8)

Memory = NDArray[np.uint8]
Runner = Callable[[team.Program, int], Any]


# One plan is prepared, and runs, at a time. Who forks waits for it: what a child finds is whole.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class _Arena:
    """The memory of whatever plan runs; a run inside of a run (a signal handler) gets its own."""

    def __init__(self) -> None:
        self.depth = 0
        self.memory: Memory = np.empty(0, np.uint8)
        self.nbytes = self.address = 0

    def of(self, nbytes: int) -> tuple[Memory, int]:
        """Memory of at least this size, to be held while it is used, and its address. Whoever calls
        this has the lock, and has counted itself in `depth`.
        """
        if self.depth > 1:
            return allocate((nbytes,), _BYTES)
        if self.nbytes < nbytes:
            self.memory = np.empty(0, np.uint8)  # the old one goes first
            self.memory, self.address = allocate((nbytes,), _BYTES)
            self.nbytes = nbytes
        return self.memory, self.address


_arena = _Arena()


class Bound:
    """Steps with their words, placed in an arena, ready to run by up to `threads` threads.

    Args:
        steps: what is run.
        code: the addresses of the kernels.
        given: the buffers whose memory is told at each run, in order.
        results: those among them that hold nothing at the start.
        fixed: the memory of the buffers that have theirs for good.
        threads: for how many scratch memory is reserved.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        code: dict[Kernel, int],
        given: Sequence[Buffer],
        results: Collection[Buffer],
        fixed: Mapping[Buffer, NDArray[Any]],
        threads: int,
    ) -> None:
        placement = place(steps, {*given, *fixed}, threads, results)
        after = barriers(steps, placement, threads)
        count = sum(max(1, len(s.words)) for s in steps)
        self.nbytes = placement.nbytes
        self.steps = steps
        words: list[int] = []
        self.words = aligned_empty((count,), np.dtype(np.int64))
        base = self.words.ctypes.data
        number = {b: 1 + i for i, b in enumerate(given)}  # memory 0 is the arena
        tables: dict[tuple[int, ...], NDArray[np.int64]] = {}
        patches: list[tuple[int, int, int]] = []  # (word, number of the memory, bytes after it)
        places = {b: address(memory) for b, memory in fixed.items()}
        rows: list[tuple[int, int, int]] = []
        for i, step in enumerate(steps):
            flags = BARRIER * after[i] | SINGLE * step.single
            rows.append((code[step.kernel], base + 8 * len(words), flags))
            scratch = iter(placement.scratch[i])
            for word in step.words or (0,):
                value = 0
                if isinstance(word, int):
                    value = word
                elif isinstance(word, Table):
                    if word.values not in tables:
                        tables[word.values] = np.array(word.values, np.int64)
                    value = tables[word.values].ctypes.data
                elif isinstance(word, Scratch):
                    patches.append((len(words), 0, next(scratch)))
                else:
                    b, offset = (word.buffer, word.offset) if isinstance(word, At) else (word, 0)
                    b, start = placement.lent.get(b, (b, 0))
                    if b in number:
                        patches.append((len(words), number[b], start + offset))
                    elif b in places:
                        value = places[b] + offset
                    else:
                        patches.append((len(words), 0, placement.offsets[b] + offset))
                words.append(value)
        self.words[:] = words
        self.patched, self.memory, self.offset = np.array(patches, np.int64).reshape(-1, 3).T.copy()
        self.program = team.Program(
            np.array(rows, np.int64).reshape(-1, 3), keep=(tables, fixed, self.words)
        )

    def run(self, given: Sequence[int], runner: Runner, threads: int) -> Any:
        """Run the steps on the memory at these addresses; the caller has the lock."""
        if not self.steps:
            return None
        _arena.depth += 1
        try:
            _memory, at = _arena.of(self.nbytes)
            addresses = np.array((at, *given), np.int64)
            self.words[self.patched] = addresses[self.memory] + self.offset
            return runner(self.program, threads)
        finally:
            _arena.depth -= 1


def work(steps: Sequence[Step]) -> int:
    """A measure of what steps cost: multiply-adds, and bytes, twice."""
    return sum(s.macs + 2 * sum(b.nbytes for b in {*s.buffers()}) for s in steps)


def constant_steps(
    steps: Sequence[Step], constant: Set[Buffer], always: Set[Buffer] = frozenset()
) -> list[bool]:
    """Per step whether it depends on constant buffers alone, and so do all that write with it; what
    writes to `always` has to run each time.
    """
    writers: dict[Buffer, list[int]] = {}
    for i, s in enumerate(steps):
        for b in s.writes:
            writers.setdefault(b, []).append(i)
    static = [always.isdisjoint(s.writes) for s in steps]
    changing = True
    while changing:
        changing = False
        known = constant | {b for b, who in writers.items() if all(static[i] for i in who)}
        for i, s in enumerate(steps):
            if static[i] and not all(b in known for b in s.buffers()):
                static[i], changing = False, True
    return static


class _Kept:
    """Which plans keep values, and how much, in the order of their last preparation."""

    def __init__(self) -> None:
        self.plans: dict[ref[Executable], int] = {}

    def note(self, plan: Executable, nbytes: int) -> None:
        """A plan keeps this much now; others let go of theirs while it is too much in all."""
        mine = ref(plan)
        self.plans.pop(mine, None)
        self.plans = {r: n for r, n in self.plans.items() if r() is not None}
        for other in list(self.plans):
            if sum(self.plans.values()) + nbytes <= KEPT_BYTES:
                break
            found = other()
            if found is None or found.let_go():
                del self.plans[other]
        if nbytes:
            self.plans[mine] = nbytes


_kept = _Kept()


def executable(form: Canonical, graph: Callable[[], Graph]) -> Executable:
    """The executable of a form, whose graph is made if it is needed."""
    target = current_target()
    return Executable(program_for(form, graph, target), target)


class Executable:
    """A program as machine code: `executable(values)` gives the values of its outputs."""

    def __init__(self, program: Program, target: Target) -> None:
        self.program = program
        self.target = target
        show_plan(self.program.steps, self.target)
        self.code = load([s.kernel for s in self.program.steps], self.target)
        self.alone = work(self.program.steps) < ALONE
        self.threads = 0
        self._known = {b: aligned_copy(v) for b, v in self.program.constants.items()}
        self._given = {b: i for i, b in enumerate(self.program.inputs)}
        self._made = {
            b: (y.shape, y.dtype.numpy)
            for b, y in zip(self.program.outputs, self.program.results, strict=True)
            if b not in self._given and b not in self._known
        }
        everything = {b: i for i, b in enumerate([*self.program.inputs, *self._made, *self._known])}
        self._results = [everything[b] for b in self.program.outputs]
        outputs = self.program.outputs
        self.fresh = [b in self._made and b not in outputs[:i] for i, b in enumerate(outputs)]
        self._faults = [np.zeros(2, np.int64) for _ in self.program.faults]
        self._last: dict[int, ref[Any]] = {}
        self._held: dict[int, Value] = {}  # inputs that are taken for the same from call to call
        self._changes = 0
        self._calls = 0  # since the last change
        self._running = 0

    # ---- preparation -------------------------------------------------------------------

    def _bind(self, threads: int) -> None:
        """Place everything for this many threads; make what is kept."""
        self.threads = 0
        first, steps, kept = self._split()
        _kept.note(self, sum(x.nbytes for x in kept.values()))
        faults = {b: f for (b, _), f in zip(self.program.faults, self._faults, strict=True)}
        fixed = {**self._known, **faults, **kept}
        if first:
            held = {b: located(self._held[i])[0] for b, i in self._given.items() if i in self._held}
            Bound(first, self.code, [], (), fixed | held, threads).run([], run, threads)
        touched = {b for s in steps for b in s.buffers()}
        for b, i in self._given.items():
            if i in self._held and b in touched:
                fixed[b] = located(self._held[i])[0]
        asked = [b for b in self._given if b in touched and b not in fixed]
        self._asked = [self._given[b] for b in asked]
        self._main = Bound(steps, self.code, [*asked, *self._made], self._made, fixed, threads)
        self.threads = threads

    def _split(self) -> tuple[Sequence[Step], Sequence[Step], dict[Buffer, Memory]]:
        """(steps that are run once, steps of every call, what the first make for the others)."""
        steps = self.program.steps
        if not self._held:
            return [], steps, {}
        ours = {*self._made, *(b for b, _ in self.program.faults)}
        constant = {b for b, i in self._given.items() if i in self._held} | {*self._known}
        static = constant_steps(steps, constant, ours)
        first = [s for flag, s in zip(static, steps, strict=True) if flag]
        rest = [s for flag, s in zip(static, steps, strict=True) if not flag]
        read = {b for s in rest for b in s.buffers()}
        made = {b for s in first for b in s.writes if b in read}
        if not WORTH_KEEPING <= sum(b.nbytes for b in made) <= KEPT_BYTES:
            return [], steps, {}
        return first, rest, {b: aligned_empty((b.nbytes,), _BYTES) for b in made}

    def let_go(self) -> bool:
        """Give up what is kept, unless it is in use; it is made again when it is needed."""
        if self._running:  # this call comes from inside of its run
            return False
        self._held, self._last, self.threads = {}, {}, 0
        self._main = Bound((), {}, (), (), {}, 1)
        return True

    def _prepare(self, values: Sequence[Value], state: Sequence[int]) -> None:
        """Bind what must be bound."""
        self._calls += 1
        if self._changes <= CHANGES:
            if self._held:
                held = self._held
                if not all(map(is_, map(values.__getitem__, held), held.values())):
                    if self._calls > SOON:  # as an evaluation after each epoch
                        self._changes = 0
                        self._held = {i: values[i] for i in state}
                    else:
                        self._changes += 1
                        same = {i: x for i, x in held.items() if values[i] is x}
                        self._held = same if self._changes <= CHANGES else {}
                    self._calls = self.threads = 0
            elif state:
                last = self._last
                self._held = {i: values[i] for i in state if i in last and last[i]() is values[i]}
                self._last = {i: ref(values[i]) for i in state}
                if self._held:
                    self.threads = 0
        threads = 1 if self.alone else get_num_threads()
        if threads > self.threads:
            self._bind(threads)

    # ---- runs --------------------------------------------------------------------------

    def __call__(self, values: Sequence[Value], state: Sequence[int] = ()) -> list[Value]:
        """The outputs for these inputs; `state` are the numbers of those that are expected to stay.

        Raises:
            IndexError: an index is out of range.
        """
        return self._call(values, state, run)[0]

    def profile(
        self, values: Sequence[Value], state: Sequence[int] = (), layers: Sequence[str] = ()
    ) -> Profile:
        """A run in which all threads meet after each step, timed step by step; `layers` has a name
        for each row of the canonical form.
        """
        for _ in range(3):  # what can be kept is kept by then
            self(values, state)
        with _lock:
            seconds = self._call(values, state, profile)[1]
            timed = zip(self._main.steps, [] if seconds is None else seconds, strict=True)
            return Profile.of(timed, layers)

    def _call(
        self, values: Sequence[Value], state: Sequence[int], runner: Runner
    ) -> tuple[list[Value], Any]:
        with _lock:
            self._running += 1
            try:
                self._prepare(values, state)
                made = [allocate(shape, dtype) for shape, dtype in self._made.values()]
                read = [located(values[i]) for i in self._asked]
                places = [at for _, at in read] + [at for _, at in made]
                told = self._main.run(places, runner, 1 if self.alone else get_num_threads())
                self._check()
            finally:
                self._running -= 1
        everything = [*values, *(x for x, _ in made), *self._known.values()]
        return [everything[i] for i in self._results], told

    def _check(self) -> None:
        for fault, (_, error) in zip(self._faults, self.program.faults, strict=True):
            if fault[0]:
                index = int(fault[1])
                fault[:] = 0
                raise error(index)
