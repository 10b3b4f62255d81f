"""Gradients clipped, and weights averaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from striate.core.api import clip, minimum, sqrt
from striate.core.array import Array, asarray
from striate.errors import ShapeError
from striate.optim.optimizer import load_arrays


def clip_grad_norm(grads: Sequence[Array], max_norm: float) -> tuple[list[Array], Array]:
    """The gradients scaled so that their joint Euclidean norm is at most `max_norm`; that norm.

    >>> grads, norm = st.optim.clip_grad_norm([st.asarray([3.0, 4.0])], 1.0)
    >>> norm.item(), round(grads[0].numpy()[0].item(), 4)
    (5.0, 0.6)
    """
    if not grads:
        raise ShapeError("clip_grad_norm: there are no gradients")
    total = sum((g * g).sum() for g in grads)
    norm = sqrt(asarray(total))
    scale = minimum(max_norm / (norm + 1e-6), 1.0)
    return [g * scale.astype(g.dtype) for g in grads], norm


def clip_grad_value(grads: Sequence[Array], limit: float) -> list[Array]:
    """Each element brought into [-limit, limit]."""
    return [Array(clip(g, -limit, limit).node) for g in grads]


class EMA:
    """An exponential moving average of weights: s = decay * s + (1 - decay) * p.

    Args:
        params: the arrays to follow.
        decay: in [0, 1].

    Raises:
        ShapeError: the decay is out of range.
    """

    def __init__(self, params: Iterable[Array], decay: float = 0.999) -> None:
        if not 0 <= decay <= 1:
            raise ShapeError(f"EMA: decay must be in [0, 1], got {decay}")
        self.parameters = list(params)
        self.decay = decay
        self.shadow = [asarray(p.numpy()) for p in self.parameters]

    def update(self) -> None:
        """Take the present weights in."""
        for s, p in zip(self.shadow, self.parameters, strict=True):
            s.assign(self.decay * s + (1 - self.decay) * p)

    def swap(self) -> None:
        """Exchange the weights and their averages: once to evaluate, once more to go on."""
        for s, p in zip(self.shadow, self.parameters, strict=True):
            average, present = asarray(s.numpy()), asarray(p.numpy())
            p.assign(average)
            s.assign(present)

    def state_dict(self) -> dict[str, Array]:
        """The averages, by position."""
        return {f"shadow.{i}": s for i, s in enumerate(self.shadow)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            StriateError: names or shapes do not fit; nothing is changed.
        """
        load_arrays("EMA", self.state_dict(), state)
