"""`st.from_torch` and `st.to_torch`: the same keys, values, gradients, buffers, in both modes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn as tnn
from torch.nn import functional as F

import striate as st


class Net(tnn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = tnn.Sequential(tnn.Conv2d(3, 8, 3, bias=False), tnn.BatchNorm2d(8))
        self.layers = tnn.ModuleList([tnn.Conv2d(8, 8, 3, padding=1, groups=2) for _ in range(2)])
        self.scale = tnn.Parameter(torch.full((8, 1, 1), 0.5))
        self.register_buffer("shift", torch.ones(8, 1, 1), persistent=False)
        self.head = tnn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu_(self.stem(x)), 2)
        for layer in self.layers:
            x = x + self.scale * F.silu(layer(x)) + self.shift
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        return self.head(x.mean((2, 3)))


def test_both_modes_and_any_batch() -> None:
    torch.manual_seed(0)
    theirs = Net()
    theirs(torch.randn(4, 3, 10, 10))  # buffers that are not the first ones
    ours = st.from_torch(theirs, torch.randn(2, 3, 10, 10))
    assert ours.training
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for n in (2, 5):
        x = torch.randn(n, 3, 10, 10)
        for mode in (True, False):
            ours.train(mode)
            theirs.train(mode)
            y = theirs(x)
            np.testing.assert_allclose(
                ours(x.numpy()).numpy(), y.detach().numpy(), rtol=1e-4, atol=1e-5
            )
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-5)


def test_it_is_trained_like_any_other_module() -> None:
    torch.manual_seed(0)
    theirs = Net()
    ours = st.from_torch(theirs, torch.randn(4, 3, 8, 8))
    step = st.train_step(ours, st.nn.CrossEntropyLoss(), st.optim.SGD(ours.parameters(), lr=0.1))
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.1)
    for _ in range(3):
        x, y = torch.randn(4, 3, 8, 8), torch.randint(5, (4,))
        loss = F.cross_entropy(theirs(x), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        assert step(x.numpy(), y.numpy()).item() == pytest.approx(loss.item(), rel=1e-4)
    back = st.to_torch(ours, Net())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_dropout_draws_from_our_generator() -> None:
    ours = st.from_torch(tnn.Dropout(0.25), torch.ones(4, 1000))
    st.random.seed(0)
    a, b = (
        ours(np.ones((4, 1000), np.float32)).numpy(),
        ours(np.ones((4, 1000), np.float32)).numpy(),
    )
    assert 0.2 < np.mean(a == 0) < 0.3
    assert set(np.unique(a)) == {0, np.float32(1 / 0.75)}
    assert (a != b).any()
    assert (ours.eval()(np.ones((4, 1000), np.float32)).numpy() == 1).all()


def test_the_original_is_left_alone() -> None:
    theirs = tnn.Sequential(tnn.BatchNorm2d(3), tnn.Dropout(0.5).eval())
    before = copy.deepcopy(theirs.state_dict())
    ours = st.from_torch(theirs, torch.randn(2, 3, 4, 4))
    assert [m.training for m in theirs.modules()] == [True, True, False]
    ours(np.ones((2, 3, 4, 4), np.float32))
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, before[name])


def test_errors() -> None:
    class Bessel(tnn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(st.StriateError, match=r"special_bessel_j0.*torch\.compile"):
        st.from_torch(Bessel(), torch.ones(2))
    net = st.from_torch(tnn.Conv2d(3, 4, 3), torch.ones(2, 3, 5, 5))
    with pytest.raises(st.ShapeError, match=r"f32\[2,3,5,5\] in the example, got f32\[2,3,6,5\]"):
        net(np.ones((2, 3, 6, 5), np.float32))
    with pytest.raises(st.DTypeError, match="must be float32, got f64"):
        net(np.ones((2, 3, 5, 5)))
    with pytest.raises(st.ShapeError, match="wants 1 arguments, got 2"):
        net(np.ones(1), np.ones(1))
    with pytest.raises(st.ShapeError, match="missing bias"):
        st.to_torch(st.nn.Linear(3, 2, bias=False), tnn.Linear(3, 2))
