"""`st.onnx.save`: what is written passes ONNX's checker (`save` asks it), and gives our results
when another implementation runs it: ONNX Runtime where it is installed, else ONNX's reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import striate as st
from striate import nn
from striate.errors import ShapeError, StriateError, TraceError
from striate.pytree import flatten

onnx = pytest.importorskip("onnx")

Values = NDArray[Any]
RUNTIME = find_spec("onnxruntime") is not None
# ONNX's reference has no groups in ConvTranspose, and no axis over 64 in GatherElements.
BEYOND_THE_REFERENCE = (nn.ConvTranspose2d, nn.AdaptiveMaxPool2d)


@pytest.fixture(autouse=True)
def interpreted() -> Iterator[None]:
    """Our results by the oracle: what is tested is the file."""
    with st.config(backend="numpy"):
        yield


def runner(path: Path) -> Callable[..., list[Values]]:
    """The model, run by somebody else."""
    session: Any
    if RUNTIME:
        onnxruntime = import_module("onnxruntime")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
    else:
        session = import_module("onnx.reference").ReferenceEvaluator(str(path))
        names = session.input_names
    return lambda *xs: session.run(None, dict(zip(names, xs, strict=True)))


def agree(f: Any, run: Callable[..., list[Values]], *xs: Values) -> None:
    """Both sum in another order: float32 products of a few hundred terms of about 1."""
    want = f(*map(st.asarray, xs))
    want = want if isinstance(want, tuple) else (want,)
    for w, g in zip(want, run(*xs), strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.numpy().dtype)
        np.testing.assert_allclose(g, w.numpy(), rtol=2e-5, atol=2e-5)


def written(f: Any, path: Path, *xs: Values, batch: bool = False, **options: Any) -> Any:
    """Save, compare (with other batch sizes too), and give back the model."""
    st.onnx.save(f, path, xs, dynamic_batch=batch, **options)
    if isinstance(f, nn.Module):
        f.eval()
    agree(f, lambda *xs: [y.numpy() for y in flatten(st.onnx.load(path)(*xs))[0]], *xs)
    if not RUNTIME and type(f) in BEYOND_THE_REFERENCE:
        return onnx.load(path)
    run = runner(path)
    agree(f, run, *xs)
    for size in (1, 5) if batch else ():
        n = len(xs[0])
        agree(f, run, *(np.resize(x, (size, *x.shape[1:])) if len(x) == n else x for x in xs))
    return onnx.load(path)


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def normal(*shape: int) -> Values:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


IMAGE = normal(2, 4, 9, 8)

LAYERS: list[tuple[nn.Module, str]] = [
    (nn.Conv2d(4, 6, 3, stride=2, padding=1), "Conv"),
    (nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2), "Conv"),
    (nn.Conv2d(4, 6, 3, padding=((1, 0), (2, 1))), "Conv"),
    (nn.Conv2d(4, 6, 3, stride=3, bias=False), "Conv"),
    (nn.ConvTranspose2d(4, 6, 3), "ConvTranspose"),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), "ConvTranspose"),
    (nn.ConvTranspose2d(4, 6, 3, stride=(3, 1), dilation=2, groups=2), "ConvTranspose"),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=3, bias=False), "ConvTranspose"),
    (nn.SeparableConv2d(4, 6, 3), "Conv Conv"),
    (nn.BatchNorm2d(4), "BatchNormalization"),
    (nn.BatchNorm2d(4, affine=False), "BatchNormalization"),
    (nn.InstanceNorm2d(4), "InstanceNormalization"),
    (nn.GroupNorm(2, 4), "GroupNormalization"),
    (nn.LayerNorm(8), "LayerNormalization"),
    (nn.LayerNorm((4, 9, 8), bias=False), "LayerNormalization"),
    (nn.LayerNorm2d(4), "Transpose LayerNormalization Transpose"),
    (nn.MaxPool2d(3, 2, 1), "MaxPool"),
    (nn.MaxPool2d(2, 1, 1, dilation=2, ceil_mode=True), "MaxPool"),
    (nn.MaxPool2d(2, return_indices=True), "MaxPool Mod"),
    (nn.AvgPool2d(3, 2, 1), "AveragePool"),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), "AveragePool"),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), "AveragePool"),
    (nn.AdaptiveAvgPool2d(1), "GlobalAveragePool"),
    (nn.GlobalAvgPool(), "GlobalAveragePool"),
    (nn.ReLU(), "Relu"),
    (nn.ReLU6(), "Clip"),
    (nn.Hardtanh(-0.5, 0.25), "Clip"),
    (nn.LeakyReLU(0.1), "LeakyRelu"),
    (nn.PReLU(4), "Reshape PRelu"),
    (nn.ELU(0.5), "Elu"),
    (nn.CELU(0.5), "Celu"),
    (nn.SELU(), "Selu"),
    (nn.GELU(), "Gelu"),
    (nn.GELU("tanh"), "Gelu"),
    (nn.SiLU(), "Sigmoid Mul"),
    (nn.Mish(), "Mish"),
    (nn.Hardswish(), "HardSwish"),
    (nn.Hardsigmoid(), "HardSigmoid"),
    (nn.Sigmoid(), "Sigmoid"),
    (nn.Tanh(), "Tanh"),
    (nn.Softsign(), "Softsign"),
    (nn.Softplus(), "Softplus"),
    (nn.Softshrink(0.3), "Shrink"),
    (nn.Hardshrink(0.3), "Shrink"),
    (nn.Threshold(0.3, 0.0), "ThresholdedRelu"),
    (nn.Softmax(1), "Softmax"),
    (nn.LogSoftmax(-1), "LogSoftmax"),
    (nn.ReflectionPad2d(1), "Pad"),
    (nn.ReplicationPad2d((1, 0, 2, 1)), "Pad"),
    (nn.CircularPad2d(1), "Pad"),
    (nn.ZeroPad2d((1, 2, 0, 1)), "Pad"),
    (nn.ZeroPad2d((-1, 2, 0, -1)), "Slice Pad"),
    (nn.Upsample(scale_factor=2), "Resize"),
    (nn.Upsample((18, 16), mode="bilinear"), "Resize"),
    (nn.Upsample((5, 13), mode="bilinear"), "Resize"),
    (nn.Upsample((5, 13), mode="bilinear", align_corners=True), "Resize"),
    (nn.Upsample(scale_factor=2, mode="bicubic"), "Resize"),
    (nn.Flatten(), "Reshape"),
    (nn.Linear(8, 5), "Reshape Gemm Reshape"),
    (nn.PixelShuffle(2), "Reshape Transpose Reshape"),
    (nn.Identity(), "Identity"),
]
# Layers without an operator of their own: right, as elementary operators.
COMPOSED: list[nn.Module] = [
    nn.Conv2d(4, 6, 3, stride=2, padding=1, padding_mode="reflect"),
    nn.ConvTranspose2d(4, 6, 3, dilation=2, output_padding=1),
    nn.Conv2d(4, 6, 3, padding=((-1, 0), (0, -2))),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    nn.AdaptiveAvgPool2d((4, 3)),
    nn.AdaptiveMaxPool2d((4, 3)),
    nn.GlobalMaxPool(),
    nn.LPPool2d(2, 2),
    nn.LocalResponseNorm(3),
    nn.LogSigmoid(),
    nn.Tanhshrink(),
    nn.Threshold(0.3, 1.0),
    nn.GLU(1),
    nn.Upsample(scale_factor=1.5, mode="bilinear"),
    nn.Upsample((5, 13)),
]


@pytest.mark.parametrize(("layer", "wanted"), LAYERS, ids=[repr(layer)[:60] for layer, _ in LAYERS])
def test_a_layer_is_its_operator(tmp_path: Path, layer: nn.Module, wanted: str) -> None:
    for parameter in layer.parameters():  # other than their first values, which may be 0 and 1
        parameter.assign(parameter + 0.1)
    model = written(layer, tmp_path / "m.onnx", IMAGE, batch=True)
    assert " ".join(operators(model)) == wanted


@pytest.mark.parametrize("layer", COMPOSED, ids=repr)
def test_a_layer_without_an_operator_is_composed(tmp_path: Path, layer: nn.Module) -> None:
    written(layer, tmp_path / "m.onnx", IMAGE, batch=True)


W = st.asarray(normal(6, 4, 3, 3))
FUNCTIONS: list[tuple[Callable[..., Any], str]] = [
    (lambda x: st.relu(st.conv(x, W, stride=2)), "Conv Relu"),
    (lambda x: st.conv(x, W, stride=2) + st.ones((6, 1, 1)), "Conv Add"),
    (lambda x: st.max_pool(x, 3, stride=2, padding=1), "MaxPool"),
    (lambda x: st.avg_pool(x, 3, stride=2, padding=1), "AveragePool"),
    (lambda x: st.softmax(x, 1), "Softmax"),
    (lambda x: st.log_softmax(x, 2), "LogSoftmax"),
    (lambda x: st.clip(x, -0.5, 0.5), "Clip"),
    (lambda x: st.clip(x, max=0.5), "Clip"),
    (lambda x: st.clip(x, x * 0.5, 0.5), "Mul Equal Where Where Clip"),
    (lambda x: st.mean(x, (1, 2)), "ReduceMean"),
    (lambda x: x[:, 1:-1:2, ::-1], "Slice Slice"),
    (lambda x: st.concat([x, x], axis=1), "Concat"),
    (lambda x: x.transpose(0, 2, 3, 1).transpose(0, 3, 1, 2), "Identity"),
    (lambda x: x.reshape(len(x), 2, 2, 72).reshape(len(x), 288), "Reshape"),
    (lambda x: x - st.max(x, axis=1, keepdims=True), "Transpose ReduceMax Reshape Sub"),
    (lambda x: st.zeros((len(x), 3)) + x[:, :3, 0, 0], "Slice Reshape Add"),
]


@pytest.mark.parametrize(("function", "wanted"), FUNCTIONS, ids=[w for _, w in FUNCTIONS])
def test_a_function(tmp_path: Path, function: Callable[..., Any], wanted: str) -> None:
    model = written(function, tmp_path / "m.onnx", IMAGE, batch=True)
    assert " ".join(n for n in operators(model) if n not in ("LessOrEqual", "Less")) == wanted


def test_what_only_looks_like_a_softmax(tmp_path: Path) -> None:
    """A sum that is not kept divides along another axis, and a shift must not vary."""

    def shifted(x: st.Array) -> st.Array:
        largest = st.max(x, 1, keepdims=True)
        return x - st.where(st.isinf(largest), 0.0, largest)

    def ratio(x: st.Array, axis: int, keepdims: bool) -> st.Array:
        e = st.exp(shifted(x))
        return e / st.sum(e, axis, keepdims=keepdims)

    def log_ratio(x: st.Array, axis: int, keepdims: bool) -> st.Array:
        s = shifted(x)
        return s - st.log(st.sum(st.exp(s), axis, keepdims=keepdims))

    for f, name in ((ratio, "Softmax"), (log_ratio, "LogSoftmax")):
        for axis, keepdims in ((1, True), (1, False), (0, True)):
            model = written(
                lambda x, f=f, a=axis, k=keepdims: f(x, a, k), tmp_path / "m.onnx", normal(4, 4)
            )
            assert (name in operators(model)) == ((axis, keepdims) == (1, True))


def test_products(tmp_path: Path) -> None:
    q, k, v = normal(2, 3, 5, 4), normal(2, 3, 7, 4), normal(2, 3, 7, 6)
    path = tmp_path / "m.onnx"
    written(lambda q, k, v: st.softmax(q @ k.mT, -1) @ v, path, q, k, v, batch=True)
    for a, b in (((3, 4), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5))):
        written(lambda a, b: a @ b, path, normal(*a), normal(*b))
    written(lambda a, b: a @ b, path, np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2))


def test_derivatives_are_functions_too(tmp_path: Path) -> None:
    loss = lambda x, w: (st.conv(x, w, stride=2, padding=1) ** 2).sum()  # noqa: E731
    for argument in (0, 1):
        gradient = st.grad(loss, argument)
        written(gradient, tmp_path / "m.onnx", IMAGE[:, :, :5, :4], W.numpy() * 0.1)


# ---- elementwise ops against their references ----------------------------------------------

X = np.float32([-3.7, -1.5, -1, -0.5, -1e-4, -0.0, 0.0, 1e-4, 0.5, 1, 1.5, 2.5, 60])
UNARY = {
    "abs ceil floor trunc round sign square exp expm1 sin cos tan atan sinh cosh tanh asinh erf "
    "sigmoid reciprocal isnan isinf isfinite signbit negative logical_not": X,
    "sqrt rsqrt log log1p log2 log10": np.abs(X),
    "asin acos atanh expm1 log1p": np.float32([-0.9, -0.5, -1e-4, 0, 1e-4, 0.3, 0.99]),
    "acosh": np.abs(X) + 1,
}
BINARY = (
    "add subtract multiply divide maximum minimum atan2 hypot equal not_equal less less_equal "
    "greater greater_equal logaddexp copysign logical_and logical_or logical_xor"
)
WHOLE = "add multiply maximum minimum remainder floor_divide equal less bitwise_and bitwise_xor"


def same(f: Callable[..., Any], path: Path, *xs: Values) -> None:
    """A few units in the last place, relative: ONNX Runtime's functions are no better."""
    st.onnx.save(f, path, xs)
    want = f(*map(st.asarray, xs)).numpy()
    with np.errstate(all="ignore"):
        (got,) = runner(path)(*xs)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("names", UNARY, ids=lambda names: names.split()[0])
