"""Every layer and every loss of `striate.nn` against PyTorch's, with the same parameters.

One row of a table is one configuration: (class, arguments, keyword arguments, shape of x). Keys,
forward pass, gradients by input and parameters, and buffers are compared, in both modes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn as tnn

import striate as st
from striate import nn

TOLERANCE = {"float64": (1e-9, 1e-10), "float32": (2e-4, 2e-5)}
Row = tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]

CONVOLUTIONS: list[Row] = [
    ("Conv1d", (4, 6, 3), {}, (2, 4, 9)),
    ("Conv1d", (4, 6, 4), {"stride": 3, "padding": 2, "groups": 2}, (2, 4, 12)),
    ("Conv1d", (4, 6, 4), {"padding": "same", "padding_mode": "circular"}, (4, 12)),
    ("Conv2d", (3, 8, 3), {}, (2, 3, 7, 8)),
    ("Conv2d", (4, 8, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "bias": False}, (2, 4, 7, 8)),
    ("Conv2d", (4, 4, 3), {"padding": 1, "groups": 4, "padding_mode": "reflect"}, (2, 4, 7, 8)),
    ("Conv2d", (4, 6, 3), {"padding": 2, "dilation": 2, "padding_mode": "replicate"}, (2, 4, 7, 8)),
    ("Conv2d", (4, 6, 4), {"padding": "same", "dilation": (1, 2)}, (2, 4, 7, 8)),
    ("Conv2d", (4, 6, 1), {"padding": "valid"}, (4, 7, 8)),
    ("Conv3d", (2, 4, 3), {"stride": 2, "padding": (1, 0, 2)}, (2, 2, 5, 6, 7)),
    ("Conv3d", (2, 4, 2), {"groups": 2, "padding": 1, "padding_mode": "circular"}, (2, 2, 5, 6, 7)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 9)),
    ("ConvTranspose2d", (4, 6, 3), {}, (2, 4, 5, 6)),
    ("ConvTranspose2d", (4, 6, 3, (2, 3)), {"padding": 1, "groups": 2}, (2, 4, 5, 6)),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1), {"dilation": 2, "bias": False}, (4, 5, 6)),
    ("ConvTranspose3d", (2, 4, 2), {"stride": 2, "padding": 1}, (2, 2, 3, 4, 3)),
]

NORMS: list[Row] = [
    ("BatchNorm1d", (5,), {}, (7, 5)),
    ("BatchNorm1d", (5,), {"momentum": None}, (7, 5, 3)),
    ("BatchNorm2d", (5,), {}, (3, 5, 4, 6)),
    ("BatchNorm2d", (5,), {"eps": 1e-2, "momentum": 0.3, "affine": False}, (3, 5, 4, 6)),
    ("BatchNorm2d", (5,), {"track_running_stats": False}, (3, 5, 4, 6)),
    ("BatchNorm3d", (5,), {"momentum": None}, (2, 5, 3, 4, 2)),
    ("BatchNorm2d", (5,), {"bias": False}, (3, 5, 4, 6)),
    ("InstanceNorm1d", (5,), {"affine": True}, (3, 5, 8)),
    ("InstanceNorm1d", (5,), {"track_running_stats": True}, (5, 8)),
    ("InstanceNorm2d", (5,), {}, (3, 5, 4, 6)),
    ("InstanceNorm2d", (5,), {"affine": True, "track_running_stats": True}, (3, 5, 4, 6)),
    ("InstanceNorm3d", (5,), {"track_running_stats": True, "momentum": 0.3}, (2, 5, 3, 4, 2)),
    ("GroupNorm", (2, 6), {}, (3, 6, 5)),
    ("GroupNorm", (6, 6), {"affine": False, "eps": 1e-3}, (3, 6, 5, 4)),
    ("GroupNorm", (1, 6), {}, (3, 6)),
    ("LayerNorm", (6,), {}, (3, 5, 6)),
    ("LayerNorm", ((5, 6),), {"bias": False}, (3, 5, 6)),
    ("LayerNorm", ([6],), {"elementwise_affine": False, "eps": 1e-3}, (3, 5, 6)),
    ("LocalResponseNorm", (3,), {}, (2, 7, 4, 5)),
    ("LocalResponseNorm", (4,), {"alpha": 0.5, "beta": 0.6, "k": 2.0}, (2, 7, 4, 5)),
    ("LocalResponseNorm", (2,), {"alpha": 0.1}, (2, 7, 5)),
]

ACTIVATIONS: list[Row] = [
    (name, args, kwargs, (3, 4, 5))
    for name, args, kwargs in [
        ("ReLU", (), {"inplace": True}),
        ("ReLU6", (), {}),
        ("LeakyReLU", (), {}),
        ("LeakyReLU", (0.2,), {}),
        ("ELU", (), {}),
        ("ELU", (0.5,), {}),
        ("CELU", (0.5,), {}),
        ("SELU", (), {}),
        ("GELU", (), {}),
        ("GELU", (), {"approximate": "tanh"}),
        ("SiLU", (), {}),
        ("Mish", (), {}),
        ("Hardswish", (), {}),
        ("Hardsigmoid", (), {}),
        ("Hardtanh", (-0.5, 0.7), {}),
        ("Sigmoid", (), {}),
        ("LogSigmoid", (), {}),
        ("Softplus", (), {}),
        ("Softplus", (2.0, 1.0), {}),
        ("Softsign", (), {}),
        ("Tanh", (), {}),
        ("Tanhshrink", (), {}),
        ("Threshold", (0.1, 20.0), {}),
        ("Hardshrink", (), {}),
        ("Softshrink", (0.3,), {}),
        ("GLU", (1,), {}),
        ("Softmax", (1,), {}),
        ("LogSoftmax", (), {"dim": -1}),
        ("PReLU", (), {}),
        ("PReLU", (4,), {"init": 0.1}),
    ]
]

POOLS: list[Row] = [
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 9)),
    ("MaxPool2d", (2,), {}, (2, 3, 8, 9)),
    ("MaxPool2d", ((3, 2), (2, 1)), {"padding": (1, 0), "ceil_mode": True}, (2, 3, 8, 9)),
    ("MaxPool2d", (3, 1), {"dilation": 2}, (3, 8, 9)),
    ("MaxPool3d", (2,), {"stride": 1}, (2, 3, 4, 5, 4)),
    ("AvgPool1d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, (2, 3, 9)),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True}, (2, 3, 8, 9)),
    ("AvgPool2d", (3, 2), {"divisor_override": 4}, (3, 8, 9)),
    ("AvgPool3d", ((2, 1, 2),), {}, (2, 3, 4, 5, 4)),
    ("LPPool1d", (2, 3), {}, (2, 3, 9)),
    ("LPPool2d", (3, 2), {"stride": 1}, (2, 3, 8, 9)),
    ("LPPool3d", (2, 2), {}, (2, 3, 4, 5, 4)),
    ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 9)),
    ("AdaptiveAvgPool2d", ((3, None),), {}, (2, 3, 8, 9)),
    ("AdaptiveAvgPool2d", (1,), {}, (3, 8, 9)),
    ("AdaptiveAvgPool3d", (2,), {}, (2, 3, 4, 5, 4)),
    ("AdaptiveMaxPool1d", (4,), {}, (2, 3, 9)),
    ("AdaptiveMaxPool2d", ((3, 4),), {}, (2, 3, 8, 9)),
    ("AdaptiveMaxPool3d", (2,), {}, (2, 3, 4, 5, 4)),
]

SHAPES: list[Row] = [
    ("Linear", (6, 4), {}, (3, 6)),
    ("Linear", (6, 4), {"bias": False}, (3, 2, 6)),
    ("Linear", (6, 4), {}, (6,)),
    ("Identity", (54,), {"anything": True}, (2, 3)),
    ("Flatten", (), {}, (2, 3, 4)),
    ("Flatten", (0, 1), {}, (2, 3, 4)),
    ("Unflatten", (1, (2, 3)), {}, (2, 6, 4)),
    ("PixelShuffle", (2,), {}, (2, 8, 3, 4)),
    ("PixelUnshuffle", (2,), {}, (2, 2, 4, 6)),
    ("Upsample", (), {"scale_factor": 2}, (2, 3, 4)),
    ("Upsample", ((5, 7),), {"mode": "bilinear"}, (2, 3, 4, 5)),
    ("Upsample", (), {"scale_factor": 1.5, "mode": "bicubic", "align_corners": True}, (2, 3, 4, 5)),
    ("Upsample", (), {"scale_factor": (2, 1, 3), "mode": "trilinear"}, (2, 3, 4, 5, 3)),
    ("ZeroPad1d", (2,), {}, (2, 3, 4)),
    ("ZeroPad2d", ((1, 2, 3, -1),), {}, (2, 3, 4, 5)),
    ("ZeroPad3d", (1,), {}, (2, 3, 4, 5, 3)),
    ("ConstantPad1d", (1, 3.5), {}, (2, 3, 4)),
    ("ConstantPad2d", ((1, 2, 3, 4), -1.0), {}, (3, 4, 5)),
    ("ConstantPad3d", (1, 0.5), {}, (2, 3, 4, 5, 3)),
    ("ReflectionPad1d", ((2, 1),), {}, (2, 3, 4)),
    ("ReflectionPad2d", ((2, 1, 0, 3),), {}, (2, 3, 4, 5)),
    ("ReflectionPad3d", (1,), {}, (2, 3, 4, 5, 3)),
    ("ReplicationPad1d", ((2, 5),), {}, (2, 3, 4)),
    ("ReplicationPad2d", ((2, 1, 0, 3),), {}, (2, 3, 4, 5)),
    ("ReplicationPad3d", (1,), {}, (2, 3, 4, 5, 3)),
    ("CircularPad1d", ((2, 1),), {}, (2, 3, 4)),
    ("CircularPad2d", ((2, 1, 0, 3),), {}, (2, 3, 4, 5)),
    ("CircularPad3d", (1,), {}, (2, 3, 4, 5, 3)),
    ("Dropout", (0.3,), {}, (2, 3)),
    ("Dropout1d", (0.3,), {}, (2, 3, 4)),
    ("Dropout2d", (0.3,), {}, (2, 3, 4, 5)),
    ("Dropout3d", (0.3,), {}, (2, 3, 4, 5, 3)),
]

LAYERS = CONVOLUTIONS + NORMS + ACTIVATIONS + POOLS + SHAPES


def label(row: Any) -> str:
    return f"{row[0]}{row[1]}{row[2] or ''}".replace(" ", "")


def pair(row: Row, dtype: str) -> tuple[Any, Any]:
    """(PyTorch's module, ours with the same parameters)."""
    name, args, kwargs, _ = row
    theirs = getattr(tnn, name)(*args, **kwargs).to(getattr(torch, dtype))
    with torch.no_grad():
        for p in theirs.parameters():  # weights of 1 and biases of 0 would hide mistakes
            p.add_(torch.randn_like(p) * 0.3)
    ours = getattr(nn, name)(*args, **kwargs).to(dtype)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict({k: v.numpy() for k, v in state.items()})
    return theirs, ours


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def close(ours: Any, theirs: torch.Tensor, dtype: str, what: str, rtol: float = 0.0) -> None:
    rtol, atol = max(rtol, TOLERANCE[dtype][0]), TOLERANCE[dtype][1]
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape, what
    assert ours.numpy().dtype == expected.dtype, what
    np.testing.assert_allclose(ours.numpy(), expected, rtol, atol, err_msg=what)


def compare(theirs: Any, ours: Any, x: Any, dtype: str, jit: bool = False) -> None:
    """Outputs, gradients by input and parameters, and buffers after one pass."""
    tx = torch.tensor(x, requires_grad=True)
    ty = theirs(tx * 1)  # a copy, which an in-place layer may overwrite
    g = numbers(tuple(ty.shape), dtype, 1)
    names = [k for k, _ in theirs.named_parameters()]
    expected = torch.autograd.grad(ty, [tx, *theirs.parameters()], torch.tensor(g))

    def run(x: st.Array) -> tuple[Any, Any]:
        def loss() -> tuple[st.Array, st.Array]:
            y = ours(x)
            return (y * g).sum(), y

        (_, y), grads = st.gradients(loss, [x, *ours.parameters()], has_aux=True)
        return y, grads

    y, grads = (st.jit(run) if jit else run)(st.asarray(x))
    close(y, ty, dtype, "output")
    for name, ours_g, theirs_g in zip(["input", *names], grads, expected, strict=True):
        # PyTorch's derivative of hardsigmoid has 1/6 in float32
        rough = 1e-7 if isinstance(theirs, tnn.Hardsigmoid) else 0.0
        close(ours_g, theirs_g, dtype, f"gradient by {name}", rough)
    for name, buffer in theirs.named_buffers():
        close(dict(ours.named_buffers())[name], buffer, dtype, name)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", LAYERS, ids=label)
def test_layer(row: Row, dtype: str) -> None:
    torch.manual_seed(0)
    theirs, ours = pair(row, dtype)
    x = numbers(row[3], dtype)
    if not row[0].startswith("Dropout"):
        compare(theirs, ours, x, dtype)
    assert theirs.eval() and ours.eval()
    compare(theirs, ours, x, dtype)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("row", [r for r in NORMS if r[0][:5] in ("Batch", "Insta")], ids=label)
def test_running_statistics_after_three_steps(row: Row, jit: bool) -> None:
    theirs, ours = pair(row, "float64")
    for seed in range(3):
        compare(theirs, ours, 1 + 2 * numbers(row[3], "float64", seed), "float64", jit)
    compare(theirs.eval(), ours.eval(), numbers(row[3], "float64", 9), "float64", jit)


def test_max_pool_indices_and_unpool() -> None:
    for rank in (1, 2, 3):
        x = numbers((2, 3, 8, 6, 4)[: 2 + rank], "float64")
        args = {"kernel_size": 3, "stride": 2, "padding": 1}
        tp = getattr(tnn, f"MaxPool{rank}d")(**args, return_indices=True)
        op = getattr(nn, f"MaxPool{rank}d")(**args, return_indices=True)
        (ty, ti), (y, i) = tp(torch.tensor(x)), op(x)
        close(y, ty, "float64", "values")
        np.testing.assert_array_equal(i.numpy(), ti.numpy())
        tu = getattr(tnn, f"MaxUnpool{rank}d")(**args)(ty, ti, output_size=list(x.shape))
        ou = getattr(nn, f"MaxUnpool{rank}d")(**args)(y, i, output_size=x.shape)
        close(ou, tu, "float64", "unpooled")


def test_transposed_convolution_with_output_size() -> None:
    row: Row = ("ConvTranspose2d", (4, 6, 3, 3), {"padding": 1}, (2, 4, 5, 6))
    theirs, ours = pair(row, "float64")
    x = numbers(row[3], "float64")
    for size in ([13, 16], [14, 18], [2, 6, 15, 17]):
        expected = theirs(torch.tensor(x), output_size=size)
        close(ours(x, output_size=size), expected, "float64", str(size))
    with pytest.raises(st.ShapeError, match="output_size"):
        ours(x, output_size=[16, 16])


def test_embedding() -> None:
    theirs, ours = tnn.Embedding(7, 3).double(), nn.Embedding(7, 3, dtype="float64")
    ours.load_state_dict({"weight": theirs.weight.detach().numpy()})
    index = np.array([[0, 6, 2], [2, 2, 1]])
    g = numbers((2, 3, 3), "float64")
    ty = theirs(torch.tensor(index))
    ty.backward(torch.tensor(g))

    def loss() -> tuple[st.Array, st.Array]:
        y = ours(index)
        return (y * g).sum(), y

    (_, y), (dw,) = st.gradients(loss, [ours.weight], has_aux=True)
    close(y, ty, "float64", "output")
    close(dw, theirs.weight.grad, "float64", "gradient")


def test_channels_first_layer_norm() -> None:
    class Theirs(tnn.LayerNorm):  # torchvision's
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    theirs = Theirs(5, eps=1e-6).double()
    with torch.no_grad():
        theirs.weight.normal_()
        theirs.bias.normal_()
    ours = nn.LayerNorm2d(5, dtype="float64")
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    compare(theirs, ours, numbers((2, 5, 3, 4), "float64"), "float64")


def test_squeeze_excite() -> None:
    class Theirs(tnn.Module):  # torchvision's SqueezeExcitation
        def __init__(self) -> None:
            super().__init__()
            self.avgpool = tnn.AdaptiveAvgPool2d(1)
            self.fc1 = tnn.Conv2d(6, 2, 1)
            self.fc2 = tnn.Conv2d(2, 6, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = self.fc2(torch.relu(self.fc1(self.avgpool(x))))
            return x * torch.sigmoid(scale)

    theirs, ours = Theirs().double(), nn.SqueezeExcite(6, 2, dtype="float64")
    assert list(theirs.state_dict()) == list(ours.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    compare(theirs, ours, numbers((2, 6, 3, 4), "float64"), "float64")


def test_containers_have_the_same_keys_and_repr() -> None:
    def build(m: Any) -> Any:
        class Block(m.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.extra = m.ModuleDict({"b": m.Linear(2, 2), "a": m.PReLU()})
                self.layers = m.ModuleList([m.Linear(3, 4), m.BatchNorm1d(4)])
                self.norm = m.GroupNorm(2, 4)

        return m.Sequential(Block(), m.Sequential(m.Conv2d(3, 8, 3, bias=False)), m.ReLU())

    theirs, ours = build(tnn), build(nn)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert [n for n, _ in theirs.named_modules()] == [n for n, _ in ours.named_modules()]
    assert [n for n, _ in theirs.named_parameters()] == [n for n, _ in ours.named_parameters()]
    assert repr(theirs) == repr(ours)


# ---- initialisers: the same distributions --------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("uniform_", {"a": -1.0, "b": 2.0}),
        ("normal_", {"mean": 1.0, "std": 0.5}),
        ("trunc_normal_", {"std": 0.5, "a": -0.4, "b": 0.9}),
        ("xavier_uniform_", {"gain": 2.0}),
        ("xavier_normal_", {}),
        ("kaiming_uniform_", {"a": 0.3}),
        ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ],
)
def test_initialiser_has_the_distribution(name: str, kwargs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    st.random.seed(0)
    shape = (64, 32, 5, 5)
    theirs = getattr(tnn.init, name)(torch.empty(shape), **kwargs).numpy().ravel()
    ours = getattr(nn.init, name)(nn.Parameter(st.zeros(shape)), **kwargs).numpy().ravel()
    spread = theirs.std()
    assert abs(ours.mean() - theirs.mean()) < 0.03 * spread
    at = np.linspace(0.005, 0.995, 50)  # where 0.15 is five standard errors of a normal
    np.testing.assert_allclose(
        np.quantile(ours, at), np.quantile(theirs, at), rtol=0, atol=0.15 * spread
    )


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d", "Linear"])
def test_default_initialisation_has_the_distribution(name: str) -> None:
    args = (64, 48) if name == "Linear" else (64, 48, 3)
    theirs, ours = getattr(tnn, name)(*args), getattr(nn, name)(*args)
    for key, value in theirs.state_dict().items():
        mine = ours.state_dict()[key].numpy()
        assert abs(mine.std() / value.numpy().std() - 1) < (0.05 if key == "weight" else 0.35)
        assert abs(np.abs(mine).max() / np.abs(value.numpy()).max() - 1) < 0.1


@pytest.mark.parametrize(("shape", "groups"), [((6, 4, 3), 1), ((6, 3, 3, 3), 2), ((4, 8, 5), 1)])
def test_dirac(shape: tuple[int, ...], groups: int) -> None:
    theirs = tnn.init.dirac_(torch.empty(shape), groups)
    close(nn.init.dirac_(nn.Parameter(st.ones(shape)), groups), theirs, "float32", "dirac")


@pytest.mark.parametrize("name", ["relu", "tanh", "selu", "linear", "sigmoid", "leaky_relu"])
def test_gain(name: str) -> None:
    assert nn.init.calculate_gain(name) == tnn.init.calculate_gain(name)
