"""PyTorch's sample inputs of instance_norm, and what its norms and linear refuse.

`test_conv_opinfo` has the samples of the other norms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db

import striate as st
from striate import nn

BY_NAME = {op.name: op for op in op_db if not op.variant_test_name}
BY_RANK = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def test_instance_norm_samples() -> None:
    """Values, gradients and the running statistics that PyTorch leaves behind."""
    checked = 0
    for sample in BY_NAME["nn.functional.instance_norm"].sample_inputs("cpu", torch.float64):
        options = dict(sample.kwargs)
        x, weight, bias = sample.input, options.get("weight"), options.get("bias")
        if x.ndim not in BY_RANK:
            continue
        mean, var = options.get("running_mean"), options.get("running_var")
        momentum = options.get("momentum", 0.1)
        affine = weight is not None or bias is not None
        layer = BY_RANK[x.ndim](
            x.shape[1], options.get("eps", 1e-5), momentum, affine=affine,
            track_running_stats=mean is not None, dtype="float64",
        )  # fmt: skip
        if mean is not None:
            layer.running_mean.assign(mean.numpy())
            layer.running_var.assign(var.numpy())
        for name, value in (("weight", weight), ("bias", bias)):
            if value is not None:
                getattr(layer, name).assign(value.detach().numpy())
        layer.train(options.get("use_input_stats", True))
        for name in ("running_mean", "running_var"):
            if options.get(name) is not None:
                options[name] = options[name].clone()
        x = x.detach().requires_grad_()
        want = torch.nn.functional.instance_norm(x, **options)
        g = torch.linspace(-1, 1, want.numel(), dtype=torch.float64).reshape(want.shape)
        (dx,) = torch.autograd.grad(want, x, g)
        y, pull = st.vjp(layer, st.asarray(x.detach().numpy()))
        np.testing.assert_allclose(y.numpy(), want.detach().numpy(), rtol=1e-9, atol=1e-10)
        (mine,) = pull(st.asarray(g.numpy()))
        np.testing.assert_allclose(mine.numpy(), dx.numpy(), rtol=1e-8, atol=1e-9)
        if mean is not None:
            for name in ("running_mean", "running_var"):
                got = getattr(layer, name).numpy()
                np.testing.assert_allclose(got, options[name].numpy(), rtol=1e-9, atol=1e-12)
        checked += 1
    assert checked >= 6


def wrong_group_norm(x: Any, groups: int) -> st.Array:
    return nn.GroupNorm(groups, x.shape[1] if x.ndim > 1 else 1, affine=False)(x)


def wrong_layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None) -> st.Array:
    layer = nn.LayerNorm(shape, elementwise_affine=weight is not None)
    if weight is not None:
        layer.weight.assign(weight)
    return layer(x)


CALLS = {
    "nn.functional.group_norm": wrong_group_norm,
    "nn.functional.layer_norm": wrong_layer_norm,
    "nn.functional.linear": st.linear,
}


@pytest.mark.parametrize("name", [n for n in CALLS if BY_NAME[n].error_inputs_func])
def test_error_inputs(name: str) -> None:
    for wrong in BY_NAME[name].error_inputs("cpu"):
        sample = wrong.sample_input
        values = [
            st.asarray(v.detach().numpy()) if isinstance(v, torch.Tensor) else v
            for v in (sample.input, *sample.args)
        ]
        with pytest.raises(st.StriateError):
            CALLS[name](*values, **sample.kwargs).numpy()
