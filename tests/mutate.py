"""Damaged versions of a file, the same for the same seed: what readers of files are tried with.

    for broken in mutations(data, 500, seed=0, focus=200):
        path.write_bytes(broken)
        try:
            read(path)
        except FormatError:  # and nothing else
            refused += 1

`refusals` does that loop, and bounds the time and the memory of every single try.
"""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# What counts and offsets become: the edges of the integers that formats are made of.
EDGES = (
    0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
    1 << 40, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
_DIGITS = re.compile(rb"\d+")

Damage = Callable[[bytearray, int, np.random.Generator], None]


def _bytes(data: bytearray, end: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 5))):
        data[int(rng.integers(end))] = int(rng.integers(256))


def _bit(data: bytearray, end: int, rng: np.random.Generator) -> None:
    data[int(rng.integers(end))] ^= 1 << int(rng.integers(8))


def _truncate(data: bytearray, end: int, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data))) :]


def _cut(data: bytearray, end: int, rng: np.random.Generator) -> None:
    a, b = sorted(int(v) for v in rng.integers(0, end, 2))
    del data[a:b]


def _repeat(data: bytearray, end: int, rng: np.random.Generator) -> None:
    a, b = sorted(int(v) for v in rng.integers(0, end, 2))
    data[a:a] = data[a:b]


def _exchange(data: bytearray, end: int, rng: np.random.Generator) -> None:
    n = min(int(rng.integers(1, 17)), end)
    a, b = (int(v) for v in rng.integers(0, end - n + 1, 2))
    data[a : a + n], data[b : b + n] = data[b : b + n], data[a : a + n]


def _edge(data: bytearray, end: int, rng: np.random.Generator) -> None:
    """An integer of 1, 2, 4 or 8 bytes becomes an edge."""
    width = 1 << int(rng.integers(4))
    value = EDGES[int(rng.integers(len(EDGES)))] & ((1 << 8 * width) - 1)
    at = int(rng.integers(end))
    data[at : at + width] = value.to_bytes(width, "little" if rng.random() < 0.8 else "big")


def _number(data: bytearray, end: int, rng: np.random.Generator) -> None:
    """A decimal number in text becomes another."""
    found = list(_DIGITS.finditer(data, 0, end))
    if not found:
        return _edge(data, end, rng)
    match = found[int(rng.integers(len(found)))]
    value = EDGES[int(rng.integers(len(EDGES)))] - int(rng.integers(2))
    data[match.start() : match.end()] = str(value).encode()


def _zeros(data: bytearray, end: int, rng: np.random.Generator) -> None:
    at, n = int(rng.integers(end)), int(rng.integers(1, 65))
    data[at : at + n] = bytes(min(n, len(data) - at))


def _append(data: bytearray, end: int, rng: np.random.Generator) -> None:
    data += rng.bytes(int(rng.integers(1, 65)))


DAMAGES: tuple[Damage, ...] = (
    _bytes, _bit, _truncate, _cut, _repeat, _exchange, _edge, _number, _zeros, _append,
)  # fmt: skip


def mutations(data: bytes, n: int, seed: int, focus: int | None = None) -> Iterator[bytes]:
    """`n` damaged versions of `data`, by each kind of damage in turn.

    Half of them are hit in their first `focus` bytes, where the headers are. One in four is hit
    twice.
    """
    rng = np.random.default_rng(seed)
    for k in range(n):
        broken = bytearray(data)
        near = focus is not None and rng.random() < 0.5
        damages = [DAMAGES[k % len(DAMAGES)]]
        if rng.random() < 0.25:
            damages.append(DAMAGES[int(rng.integers(len(DAMAGES)))])
        for damage in damages:
            if broken:
                end = min(focus or len(broken), len(broken)) if near else len(broken)
                damage(broken, end, rng)
        yield bytes(broken)


def refusals(
    read: Callable[[Path], Any],
    error: type[Exception],
    broken: Iterator[bytes],
    path: Path,
    *,
    seconds: float = 10.0,
    memory: int = 64 << 20,
) -> int:
    """How many of the broken files `read` refuses with `error`.

    Any other exception passes through. A try that takes longer than `seconds` or more than
    `memory` bytes at once fails; both are of the machine, so they are generous.
    """
    refused = 0
    for content in broken:
        path.write_bytes(content)
        tracemalloc.start()
        start = time.perf_counter()
        try:
            read(path)
        except error:
            refused += 1
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak <= memory, f"{peak} bytes for a file of {len(content)}"
        assert time.perf_counter() - start <= seconds
    return refused
