"""Convolutions against PyTorch in all that `test_conv_random_torch` leaves out: padding strings and
modes, uneven padding, no batch axis, depthwise, channels last; float32; bfloat16.

PyTorch pads first (F.pad) and convolves then, so each of its padding modes is written out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import striate as st

SEEDS, PER_SEED = 12, 180
EPS = {np.dtype("f4"): 2.0**-24, np.dtype("f8"): 2.0**-53}
MODES = ["zeros", "reflect", "replicate", "circular"]


class Case(NamedTuple):
    """One configuration: shapes with a batch axis, our options, and (lo, hi) per axis."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    options: dict[str, Any]
    pads: list[tuple[int, int]]
    single: bool
    last: bool


def draw(rng: np.random.Generator) -> Case:
    rank = int(rng.integers(1, 4))
    depthwise = rng.random() < 0.3
    groups = int(rng.integers(1, 4))
    c = groups if depthwise else groups * int(rng.integers(1, 3))
    k = groups * int(rng.integers(1, 3))
    kernel = [int(v) for v in rng.integers(1, 5 - (rank == 3), rank)]
    stride = [int(v) for v in rng.integers(1, 4, rank)]
    dilation = [int(v) for v in rng.integers(1, 3, rank)]
    sizes = [int(n) for n in rng.integers(4, 8 - (rank == 3), rank)]
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    mode = str(rng.choice(MODES))
    form = rng.choice(["string", "pairs", "ints"])
    if form == "string":
        padding: Any = str(rng.choice(["same", "same_lower", "valid", "causal"]))
        pads = written_out(padding, sizes, extents, stride)
    elif form == "pairs":
        pads = [(int(a), int(b)) for a, b in rng.integers(-1, 4, (rank, 2))]
        padding = pads
    else:
        padding = [int(p) for p in rng.integers(0, 4, rank)]
        pads = [(p, p) for p in padding]
    sizes = [
        max(n, e - lo - hi, lo + 1, hi + 1, 1 - lo - hi)
        for n, e, (lo, hi) in zip(sizes, extents, pads, strict=True)
    ]
    if form == "string":
        pads = written_out(padding, sizes, extents, stride)
    options = {
        "stride": tuple(stride), "padding": padding, "dilation": tuple(dilation),
        "groups": groups, "padding_mode": mode,
    }  # fmt: skip
    batch = int(rng.integers(0, 3))
    single = bool(rng.random() < 0.2)
    return Case(
        (1 if single else batch, c, *sizes), (k, c // groups, *kernel), options, pads,
        single, bool(rng.random() < 0.25),
    )  # fmt: skip


def written_out(
    name: str, sizes: list[int], extents: list[int], stride: list[int]
) -> list[tuple[int, int]]:
    """(lo, hi) per axis of a padding string, as TensorFlow and ONNX define it."""
    pads = []
    for n, e, s in zip(sizes, extents, stride, strict=True):
        total = max(0, (-(-n // s) - 1) * s + e - n)
        pads.append(
            {
                "valid": (0, 0),
                "causal": (e - 1, 0),
                "same": (total // 2, total - total // 2),
                "same_lower": (total - total // 2, total // 2),
            }[name]
        )
    return pads


def padded(x: torch.Tensor, pads: list[tuple[int, int]], mode: str) -> torch.Tensor:
    """What the convolution reads: each axis padded by the mode, then cropped."""
    for axis, (lo, hi) in enumerate(pads):
        n = x.shape[2 + axis]
        at = torch.arange(-max(lo, 0), n + max(hi, 0))
        if mode == "zeros":
            inside = ((at >= 0) & (at < n)).to(x.dtype)
            x = x.index_select(2 + axis, at.clamp(0, n - 1))
            x = x * inside.reshape([-1 if a == 2 + axis else 1 for a in range(x.ndim)])
        else:
            at = {
                "reflect": (n - 1) - ((n - 1) - at.abs()).abs(),
                "replicate": at.clamp(0, n - 1),
                "circular": at % n,
            }[mode]
            x = x.index_select(2 + axis, at)
        x = x.narrow(2 + axis, max(-lo, 0), len(at) - max(-lo, 0) - max(-hi, 0))
    return x


def laid_out(x: np.ndarray[Any, Any], case: Case) -> np.ndarray[Any, Any]:
    """A value [N, C, *I] in the layout of the case."""
    x = np.moveaxis(x, 1, -1) if case.last else x
    return x[0] if case.single else x


def ours(case: Case, x: Any, w: Any, b: Any) -> st.Array:
    """st.conv in the layout of the case."""
    return st.conv(x, w, b, data_format="N...C" if case.last else "NCHW", **case.options)


def theirs(case: Case, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The same by PyTorch, [N, K, *O]."""
    rank, o = len(case.pads), case.options
    conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    x = padded(x, case.pads, o["padding_mode"])
    return conv(x, w, b, o["stride"], 0, o["dilation"], o["groups"])


def check(case: Case, rng: np.random.Generator, dtype: str) -> None:
    """Values; in float64 gradients and double gradients too."""
    shapes = (case.x, case.w, case.w[:1])
    values = [rng.uniform(-1, 1, s).astype(dtype) for s in shapes]
    tensors = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    want = theirs(case, *tensors)
    arrays = [st.asarray(laid_out(values[0], case)), *map(st.asarray, values[1:])]
    eps = EPS[np.dtype(dtype)]
    terms = int(np.prod(case.w[1:])) + 1  # products of an output, and the bias; |each| <= 1

    def same(mine: Any, reference: Any, terms: int) -> None:
        got = np.asarray(mine, np.float64)
        known = np.zeros(got.shape) if reference is None else reference
        assert got.shape == known.shape
        np.testing.assert_allclose(got, known, rtol=0, atol=2 * eps * terms * (terms + 1))

    y = ours(case, *arrays)
    assert y.dtype.name == ("float32" if dtype == "f4" else "float64")
    same(y.numpy(), laid_out(want.detach().numpy(), case), terms)
    if dtype == "f4" or not want.numel():
        return
    g = rng.uniform(-1, 1, want.shape)
    along = [rng.uniform(-1, 1, s) for s in shapes]
    first = torch.autograd.grad(want, tensors, torch.tensor(g), create_graph=True)
    projection = sum((d * torch.tensor(v)).sum() for d, v in zip(first, along, strict=True))
    second = torch.autograd.grad(projection, tensors, allow_unused=True)
    cotangent = st.asarray(laid_out(g, case))
    directions = [st.asarray(laid_out(along[0], case)), *map(st.asarray, along[1:])]

    def pulled(*a: st.Array) -> tuple[st.Array, ...]:
        return st.vjp(lambda *a: ours(case, *a), *a)[1](cotangent)

    def project(*a: st.Array) -> st.Array:
        parts = [(d * v).sum() for d, v in zip(pulled(*a), directions, strict=True)]
        return parts[0] + parts[1] + parts[2]

    # a place is read by at most `copies` padded ones and `terms` taps or, for a weight, by all
    # outputs; a second derivative sums over the same products
    most = int(max(np.prod(case.w), want.numel(), want.numel() // max(1, case.x[0]) * 8))
    doubles = st.grad(project, argnums=(0, 1, 2))(*arrays)
    for found, wanted in ((pulled(*arrays), first), (doubles, second)):
        for i, (mine, reference) in enumerate(zip(found, wanted, strict=True)):
            known = None if reference is None else reference.detach().numpy()
            if i == 0 and known is not None:
                known = laid_out(known, case)
            same(mine.numpy(), known, most)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_float64_with_derivatives(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    for i in range(PER_SEED):
        case = draw(rng)
        try:
            check(case, rng, "f8")
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {i}: {case}") from error


@pytest.mark.parametrize("seed", range(6))
def test_float32(seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    for i in range(200):
        case = draw(rng)
        try:
            check(case, rng, "f4")
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {i}: {case}") from error


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padding_strings_are_pytorchs(rank: int) -> None:
    """PyTorch's own "same" (stride 1) and its Conv modules' own padding modes."""
    rng = np.random.default_rng(rank)
    convs = (F.conv1d, F.conv2d, F.conv3d)
    modules = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    for k, d in [(1, 1), (2, 1), (3, 1), (4, 1), (3, 2), (2, 3)]:
        x, w = rng.normal(size=(2, 4, *[9] * rank)), rng.normal(size=(6, 2, *[k] * rank))
        tx, tw = torch.tensor(x), torch.tensor(w)
        for padding in ("same", "valid"):
            want = convs[rank - 1](tx, tw, padding=padding, dilation=d, groups=2)
            got = st.conv(x, w, padding=padding, dilation=d, groups=2).numpy()
            np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-12)
        for mode in MODES:
            module = modules[rank - 1](
                4, 6, k, padding=2, dilation=d, groups=2, bias=False, padding_mode=mode,
                dtype=torch.float64,
            )  # fmt: skip
            with torch.no_grad():
                module.weight.copy_(tw)
                want = module(tx)
            got = st.conv(x, w, padding=2, dilation=d, groups=2, padding_mode=mode).numpy()
            np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-12)


def test_transposed_without_batch_and_channels_last() -> None:
    rng = np.random.default_rng(0)
    convs = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
    for _ in range(150):
        rank = int(rng.integers(1, 4))
        groups = int(rng.integers(1, 4))
        c, k = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
        stride, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        kernel = [int(v) for v in rng.integers(1, 4, rank)]
        extra = int(rng.integers(0, max(stride, dilation)))
        sizes = [int(v) for v in rng.integers(2, 5, rank)]
        x = rng.normal(size=(c, *sizes))
        w, b = rng.normal(size=(c, k // groups, *kernel)), rng.normal(size=k)
        options = {"stride": stride, "dilation": dilation, "groups": groups}
        want = convs[rank - 1](
            *map(torch.tensor, (x, w, b)), output_padding=extra, **options
        ).numpy()
        got = st.conv_transpose(x, w, b, output_padding=extra, **options)
        np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-11)
        last = st.conv_transpose(
            np.moveaxis(x, 0, -1), w, b, output_padding=extra, data_format="NHWC", **options
        )
        np.testing.assert_allclose(last.numpy(), np.moveaxis(want, 0, -1), rtol=0, atol=1e-11)


def test_bfloat16_is_as_near_as_one_rounding() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        x = torch.tensor(rng.normal(size=(2, 3, 6, 6))).bfloat16()
        w = torch.tensor(rng.normal(size=(4, 3, 3, 3))).bfloat16()
        exact = F.conv2d(x.double(), w.double()).numpy()
        size = F.conv2d(x.double().abs(), w.double().abs()).numpy()
        y = st.conv(st.from_dlpack(x), st.from_dlpack(w))
        assert y.dtype is st.bfloat16
        error = np.abs(y.numpy().astype(np.float64) - exact)
        assert (error <= 2.0**-8 * np.abs(exact) + 28 * 2.0**-24 * size).all()


def test_integers_are_exact_as_pytorchs() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(-(2**20), 2**20, (2, 4, 9)), rng.integers(-(2**20), 2**20, (6, 2, 3))
    want = F.conv1d(torch.tensor(x), torch.tensor(w), padding=1, stride=2, groups=2)
    np.testing.assert_array_equal(st.conv(x, w, padding=1, stride=2, groups=2), want.numpy())
