"""The adjoint law <conv(x, w), g> = <dx, x> = <dw, w>, exact on integers, and all that follows:
transposed convolution, derivatives of derivatives, padding modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as s

import striate as st
from striate.ops.conv import conv_lhs_adjoint, conv_rhs_adjoint
from tests.algebra.relations import Values, normals, small_integers, specs

seeds = s.integers(0, 2**32 - 1)


def adjoints(x: Values, w: Values, g: Values, spec: st.ConvSpec) -> tuple[Values, Values]:
    """(dx, dw) of integers: the two adjoints as the primitive itself."""
    nodes = [st.asarray(v).node for v in (x, w, g)]
    dx = conv_lhs_adjoint(nodes[2], nodes[1], spec)
    dw = conv_rhs_adjoint(nodes[0], nodes[2], spec)
    return st.Array(dx).numpy(), st.Array(dw).numpy()


@settings(max_examples=300)
@given(specs(), seeds)
def test_adjoint_law(spec: st.ConvSpec, seed: int) -> None:
    x, w, g = small_integers(seed, spec.lhs_shape, spec.rhs_shape, spec.out_shape)
    y = st.conv_general(x, w, spec).numpy()
    dx, dw = adjoints(x, w, g, spec)
    assert dx.shape == x.shape and dw.shape == w.shape
    assert (y * g).sum() == (dx * x).sum() == (dw * w).sum()


@settings(max_examples=100)
@given(specs())
def test_spec_adjoints_are_involutions(spec: st.ConvSpec) -> None:
    assert spec.lhs_adjoint().lhs_adjoint() == spec
    assert spec.rhs_adjoint().rhs_adjoint() == spec
    assert spec.lhs_adjoint().lhs_shape == spec.out_shape


@settings(max_examples=60)
@given(specs(), seeds)
def test_vjp_is_the_adjoint(spec: st.ConvSpec, seed: int) -> None:
    x, w, g = small_integers(seed, spec.lhs_shape, spec.rhs_shape, spec.out_shape)
    wanted = adjoints(x, w, g, spec)
    x, w, g = (st.asarray(v, "float64") for v in (x, w, g))
    _, pull = st.vjp(lambda x, w: st.conv_general(x, w, spec), x, w)
    for got, want in zip(pull(g), wanted, strict=True):
        np.testing.assert_array_equal(got.numpy(), want)


@settings(max_examples=60)
@given(specs(), seeds)
def test_jvp_is_the_product_rule(spec: st.ConvSpec, seed: int) -> None:
    x, dx, w, dw = (
        st.asarray(v, "float64")
        for v in small_integers(seed, *[spec.lhs_shape] * 2, *[spec.rhs_shape] * 2)
    )
    f = lambda x, w: st.conv_general(x, w, spec)  # noqa: E731
    y, dy = st.jvp(f, (x, w), (dx, dw))
    np.testing.assert_array_equal(y.numpy(), f(x, w).numpy())
    np.testing.assert_array_equal(dy.numpy(), (f(dx, w) + f(x, dw)).numpy())


def inner(xs: Any, ys: Any) -> float:
    return float(sum((np.asarray(x) * np.asarray(y)).sum() for x, y in zip(xs, ys, strict=True)))


@settings(max_examples=60)
@given(specs(max_axes=3, least=1), seeds)
def test_second_order(spec: st.ConvSpec, seed: int) -> None:
    """With D the pull-back map (x, w, g) -> (dx, dw): <D' v, u> = <v, D'^T u>, and D' is right."""
    shapes = (spec.lhs_shape, spec.rhs_shape, spec.out_shape)
    at, v = normals(seed, *shapes), normals(seed + 1, *shapes)
    u = normals(seed + 2, *shapes[:2])

    def pulled(x: st.Array, w: st.Array, g: st.Array) -> tuple[st.Array, ...]:
        return st.vjp(lambda x, w: st.conv_general(st.tanh(x), w * w, spec), x, w)[1](g)

    arrays = [st.asarray(a) for a in at]
    _, forward = st.jvp(pulled, tuple(arrays), tuple(st.asarray(a) for a in v))
    _, pull = st.vjp(pulled, *arrays)
    back = pull(tuple(st.asarray(a) for a in u))
    left, right = inner(forward, u), inner(v, back)
    size = inner(map(st.abs, forward), map(np.abs, u)) + inner(map(np.abs, v), map(st.abs, back))
    assert abs(left - right) <= 1e-13 * size + 1e-300
    h = 1e-5  # the central difference: relative error about h^2, and eps / h of rounding
    ends = [
        pulled(*(st.asarray(a + e * h * t) for a, t in zip(at, v, strict=True))) for e in (1, -1)
    ]
    for plus, minus, want in zip(*ends, forward, strict=True):
        numeric = (plus.numpy() - minus.numpy()) / (2 * h)
        scale = max(1.0, np.abs(want.numpy()).max(initial=0), np.abs(plus.numpy()).max(initial=0))
        np.testing.assert_allclose(numeric, want.numpy(), rtol=0, atol=2e-7 * scale)


