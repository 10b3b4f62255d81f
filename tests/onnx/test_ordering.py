"""Operators that order, contract, sample and recur, beyond the node tests: against NumPy, and
against ONNX Runtime where it is installed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import striate as st
from striate.errors import ShapeError, StriateError
from striate.onnx.operators.sorting import order, suppressed
from tests.onnx.test_operators import Values, interpreted, parsed, run

__all__ = ["interpreted"]  # the fixture


def normal(*shape: int) -> Values:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def agrees_with_runtime(text: str, *xs: Values, tolerance: float = 1e-5) -> None:
    model = parsed(text)
    session = import_module("onnxruntime").InferenceSession(
        model, providers=["CPUExecutionProvider"]
    )
    want = session.run(None, dict(zip([i.name for i in session.get_inputs()], xs, strict=True)))
    got = st.onnx.load(model)(*xs)
    for g, w in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
        np.testing.assert_allclose(g.numpy(), w, rtol=tolerance, atol=tolerance)


needs_runtime = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="no ONNX Runtime")


@pytest.mark.parametrize("n", [1, 2, 3, 8, 100, 257])
@pytest.mark.parametrize("largest", [False, True])
def test_order_is_that_of_a_stable_sort(n: int, largest: bool) -> None:
    r = np.random.default_rng(n)
    for x in (
        normal(2, n),
        r.integers(-3, 3, (2, n)),
        r.integers(0, 255, (2, n)).astype(np.uint8),
    ):
        wide = x.astype(np.float64)
        want = np.argsort(-wide if largest else wide, -1, kind="stable")
        np.testing.assert_array_equal(order(st.asarray(x), largest).numpy(), want)


def test_top_k_has_a_derivative() -> None:
    text = "g (float[3] x) => (float[2] v, int64[2] i) <int64[1] k = {2}> { v, i = TopK(x, k) }"
    net = st.onnx.load(parsed(text))
    gradient = st.grad(lambda x: (net(x)[0] * np.float32([1, 10])).sum())(
        st.asarray([1.0, 9.0, 5.0])
    )
    assert gradient.tolist() == [0, 1, 10]


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]),
        ("ii->i", [(3, 3)]),
        ("iji->j", [(3, 2, 3)]),
        ("ij->", [(3, 2)]),
        ("i,j,k->kji", [(2,), (3,), (4,)]),
        ("ij,ij->", [(2, 3), (2, 3)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("ab,bc,cd->da", [(2, 3), (3, 4), (4, 5)]),
        ("ba", [(2, 3)]),
        ("ij,kj", [(2, 3), (4, 3)]),
        ("abc,c,ab->ab", [(2, 3, 4), (4,), (2, 3)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    xs = [normal(*s) for s in shapes]
    names = ", ".join(f"x{k}" for k in range(len(xs)))
    inputs = ", ".join(
        f"float[{','.join(map(str, s))}] x{k}" for k, s in enumerate(shapes)
    )  # fmt: skip
    want = np.einsum(equation, *(x.astype(np.float64) for x in xs))
    sizes = ",".join(map(str, want.shape))
    kind = f"float[{sizes}]" if sizes else "float"
    got = run(
        f'g ({inputs}) => ({kind} y) {{ y = Einsum <equation = "{equation}"> ({names}) }}', *xs
    )
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_what_is_suppressed_overlaps_a_better_box() -> None:
    r = np.random.default_rng(0)
    low = r.uniform(0, 10, (60, 2))
    boxes = np.concatenate([low, low + r.uniform(1, 4, (60, 2))], axis=1)
    scores = r.uniform(0, 1, 60)
    kept = suppressed(boxes, scores, 60, 0.3, 0.1)

    def overlap(a: Any, b: Any) -> float:
        side = np.minimum(boxes[a, 2:], boxes[b, 2:]) - np.maximum(boxes[a, :2], boxes[b, :2])
        shared = np.prod(np.maximum(side, 0))
        areas = [np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (a, b)]
        return float(shared / (sum(areas) - shared))

    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    for k, box in enumerate(kept):
        assert all(overlap(box, other) <= 0.3 for other in kept[:k])
    for box in set(np.flatnonzero(scores > 0.1)) - set(kept):
        assert any(overlap(box, other) > 0.3 and scores[other] >= scores[box] for other in kept)


@needs_runtime
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_by_runtime(kind: str, gates: int, direction: str) -> None:
    d, h, c = 2 if direction == "bidirectional" else 1, 5, 3
    xs = [
        normal(6, 2, c), normal(d, gates * h, c), normal(d, gates * h, h), normal(d, 2 * gates * h),
        np.int32([6, 4]), normal(d, 2, h),
    ]  # fmt: skip
    last = f", float[{d},2,{h}] l" if kind == "LSTM" else ""
    agrees_with_runtime(
        f"g (float[6,2,{c}] x, float[{d},{gates * h},{c}] w, float[{d},{gates * h},{h}] r, "
        f"float[{d},{2 * gates * h}] b, int32[2] n, float[{d},2,{h}] i) => "
        f"(float[6,{d},2,{h}] y, float[{d},2,{h}] z{last}) {{ y, z{', l' if last else ''} = {kind} "
        f'<hidden_size = {h}, direction = "{direction}"> (x, w, r, b, n, i) }}',
        *xs,
    )


@needs_runtime
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample_by_runtime(mode: str, padding: str, align: int) -> None:
    grid = np.random.default_rng(1).uniform(-1.6, 1.6, (2, 3, 5, 2)).astype(np.float32)
    agrees_with_runtime(
        "g (float[2,3,4,6] x, float[2,3,5,2] p) => (float[2,3,3,5] y) { y = GridSample "
        f'<mode = "{mode}", padding_mode = "{padding}", align_corners = {align}> (x, p) }}',
        normal(2, 3, 4, 6), grid, tolerance=1e-4,
    )  # fmt: skip


@needs_runtime
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("half", ["half_pixel", "output_half_pixel"])
def test_roi_align_by_runtime(ratio: int, half: str) -> None:
    r = np.random.default_rng(2)
    low = r.uniform(-3, 20, (7, 2))
    rois = np.concatenate([low, low + r.uniform(0.5, 15, (7, 2))], axis=1).astype(np.float32)
    agrees_with_runtime(
        "g (float[2,3,12,10] x, float[7,4] b, int64[7] i) => (float[7,3,4,2] y) { y = RoiAlign "
        f'<output_height = 4, output_width = 2, sampling_ratio = {ratio}, spatial_scale = 0.5, '
        f'coordinate_transformation_mode = "{half}"> (x, b, i) }}',
        normal(2, 3, 12, 10), rois, r.integers(0, 2, 7), tolerance=1e-4,
    )  # fmt: skip


def test_deform_conv_without_offsets_is_a_convolution() -> None:
    x, w = normal(2, 4, 7, 6), normal(6, 2, 3, 3)
    text = """g (float[2,4,7,6] x, float[6,2,3,3] w, float[2,36,4,3] o) => (float[2,6,4,3] y)
        { y = DeformConv <group = 2, offset_group = 2, pads = [1,1,1,1], strides = [2,2]>
            (x, w, o) }"""
    got = run(text, x, w, np.zeros((2, 36, 4, 3), np.float32))
    want = st.conv(x, w, stride=2, padding=1, groups=2).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('y = Einsum <equation = "ij,jk->ik"> (x)', "2 operands"),
        ('y = Einsum <equation = "i->i"> (x)', "does not fit"),
        ('y = Einsum <equation = "ij->ii"> (x)', "twice"),
        ('y = Einsum <equation = "i1->i"> (x)', "letters"),
        ('y = Einsum <equation = "ii->i"> (x)', "has sizes"),
        ("y, i = TopK (x, nine)", "the size of axis"),
        ("y = Compress <axis = 0> (x, five)", "longer"),
        ('y = RNN <hidden_size = 2, direction = "back"> (x, x, x)', "direction"),
        ("y = RNN <hidden_size = 2> (x, x, x)", "do not fit"),
        ("y = GridSample (x, x)", "spatial axis"),
        ("y = RoiAlign (x, x, nine)", "do not fit"),
        ("y = NonMaxSuppression (x, x)", "wants boxes"),
    ],
)
def test_wrong_nodes(text: str, message: str) -> None:
    model = f"""g (float[2,3] x) => (float[a,b] y)
        <int64[1] nine = {{9}}, bool[5] five = {{1, 0, 1, 0, 1}}> {{ {text} }}"""
    with pytest.raises((StriateError, ShapeError), match=message):
        run(model, normal(2, 3))
