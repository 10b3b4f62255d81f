"""Layers without PyTorch: shapes, statistics in eager and jitted training, dropout, errors."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn

rng = np.random.default_rng(0)


def numbers(*shape: int) -> Any:
    return rng.normal(size=shape).astype(np.float32)


# ---- shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv(4, 2, 3, 2, stride=2), (1, 2, 4, 4, 4, 4), (1, 3, 2, 2, 2, 2)),
        (nn.Conv(1, 2, 3, 3, padding="causal"), (1, 2, 9), (1, 3, 9)),
        (nn.Conv2d(2, 4, 4, 2, "same"), (0, 2, 9, 9), (0, 4, 5, 5)),
        (nn.Conv2d(2, 4, 3, padding=[(1, 2), (0, 0)]), (1, 2, 5, 5), (1, 4, 6, 3)),
        (nn.ConvTranspose(4, 3, 2, 2, stride=2), (1, 3, 2, 2, 2, 2), (1, 2, 4, 4, 4, 4)),
        (
            nn.ConvTranspose2d(3, 2, 3, padding=1, padding_mode="reflect"),
            (1, 3, 6, 6),
            (1, 2, 6, 6),
        ),
        (nn.SeparableConv2d(4, 8, 3, stride=2), (2, 4, 9, 9), (2, 8, 5, 5)),
        (nn.SeparableConv(3, 2, 4, channel_multiplier=3), (1, 2, 4, 4, 4), (1, 4, 4, 4, 4)),
        (nn.GlobalAvgPool(), (2, 3, 5, 7), (2, 3, 1, 1)),
        (nn.GlobalMaxPool(), (2, 3, 5), (2, 3, 1)),
        (nn.BatchNorm(3), (2, 3, 2, 2, 2, 2), (2, 3, 2, 2, 2, 2)),
        (nn.LayerNorm2d(3), (2, 3, 4), (2, 3, 4)),
        (nn.SqueezeExcite(4, 2), (2, 4, 3, 5), (2, 4, 3, 5)),
        (nn.Unflatten(-1, (2, -1)), (3, 8), (3, 2, 4)),
        (nn.Upsample(size=7, mode="linear"), (1, 2, 3, 4), (1, 2, 7, 7)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else None,
)
def test_shapes(layer: nn.Module, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert layer(st.ones(shape)).shape == expected


def test_separable_convolution_is_the_product_of_its_parts() -> None:
    layer = nn.SeparableConv2d(3, 5, 3, padding=1, bias=False)
    whole = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    depthwise, pointwise = layer.conv_dw.weight.numpy(), layer.conv_pw.weight.numpy()
    whole.load_state_dict({"weight": pointwise * depthwise.swapaxes(0, 1)})  # [k,c,1,1] [1,c,3,3]
    x = numbers(2, 3, 6, 5)
    np.testing.assert_allclose(layer(x).numpy(), whole(x).numpy(), rtol=1e-4, atol=1e-5)


def test_every_layer_takes_a_zero_batch() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.MaxPool2d(2), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 5),
    )  # fmt: skip
    assert net(st.zeros((0, 3, 8, 8))).shape == (0, 5)
    norm = net[1]
    assert norm.num_batches_tracked.item() == 0
    assert norm.running_mean.numpy().tolist() == [0] * 4


# ---- statistics ----------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("layer", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_running_statistics_are_the_same_eagerly_and_jitted(
    layer: Callable[..., nn.Module], momentum: float | None
) -> None:
    eager = layer(3, momentum=momentum, affine=True, track_running_stats=True)
    jitted = deepcopy(eager)
    run = st.jit(jitted.forward)
    for _ in range(3):
        x = 1 + 2 * numbers(4, 3, 5, 6)
        np.testing.assert_array_equal(eager(x).numpy(), run(x).numpy())
    for (name, a), (_, b) in zip(eager.named_buffers(), jitted.named_buffers(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)
    eager.eval(), jitted.eval()
    np.testing.assert_array_equal(eager(x).numpy(), run(x).numpy())


def test_batch_norm_updates_its_statistics_under_a_gradient() -> None:
    norm = nn.BatchNorm1d(2)
    x = numbers(8, 2)

    @st.jit
    def step(x: st.Array) -> Any:
        return st.gradients(lambda: st.sum(norm(x) ** 3), list(norm.parameters()))[1]

    step(x)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)
    assert norm.num_batches_tracked.item() == 1
    norm.reset_running_stats()
    assert norm.running_var.numpy().tolist() == [1, 1]
    assert norm.num_batches_tracked.item() == 0


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_normalisation_does_not_cancel(offset: float) -> None:
    x = (offset + rng.normal(size=(8, 4, 6, 6))).astype(np.float32)
    exact = x.astype(np.float64)
    exact -= exact.mean((0, 2, 3), keepdims=True)
    exact /= np.sqrt((exact**2).mean((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(nn.BatchNorm2d(4)(x).numpy(), exact, atol=2e-3 if offset else 1e-5)


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm([6, 6]), nn.LocalResponseNorm(3),
     nn.InstanceNorm2d(4, affine=True), nn.LayerNorm2d(4)],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_bfloat16_is_normalised_in_float32(layer: nn.Module) -> None:
    x = st.asarray(5 + numbers(8, 4, 6, 6)).astype("bfloat16")
    y = layer(x)
    assert y.dtype is st.bfloat16
    exact = layer(x.astype("float32")).numpy()
    rounded = st.asarray(exact).astype("bfloat16").astype("float32").numpy()
    np.testing.assert_array_equal(y.astype("float32").numpy(), rounded)


# ---- random layers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "shared"),
    [
        (nn.Dropout(0.25), (40, 50), ()),
        (nn.Dropout1d(0.25), (20, 30, 5), (2,)),
        (nn.Dropout2d(0.25), (20, 30, 3, 4), (2, 3)),
        (nn.Dropout2d(0.25), (600, 3, 4), (1, 2)),
        (nn.Dropout3d(0.25), (20, 30, 2, 3, 2), (2, 3, 4)),
        (nn.DropPath(0.25), (800, 3, 2), (1, 2)),
    ],
)
def test_dropout_drops_whole_maps_and_keeps_the_mean(
    layer: nn.Module, shape: tuple[int, ...], shared: tuple[int, ...]
) -> None:
    st.random.seed(3)
    x = st.ones(shape)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    if shared:
        assert (y.max(axis=shared) == y.min(axis=shared)).all()
    assert abs(y.mean() - 1) < 0.1
    assert (layer(x).numpy() != y).any()
    assert layer.eval()(x) is x
    layer.train()


def test_a_seed_builds_the_same_network_and_the_same_drops() -> None:
    def run() -> list[Any]:
        st.random.seed(11)
        net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 4))
        return [*(p.numpy() for p in net.parameters()), net(st.ones((5, 2, 6))).numpy()]

    first, second = run(), run()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0][0] != first[0][1]).any()
    st.random.seed(12)
    assert (nn.Conv1d(2, 3, 3).weight.numpy() != first[0]).any()


# ---- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=4), "in_channels 4 and out_channels 6 .* groups 4"),
        (lambda: nn.Conv2d(4, 6, 3, groups=0), "groups 0"),
        (lambda: nn.Conv2d(4, 6, 0), "Conv2d: kernel_size must be >= 1, got 0"),
        (lambda: nn.Conv2d(4, 6, 3, stride=0), "Conv2d: stride must be >= 1"),
        (lambda: nn.Conv2d(4, 6, (3, 3, 3)), "kernel_size has 3 values for 2 spatial axes"),
        (lambda: nn.Conv2d(4, 6, 3, padding="full"), "padding 'full' is not 'valid'"),
        (lambda: nn.Conv2d(4, 6, 3, padding_mode="wrap"), "padding_mode 'wrap' is not one of"),
        (lambda: nn.Conv2d(4, 6, 3)(st.ones((1, 3, 8, 8))), "Conv2d: wants 4 channels, got 3"),
        (lambda: nn.Conv2d(4, 6, 3)(st.ones((4, 8))), r"2 spatial axes, .*got f32\[4,8\]"),
        (lambda: nn.Conv1d(4, 6, 3)(st.ones((1, 4, 8, 8))), "1 spatial axes"),
        (lambda: nn.ConvTranspose2d(4, 6, 3, output_padding=2)(st.ones((1, 4, 8, 8))),
         "output_padding must be less than stride"),
        (lambda: nn.Linear(4, 2)(st.ones((3, 5))), r"x f32\[3,5\] and w f32\[2,4\]"),
        (lambda: nn.BatchNorm2d(4)(st.ones((2, 4))), "BatchNorm2d: wants x with 4 axes"),
        (lambda: nn.BatchNorm1d(4)(st.ones((2, 3))), "BatchNorm1d: wants 4 channels, got 3"),
        (lambda: nn.BatchNorm2d(4)(st.ones((1, 4, 1, 1))), "more than 1 value per channel"),
        (lambda: nn.InstanceNorm2d(4)(st.ones((2, 4, 1, 1))), "more than 1 spatial element"),
        (lambda: nn.GroupNorm(3, 4), "num_channels 4 must divide into num_groups 3"),
        (lambda: nn.GroupNorm(2, 4)(st.ones((2, 6, 3))), r"wants x \[N, 4, \*I\]"),
        (lambda: nn.LayerNorm(4)(st.ones((2, 3))), r"last axes are \(4,\)"),
        (lambda: nn.LocalResponseNorm(0), "size must be >= 1"),
        (lambda: nn.Dropout(1.5), "p must be in"),
        (lambda: nn.DropPath(-0.1), "drop_prob must be in"),
        (lambda: nn.Dropout2d(0.5)(st.ones((2, 3))), "Dropout2d: wants x with 3 or 4 axes"),
        (lambda: nn.MaxPool2d(2)(st.ones((3, 4))), "max_pool"),
        (lambda: nn.ZeroPad2d((1, 2)), "wants 4 widths, got 2"),
        (lambda: nn.ReflectionPad1d(9)(st.ones((1, 2, 4))), "reflect padding"),
        (nn.Softmax, "say along which axis"),
        (nn.Upsample, "one of size and scale_factor"),
        (lambda: nn.Upsample(3, 2.0), "one of size and scale_factor"),
        (lambda: nn.PReLU(3)(st.ones((2, 4))), "prelu"),
        (lambda: nn.init.kaiming_normal_(nn.Parameter(st.ones(3))), "two axes or more"),
        (lambda: nn.init.kaiming_normal_(nn.Parameter(st.ones((3, 3))), mode="in"), "mode 'in'"),  # type: ignore[arg-type]
        (lambda: nn.init.calculate_gain("rely"), "'rely' is not one of"),
        (lambda: nn.init.trunc_normal_(nn.Parameter(st.ones(3)), std=0.1), ""),
    ],
)  # fmt: skip
def test_errors(make: Callable[[], Any], message: str) -> None:
    if not message:  # legal: the interval is 20 standard deviations wide
        assert make().shape == (3,)
        return
    with pytest.raises(st.ShapeError, match=message):
        make()


# ---- initialisers --------------------------------------------------------------------------


def test_seeded_initialisers_repeat() -> None:
    for fill in (nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, nn.init.orthogonal_):
        a, b, c = (fill(nn.Parameter(st.zeros((4, 5))), seed=s).numpy() for s in (1, 1, 2))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 2, 3, 3), (8, 2, 2)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = nn.init.orthogonal_(nn.Parameter(st.zeros(shape, "float64")), 2.0).numpy()
    m = w.reshape(shape[0], -1)
    gram = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_dirac_is_the_identity() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    nn.init.dirac_(conv.weight, groups=2)
    x = numbers(2, 4, 5, 5)
    np.testing.assert_array_equal(conv(x).numpy(), x)


def test_truncated_normal_stays_inside() -> None:
    w = nn.init.trunc_normal_(nn.Parameter(st.zeros(10_000)), std=2.0, a=-1.0, b=0.5).numpy()
    assert -1 <= w.min() < -0.99
    assert 0.49 < w.max() <= 0.5
