"""conv and conv_transpose against PyTorch in float64: values, gradients, double gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import striate as st

EPS = float(np.finfo(np.float64).eps)
BATCHES = 20
PER_BATCH = 100  # times BATCHES: 2,000 configurations


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """One configuration that both accept."""
    nd = int(rng.integers(1, 4))
    transposed = bool(rng.integers(2))
    groups = int(rng.integers(1, 4))
    stride = [int(v) for v in rng.integers(1, 4, nd)]
    dilation = [int(v) for v in rng.integers(1, 3, nd)]
    padding = [int(v) for v in rng.integers(0, 3, nd)]
    kernel = [int(v) for v in rng.integers(1, 4, nd)]
    config: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    if transposed:
        config["output_padding"] = [
            int(rng.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True)
        ]
    least = [
        max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    sizes = [int(n + rng.integers(0, 4)) for n in least]
    if transposed:  # the output must not be empty
        sizes = [n + 2 * p for n, p in zip(sizes, padding, strict=True)]
    c, k = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    batch = int(rng.integers(0, 3))
    w = (c, k // groups, *kernel) if transposed else (k, c // groups, *kernel)
    return {
        "transposed": transposed,
        "x": (batch, c, *sizes),
        "w": w,
        "bias": (k,),
        "config": config | {"groups": groups},
    }


def check(case: dict[str, Any], rng: np.random.Generator) -> None:
    """Values, gradients by x, w and bias, and the gradient of a projection of those."""
    arrays = [rng.normal(size=case[name]) for name in ("x", "w", "bias")]
    nd = len(case["x"]) - 2
    kind = f"conv_transpose{nd}d" if case["transposed"] else f"conv{nd}d"
    ours = st.conv_transpose if case["transposed"] else st.conv
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    want = getattr(F, kind)(*tensors, **case["config"])
    g = rng.normal(size=tuple(want.shape))
    along = [rng.normal(size=a.shape) for a in arrays]
    first = torch.autograd.grad(want, tensors, torch.tensor(g), create_graph=True)
    projection = sum((d * torch.tensor(v)).sum() for d, v in zip(first, along, strict=True))
    second = torch.autograd.grad(projection, tensors, allow_unused=True)

    def pulled(x: st.Array, w: st.Array, b: st.Array) -> tuple[Any, ...]:
        _, pull = st.vjp(lambda *a: ours(*a, **case["config"]), x, w, b)
        return pull(st.asarray(g))

    def project(x: st.Array, w: st.Array, b: st.Array) -> st.Array:
        parts = [(d * v).sum() for d, v in zip(pulled(x, w, b), along, strict=True)]
        return parts[0] + parts[1] + parts[2]

    inputs = [st.asarray(a) for a in arrays]
    got = [ours(*inputs, **case["config"]), *pulled(*inputs)]
    got += list(st.grad(project, argnums=(0, 1, 2))(*inputs))
    terms = 4 * max(1, *(v.numel() for v in [*tensors, want]))  # at most this many in any sum
    for mine, theirs in zip(got, [want, *first, *second], strict=True):
        reference = np.zeros(mine.shape) if theirs is None else theirs.detach().numpy()
        assert mine.shape == reference.shape
        bound = 2 * EPS * (terms + 1) * 16  # |values| of a normal sample stay below 4
        np.testing.assert_allclose(mine.numpy(), reference, rtol=0, atol=bound)


@pytest.mark.parametrize("seed", range(BATCHES))
def test_random_configurations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for i in range(PER_BATCH):
        case = draw(rng)
        try:
            check(case, rng)
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {i}: {case}") from error
