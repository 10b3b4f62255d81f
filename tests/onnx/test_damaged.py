"""Models that are damaged or hostile: one clear error each, no crash, no hang, no other file."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, parser

import striate as st
from striate.onnx import ModelError
from tests.onnx.fuzz import fuzz

HEAD = '<ir_version: 8, opset_import: ["": 17]> '


def load(text: str) -> Any:
    return st.onnx.load(parser.parse_model(HEAD + text).SerializeToString())


def test_damaged_models_raise_errors_of_striate() -> None:
    results = fuzz(504, seed=0)
    found = sum((r.ends for r in results), Counter[str]())
    assert sum(found.values()) == 504
    assert all(r.ends["ran"] for r in results)
    assert found["ModelError"] > 100
    assert found["ran"] > 50  # damage that does not matter, or not to the reader


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{ y = Add(x, z) }", "'Add' .*reads 'z', which nothing defines|reads 'z'"),
        ("{ a = Add(x, b) b = Neg(a) y = Abs(a) }", "cycle"),
        ("{ y = Neg(x) y = Abs(x) }", "defines 'y' a second time"),
        ("{ z = Neg(x) }", "nothing makes 'y'"),
        ("{ y = Neg(x, x) }", "has 2 inputs; the operator takes 1"),
        ("{ y = Conv(x) }", "has 1 inputs; the operator takes 2 to 3"),
        ('{ y = local.f(x) z = Nope(y) }', "2 of the model's operators"),
    ],
)  # fmt: skip
def test_a_rule_of_graphs(body: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load("g (float[n] x) => (float[n] y) " + body)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("{ y = Cast(x) }", ModelError, "Cast.*'to' is missing"),
        ("{ y = Concat <axis = 9> (x, x) }", st.ShapeError, "Concat.*axis 9"),
        ('{ y = Softmax <axis = "a"> (x) }', ModelError, "'axis' must be an integer"),
        ("{ y = MatMul(x, x) }", st.ShapeError, "MatMul.*inner sizes"),
        ("{ y = GlobalAveragePool(x) }", st.ShapeError, "GlobalAveragePool.*spatial"),
        ("{ s = Shape(x) y = Reshape(x, x) }", st.StriateError, "Reshape.*'shape' must"),
        ("{ y, z = Neg(x) }", ModelError, "names 2 outputs; there are 1"),
        (
            "{ y, z = Split <num_outputs = 1000000000> (x) }",
            st.ShapeError,
            "Split.*num_outputs is 1000000000, for 2 outputs and size 2",
        ),
    ],
)
def test_an_error_names_its_node(body: str, error: type[Exception], message: str) -> None:
    net = load("g (float[2, 3] x) => (float[a, b] y) " + body)
    with pytest.raises(error, match=message):
        net(np.zeros((2, 3), np.float32)).numpy()


def test_all_unknown_operators_are_listed_with_their_nodes() -> None:
    nodes = [
        helper.make_node("Nope", ["x"], ["a"], name="first"),
        helper.make_node("Nope", ["a"], ["b"], name="second"),
        helper.make_node("Fft", ["b"], ["y"], name="third", domain="my.own"),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]))
    with pytest.raises(ModelError) as caught:
        st.onnx.load(model.SerializeToString())
    assert str(caught.value).splitlines()[1:] == [
        "  Nope: 'first', 'second'",
        "  my.own.Fft: 'third'",
    ]


@pytest.mark.parametrize("data", [b"", b"\0", b"not a model", b"\x08\x07", bytes(1000)])
def test_bytes_that_are_no_model(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        st.onnx.load(data)
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(ModelError):
        st.onnx.load(tmp_path / "a.onnx")


def test_other_things_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        st.onnx.load(tmp_path / "none.onnx")
    with pytest.raises(ModelError):
        st.onnx.load(tmp_path)
    with pytest.raises(ModelError):
        st.onnx.load(3)


def test_an_opset_of_the_future() -> None:
    model = parser.parse_model(
        HEAD.replace("17", "999") + "g (float[1] x) => (float[1] y) { y = Neg(x) }"
    )
    with pytest.raises(ModelError, match="opset 999"):
        st.onnx.load(model.SerializeToString())


def with_functions(*bodies: str) -> bytes:
    """A model of f0(x), with functions f0, f1, ... of these bodies."""
    head = HEAD.replace("17", '17, "l": 1') + "g (float[1] x) => (float[1] y) { y = l.f0(x) }"
    functions = [
        f'<domain: "l", opset_import: ["": 17, "l": 1]> f{k} (a) => (b) {{ {body} }}'
        for k, body in enumerate(bodies)
    ]
    return parser.parse_model("\n".join([head, *functions])).SerializeToString()


def test_functions_of_functions() -> None:
    net = st.onnx.load(with_functions("c = l.f1(a) b = l.f1(c)", "b = Add(a, a)"))
    assert net(np.float32([3])).tolist() == [12]


@pytest.mark.parametrize("bodies", [["b = l.f0(a)"], ["b = l.f1(a)", "b = l.f0(a)"]])
def test_a_function_that_calls_itself(bodies: list[str]) -> None:
    with pytest.raises(ModelError, match="call themselves"):
        st.onnx.load(with_functions(*bodies))


def test_functions_that_grow_without_bound() -> None:
    bodies = [f"c = l.f{k + 1}(a) b = l.f{k + 1}(c)" for k in range(40)]
    with pytest.raises(ModelError, match="3298534883327 nodes"):
        st.onnx.load(with_functions(*bodies, "b = Neg(a)"))


def test_loops_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 trips of 60 trips: more nodes than a model may run, here 1000."""
    inner = (
        "l (int64 j, bool d, float[1] t) => (bool d1, float[1] t1){ d1 = Identity(d) t1 = Neg(t) }"
    )
    net = load(
        "g (float[1] x) => (float[1] y) <int64 trips = {60}, bool go = {1}>"
        "{ y = Loop (trips, go, x) <"
        "body = k (int64 i, bool c, float[1] s) => (bool c1, float[1] s1)"
        "{ c1 = Identity(c) s1 = Loop (trips, go, s) < body = " + inner + "> }> }"
    )
    monkeypatch.setattr("striate.onnx.run.MAX_NODES", 1000)
    with pytest.raises(ModelError, match="more than 1000 nodes"):
        net(np.zeros(1, np.float32))


