"""Into which operators PyTorch takes a model apart before striate sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch._decomp import core_aten_decompositions

from striate.torch_backend.aten_resize import RESIZES
from striate.torch_backend.tensors import inverse, memory_order
from striate.torch_backend.translate import hint

aten = torch.ops.aten

# Kept whole: their rules are better than their parts, or PyTorch runs them, so that its generator
# draws what it draws eagerly.
WHOLE = [
    aten.bernoulli.p,
    aten.bernoulli.default,
    aten.silu.default,
    aten.mish.default,
    aten.hardswish.default,
    aten.hardsigmoid.default,
    aten.masked_fill.Scalar,
    aten.masked_fill.Tensor,
    aten.addmm.default,
    aten.baddbmm.default,
    aten.reflection_pad1d.default,
    aten.reflection_pad2d.default,
    aten.reflection_pad3d.default,
    aten.reflection_pad1d_backward.default,
    aten.reflection_pad2d_backward.default,
    aten.reflection_pad3d_backward.default,
    aten.replication_pad1d.default,
    aten.replication_pad2d.default,
    aten.replication_pad3d.default,
    aten.avg_pool2d_backward.default,
    aten.roll.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,  # its parts have no backward pass
]


@cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's into its core operators, less those that are kept whole."""
    table = dict(core_aten_decompositions())
    for op in WHOLE:
        table.pop(op, None)
    for op in _resizes():
        table.pop(op, None)
    table[aten.native_dropout.default] = _dropout
    table[aten._native_batch_norm_legit_functional.default] = _batch_norm
    return table


def _batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    """(y, mean, 1 / sqrt(var + eps), running mean, running variance): in training, y without the
    buffers, so that a backward pass that computes it again does not need what they were.
    """
    if not training:
        return NotImplemented
    y, mean, scale = aten._native_batch_norm_legit.no_stats(x, weight, bias, True, momentum, eps)
    # the sum of squares that the first has, too, over n - 1
    var = aten.var.correction(x, [a for a in range(x.ndim) if a != 1], correction=1)
    return y, mean, scale, _moved(running_mean, mean, momentum), _moved(running_var, var, momentum)


def _moved(old: torch.Tensor, new: torch.Tensor, momentum: float) -> torch.Tensor:
    moved = old.to(new.dtype) * (1 - momentum) + new * momentum
    return moved.to(old.dtype)


def _dropout(x: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(y, mask): only the mask is drawn by PyTorch, before all else and in the order of the memory,
    as eagerly; the product is ours.
    """
    if train is False or p == 0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    order = memory_order([hint(n) for n in x.shape], [hint(n) for n in x.stride()])
    axes = tuple(range(x.ndim)) if order is None else order
    in_memory = torch.empty([x.shape[a] for a in axes], dtype=torch.bool, device=x.device)
    mask = aten.bernoulli.p(in_memory, 1 - p).permute(inverse(axes))
    return x * mask * (0.0 if p == 1 else 1 / (1 - p)), mask


def _resizes() -> list[Any]:
    names = [n for n in RESIZES if hasattr(aten, n)]
    return [getattr(getattr(aten, n), overload) for n in names for overload in ("default", "vec")]


@contextmanager
def whole_resizes() -> Iterator[None]:
    """A block in which PyTorch does not take resizes apart into gathers, as it does by itself when
    it traces derivatives, whatever the table says.
    """
    keys = (torch._C.DispatchKey.Autograd, torch._C.DispatchKey.CompositeImplicitAutograd)
    saved = [(op, dict(op.py_kernels)) for op in _resizes()]
    for op, kernels in saved:
        for key in keys:
            if key in kernels:
                del op.py_kernels[key]
        op._dispatch_cache.clear()
    try:
        yield
    finally:
        for op, kernels in saved:
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()
