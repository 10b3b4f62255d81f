"""The benchmarks themselves: tables, networks, timing and reports, without any peer."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import striate as st
from bench import convolutions, layers, mnist, networks, report, suites, worker
from bench.__main__ import arguments
from bench.compilation import child
from bench.timing import (
    OURS,
    Case,
    Contender,
    Effort,
    Result,
    Row,
    Unavailable,
    compare,
    distance,
)

# ---- layers --------------------------------------------------------------------------------


def test_tables_parse() -> None:
    assert len(layers.table("resnet50")) == 23
    for name in layers.TABLES:
        for layer in layers.table(name):
            assert min(layer.y_shape) > 0, layer.text
            assert layer.channels % layer.groups == layer.features % layer.groups == 0
    assert set(layers.LAYERS) | set(layers.WEAK) == set(layers.TABLES)


def test_resnet50_has_its_known_operations() -> None:
    """8.2 GFLOP an image, with padding; a little less without."""
    padded = sum(
        math.prod(x.y_shape) * math.prod(x.w_shape[1:]) * x.count for x in layers.table("resnet50")
    )
    assert 2 * padded == pytest.approx(8.17e9, rel=0.01)
    assert sum(x.macs * x.count for x in layers.table("resnet50")) < padded


@pytest.mark.parametrize(
    "line",
    ["64@8 -> 32 k3 s2 p1 x4", "6@9x7 -> 4 k3x2 s2 p1 d2 g2 n3", "8@5 -> 6 k3 s2 p1 o1 g2 t"],
)
def test_a_layer_is_what_its_line_says(line: str) -> None:
    layer = layers.parse("test", line, 2)
    conv = st.conv_transpose if layer.transposed else st.conv
    x, w, g = layer.operands()
    y = conv(st.asarray(x), st.asarray(w), **layer.arguments())
    assert y.shape == layer.y_shape == g.shape
    ones = conv(np.ones_like(x), np.ones_like(w), **layer.arguments())
    assert layer.macs == int(ones.numpy().sum())


@pytest.mark.parametrize(
    "line", ["64@8 - 32", "64@8 -> 32 q3", "64@8x8x8 -> 32 k3", "64@8 -> 32 k"]
)
def test_a_wrong_line_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="test: "):
        layers.parse("test", line, 2)


def test_gradients_of_striate_are_those_of_the_layer() -> None:
    """<g, conv(x, w)> is linear in each operand: its gradients give it back."""
    layer = layers.parse("test", "6@7 -> 4 k3 s2 p1 g2 n2", 2)
    x, w, g = layer.operands()
    y, dx, dw = (
        np.asarray(convolutions._striate(layer, direction)()) for direction in layers.DIRECTIONS
    )
    total = float((y * g).sum())
    np.testing.assert_allclose([(dx * x).sum(), (dw * w).sum()], total, rtol=1e-4)


# ---- networks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("mobilenet_v2", 3_504_872),
        ("efficientnet_b0", 5_288_548),
        ("convnext_t", 28_589_128),
        ("unet", 31_036_546),
    ],
)
def test_parameter_counts(name: str, parameters: int) -> None:
    net = networks.NETWORKS[name].build(networks.striate_kit())
    assert sum(math.prod(p.shape) for p in net.parameters()) == parameters


def test_small_networks_compute() -> None:
    kit = networks.striate_kit()
    net = networks.unet(kit, 3, 1, 2, (4, 8)).eval()
    net.load_state_dict(networks.weights(net))
    assert net(np.ones((1, 1, 4, 6, 8), np.float32)).shape == (1, 2, 4, 6, 8)
    table = ((1, 8, 1, 1, 3), (6, 12, 2, 2, 5))
    for act, squeeze in (("ReLU6", False), ("SiLU", True)):
        net = networks.mobile(kit, table, act, squeeze, 10).eval()
        y = net(np.ones((2, 3, 16, 16), np.float32))
        assert y.shape == (2, 10)
    small = networks.striate_network(networks.NETWORKS["small"])
    assert small(networks.NETWORKS["small"].x(2)).shape == (2, 10)


# ---- timing --------------------------------------------------------------------------------


class Clock:
    """Time that only calls make pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def contender(self, name: str, seconds: float, value: float = 1.0) -> Contender:
        def call() -> list[float]:
            self.now += seconds
            return [value, 2.0]

        return Contender(name, lambda: call)