# ---- tensors -------------------------------------------------------------------------------


def with_tensor(**fields: Any) -> bytes:
    """A model that adds a tensor float[2] with some fields changed."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    for key, value in fields.items():
        if key == "external":
            tensor.data_location = TensorProto.EXTERNAL
            for k, v in value.items():
                tensor.external_data.add(key=k, value=v)
        elif isinstance(value, list):
            del getattr(tensor, key)[:]
            getattr(tensor, key).extend(value)
        else:
            setattr(tensor, key, value)
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    graph.initializer.append(tensor)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [
        {"raw_data": bytes(7)},
        {"float_data": [1.0]},
        {"float_data": [1.0, 2.0], "dims": [1 << 40, 1 << 40]},
        {"raw_data": bytes(8), "dims": [-2]},
        {"raw_data": bytes(8), "data_type": 8},
        {"raw_data": bytes(8), "data_type": 77},
        {"external": {"location": "w.bin"}},
    ],
)
def test_a_tensor_that_does_not_fit(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="'w'"):
        st.onnx.load(with_tensor(**fields))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for models, beside a file that they must not read."""
    (tmp_path / "secret.bin").write_bytes(np.float32([7, 7]).tobytes())
    inner = tmp_path / "models"
    inner.mkdir()
    (inner / "w.bin").write_bytes(bytes(4) + np.float32([1, 2]).tobytes())
    return inner


def test_external_data(folder: Path) -> None:
    (folder / "a.onnx").write_bytes(
        with_tensor(external={"location": "w.bin", "offset": "4", "length": "8"})
    )
    net = st.onnx.load(folder / "a.onnx")
    assert net(np.float32([10, 20])).tolist() == [11, 22]
    assert net.state_dict()["w"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../secret.bin"},
        {"location": "..\\secret.bin"},
        {"location": "w.bin", "offset": "8"},
        {"location": "w.bin", "offset": "-4"},
        {"location": "w.bin", "offset": str(1 << 63)},
        {"location": "w.bin", "length": "12"},
        {"location": "none.bin"},
        {"location": "."},
        {"location": ""},
        {"location": "C:w.bin"},
        {"offset": "0"},
    ],
)
def test_external_data_that_are_refused(folder: Path, entries: dict[str, str]) -> None:
    (folder / "a.onnx").write_bytes(with_tensor(external=entries))
    with pytest.raises(ModelError, match="'w'"):
        st.onnx.load(folder / "a.onnx")


def test_external_data_by_an_absolute_path_or_a_link(folder: Path) -> None:
    secret = folder.parent / "secret.bin"
    (folder / "a.onnx").write_bytes(with_tensor(external={"location": str(secret)}))
    with pytest.raises(ModelError, match="must be in the model's folder"):
        st.onnx.load(folder / "a.onnx")
    try:
        os.symlink(secret, folder / "link.bin")
    except OSError:
        pytest.skip("links cannot be made here")
    (folder / "a.onnx").write_bytes(with_tensor(external={"location": "link.bin"}))
    with pytest.raises(ModelError, match="leads out"):
        st.onnx.load(folder / "a.onnx")
