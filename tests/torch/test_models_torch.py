"""Networks beside torchvision's with the same weights, and beside twins of those it lacks.

The reference is PyTorch in float64; the bound is the error of PyTorch's own float32, times what two
ways of rounding may differ by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

import striate as st
from striate import nn
from striate.models import MODELS
from tests.models.reference import CLASSES, OUTPUTS, image, weights, without_drops

FACTOR = 30  # normalisation by a deviation over few values enlarges errors, by chance
EPS = float(np.finfo(np.float32).eps)


def logits(y: Any) -> Any:
    return y[0] if isinstance(y, tuple) else y


def same_outputs(net: nn.Module, twin: torch.nn.Module, x: NDArray[np.float64]) -> None:
    """In both modes; the running statistics too."""
    without_drops(net)
    state = weights({key: value.shape for key, value in net.state_dict().items()})
    singles = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in state.items()}
    net.load_state_dict(singles)
    twin.load_state_dict({k: torch.tensor(v) for k, v in singles.items()})
    single = x.astype(np.float32)
    for training in (False, True):
        net.train(training)
        without_drops(twin).train(training)
        outputs = []
        for dtype in (torch.float32, torch.float64):
            twin.to(dtype).load_state_dict({k: torch.tensor(v) for k, v in singles.items()})
            with torch.no_grad():
                outputs.append(logits(twin(torch.tensor(single).to(dtype))).double().numpy())
        theirs, want = outputs
        got = logits(net(single)).numpy()
        bound = FACTOR * (np.abs(theirs - want).max() + EPS * np.abs(want).max())
        np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=f"training {training}")
    buffers = dict(twin.named_buffers())
    for key, value in net.named_buffers():
        want = buffers[key].numpy()
        scale = np.abs(want).max() + 1
        np.testing.assert_allclose(value.numpy(), want, rtol=0, atol=1e-3 * scale, err_msg=key)


def torchvision_models() -> Any:
    """The module, or a skip with the reason."""
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:  # the latter beside a PyTorch of another build
        pytest.skip(f"torchvision cannot be imported here: {error}")
    return torchvision.models


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.filterwarnings("ignore")
def test_torchvision(name: str) -> None:
    models = torchvision_models()
    make = getattr(models, name, None) or getattr(models.video, name)
    with nn.init.skip():
        net = MODELS[name](num_classes=CLASSES)
    same_outputs(net, make(num_classes=CLASSES), image(OUTPUTS[name]))


# ---- twins ---------------------------------------------------------------------------------


class TorchLeNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = torch.nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = torch.nn.Linear(400, 120), torch.nn.Linear(120, 84)
        self.fc3 = torch.nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class TorchTCN(torch.nn.Module):
    """One block that changes the channels and one that does not, with PyTorch's weight norm."""

    def __init__(self) -> None:
        super().__init__()
        blocks = []
        for c, k, dilation in ((2, 5, 1), (5, 5, 2)):
            block = torch.nn.Module()
            block.conv1, block.conv2 = (
                torch.nn.utils.weight_norm(torch.nn.Conv1d(a, k, 3, dilation=dilation))
                for a in (c, k)
            )
            block.downsample = torch.nn.Conv1d(c, k, 1) if c != k else None
            block.reach = 2 * dilation
            blocks.append(block)
        self.network = torch.nn.ModuleList(blocks)
        self.linear = torch.nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.network:
            y = x
            for conv in (block.conv1, block.conv2):
                y = F.relu(conv(F.pad(y, (block.reach, 0))))
            x = F.relu(y + (x if block.downsample is None else block.downsample(x)))
        return self.linear(x.transpose(1, 2)).transpose(1, 2)


class TorchWaveNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        conv, many = torch.nn.Conv1d, torch.nn.ModuleList
        self.dilations = (1, 2, 1, 2)
        self.residual_convs = many(conv(3, 4, 1, bias=False) for _ in self.dilations)
        self.skip_convs = many(conv(3, 5, 1, bias=False) for _ in self.dilations)
        self.start_conv = conv(1, 4, 1, bias=False)
        self.end_conv_1, self.end_conv_2 = conv(5, 6, 1), conv(6, 7, 1)
        self.filter_convs, self.gate_convs = (
            many(conv(4, 3, 2, dilation=d, bias=False) for d in self.dilations) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, total = self.start_conv(x), 0
        for i, d in enumerate(self.dilations):
            past = F.pad(x, (d, 0))
            gated = torch.tanh(self.filter_convs[i](past)) * self.gate_convs[i](past).sigmoid()
            total = total + self.skip_convs[i](gated)
            x = x + self.residual_convs[i](gated)
        return self.end_conv_2(F.relu(self.end_conv_1(F.relu(total))))


class TorchUNet(torch.nn.Module):
    """Two levels below the first."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        kinds = ("Conv", "BatchNorm", "MaxPool", "ConvTranspose")
        conv, norm, pool, up = (getattr(torch.nn, f"{kind}{ndim}d") for kind in kinds)

        def level(c: int, k: int, name: str) -> torch.nn.Sequential:
            net = torch.nn.Sequential()
            for i in (1, 2):
                net.add_module(f"{name}conv{i}", conv(c, k, 3, padding=1, bias=False))
                net.add_module(f"{name}norm{i}", norm(k))
                net.add_module(f"{name}relu{i}", torch.nn.ReLU())
                c = k
            return net

        self.pool = pool(2)
        self.encoder1, self.encoder2 = level(2, 4, "enc1"), level(4, 8, "enc2")
        self.bottleneck = level(8, 16, "bottleneck")
        self.upconv2, self.decoder2 = up(16, 8, 2, 2), level(16, 8, "dec2")
        self.upconv1, self.decoder1 = up(8, 4, 2, 2), level(8, 4, "dec1")
        self.conv = conv(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.encoder1(x)
        two = self.encoder2(self.pool(one))
        x = self.bottleneck(self.pool(two))
        x = self.decoder2(torch.cat([self.upconv2(x), two], 1))
        return self.conv(self.decoder1(torch.cat([self.upconv1(x), one], 1)))


class TorchDnCNN(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        conv = torch.nn.Conv2d
        self.model = torch.nn.Sequential(
            conv(1, 8, 3, padding=1), torch.nn.ReLU(),
            conv(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8, 1e-4, 0.9), torch.nn.ReLU(),
            conv(8, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.model(x)


class TorchESPCN(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = ((1, 64, 5), (64, 64, 3), (64, 32, 3), (32, 4, 3))
        for i, (c, k, size) in enumerate(widths, start=1):
            setattr(self, f"conv{i}", torch.nn.Conv2d(c, k, size, padding=size // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))
        return F.pixel_shuffle(self.conv4(x), 2)


UNET = {"num_classes": 3, "in_channels": 2, "init_features": 4, "depth": 2}
WAVENET = {
    "num_classes": 7, "layers": 2, "blocks": 2, "residual_channels": 4, "dilation_channels": 3,
    "skip_channels": 5, "end_channels": 6,
}  # fmt: skip
TWINS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], tuple[int, ...]]] = {
    "lenet": (st.models.lenet, TorchLeNet, (2, 1, 28, 28)),
    "tcn": (lambda: st.models.tcn(3, 2, (5, 5), kernel_size=3), TorchTCN, (2, 2, 17)),
    "wavenet": (lambda: st.models.wavenet(**WAVENET), TorchWaveNet, (2, 1, 19)),
    "unet2d": (lambda: st.models.unet2d(**UNET), lambda: TorchUNet(2), (2, 2, 12, 8)),
    "unet3d": (lambda: st.models.unet3d(**UNET), lambda: TorchUNet(3), (2, 2, 8, 4, 8)),
    "dncnn": (lambda: st.models.dncnn(depth=3, width=8), TorchDnCNN, (2, 1, 9, 11)),
    "espcn": (lambda: st.models.espcn(2), TorchESPCN, (2, 1, 9, 11)),
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_twin(name: str) -> None:
    make, twin, shape = TWINS[name]
    peer = twin()
    net = make()
    mine = {(k, v.shape) for k, v in net.state_dict().items()}
    assert mine == {(k, tuple(v.shape)) for k, v in peer.state_dict().items()}
    with st.config(backend="numpy"):  # it is about the networks, and compiles nothing
        same_outputs(net, peer, image(shape))


def test_initial_values_follow_torchvision() -> None:
    """Mean and deviation of every large weight, and every value that is not drawn."""
    models = torchvision_models()
    for name in ("mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "regnet_y_400mf"):
        net, peer = MODELS[name](), getattr(models, name)()
        want = {k: v.numpy() for k, v in peer.state_dict().items()}
        for key, value in net.state_dict().items():
            x, y = value.numpy(), want[key]
            if y.std() == 0:
                np.testing.assert_array_equal(x, y, err_msg=key)
            elif y.size > 2000:  # a deviation is known to 1 / sqrt(2 n) of itself; six of those
                near = 6 * np.sqrt(2) * y.std() / np.sqrt(2 * y.size)
                assert abs(x.std() - y.std()) < near, (name, key)
                assert abs(x.mean() - y.mean()) < 6 * np.sqrt(2) * y.std() / np.sqrt(y.size)