@settings(max_examples=40)
@given(specs(max_axes=2, least=1), seeds)
def test_third_order_of_a_cubic(spec: st.ConvSpec, seed: int) -> None:
    """f(t) = <conv(x t, w t^2), g> = t^3 <conv(x, w), g>: derivatives known exactly."""
    x, w, g = (
        st.asarray(v, "float64")
        for v in small_integers(seed, spec.lhs_shape, spec.rhs_shape, spec.out_shape)
    )
    total = (st.conv_general(x, w, spec) * g).sum().item()

    def f(t: st.Array) -> st.Array:
        return (st.conv_general(x * t, w * t * t, spec) * g).sum()

    t = st.asarray(2.0, "float64")
    orders = [st.grad(f), st.grad(st.grad(f)), st.grad(st.grad(st.grad(f)))]
    assert [d(t).item() for d in orders] == [12 * total, 12 * total, 6 * total]


# ---- the public pair -----------------------------------------------------------------------


@s.composite
def pairs(draw: s.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """(shape of x, shape of w, options) of an st.conv; padding is what its mode allows."""
    rank = draw(s.integers(0, 3))
    groups, batch = draw(s.integers(1, 3)), draw(s.integers(0, 2))
    c, k = groups * draw(s.integers(1, 2)), groups * draw(s.integers(1, 2))
    mode = draw(s.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    kernel = [draw(s.integers(1, 3)) for _ in range(rank)]
    dilation = [draw(s.integers(1, 2)) for _ in range(rank)]
    spare = [draw(s.integers(0, 2)) for _ in range(rank)]
    stride = [draw(s.integers(1, 3)) for _ in range(rank)]
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    sizes = [max(4, e) + n for e, n in zip(extents, spare, strict=True)]
    if draw(s.booleans()):
        padding: Any = draw(s.sampled_from(["same", "same_lower", "valid", "causal"]))
    else:
        crops = [min(1, n - e) for n, e in zip(sizes, extents, strict=True)]
        padding = [(draw(s.integers(-crop, 3)), draw(s.integers(0, 3))) for crop in crops]
    if mode == "reflect" and padding in ("same_lower", "causal"):
        sizes = [n + 2 for n in sizes]
    options = {
        "stride": tuple(stride), "padding": padding, "dilation": tuple(dilation),
        "groups": groups, "padding_mode": mode,
    }  # fmt: skip
    return (batch, c, *sizes), (k, c // groups, *kernel), options


@settings(max_examples=150)
@given(pairs(), seeds)
def test_conv_transpose_is_the_vjp_of_conv(case: Any, seed: int) -> None:
    x_shape, w_shape, options = case
    shape = st.conv(np.zeros(x_shape), np.zeros(w_shape), **options).shape
    x, w, g = (st.asarray(v, "float64") for v in small_integers(seed, x_shape, w_shape, shape))
    y, pull = st.vjp(lambda x: st.conv(x, w, **options), x)
    dx = pull(g)[0].numpy()
    assert (y.numpy() * g.numpy()).sum() == (dx * x.numpy()).sum()
    for extra in output_paddings(x_shape, w_shape, g.shape, options):
        back = st.conv_transpose(g, w, output_padding=extra, **options)
        assert back.shape == x.shape
        np.testing.assert_array_equal(back.numpy(), dx)


def output_paddings(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], y_shape: tuple[int, ...], options: Any
) -> list[tuple[int, ...]]:
    """The output_padding that gives conv_transpose the size of x, where that is legal."""
    padding, rank = options["padding"], len(x_shape) - 2
    steps = list(
        zip(
            x_shape[2:],
            w_shape[2:],
            y_shape[2:],
            options["stride"],
            options["dilation"],
            strict=True,
        )
    )
    if padding in ("same", "same_lower"):  # gives O * stride elements
        return [(0,) * rank] if all(n == o * s for n, _, o, s, _ in steps) else []
    if isinstance(padding, str):
        padding = [(d * (k - 1) * (padding == "causal"), 0) for _, k, _, _, d in steps]
    extra = tuple(
        n + lo + hi - (d * (k - 1) + 1) - (o - 1) * s
        for (n, k, o, s, d), (lo, hi) in zip(steps, padding, strict=True)
    )
    legal = all(0 <= e < max(s, d) for e, (*_, s, d) in zip(extra, steps, strict=True))
    return [extra] if legal else []


@settings(max_examples=60)
@given(pairs(), seeds)
def test_channels_last_is_the_same_convolution(case: Any, seed: int) -> None:
    x_shape, w_shape, options = case
    x, w = small_integers(seed, x_shape, w_shape)
    y = st.conv(x, w, **options).numpy()
    last = st.conv(np.moveaxis(x, 1, -1), w, data_format="N...C", **options)
    np.testing.assert_array_equal(last.numpy(), np.moveaxis(y, 1, -1))
    single = [st.conv(image, w, **options).numpy() for image in x]
    np.testing.assert_array_equal(np.stack(single) if single else y, y)


MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "zeros": "constant"}


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40)
@given(s.integers(1, 3), s.integers(5, 7), s.tuples(s.integers(-1, 3), s.integers(-1, 3)), seeds)
def test_padding_modes_are_numpys(
    mode: str, rank: int, n: int, width: tuple[int, int], seed: int
) -> None:
    (x,) = small_integers(seed, (1, 2, *[n] * rank))
    (w,) = small_integers(seed + 1, (3, 2, *[2] * rank))
    grown = tuple(max(0, v) for v in width)
    padded = np.pad(x, [(0, 0)] * 2 + [grown] * rank, MODES[mode])  # the whole input, then crop
    keep = slice(max(0, -width[0]), padded.shape[2] - max(0, -width[1]))
    y = st.conv(x, w, padding=[width] * rank, padding_mode=mode).numpy()
    np.testing.assert_array_equal(y, st.conv(padded[(..., *[keep] * rank)], w).numpy())
