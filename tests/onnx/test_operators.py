"""Operators that the node tests of the `onnx` package leave open: against NumPy, or against ONNX
Runtime where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import striate as st
from striate.errors import ShapeError, StriateError

Values = NDArray[Any]


@pytest.fixture(autouse=True)
def interpreted() -> Iterator[None]:
    with st.config(backend="numpy"):
        yield


def parsed(text: str, opset: int = 21) -> bytes:
    """A model in ONNX's text."""
    from onnx import parser

    header = f'<ir_version: 10, opset_import: ["": {opset}]>'
    model: bytes = parser.parse_model(header + text).SerializeToString()
    return model


def run(text: str, *xs: Values, opset: int = 21) -> Any:
    y = st.onnx.load(parsed(text, opset))(*xs)
    return tuple(v.numpy() for v in y) if isinstance(y, tuple) else y.numpy()


def integers(low: int, high: int, *shape: int, dtype: str = "int8") -> Values:
    return np.random.default_rng(len(shape) + high).integers(low, high, shape).astype(dtype)


def half_even(x: Values, zero: int, dtype: str) -> Values:
    info = np.iinfo(dtype)
    return np.clip(np.rint(x) + zero, info.min, info.max).astype(dtype)


@pytest.mark.parametrize("per_filter", [False, True])
def test_a_quantized_convolution_is_exact(per_filter: bool) -> None:
    x, w = integers(0, 256, 2, 4, 6, 6, dtype="uint8"), integers(-128, 128, 6, 2, 3, 3)
    zeros = np.array([3, -5, 0, 7, 1, -128] if per_filter else 3, np.int8)
    scales = np.float32(2.0 ** -np.arange(6) if per_filter else 0.5)
    b = integers(-9999, 9999, 6, dtype="int32")
    y = run(
        """g (uint8[2,4,6,6] x, int8[6,2,3,3] w, float ws, int8 wz, int32[6] b)
        => (uint8[2,6,6,5] y)
        <float xs = {0.25}, uint8 xz = {200}, float ys = {64.0}, uint8 yz = {17}>
        { y = QLinearConv <group = 2, pads = [1, 0, 1, 1]> (x, xs, xz, w, ws, wz, ys, yz, b) }"""
        .replace("float ws", "float[6] ws" if per_filter else "float ws")
        .replace("int8 wz", "int8[6] wz" if per_filter else "int8 wz"),
        x, w, scales, zeros, b,
    )  # fmt: skip
    centered = np.pad(x.astype(np.float64) - 200, [(0, 0), (0, 0), (1, 1), (0, 1)])
    filters = w.astype(np.float64) - zeros.reshape(-1, 1, 1, 1)
    windows = np.lib.stride_tricks.sliding_window_view(centered, (3, 3), (2, 3))
    total = np.concatenate(
        [
            np.einsum(
                "nchwij,kcij->nkhw", windows[:, 2 * g : 2 * g + 2], filters[3 * g : 3 * g + 3]
            )
            for g in range(2)
        ],
        axis=1,
    )
    total += b.reshape(-1, 1, 1)
    factor = 0.25 * scales.astype(np.float64).reshape(-1, 1, 1) / 64  # powers of two: exact
    np.testing.assert_array_equal(y, half_even(total * factor, 17, "uint8"))


def test_quantizing_rounds_half_to_even_and_saturates() -> None:
    x = np.float32([-1e9, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 300, np.inf])
    y = run("g (float[9] x) => (int8[9] y) <float s = {1.0}, int8 z = {-3}> "
            "{ y = QuantizeLinear(x, s, z) }", x)  # fmt: skip
    np.testing.assert_array_equal(y, half_even(x, -3, "int8"))
    zero = run(
        "g (float[2] x) => (uint8[2] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear(x) }",
        np.zeros(2, np.float32),
    )
    assert [v.tolist() for v in (zero[0], zero[2])] == [[0, 0], 0]


def test_products_of_integers_have_zero_points_of_rows_and_columns() -> None:
    a, b = integers(0, 256, 3, 4, dtype="uint8"), integers(-128, 128, 4, 5)
    rows, columns = np.uint8([1, 2, 200]), np.int8([1, 0, -7, 5, 100])
    y = run("g (uint8[3,4] a, int8[4,5] b, uint8[3] p, int8[5] q) => (int32[3,5] y)"
            "{ y = MatMulInteger(a, b, p, q) }", a, b, rows, columns)  # fmt: skip
    wide = (a.astype(np.int64) - rows[:, None]) @ (b.astype(np.int64) - columns)
    np.testing.assert_array_equal(y, wide)


