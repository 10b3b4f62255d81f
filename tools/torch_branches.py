"""Piecewise functions of PyTorch on branches that were recorded.

The gradient of a network with kinks (ReLU, maxima) jumps where a value crosses one. Two runs that
round differently have the same gradient, to rounding, only where they take the same branches: so
one run records them, of each value at each kink, and others follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F


class Branches:
    """What each piecewise function of a run did with each value, in the order of the calls."""

    def __init__(self) -> None:
        self.taken: list[Tensor] = []
        self.at = 0
        self.following = False

    def take(self, choose: Callable[[], Tensor]) -> Tensor:
        """What the recorded run chose here; while it is recorded, what is chosen now."""
        if not self.following:
            self.taken.append(choose())
        self.at += 1
        return self.taken[self.at - 1]

    @contextmanager
    def run(self) -> Iterator[None]:
        """A block in which a network runs once: the first records, those after it follow."""
        self.following, self.at = bool(self.taken), 0
        with mock.patch.multiple(F, **{f.__name__: f for f in self._functions()}):
            yield

    def _functions(self) -> list[Callable[..., Tensor]]:
        with_indices = {2: F.max_pool2d_with_indices, 3: F.max_pool3d_with_indices}

        def relu(x: Tensor, inplace: bool = False) -> Tensor:
            return torch.where(self.take(lambda: x > 0), x, 0.0)

        def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
            return torch.where(self.take(lambda: x > 0), x, negative_slope * x)

        def hardtanh(x: Tensor, lo: float = -1.0, hi: float = 1.0, inplace: bool = False) -> Tensor:
            below = torch.where(self.take(lambda: x > lo), x, lo)
            return torch.where(self.take(lambda: x < hi), below, hi)

        def relu6(x: Tensor, inplace: bool = False) -> Tensor:
            return hardtanh(x, 0.0, 6.0)

        def hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
            return relu6(x + 3) / 6

        def hardswish(x: Tensor, inplace: bool = False) -> Tensor:
            return x * hardsigmoid(x)

        def pooled(rank: int, x: Tensor, *window: Any, **options: Any) -> Tensor:
            options.pop("return_indices", None)
            index = self.take(lambda: with_indices[rank](x, *window, **options)[1])
            picked = x.flatten(-rank).gather(-1, index.flatten(-rank))
            return picked.reshape(index.shape)

        def max_pool2d(x: Tensor, *window: Any, **options: Any) -> Tensor:
            return pooled(2, x, *window, **options)

        def max_pool3d(x: Tensor, *window: Any, **options: Any) -> Tensor:
            return pooled(3, x, *window, **options)

        return [relu, leaky_relu, hardtanh, relu6, hardsigmoid, hardswish, max_pool2d, max_pool3d]
