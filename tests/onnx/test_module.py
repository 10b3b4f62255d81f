"""A model from a file as a module: how it is called, what its weights are, how it is trained."""

from __future__ import annotations

import doctest
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import striate as st
from striate import nn, optim
from striate.onnx import OnnxModule

HEAD = '<ir_version: 8, opset_import: ["": 17]> '
# Shapes as PyTorch exports them: the batch from Shape, the rest by -1. Two underscores are a dot.
NETWORK = """
net (float[n, 2, h, w] image) => (float[n, 3] logits)
<int64[1] first = {0}, int64[1] rest = {-1}>
{
  a = Conv <pads = [1, 1, 1, 1]> (image, conv__weight, conv__bias)
  b = BatchNormalization(a, bn__weight, bn__bias, bn__running_mean, bn__running_var)
  c = Relu(b)
  p = GlobalAveragePool(c)
  s = Shape(p)
  n0 = Gather <axis = 0> (s, first)
  shape = Concat <axis = 0> (n0, rest)
  f = Reshape(p, shape)
  logits = Gemm <transB = 1> (f, fc__weight, fc__bias)
}
"""


def weights(rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    shapes = {
        "conv.weight": (4, 2, 3, 3), "conv.bias": (4,), "bn.weight": (4,), "bn.bias": (4,),
        "bn.running_mean": (4,), "bn.running_var": (4,), "fc.weight": (3, 4), "fc.bias": (3,),
    }  # fmt: skip
    return {k: rng.uniform(0.5, 1.5, s).astype(np.float32) for k, s in shapes.items()}


def with_weights(text: str, values: dict[str, Any]) -> bytes:
    model = parser.parse_model(HEAD + text)
    for node in model.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    return model.SerializeToString()


def same_network(values: dict[str, Any]) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.conv = nn.Conv2d(2, 4, 3, padding=1)
            self.bn = nn.BatchNorm2d(4)
            self.fc = nn.Linear(4, 3)

        def forward(self, x: st.Array) -> st.Array:
            return self.fc(st.mean(st.relu(self.bn(self.conv(x))), (2, 3)))

    net = Net()
    net.load_state_dict({"bn.num_batches_tracked": np.int64(0), **values})
    return net.eval()


@pytest.fixture
def values() -> dict[str, Any]:
    return weights(np.random.default_rng(0))


@pytest.fixture
def net(values: dict[str, Any]) -> OnnxModule:
    return st.onnx.load(with_weights(NETWORK, values))


def test_it_computes_for_any_batch_and_size(net: OnnxModule, values: dict[str, Any]) -> None:
    expected = same_network(values)
    rng = np.random.default_rng(1)
    for shape in [(1, 2, 8, 8), (3, 2, 5, 9), (2, 2, 16, 4)]:
        x = rng.standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(net(x).numpy(), expected(x).numpy(), rtol=1e-5, atol=1e-5)


def test_weights_have_their_names(net: OnnxModule, values: dict[str, Any]) -> None:
    state = net.state_dict()
    assert state.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(state[name].numpy(), value)
    assert {name for name, _ in net.named_buffers()} == {"bn.running_mean", "bn.running_var"}
    net.load_state_dict({k: v * 0 for k, v in values.items()})
    assert net(np.ones((1, 2, 4, 4), np.float32)).tolist() == [[0, 0, 0]]


def test_training_is_that_of_the_same_network(net: OnnxModule, values: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((6, 2, 6, 6)).astype(np.float32), np.arange(6) % 3
    losses, nets = [], (net, same_network(values))
    for module in nets:
        module.train()
        optimizer = optim.SGD(module.parameters(), lr=0.1)
        step = st.train_step(module, nn.CrossEntropyLoss(), optimizer)
        losses.append([step(x, y).item() for _ in range(4)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0][-1] < losses[0][0]
    mine, other = (module.state_dict() for module in nets)
    for name in values:
        if name != "bn.running_var":  # ONNX keeps the biased variance
            np.testing.assert_allclose(
                mine[name].numpy(), other[name].numpy(), rtol=1e-3, atol=1e-5
            )


def test_a_copy_is_independent(net: OnnxModule) -> None:
    x = np.ones((1, 2, 4, 4), np.float32)
    before = net(x).tolist()
    other = deepcopy(net)
    assert other(x).tolist() == before
    other.load_state_dict({k: v * 2 for k, v in other.state_dict().items()})
    assert other(x).tolist() != before
    assert net(x).tolist() == before


def test_it_is_part_of_other_graphs(net: OnnxModule) -> None:
    x = np.ones((1, 2, 4, 4), np.float32)
    twice = st.jit(lambda v: net(v) * 2)
    np.testing.assert_allclose(twice(x).numpy(), net(x).numpy() * 2, rtol=1e-6)
    assert st.grad(lambda v: net(v).sum())(st.asarray(x)).shape == x.shape
    assert len(nn.Sequential(net, nn.ReLU()).state_dict()) == len(net.state_dict())


def test_the_graph_can_be_read(net: OnnxModule) -> None:
    graph = net.graph
    assert [node.op_type for node in graph.nodes][:3] == ["Conv", "BatchNormalization", "Relu"]
    assert [str(v) for v in graph.inputs] == ["image: float[n, 2, h, w]"]
    text = str(graph)
    assert "a = Conv(image, conv.weight, conv.bias, pads=[1, 1, 1, 1])" in text
    assert "conv.weight: float32[4, 2, 3, 3]" in text
    assert repr(net) == "OnnxModule(image: float[n, 2, h, w] -> logits: float[n, 3])"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    data = with_weights(NETWORK, values)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install striate\[onnx\]"):
        st.onnx.load(data)


def test_it_changes_its_precision(net: OnnxModule, values: dict[str, Any]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 2, 5, 5))
    y = net.to("float64")(x)
    assert y.dtype is st.float64
    expected = same_network(values).to("float64")(x)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-12)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of docs/onnx.md do what the page says."""
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
    done = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert (done.failed, done.attempted) == (0, 14)


# ---- calls ---------------------------------------------------------------------------------


def load(text: str, values: dict[str, Any] | None = None) -> OnnxModule:
    return st.onnx.load(with_weights(text, values or {}))


def test_several_inputs_and_outputs() -> None:
    net = load(
        "g (float[n] a, float[n] b) => (float[n] s, float[n] d) { s = Add(a, b) d = Sub(a, b) }"
    )
    a, b = np.float32([5, 6]), np.float32([1, 2])
    assert [y.tolist() for y in net(a, b)] == [[6, 8], [4, 4]]
    assert [y.tolist() for y in net(a, b=b)] == [[6, 8], [4, 4]]
    assert [y.tolist() for y in net(b=a, a=b)] == [[6, 8], [-4, -4]]


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((), st.ShapeError, "takes 1 inputs"),
        ((np.zeros((1, 2, 4, 4), np.float32),) * 2, st.ShapeError, "takes 1 inputs"),
        ((np.zeros((2, 4, 4), np.float32),), st.ShapeError, "has 4 axes, got f32"),
        ((np.zeros((1, 2, 4, 4), np.int64),), st.DTypeError, "cast it"),
        ((np.zeros((1, 3, 4, 4), np.float32),), st.ShapeError, "'a'.*channels"),
    ],
)
def test_wrong_calls(
    net: OnnxModule, args: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        net(*args)


def test_a_shape_may_be_an_input() -> None:
    net = load("g (float[n, m] x, int64[k] shape) => (float[a, b] y) { y = Reshape(x, shape) }")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for shape in [(3, 2), (6, 1), (3, 2), (1, -1)]:
        assert net(x, np.array(shape)).tolist() == x.reshape(shape).tolist()


def test_a_shape_may_depend_on_data_outside_of_a_trace() -> None:
    """The number of rows is the largest element: the model runs up to there, and then on."""
    net = load("""
      g (float[n, m] x) => (float[a, b] y)
      { big = ReduceMax <keepdims = 0> (x) n = Cast <to = 7> (big) k = Unsqueeze(n, axis)
        axis = Constant <value_ints = [0]> ()
        w = Add(x, weight) flat = ReduceSum <keepdims = 0> (w) y = Expand(flat, k) }
    """, {"weight": np.float32([[1, 2]])})  # fmt: skip
    assert net(np.float32([[1, 3]])).tolist() == [7, 7, 7]
    assert net(np.float32([[2, 0]])).tolist() == [5, 5]
    assert list(net.state_dict()) == ["weight"]
    with pytest.raises(st.TraceError, match=r"Expand.*'shape' must be known"):
        st.jit(net)(np.float32([[1, 3]]))


def test_shapes_of_shapes_need_no_data() -> None:
    """Arithmetic, slices and comparisons of sizes."""
    net = load("""
      g (float[n, c, h, w] x) => (float[a, b] y)
      { s = Shape(x) two = Constant <value_int = 2> () hw = Slice(s, at, end)
        at = Constant <value_ints = [2]> () end = Constant <value_ints = [4]> ()
        half = Div(hw, two) more = Add(half, half) same = Equal(more, hw)
        chosen = Where(same, half, hw) zero = Constant <value_ints = [0, 0]> ()
        all = Concat <axis = 0> (zero, chosen) cut = Slice(x, zero4, all0)
        zero4 = Constant <value_ints = [0, 0, 0, 0]> () nc = Slice(s, zero1, at)
        zero1 = Constant <value_ints = [0]> () all0 = Concat <axis = 0> (nc, chosen)
        y = Flatten(cut) }
    """)  # fmt: skip
    for shape in [(2, 3, 4, 6), (1, 1, 8, 5)]:
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        h, w = (n // 2 if n % 2 == 0 else n for n in shape[2:])
        assert net(x).tolist() == x[:, :, :h, :w].reshape(shape[0], -1).tolist()


def test_random_numbers_are_other_ones_at_each_call() -> None:
    net = load("""
      g (float[n] x) => (float[n] y) { z = RandomNormalLike <mean = 3.0> (x) y = Add(x, z) }
    """)
    x = np.zeros(5000, np.float32)
    st.random.seed(1)
    first, second = net(x).numpy(), net(x).numpy()
    st.random.seed(1)
    np.testing.assert_array_equal(net(x).numpy(), first)
    assert not np.array_equal(first, second)
    for y in (first, second):
        assert abs(y.mean() - 3) < 0.1  # 7 standard deviations
        assert abs(y.std() - 1) < 0.1


def test_dropout_drops_in_training_mode() -> None:
    net = load("g (float[n] x) => (float[n] y) <float rate = {0.25}> { y = Dropout(x, rate) }")
    x = np.ones(4000, np.float32)
    assert net(x).tolist() == x.tolist()
    y = net.train()(x).numpy()
    assert set(np.unique(y)) == {0, np.float32(4 / 3)}
    assert abs((y == 0).mean() - 0.25) < 0.05  # 7 standard deviations
    assert net.eval()(x).tolist() == x.tolist()


# ---- versions and element types ------------------------------------------------------------


def model(version: int, nodes: list[Any], values: dict[str, Any]) -> OnnxModule:
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy"]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:])
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    opsets = [helper.make_opsetid("", version)]
    return st.onnx.load(helper.make_model(graph, opset_imports=opsets).SerializeToString())


def by_version(version: int) -> OnnxModule:
    """One computation, said as each version says it."""
    node = helper.make_node
    values = {}
    inputs = {"starts": [1], "ends": [3], "axes": [1], "pads": [0, 1, 0, 1], "sums": [0]}
    asked = {"Slice": 10, "Pad": 11, "ReduceSum": 13, "Squeeze": 13, "Clip": 11}
    new = {op: version >= since for op, since in asked.items()}
    values = {k: np.array(v) for k, v in inputs.items()} if version >= 10 else {}
    values |= {"low": np.float32(0), "high": np.float32(9)} if new["Clip"] else {}
    nodes = [
        node("Slice", ["x", "starts", "ends", "axes"], ["a"])
        if new["Slice"]
        else node("Slice", ["x"], ["a"], starts=[1], ends=[3], axes=[1]),
        node("Pad", ["a", "pads"], ["b"])
        if new["Pad"]
        else node("Pad", ["a"], ["b"], pads=[0, 1, 0, 1]),
        node("Clip", ["b", "low", "high"], ["c"])
        if new["Clip"]
        else node("Clip", ["b"], ["c"], min=0.0, max=9.0),
        node("ReduceSum", ["c", "sums"], ["d"])
        if new["ReduceSum"]
        else node("ReduceSum", ["c"], ["d"], axes=[0]),
        node("Softmax", ["d"], ["e"], axis=1),
        node("Squeeze", ["e", "sums"], ["y"])
        if new["Squeeze"]
        else node("Squeeze", ["e"], ["y"], axes=[0]),
    ]
    return model(version, nodes, values)


@pytest.mark.parametrize("version", range(7, 29))
def test_versions(version: int) -> None:
    x = np.float32([[5, -1, 2, 3], [1, 1, 20, 1]])
    total = np.pad(np.clip(x[:, 1:3], 0, 9), ((0, 0), (1, 1))).sum(0)
    expected = np.exp(total - total.max()) / np.exp(total - total.max()).sum()
    np.testing.assert_allclose(by_version(version)(x).numpy(), expected, rtol=1e-6)


def test_tensors_without_axes() -> None:
    net = load("""
      g (float[n] x) => (float y) <float a = {3}> { b = ReduceSum <keepdims = 0> (x) y = Mul(b, a) }
    """)
    assert net.state_dict()["a"].shape == ()
    assert net(np.float32([1, 2])).item() == 9
    values = {"i": np.array(1)}  # as an index, it takes an axis away
    net = load(
        "g (float[n, m] x) => (int64 y) { s = Shape(x) y = Gather <axis = 0> (s, i) }", values
    )
    assert net(np.zeros((2, 7), np.float32)).tolist() == 7


def test_values_of_16_bits_are_computed_in_float32() -> None:
    """float16 inputs and weights; the sum would be infinite in float16."""
    net = load("""
      g (float16[n] x) => (float16[n] y) { a = Add(x, w) y = Mul(a, v) }
    """, {"w": np.float16([60000, 1]), "v": np.float16([0.5, 1])})  # fmt: skip
    assert net(np.float16([60000, 2])).tolist() == [60000, 3]
    assert net.state_dict()["w"].dtype is st.float32
    assert len(list(net.parameters())) == 2


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_casts_and_outputs_have_the_values_of_float16(backend: str) -> None:
    """All values of float16, those halfway between them, and their neighbours."""
    net = load("""
      g (float[n] x, double[m] z, int64[k] i) => (float[n] a, float[m] b, float[k] c, float16[n] d)
      { p = Cast <to = 10> (x) a = Cast <to = 1> (p) q = Cast <to = 10> (z) b = Cast <to = 1> (q)
        r = Cast <to = 10> (i) c = Cast <to = 1> (r) d = Identity(x) }
    """)  # fmt: skip
    half = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    finite = np.sort(half[np.isfinite(half)])
    ties = np.concatenate([(finite[1:] + finite[:-1]) / 2, [65520, -65520]])
    around = [
        np.nextafter(ties.astype(t), t(s)) for t in (np.float32, np.float64) for s in (-9e9, 9e9)
    ]
    z = np.concatenate([half[~np.isnan(half)], ties, *around, [1e30, -1e30, np.nan, 1e-30, -1e-30]])
    x = z.astype(np.float32)
    x = x[(x == 0) | ~(np.abs(x) < np.finfo(np.float32).tiny)]  # machine code has no others
    i = np.array([0, 2049, 2051, -65519, 65520, -(2**40)])
    with st.config(backend=backend):
        found = [y.numpy() for y in net(x, z, i)]
    with np.errstate(over="ignore"):
        wanted = [v.astype(np.float16).astype(np.float32) for v in (x, z, i, x)]
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


def test_a_cast_to_float16_has_the_derivative_of_no_cast() -> None:
    net = load("g (float[n] x) => (float[n] y) { h = Cast <to = 10> (x) y = Mul(h, h) }")
    x = np.float32([1.0001, -3, 0.2])
    gradient = st.grad(lambda x: net(x).sum())(st.asarray(x)).numpy()
    np.testing.assert_allclose(gradient, 2 * x.astype(np.float16).astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16"])
def test_weights_of_16_bits(kind: str) -> None:
    number = getattr(TensorProto, kind)
    tensors = [
        helper.make_tensor("w", number, [3], [0.5, 1.25, -2.0]),
        helper.make_tensor("v", number, [1], np.array([3.0]).astype(np.float16).tobytes(), raw=True)
        if kind == "FLOAT16"
        else helper.make_tensor("v", number, [1], b"\x40\x40", raw=True),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in "xy"]
    nodes = [
        helper.make_node("Cast", ["w"], ["w32"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["v"], ["v32"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "w32"], ["a"]),
        helper.make_node("Add", ["a", "v32"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    net = st.onnx.load(helper.make_model(graph).SerializeToString())
    assert net(np.float32([2, 4, 1])).tolist() == [4, 8, 1]


def test_a_cast_to_the_type_of_another_tensor_rounds_to_float16() -> None:
    """The type comes from an input, a weight, what is computed from them, a Cast, or a function's
    formal input; comparisons with float16 and casts away from it are of other types.
    """
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
      g (float[n] x, float16[n] h) => (float[n] a, float[n] b, float[n] c, float[n] d, float[n] e,
                                      float[n] f, float[n] k)
      <float16[1] w = {2}>
      { a1 = CastLike (x, h) b1 = CastLike (x, w) hw = Mul (h, w) c1 = CastLike (x, hw)
        to = Cast <to = 10> (x) d1 = CastLike (x, to) e1 = local.like (x, h)
        back = Cast <to = 1> (h) f = CastLike (x, back)
        more = Less (h, w) one = Where (more, x, x) k = CastLike (x, one)
        a = Cast <to = 1> (a1) b = Cast <to = 1> (b1) c = Cast <to = 1> (c1) d = Cast <to = 1> (d1)
        e = Cast <to = 1> (e1) }
      <domain: "local", opset_import: ["": 17]> like (x, y) => (z) { z = CastLike (x, y) }"""
    net = st.onnx.load(parser.parse_model(text).SerializeToString())
    x = np.float32([1.0001, 70000, -3.3333])
    *rounded, f, k = (y.tolist() for y in net(x, np.float16([1, 2, 3])))
    with np.errstate(over="ignore"):
        assert rounded == [x.astype(np.float16).astype(np.float32).tolist()] * 5
    assert f == k == x.tolist()
    assert net.state_dict()["w"].dtype is st.float32


def test_dropout_of_a_constant_drops_others_each_time() -> None:
    net = load("g (float[n] x) => (float[n] y) <float rate = {0.5}> "
               "{ c = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]> () "
               "d = Dropout (c, rate) y = Add (x, d) }").train()  # fmt: skip
    drawn = {tuple(net(np.zeros(8, np.float32)).tolist()) for _ in range(16)}
    assert len(drawn) > 4  # of 256 equally likely ones


def test_a_loop_without_a_condition_or_a_number_of_trips() -> None:
    body = "<body = b (int64 i, bool c, float[n] s) => (bool d, float[n] t)"
    for given, last in (("m, ", "Identity (c)"), (", yes", "Less (i, two)")):
        net = load(f"""g (float[n] x) => (float[n] y)
          <int64 m = {{3}}, int64 two = {{2}}, bool yes = {{1}}>
          {{ y = Loop {body} {{ t = Add (s, s) d = {last} }}> ({given}, x) }}""")
        assert net(np.float32([1, 2])).tolist() == [8, 16]
