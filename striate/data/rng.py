"""Random streams addressed by what they are for, so that no state has to be carried.

Philox is a function `block = f(key, counter)`. Here `key = (seed, purpose)`, and the upper half
of the 256-bit counter is `(index, epoch)`: each stream has 2^128 blocks of its own, and any of
them can be entered at once, in any thread and any order.
"""

from typing import Literal, TypeAlias

import numpy as np

from .files import Array

Purpose: TypeAlias = Literal["order", "sample", "batch"]
_PURPOSES: dict[str, int] = {"order": 0, "sample": 1, "batch": 2}


def _bits(seed: int, epoch: int, index: int, purpose: Purpose) -> np.random.Philox:
    for name, value in (("seed", seed), ("epoch", epoch), ("index", index)):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"keyed_rng: {name} is in 0..2^64-1, found {value}")
    key = np.array([seed, _PURPOSES[purpose]], np.uint64)
    counter = np.array([0, 0, index, epoch], np.uint64)
    return np.random.Philox(key=key, counter=counter)


def keyed_rng(
    seed: int, epoch: int, index: int, purpose: Purpose = "sample"
) -> np.random.Generator:
    """The generator of one sample (or one batch) of one epoch: a function of its arguments.

    Raises ValueError for a number outside 0..2^64-1.

    >>> a, b = keyed_rng(0, epoch=3, index=7), keyed_rng(0, epoch=3, index=7)
    >>> a.random() == b.random()
    True
    """
    return np.random.Generator(_bits(seed, epoch, index, purpose))


def permutation(seed: int, epoch: int, n: int) -> Array:
    """The order of an epoch: i64[n], a permutation of 0..n-1.

    It sorts raw Philox words, and so is the same with every version of NumPy.

    >>> permutation(0, epoch=1, n=5).tolist() == permutation(0, epoch=1, n=5).tolist()
    True
    """
    words = _bits(seed, epoch, 0, "order").random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)
