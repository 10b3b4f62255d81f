"""A training step, and an evaluation step, as one graph each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate.core.api import argmax
from striate.core.array import Array, asarray
from striate.core.transforms import gradients, jit
from striate.nn import Module
from striate.optim import EMA, Optimizer, clip_grad_norm

Loss = Callable[[Array, Array], Array]


def train_step(
    net: Module,
    loss: Loss,
    optimizer: Optimizer,
    *,
    clip_norm: float | None = None,
    ema: EMA | None = None,
) -> Callable[[Any, Any], Array]:
    """A function (x, y) -> loss that runs forward, backward and update as one plan.

    Args:
        net: the network; running statistics and random numbers advance too.
        loss: (output, y) -> one number.
        optimizer: updates its parameters; those with `requires_grad` False are left alone.
        clip_norm: the joint norm to which gradients are clipped.
        ema: averages to keep.

    >>> net = st.nn.Linear(3, 2)
    >>> step = st.train_step(net, st.nn.CrossEntropyLoss(), st.optim.SGD(net.parameters(), lr=0.1))
    >>> first = step(np.ones((4, 3), np.float32), np.zeros(4, np.int64)).item()
    >>> step(np.ones((4, 3), np.float32), np.zeros(4, np.int64)).item() < first
    True
    """

    def step(x: Array, y: Array) -> Array:
        active = [p for p in optimizer.parameters if getattr(p, "requires_grad", True)]
        value, found = gradients(lambda: loss(net(x), y), active)
        if clip_norm is not None:
            found, _ = clip_grad_norm(found, clip_norm)
        by_parameter = {id(p): g for p, g in zip(active, found, strict=True)}
        optimizer.update([by_parameter.get(id(p)) for p in optimizer.parameters])
        if ema is not None:
            ema.update()
        return asarray(value)

    return jit(step)


def eval_step(net: Module, loss: Loss) -> Callable[[Any, Any], tuple[Array, Array]]:
    """A function (x, y) -> (loss, number of right answers) that changes nothing."""

    def step(x: Array, y: Array) -> tuple[Array, Array]:
        out = net(x)
        labels = argmax(y, 1) if y.dtype.is_floating and y.ndim == out.ndim else y
        right = (argmax(out, 1) == labels) if labels.shape == (out.shape[0], *out.shape[2:]) else 0
        return loss(out, y), asarray(right).astype("int64").sum()

    return jit(step)
