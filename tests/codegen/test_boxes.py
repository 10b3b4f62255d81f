"""Maps and sums over boxes of any rank and stride, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.boxes import Operand, fill_step, map_step, sum_step
from striate.codegen.expression import Expression
from striate.codegen.kernel import STREAM, Buffer, View
from striate.codegen.loops import Map
from striate.codegen.machine import host_target, named_target
from striate.codegen.pointwise import Instruction
from striate.dtype import DType, as_dtype, float32, float64, int64
from striate.memory import aligned_copy
from striate.target import Target
from striate.transform.views import dense_strides
from tests.codegen.harness import aligned, run

HOST = host_target()
TARGETS = [
    t
    for t in map(named_target, ("x86-64-v4", "x86-64-v3", "x86-64-v2"))
    if HOST.name.startswith("x86") and t.vector_bytes <= HOST.vector_bytes
] or [HOST]


class Boxed:
    """An array of random numbers in a random layout, and how a step walks over it."""

    def __init__(
        self, rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, repeat: bool
    ) -> None:
        order = rng.permutation(len(shape)) if rng.random() < 0.4 else np.arange(len(shape))
        kept = [1 if repeat and rng.random() < 0.4 else n for n in shape]
        stored = [kept[a] for a in order]
        self.array = aligned(tuple(stored), dtype.numpy)
        self.array[...] = (rng.standard_normal(stored) * 8).astype(dtype.numpy)
        self.buffer = Buffer(self.array.nbytes)
        strides = dict(zip(order, dense_strides(stored), strict=True))
        steps = tuple(0 if kept[a] == 1 else strides[a] for a in range(len(shape)))
        self.operand = Operand(dtype, View(self.buffer, 0, steps))
        self.value = np.broadcast_to(self.array.transpose(np.argsort(order)), shape)


def expression(*dtypes: DType) -> Expression:
    """(x + y) * x for two arguments of one dtype, and the sum."""
    d = dtypes[0]
    body = (Instruction("add", d, (0, 1)), Instruction("multiply", d, (2, 0)))
    return Expression((d, d), body, (3, 2))


def shapes(rng: np.random.Generator, count: int) -> list[tuple[int, ...]]:
    pool = [1, 1, 2, 3, 4, 5, 7, 8, 16, 17, 33]
    found = [tuple(int(n) for n in rng.choice(pool, rng.integers(0, 5))) for _ in range(count)]
    return [*found, (40000,), (3, 5000), (2, 3, 49, 16), (16, 4, 196, 16), (65, 1, 1), (0, 3)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_map(target: Target, dtype: str) -> None:
    rng = np.random.default_rng(1)
    d = as_dtype(dtype)
    for shape in shapes(rng, 25):
        x, y = Boxed(rng, shape, d, True), Boxed(rng, shape, d, True)
        outs = [Boxed(rng, shape, d, False) for _ in range(2)]
        steps = map_step(shape, (x.operand, y.operand), expression(d), [o.operand for o in outs])
        total = x.value + y.value
        for threads in (1, 3):
            for o in outs:
                o.array[...] = 0
            arrays = {b.buffer: b.array for b in (x, y, *outs)}
            run(steps, arrays, threads, target)
            np.testing.assert_array_equal(outs[0].value, total * x.value)
            np.testing.assert_array_equal(outs[1].value, total)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [float32, float64, int64])
def test_sum(target: Target, dtype: DType) -> None:
    rng = np.random.default_rng(2)
    for shape in [*shapes(rng, 40), (1, 300000), (64, 70000), (70000, 8), (3, 0)]:
        if not shape:
            continue
        count = int(rng.integers(1, len(shape) + 1))
        axes = tuple(sorted(int(a) for a in rng.choice(len(shape), count, replace=False)))
        x, y = Boxed(rng, shape, dtype, True), Boxed(rng, shape, dtype, True)
        kept = tuple(n for a, n in enumerate(shape) if a not in axes)
        results: list[NDArray[np.generic]] = []
        for threads in (1, 2, 5):
            outs = [aligned(kept, dtype.numpy) for _ in range(2)]
            buffers = [Buffer(o.nbytes) for o in outs]
            steps_of = iter(dense_strides(kept))
            strides = tuple(0 if a in axes else next(steps_of) for a in range(len(shape)))
            steps = sum_step(
                shape, axes, (x.operand, y.operand), expression(dtype),
                [Operand(dtype, View(b, 0, strides)) for b in buffers],
            )  # fmt: skip
            arrays = {x.buffer: x.array, y.buffer: y.array}
            arrays |= dict(zip(buffers, outs, strict=True))
            for step in steps:  # partial sums are buffers of the steps themselves
                for b in step.buffers():
                    arrays.setdefault(b, aligned((b.nbytes,), np.uint8))
            run(steps, arrays, threads, target)
            results.append(outs[0])
            wide_x, wide_y = x.value.astype(np.float64), y.value.astype(np.float64)
            want = ((wide_x + wide_y) * wide_x).sum(axes)
            scale = (np.abs(wide_x + wide_y) * np.abs(wide_x)).sum(axes)
            if dtype is int64:
                np.testing.assert_array_equal(outs[0], want)
            else:
                bound = 40 * np.finfo(dtype.numpy).eps * scale + 1e-30
                assert (np.abs(outs[0] - want) <= bound).all()
        for other in results[1:]:
            assert results[0].tobytes() == other.tobytes()


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_a_map_of_much_streams(target: Target) -> None:
    rng = np.random.default_rng(3)
    shape = (STREAM // 4 // 160 + 1, 10, 16)
    x = rng.standard_normal(shape, np.float32)
    for offset, streams in ((0, True), (16, True), (3, False)):
        given, out = Buffer(x.nbytes), Buffer(x.nbytes + 64)
        to = Operand(float32, View(out, offset, dense_strides(shape)))
        body = Expression((float32,), (Instruction("negative", float32, (0,)),), (1,))
        steps = map_step(
            shape, [Operand(float32, View(given, 0, dense_strides(shape)))], body, [to]
        )
        assert [s.kernel.stream for s in steps if isinstance(s.kernel, Map)] == [streams]
        array = aligned((x.size + 16,), np.dtype(np.float32))
        run(steps, {given: aligned_copy(x), out: array}, threads=3, target=target)
        np.testing.assert_array_equal(array[offset : offset + x.size].reshape(shape), -x)


def test_fill() -> None:
    out = aligned((5, 7))
    buffer = Buffer(out.nbytes)
    run(fill_step((5, 7), Operand(float32, View(buffer, 0, (7, 1))), 2.5), {buffer: out})
    assert (out == 2.5).all()
