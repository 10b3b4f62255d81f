"""Names of layers: nodes know which layer they were made for, in passes and in plans too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.core.array import Array, tracing
from striate.core.watching import Origins, watching
from striate.ir.graph import Graph, apply, made_for, parameter, topological
from striate.ops.elementwise import NEGATIVE
from striate.ops.functions import TANH
from striate.runtime.plan import plan_of
from striate.transform.autodiff import vjp
from striate.transform.canonical import canonical
from striate.transform.simplify import simplify


class Block(nn.Module):
    """A residual block with an activation that is no layer."""

    def __init__(self) -> None:
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: Array) -> Array:
        return st.relu(self.norm(self.conv(x)) + x)


def network() -> nn.Sequential:
    first = nn.Conv2d(3, 16, 3, padding=1)
    return nn.Sequential(first, Block(), nn.MaxPool2d(12), nn.Flatten(), nn.Linear(16, 4))


@pytest.fixture
def native() -> Iterator[None]:
    """Only machine code has steps."""
    with st.config(backend="native"):
        yield


X = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)


def test_a_node_belongs_to_the_innermost_layer_that_made_it() -> None:
    net = network().eval()
    origins = Origins()
    with tracing(), watching(origins):
        x = Array(parameter(st.asarray(X).type))
        y = net(st.tanh(x)) * 2
    nodes = topological([y.node])
    found = dict(zip(nodes, origins.names([n.origin for n in nodes]), strict=True))
    assert found[y.node] == ""
    assert next(name for n, name in found.items() if n.op is TANH) == ""
    assert [*dict.fromkeys(filter(None, found.values()))] == [
        "0", "1.conv", "1.norm", "1", "2", "3", "4",
    ]  # fmt: skip


@pytest.mark.usefixtures("native")
def test_steps_have_the_names_of_their_layers() -> None:
    profile = st.jit(network().eval()).profile(X)
    layers = [r.layers for r in profile.rows if r.macs]
    assert layers == [("0",), ("1.conv", "1.norm", "1"), ("4",)]
    assert "1.conv + 1.norm + 1" in str(profile)


@pytest.mark.usefixtures("native")
def test_gradients_belong_to_the_layers_that_they_are_of() -> None:
    net = network()
    step = st.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1))
    rows = step.profile(X, np.zeros(2, np.int64)).rows
    macs = [r.layers[0] for r in rows if r.macs]
    assert macs.count("1.conv") >= 3  # forward, and by its input and its weight
    assert macs.count("0") == 2  # no gradient by the image
    assert {"CrossEntropyLoss", "4", "2", "1.norm"} <= {n for r in rows for n in r.layers}
    before = [p.numpy().copy() for p in net.parameters()]
    step.profile(X, np.zeros(2, np.int64))
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)  # nothing is assigned


@pytest.mark.usefixtures("native")
def test_networks_of_one_structure_share_a_plan_and_not_their_names() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            self.stem, self.body, self.head = (net := network())[0], net[1], net[2:]

        def forward(self, x: Array) -> Array:
            return self.head(self.body(self.stem(x)))

    def traced(net: nn.Module) -> list[Array]:
        with tracing():
            return [net(Array(parameter(st.asarray(X).type)))]

    first, second = network().eval(), Other().eval()
    plans = [plan_of([y.node for y in traced(net)])[0] for net in (first, second)]
    assert plans[0] is plans[1]
    names = [{n for r in st.jit(net).profile(X).rows for n in r.layers} for net in (first, second)]
    assert {"0", "1.conv", "4"} <= names[0]
    assert {"stem", "body.conv", "head.2"} <= names[1]
    assert not names[0] & names[1]


def test_an_origin_is_no_part_of_what_a_node_is() -> None:
    x = parameter(st.ones(3).type)
    with made_for("a"):
        first = apply(TANH, (x,))
    with made_for("b"):
        assert apply(TANH, (x,)) is first
        second = apply(NEGATIVE, (first,))
    assert (first.origin, second.origin, apply(NEGATIVE, (second,)).origin) == ("a", "b", None)
    y = parameter(x.type)
    with made_for("c"):
        other = apply(NEGATIVE, (apply(TANH, (y,)),))
    assert canonical([second]).key == canonical([other]).key


def test_passes_and_derivatives_hand_origins_on() -> None:
    x = parameter(st.ones((2, 3)).type)
    with made_for("layer"):
        y = (st.tanh(Array(x)) * 1).sum().node
    seed = st.asarray(1.0).node
    (g,) = vjp([y], [x], [seed])
    made = [n for n in topological([g]) if n.inputs and n.op is not TANH]
    assert made and all(n.origin == "layer" for n in made)
    small = simplify(Graph((x,), (y,)))
    assert all(n.origin == "layer" for n in small.nodes() if n.inputs)
