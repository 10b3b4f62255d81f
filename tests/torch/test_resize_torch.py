"""resize and pixel_shuffle against PyTorch: random configurations, OpInfo's samples, wrong calls.

PyTorch 2.13 contradicts itself in three places, where there is nothing to compare with:
  a scale that leaves the size of an axis as it is: nearest and bicubic interpolate in the forward
      pass and copy in the backward pass, bilinear and antialiasing the other way round; here such
      an axis is copied;
  nearest by a scale between 2 and 2.5 that doubles an axis: the backward pass takes it for 2;
  antialiasing to width 1: the forward pass is not the adjoint of the backward pass, nor the
      transpose of the result for the transposed image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing._internal.common_methods_invocations import op_db

import striate as st

MODES = {
    1: ["nearest", "nearest-exact", "area", "linear"],
    2: ["nearest", "nearest-exact", "area", "bilinear", "bicubic"],
    3: ["nearest", "nearest-exact", "area", "trilinear"],
}
SCALES = [2.0, 3.0, 0.5, 1.7, 1 / 3, 0.6, 1.5, 4.0]
BATCHES, PER_BATCH = 10, 60


def draw(rng: np.random.Generator) -> tuple[tuple[int, ...], dict[str, Any]]:
    """A shape of x and the arguments of interpolate."""
    rank = int(rng.integers(1, 4))
    options: dict[str, Any] = {"mode": str(rng.choice(MODES[rank]))}
    shape = (*rng.integers(1, 3, 2), *rng.integers(1, 12, rank))
    if rng.integers(2):
        options["size"] = [int(n) for n in rng.integers(1, 24, rank)]
    else:
        options["scale_factor"] = [
            float(rng.choice(SCALES) if rng.integers(2) else rng.uniform(1 / n, 4))
            for n in shape[2:]
        ]
    if "linear" in options["mode"] or options["mode"] == "bicubic":
        options["align_corners"] = bool(rng.integers(2))
    if options["mode"] in ("bilinear", "bicubic"):
        options["antialias"] = bool(rng.integers(2))
    return tuple(int(n) for n in shape), options


def comparable(shape: tuple[int, ...], options: dict[str, Any]) -> bool:
    """Whether PyTorch accepts it and agrees with itself (see above)."""
    scales = options.get("scale_factor")
    if scales is None:
        return not (options.get("antialias") and options["size"][-1] == 1)
    outs = [int(n * s) for n, s in zip(shape[2:], scales, strict=True)]
    if 0 in outs or any(n == o and s != 1 for n, o, s in zip(shape[2:], outs, scales, strict=True)):
        return False
    doubled = any(o == 2 * n and s != 2 for n, o, s in zip(shape[2:], outs, scales, strict=True))
    if options["mode"].startswith("nearest") and doubled:
        return False
    return not (options.get("antialias") and outs[-1] == 1)


def translated(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of interpolate as those of resize."""
    ours = {k: v for k, v in options.items() if k not in ("scale_factor", "recompute_scale_factor")}
    if options.get("scale_factor") is not None:
        ours["scale"] = options["scale_factor"]
    if ours.get("align_corners") is None:
        ours.pop("align_corners", None)
    return ours


