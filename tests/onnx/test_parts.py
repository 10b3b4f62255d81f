"""Models that need values of their data: how they are divided, and what their parts compute."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import striate as st
from striate.onnx import run
from striate.onnx.parts import divided, fixed_names
from striate.onnx.read import read_proto

HEAD = '<ir_version: 8, opset_import: ["": 17]> '
# Two suppressions that are independent of each other, and one of what both leave.
MODEL = (
    HEAD
    + """
g (float[1, n, 4] boxes, float[1, 2, n] scores) => (float[a, 4] y, float[b, 4] z, float size)
<int64[1] most = {9}, float[1] loose = {0.7}, float[1] tight = {0.3}, float[1] least = {0.2},
 int64[1] column = {2}, int64[1] zero = {0}, int64[1] one = {1}, int64[2] zeros = {0, 1},
  float[1, 1, 4] shift = {0, 0, 1, 1}>
{
  moved = Add (boxes, shift)
  a = NonMaxSuppression (moved, scores, most, loose, least)
  b = NonMaxSuppression (moved, scores, most, tight, least)
  ia = Gather <axis = 1> (a, column)
  ib = Gather <axis = 1> (b, column)
  pa = Squeeze (ia, one)
  pb = Squeeze (ib, one)
  all = Squeeze (moved, zero)
  y = Gather (all, pa)
  fewer = Gather (all, pb)
  batch = Unsqueeze (fewer, zero)
  area = ReduceSum <keepdims = 0> (fewer, one)
  score = Sigmoid (area)
  score3 = Unsqueeze (score, zeros)
  c = NonMaxSuppression (batch, score3, most, tight, least)
  ic = Gather <axis = 1> (c, column)
  pc = Squeeze (ic, one)
  z = Gather (fewer, pc)
  size = ReduceMax <keepdims = 0> (moved)
}"""
)


def data(seed: int = 0, n: int = 12) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((1, n, 2, 2)), axis=2).reshape(1, n, 4)
    return [corners.astype(np.float32), rng.random((1, 2, n)).astype(np.float32)]


def test_independent_nodes_share_a_cut() -> None:
    model = read_proto(parser.parse_model(MODEL))
    parts = divided(model, fixed_names(model))
    alone = [[node.outputs[0] for node in part.then] for part in parts]
    assert alone == [["a", "b"], ["c"], []]
    # `size` needs no suppression, so it is computed before the first one, with `moved`.
    assert set(parts[0].gives) == {"moved", "all", "size"}
    assert {node.outputs[0] for node in parts[2].nodes} == {"ic", "pc", "z"}
    assert parts[1].reads == ("a", "all", "b")


def test_parts_compute_what_the_whole_does() -> None:
    proto = parser.parse_model(MODEL)
    net = st.onnx.load(proto.SerializeToString())
    reference = ReferenceEvaluator(proto)
    for seed in range(3):
        boxes, scores = data(seed)
        wanted = reference.run(None, {"boxes": boxes, "scores": scores})
        for got, want in zip(net(boxes, scores), wanted, strict=True):
            # the only arithmetic is one addition
            np.testing.assert_allclose(got.numpy(), want, rtol=np.finfo(np.float32).eps)


def test_only_what_needs_values_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net = st.onnx.load(parser.parse_model(MODEL).SerializeToString())
    net(*data())
    seen: list[str] = []
    walk = run.Runner.walk

    def watched(self: run.Runner, nodes: Any, *rest: Any) -> None:
        seen.extend(node.op_type for node in nodes)
        walk(self, nodes, *rest)

    monkeypatch.setattr(run.Runner, "walk", watched)
    net(*data())
    assert seen == ["NonMaxSuppression"] * 3


def test_a_profile_has_all_of_it() -> None:
    net = st.onnx.load(parser.parse_model(MODEL).SerializeToString())
    rows = net.profile(*data()).rows
    alone = [row.layers for row in rows if row.label == "by itself"]
    assert alone == [("a",), ("b",), ("c",)]
    named = {name for row in rows for name in row.layers}
    assert {"moved", "y", "size", "z"} <= named


def test_weights_are_those_of_now_and_of_each_copy() -> None:
    net = st.onnx.load(parser.parse_model(MODEL).SerializeToString())
    boxes, scores = data()
    before = net(boxes, scores)[2].item()
    other = deepcopy(net)
    other.load_state_dict({"shift": np.full((1, 1, 4), 5, np.float32)}, strict=False)
    assert other(boxes, scores)[2].item() == pytest.approx(boxes.max() + 5)
    assert net(boxes, scores)[2].item() == before
    assert "loose" not in net.state_dict()  # what a suppression must know is no weight
    with pytest.raises(st.TraceError, match="must be known"):
        st.jit(net)(boxes, scores)


def test_sizes_in_constants_cut_nothing() -> None:
    """The scales of a Resize are known, though a suppression needs the image that it makes."""
    model = parser.parse_model(HEAD + """
      g (float[1, 1, h, w] x) => (int64[m, n] y) <float[4] scales = {1, 1, 2, 2}>
      { big = Resize (x, , scales) less = Sub (big, half) half = Constant <value_float = 0.5> ()
        up = Relu (less) y = NonZero (up) }""")  # fmt: skip
    plain = read_proto(model)
    assert len(divided(plain, fixed_names(plain))) == 2
    net = st.onnx.load(model.SerializeToString())
    assert list(net.state_dict()) == []
    x = np.float32([[[[0, 1], [0.5, 3]]]])
    big = x.repeat(2, 2).repeat(2, 3)
    assert net(x).tolist() == np.stack(np.nonzero(big > 0.5)).tolist()