def test_elementwise(tmp_path: Path, names: str) -> None:
    for name in names.split():
        same(getattr(st, name), tmp_path / "m.onnx", UNARY[names])


def test_elementwise_of_two(tmp_path: Path) -> None:
    a, b = (v.ravel().copy() for v in np.meshgrid(X, X))
    for name in BINARY.split():
        same(getattr(st, name), tmp_path / "m.onnx", a, b)
    same(st.pow, tmp_path / "m.onnx", np.abs(a), np.minimum(b, 3))
    for name in ("remainder", "floor_divide"):
        same(getattr(st, name), tmp_path / "m.onnx", a, np.where(b == 0, 1, b).astype(np.float32))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers(tmp_path: Path, dtype: str) -> None:
    a, b = np.meshgrid(np.arange(-4, 5), np.array([-3, -2, 1, 2, 5]))
    for name in WHOLE.split():
        same(getattr(st, name), tmp_path / "m.onnx", a.astype(dtype), b.astype(dtype))
    for name in ("bitwise_and", "maximum", "equal", "less", "not_equal"):
        same(getattr(st, name), tmp_path / "m.onnx", a > 0, b > 0)


def test_indices_and_reductions(tmp_path: Path) -> None:
    a, path = normal(3, 5), tmp_path / "m.onnx"
    same(lambda x, i: st.take(x, i, axis=1), path, a, np.array([3, -1, 0]))
    same(lambda x, i: st.take_along_axis(x, i, axis=0), path, a, np.array([[0, -1, 2, 1, 0]]))
    same(
        lambda x, i: st.grad(lambda z: st.take(z, i, axis=1).sum())(x), path, a, np.array([3, 3, 1])
    )
    for name in ("sum", "mean", "max", "min", "argmax", "argmin", "all", "any", "var", "logsumexp"):
        same(lambda x, name=name: getattr(st, name)(x, axis=0), path, a)
    same(lambda x: x.sum(), path, np.arange(5, dtype=np.int32))
    same(lambda x: x.sum() + 1, path, a)  # numbers have no axes in the file either
    same(lambda x: st.one_hot(x, 7), path, np.array([0, 6, 3]))


