"""What an optimizer refuses, what it gives out, and how its hyper-parameters are changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, optim


def test_a_rate_that_is_set_takes_effect_in_a_compiled_step() -> None:
    w = st.asarray([1.0])
    optimizer = optim.SGD([w], lr=1.0, weight_decay=0.0)
    traces = []

    @st.jit
    def step(g: st.Array) -> None:
        traces.append(1)
        optimizer.update([g])

    step(st.ones(1))
    optimizer.param_groups[0]["lr"] = 0.5
    step(st.ones(1))
    assert w.item() == -0.5 and len(traces) == 1
    optimizer.param_groups[0].update(weight_decay=1.0)
    step(st.ones(1))
    assert w.item() == -0.75 and len(traces) == 2


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("lr", -1.0, "lr must be in"),
        ("rate", 1.0, "'rate' cannot be set"),
        ("params", [], "'params' cannot be set"),
    ],
)
def test_groups_refuse(name: str, value: object, match: str) -> None:
    group = optim.SGD([st.ones(1)], lr=0.5).param_groups[0]
    with pytest.raises(st.ShapeError, match=match):
        group[name] = value
    with pytest.raises(st.ShapeError, match="cannot be deleted"):
        del group["lr"]
    assert float(group["lr"]) == 0.5 and len(group) == 6 and "lr" in repr(group)


@pytest.mark.parametrize(
    ("grad", "error", "match"),
    [
        (st.ones(2), st.ShapeError, r"parameter 1 is f32\[3\], its gradient f32\[2\]"),
        (st.ones((), dtype="float32"), st.ShapeError, r"f32\[3\], its gradient f32\[\]"),
        (st.ones(3, dtype="float64"), st.DTypeError, r"f32\[3\], its gradient f64\[3\]"),
    ],
)
def test_a_gradient_has_the_type_of_its_parameter(grad: Any, error: Any, match: str) -> None:
    params = [st.ones(1), st.ones(3)]
    optimizer = optim.Adam(params)
    with pytest.raises(error, match=match):
        optimizer.update([st.ones(1), grad])
    assert params[0].item() == 1 and optimizer.state[0]["step"].item() == 0


def test_parameters_are_floating_arrays() -> None:
    with pytest.raises(st.DTypeError, match=r"SGD: parameter 1 must be .* got i64\[2\]"):
        optim.SGD([st.ones(2), st.asarray([1, 2], "int64")])
    with pytest.raises(st.DTypeError, match="got ndarray"):
        optim.SGD([np.ones(2)])  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "dampening": 0.1}])
def test_nesterov_needs_momentum_and_no_dampening(options: dict[str, Any]) -> None:
    with pytest.raises(st.ShapeError, match="nesterov needs momentum > 0 and dampening = 0"):
        optim.SGD([st.ones(1)], nesterov=True, **options)


def test_clippers_pass_none_through_and_check_their_limits() -> None:
    grads = [None, st.asarray([3.0, -4.0]), None]
    clipped, norm = optim.clip_grad_norm(grads, 10.0)
    assert norm.item() == 5 and clipped[0] is clipped[2] is None and clipped[1] is not None
    limited = optim.clip_grad_value(grads, 3.5)
    assert limited[0] is None and limited[1] is not None
    np.testing.assert_array_equal(limited[1].numpy(), [3.0, -3.5])
    assert optim.clip_grad_norm([None], 1.0)[1].item() == 0
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(st.ShapeError, match="max_norm must be > 0"):
            optim.clip_grad_norm(grads, bad)
    for bad in (-1.0, float("nan")):
        with pytest.raises(st.ShapeError, match="limit must be >= 0"):
            optim.clip_grad_value(grads, bad)


def test_state_is_a_snapshot_in_a_fixed_order() -> None:
    w = st.asarray([1.0, 2.0])
    optimizer, ema = optim.Adam([w], lr=0.1), optim.EMA([w], 0.5)

    def step() -> None:
        optimizer.update([st.ones(2)])
        ema.update()

    step()
    state, shadow = optimizer.state_dict(), ema.state_dict()
    before = {k: v.numpy().copy() for k, v in {**state, **shadow}.items()}
    assert list(state)[:3] == ["lr.0", "state.0.step", "state.0.exp_avg"]
    step()
    optimizer.lr = 0.5
    st.jit(step)()
    for k, v in {**state, **shadow}.items():
        np.testing.assert_array_equal(v.numpy(), before[k])
    optimizer.load_state_dict(state)
    ema.load_state_dict(shadow)
    assert optimizer.lr == 0.1 and optimizer.state[0]["step"].item() == 1
    np.testing.assert_array_equal(ema.shadow[0].numpy(), before["shadow.0"])


@pytest.mark.parametrize("compiled", [False, True])
def test_ema_of_a_module_averages_weights_and_copies_buffers(compiled: bool) -> None:
    net = nn.BatchNorm1d(2, momentum=0.5)
    weight, mean = net.weight, net.running_mean
    assert weight is not None and mean is not None
    ema = optim.EMA(net, 0.75)
    x = st.asarray(np.array([[0, 4], [2, 8]], np.float32))

    def step() -> None:
        net(x)
        weight.assign(weight + 4)
        ema.update()

    (st.jit(step) if compiled else step)()
    np.testing.assert_array_equal(mean.numpy(), [0.5, 3.0])
    mean.assign(st.zeros(2))
    ema.swap()
    np.testing.assert_array_equal(weight.numpy(), [2, 2])
    np.testing.assert_array_equal(mean.numpy(), [0.5, 3.0])
    assert net.num_batches_tracked.item() == 1
    ema.swap()
    np.testing.assert_array_equal(weight.numpy(), [5, 5])
    np.testing.assert_array_equal(mean.numpy(), [0, 0])
    with pytest.raises(st.DTypeError, match=r"EMA: array 0 must be .* got i64"):
        optim.EMA([st.asarray([1], "int64")])
