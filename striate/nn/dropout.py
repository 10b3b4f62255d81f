"""Layers that drop at random in training mode, and do nothing in evaluation mode.

The mask comes from `st.random.default_generator`; what is kept is divided by 1 - p.
"""

from __future__ import annotations

from striate.core.array import Array
from striate.core.random import drop_path, dropout
from striate.errors import ShapeError
from striate.nn.module import Module


class Dropout(Module):
    """Each element is 0 with probability p (Srivastava et al. 2014).

    Args:
        p: the probability.
        inplace: accepted and without effect.

    Raises:
        ShapeError: p is outside [0, 1].

    >>> st.nn.Dropout(0.5).eval()(st.ones(3)).numpy()
    array([1., 1., 1.], dtype=float32)
    """

    ranks: tuple[int, ...] | None = None  # of x, where whole maps are dropped

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        if not 0 <= p <= 1:
            raise ShapeError(f"{type(self).__name__}: p must be in [0, 1], got {p}")
        self.p = p

    def forward(self, x: Array) -> Array:
        """x: any shape -> the same."""
        if self.ranks is not None and x.ndim not in self.ranks:
            wanted = " or ".join(map(str, self.ranks))
            raise ShapeError(f"{type(self).__name__}: wants x with {wanted} axes, got {x.type}")
        if not self.training or self.p == 0:
            return x
        spatial = None if self.ranks is None else tuple(range(2 - self.ranks[-1], 0))
        return dropout(x, self.p, axes=spatial)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Dropout1d(Dropout):
    """Each channel of [N, C, L] or [C, L] is 0 with probability p."""

    ranks = (2, 3)


class Dropout2d(Dropout):
    """Each channel of [N, C, H, W] or [C, H, W] is 0 with probability p (Tompson et al. 2015)."""

    ranks = (3, 4)


class Dropout3d(Dropout):
    """Each channel of [N, C, D, H, W] or [C, D, H, W] is 0 with probability p."""

    ranks = (4, 5)


class DropPath(Module):
    """Each sample of [N, *S] is 0 with probability p: a residual branch is skipped for it.

    The argument has timm's name. Method: Huang et al., "Deep networks with stochastic depth"
    (2016).
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        if not 0 <= drop_prob <= 1:
            raise ShapeError(f"DropPath: drop_prob must be in [0, 1], got {drop_prob}")
        self.drop_prob = drop_prob

    def forward(self, x: Array) -> Array:
        """x: [N, *S] -> the same."""
        return drop_path(x, self.drop_prob) if self.training and self.drop_prob else x

    def extra_repr(self) -> str:
        """The probability."""
        return f"drop_prob={self.drop_prob}"