def test_global_lp_pool() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    y = run("g (float[2,3,4,5] x) => (float[2,3,1,1] y) { y = GlobalLpPool <p = 3> (x) }", x)
    want = (np.abs(x.astype(np.float64)) ** 3).sum((2, 3), keepdims=True) ** (1 / 3)
    np.testing.assert_allclose(y, want, rtol=1e-6)


LOOP = """g (float[2] x, int64 n) => (float[2] y, float[steps, 2] all)
    <bool yes = {1}, float[2] two = {2.0, 2.0}, float limit = {100.0}> {
        y, all = Loop (n, yes, x) <body = step (int64 i, bool c, float[2] v)
            => (bool go, float[2] next, float[2] row) {
                next = Mul(v, two)
                row = Identity(next)
                largest = ReduceMax <keepdims = 0> (next)
                go = Less(largest, limit)
            }>
    }"""


def test_a_loop_ends_by_its_count_or_by_its_data() -> None:
    x = np.float32([1, 3])
    y, rows = run(LOOP, x, np.int64(3))
    assert y.tolist() == [8, 24] and rows.shape == (3, 2)
    y, rows = run(LOOP, x, np.int64(50))
    assert y.tolist() == [64, 192] and rows.shape == (6, 2)


def test_a_branch_is_chosen_by_data() -> None:
    text = """g (float[2] x) => (float[k] y) <float zero = {0.0}> {
        s = ReduceSum <keepdims = 0> (x)
        c = Less(zero, s)
        y = If (c) <then_branch = a () => (float[2] p) { p = Neg(x) },
                    else_branch = b () => (float[4] q) { q = Concat <axis = 0> (x, x) }>
    }"""
    assert run(text, np.float32([1, 2])).tolist() == [-1, -2]
    assert run(text, np.float32([-1, 0])).tolist() == [-1, 0, -1, 0]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_resize_by_runtime(mode: str, coordinates: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 7)).astype(np.float32)
    for sizes in ((1, 2, 10, 21), (1, 2, 3, 4), (1, 2, 8, 3)):
        model = parsed(
            f"g (float[1,2,5,7] x) => (float[1,2,{sizes[2]},{sizes[3]}] y)"
            f"<int64[4] sizes = {{{', '.join(map(str, sizes))}}}>"
            f'{{ y = Resize <mode = "{mode}", coordinate_transformation_mode = "{coordinates}">'
            f'(x, "", "", sizes) }}'.replace('""', "")
        )
        session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (want,) = session.run(None, {"x": x})
        np.testing.assert_allclose(st.onnx.load(model)(x).numpy(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('y = Resize <mode = "best"> (x, , s)', "mode must be"),
        ("y = Resize (x, , s, n)", "one of scales and sizes"),
        ("y = Resize (x, , , three)", "one value for each"),
        ('y = Resize <coordinate_transformation_mode = "here"> (x, , s)', "unknown"),
        ('y = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, , s)', "roi"),
        ('y = Resize <nearest_mode = "near"> (x, , s)', "nearest_mode"),
        ("y = Resize (x, , negative)", "positive"),
        ("y = Resize (x, , huge)", "memory"),
        ("y = CenterCropPad (x, three)", "for each of the axes"),
        ("y = LpPool <kernel_shape = [2, 2], p = 0> (x)", "at least 1"),
        ("y = MaxUnpool <kernel_shape = [2, 2]> (x, three)", "an index for each value"),
    ],
)
def test_wrong_nodes(text: str, message: str) -> None:
    model = f"""g (float[1,1,4,4] x) => (float[a,b,c,d] y)
        <float[4] s = {{1.0, 1.0, 2.0, 2.0}}, int64[4] n = {{1, 1, 8, 8}},
         int64[3] three = {{1, 8, 8}}, float[4] negative = {{1.0, 1.0, -2.0, 2.0}},
         float[4] huge = {{1.0, 1.0, 1e9, 1e9}}> {{ {text} }}"""
    with pytest.raises(StriateError, match=message):
        run(model, np.ones((1, 1, 4, 4), np.float32))


def test_quantized_wrong() -> None:
    with pytest.raises(ShapeError, match="no scale or zero point"):
        run("g (float[2,3] x, float[2] s) => (uint8[2,3] y) { y = QuantizeLinear(x, s) }",
            np.ones((2, 3), np.float32), np.ones(2, np.float32))  # fmt: skip
