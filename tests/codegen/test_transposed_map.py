"""Maps that read along another axis than they write: squares of every side, between guard pages."""

from __future__ import annotations

import re

import numpy as np
import pytest

from striate.codegen.boxes import Operand, copy_step, dense_strides, map_step
from striate.codegen.expression import Expression
from striate.codegen.kernel import STREAM, Buffer, Step, View, emit
from striate.codegen.machine import assembly, named_target
from striate.codegen.pointwise import Instruction
from striate.codegen.transposed_map import TransposedMap, chunks
from striate.dtype import DType, as_dtype, bfloat16, bool_, float32
from striate.target import Target
from tests.codegen.guard import TARGETS, Array, run_everywhere, values

DTYPES = (float32, bfloat16, bool_, *map(as_dtype, ("float64", "int64", "uint8")))


def steps_of(
    shape: tuple[int, ...], order: tuple[int, ...], dtype: DType, x: Buffer, y: Buffer
) -> list[Step]:
    """y = x.transpose(order), where x has this shape."""
    strides = dense_strides(shape)
    box = tuple(shape[a] for a in order)
    source = Operand(dtype, View(x, 0, tuple(strides[a] for a in order)))
    return copy_step(box, source, Operand(dtype, View(y, 0, dense_strides(box))))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.short)
def test_transpositions(target: Target, dtype: DType) -> None:
    rng = np.random.default_rng(5)
    for shape, order, side in [
        ((3, 16, 49), (0, 2, 1), 16),  # to blocks and back, with a rest that is no square
        ((3, 49, 16), (0, 2, 1), 16),
        ((2, 8, 9), (0, 2, 1), 8),
        ((5, 4, 7), (2, 0, 1), 4),
        ((130, 133), (1, 0), 16),  # several units in both axes
        ((6, 3, 17, 5), (3, 1, 0, 2), 4),
    ]:
        x = values(rng, shape, dtype)
        given, made = Buffer(x.nbytes), Buffer(x.nbytes)
        steps = steps_of(shape, order, dtype, given, made)
        assert [s.kernel.side for s in steps if isinstance(s.kernel, TransposedMap)] == [side]
        want = x.transpose(order)
        out = run_everywhere(steps, {given: x}, {made: (want.shape, x.dtype)}, target)[made]
        assert out.tobytes() == want.tobytes()


@pytest.mark.parametrize("target", TARGETS)
def test_expressions(target: Target) -> None:
    """z = (x^T + row) * column + w and its negative: an input of each kind."""
    rng = np.random.default_rng(6)
    b, n, m = 2, 21, 37
    x, w = values(rng, (b, m, n), float32), values(rng, (b, n, m), float32)
    row, column = values(rng, (m,), float32), values(rng, (n,), float32)
    arrays: list[Array] = [x, row, column, w]
    buffers = [Buffer(a.nbytes) for a in arrays]
    strides = [(m * n, 1, n), (0, 0, 1), (0, 1, 0), (m * n, m, 1)]
    ops = [("add", (0, 1)), ("multiply", (4, 2)), ("add", (5, 3)), ("negative", (6,))]
    body = tuple(Instruction(op, float32, args) for op, args in ops)
    outs = [Buffer(w.nbytes) for _ in range(2)]
    steps = map_step(
        (b, n, m),
        [Operand(float32, View(u, 0, s)) for u, s in zip(buffers, strides, strict=True)],
        Expression((float32,) * 4, body, (6, 7)),
        [Operand(float32, View(u, 0, (m * n, m, 1))) for u in outs],
    )
    assert [type(s.kernel) for s in steps] == [TransposedMap]
    given = dict(zip(buffers, arrays, strict=True))
    found = run_everywhere(steps, given, dict.fromkeys(outs, (w.shape, np.float32)), target)
    want = (x.swapaxes(1, 2) + row) * column[:, None] + w
    np.testing.assert_array_equal(found[outs[0]], want)
    np.testing.assert_array_equal(found[outs[1]], -want)


@pytest.mark.parametrize("target", TARGETS)
def test_much_is_streamed_in_whole_lines(target: Target) -> None:
    rng = np.random.default_rng(7)
    for channels, streams in ((16, True), (8, False)):
        places = STREAM // 4 // channels // 16 * 16 + 16
        x = rng.standard_normal((places, channels), np.float32)
        given, made = Buffer(x.nbytes), Buffer(x.nbytes)
        steps = steps_of(x.shape, (1, 0), float32, given, made)
        assert [s.kernel.stream for s in steps if isinstance(s.kernel, TransposedMap)] == [streams]
        shape = (channels, places)
        if streams:  # memory at multiples of 64
            assert x.nbytes % 64 == 0
        out = run_everywhere(steps, {given: x}, {made: (shape, np.float32)}, target)[made]
        np.testing.assert_array_equal(out, x.T)


def test_units_are_whole_squares() -> None:
    for p in (4, 16, 49, 128, 3136, 100352):
        for q in (4, 16, 49, 128, 3136, 100352):
            part_p, part_q = chunks(p, q)
            assert part_p >= p or part_p % 16 == 0
            assert part_q >= q or part_q % 16 == 0
            assert part_p * part_q < 8192 + 16 * 128


@pytest.mark.parametrize("name", ["x86-64-v4", "x86-64-v3", "aarch64"])
def test_squares_stay_in_registers(name: str) -> None:
    x, y = Buffer(4 * 16 * 3136), Buffer(4 * 16 * 3136)
    (step,) = steps_of((16, 3136), (1, 0), float32, x, y)
    target = named_target(name)
    text = assembly(emit(step.kernel, target), target)
    assert not re.search(r"[xyz]mm.*%rsp|%rsp.*[xyz]mm|\bq\d+.*\[sp", text)
    moved = {"x86-64-v4": "zmm", "x86-64-v3": "ymm", "aarch64": r"\bq\d"}[name]
    assert len(re.findall(moved, text)) >= 2 * target.lanes(32)