# ---- names, files, errors ------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, image: st.Array) -> st.Array:
        return self.head(self.drop(self.stem(image).mean((2, 3))))  # type: ignore[no-any-return]


def test_names(tmp_path: Path) -> None:
    net = Net()
    model = written(net, tmp_path / "net.onnx", normal(2, 1, 8, 8), batch=True)
    graph = model.graph
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    kept = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert [k for k in weights if not k.startswith("constant")] == list(kept)
    for name, value in kept.items():
        np.testing.assert_array_equal(weights[name], value.numpy())
    assert [n.name for n in graph.node] == [
        "stem.0/Conv", "stem.1/BatchNormalization", "stem.2/Relu", "GlobalAveragePool", "Reshape",
        "head/Gemm",
    ]  # fmt: skip
    assert ([i.name for i in graph.input], [o.name for o in graph.output]) == (
        ["image"],
        ["output"],
    )
    sizes = graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in sizes] == ["batch", 1, 8, 8]
    inner = next(v for v in graph.value_info if v.name == "stem.0/Conv")
    assert [d.dim_param or d.dim_value for d in inner.type.tensor_type.shape.dim] == [
        "batch",
        4,
        6,
        6,
    ]


def test_a_model_that_was_read_is_written_again(tmp_path: Path) -> None:
    """Its operators are seen in the primitives, as those of a function are."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2),
        nn.ConvTranspose2d(4, 5, 2, 2), nn.BatchNorm2d(5), nn.ReLU(), nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3), nn.Softmax(-1),
    )  # fmt: skip
    x = normal(2, 3, 10, 10)
    first = written(net, tmp_path / "first.onnx", x, batch=True)
    again = st.onnx.load(tmp_path / "first.onnx")
    second = written(again, tmp_path / "second.onnx", x, batch=True)
    assert operators(second) == operators(first)
    assert [k.name for k in second.graph.initializer] == [k.name for k in first.graph.initializer]


def test_a_network_of_the_library(tmp_path: Path) -> None:
    model = written(st.models.MODELS["resnet20"](), tmp_path / "m.onnx", normal(2, 3, 16, 16))
    assert {"Conv", "BatchNormalization", "Relu", "Add", "Gemm"} < set(operators(model))


def test_bfloat16(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    x = st.asarray(normal(1, 1, 6, 6)).astype("bfloat16")
    st.onnx.save(net.to("bfloat16"), tmp_path / "m.onnx", x)
    model = onnx.load(tmp_path / "m.onnx")
    assert operators(model) == ["Conv", "Relu", "MaxPool", "Reshape"]
    assert {i.data_type for i in model.graph.initializer[:2]} == {onnx.TensorProto.BFLOAT16}
    y = st.onnx.load(tmp_path / "m.onnx")(x)
    assert y.dtype is st.bfloat16
    np.testing.assert_array_equal(np.asarray(y.numpy(), "f4"), np.asarray(net(x).numpy(), "f4"))


def test_given_names_trees_and_modes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    net = Net()
    assert net.training
    st.onnx.save(
        net, path, st.ones((1, 1, 8, 8)), input_names=["x"], output_names=["logits"],
        dynamic_batch="N", metadata={"author": "us"},
    )  # fmt: skip
    assert all(m.training for m in net.modules())
    model = onnx.load(path)
    assert model.graph.output[0].name == "logits"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert {p.key: p.value for p in model.metadata_props} == {"author": "us"}
    st.onnx.save(lambda pair: {"sum": pair[0] + pair[1], "x": pair[0]}, path, ([X, X],))
    graph = onnx.load(path).graph
    assert [i.name for i in graph.input] == ["pair_0", "pair_1"]
    assert [o.name for o in graph.output] == ["output_sum", "output_x"]


def test_external_data(tmp_path: Path) -> None:
    x, path = normal(2, 64), tmp_path / "m.onnx"
    written(nn.Linear(64, 32), path, x, external_data=True)
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m.onnx.data"}
    assert path.stat().st_size < 4096 < (tmp_path / "m.onnx.data").stat().st_size
    # Another pair takes its place: until it is there, the old model has its own weights.
    written(nn.Linear(64, 16), path, x, external_data=True)
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m.onnx.1.data"}
    written(nn.Linear(64, 8), path, x, external_data=True)
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m.onnx.data"}


@pytest.mark.parametrize("external", [False, True])
def test_a_failure_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool
) -> None:
    path, net = tmp_path / "m.onnx", nn.Linear(64, 32)
    st.onnx.save(net, path, normal(1, 64), external_data=external)
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    replace, calls = os.replace, 0

    def full(source: Any, target: Any) -> None:  # the last rename, of the model, fails
        nonlocal calls
        calls += 1
        if calls == 1 + external:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        st.onnx.save(nn.Linear(64, 16), path, normal(1, 64), external_data=external)
    monkeypatch.undo()
    assert all((tmp_path / name).read_bytes() == content for name, content in old.items())
    assert st.onnx.load(path)(normal(1, 64)).shape == (1, 32)


def test_all_that_cannot_be_written_is_listed(tmp_path: Path) -> None:
    def f(x: st.Array) -> st.Array:
        pooled, index = st.max_pool(x, 2, return_indices=True)
        return st.max_unpool(pooled, index, 2).sum() + st.max_pool(st.astype(x, "int32"), 2).sum()

    with pytest.raises(
        StriateError, match=r"last_writer \(.*argmax_pool|argmax_pool \(.*last_writer"
    ):
        st.onnx.save(f, tmp_path / "m.onnx", IMAGE[:, :, :8])
    assert not list(tmp_path.iterdir())


def test_wrong_calls(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    count = st.zeros(())
    with pytest.raises(StriateError, match="assigns state"):
        st.onnx.save(lambda x: count.assign(count + 1) + x, path, X)
    with pytest.raises(StriateError, match="no array"):
        st.onnx.save(lambda x: x, path, 3)
    with pytest.raises(StriateError, match="returns no array"):
        st.onnx.save(lambda x: None, path, X)
    with pytest.raises(ShapeError, match="2 different names"):
        st.onnx.save(lambda x, y: x + y, path, (X, X), input_names=["a", "a"])
    with pytest.raises(ShapeError, match="different names"):
        st.onnx.save(lambda x: x + 1, path, X, output_names=["x"])
    with pytest.raises(TraceError):
        st.onnx.save(lambda x: x if x.sum() > 0 else -x, path, X)
    with pytest.raises(StriateError, match="batch cannot be of any size"):
        st.onnx.save(lambda x: x * len(x), path, X, dynamic_batch=True)
    with pytest.raises(ShapeError, match="no axis"):
        st.onnx.save(lambda x: x * 2, path, st.ones(()), dynamic_batch=True)
    assert not list(tmp_path.iterdir())
