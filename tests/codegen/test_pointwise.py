"""The machine code of every pointwise op against its NumPy reference, on every dtype and target.

What rounds once must be equal to the last bit; elementary functions are compared with the C
library's long double, in units of the last place.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import striate.ops
from striate.codegen.expression import Expression
from striate.codegen.kernel import emit
from striate.codegen.machine import assembly, host_target, named_target
from striate.codegen.pointwise import POINTWISE, Instruction
from striate.dtype import ALL, DType, bfloat16, bool_, float32, float64, int8, int32
from striate.errors import DTypeError
from striate.ir.graph import Op
from striate.ir.types import TensorType
from striate.ops.elementwise import CAST
from striate.target import Target
from tests.codegen.applied import TARGETS, Apply, applied, each_of

Array = NDArray[Any]
Long = np.longdouble

# what the functions are, in more bits; erf has only double
FUNCTIONS: dict[str, Any] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "log2": np.log2,
    "log10": np.log10, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": lambda x: np.array([math.erf(v) for v in x.astype(np.float64)], Long),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip
FUNCTIONS_OF_TWO: dict[str, Any] = {"pow": np.power, "atan2": np.arctan2, "hypot": np.hypot}
COUNT = {bfloat16: 1000, float32: 8000, float64: 3000}  # random numbers of each kind
BOUND = {float32: 2.0, float64: 4.0}  # ulp


def pointwise_ops() -> dict[str, Op]:
    """Every op of the library that `pointwise` made, by name."""
    found = {}
    for module in pkgutil.iter_modules(striate.ops.__path__):
        for value in vars(importlib.import_module(f"striate.ops.{module.name}")).values():
            if isinstance(value, Op) and value.reference.__qualname__.startswith("_in_float32."):
                found[value.name] = value
    return found


OPS = pointwise_ops()


@cache
@np.errstate(all="ignore")
def arity(op: Op) -> int:
    """How many values an op takes."""
    kind = bool_ if op.name.startswith("logical") else float32
    kind = int8 if op.name.startswith("bitwise") else kind
    for n in (1, 2):
        try:
            op.reference(None, *[np.ones(1, kind.numpy)] * n)
        except (TypeError, ValueError):
            continue
        return n
    raise AssertionError(op.name)


def result_of(op: Op, dtype: DType) -> DType | None:
    """The dtype of an op's result on values of a dtype; None where it has none."""
    try:
        return op.infer(None, *[TensorType((1,), dtype)] * arity(op)).dtype
    except DTypeError:
        return None


def special(dtype: DType) -> Array:
    """The numbers at which things happen."""
    if dtype is bool_:
        return np.array([False, True])
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        few = [info.min, info.min + 1, -7, -3, -2, -1, 0, 1, 2, 3, 7, 10, info.max - 1, info.max]
        return np.array([v for v in few if info.min <= v <= info.max], dtype.numpy)
    few = [0.0, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 7.75, 100, 2**22 + 0.5, 2.0**31, 1e30, np.inf]
    return np.array([*few, *[-v for v in few], np.nan], np.float64).astype(dtype.numpy)


def samples(dtype: DType, n: int, rng: np.random.Generator) -> Array:
    """Random numbers of every size that the dtype has."""
    if dtype is bool_:
        return rng.integers(0, 2, n).astype(bool)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        wide = rng.integers(info.min, info.max, n, dtype.numpy, endpoint=True)
        return np.where(rng.random(n) < 0.5, wide, wide % 13).astype(dtype.numpy)
    top = 300 if dtype is float64 else 37
    size = 10 ** np.where(rng.random(n) < 0.5, rng.uniform(-top, top, n), rng.uniform(-3, 3, n))
    return (size * rng.choice([-1, 1], n)).astype(dtype.numpy)


def operands(dtype: DType, count: int, seed: int = 0) -> list[Array]:
    """Every combination of special numbers, then random ones."""
    rng = np.random.default_rng(seed)
    grid = [g.ravel() for g in np.meshgrid(*[special(dtype)] * count)]
    return [np.concatenate([g, samples(dtype, 500, rng)]) for g in grid]


def assert_same(got: Array, expected: Array, what: str, *xs: Array) -> None:
    """Equal values with equal signs; NaN equals NaN."""
    assert got.dtype == expected.dtype, what
    if got.dtype.kind in "biu":
        wrong = got != expected
    else:
        a, b = got.astype(np.float64), expected.astype(np.float64)
        wrong = ~((a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b))
    where = np.flatnonzero(wrong)[:3]
    assert not wrong.any(), (what, [([x[i] for x in xs], got[i], expected[i]) for i in where])


