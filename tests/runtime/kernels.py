"""Small kernels and programs for the tests of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.codegen.emitter import F32, I64, Emitter, Value
from striate.codegen.kernel import Kernel
from striate.codegen.machine import host_target
from striate.runtime.jit import load
from striate.runtime.team import Program


@dataclass(frozen=True)
class Named:
    """A kernel whose name is its class's."""

    @property
    def name(self) -> str:
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Count(Named):
    """words (x): x[thread] += 1, x[32] = threads."""

    def emit(self, e: Emitter) -> None:
        x = e.pointer(0)
        p = e.at(x, e.thread, I64)
        e.store(e.b.add(e.load(p, I64), e.index(1)), p)
        with e.when(e.b.icmp_signed("==", e.thread, e.index(0))):
            e.store(e.threads, e.at(x, 32, I64))


@dataclass(frozen=True)
class Square(Named):
    """words (x): f32 x[thread] *= x[thread]."""

    def emit(self, e: Emitter) -> None:
        p = e.at(e.pointer(0), e.thread, F32)
        x = e.load(p, F32)
        e.store(e.b.fmul(x, x), p)


@dataclass(frozen=True)
class Smooth(Named):
    """words (x, y, n): y[i] = (x[i-1] + x[i] + x[i+1]) / 3, f32, on a ring."""

    def emit(self, e: Emitter) -> None:
        x, y, n = e.pointer(0), e.pointer(1), e.number(2)

        def element(i: Value) -> None:
            before = e.b.urem(e.add(i, e.add(n, -1)), n)
            after = e.b.urem(e.add(i, 1), n)
            a, b, c = (e.load(e.at(x, j, F32), F32) for j in (before, i, after))
            total = e.b.fadd(e.b.fadd(a, b), c)
            e.store(e.b.fdiv(total, e.const(F32, 3.0)), e.at(y, i, F32))

        e.each(*e.share(n), element)


@dataclass(frozen=True)
class Busy(Named):
    """words (n): n dependent divisions, in every thread."""

    def emit(self, e: Emitter) -> None:
        one = e.const(F32, 1.0)
        n = e.number(0)
        (x,) = e.loop(0, n, 1, [one], lambda i, xs: [e.b.fadd(e.b.fdiv(one, xs[0]), one)])
        with e.when(e.b.fcmp_ordered("==", x, e.const(F32, 0.0))):  # never
            e.store(e.index(0), e.words)


@dataclass(frozen=True)
class Where(Named):
    """words (x): x = an address on the stack of the thread that runs it."""

    def emit(self, e: Emitter) -> None:
        e.store(e.b.ptrtoint(e.b.alloca(I64), I64), e.pointer(0))


@dataclass(frozen=True)
class Constant(Named):
    """words (x): x = value."""

    value: int

    def emit(self, e: Emitter) -> None:
        e.store(e.index(self.value), e.pointer(0))


@dataclass(frozen=True)
class Broken(Named):
    """A kernel that cannot be emitted."""

    def emit(self, e: Emitter) -> None:
        raise ValueError("this is what is wrong")


@dataclass(frozen=True)
class Unverified(Named):
    """A kernel whose IR LLVM refuses."""

    def emit(self, e: Emitter) -> None:
        e.intrinsic("llvm.fma.f32", F32, e.const(F32, 1.0))


def program(*rows: tuple[Kernel, Sequence[int], int]) -> Program:
    """A program of (kernel, words, flags)."""
    words = [np.array([*w, 0], np.int64) for _, w, _ in rows]
    address = load([k for k, _, _ in rows], host_target())
    table = [
        (address[k], w.ctypes.data, flags) for (k, _, flags), w in zip(rows, words, strict=True)
    ]
    return Program(np.array(table, np.int64).reshape(-1, 3), keep=words)


def pointer(x: NDArray[np.generic]) -> int:
    return x.ctypes.data


def smoothing(x: NDArray[np.float32], times: int) -> tuple[Program, NDArray[np.float32]]:
    """Smooth x (an even number of) times: any barrier that is missing gives another result."""
    y = np.zeros_like(x)
    pair = [(Smooth(), (pointer(a), pointer(b), x.size), 1) for a, b in ((x, y), (y, x))]
    return program(*pair * (times // 2)), y


def smoothed(x: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """The same by NumPy, in the same order of operations."""
    for _ in range(times):
        x = (np.roll(x, 1) + x + np.roll(x, -1)) / np.float32(3)
    return x
