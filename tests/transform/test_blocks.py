"""The compiler's passes: interpret(pass(g)) == interpret(g), on networks and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.codegen.layouts import TargetLayouts
from striate.codegen.machine import named_target
from striate.ir.graph import CONSTANT, Graph, parameter, substitute, topological
from striate.ops.conv import CONV
from striate.ops.movement import SUM, TRANSPOSE
from striate.transform.blocks import BLOCKED_CONV, BLOCKED_WEIGHT_GRADIENT, block_channels
from striate.transform.factor import factor_sums
from striate.transform.fuse import TWINS, Fusion
from striate.transform.interpret import interpret
from striate.transform.lift import lift_views
from striate.transform.schedule import schedule
from striate.transform.simplify import simplify

Net = Callable[[Any], Any]


def layers(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(*parts)


class Last(nn.Module):
    """Layers on [N, *I, C], and a scale, between layers on [N, C, *I]."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.inner = layers(*parts)

    def forward(self, x: st.Array) -> st.Array:
        return 0.5 * self.inner(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


class Block(nn.Module):
    """A residual block of half the size: two convolutions read x."""

    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.body = layers(
            nn.Conv2d(c, k, 3, 2, 1, bias=False), nn.BatchNorm2d(k), nn.ReLU(),
            nn.Conv2d(k, k, 3, padding=1, bias=False), nn.BatchNorm2d(k),
        )  # fmt: skip
        self.shortcut = layers(nn.Conv2d(c, k, 1, 2, bias=False), nn.BatchNorm2d(k))

    def forward(self, x: st.Array) -> st.Array:
        return st.relu(self.body(x) + self.shortcut(x))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "batch norm and max pooling": (
        lambda: layers(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(24, 5),
        ),
        (2, 3, 17, 17),
    ),
    "residual blocks": (
        lambda: layers(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), Block(32, 32), Block(32, 64),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5),
        ),
        (2, 3, 16, 16),
    ),
    "groups and average pooling": (
        lambda: layers(
            nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, groups=32, padding=1), nn.GELU(),
            nn.Conv2d(32, 48, 3, groups=2), nn.AvgPool2d(2), nn.GroupNorm(4, 48),
        ),
        (2, 16, 10, 12),
    ),
    "one axis, dilated": (
        lambda: layers(
            nn.Conv1d(8, 16, 3, dilation=2, padding="same"), nn.Tanh(),
            nn.ConvTranspose1d(16, 8, 4, 2),
        ),
        (3, 8, 31),
    ),
    "three axes": (
        lambda: layers(nn.Conv3d(4, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.MaxPool3d(2)),
        (1, 4, 5, 6, 8),
    ),
    "depthwise, of a number of channels that no block divides": (
        lambda: layers(
            nn.Conv3d(3, 54, 1), nn.Conv3d(54, 54, 3, padding=1, stride=(1, 2, 2), groups=54),
            nn.ReLU(), nn.Conv3d(54, 54, (2, 1, 1), groups=54), nn.Conv3d(54, 5, 1),
        ),
        (2, 3, 3, 5, 6),
    ),
    "channels last between convolutions": (
        lambda: layers(
            nn.Conv2d(3, 16, 3, padding=1), Last(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU()),
            nn.Conv2d(32, 16, 1), Last(nn.Linear(16, 16)), nn.ReLU(),
        ),
        (2, 3, 6, 7),
    ),
}  # fmt: skip


def training_graph(name: str) -> tuple[Graph, list[np.ndarray[Any, Any]]]:
    """Outputs, and the gradients of their sum of squares, as a function of input and weights."""
    build, shape = NETS[name]
    st.random.seed(1)
    net = build()
    weights = list(net.parameters())
    x = st.asarray(np.random.default_rng(3).standard_normal(shape).astype(np.float32))
    with st.config(backend="numpy"):
        loss, gradients = st.gradients(lambda: ((net(x) - 0.1) ** 2).sum(), weights)
    outputs = [loss.node, *(g.node for g in gradients)]
    known = [n for n in topological(outputs) if n.data is not None]
    inputs = tuple(parameter(n.type) for n in known)
    graph = Graph(inputs, tuple(substitute(outputs, dict(zip(known, inputs, strict=True)))))
    return simplify(graph), [np.asarray(n.data) for n in known]


