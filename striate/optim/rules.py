"""The optimizers: one rule each, with PyTorch's names, defaults and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from striate.core.api import maximum, sign, sqrt, where
from striate.core.array import Array
from striate.errors import ShapeError
from striate.optim.optimizer import Optimizer, Params, State


def _cast(x: Array, p: Array) -> Array:
    """A coefficient, computed in f64, rounded once to the dtype of p."""
    return x.astype(p.dtype)


def _decayed(p: Array, h: Mapping[str, Any]) -> Array:
    """Decoupled weight decay."""
    return p * _cast(1 - h["lr"] * h["weight_decay"], p)


class SGD(Optimizer):
    """Gradient descent: b = momentum * b + (1 - dampening) * g; p -= lr * b.

    Args:
        params: arrays or groups.
        lr: learning rate.
        momentum, dampening: of the running sum b, which starts as the first g.
        weight_decay: adds weight_decay * p to g.
        nesterov: step along g + momentum * b; needs momentum > 0 and no dampening.

    Method: Sutskever et al., "On the importance of initialization and momentum" (ICML 2013).

    >>> w = st.asarray([1.0, 2.0])
    >>> st.optim.SGD([w], lr=0.5).update([st.asarray([1.0, 1.0])])
    >>> w
    Array([0.5, 1.5], dtype=float32)
    """

    slots = ("momentum_buffer",)
    ranges = {"momentum": (0.0, 1e9), "weight_decay": (0.0, 1e9)}  # noqa: RUF012

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
            nesterov=nesterov,
        )  # fmt: skip

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ShapeError(
                "SGD: nesterov needs momentum > 0 and dampening = 0, got momentum "
                f"{group['momentum']} and dampening {group['dampening']}"
            )

    def rule(
        self, p: Array, g: Array, s: State, h: Mapping[str, Any], t: Array
    ) -> tuple[Array, State]:
        """See the class."""
        g = g + h["weight_decay"] * p if h["weight_decay"] else g
        if not h["momentum"]:
            return p - _cast(h["lr"], p) * g, {}
        kept = 1 - h["dampening"]
        added = g if kept == 1 else kept * g
        b = where(t == 1, g, h["momentum"] * s["momentum_buffer"] + added)
        step = g + h["momentum"] * b if h["nesterov"] else b
        return p - _cast(h["lr"], p) * step, {"momentum_buffer": b}


class Adam(Optimizer):
    """p -= lr * m^ / (sqrt(v^) + eps), with bias-corrected running means m of g and v of g^2.

    Args:
        params: arrays or groups.
        lr: learning rate.
        betas: decay of the two means.
        eps: added to the denominator.
        weight_decay: adds weight_decay * p to g.
        amsgrad: use the largest v so far.

    Method: Kingma & Ba, "Adam" (ICLR 2015); Reddi et al. (ICLR 2018) for amsgrad.
    """

    slots = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    ranges = {"betas": (0.0, 1.0), "eps": (0.0, 1e9), "weight_decay": (0.0, 1e9)}  # noqa: RUF012
    decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad
        )

    def rule(
        self, p: Array, g: Array, s: State, h: Mapping[str, Any], t: Array
    ) -> tuple[Array, State]:
        """See the class."""
        beta1, beta2 = h["betas"]
        if h["weight_decay"] and self.decoupled:
            p = _decayed(p, h)
        elif h["weight_decay"]:
            g = g + h["weight_decay"] * p
        m = s["exp_avg"] + (1 - beta1) * (g - s["exp_avg"])
        v = beta2 * s["exp_avg_sq"] + (1 - beta2) * g * g
        state = {"exp_avg": m, "exp_avg_sq": v}
        if h["amsgrad"]:
            v = state["max_exp_avg_sq"] = maximum(s["max_exp_avg_sq"], v)
        size, correction = _cast(h["lr"] / (1 - beta1**t), p), _cast(sqrt(1 - beta2**t), p)
        return p - size * m / (sqrt(v) / correction + h["eps"]), state


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: p *= 1 - lr * weight_decay first.

    Method: Loshchilov & Hutter, "Decoupled weight decay regularization" (ICLR 2019).
    """

    decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)


