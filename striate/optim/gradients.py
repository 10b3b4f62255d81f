"""Gradients clipped, and weights averaged. None stands for no gradient, and stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from striate.core.api import clip, minimum, sqrt
from striate.core.array import Array, asarray
from striate.errors import ShapeError
from striate.nn import Module
from striate.optim.optimizer import check_floating, load_arrays, snapshot


def clip_grad_norm(
    grads: Sequence[Array | None], max_norm: float
) -> tuple[list[Array | None], Array]:
    """The gradients scaled so that their joint Euclidean norm is at most `max_norm`; that norm.

    Raises:
        ShapeError: max_norm is not above 0.

    >>> grads, norm = st.optim.clip_grad_norm([st.asarray([3.0, 4.0])], 1.0)
    >>> norm.item(), round(grads[0].numpy()[0].item(), 4)
    (5.0, 0.6)
    """
    if not max_norm > 0:
        raise ShapeError(f"clip_grad_norm: max_norm must be > 0, got {max_norm}")
    norm = sqrt(asarray(sum(((g * g).sum() for g in grads if g is not None), start=asarray(0.0))))
    scale = minimum(max_norm / (norm + 1e-6), 1.0)
    return [None if g is None else g * scale.astype(g.dtype) for g in grads], norm


def clip_grad_value(grads: Sequence[Array | None], limit: float) -> list[Array | None]:
    """Each element brought into [-limit, limit].

    Raises:
        ShapeError: the limit is below 0.
    """
    if not limit >= 0:
        raise ShapeError(f"clip_grad_value: limit must be >= 0, got {limit}")
    return [None if g is None else Array(clip(g, -limit, limit).node) for g in grads]


class EMA:
    """An exponential moving average of weights: s = decay * s + (1 - decay) * p.

    Args:
        source: a module, whose parameters are averaged and whose buffers (running statistics) are
            copied; or the arrays to average.
        decay: in [0, 1].

    Raises:
        ShapeError: the decay is out of range.
        DTypeError: an array to average is not floating.

    >>> w = st.asarray([1.0])
    >>> ema = st.optim.EMA([w], 0.75)
    >>> w.assign(w * 5)
    Array([5.], dtype=float32)
    >>> ema.update()
    >>> ema.swap()
    >>> w
    Array([2.], dtype=float32)
    """

    def __init__(self, source: Module | Iterable[Array], decay: float = 0.999) -> None:
        if not 0 <= decay <= 1:
            raise ShapeError(f"EMA: decay must be in [0, 1], got {decay}")
        weights, buffers = (
            (source.parameters(), source.buffers()) if isinstance(source, Module) else (source, ())
        )
        self.parameters: list[Array] = list(weights)
        self.buffers: list[Array] = list(buffers)
        for i, p in enumerate(self.parameters):
            check_floating(f"EMA: array {i}", p)
        self.decay = decay
        self.shadow = [asarray(a.numpy()) for a in (*self.parameters, *self.buffers)]

    def update(self) -> None:
        """Take the present weights in."""
        averaged = len(self.parameters)
        for s, p in zip(self.shadow[:averaged], self.parameters, strict=True):
            s.assign(self.decay * s + (1 - self.decay) * p)
        for s, b in zip(self.shadow[averaged:], self.buffers, strict=True):
            s.assign(b)

    def swap(self) -> None:
        """Exchange the weights and their averages: once to evaluate, once more to go on."""
        for s, p in zip(self.shadow, (*self.parameters, *self.buffers), strict=True):
            average, present = asarray(s.numpy()), asarray(p.numpy())
            p.assign(average)
            s.assign(present)

    def _arrays(self) -> dict[str, Array]:
        return {f"shadow.{i}": s for i, s in enumerate(self.shadow)}

    def state_dict(self) -> dict[str, Array]:
        """The averages of now, by position: parameters, then buffers."""
        return snapshot(self._arrays())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            StriateError: names or shapes do not fit; nothing is changed.
        """
        load_arrays("EMA", self._arrays(), state)