def close(got: list[Any], want: list[Any]) -> None:
    """Within rounding of the largest gradient: a bias before a norm has none but rounding."""
    scale = max(np.abs(np.asarray(b, np.float64)).max(initial=0) for b in want[1:])
    for a, b in zip(got, want, strict=True):
        wide = np.asarray(b, np.float64)
        np.testing.assert_allclose(np.asarray(a, np.float64), wide, rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "x86-64-v2", "aarch64"])
@pytest.mark.parametrize("name", NETS)
def test_passes_keep_values(name: str, target: str) -> None:
    graph, values = training_graph(name)
    want = interpret(graph, values)
    factored = factor_sums(graph)
    factored.verify()
    close(interpret(factored, values), want)
    blocked = block_channels(factored, TargetLayouts(named_target(target)))
    blocked.verify()
    close(interpret(blocked, values), want)
    lifted = lift_views(blocked)
    lifted.verify()
    close(interpret(lifted, values), want)


@pytest.mark.parametrize(
    ("name", "weights"), [("batch norm and max pooling", 3), ("residual blocks", 8)]
)
def test_convolutions_meet_without_conversions(name: str, weights: int) -> None:
    """Between the first and the last convolution of a chain no value changes its layout."""
    graph, _ = training_graph(name)
    blocked = block_channels(graph, TargetLayouts(named_target("x86-64-v4")))
    ops = [n.op for n in blocked.nodes()]
    assert ops.count(CONV) == 0
    assert ops.count(BLOCKED_CONV) >= 4
    assert ops.count(BLOCKED_WEIGHT_GRADIENT) == weights
    moved = [n for n in blocked.nodes() if n.op is TRANSPOSE and n.ndim == 5 and n.type.size > 5000]
    assert all(n.shape[0] != 2 for n in moved), moved  # weights, not images


@pytest.mark.parametrize(
    ("channels", "size"),
    [(54, 16), (108, 16), (60, 16), (64, 16), (24, 8), (20, 4), (3, 1), (17, 1)],
)
def test_blocks_are_filled_where_it_pays(channels: int, size: int) -> None:
    """54 channels are 4 vectors of 16; 24 are 3 of 8; 3 or 17 would be mostly zeros."""
    x, w = (parameter(st.ones(s).type) for s in ((2, channels, 9, 9), (channels, 1, 3, 3)))

    def loss(x: st.Array, w: st.Array) -> st.Array:
        return (st.conv(x, w, groups=channels, padding=1) ** 2).sum()

    gradients = st.grad(loss, argnums=(0, 1))(st.Array(x), st.Array(w))
    graph = simplify(Graph((x, w), tuple(g.node for g in gradients)))
    blocked = block_channels(graph, TargetLayouts(named_target("x86-64-v4")))
    on_blocks = [n for n in blocked.nodes() if n.op in (BLOCKED_CONV, BLOCKED_WEIGHT_GRADIENT)]
    assert [n.attrs.x_block for n in on_blocks] == [size] * 3


def test_what_stands_between_layouts_is_computed_where_it_is_read() -> None:
    """A bias, a scale and a residual after a matrix product over channels: no value of their own,
    though the product has the channels last and the sum that is read has them in blocks.
    """
    norm = parameter(st.ones((2, 16, 6, 7)).type)
    rows, weight = parameter(st.ones((84, 8)).type), parameter(st.ones((8, 16)).type)
    bias, scale = parameter(st.ones((16,)).type), parameter(st.ones((16, 1, 1)).type)
    product = st.Array(rows) @ st.Array(weight) + st.Array(bias)
    after = product.reshape(2, 6, 7, 16).transpose(0, 3, 1, 2) * st.Array(scale)
    out = after + st.relu(st.conv(st.Array(norm), st.ones((16, 16, 3, 3)), padding=1))
    graph = simplify(Graph((norm, rows, weight, bias, scale), (out.node,)))
    blocked = block_channels(graph, TargetLayouts(named_target("x86-64-v4")))
    before, after_pass = (Fusion(g).groups() for g in (blocked, lift_views(blocked)))
    assert sum(g.kind in ("map", "conv") for g in after_pass) < sum(
        g.kind in ("map", "conv") for g in before
    )


