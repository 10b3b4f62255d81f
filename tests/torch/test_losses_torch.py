"""Every loss of `striate.nn` against PyTorch's: values, gradients by the input, in every reduction.

A row is (class, keyword arguments, shape of the input, what the target is).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn as tnn

import striate as st
from striate import nn

TOLERANCE = {"float64": (1e-10, 1e-12), "float32": (1e-4, 1e-6)}
WEIGHT = [0.2, 1.0, 3.0, 0.5]
Row = tuple[str, dict[str, Any], tuple[int, ...], str]

ROWS: list[Row] = [
    *(
        ("CrossEntropyLoss", kwargs, shape, target)
        for shape in [(6, 4), (2, 4, 5), (2, 4, 3, 5), (4,)]
        for target in ["labels", "some", "probabilities"]
        for kwargs in [
            {},
            {"weight": WEIGHT},
            {"label_smoothing": 0.1},
            {"weight": WEIGHT, "label_smoothing": 0.3},
        ]
    ),
    ("CrossEntropyLoss", {"ignore_index": 2, "weight": WEIGHT}, (9, 4), "labels"),
    ("CrossEntropyLoss", {"ignore_index": 255, "label_smoothing": 0.2}, (9, 4), "some"),
    ("CrossEntropyLoss", {}, (6, 4), "none"),  # all ignored: the mean is NaN
    ("NLLLoss", {}, (6, 4), "labels"),
    ("NLLLoss", {"weight": WEIGHT}, (2, 4, 3), "some"),
    ("NLLLoss", {"ignore_index": 1}, (2, 4, 3, 5), "labels"),
    ("BCEWithLogitsLoss", {}, (3, 4), "unit"),
    ("BCEWithLogitsLoss", {"pos_weight": WEIGHT}, (3, 4), "unit"),
    ("BCEWithLogitsLoss", {"weight": WEIGHT, "pos_weight": WEIGHT}, (2, 3, 4), "unit"),
    ("BCELoss", {}, (3, 4), "unit"),
    ("BCELoss", {"weight": WEIGHT}, (3, 4), "unit"),
    ("MSELoss", {}, (3, 4), "normal"),
    ("L1Loss", {}, (3, 4), "normal"),
    ("SmoothL1Loss", {}, (3, 4), "normal"),
    ("SmoothL1Loss", {"beta": 0.3}, (3, 4), "normal"),
    ("SmoothL1Loss", {"beta": 0.0}, (3, 4), "normal"),
    ("HuberLoss", {}, (3, 4), "normal"),
    ("HuberLoss", {"delta": 0.5}, (2, 3, 4), "normal"),
]


def target_of(kind: str, shape: tuple[int, ...], dtype: str, ignore: int) -> Any:
    rng = np.random.default_rng(3)
    if kind == "normal":
        return rng.normal(size=shape).astype(dtype)
    if kind == "unit":
        return rng.uniform(size=shape).astype(dtype)
    axis = 0 if len(shape) == 1 else 1
    if kind == "probabilities":
        p = rng.uniform(size=shape)
        return (p / p.sum(axis, keepdims=True)).astype(dtype)
    labels = np.asarray(rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :]))
    if kind == "some" and labels.ndim:
        labels[..., ::3] = ignore
    return np.full_like(labels, ignore) if kind == "none" else labels


def input_of(name: str, shape: tuple[int, ...], dtype: str) -> Any:
    x = np.random.default_rng(0).normal(size=shape) * 3
    if name == "BCELoss":
        x = 1 / (1 + np.exp(-x))
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r[0]}-{r[1]}-{r[2]}-{r[3]}".replace(" ", ""))
def test_loss(row: Row, dtype: str) -> None:
    name, kwargs, shape, kind = row
    x = input_of(name, shape, dtype)
    target = target_of(kind, shape, dtype, kwargs.get("ignore_index", -100))
    arrays = {k: np.asarray(v, dtype) if isinstance(v, list) else v for k, v in kwargs.items()}
    tensors = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
    for reduction in ("mean", "sum", "none"):
        theirs = getattr(tnn, name)(reduction=reduction, **tensors)
        ours = getattr(nn, name)(reduction=reduction, **arrays)
        tx = torch.tensor(x, requires_grad=True)
        expected = theirs(tx, torch.tensor(target))
        (dx,) = torch.autograd.grad(expected.sum(), [tx])
        assert ours(x, target).shape == tuple(expected.shape)
        rtol, atol = TOLERANCE[dtype]
        np.testing.assert_allclose(
            ours(x, target).numpy(), expected.detach().numpy(), rtol, atol, err_msg=reduction
        )
        grad = st.grad(lambda v: ours(v, target).sum())(st.asarray(x))  # noqa: B023
        np.testing.assert_allclose(grad.numpy(), dx.numpy(), rtol, atol, err_msg=reduction)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1.0, 2.0), (0.6, 0.0), (0.25, 3.5)])
def test_focal_loss(alpha: float, gamma: float) -> None:
    x, t = input_of("", (5, 4), "float64"), target_of("unit", (5, 4), "float64", 0).round()
    tx, tt = torch.tensor(x, requires_grad=True), torch.tensor(t)
    p = torch.sigmoid(tx)  # torchvision.ops.sigmoid_focal_loss
    ce = tnn.functional.binary_cross_entropy_with_logits(tx, tt, reduction="none")
    loss = ce * (1 - (p * tt + (1 - p) * (1 - tt))) ** gamma
    if alpha >= 0:
        loss = (alpha * tt + (1 - alpha) * (1 - tt)) * loss
    (dx,) = torch.autograd.grad(loss.mean(), [tx])
    ours = nn.FocalLoss(alpha, gamma)
    value, grad = st.value_and_grad(lambda v: ours(v, t))(st.asarray(x))
    np.testing.assert_allclose(value.numpy(), loss.mean().item(), 1e-10)
    np.testing.assert_allclose(grad.numpy(), dx.numpy(), 1e-8, 1e-12)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "BCEWithLogitsLoss"])
def test_loss_state_has_the_same_keys(name: str) -> None:
    weight = {"weight": np.float32(WEIGHT)}
    if name == "BCEWithLogitsLoss":
        weight["pos_weight"] = np.float32(WEIGHT)
    theirs = getattr(tnn, name)(**{k: torch.tensor(v) for k, v in weight.items()})
    assert list(theirs.state_dict()) == list(getattr(nn, name)(**weight).state_dict())


def test_extreme_logits_stay_finite_as_in_torch() -> None:
    x, labels = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]), np.array([1, 0])
    expected = tnn.functional.cross_entropy(torch.tensor(x), torch.tensor(labels), reduction="none")
    ours = nn.losses.cross_entropy(x, labels, reduction="none")
    np.testing.assert_allclose(ours.numpy(), expected.numpy())
    t = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    bce = tnn.functional.binary_cross_entropy_with_logits(
        torch.tensor(x), torch.tensor(t), reduction="none"
    )
    np.testing.assert_allclose(
        nn.losses.binary_cross_entropy_with_logits(x, t, reduction="none").numpy(), bce.numpy()
    )
