"""Pools against PyTorch in float64: random configurations to second order, and OpInfo's samples.

In the random ones the loss is sum(sin(y) * g), so that second derivatives of max pooling are not
zero; what is compared is y, its gradient by x, and the gradients by x and g of a projection of it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing._internal.common_methods_invocations import op_db

import striate as st

KINDS = ("max", "avg", "lp", "adaptive_avg", "adaptive_max")
BATCHES, PER_BATCH = 8, 100

Pair = tuple[Callable[[Any], Any], Callable[[Any], Any], tuple[int, ...]]  # ours, theirs, x.shape


# ---- random configurations -----------------------------------------------------------------


def draw(rng: np.random.Generator, kind: str) -> Pair:
    """One configuration that PyTorch accepts: how to call it on both sides."""
    rank = int(rng.integers(1, 4))
    lead = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    theirs = getattr(F, f"{kind}_pool{rank}d")
    if kind.startswith("adaptive"):
        outs = tuple(int(v) for v in rng.integers(1, 7, rank))
        adaptive: Any = st.adaptive_avg_pool if kind == "adaptive_avg" else st.adaptive_max_pool
        shape = (*lead, *(int(v) for v in rng.integers(1, 7, rank)))
        return lambda x: adaptive(x, outs), lambda x: theirs(x, outs), shape
    window = tuple(int(v) for v in rng.integers(1, 4, rank))
    stride = tuple(int(v) for v in rng.integers(1, 4, rank))
    dilation = tuple(int(v) for v in rng.integers(1, 3, rank)) if kind == "max" else (1,) * rank
    extent = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    half = [k // 2 if kind != "lp" else 0 for k in window]
    padding = tuple(int(rng.integers(0, h + 1)) for h in half)
    # PyTorch wants a window of avg_pool3d within the unpadded input, and does not refuse windows
    # of max_pool that hold only padding, which there are none of with d elements or more.
    sizes = [
        max(e - 2 * p, d if kind == "max" else k) + int(rng.integers(0, 4))
        for e, p, d, k in zip(extent, padding, dilation, window, strict=True)
    ]
    options: dict[str, Any] = {"stride": stride, "ceil_mode": bool(rng.integers(2))}
    shape = (*lead, *sizes)
    if kind == "lp":
        norm = float(rng.choice([1.0, 2.0, 3.0, 0.5, 2.5, inf]))
        one = options | {"stride": stride[0]} if rank == 1 else options
        size = window[0] if rank == 1 else window
        return (
            lambda x: st.lp_pool(st.abs(x) + 0.1, norm, window, **options),
            lambda x: theirs(x.abs() + 0.1, norm, size, **one),
            shape,
        )
    options["padding"] = padding
    ours: Any
    if kind == "max":
        options["dilation"] = dilation
        ours = st.max_pool
    else:
        options["count_include_pad"] = bool(rng.integers(2))
        if rank > 1 and rng.integers(3) == 0:
            options["divisor_override"] = int(rng.integers(1, 9))
        ours = st.avg_pool
    return lambda x: ours(x, window, **options), lambda x: theirs(x, window, **options), shape


def check(pair: Pair, rng: np.random.Generator, ties: bool) -> None:
    ours, theirs, shape = pair
    x = rng.integers(-2, 3, shape).astype(np.float64) if ties else rng.normal(size=shape)
    along = rng.normal(size=shape)
    tx = torch.tensor(x, requires_grad=True)
    want = theirs(tx)
    g = rng.normal(size=tuple(want.shape))
    tg = torch.tensor(g, requires_grad=True)
    (slope,) = torch.autograd.grad((want.sin() * tg).sum(), tx, create_graph=True)
    second = torch.autograd.grad((slope * torch.tensor(along)).sum(), (tx, tg))

    def gradient(x: Any, g: Any) -> Any:
        return st.grad(lambda x: (st.sin(ours(x)) * g).sum())(x)

    got = [ours(x), gradient(x, g)]
    got += list(st.grad(lambda x, g: (gradient(x, g) * along).sum(), argnums=(0, 1))(x, g))
    for mine, reference in zip(got, [want, slope, *second], strict=True):
        assert mine.shape == tuple(reference.shape)
        np.testing.assert_allclose(mine, reference.detach(), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("seed", range(BATCHES))
def test_random_configurations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for i in range(PER_BATCH):
        kind = KINDS[i % len(KINDS)]
        pair = draw(rng, kind)
        ties = kind == "max" and bool(rng.integers(2))
        try:
            check(pair, rng, ties)
        except Exception as error:
            cells = [c.cell_contents for c in pair[0].__closure__ or ()]
            raise AssertionError(f"seed {seed}, case {i}: {kind} of {pair[2]}: {cells}") from error


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_indices(rank: int) -> None:
    """The first of equal elements, whatever the padding, dilation and size of the output."""
    rng = np.random.default_rng(rank)
    for _ in range(60):
        x = rng.integers(-2, 3, (2, 2, *rng.integers(3, 7, rank))).astype(np.float64)
        outs = tuple(int(v) for v in rng.integers(1, 8, rank))
        dilation, padding = int(rng.integers(1, 3)), int(rng.integers(0, 2))
        options: dict[str, Any] = {
            "stride": int(rng.integers(1, 3)),
            "padding": padding,
            "dilation": dilation,
        }
        pairs = [
            (
                st.max_pool(x, 2, return_indices=True, **options),
                getattr(F, f"max_pool{rank}d")(torch.tensor(x), 2, return_indices=True, **options),
            ),
            (
                st.adaptive_max_pool(x, outs, return_indices=True),
                getattr(F, f"adaptive_max_pool{rank}d")(torch.tensor(x), outs, True),
            ),
        ]
        for mine, theirs in pairs:
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(a, b)


# ---- OpInfo --------------------------------------------------------------------------------

NAMES = {
    "adaptive_avg_pool": ["output_size"],
    "adaptive_max_pool": ["output_size", "return_indices"],
    "avg_pool": [
        *("kernel_size", "stride", "padding", "ceil_mode"),
        *("count_include_pad", "divisor_override"),
    ],
    "max_pool": [
        *("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    ],
    "max_unpool": ["indices", "kernel_size", "stride", "padding", "output_size"],
}
POOLS = [
    op
    for op in op_db
    if op.name.removeprefix("nn.functional.")[:-2] in NAMES and op.variant_test_name != "grad"
]
MOST = 60  # samples of one op; they are thinned out evenly

# Calls that PyTorch refuses and striate accepts: (op, shape of x, part of the call) -> why.
ACCEPTED = {
    ("avg_pool1d", (0, 1, 49), "'padding': -1"): "negative padding crops",
    ("max_pool1d", (0, 1, 49), "'padding': -1"): "negative padding crops",
    ("max_pool1d", (0, 1, 49), "'padding': 3"): "less than the extent 5, and no window is empty",
    ("max_pool1d", (0, 10), "'kernel_size': 1"): "no channels, nothing to do",
    ("max_pool3d", (0, 1, 2, 10), "'kernel_size': 1"): "no channels, nothing to do",
}


def ids(op: Any) -> str:
    return str(op.name.removeprefix("nn.functional."))


def call_ours(name: str, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call of F.<name> with these arguments, said to striate."""
    kind, rank = name[:-2], int(name[-2])

    def each(value: Any) -> Any:  # a tuple says the rank
        if value is None or isinstance(value, int):
            return (value,) * rank
        return tuple(value) * rank if len(value) == 1 else tuple(value)

    given = dict(zip(NAMES[kind], args, strict=False)) | kwargs
    if kind.startswith("adaptive"):
        return getattr(st, kind)(x, each(given.pop("output_size")), **given)
    given["window"] = each(given.pop("kernel_size"))
    if given.get("stride") == ():  # PyTorch's other way to say None
        given["stride"] = None
    if kind == "max_unpool":
        given["indices"] = given["indices"].numpy()
    return getattr(st, kind)(x, **given)