def check(x: np.ndarray, ours: Any, theirs: Any, rng: np.random.Generator) -> None:
    """y, the gradient of sum(y^3 g), and the derivative of that gradient in a direction."""
    tx = torch.tensor(x, requires_grad=True)
    ty = theirs(tx)
    g, v = rng.normal(size=tuple(ty.shape)), rng.normal(size=x.shape)
    (tdx,) = torch.autograd.grad((ty**3 * torch.tensor(g)).sum(), tx, create_graph=True)
    (twice,) = torch.autograd.grad((tdx * torch.tensor(v)).sum(), tx)

    def loss(x: st.Array) -> st.Array:
        y = ours(x)
        return st.sum(y * y * y * g)

    y = ours(st.asarray(x)).numpy()
    assert y.shape == tuple(ty.shape)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-10, atol=1e-11)
    dx, change = st.jvp(st.grad(loss), (st.asarray(x),), (st.asarray(v),))
    np.testing.assert_allclose(dx.numpy(), tdx.detach().numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(change.numpy(), twice.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_configurations(batch: int) -> None:
    rng = np.random.default_rng(batch)
    done = 0
    while done < PER_BATCH:
        shape, options = draw(rng)
        if not comparable(shape, options):
            continue
        done += 1
        ours = translated(options)
        try:
            check(
                rng.normal(size=shape),
                lambda x, ours=ours: st.resize(x, **ours),
                lambda x, options=options: F.interpolate(x, **options),
                rng,
            )
        except AssertionError as error:
            raise AssertionError(f"x {shape}, {options}: {error}") from None


@pytest.mark.parametrize("batch", range(4))
def test_nearest_rounds_as_pytorch_in_float32(batch: int) -> None:
    """Which neighbour is taken on a tie depends on the last bit of the coordinate."""
    rng = np.random.default_rng(batch)
    for _ in range(150):
        n, out = (int(v) for v in rng.integers(1, 400, 2))
        x = rng.normal(size=(1, 1, n)).astype(np.float32)
        for mode in ("nearest", "nearest-exact"):
            want = F.interpolate(torch.tensor(x), out, mode=mode).numpy()
            assert np.array_equal(st.resize(x, out, mode=mode).numpy(), want), (n, out, mode)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "area"])
@pytest.mark.parametrize("antialias", [False, True])
def test_float32_images(mode: Any, antialias: bool) -> None:
    if mode == "area" and antialias:
        return
    x = np.random.default_rng(0).random((2, 3, 37, 53), np.float32)
    for size in ((19, 20), (74, 106), (224, 31)):
        y = st.resize(x, size, mode=mode, antialias=antialias).numpy()
        want = F.interpolate(torch.tensor(x), size, mode=mode, antialias=antialias).numpy()
        np.testing.assert_allclose(y, want, atol=3e-5)


# ---- OpInfo --------------------------------------------------------------------------------


def interpolate(x: Any, size: Any = None, **options: Any) -> st.Array:
    """`resize` under PyTorch's names."""
    scale, recompute = options.pop("scale_factor", None), options.pop("recompute_scale_factor", 0)
    if recompute:
        size, scale = [int(n * scale) for n in x.shape[2:]], None
    return st.resize(x, size, **translated(options | {"scale_factor": scale}))


def antialiased(x: Any, output_size: Any, align_corners: bool, scale_factors: Any) -> st.Array:
    options = {"mode": "bilinear", "align_corners": align_corners, "antialias": True}
    return st.resize(x, output_size, scale=scale_factors, **options)


OPINFOS = {
    **{f"nn.functional.interpolate.{m}": interpolate for m in
       ("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area")},
    "nn.functional.upsample_nearest": lambda x, **o: interpolate(x, mode="nearest", **o),
    "nn.functional.upsample_bilinear": lambda x, **o: interpolate(
        x, mode="bilinear", align_corners=True, **o),
    "_upsample_bilinear2d_aa": antialiased,
    "nn.functional.pixel_shuffle": lambda x, upscale_factor: st.pixel_shuffle(
        x, factor=upscale_factor),
    "nn.functional.pixel_unshuffle": lambda x, downscale_factor: st.pixel_unshuffle(
        x, factor=downscale_factor),
}  # fmt: skip
FOUND = {
    f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name: op for op in op_db
}


def samples() -> list[Any]:
    rows = []
    for name, ours in OPINFOS.items():
        op = FOUND[name]
        for i, sample in enumerate(op.sample_inputs("cpu", torch.float64)):
            if "scales_h" in sample.kwargs:  # with a size: only the private function takes both
                continue
            rows.append(pytest.param(ours, op.op, sample, id=f"{name}-{i}"))
    return rows


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("ours", "theirs", "sample"), samples())
def test_opinfo_samples(ours: Any, theirs: Any, sample: Any) -> None:
    x = sample.input.detach().numpy()
    if x.size == 0:
        want = theirs(sample.input, *sample.args, **sample.kwargs)
        assert ours(st.asarray(x), *sample.args, **sample.kwargs).shape == tuple(want.shape)
        return
    check(
        x,
        lambda x: ours(x, *sample.args, **sample.kwargs),
        lambda x: theirs(x, *sample.args, **sample.kwargs),
        np.random.default_rng(0),
    )


