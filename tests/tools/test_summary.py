"""The table of a network, against counts by hand and receptive fields by gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import models, nn
from striate.errors import DTypeError, ShapeError
from striate.tools import summary


def by_gradient(net: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The box of inputs from which a gradient comes to the central output, all weights 1."""
    for p in net.parameters():
        p.assign(st.ones_like(p))
    net.eval()
    rng = np.random.default_rng(0)
    found = np.zeros(shape[2:], bool)
    for _ in range(8):  # a maximum passes the gradient to one of its inputs at a time
        x = rng.random(shape).astype(np.float32)

        def centre(x: Any) -> Any:
            y = net(x)
            return y[tuple(slice((n - 1) // 2, (n - 1) // 2 + 1) for n in y.shape)].sum()

        found |= (st.grad(centre)(st.asarray(x)).numpy() != 0).any((0, 1))
    rest = range(found.ndim)
    sides = [np.flatnonzero(found.any(tuple(a for a in rest if a != axis))) for axis in rest]
    return tuple(int(s[-1] - s[0]) + 1 for s in sides)


class Residual(nn.Module):
    def __init__(self) -> None:
        self.narrow = nn.Conv2d(2, 2, 1)
        self.wide = nn.Conv2d(2, 2, (5, 3), padding=(2, 1))

    def forward(self, x: Any) -> Any:
        return st.relu(self.narrow(x) + self.wide(x))


class Joined(nn.Module):
    def __init__(self) -> None:
        self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, dilation=2, padding=2)

    def forward(self, x: Any) -> Any:
        return st.flip(st.concat([self.a(x), self.b(x)], axis=2), axis=3)[:, :, ::2, 1:-1]


FIELDS = {
    "conv": (nn.Conv2d(2, 3, (3, 5)), (1, 2, 20, 20)),
    "strided": (nn.Sequential(nn.Conv2d(2, 2, 3, stride=2), nn.Conv2d(2, 2, 3)), (1, 2, 21, 21)),
    "dilated": (nn.Conv2d(2, 2, 3, dilation=(2, 3)), (1, 2, 20, 20)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4, padding="same"), (1, 4, 9, 9)),
    "1-D": (nn.Sequential(nn.Conv1d(1, 1, 7), nn.Conv1d(1, 1, 4, stride=3)), (1, 1, 40)),
    "3-D": (nn.Conv3d(1, 1, (1, 2, 3)), (1, 1, 6, 6, 6)),
    "transposed": (nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1), (1, 1, 9, 9)),
    "max pool": (nn.Sequential(nn.MaxPool2d(3, 2), nn.MaxPool2d(2)), (1, 1, 23, 23)),
    "max pool 1-D": (nn.MaxPool1d(3, 2), (1, 1, 23)),
    "average pool": (nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 1, 3)), (1, 1, 16, 16)),
    "residual": (Residual(), (1, 2, 11, 11)),
    "joined": (Joined(), (1, 2, 16, 16)),
    "shuffled": (nn.Sequential(nn.Conv2d(4, 4, 3), nn.PixelShuffle(2)), (1, 4, 11, 11)),
    "pixel unshuffle": (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 3)), (1, 1, 16, 16)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields(name: str) -> None:
    net, shape = FIELDS[name]
    whole = nn.Sequential(net, nn.Identity())
    assert summary(whole, shape).rows[-1].field == by_gradient(net, shape)


def test_known_networks() -> None:
    table = summary(models.resnet20(), (1, 3, 32, 32))
    # He et al.: 0.27 million parameters; Conv2d 40.55 M multiply-adds
    assert (table.parameters, table.macs) == (269_722, 40_551_040)
    assert table.rows[-1].field == (None, None)
    assert len(table.rows) == 19 + 19 + 1
    assert table.rows[-2].name == "layer3.2.bn2"
    twice = summary(models.resnet20(), (2, 3, 32, 32))
    assert (twice.macs, twice.parameters) == (2 * table.macs, table.parameters)


def test_counts_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(54, 5),
    )  # fmt: skip
    net[4].bias.requires_grad = False
    table = summary(net, (3, 4, 8, 8))
    assert [(r.parameters, r.macs, r.nbytes) for r in table.rows] == [
        (6 * 2 * 9 + 6, 3 * 6 * 36 * 2 * 9, 4 * 3 * 6 * 36),
        (12, 0, 4 * 3 * 6 * 36),
        (0, 0, 4 * 3 * 54),
        (0, 0, 4 * 3 * 54),
        (54 * 5 + 5, 3 * 54 * 5, 4 * 3 * 5),
    ]
    assert table.trainable == table.parameters - 5
    assert table.parameter_bytes == 4 * (table.parameters + 12) + 8  # running statistics, a count


class Functional(nn.Module):
    def __init__(self) -> None:
        self.w = nn.Parameter(np.ones((2, 3, 3, 3), np.float32))
        self.layer = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.layer(self.layer(st.conv(x, self.w)))


def test_functional_code_and_shared_layers() -> None:
    table = summary(Functional(), (1, 3, 6, 6))
    assert [(r.name, r.macs, r.parameters) for r in table.rows] == [
        ("layer", 0, 0),
        ("layer", 0, 0),
        ("", 2 * 16 * 27, 54),
    ]
    shared = nn.Linear(3, 3)
    assert [r.parameters for r in summary(nn.Sequential(shared, shared), (1, 3)).rows] == [12, 0]


def test_nothing_is_changed_or_computed() -> None:
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5))
    net[1].eval()
    before = {k: v.numpy() for k, v in net.state_dict().items()}
    summary(net, (1 << 10, 2, 1 << 14, 1 << 14))  # 2 TB, if it were
    assert [m.training for m in net] == [True, False]
    assert "forward" not in net.__dict__ and "forward" not in net[0].__dict__
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    with pytest.raises(ShapeError):
        summary(net, (1, 3, 4, 4))
    assert [m.training for m in net] == [True, False]
    assert "forward" not in net[0].__dict__


def test_text_and_html() -> None:
    table = summary(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 1, 5, 5), title="<a>")
    text = str(table)
    assert text.splitlines()[0] == "<a>"
    assert "parameters 20 (20 trained), 80 B with buffers" in text
    assert "multiply-adds 162 for 1x1x5x5" in text
    html = table._repr_html_()
    assert "&lt;a&gt;" in html and "<a>" not in html and html.count("<tr>") == 2


def test_wrong_calls() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(ShapeError, match="give a shape per input"):
        summary(net)
    with pytest.raises(DTypeError):
        summary(net, (1.5, 2))  # type: ignore[arg-type]
