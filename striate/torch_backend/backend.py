"""`torch.compile(model, backend="striate")`.

AOTAutograd gives the forward and the backward pass as functional graphs of ATen operators, with
mutation, aliasing and buffers outside of them; each becomes plans (`partition`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition

from striate.errors import StriateError
from striate.torch_backend.decompose import decompositions, whole_resizes
from striate.torch_backend.partition import Call, compiled


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
    with whole_resizes():
        return compiler(module, inputs)


def _parameters(inputs: Sequence[Any]) -> tuple[int, ...]:
    return tuple(i for i, x in enumerate(inputs) if isinstance(x, torch.nn.Parameter))


def _boxed(call: Call) -> Call:
    """`call`, marked as one that takes its arguments in a list and may empty it."""

    def run(given: list[Any]) -> list[Any]:
        return call(given)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run
