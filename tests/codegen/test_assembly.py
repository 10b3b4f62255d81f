"""The inner loops that matter, in assembly: as many FMAs as a tile says, on whole vectors, and no
vector goes over the stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import pytest

import striate as st
from striate.codegen.dense_kernel import DenseKernel
from striate.codegen.kernel import Kernel, emit
from striate.codegen.lane_conv import LaneConv
from striate.codegen.lane_weight_gradient import LaneWeightGradient
from striate.codegen.loops import Map
from striate.codegen.machine import assembly, named_target, unscheduled
from striate.codegen.reduce_loops import Sum
from striate.codegen.weight_gradient_kernel import WeightGradientKernel
from striate.codegen.winograd_gradient_kernel import WinogradGradient
from striate.codegen.winograd_kernel import WinogradKernel
from striate.target import Target
from tests.codegen.computations import Draw, floats, with_gradients
from tests.codegen.plans import graph_of, program_of

NAMES = ("x86-64-v4", "x86-64-v3", "aarch64")
VECTORS = {"x86-64-v4": "zmm", "x86-64-v3": "ymm", "aarch64": r"v\d+\.4s|q\d"}
STACK = r"[xyz]mm.*%rsp|%rsp.*[xyz]mm|\bq\d+.*\[sp|\bv\d+.*\[sp"  # %rbp holds anything
ADD = r"\bv(?:add|sub)p[sd]|\bf(?:add|sub)\b"  # of transforms, which may be long loops, too
FMA = r"\bvfn?madd\w*p[sd]|\bfml[as]\b"


def _conv(c: int, k: int, window: int, groups: int = 1) -> list[st.Array]:
    d = Draw(0, 0, "assembly")
    x, w = floats(d, (2, c, 28, 28)), floats(d, (k, c // groups, window, window))
    return with_gradients(d, lambda x, w: st.conv(x, w, padding=window // 2, groups=groups), x, w)


def _elementwise() -> list[st.Array]:
    d = Draw(0, 0, "assembly")
    x, y = floats(d, (100, 200)), floats(d, (200,))
    return [st.relu(x * y + x), (x * y).sum(axis=1), (x * y).sum(axis=0)]


def _pool() -> list[st.Array]:
    d = Draw(0, 0, "assembly")
    x, w = floats(d, (2, 32, 28, 28)), floats(d, (32, 32, 1, 1))
    return [st.max_pool(st.conv(x, w), 3, stride=2, padding=1)]


LAYERS: dict[str, Callable[[], list[st.Array]]] = {
    "3x3": lambda: _conv(64, 64, 3),
    "1x1": lambda: _conv(64, 128, 1),
    "groups": lambda: _conv(64, 64, 3, 4),
    "depthwise": lambda: _conv(64, 64, 3, 64),
    "elementwise": _elementwise,
    "pool": _pool,
}


@cache
def kernels(layer: str, name: str, precision: str = "high") -> tuple[Kernel, ...]:
    """The kernels of a layer, forward and backward."""
    with st.config(precision=precision):
        graph, _ = graph_of(LAYERS[layer]())
        steps = program_of(graph, named_target(name)).steps
    return tuple(dict.fromkeys(s.kernel for s in steps))


def text_of(kernel: Kernel, target: Target) -> str:
    unscheduled()
    return assembly(emit(kernel, target), target)


def loops(text: str) -> list[str]:
    """The loops of one block: from a label to a jump to it."""
    parts = re.split(r"^(\.?\w+):", text, flags=re.M)
    jump = r"\b(?:j\w+|b\.\w+|b|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s+{}\b"
    return [
        body
        for label, body in zip(parts[1::2], parts[2::2], strict=True)
        if re.search(jump.format(re.escape(label)), body)
    ]


def fmas(kernel: Kernel, target: Target) -> int | None:
    """What the longest inner loop of a kernel has; None for kernels that do no such sums."""
    if isinstance(kernel, DenseKernel):
        return kernel.mr * kernel.nr * kernel.unit
    if isinstance(kernel, WinogradKernel):
        return kernel.mr * kernel.nr * target.lanes(32)
    if isinstance(kernel, WinogradGradient):
        return kernel.mr * kernel.nr
    if isinstance(kernel, WeightGradientKernel):
        return kernel.rows * kernel.vectors * kernel.chains
    if isinstance(kernel, LaneConv):
        return kernel.cols * kernel.taps
    return None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", ["3x3", "1x1", "groups", "depthwise"])
def test_sums_stay_in_registers(layer: str, name: str) -> None:
    target = named_target(name)
    seen = set()
    for kernel in kernels(layer, name):
        wanted = fmas(kernel, target)
        if wanted is None:
            continue
        seen.add(type(kernel))
        sums = [b for b in loops(text_of(kernel, target)) if not re.search(ADD, b)]
        inner = max(sums, key=lambda b: len(re.findall(FMA, b)))
        assert len(re.findall(FMA, inner)) == wanted, kernel
        assert not re.search(STACK, inner), kernel
        assert len(re.findall(VECTORS[name], inner)) >= wanted, kernel
    expected: dict[str, set[type]] = {
        "3x3": {WinogradKernel, WinogradGradient},
        "1x1": {DenseKernel, WeightGradientKernel},
        "groups": {DenseKernel, WeightGradientKernel},
        "depthwise": {LaneConv},
    }
    assert seen >= expected[layer]


@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64"])
def test_the_depthwise_weight_gradient_has_its_sums_in_registers(name: str) -> None:
    """With 32 registers: its sums over a row are loops in which tails are skipped."""
    (kernel,) = (k for k in kernels("depthwise", name) if isinstance(k, LaneWeightGradient))
    text = text_of(kernel, named_target(name))
    assert not re.search(STACK, text)
    assert len(re.findall(FMA, text)) >= kernel.rows * kernel.taps * kernel.cols


@pytest.mark.parametrize("name", NAMES)
def test_elementwise_loops_are_vectors_only(name: str) -> None:
    target = named_target(name)
    found = [k for k in kernels("elementwise", name) if isinstance(k, (Map, Sum))]
    assert len(found) == 3
    for kernel in found:
        text = text_of(kernel, target)
        inner = loops(text)
        assert inner and not re.search(STACK, text)
        whole = [body for body in inner if re.search(VECTORS[name], body)]
        assert whole, kernel
        if isinstance(kernel, Map):  # two roundings: x * y + x is no FMA
            assert not re.search(FMA, text)
            assert len(re.findall(r"\b(?:v?mulps|fmul)\b", whole[0])) == 1
            assert len(re.findall(r"\b(?:v?addps|fadd)\b", whole[0])) == 1


@pytest.mark.parametrize("name", NAMES)
def test_pooling_loops_are_vectors_only(name: str) -> None:
    target = named_target(name)
    (kernel,) = (k for k in kernels("pool", name) if k.name.startswith("max_pool"))
    text = text_of(kernel, target)
    assert not re.search(STACK, text)
    assert any(re.search(VECTORS[name], body) for body in loops(text))


def test_loops_are_found() -> None:
    text = "a:\n x\n.L1:\n y\n jne .L1\n.L2:\n z\n jmp .L1\nb:\n cbnz x3, b\n.L11:\n jl .L1\n"
    assert [t.split()[0] for t in loops(text)] == ["y", "cbnz"]