@pytest.mark.parametrize("op", POOLS, ids=ids)
def test_opinfo_samples(op: Any) -> None:
    name = ids(op)
    samples = list(op.sample_inputs("cpu", torch.float64, requires_grad=True))
    rng = np.random.default_rng(0)
    for sample in samples[:: -(-len(samples) // MOST)]:
        tx = sample.input
        want = op(tx, *sample.args, **sample.kwargs)
        want, want_index = want if isinstance(want, tuple) else (want, None)
        x = st.asarray(tx.detach().numpy())

        def ours(x: Any, sample: Any = sample) -> Any:
            y = call_ours(name, x, sample.args, sample.kwargs)
            return y[0] if isinstance(y, tuple) else y

        y = call_ours(name, x, sample.args, sample.kwargs)
        if want_index is not None:
            np.testing.assert_array_equal(y[1], want_index)
            y = y[0]
        assert y.shape == tuple(want.shape), sample
        np.testing.assert_allclose(y, want.detach(), rtol=1e-12, atol=1e-12)
        if "unpool" in name:  # of equal indices we give the slope to one, PyTorch to all
            flat = sample.args[0].flatten(2).sort().values
            if bool((flat[..., 1:] == flat[..., :-1]).any()):
                continue
        g = rng.normal(size=y.shape)
        (slope,) = torch.autograd.grad((want * torch.tensor(g)).sum(), tx)
        got = st.grad(lambda x, ours=ours, g=g: (ours(x) * g).sum())(x)
        np.testing.assert_allclose(got, slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", [op for op in POOLS if op.error_inputs_func], ids=ids)
def test_opinfo_error_inputs(op: Any) -> None:
    name, count = ids(op), 0
    for error in op.error_inputs("cpu"):
        sample = error.sample_input
        x, count = sample.input.detach(), count + 1
        with pytest.raises(error.error_type):
            op(x, *sample.args, **sample.kwargs)
        said = f"{sample.args} {sample.kwargs}"
        why = [
            reason
            for (op_name, shape, part), reason in ACCEPTED.items()
            if (op_name, shape) == (name, tuple(x.shape)) and part in said
        ]
        if why:
            call_ours(name, x.numpy(), sample.args, sample.kwargs)
            continue
        with pytest.raises((st.ShapeError, st.DTypeError), match=name[:-2]):
            call_ours(name, x.numpy(), sample.args, sample.kwargs)
    assert count
