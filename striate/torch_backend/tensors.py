"""Tensors and values that share memory, and the order of axes in which a tensor's memory is dense.

A tensor in channels_last is a dense array in the order N, H, W, C: its value is passed in that
order, with the transposition in the graph, and a result is made in the order that PyTorch expects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from striate.dtype import ALL, DType, bfloat16
from striate.ir.graph import Value

DTYPES: dict[torch.dtype, DType] = {
    getattr(torch, d.name): d for d in ALL
}  # those that both libraries have


def value_of(t: torch.Tensor) -> Value:
    """The memory of a tensor as a NumPy array; no copy."""
    if t.dtype is torch.bfloat16:
        return np.asarray(t.detach().view(torch.uint16).numpy()).view(bfloat16.numpy)
    return np.asarray(t.numpy(force=True))  # that is, what needs a gradient too


def tensor_of(v: Value) -> torch.Tensor:
    """A tensor on the memory of a NumPy array, which must be writable; no copy."""
    if v.dtype == bfloat16.numpy:
        return torch.from_numpy(v.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(v)


def memory_order(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...] | None:
    """The axes from the slowest to the fastest, if the memory is dense in that order, else None.

    >>> memory_order((2, 3, 4, 5), (60, 1, 15, 3))
    (0, 2, 3, 1)
    """
    order = sorted(range(len(shape)), key=lambda a: (-strides[a] if shape[a] > 1 else 0, a))
    order = _with_units(order, shape, strides)
    step = 1
    for a in reversed(order):
        if shape[a] > 1 and strides[a] != step:
            return None
        step *= shape[a]
    return tuple(order)


def _with_units(order: list[int], shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Axes of size 1 fit anywhere; they stay where they are among the others if those are in order,
    so that a plain array is (0, 1, ...).
    """
    long = [a for a in order if shape[a] > 1]
    return list(range(len(shape))) if long == sorted(long) else order


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `order`.

    >>> inverse((0, 2, 3, 1))
    (0, 3, 1, 2)
    """
    return tuple(int(i) for i in np.argsort(order))


def restrided(t: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """A tensor with the elements of `t` and strides that are not dense in any order."""
    repeated = [n > 1 and s == 0 for n, s in zip(t.shape, strides, strict=True)]
    once = t[tuple(slice(0, 1) if r else slice(None) for r in repeated)]
    return torch.empty_strided(once.shape, strides).copy_(once).expand(t.shape)