def fails(error: Exception) -> Callable[[], Callable[[], None]]:
    def prepare() -> Callable[[], None]:
        raise error

    return prepare


def fake_case(clock: Clock) -> Case:
    return Case(
        "group",
        "case",
        [
            clock.contender(OURS, 0.010),
            clock.contender("slow", 0.040),
            clock.contender("fast", 0.015),
            clock.contender("wrong", 0.001, value=1.5),
            Contender("absent", fails(Unavailable("not installed"))),
            Contender("broken", fails(RuntimeError("out\nof order"))),
        ],
        tolerance=1e-3,
        flops=1e9,
        count=3,
    )


def test_compare() -> None:
    clock = Clock()
    peaks: Iterator[float] = iter([2e11, 1e11, 2e11, 3e11])
    result = compare(fake_case(clock), Effort(3, 0.0, 9.0), lambda: next(peaks), clock)
    rows = {r.name: r for r in result.rows}
    assert rows[OURS].samples == pytest.approx([0.01] * 3)
    assert rows[OURS].error == 0
    assert result.best is rows["fast"]
    assert result.ratio == pytest.approx(1.5)
    assert result.share == pytest.approx(1e9 / 0.01 / 3e11)
    assert rows["wrong"].seconds is None
    assert rows["wrong"].reason.startswith("wrong: relative error")
    assert rows["absent"].reason == "not installed"
    assert rows["broken"].reason == "RuntimeError: out"


def test_a_wrong_striate_has_no_ratio() -> None:
    clock = Clock()
    pair = [clock.contender(OURS, 0.01, value=1.1), clock.contender("peer", 0.02)]
    result = compare(Case("g", "c", pair, 1e-3), Effort(3, 0.0, 9.0), None, clock)
    assert result.ratio is None
    assert "WRONG" in report.markdown_table(report.table([result]))


def test_a_reference_judges_peers_too_and_allows_their_rounding() -> None:
    clock = Clock()
    values = {OURS: 1.05, "near": 1.04, "far": 1.6}  # of a result whose norm is 2.2
    case = Case("g", "c", [clock.contender(n, 0.01, value=v) for n, v in values.items()], 1e-3)
    case = replace(case, reference=lambda: np.array([1.0, 2.0]))
    rows = {r.name: r for r in compare(case, Effort(3, 0.0, 9.0), None, clock).rows}
    assert rows["near"].error == pytest.approx(0.04 / math.sqrt(5))
    assert rows[OURS].reason == "" and rows["near"].reason == ""
    assert "the bound is 7.2e-02" in rows["far"].reason


def test_fast_calls_are_repeated_and_slow_ones_measured_once() -> None:
    clock = Clock()
    pair = [clock.contender(OURS, 0.001), clock.contender("peer", 20.0)]
    result = compare(Case("g", "c", pair, 1e-3), Effort(5, 0.02, 30.0), lambda: 1e9, clock)
    assert [len(r.samples) for r in result.rows] == [5, 1]
    assert result.peak == 1e9
    assert result.ratio == pytest.approx(20_000)


def test_distance() -> None:
    a = np.array([3.0, 4.0])
    assert distance(a, a) == 0
    assert distance(np.array([3.0, 4.5]), a) == pytest.approx(0.1)
    assert distance(a[:1], a) == math.inf
    assert distance(np.array([np.nan, 4.0]), a) == math.inf


# ---- reports -------------------------------------------------------------------------------