def test_an_epilogue_of_a_product_in_another_shape() -> None:
    rows, weight = parameter(st.ones((2, 6, 7, 8)).type), parameter(st.ones((8, 16)).type)
    bias = parameter(st.ones((16,)).type)
    out = st.gelu(st.Array(rows) @ st.Array(weight) + st.Array(bias))
    graph = simplify(Graph((rows, weight, bias), (out.node,)))
    groups = Fusion(block_channels(graph, TargetLayouts(named_target("x86-64-v4")))).groups()
    assert [g.kind for g in groups if g.outputs[0].type.size > 1000] == ["conv"]


def test_sums_of_a_batch_norm_backward() -> None:
    graph, _ = training_graph("batch norm and max pooling")
    count = sum(n.op is SUM and n.inputs[0].ndim == 4 for n in graph.nodes())
    fewer = sum(n.op is SUM and n.inputs[0].ndim == 4 for n in factor_sums(graph).nodes())
    assert fewer < count


def test_each_value_is_written_once_before_it_is_read() -> None:
    for name in NETS:
        graph, _ = training_graph(name)
        graph = block_channels(factor_sums(graph), TargetLayouts(named_target("x86-64-v4")))
        fusion = Fusion(graph)
        written = {*graph.inputs} | {n for n in graph.nodes() if n.op is CONSTANT}
        held = [fusion.base(y) for y in graph.outputs]
        assert len({*held}) == len({*graph.outputs})  # no two outputs in one memory
        for group in schedule(fusion.groups(), held):
            assert group.reads <= written, group
            assert not written & {*group.outputs}
            written |= {*group.outputs}
        assert {*held} <= written


def test_the_end_of_a_residual_block_is_read_and_written_once() -> None:
    """Only what others read is written: the sum before the activation is not."""
    graph, _ = training_graph("residual blocks")
    graph = block_channels(factor_sums(graph), TargetLayouts(named_target("x86-64-v4")))
    fusion = Fusion(graph)
    groups = fusion.groups()
    read = {x for g in groups for x in g.reads} | {*graph.outputs}
    for g in groups:
        assert len(g.outputs) == 1 or {*g.outputs} <= read, g
    ends = [g.outputs for g in groups if any(n.type.dtype is st.bool for n in g.outputs)]
    assert [n.op.name for n in ends[0]] == ["less_equal", "where"]


def test_a_sum_of_many_terms_is_not_one_kernel() -> None:
    x = parameter(st.ones((3, 40)).type)
    y = st.Array(x)
    total = y
    for i in range(400):
        total = total + st.sin(y * float(i))
    graph = Graph((x,), (total.node,))
    known = [n for n in graph.nodes() if n.op is CONSTANT]
    assert known
    groups = Fusion(graph).groups()
    assert max(g.cost for g in groups) < 400
    assert len(groups) > 10


def test_max_pooling_gives_values_and_choices_in_one_pass() -> None:
    graph, _ = training_graph("batch norm and max pooling")
    graph = block_channels(factor_sums(graph), TargetLayouts(named_target("x86-64-v4")))
    both = [g for g in Fusion(graph).groups() if {n.op for n in g.outputs} & TWINS]
    assert [{n.op for n in g.outputs} for g in both] == [TWINS]
    assert {n.type.dtype for n in both[0].outputs} == {st.float32, st.uint8}