@np.errstate(all="ignore")
def errors(y: Array, exact: Array, dtype: DType) -> Array:
    """|y - exact| in units of the last place; infinite where a special value is wrong.

    Numbers below the normal ones may be zero.
    """
    info = np.finfo(np.float32 if dtype is bfloat16 else dtype.numpy)
    digits = {bfloat16: 8, float32: 24, float64: 53}[dtype]
    near, got = exact.astype(np.float64), y.astype(np.float64)  # the exponent is what counts
    size = np.abs(near)
    normal = (size >= info.tiny) & (size <= info.max) & (np.abs(exact) <= info.max)
    _, exponent = np.frexp(near[normal])
    unit = np.ldexp(1.0, exponent - digits)
    error = np.full(y.shape, np.inf)
    error[normal] = np.abs(y[normal].astype(Long) - exact[normal]).astype(np.float64) / unit
    tiny = (size < info.tiny) & (np.abs(got) <= info.tiny) & (np.signbit(got) == np.signbit(near))
    large = (size > info.max) & (got == np.copysign(np.inf, near))
    error[~normal & (tiny | large | np.isnan(near) & np.isnan(got))] = 0
    error[np.isnan(error)] = np.inf
    return error


# ---- the table -----------------------------------------------------------------------------


def test_every_pointwise_op_has_a_rule() -> None:
    assert len(OPS) >= 50
    for name in (*OPS, "cast", "where", "literal", "stop_gradient", "alias"):
        assert name in POINTWISE, f"no machine code for {name}"


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.short)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ops_that_round_once_equal_their_reference(target: Target, dtype: DType) -> None:
    for count in (1, 2):
        ops = {
            name: result
            for name, op in OPS.items()
            if arity(op) == count
            and (result := result_of(op, dtype)) is not None
            and not (dtype.is_floating and name in {**FUNCTIONS, **FUNCTIONS_OF_TWO})
        }
        if not ops:
            continue
        xs = operands(dtype, count)
        ys = applied(each_of([*ops.items()], *[dtype] * count), *xs, target=target)
        for name, y in zip(ops, ys, strict=True):
            defined = np.ones(y.shape, bool)
            if name == "pow" and dtype.kind == "i":  # of which NumPy has no negative exponents
                defined = xs[1] >= 0
            kept = [x[defined] for x in xs]
            expected = OPS[name].reference(None, *kept)
            assert_same(y[defined], expected, f"{name} of {dtype}", *kept)


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.short)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_casts_equal_their_reference(target: Target, dtype: DType) -> None:
    (x,) = operands(dtype, 1)
    if dtype.is_floating:
        near = np.outer([127, 128, 255, 256, 32767.5, 2.0**31, 2.0**63], [-1, 1, 0.999, -1.001])
        x = np.concatenate([x, near.ravel().astype(x.dtype)])
    ys = applied(each_of([("cast", d) for d in ALL], dtype), x, target=target)
    for y, to in zip(ys, ALL, strict=True):
        assert_same(y, CAST.reference(to, x), f"cast of {dtype} to {to}", x)


# ---- elementary functions ------------------------------------------------------------------


def places(dtype: DType, n: int) -> Array:
    """Numbers of every size, dense where functions bend, and beside multiples of pi/2."""
    rng = np.random.default_rng(1)
    top = 300 if dtype is float64 else 37
    sign, side = rng.choice([-1, 1], n), rng.choice([-1, 1], n)
    parts = [
        10 ** rng.uniform(-top, top, n) * sign,
        10 ** rng.uniform(-4, 4, n) * sign,
        rng.uniform(-2, 2, n),
        rng.uniform(-100, 100, n),
        rng.uniform(-750, 750, n),
        (1 + 10 ** rng.uniform(-15 if dtype is float64 else -7, 0, n) * sign) * side,
        np.arange(-1000, 1000) * (np.pi / 2),
    ]
    return np.concatenate([special(dtype), np.concatenate(parts).astype(dtype.numpy)])


@cache
def exact(name: str, dtype: DType) -> Array:
    """The values of a function at `places`, in more bits."""
    with np.errstate(all="ignore"):
        values: Array = FUNCTIONS[name](places(dtype, COUNT[dtype]).astype(Long))
    return values


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)
@pytest.mark.parametrize("target", TARGETS)
def test_functions_are_within_few_ulp(target: Target, dtype: DType) -> None:
    x = places(dtype, COUNT[dtype])
    ys = applied(each_of([(name, dtype) for name in FUNCTIONS], dtype), x, target=target)
    for name, y in zip(FUNCTIONS, ys, strict=True):
        error = errors(y, exact(name, dtype), dtype)
        worst = int(error.argmax())
        assert error[worst] <= BOUND[dtype], f"{name}({x[worst]!r}) = {y[worst]!r}: {error[worst]}"


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)
@pytest.mark.parametrize("target", TARGETS)
def test_functions_of_two_numbers_are_within_few_ulp(target: Target, dtype: DType) -> None:
    rng = np.random.default_rng(2)
    x, y = operands(dtype, 2)
    base = np.exp(rng.uniform(-20, 20, 5000)).astype(dtype.numpy)  # whose powers just fit
    top = np.log(float(np.finfo(dtype.numpy).max))
    power = (rng.uniform(-top, top, 5000) / np.log(base.astype(np.float64))).astype(dtype.numpy)
    x, y = np.concatenate([x, base]), np.concatenate([y, power])
    names = [(name, dtype) for name in FUNCTIONS_OF_TWO]
    results = applied(each_of(names, dtype, dtype), x, y, target=target)
    for (name, fn), z in zip(FUNCTIONS_OF_TWO.items(), results, strict=True):
        with np.errstate(all="ignore"):
            error = errors(z, fn(x.astype(Long), y.astype(Long)), dtype)
        worst = int(error.argmax())
        assert error[worst] <= BOUND[dtype], f"{name}({x[worst]!r}, {y[worst]!r}) = {z[worst]!r}"


