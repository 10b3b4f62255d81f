"""MAX, MIN, ARGMAX and ARGMIN as machine code, against their references."""

from __future__ import annotations

import numpy as np
import pytest

from striate.codegen.extreme import extreme
from striate.codegen.kernel import Buffer
from striate.dtype import ALL, DType, bfloat16, float32, int64
from striate.ir.types import TensorType
from striate.ops.reduce import ARGMAX, ARGMIN, MAX, MIN
from tests.codegen.guard import TARGETS, run_everywhere, values

OPS = (MAX, MIN, ARGMAX, ARGMIN)
SHAPES = ((1, 1), (3, 2), (40, 3), (65, 10), (5, 33), (3, 150), (2, 1000), (2, 3, 129), (0, 4))


def check(op, x, dtype, target):  # type: ignore[no-untyped-def]
    kind = TensorType(x.shape, dtype)
    out_kind = int64 if op.name.startswith("arg") else dtype
    source, out = Buffer(x.nbytes, "x"), Buffer(0, "out")
    got = run_everywhere(
        extreme(op.name, source, kind, out),
        {source: x},
        {out: (x.shape[:-1], out_kind.numpy)},
        target,
    )[out]
    want = op.reference(None, x)
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.short)
def test_equals_the_reference(op, dtype: DType) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        check(op, values(rng, shape, dtype, few=True), dtype, None)


@pytest.mark.parametrize("target", TARGETS[:-1])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", (bfloat16, float32, int64), ids=lambda d: d.short)
def test_other_targets(op, dtype: DType, target) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        check(op, values(rng, shape, dtype, few=True), dtype, target)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_the_first_nan_wins(op) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    for n in (1, 7, 64, 500):
        x = values(rng, (40, n), float32, few=True)
        x[rng.random(x.shape) < 3 / n] = np.nan
        x[::3] = -x[::3]  # NaN of either sign
        x[1] = -np.inf
        x[2] = np.inf
        check(op, x, float32, None)