class RMSprop(Optimizer):
    """p -= lr * g / (sqrt(mean of g^2) + eps), the variance instead if `centered`.

    Args:
        params: arrays or groups.
        lr: learning rate.
        alpha: decay of the means.
        eps: added to the denominator.
        weight_decay: adds weight_decay * p to g.
        momentum: of a running sum of the steps.
        centered: subtract the square of the mean gradient.

    Method: Tieleman & Hinton, lecture 6.5 (2012); Graves (2013) for centered.
    """

    slots = ("square_avg", "grad_avg", "momentum_buffer")
    ranges = {"alpha": (0.0, 1.0), "eps": (0.0, 1e9), "momentum": (0.0, 1e9)}  # noqa: RUF012

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
            centered=centered,
        )  # fmt: skip

    def rule(
        self, p: Array, g: Array, s: State, h: Mapping[str, Any], t: Array
    ) -> tuple[Array, State]:
        """See the class."""
        g = g + h["weight_decay"] * p if h["weight_decay"] else g
        v = h["alpha"] * s["square_avg"] + (1 - h["alpha"]) * g * g
        state, spread = {"square_avg": v}, v
        if h["centered"]:
            mean = state["grad_avg"] = s["grad_avg"] + (1 - h["alpha"]) * (g - s["grad_avg"])
            spread = v - mean * mean
        step = g / (sqrt(spread) + h["eps"])
        if h["momentum"]:
            step = state["momentum_buffer"] = h["momentum"] * s["momentum_buffer"] + step
        return p - _cast(h["lr"], p) * step, state


class Lion(Optimizer):
    """p -= lr * sign(beta1 * m + (1 - beta1) * g), with decoupled weight decay.

    Args:
        params: arrays or groups.
        lr: learning rate.
        betas: of the step, and of the running mean m.
        weight_decay: p *= 1 - lr * weight_decay first.

    Method: Chen et al., "Symbolic discovery of optimization algorithms" (2023).
    """

    slots = ("exp_avg",)
    ranges = {"betas": (0.0, 1.0), "weight_decay": (0.0, 1e9)}  # noqa: RUF012

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay)

    def rule(
        self, p: Array, g: Array, s: State, h: Mapping[str, Any], t: Array
    ) -> tuple[Array, State]:
        """See the class."""
        beta1, beta2 = h["betas"]
        p = _decayed(p, h) if h["weight_decay"] else p
        step = sign(beta1 * s["exp_avg"] + (1 - beta1) * g)
        return p - _cast(h["lr"], p) * step, {"exp_avg": beta2 * s["exp_avg"] + (1 - beta2) * g}


class LARS(Optimizer):
    """SGD whose step is scaled, layer by layer, by trust * |p| / (|g| + weight_decay * |p|).

    Args:
        params: arrays or groups.
        lr: learning rate.
        momentum: of the running sum of scaled gradients.
        weight_decay: adds weight_decay * p to g.
        trust: the layer-wise coefficient.
        eps: added to the denominator.

    Method: You et al., "Large batch training of convolutional networks" (2017).
    """

    slots = ("momentum_buffer",)
    ranges = {"momentum": (0.0, 1e9), "weight_decay": (0.0, 1e9)}  # noqa: RUF012

    def __init__(
        self,
        params: Params,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust, eps=eps
        )

    def rule(
        self, p: Array, g: Array, s: State, h: Mapping[str, Any], t: Array
    ) -> tuple[Array, State]:
        """See the class."""
        size, slope = sqrt((p * p).sum()), sqrt((g * g).sum())
        ratio = h["trust"] * size / (slope + h["weight_decay"] * size + h["eps"])
        ratio = where((size > 0) & (slope > 0), ratio, 1.0)
        b = h["momentum"] * s["momentum_buffer"] + ratio * (g + h["weight_decay"] * p)
        return p - _cast(h["lr"], p) * b, {"momentum_buffer": b}
