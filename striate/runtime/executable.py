"""A compiled graph: steps, their words, and the one call that runs them.

The words of all steps stand in one array. Those that hold addresses of inputs, outputs or of the
arena are written anew before each run, by one vector operation a kind. The arena is shared by all
plans: one plan runs at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.codegen.kernel import At, Scratch, Table
from striate.codegen.lower import Lowering
from striate.codegen.machine import current_target
from striate.ir.graph import Graph, Value
from striate.memory import aligned, aligned_copy, aligned_empty
from striate.runtime.arena import barriers, place
from striate.runtime.jit import load
from striate.runtime.team import Program, get_num_threads, run

BARRIER, SINGLE = 1, 2  # flags of a row of the team's program

_running = threading.RLock()
_arena: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)]


def _arena_address(nbytes: int) -> int:
    """The address of the shared arena, at least this large."""
    if _arena[0].nbytes < nbytes:
        _arena[0] = np.empty(0, np.uint8)  # the old one goes first
        _arena[0] = aligned_empty((nbytes,), np.dtype(np.uint8))
    return _arena[0].ctypes.data


class Patches:
    """Words that hold addresses: which words, the number of the memory, and bytes after it."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.memory: list[int] = []
        self.bytes: list[int] = []

    def add(self, word: int, memory: int, offset: int) -> None:
        """One more word."""
        self.words.append(word)
        self.memory.append(memory)
        self.bytes.append(offset)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(words, memory, bytes) as arrays."""
        words, memory, offsets = (
            np.array(v, np.int64) for v in (self.words, self.memory, self.bytes)
        )
        return words, memory, offsets


class Executable:
    """A graph as machine code: `executable(values)` gives the values of its outputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.target = current_target()
        self.program = Lowering(graph, self.target).program
        self.addresses = load([s.kernel for s in self.program.steps], self.target)
        self.threads = 0
        self._known = {b: aligned_copy(v) for b, v in self.program.constants.items()}
        self._given = {b: i for i, b in enumerate(self.program.inputs)}
        self._made = {
            b: y.type
            for b, y in zip(self.program.outputs, graph.outputs, strict=True)
            if b not in self._given and b not in self._known
        }
        self._faults = [np.zeros(2, np.int64) for _ in self.program.faults]

    def _bind(self, threads: int) -> None:
        """Place everything for this many threads, and write the words that stay."""
        steps = self.program.steps
        faults = {b: f for (b, _), f in zip(self.program.faults, self._faults, strict=True)}
        outside = {*self._given, *self._known, *self._made, *faults}
        placement = place(steps, outside, threads)
        after = barriers(steps, placement, threads)
        count = sum(max(1, len(s.words)) for s in steps)
        self._words = aligned_empty((count,), np.dtype(np.int64))
        patches = Patches()  # memory 0 is the arena; then inputs; then outputs
        number = {b: 1 + i for i, b in enumerate((*self._given, *self._made))}
        tables: dict[tuple[int, ...], NDArray[np.int64]] = {}
        rows = np.zeros((len(steps), 3), np.int64)
        at = 0
        for i, step in enumerate(steps):
            rows[i] = (
                self.addresses[step.kernel],
                self._words.ctypes.data + 8 * at,
                BARRIER * after[i] | SINGLE * step.single,
            )
            scratch = iter(placement.scratch[i])
            for j, word in enumerate(step.words, start=at):
                if isinstance(word, int):
                    self._words[j] = word
                elif isinstance(word, Table):
                    if word.values not in tables:
                        tables[word.values] = np.array(word.values, np.int64)
                    self._words[j] = tables[word.values].ctypes.data
                elif isinstance(word, Scratch):
                    patches.add(j, 0, next(scratch))
                else:
                    b, offset = (word.buffer, word.offset) if isinstance(word, At) else (word, 0)
                    if b in number:
                        patches.add(j, number[b], offset)
                    elif b in placement.offsets:
                        patches.add(j, 0, placement.offsets[b] + offset)
                    else:
                        array = faults[b] if b in faults else self._known[b]
                        self._words[j] = array.ctypes.data + offset
            at += max(1, len(step.words))
        self._tables = tables
        self._patched, self._memory, self._offset = patches.arrays()
        self.arena_bytes = placement.nbytes
        self._rows = Program(rows)
        self.threads = threads

    def __call__(self, values: Sequence[Value]) -> list[Value]:
        """The outputs for these inputs.

        Raises:
            IndexError: an index is out of range.
        """
        with _running:
            threads = get_num_threads()
            if threads > self.threads:
                self._bind(threads)
            given = [aligned(x) for x in values]
            made = {b: aligned_empty(t.shape, t.dtype.numpy) for b, t in self._made.items()}
            addresses = np.array(
                [
                    _arena_address(self.arena_bytes),
                    *(address(x) for x in given),
                    *(address(y) for y in made.values()),
                ],
                np.int64,
            )
            if self.program.steps:
                self._words[self._patched] = addresses[self._memory] + self._offset
                run(self._rows)
                self._check()
        results: list[Any] = []
        for b in self.program.outputs:
            if b in self._given:
                results.append(values[self._given[b]])
            else:
                results.append(made[b] if b in made else self._known[b])
        return results

    def _check(self) -> None:
        for fault, (_, node) in zip(self._faults, self.program.faults, strict=True):
            if fault[0]:
                index = int(fault[1])
                fault[:] = 0
                raise IndexError(
                    f"{node.op.name}: index {index} is out of range (operands "
                    f"{', '.join(repr(x.type) for x in node.inputs)})"
                )


def address(x: NDArray[Any]) -> int:
    """The address of an array's first element."""
    data: int = x.__array_interface__["data"][0]
    return data
