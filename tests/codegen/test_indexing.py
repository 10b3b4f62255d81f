"""Gathers and scatters as machine code, against their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from striate.codegen import indexing
from striate.codegen.kernel import Buffer
from striate.dtype import ALL, DType, bfloat16, float32, int8, int16, int32, int64, uint8
from striate.ir.types import TensorType
from striate.ops.index import PUT_ADD, SCATTER_ADD, TAKE, TAKE_ALONG_AXIS, Indexing
from striate.ops.pool import LAST_WRITER
from tests.codegen.guard import TARGETS, run_everywhere, values

INTEGERS = (int8, int16, int32, int64, uint8)
# (*A, n, *B), axis, m
CASES = (
    ((7,), 0, 30),
    ((3, 5, 1), 1, 4),
    ((40, 9), 0, 17),
    ((2, 11, 150), 1, 23),
    ((20, 50), 1, 70),
    ((4, 3, 5, 2), 2, 6),
    ((0, 4), 1, 3),
    ((3, 4), 1, 0),
)
OPS = (TAKE, TAKE_ALONG_AXIS, PUT_ADD, SCATTER_ADD)


def run(op, attrs, x, dtype, index, index_dtype, shape, target):  # type: ignore[no-untyped-def]
    """(out, fault) of an op."""
    source, places, out, fault = (Buffer(0, n) for n in ("x", "index", "out", "fault"))
    steps = getattr(indexing, op.name)(
        attrs,
        source,
        TensorType(x.shape, dtype),
        places,
        TensorType(index.shape, index_dtype),
        out,
        fault,
    )
    zero = np.zeros(2, np.int64)
    made: dict[Buffer, Any] = {out: (shape, dtype.numpy)}
    got = run_everywhere(steps, {source: x, places: index}, made, target, {fault: zero})
    return got[out] if steps else np.zeros(shape, dtype.numpy), got[fault]


def check(rng, op, case, dtype, index_dtype, target):  # type: ignore[no-untyped-def]
    shape, axis, m = case
    n = shape[axis]
    moved = (*shape[:axis], m, *shape[axis + 1 :])
    adjoint = op in (PUT_ADD, SCATTER_ADD)
    x = values(rng, moved if adjoint else shape, dtype)
    low = 0 if index_dtype is uint8 else -n
    index = rng.integers(low, n, (m,) if op in (TAKE, PUT_ADD) else moved).astype(index_dtype.numpy)
    attrs = Indexing(axis, n)
    got, fault = run(op, attrs, x, dtype, index, index_dtype, shape if adjoint else moved, target)
    assert not fault.any()
    want = op.reference(attrs, x, index)
    if not (adjoint and dtype.is_floating):
        assert got.tobytes() == want.tobytes()
        return
    wide = op.reference(attrs, x.astype(np.float64), index)
    size = op.reference(attrs, np.abs(x.astype(np.float64)), index)
    eps = 2.0**-8 if dtype is bfloat16 else np.finfo(dtype.numpy).eps
    assert (np.abs(got.astype(np.float64) - wide) <= eps * (m + 1) * size).all()
    if dtype is bfloat16:  # one rounding, of a float32 sum
        assert (np.abs(got.astype(np.float64) - wide) <= 2.0**-8 * np.abs(wide) + 1e-5 * size).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_equals_the_reference(op, target) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    for case in CASES:
        check(rng, op, case, float32, int64, target)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.short)
def test_every_dtype(op, dtype: DType) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    for case in CASES[2:4]:
        check(rng, op, case, dtype, int64, None)
    for index_dtype in INTEGERS if dtype is float32 else ():
        check(rng, op, CASES[3], dtype, index_dtype, None)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize("bad", [5, -6, 1 << 40, -(1 << 63)])
@pytest.mark.parametrize("shape", [(5,), (5, 40), (3, 5, 2)])
def test_a_wrong_index_is_reported_and_touches_nothing(op, bad, shape) -> None:  # type: ignore[no-untyped-def]
    axis = len(shape) // 2 if len(shape) > 2 else 0
    rng = np.random.default_rng(3)
    moved = (*shape[:axis], 4, *shape[axis + 1 :])
    index = rng.integers(0, 5, (4,) if op in (TAKE, PUT_ADD) else moved)
    index[-1] = bad
    adjoint = op in (PUT_ADD, SCATTER_ADD)
    x = values(rng, moved if adjoint else shape, float32)
    out = shape if adjoint else moved
    got, fault = run(op, Indexing(axis, 5), x, float32, index, int64, out, None)
    assert fault.tolist() == [1, bad]
    index[-1] = 0
    want = op.reference(Indexing(axis, 5), x, index)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_an_empty_axis_has_no_valid_index(op, shape) -> None:  # type: ignore[no-untyped-def]
    axis = shape.index(0)
    moved = (*shape[:axis], 2, *shape[axis + 1 :])
    index = np.zeros((2,) if op in (TAKE, PUT_ADD) else moved, np.int64)
    adjoint = op in (PUT_ADD, SCATTER_ADD)
    x = np.ones(moved if adjoint else shape, np.float32)
    out = shape if adjoint else moved
    _, fault = run(op, Indexing(axis, 0), x, float32, index, int64, out, None)
    assert fault.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.short)
@pytest.mark.parametrize("target", TARGETS)
def test_last_writer(dtype: DType, target) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(4)
    for shape in ((30,), (40, 300), (2, 3, 5), (3, 0)):
        index = rng.integers(0, 20, shape).astype(dtype.numpy)
        places, out, fault = (Buffer(0, n) for n in ("index", "out", "fault"))
        steps = indexing.last_writer(20, places, TensorType(shape, dtype), out, fault)
        made: dict[Buffer, Any] = {out: (shape, np.bool_)}
        zero = np.zeros(2, np.int64)
        got = run_everywhere(steps, {places: index}, made, target, {fault: zero})
        if steps:
            np.testing.assert_array_equal(got[out], LAST_WRITER.reference(20, index))
        assert not got[fault].any()


def test_last_writer_counts_nothing_from_the_end() -> None:
    index = np.array([[1, -1, 2]])
    places, out, fault = (Buffer(0, n) for n in ("index", "out", "fault"))
    steps = indexing.last_writer(3, places, TensorType(index.shape, int64), out, fault)
    made: dict[Buffer, Any] = {out: (index.shape, np.bool_)}
    got = run_everywhere(steps, {places: index}, made, None, {fault: np.zeros(2, np.int64)})
    assert got[fault].tolist() == [1, -1]
