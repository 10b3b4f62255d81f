"""Losses without PyTorch: closed forms, what is refused, gradients of the soft Dice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.nn import losses

rng = np.random.default_rng(0)


def test_cross_entropy_of_certainty_is_zero() -> None:
    logits = 200.0 * np.eye(4, dtype=np.float32)
    assert losses.cross_entropy(logits, np.arange(4)).item() == 0
    assert losses.cross_entropy(logits, np.arange(4)[::-1].copy()).item() == 200


def test_labels_of_any_integer_type() -> None:
    logits = rng.normal(size=(5, 3))
    wanted = losses.cross_entropy(logits, np.array([0, 1, 2, 1, 0])).item()
    for dtype in ("uint8", "int8", "int32"):
        labels = np.array([0, 1, 2, 1, 0], dtype)
        assert losses.cross_entropy(logits, labels).item() == wanted


@pytest.mark.parametrize("label", [-1, 3, -100, 100])
def test_a_label_outside_the_classes_is_an_error(label: int) -> None:
    logits = np.zeros((2, 3), np.float32)
    labels = np.array([0, label])
    if label == -100:
        assert losses.cross_entropy(logits, labels).item() == pytest.approx(np.log(3))
        return
    with pytest.raises(IndexError, match=rf"cross_entropy: label {label} is outside \[0, 3\)"):
        losses.cross_entropy(logits, labels)
    step = st.jit(losses.cross_entropy)
    with pytest.raises(IndexError, match="out of range for axis 1 of size 3"):
        step(logits, labels)


def test_bfloat16_logits_lose_nothing_but_their_own_bits() -> None:
    logits = st.asarray(rng.normal(size=(64, 10)).astype(np.float32)).astype("bfloat16")
    labels = rng.integers(0, 10, 64)
    wide = losses.cross_entropy(logits.astype("float32"), labels)
    assert losses.cross_entropy(logits, labels).item() == wide.item()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.cross_entropy(st.ones((2, 3)), np.zeros((2, 1), int)), st.ShapeError,
         r"must have shape \(2,\), got i64\[2,1\]"),
        (lambda: losses.cross_entropy(st.ones((2, 3)), st.ones((2, 4))), st.ShapeError,
         r"probabilities must have the shape of the logits f32\[2,3\]"),
        (lambda: losses.cross_entropy(np.ones((2, 3), int), np.zeros(2, int)), st.DTypeError,
         "floating input"),
        (lambda: losses.cross_entropy(st.ones((2, 3)), np.zeros(2, bool)), st.DTypeError,
         "labels must be integers"),
        (lambda: losses.cross_entropy(st.ones((2, 3)), np.zeros(2, int), st.ones(2)), st.ShapeError,
         r"weight must have shape \(3,\)"),
        (lambda: losses.cross_entropy(st.ones((2, 3)), np.zeros(2, int), label_smoothing=2),
         st.ShapeError, "label_smoothing must be in"),
        (lambda: losses.cross_entropy(st.ones((2, 3)), np.zeros(2, int), reduction="avg"),  # type: ignore[arg-type]
         st.ShapeError, "reduction 'avg' is not"),
        (lambda: losses.cross_entropy(st.ones(()), 0), st.ShapeError, r"\[N, C, \*S\] or \[C\]"),
        (lambda: losses.mse_loss(st.ones((2, 1)), st.ones((2,))), st.ShapeError,
         r"mse_loss: input and target must have one shape, got f32\[2,1\] and f32\[2\]"),
        (lambda: losses.huber_loss(st.ones(2), st.ones(2), delta=0), st.ShapeError, "delta"),
        (lambda: losses.smooth_l1_loss(st.ones(2), st.ones(2), beta=-1), st.ShapeError, "beta"),
        (lambda: losses.dice_loss(st.ones(2), st.ones(2)), st.ShapeError, "wants logits"),
        (lambda: losses.dice_loss(st.ones((2, 3, 4)), st.ones((2, 4))), st.ShapeError, "a mask"),
        (lambda: losses.dice_loss(st.ones((2, 1, 4)), st.ones((2, 1, 4)), include_background=False),
         st.ShapeError, "nothing is left"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ---- Dice ----------------------------------------------------------------------------------


def dice(p: Any, t: Any, smooth: float) -> Any:
    """The definition, per sample and class, in NumPy."""
    axes = tuple(range(2, p.ndim))
    both, each = (p * t).sum(axes), p.sum(axes) + t.sum(axes)
    return 1 - (2 * both + smooth) / (each + smooth)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("space", [(7,), (4, 5), (3, 4, 2)])
def test_dice_is_its_definition(classes: int, space: tuple[int, ...]) -> None:
    x = rng.normal(size=(2, classes, *space))
    if classes == 1:
        target = rng.integers(0, 2, (2, 1, *space))
        p, t = 1 / (1 + np.exp(-x)), target.astype(float)
    else:
        target = rng.integers(0, classes, (2, *space))
        p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        t = np.moveaxis(np.eye(classes)[target], -1, 1)
    for smooth in (1.0, 1e-5):
        ours = losses.dice_loss(x, target, smooth=smooth, reduction="none")
        np.testing.assert_allclose(ours.numpy(), dice(p, t, smooth), rtol=1e-12)
    ours = nn.DiceLoss(activation="none")(p, t)
    np.testing.assert_allclose(ours.item(), dice(p, t, 1.0).mean(), rtol=1e-12)
    if classes > 1:
        ours = losses.dice_loss(x, target, include_background=False)
        np.testing.assert_allclose(ours.item(), dice(p, t, 1.0)[:, 1:].mean(), rtol=1e-12)


def test_gradient_of_dice_by_differences() -> None:
    x, target = rng.normal(size=(2, 3, 4)), rng.integers(0, 3, (2, 4))
    direction = rng.normal(size=x.shape)
    gradient = st.grad(lambda v: losses.dice_loss(v, target))(st.asarray(x)).numpy()
    h = 1e-6
    ends = [losses.dice_loss(x + s * h * direction, target).item() for s in (1, -1)]
    assert (gradient * direction).sum() == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_an_array_argument_of_a_loss_is_a_buffer() -> None:
    loss = nn.CrossEntropyLoss(weight=np.float32([1, 2, 3]))
    assert list(loss.state_dict()) == ["weight"]
    assert list(loss.parameters()) == []
