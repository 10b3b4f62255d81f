"""Every op that acts on elements, in one table: value, derivatives, types, special values.

To add an op, add a row: what it is called, its arguments' range, what NumPy says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import striate as st
from striate.config import settings
from striate.ir.graph import Graph, parameter
from striate.ir.types import TensorType
from striate.transform.interpret import interpret

BF16 = ml_dtypes.bfloat16
erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Row:
    """One op.

    Attributes:
        name: of the row, and of the function unless `f` is given.
        reference: what NumPy says, in float64.
        domain: (lo, hi) of each argument.
        f: the function.
        kinks: where the derivative jumps; samples keep away from them.
        ulps, floor: the value may be wrong by ulps * eps * (|value| + floor).
        ints: what becomes of integers: `float` (float32), `keep`, `bool` or `error`.
        smooth: it has a derivative; else that is zero.
        nan: NaN in gives NaN out.
    """

    name: str
    reference: Callable[..., Any]
    domain: tuple[tuple[float, float], ...] = ((-3, 3),)
    f: Callable[..., Any] | None = None
    kinks: tuple[float, ...] = ()
    ulps: float = 4
    floor: float = 0
    ints: str = "float"
    smooth: bool = True
    nan: bool = True

    @property
    def fn(self) -> Callable[..., Any]:
        return self.f or getattr(st, self.name)

    def samples(self, seed: int = 0, shape: tuple[int, ...] = (40,)) -> list[np.ndarray]:
        """float64 arguments inside the domain, away from the kinks (of any difference of two)."""
        rng = np.random.default_rng(seed)
        xs = []
        for lo, hi in self.domain:
            x = rng.uniform(lo, hi, shape)
            for kink in self.kinks:
                x = np.where(np.abs(x - kink) < 0.01, x + 0.021, x)
            xs.append(x)
        return xs


ANY = (-3.0, 3.0)
POSITIVE = (0.1, 4.0)


def activation(name: str, reference: Callable[..., Any], **rest: Any) -> Row:
    return Row(name, reference, **{"domain": ((-9.0, 9.0),), "floor": 1, "ulps": 8, **rest})


def with_arguments(name: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    return lambda x: getattr(st, name)(x, *args, **kwargs)


def sigmoid(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


def relu6(x: Any) -> Any:
    return np.clip(x, 0, 6)


UNARY = [
    Row("abs", np.abs, kinks=(0,), ints="keep"),
    Row("sign", np.sign, ints="keep", smooth=False),
    Row("negative", np.negative, ints="keep"),
    Row("exp", np.exp),
    Row("expm1", np.expm1),
    Row("log", np.log, (POSITIVE,)),
    Row("log1p", np.log1p, ((-0.9, 4),)),
    Row("log2", np.log2, (POSITIVE,)),
    Row("log10", np.log10, (POSITIVE,)),
    Row("sqrt", np.sqrt, (POSITIVE,)),
    Row("rsqrt", lambda x: 1 / np.sqrt(x), (POSITIVE,)),
    Row("square", np.square, ints="keep"),
    Row("reciprocal", lambda x: 1 / x, (POSITIVE,)),
    Row("sin", np.sin),
    Row("cos", np.cos),
    Row("tan", np.tan, ((-1.4, 1.4),)),
    Row("asin", np.arcsin, ((-0.95, 0.95),)),
    Row("acos", np.arccos, ((-0.95, 0.95),)),
    Row("atan", np.arctan),
    Row("sinh", np.sinh),
    Row("cosh", np.cosh),
    Row("tanh", np.tanh),
    Row("asinh", np.arcsinh),
    Row("acosh", np.arccosh, ((1.1, 4),)),
    Row("atanh", np.arctanh, ((-0.95, 0.95),)),
    Row("floor", np.floor, ints="keep", smooth=False),
    Row("ceil", np.ceil, ints="keep", smooth=False),
    Row("trunc", np.trunc, ints="keep", smooth=False),
    Row("round", np.round, ints="keep", smooth=False),
    Row("erf", erf),
    Row("sigmoid", sigmoid, ((-9, 9),)),
    Row("stop_gradient", lambda x: x, ints="keep", smooth=False),
    Row("isnan", np.isnan, ints="bool", smooth=False, nan=False),
    Row("isinf", np.isinf, ints="bool", smooth=False, nan=False),
    Row("isfinite", np.isfinite, ints="bool", smooth=False, nan=False),
    Row("signbit", np.signbit, ints="bool", smooth=False, nan=False),
    Row("logical_not", np.logical_not, ints="bool", smooth=False, nan=False),
]

BINARY = [
    Row("add", np.add, (ANY, ANY), ints="keep"),
    Row("subtract", np.subtract, (ANY, ANY), ints="keep"),
    Row("multiply", np.multiply, (ANY, ANY), ints="keep"),
    Row("divide", np.divide, (ANY, POSITIVE)),
    Row("floor_divide", np.floor_divide, (ANY, (5.0, 9.0)), ints="keep", smooth=False),
    Row("remainder", np.remainder, (ANY, (5.0, 9.0)), kinks=(0,), ints="keep"),
    Row("maximum", np.maximum, (ANY, ANY), ints="keep"),
    Row("minimum", np.minimum, (ANY, ANY), ints="keep"),
    Row("atan2", np.arctan2, (ANY, POSITIVE)),
    Row("pow", np.power, (POSITIVE, ANY), ints="keep", nan=False),
    Row("hypot", np.hypot, (POSITIVE, ANY)),
    Row("copysign", np.copysign, (ANY, ANY), kinks=(0,), nan=False),
    Row("logaddexp", np.logaddexp, (ANY, ANY), floor=1),
    *(
        Row(name, getattr(np, name), (ANY, ANY), ints="bool", smooth=False, nan=False)
        for name in (
            "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
            "logical_and", "logical_or", "logical_xor",
        )
    ),
    Row("where", lambda x, y: np.where(x > 0, x, y), (ANY, ANY), kinks=(0,), ints="keep", nan=False,
        f=lambda x, y: st.where(st.greater(x, 0), x, y)),
    Row("clip to an array", np.maximum, (ANY, ANY), ints="keep", f=st.clip),
]  # fmt: skip

ACTIVATIONS = [
    activation("relu", lambda x: np.maximum(x, 0), kinks=(0,), ints="keep"),
    activation("relu6", relu6, kinks=(0, 6), ints="keep"),
    activation("hardtanh", lambda x: np.clip(x, -1, 1), kinks=(-1, 1)),
    activation("clip", lambda x: np.clip(x, 1, 3), kinks=(1, 3), ints="keep",
               f=with_arguments("clip", 1, 3)),
    activation("clip above", lambda x: np.minimum(x, 3), kinks=(3,), ints="keep",
               f=with_arguments("clip", max=3)),
    activation("threshold", lambda x: np.where(x <= 1, 2, x), kinks=(1,), ints="keep",
               f=with_arguments("threshold", 1, 2)),
    activation("hardshrink", lambda x: np.where(np.abs(x) <= 0.5, 0, x), kinks=(-0.5, 0.5)),
    activation("softshrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
               kinks=(-0.5, 0.5)),
    activation("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x), kinks=(0,)),
    activation("leaky_relu 0.3", lambda x: np.where(x > 0, x, 0.3 * x), kinks=(0,),
               f=with_arguments("leaky_relu", 0.3)),
    activation("elu", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), kinks=(0,)),
    activation("elu 1.7", lambda x: np.where(x > 0, x, 1.7 * np.expm1(np.minimum(x, 0))),
               kinks=(0,), f=with_arguments("elu", 1.7)),
    activation("celu", lambda x: np.where(x > 0, x, 1.7 * np.expm1(np.minimum(x, 0) / 1.7)),
               kinks=(0,), f=with_arguments("celu", 1.7)),
    activation("selu", kinks=(0,), reference=lambda x: 1.0507009873554805 * np.where(
        x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))),
    activation("softplus", softplus),
    activation("softplus 2, 3", lambda x: np.where(2 * x > 3, x, softplus(2 * x) / 2),
               kinks=(1.5,), f=with_arguments("softplus", 2.0, 3.0)),
    activation("log_sigmoid", lambda x: -softplus(-x)),
    activation("tanhshrink", lambda x: x - np.tanh(x)),
    activation("softsign", lambda x: x / (1 + np.abs(x))),
    activation("silu", lambda x: x * sigmoid(x)),
    activation("mish", lambda x: x * np.tanh(softplus(x))),
    activation("gelu", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
    activation("gelu tanh", f=with_arguments("gelu", "tanh"), reference=lambda x: 0.5 * x * (
        1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    activation("hardsigmoid", lambda x: relu6(x + 3) / 6, kinks=(-3, 3)),
    activation("hardswish", lambda x: x * relu6(x + 3) / 6, kinks=(-3, 3)),
    activation("glu", lambda x: x[: len(x) // 2] * sigmoid(x[len(x) // 2 :]),
               f=with_arguments("glu", 0)),
]  # fmt: skip

TABLE = [*UNARY, *BINARY, *ACTIVATIONS]
SMOOTH = [row for row in TABLE if row.smooth]
every_op = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
smooth_op = pytest.mark.parametrize("row", SMOOTH, ids=lambda row: row.name)
binary_op = pytest.mark.parametrize("row", BINARY, ids=lambda row: row.name)


def check(got: np.ndarray, want: np.ndarray, row: Row, eps: float) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    if want.dtype == np.bool_:
        assert np.array_equal(got, want)
        return
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    got, want = got[finite].astype(np.float64), want[finite]
    error = np.abs(got - want)
    limit = row.ulps * eps * (np.abs(want) + row.floor)
    assert (error <= limit).all(), f"{(error - limit).max()} too much at {want[error > limit]}"


# ---- values --------------------------------------------------------------------------------


@every_op
def test_value_in_float64(row: Row) -> None:
    xs = row.samples()
    y = row.fn(*xs).numpy()
    assert y.dtype in (np.float64, np.bool_)
    check(y, row.reference(*xs), row, 2.0**-52)


@every_op
def test_value_in_float32(row: Row) -> None:
    xs = [x.astype(np.float32) for x in row.samples(1)]
    y = row.fn(*xs).numpy()
    assert y.dtype in (np.float32, np.bool_)
    check(y, row.reference(*(x.astype(np.float64) for x in xs)), row, 2.0**-23)


@every_op
def test_bfloat16_is_computed_in_float32_and_rounded_once(row: Row) -> None:
    xs = [x.astype(BF16) for x in row.samples(2)]
    y = row.fn(*xs).numpy()
    wide = row.fn(*(x.astype(np.float32) for x in xs)).numpy()
    assert y.dtype in (BF16, np.bool_)
    assert np.array_equal(y, wide.astype(y.dtype))


@every_op
def test_interpret_equals_eager(row: Row) -> None:
    xs = row.samples(3)
    nodes = [parameter(TensorType(x.shape, st.float64)) for x in xs]
    graph = Graph(tuple(nodes), (row.fn(*map(st.Array, nodes)).node,))
    graph.verify()
    check(row.fn(*xs).numpy(), interpret(graph, xs)[0], row, 2.0**-52)


@every_op
@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), (0, 5)])
def test_zero_size(row: Row, shape: tuple[int, ...]) -> None:
    if row.name == "glu":
        shape = (2, *shape)
    xs = [np.zeros(shape, np.float32) for _ in row.domain]
    y = row.fn(*xs)
    assert y.numpy().size == 0 and y.shape[1:] == shape[1:]
    if row.smooth:
        y, pull = st.vjp(row.fn, *xs)
        assert all(g.numpy().shape == shape for g in pull(st.zeros(y.shape)))


# ---- derivatives ---------------------------------------------------------------------------


@smooth_op
def test_derivative_against_differences(row: Row) -> None:
    xs = row.samples(4)
    if row.name in ("maximum", "minimum", "clip to an array"):
        xs[1] = np.where(np.abs((xs[0] - xs[1]) % 1) < 0.01, xs[1] + 0.1, xs[1])
    rng = np.random.default_rng(5)
    vs = [rng.standard_normal(x.shape) for x in xs]
    h = 1e-5
    up, down = (
        row.fn(*(x + s * h * v for x, v in zip(xs, vs, strict=True))).numpy() for s in (1, -1)
    )
    _, tangent = st.jvp(row.fn, tuple(xs), tuple(vs))
    scale = 1 + max(np.abs(v).max() for v in vs) ** 3
    np.testing.assert_allclose(tangent.numpy(), (up - down) / (2 * h), rtol=1e-5, atol=1e-7 * scale)


def dot(xs: Any, ys: Any) -> float:
    return float(sum(np.vdot(np.asarray(x), np.asarray(y)) for x, y in zip(xs, ys, strict=True)))


def adjoint_gap(f: Callable[..., Any], xs: list[np.ndarray], seed: int) -> float:
    """<J v, u> - <v, J^T u>, relative to the sizes of both."""
    rng = np.random.default_rng(seed)
    vs = [rng.standard_normal(x.shape) for x in xs]
    out, tangent = st.jvp(f, tuple(xs), tuple(vs))
    outs, tangents = (t if isinstance(t, tuple) else (t,) for t in (out, tangent))
    us = tuple(rng.standard_normal(y.shape) for y in outs)
    _, pull = st.vjp(f, *xs)
    back = pull(us if isinstance(out, tuple) else us[0])
    assert all(np.isfinite(b.numpy()).all() for b in back)
    left, right = dot(tangents, us), dot(vs, back)
    return abs(left - right) / max(1.0, dot(tangents, tangents) ** 0.5 * dot(us, us) ** 0.5)


@smooth_op
def test_adjoint_identity_to_second_order(row: Row) -> None:
    xs = row.samples(6)
    assert adjoint_gap(row.fn, xs, 7) < 1e-12
    u = np.random.default_rng(8).standard_normal(row.fn(*xs).shape)

    def gradient(*args: Any) -> tuple[Any, ...]:
        return st.vjp(row.fn, *args)[1](u)

    assert adjoint_gap(gradient, xs, 9) < 1e-12


@pytest.mark.parametrize("row", [r for r in TABLE if not r.smooth], ids=lambda row: row.name)
def test_derivative_of_a_step_is_zero(row: Row) -> None:
    xs = row.samples(10)
    y, pull = st.vjp(row.fn, *xs)
    if y.dtype is not st.bool_:
        assert all((g.numpy() == 0).all() for g in pull(np.ones(y.shape)))


# ---- types and shapes ----------------------------------------------------------------------


@every_op
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_integers(row: Row, dtype: str) -> None:
    xs = [st.asarray([1, 1], dtype) for _ in row.domain]
    want = {"float": "float32", "bool": "bool", "keep": dtype}[row.ints]
    if row.name == "glu":
        xs = [st.asarray([1, 1, 1, 1], dtype)]
    y = row.fn(*xs)
    assert y.dtype.name == want
    values = [x.numpy().astype(np.float64) for x in xs]
    with np.errstate(divide="ignore"):
        check(y.numpy(), np.asarray(row.reference(*values)).astype(y.dtype.numpy), row, 2.0**-23)


@every_op
def test_bools(row: Row) -> None:
    """Functions to float32 take a bool as 0 or 1, arithmetic on it is an error."""
    xs = [st.asarray([True, True]) for _ in row.domain]
    arithmetic = {
        "abs", "sign", "negative", "square", "floor", "ceil", "trunc", "round", "add", "subtract",
        "multiply", "floor_divide", "remainder", "pow",
    }  # fmt: skip
    if row.name in arithmetic:
        with pytest.raises(st.DTypeError, match=row.name):
            row.fn(*xs)
    else:
        row.fn(*xs).numpy()


@binary_op
def test_promotion(row: Row) -> None:
    a, b = (x[:3] for x in row.samples(11))
    for low, high in (("float32", "float64"), ("bfloat16", "float32"), ("int32", "float32")):
        y = row.fn(st.asarray(a).astype(low), st.asarray(b).astype(high))
        assert y.dtype is (st.bool_ if row.ints == "bool" else getattr(st, high))
        number = row.fn(st.asarray(b).astype(high), 7)
        assert number.dtype is y.dtype
    if row.ints == "keep":
        i = st.asarray([1, 2], "int8")
        assert row.fn(i, st.asarray([1, 2], "uint8")).dtype is st.int16
        assert row.fn(i, 1).dtype is st.int8
        assert row.fn(i, 1.5).dtype is st.float32


@binary_op
def test_broadcasting_and_its_adjoint(row: Row) -> None:
    x, y = row.samples(12, (3, 4))
    x, y = x[:, :1], y[0]
    full = row.fn(np.broadcast_to(x, (3, 4)), np.broadcast_to(y, (3, 4))).numpy()
    out = row.fn(x, y)
    assert np.array_equal(out.numpy(), full)
    with pytest.raises(st.ShapeError, match="broadcast"):
        row.fn(np.ones((2, 3)), np.ones(2))
    if row.smooth:
        assert adjoint_gap(row.fn, [x, y], 13) < 1e-12
        _, pull = st.vjp(row.fn, x, y)
        assert [g.shape for g in pull(np.ones((3, 4)))] == [(3, 1), (4,)]


# ---- special values ------------------------------------------------------------------------

# Machine code takes numbers below the least normal one for zero; NumPy does not.
NATIVE = settings().backend == "native"
LEAST = 2.3e-308 if NATIVE else 5e-324
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, LEAST, 1000.0, -1000.0])


@pytest.mark.parametrize("row", [r for r in TABLE if r.nan], ids=lambda row: row.name)
def test_nan_goes_in_and_comes_out(row: Row) -> None:
    for i in range(len(row.domain)):
        xs = [x[:2] for x in row.samples(14)]
        xs[i] = np.full(2, np.nan)
        assert np.isnan(row.fn(*xs).numpy()).all()


@every_op
def test_special_values_are_numpys(row: Row) -> None:
    grids = np.meshgrid(*[SPECIAL] * len(row.domain))
    xs = [g.ravel() for g in grids]
    with np.errstate(all="ignore"):
        want = np.asarray(row.reference(*xs))
    got = row.fn(*xs).numpy()
    np.testing.assert_allclose(
        got.astype(np.float64), want.astype(np.float64), rtol=1e-14, atol=1e-300 + 1e-15 * row.floor
    )


@pytest.mark.parametrize(
    "name", ["sigmoid", "log_sigmoid", "softplus", "elu", "selu", "celu", "silu", "mish", "gelu",
             "tanhshrink", "hardswish", "erf", "softsign", "relu6"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_are_finite_far_out(name: str, dtype: type) -> None:
    x = np.array([-1e4, -1000, -100, -0.0, 0.0, 100, 1000, 1e4], dtype)
    f = getattr(st, name)
    for order in range(3):
        assert np.isfinite(f(x).numpy()).all(), f"derivative {order}"
        f = st.grad(lambda x, f=f: st.sum(f(x)))


@pytest.mark.parametrize(
    ("name", "at", "slope"),
    [
        ("relu", 0, 0), ("relu6", 0, 0), ("relu6", 6, 0), ("hardtanh", 1, 0), ("hardtanh", -1, 0),
        ("leaky_relu", 0, 0.01), ("elu", 0, 1), ("abs", 0, 0), ("hardsigmoid", 3, 0),
        ("hardsigmoid", -3, 0), ("hardswish", 3, 1), ("hardswish", -3, 0), ("softshrink", 0.5, 0),
        ("hardshrink", 0.5, 0), ("hardshrink", -0.5, 0), ("log_sigmoid", 0, 0.5),
        ("softplus", 0, 0.5), ("selu", 0, 1.7580993408473766),
    ],
)  # fmt: skip
def test_slope_at_a_kink_is_pytorchs(name: str, at: float, slope: float) -> None:
    f = getattr(st, name)
    assert st.grad(f)(st.asarray(at, "float64")).item() == pytest.approx(slope, 1e-15)


def test_slope_of_clip_is_one_at_its_ends() -> None:
    x = st.asarray([-1.0, 0.0, 0.5, 1.0, 2.0])
    g = st.grad(lambda x: st.sum(st.clip(x, 0, 1)))(x)
    assert g.tolist() == [0, 1, 1, 1, 0]


def test_clip_with_nan_bounds_and_crossed_bounds() -> None:
    assert math.isnan(st.clip(st.asarray(1.0), math.nan).item())
    assert math.isnan(st.clip(st.asarray(1.0), max=st.asarray(math.nan)).item())
    assert st.clip(st.asarray(1.0), 5, 2).item() == 2


def test_softplus_has_its_second_derivative_at_zero() -> None:
    second = st.grad(st.grad(st.softplus))(st.asarray(0.0, "float64"))
    assert second.item() == pytest.approx(0.25, abs=1e-15)


def test_logaddexp_of_equal_arguments() -> None:
    x = st.asarray(1.5, "float64")
    dx, dy = st.grad(st.logaddexp, (0, 1))(x, x)
    assert (dx.item(), dy.item()) == (0.5, 0.5)
    for v in (math.inf, -math.inf):
        infinite = st.asarray(v)
        assert st.logaddexp(infinite, infinite).item() == v
        assert math.isfinite(st.grad(st.logaddexp)(infinite, infinite).item())


def test_signs_of_copysign() -> None:
    xs, ys = np.meshgrid(SPECIAL, SPECIAL)
    got, want = st.copysign(xs, ys).numpy(), np.copysign(xs, ys)
    assert np.array_equal(got, want, equal_nan=True)
    known = ~np.isnan(xs)
    assert np.array_equal(np.signbit(got)[known], np.signbit(want)[known])


def test_erf_on_a_dense_grid() -> None:
    x = np.concatenate([np.linspace(-7, 7, 200_001), np.logspace(-307, 1, 5_000)])
    want = erf(x)
    got = st.erf(x).numpy()
    known = want != 0
    assert np.abs(got[known] / want[known] - 1).max() < 1e-15
    assert np.array_equal(got[~known], want[~known])
    x32 = x.astype(np.float32)
    if NATIVE:
        x32 = x32[np.abs(x32) > 2.0**-120]  # and so is the result a normal number
    got32, wide = st.erf(x32).numpy(), erf(x32.astype(np.float64))
    if NATIVE:
        assert (np.abs(got32 - wide) <= 2 * np.spacing(np.abs(wide).astype(np.float32))).all()
    else:
        assert np.array_equal(got32, wide.astype(np.float32))


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits(name: str) -> None:
    a, b = np.array([0b1100, 7], np.uint8), np.array([0b1010, 255], np.uint8)
    assert np.array_equal(getattr(st, name)(a, b).numpy(), getattr(np, name)(a, b))
    with pytest.raises(st.DTypeError, match=name):
        getattr(st, name)(np.ones(2, np.float32), np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: st.hardtanh(st.ones(2), 2, 1), st.ShapeError, "lo must be at most hi"),
        (lambda: st.celu(st.ones(2), 0), st.ShapeError, "alpha must not be 0"),
        (lambda: st.gelu(st.ones(2), "exact"), st.ShapeError, "'none' or 'tanh'"),
        (lambda: st.softshrink(st.ones(2), -1), st.ShapeError, "lambd must be >= 0"),
        (lambda: st.prelu(st.ones((2, 3)), st.ones(2)), st.ShapeError, r"\[1\] or \[3\]"),
        (lambda: st.glu(st.ones(3)), st.ShapeError, "even size"),
        (lambda: st.add(st.ones(2), st.ones(3)), st.ShapeError, "add: shapes"),
        (lambda: st.where(st.ones(2), 1, 2), st.DTypeError, "where"),
        (lambda: st.relu("x"), st.DTypeError, "str"),
    ],
)
def test_wrong_calls(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