def test_functions_of_bfloat16_round_once_more() -> None:
    x = places(bfloat16, COUNT[bfloat16])
    ys = applied(each_of([(name, bfloat16) for name in FUNCTIONS], bfloat16), x)
    for name, y in zip(FUNCTIONS, ys, strict=True):
        error = errors(y, exact(name, bfloat16), bfloat16)
        worst = int(error.argmax())
        assert error[worst] <= 0.501, f"{name}({x[worst]}) = {y[worst]}: {error[worst]}"


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)
def test_results_do_not_depend_on_the_number_of_lanes(dtype: DType) -> None:
    x = places(dtype, 300)
    expression = each_of([(name, dtype) for name in FUNCTIONS], dtype)
    expected = applied(expression, x, lanes=16)
    for lanes in (1, 3, 8):
        for name, a, b in zip(
            FUNCTIONS, applied(expression, x, lanes=lanes), expected, strict=True
        ):
            assert_same(a, b, f"{name} in {lanes} lanes", x)


# ---- the rest ------------------------------------------------------------------------------


def test_a_negative_power_of_an_integer_loses_its_fraction() -> None:
    x = np.array([-3, -2, -1, -1, 0, 1, 2, 127], np.int8)
    y = np.array([-1, -2, -1, -2, -1, -128, -1, -1], np.int8)
    (z,) = applied(each_of([("pow", int8)], int8, int8), x, y)
    assert z.tolist() == [0, 0, -1, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.short)
def test_selection_and_identity_keep_values(dtype: DType) -> None:
    x, y = operands(dtype, 2)
    condition = np.random.default_rng(0).random(x.size) < 0.5
    same = tuple(Instruction(op, dtype, (1,)) for op in ("stop_gradient", "alias"))
    chosen = Instruction("where", dtype, (0, 1, 2))
    expression = Expression((bool_, dtype, dtype), (chosen, *same), (3, 4, 5))
    for lanes in (1, 16):
        a, b, c = applied(expression, condition, x, y, lanes=lanes)
        assert_same(a, np.where(condition, x, y), "where", x, y)
        assert_same(b, x, "stop_gradient", x)
        assert_same(c, x, "alias", x)


def test_literals_stand_beside_vectors() -> None:
    x = special(float32)
    body = (
        Instruction("literal", float32, (), 0.0),
        Instruction("maximum", float32, (0, 1)),
        Instruction("maximum", float32, (1, 0)),
        Instruction("literal", bfloat16, (), 0.1),
        Instruction("literal", int32, (), -5),
        Instruction("literal", bool_, (), True),
    )
    expression = Expression((float32,), body, (2, 3, 4, 5, 6))
    for lanes in (1, 16):
        a, b, c, d, f = applied(expression, x, lanes=lanes)
        zeros = np.zeros_like(x)
        assert_same(a, np.where(x > 0, x, np.where(np.isnan(x), x, 0)), "maximum", x)
        assert_same(b, np.where(x < 0, zeros, x), "maximum", x)
        assert (c == np.asarray(0.1, bfloat16.numpy)).all()
        assert (d == -5).all()
        assert f.all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bfloat16_rounds_to_nearest_even_and_keeps_nan() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 4000, np.uint32)
    bits[:4] = 0x7F800001, 0xFFFFFFFF, 0x3F808000, 0x3F818000  # two NaNs and two ties
    x = bits.view(np.float32)
    (y,) = applied(each_of([("cast", bfloat16)], float32), x)
    assert_same(y, x.astype(bfloat16.numpy), "rounding", x)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_share_the_elements(threads: int) -> None:
    x = places(float32, 100)
    expression = each_of([("exp", float32)], float32)
    one = applied(expression, x, target=host_target())
    assert np.array_equal(one, applied(expression, x, threads=threads), equal_nan=True)


@pytest.mark.parametrize("name", ["x86-64-v2", "aarch64"])
def test_nothing_calls_a_library(name: str) -> None:
    dtypes = (float32, float32, float64, float64)
    body = [
        Instruction(op, result, (2 * side, 2 * side + 1)[: arity(OPS[op])])
        for side, dtype in enumerate((float32, float64))
        for op in OPS
        if (result := result_of(OPS[op], dtype)) is not None
    ]
    expression = Expression(dtypes, tuple(body), tuple(range(4, 4 + len(body))))
    target = named_target(name)
    code = assembly(emit(Apply(expression, target.lanes(32)), target), target)
    assert not re.findall(r"\n\t(?:callq?|bl)\t.*", code)
