"""Random numbers of the machine code: bit for bit those of the reference."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.kernel import Buffer
from striate.codegen.machine import host_target
from striate.codegen.random import random_uniform
from striate.dtype import DType, float32, float64
from striate.ops.random import RANDOM_UNIFORM, Uniform
from striate.target import Target
from tests.codegen.applied import TARGETS
from tests.codegen.harness import aligned, run

KEYS = [
    (0, 0, 0),
    (1, 2, 3),
    (-1, -(2**63), 2**63 - 1),
    (0x0123456789ABCDEF, 1 << 40, -7),
]


def made(
    shape: tuple[int, ...],
    dtype: DType,
    key: tuple[int, ...],
    threads: int,
    target: Target,
) -> NDArray[np.generic]:
    """The numbers of the kernel, from a buffer whose place after them must stay as it was."""
    n = prod(shape)
    words, out = aligned((3,), np.int64), aligned((n + 1,), dtype.numpy)
    words[:] = key
    out[n:] = 7
    buffers = Buffer(24), Buffer(out.nbytes)
    steps = random_uniform(Uniform(shape, dtype), *buffers)
    run(steps, dict(zip(buffers, (words, out), strict=True)), threads, target)
    assert out[n] == 7
    return out[:n].reshape(shape)


@pytest.mark.parametrize("dtype", [float32, float64])
@pytest.mark.parametrize("target", TARGETS)
def test_the_numbers_are_those_of_the_reference(target: Target, dtype: DType) -> None:
    for shape in ((), (0,), (1,), (7,), (31,), (32,), (33,), (5, 7, 11), (9001,)):
        for key in KEYS:
            expected = RANDOM_UNIFORM.reference(Uniform(shape, dtype), np.array(key, np.int64))
            got = made(shape, dtype, key, 1, target)
            assert np.array_equal(got, expected), (shape, key)


@pytest.mark.parametrize("dtype", [float32, float64])
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_any_number_of_threads_makes_the_same_numbers(threads: int, dtype: DType) -> None:
    for n in (3, 9001):
        one = made((n,), dtype, KEYS[1], 1, host_target())
        assert np.array_equal(one, made((n,), dtype, KEYS[1], threads, host_target()))
