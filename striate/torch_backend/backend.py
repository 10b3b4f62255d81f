"""`torch.compile(model, backend="striate")`.

AOTAutograd gives the forward and the backward pass as functional graphs of ATen operators, with
mutation, aliasing and buffers outside of them; each becomes plans (`partition`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import fx
from torch._decomp import core_aten_decompositions
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition

from striate.errors import StriateError
from striate.torch_backend.partition import Call, compiled
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
    table[aten.native_dropout.default] = _dropout
    return table


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


def backend(
    module: fx.GraphModule, inputs: Sequence[Any], *, options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """The compiler that `torch.compile(model, backend="striate")` calls.

    Inference and training on the CPU. Operators that striate does not have run in PyTorch between
    the compiled parts; the logger `striate.torch` names them.

    Args:
        module: the graph that Dynamo captured.
        inputs: its (fake) arguments.
        options: of `torch.compile`. `{"freeze": True}` promises that parameters do not change any
            more, so that what depends on them alone is computed once; for inference.

    Raises:
        StriateError: an unknown option.
    """
    given = options or {}
    unknown = set(given) - {"freeze"}
    if unknown:
        raise StriateError(
            f"torch.compile: striate has no option {min(unknown)!r}; it has 'freeze'"
        )
    frozen = _parameters(inputs) if given.get("freeze") else ()

    def forward(graph: fx.GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        return _boxed(compiled(graph))

    def inference(graph: fx.GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        return _boxed(compiled(graph, frozen))

    compiler: Callable[..., Callable[..., Any]] = aot_autograd(
        fw_compiler=forward,
        bw_compiler=forward,
        inference_compiler=inference,
        decompositions=decompositions(),
        partition_fn=min_cut_rematerialization_partition,
    )
    return compiler(module, inputs)


def _parameters(inputs: Sequence[Any]) -> tuple[int, ...]:
    return tuple(i for i, x in enumerate(inputs) if isinstance(x, torch.nn.Parameter))


def _boxed(call: Call) -> Call:
    """`call`, marked as one that takes its arguments in a list and may empty it."""

    def run(given: list[Any]) -> list[Any]:
        return call(given)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run
