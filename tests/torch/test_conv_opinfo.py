"""PyTorch's own sample and error inputs for convolutions, norms and linear layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db

import striate as st
from striate import nn

EPS = float(np.finfo(np.float64).eps)
DTYPE = torch.float64


def tensors(values: tuple[Any, ...]) -> list[torch.Tensor]:
    """Those among the arguments that are tensors."""
    return [v for v in values if isinstance(v, torch.Tensor)]


def convolution(transposed: bool, rank: int) -> Callable[..., st.Array]:
    names = ["bias", "stride", "padding"]
    names += ["output_padding", "groups", "dilation"] if transposed else ["dilation", "groups"]
    op = st.conv_transpose if transposed else st.conv

    def call(x: Any, w: Any, *rest: Any, **options: Any) -> st.Array:
        given = dict(zip(names, rest, strict=False)) | options
        if np.ndim(w) != rank + 2:
            raise st.ShapeError(f"w has {np.ndim(w)} axes")
        bias = given.pop("bias", None)
        return op(x, w, bias, **given)

    return call


def batch_norm(
    x: Any, mean: Any, var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> st.Array:  # fmt: skip
    net = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(np.ndim(x), nn.BatchNorm1d)
    layer = net(x.shape[1], eps=eps, momentum=momentum, affine=False).to("float64")
    if mean is not None:
        layer.running_mean.assign(st.asarray(mean))
        layer.running_var.assign(st.asarray(var))
    layer.train(training or mean is None)
    return scaled(layer(x), weight, bias, 1)


def scaled(y: st.Array, weight: Any, bias: Any, axis: int) -> st.Array:
    """y * weight + bias along a channel axis; the rest of what a norm layer does."""
    shape = [1] * y.ndim
    shape[axis] = -1
    if weight is not None:
        y = y * st.reshape(weight, shape)
    return y if bias is None else y + st.reshape(bias, shape)


def group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> st.Array:
    layer = nn.GroupNorm(groups, x.shape[1], eps=eps, affine=False)
    return scaled(layer(x), weight, bias, 1)


def layer_norm(
    x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> st.Array:
    y = nn.LayerNorm(tuple(shape), eps=eps, elementwise_affine=False)(x)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> st.Array:
    return nn.LocalResponseNorm(size, alpha, beta, k)(x)


OURS: dict[str, Callable[..., st.Array]] = {
    f"nn.functional.conv{d}d": convolution(False, d) for d in (1, 2, 3)
}
OURS |= {f"nn.functional.conv_transpose{d}d": convolution(True, d) for d in (1, 2, 3)}
OURS |= {
    "nn.functional.linear": st.linear,
    "nn.functional.batch_norm": batch_norm,
    "nn.functional.group_norm": group_norm,
    "nn.functional.layer_norm": layer_norm,
    "nn.functional.local_response_norm": local_response_norm,
}
INFOS = [op for op in op_db if op.name in OURS and not op.variant_test_name]

# Samples that PyTorch's function takes and ours does not, by what makes them special.
LEFT_OUT = {
    "nn.functional.linear": lambda args: args[1].ndim == 1,  # a vector as weights
    "nn.functional.batch_norm": lambda args: args[0].ndim < 2,  # no axis of channels
}


def ours(value: Any) -> Any:
    """Our array for a tensor; anything else as it is."""
    return st.asarray(value.detach().numpy()) if isinstance(value, torch.Tensor) else value


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("info", INFOS, ids=lambda i: i.name)
def test_sample_inputs(info: Any) -> None:
    function = OURS[info.name]
    checked = 0
    for sample in info.sample_inputs("cpu", DTYPE, requires_grad=True):
        args = (sample.input, *sample.args)
        if info.name in LEFT_OUT and LEFT_OUT[info.name](args):
            continue
        kwargs = dict(sample.kwargs)
        leaves = [
            v for v in (*args, *kwargs.values())
            if isinstance(v, torch.Tensor) and v.requires_grad
        ]  # fmt: skip
        buffers = {  # running statistics are written by PyTorch: give each side its own
            i: v.detach().clone() for i, v in enumerate(args)
            if isinstance(v, torch.Tensor) and not v.requires_grad
        }  # fmt: skip
        theirs = info.op(*(buffers.get(i, v) for i, v in enumerate(args)), **kwargs)
        g = torch.randn(theirs.shape, dtype=DTYPE, generator=torch.Generator().manual_seed(0))
        wanted = torch.autograd.grad(theirs, leaves, g, allow_unused=True) if theirs.numel() else []

        def run(*found: st.Array, sample: Any = sample, leaves: Any = leaves) -> Any:
            known = {id(t): a for t, a in zip(leaves, found, strict=True)}
            pick = [known.get(id(v), ours(v)) for v in (sample.input, *sample.args)]
            named = {k: known.get(id(v), ours(v)) for k, v in sample.kwargs.items()}
            return function(*pick, **named)

        y, pull = st.vjp(run, *(ours(t) for t in leaves))
        scale = max([1.0, *(float(t.detach().abs().max()) for t in leaves if t.numel())])
        scale = max(scale, float(g.abs().max()) if g.numel() else 1.0)
        terms = 1 + max([theirs.numel(), *(t.numel() for t in leaves)])
        bound = 2 * EPS * terms * scale * scale * 16
        np.testing.assert_allclose(y.numpy(), theirs.detach().numpy(), rtol=1e-9, atol=bound)
        found = pull(st.asarray(g.numpy())) if len(wanted) else []
        for mine, want, leaf in zip(found, wanted, leaves, strict=bool(len(wanted))):
            reference = np.zeros(leaf.shape) if want is None else want.numpy()
            np.testing.assert_allclose(mine.numpy(), reference, rtol=1e-8, atol=bound)
        checked += 1
    assert checked >= 3


# What PyTorch refuses and we accept, with the reason.
ACCEPTED = {
    "negative padding is not supported": "negative padding crops",
    "padding='same' is not supported for strided convolutions": "it gives ceil(I / stride) outputs",
}


@pytest.mark.parametrize(
    "info", [i for i in INFOS if i.error_inputs_func and "conv" in i.name], ids=lambda i: i.name
)
def test_error_inputs(info: Any) -> None:
    function = OURS[info.name]
    for wrong in info.error_inputs("cpu"):
        sample = wrong.sample_input
        call = f"{[tuple(v.shape) for v in tensors((sample.input, *sample.args))]} {sample.kwargs}"
        try:
            args = [ours(v) for v in (sample.input, *sample.args)]
            function(*args, **{k: ours(v) for k, v in sample.kwargs.items()}).numpy()
        except st.StriateError:
            continue
        assert any(key in wrong.error_regex for key in ACCEPTED), f"{call}: {wrong.error_regex}"
