"""Losses as modules: thin names for the functions of `striate.nn.losses`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from striate.core.array import Array, asarray
from striate.nn import losses
from striate.nn.losses import Reduction
from striate.nn.module import Module


class _Loss(Module):
    """fn(x, target), with attributes as its keyword arguments; arrays among them are buffers."""

    fn: ClassVar[Callable[..., Array]]

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        self._set(reduction=reduction)

    def _set(self, **arguments: Any) -> None:
        self.arguments = tuple(arguments)
        for name, value in arguments.items():
            if name in ("weight", "pos_weight"):
                self.register_buffer(name, None if value is None else asarray(value))
            else:
                setattr(self, name, value)

    def forward(self, x: Any, target: Any) -> Array:
        """The loss of x: a number, or one per element with reduction "none"."""
        return type(self).fn(x, target, **{name: getattr(self, name) for name in self.arguments})


class CrossEntropyLoss(_Loss):
    """See `nn.losses.cross_entropy`.

    >>> st.nn.CrossEntropyLoss()(st.asarray([[0.0, 0.0]]), np.array([1]))
    Array(0.6931472, dtype=float32)
    """

    fn = staticmethod(losses.cross_entropy)

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self._set(
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )


class NLLLoss(_Loss):
    """See `nn.losses.nll_loss`."""

    fn = staticmethod(losses.nll_loss)

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: Reduction = "mean"
    ) -> None:
        self._set(weight=weight, ignore_index=ignore_index, reduction=reduction)


class BCEWithLogitsLoss(_Loss):
    """See `nn.losses.binary_cross_entropy_with_logits`."""

    fn = staticmethod(losses.binary_cross_entropy_with_logits)

    def __init__(
        self, weight: Any = None, *, reduction: Reduction = "mean", pos_weight: Any = None
    ) -> None:
        self._set(weight=weight, reduction=reduction, pos_weight=pos_weight)


class BCELoss(_Loss):
    """See `nn.losses.binary_cross_entropy`."""

    fn = staticmethod(losses.binary_cross_entropy)

    def __init__(self, weight: Any = None, *, reduction: Reduction = "mean") -> None:
        self._set(weight=weight, reduction=reduction)


class MSELoss(_Loss):
    """See `nn.losses.mse_loss`."""

    fn = staticmethod(losses.mse_loss)


class L1Loss(_Loss):
    """See `nn.losses.l1_loss`."""

    fn = staticmethod(losses.l1_loss)


class SmoothL1Loss(_Loss):
    """See `nn.losses.smooth_l1_loss`."""

    fn = staticmethod(losses.smooth_l1_loss)

    def __init__(self, *, reduction: Reduction = "mean", beta: float = 1.0) -> None:
        self._set(reduction=reduction, beta=beta)


class HuberLoss(_Loss):
    """See `nn.losses.huber_loss`."""

    fn = staticmethod(losses.huber_loss)

    def __init__(self, *, reduction: Reduction = "mean", delta: float = 1.0) -> None:
        self._set(reduction=reduction, delta=delta)


class DiceLoss(_Loss):
    """See `nn.losses.dice_loss`."""

    fn = staticmethod(losses.dice_loss)

    def __init__(
        self,
        *,
        activation: Literal["auto", "none"] = "auto",
        smooth: float = 1.0,
        include_background: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        self._set(
            activation=activation,
            smooth=smooth,
            include_background=include_background,
            reduction=reduction,
        )


class FocalLoss(_Loss):
    """See `nn.losses.sigmoid_focal_loss`; the mean by default."""

    fn = staticmethod(losses.sigmoid_focal_loss)

    def __init__(
        self, alpha: float = 0.25, gamma: float = 2.0, *, reduction: Reduction = "mean"
    ) -> None:
        self._set(alpha=alpha, gamma=gamma, reduction=reduction)