def test_report_and_json(tmp_path: Path) -> None:
    clock = Clock()
    first = compare(fake_case(clock), Effort(3, 0.0, 9.0), lambda: 1e12, clock)
    bytes_ = Result("memory", "net", [Row(OURS, [2e6]), Row("torch", [3e6])], unit="MB")
    report.save(tmp_path, "fake", {"processor": "one"}, [first, bytes_], 1e9)
    text = (tmp_path / "fake.md").read_text()
    assert "- processor: one" in text
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if " | " in line]
    cells = dict(zip(lines[0], lines[1], strict=True))
    assert (cells["striate"], cells["ratio"]) == ("10", "1.50x")
    assert cells["of peak"] == "10%"
    assert cells["wrong"] == "wrong"
    assert "- absent: not installed (case)" in text
    assert "30 ms against 45 ms (1.50x)" in text
    assert "2 MB against 3 MB" in text
    data = json.loads((tmp_path / "fake.json").read_text())
    assert data["cases"][0]["ratio"] == pytest.approx(1.5)
    assert data["cases"][0]["best_peer"] == "fast"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fake.json", "fake.md"]


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    report.show("title", [["case", "ratio"], ["one", "2.00x"]], ["a note [x]"])
    out = capsys.readouterr().out
    assert "2.00x" in out
    assert "a note [x]" in out


# ---- suites --------------------------------------------------------------------------------


def test_suites_have_their_cases() -> None:
    options = suites.Options(quick=True)
    groups = {c.group for c in suites.cases("weak", options)}
    assert "wavenet weight gradient, batch 4" in groups
    named = suites.Options(only="vgg19 forward.*224")
    found = [c.name for c in suites.cases("layers", named) if named.wants(c.group, c.name)]
    assert found == ["3@224 -> 64 k3 p1", "64@224 -> 64 k3 p1"] * 2
    assert not named.whole
    assert suites.Options().whole
    with pytest.raises(ValueError, match="no suite"):
        list(suites.cases("all", options))


def test_command_line() -> None:
    args = arguments(["layers", "--quick", "--threads", "1", "--only", "x"])
    assert (args.suites, args.quick, args.threads, args.only) == (["layers"], True, 1, "x")


def test_a_child_measures(tmp_path: Path) -> None:
    found = child(("first", OURS, "small", "inference", 1), 1, str(tmp_path))
    assert set(found) == {"first", "second", "new batch"}
    with pytest.raises(RuntimeError, match="KeyError"):
        child(("first", OURS, "no such", "inference", 1), 1, str(tmp_path))


FAKE_WORKER = """
import json, os, signal, sys
order = json.loads(sys.argv[1])
rows = [{"name": "striate", "samples": [0.1]}, {"name": "peer", "samples": []}]
for case in range(order["first"], 3):
    skip = order["skip"].get(str(case), {})
    for row in rows:
        print(json.dumps({"case": case, "at": row["name"]}), flush=True)
        row["reason"] = skip.get(row["name"], "")
        if case == 1 and row["name"] == "peer" and not row["reason"]:
            os.kill(os.getpid(), signal.SIGKILL)
    result = {"group": "g", "name": str(case), "rows": rows}
    print(json.dumps({"case": case, "result": result}), flush=True)
"""


def test_a_peer_that_brings_the_worker_down_is_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "COMMAND", [sys.executable, "-c", FAKE_WORKER])
    found = list(worker.results("weak", suites.Options(), None))
    assert [r.name for r in found] == ["0", "1", "2"]
    assert [r.rows[1].reason for r in found] == ["", "brought the process down: SIGKILL", ""]


def test_a_worker_that_fails_by_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "COMMAND", [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="exit status 3"):
        list(worker.results("weak", suites.Options(), None))


def test_the_bar_of_mnist() -> None:
    rows = [
        {"epoch": 1, "seconds": 20.0, "val_accuracy": 0.97},
        {"epoch": 2, "seconds": 15.0, "val_accuracy": 0.992},
        {"epoch": 3, "seconds": 15.0, "val_accuracy": 0.995},
    ]
    assert mnist.to_the_bar(rows) == (35.0, 2)
    assert mnist.to_the_bar(rows[:1]) is None
    assert "is met" in mnist.sentence((35.0, 2))
    assert "is missed" in mnist.sentence((65.0, 3))
