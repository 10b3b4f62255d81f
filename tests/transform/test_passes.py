"""Every pass keeps the value: interpret(pass(g)) == interpret(g), and parse(render(g)) == g."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st_

import striate as st
from striate import dtype
from striate.ir.graph import Graph, Node, parameter
from striate.ir.printer import parse, render
from striate.ir.types import TensorType
from striate.ops import conv, elementwise, functions, index, movement, reduce, window
from striate.transform.interpret import interpret
from striate.transform.simplify import RULES, simplify

STEPS: list[Callable[[Node], Node]] = [
    lambda x: elementwise.multiply(x, 1.0),
    lambda x: elementwise.subtract(x, 0.0),
    lambda x: elementwise.add(x, 0.0),
    lambda x: elementwise.divide(x, 1.0),
    lambda x: elementwise.negative(elementwise.negative(x)),
    lambda x: movement.transpose(x, (1, 0)),
    lambda x: movement.flip(x, 0),
    lambda x: movement.flip(x, (0, 1)),
    lambda x: movement.slice_axes(movement.pad(x, [(1, 2), (0, 1)]), [slice(1, -2), slice(-1)]),
    lambda x: movement.slice_axes(x, [slice(None, None, 2), slice(None)]),
    lambda x: movement.slice_axes(x, [slice(1, None), slice(None)]) if x.shape[0] > 1 else x,
    lambda x: movement.reshape(movement.reshape(x, (-1,)), x.shape),
    lambda x: elementwise.cast(elementwise.cast(x, "float64"), "float32"),
    lambda x: elementwise.where(np.array(True), x, 0.0),
    lambda x: elementwise.where(elementwise.less(x, 0), x, x),
    movement.alias,
    lambda x: elementwise.add(x, movement.broadcast_to(reduce.sum(x), x.shape)),
    functions.tanh,
    lambda x: index.take(x, np.array([0, -1]), 0),
    lambda x: elementwise.add(movement.alias(x), x),
]  # fmt: skip


def values(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers with the hard ones among them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    x.flat[:4] = [np.nan, np.inf, -0.0, 0.0][: x.size]
    return x


@settings(max_examples=200)
@given(st_.lists(st_.sampled_from(range(len(STEPS))), max_size=8))
def test_simplify_keeps_every_bit(steps: list[int]) -> None:
    x = parameter(TensorType((4, 3), dtype.float32))
    y = x
    for i in steps:
        y = STEPS[i](y)
    graph = Graph((x,), (y,))
    graph.verify()
    smaller = simplify(graph)
    smaller.verify()
    assert len(smaller.nodes()) <= len(graph.nodes())
    want, got = (interpret(g, [values((4, 3))])[0] for g in (graph, smaller))
    assert want.tobytes() == got.tobytes()


@pytest.mark.parametrize("step", [0, 1, 3, 4, 8, 11, 12, 13, 14, 15])
def test_each_rule_fires(step: int) -> None:
    x = parameter(TensorType((4, 3), dtype.float32))
    assert simplify(Graph((x,), (STEPS[step](x),))).outputs == (x,)


def test_rules_are_sentences_with_a_law() -> None:
    assert all(rule.__doc__ and "->" in rule.__doc__ for rules in RULES.values() for rule in rules)


def _names() -> dict[str, object]:
    found: dict[str, object] = {d.name: d for d in dtype.ALL}
    for module in (conv, elementwise, functions, index, movement, reduce, window):
        found |= vars(module)
    return found


@settings(max_examples=50)
@given(st_.lists(st_.sampled_from(range(len(STEPS))), max_size=6))
def test_the_text_of_a_graph_runs(steps: list[int]) -> None:
    x = parameter(TensorType((4, 3), dtype.float32))
    y = x
    for i in steps:
        y = STEPS[i](y)
    graph = simplify(Graph((x,), (y,)))
    again = parse(render(graph), _names(), graph)
    want, got = (interpret(g, [values((4, 3))])[0] for g in (graph, again))
    assert want.tobytes() == got.tobytes()


def test_a_convolution_and_its_gradients_print() -> None:
    x = parameter(TensorType((2, 1, 3, 8), dtype.float32))
    w = parameter(TensorType((1, 4, 3, 3), dtype.float32))
    spec = st.ConvSpec(2, 1, 3, 4, (st.Window.of(8, 3, stride=2, padding=(1, 1)),))
    y = conv.conv(x, w, spec)
    dw = conv.conv_rhs_adjoint(x, y, spec)
    graph = Graph((x, w), (y, dw))
    text = render(graph)
    assert "apply(CONV" in text and "f32[2,1,4,4]" in text
    rng = np.random.default_rng(1)
    given_ = [rng.normal(size=n.shape).astype(np.float32) for n in graph.inputs]
    for a, b in zip(
        interpret(graph, given_), interpret(parse(text, _names(), graph), given_), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_verify_finds_a_broken_graph() -> None:
    x = parameter(TensorType((2,), dtype.float32))
    free = parameter(TensorType((2,), dtype.float32))
    with pytest.raises(st.StriateError, match="not an input"):
        Graph((x,), (elementwise.add(x, free),)).verify()