def test_opinfo_has_no_error_inputs_that_are_missed_here() -> None:
    """These have none in PyTorch 2.13; the table below stands in for them."""
    assert all(FOUND[name].error_inputs_func is None for name in OPINFOS)


# ---- wrong calls, which PyTorch refuses too ------------------------------------------------

IMAGE = (1, 4, 8, 8)
WRONG: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    (IMAGE, {}),
    (IMAGE, {"size": 4, "scale_factor": 2.0}),
    (IMAGE, {"size": (4, 4, 4)}),
    (IMAGE, {"size": (4,)}),
    (IMAGE, {"scale_factor": (2.0, 2.0, 2.0)}),
    (IMAGE, {"size": 0}),
    (IMAGE, {"size": (4, -1)}),
    (IMAGE, {"scale_factor": 0.01}),
    (IMAGE, {"size": 4, "mode": "cubic"}),
    (IMAGE, {"size": 4, "mode": "trilinear"}),
    ((1, 4, 8), {"size": 4, "mode": "bilinear"}),
    ((1, 4, 8, 8, 8), {"size": 4, "mode": "bilinear"}),
    (IMAGE, {"size": 4, "mode": "nearest", "align_corners": True}),
    (IMAGE, {"size": 4, "mode": "area", "align_corners": True}),
    (IMAGE, {"size": 4, "mode": "nearest", "antialias": True}),
    ((1, 4), {"size": 4}),
    ((1, 4, 0, 8), {"size": 4, "mode": "bilinear"}),
]


@pytest.mark.parametrize(("shape", "options"), WRONG, ids=str)
def test_interpolate_refuses_alike(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, RuntimeError, NotImplementedError, TypeError)):
        F.interpolate(torch.ones(shape), **options)
    with pytest.raises(st.ShapeError, match="resize: "):
        st.resize(st.ones(shape), **translated(options))


ALLOWED = {
    "linear for any rank": (IMAGE, {"size": 4, "mode": "linear"}),
    "bicubic for any rank": ((1, 4, 8), {"size": 4, "mode": "bicubic"}),
    "antialias for any rank": ((1, 4, 8), {"size": 4, "mode": "linear", "antialias": True}),
    "more than three axes": ((1, 1, 2, 2, 2, 2), {"size": 4}),
    "no channels": ((1, 0, 8, 8), {"size": 4}),
}


@pytest.mark.parametrize(("shape", "options"), ALLOWED.values(), ids=ALLOWED)
def test_what_only_pytorch_refuses(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, RuntimeError, NotImplementedError)):
        F.interpolate(torch.ones(shape), **options)
    assert st.resize(st.ones(shape), **options).numpy().shape[:2] == shape[:2]


@pytest.mark.parametrize(
    ("name", "shape", "factor"),
    [
        ("pixel_shuffle", (1, 3, 2, 2), 2), ("pixel_shuffle", (4, 2), 2),
        ("pixel_shuffle", (1, 4, 2, 2), 0), ("pixel_shuffle", (1, 4, 2, 2), -2),
        ("pixel_unshuffle", (1, 3, 3, 2), 2), ("pixel_unshuffle", (4, 2), 2),
        ("pixel_unshuffle", (1, 4, 2, 2), 0), ("pixel_unshuffle", (1, 4, 2, 2), -2),
    ],
)  # fmt: skip
def test_pixel_shuffle_refuses_alike(name: str, shape: tuple[int, ...], factor: int) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        getattr(F, name)(torch.ones(shape), factor)
    with pytest.raises(st.ShapeError, match=name):
        getattr(st, name)(st.ones(shape), factor)
