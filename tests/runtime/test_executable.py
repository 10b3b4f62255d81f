"""Plans: the arena, threads, batches, and what is kept while state stays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.codegen.kernel import At, Buffer, Scratch, Step, Word
from striate.codegen.machine import can_run, current_target, named_target
from striate.runtime import executable
from striate.runtime.arena import Holes, Span, barriers, by_size, in_order, lifetimes, peak, place
from striate.runtime.executable import Executable, constant_steps
from striate.runtime.plan import plan_of


@pytest.fixture
def threads() -> Iterator[None]:
    before = st.get_num_threads()
    yield
    st.set_num_threads(before)


class Nothing:
    """A kernel that is never run."""

    name = "nothing"

    def emit(self, e: object) -> None:
        raise AssertionError


def random_steps(rng: np.random.Generator, count: int) -> list[Step]:
    made: list[Buffer] = []
    steps = []
    for _ in range(count):
        out = Buffer(int(rng.integers(1, 5000)))
        reads = [made[i] for i in rng.integers(0, len(made), 2)] if made else []
        words: list[Word] = [out, *reads, 7, Scratch(64 * int(rng.integers(1, 9)))]
        if rng.random() < 0.3 and made:
            words.append(At(made[-1], 8))
        steps.append(Step(Nothing(), tuple(words), (out,), single=bool(rng.random() < 0.3)))
        made.append(out)
    return steps


def test_live_values_never_overlap() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        steps = random_steps(rng, 60)
        placement = place(steps, set(), 3)
        lives = lifetimes(steps, set())
        spans = [(b, placement.offsets[b], placement.offsets[b] + b.nbytes) for b in lives]
        for i, (b, start, stop) in enumerate(spans):
            assert start % 64 == 0 and stop <= placement.nbytes
            for other, first, last in spans[:i]:
                apart = stop <= first or last <= start
                (s0, e0), (s1, e1) = lives[b], lives[other]
                assert apart or e0 < s1 or e1 < s0
        for i, step in enumerate(steps):
            scratch = [w for w in step.words if isinstance(w, Scratch)]
            for at, word in zip(placement.scratch[i], scratch, strict=True):
                end = at + word.nbytes * (1 if step.single else 3)
                for b in lives:
                    if lives[b][0] <= i <= lives[b][1]:
                        assert placement.offsets[b] >= end or placement.offsets[b] + b.nbytes <= at
        assert placement.nbytes < sum(b.nbytes + 64 for b in lives)


def test_an_arena_by_size_wastes_little() -> None:
    rng = np.random.default_rng(3)
    lost: dict[Any, list[float]] = {in_order: [], by_size: []}
    for _ in range(40):
        firsts = rng.integers(0, 60, 80)
        lengths = rng.integers(0, 30, 80)
        spans = [
            Span(64 * int(n) ** 2, int(first), int(first + length))
            for n, first, length in zip(rng.integers(1, 30, 80), firsts, lengths, strict=True)
        ]
        for way, found in lost.items():
            offsets, end = way(spans)
            for i, (a, x) in enumerate(zip(spans, offsets, strict=True)):
                assert x >= 0 and x + a.nbytes <= end
                for b, y in zip(spans[:i], offsets[:i], strict=True):
                    apart = x + a.nbytes <= y or y + b.nbytes <= x
                    assert apart or a.last < b.first or b.last < a.first
            found.append(end / peak(spans)[0])
    assert min(lost[by_size]) >= 1
    assert np.mean(lost[by_size]) - 1 < 0.6 * (np.mean(lost[in_order]) - 1)


def test_results_lend_their_memory_until_they_are_touched() -> None:
    rng = np.random.default_rng(2)
    least = []
    for _ in range(50):
        steps = random_steps(rng, 60)
        results = {b for b in lifetimes(steps[30:], set()) if rng.random() < 0.4}
        placement = place(steps, results, 3, results)
        lives = lifetimes(steps, set())
        assert {*placement.offsets, *placement.lent} == {*lives} - results
        held: dict[Buffer, list[tuple[int, int, int, int]]] = {}
        for b, (result, start) in placement.lent.items():
            assert start % 64 == 0 and start + b.nbytes <= result.nbytes
            assert lives[b][1] < lives[result][0]
            for first, last, low, high in held.get(result, []):
                over = lives[b][1] < first or last < lives[b][0]
                assert over or start + b.nbytes <= low or high <= start
            held.setdefault(result, []).append((*lives[b], start, start + b.nbytes))
        least.append(placement.nbytes / place(steps, results, 3).nbytes)
    assert max(least) <= 1.1 and np.mean(least) < 0.95


def test_threads_meet_before_a_result_takes_its_memory_back() -> None:
    a, b, c, result = (Buffer(64) for _ in range(4))
    steps = [
        Step(Nothing(), (a,), (a,)),
        Step(Nothing(), (b, a), (b,)),
        Step(Nothing(), (c,), (c,)),
        Step(Nothing(), (result,), (result,)),
        Step(Nothing(), (c, b), (c,)),
    ]
    placement = place(steps, {result, b, c}, 2, [result])
    assert placement.lent == {a: (result, 0)}
    assert barriers(steps, placement, 2) == [True, False, True, False, False]


def test_holes_join() -> None:
    holes = Holes()
    places = [holes.take(64) for _ in range(6)]
    for i in (1, 3, 2, 0, 5, 4):
        holes.give(places[i], 64)
    assert holes.take(6 * 64) == 0
    assert holes.end == 6 * 64


def test_threads_meet_where_one_reads_what_another_wrote() -> None:
    a, b, c = (Buffer(64) for _ in range(3))
    steps = [
        Step(Nothing(), (a,), (a,)),
        Step(Nothing(), (b,), (b,)),
        Step(Nothing(), (c, a), (c,)),
        Step(Nothing(), (a,), (a,)),
    ]
    outside = {a, b, c}
    assert barriers(steps, place(steps, outside, 2), 2) == [False, True, True, False]


def test_what_is_constant() -> None:
    w, x, packed, y, z = (Buffer(64) for _ in range(5))
    steps = [
        Step(Nothing(), (w, packed), (packed,)),
        Step(Nothing(), (packed, x, y), (y,)),
        Step(Nothing(), (w, z), (z,)),
        Step(Nothing(), (x, z), (z,)),
    ]
    assert constant_steps(steps, {w}) == [True, False, False, False]
    assert constant_steps(steps[:2], {w, x}) == [True, True]
    assert constant_steps(steps[:2], {w, x}, always={packed}) == [False, False]


def test_what_follows_from_an_index_that_may_be_wrong_is_not_kept() -> None:
    """The step that looks at the index runs each time; so must those that read what it gives."""
    table = st.asarray(np.arange(40_000, dtype=np.float32).reshape(200, 200))
    rows = st.asarray(np.arange(150))
    f = st.jit(lambda x: st.concat([st.take(table, rows)] * 2) * x)
    want = np.concatenate([table.numpy()[:150]] * 2)
    for i in range(6):
        executable._arena.memory[:] = 0xFF
        np.testing.assert_array_equal(f(float(i)).numpy(), want * i)


def small() -> nn.Module:
    st.random.seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2), nn.SiLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


@pytest.mark.usefixtures("threads")
def test_training_is_the_same_to_the_bit_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((5, 3, 20, 20)).astype(np.float32), rng.integers(0, 10, 5)
    results = []
    for count in (1, 2, 3, 5, 8):
        st.set_num_threads(count)
        net = small()
        step = st.train_step(net, nn.CrossEntropyLoss(), optim.AdamW(net.parameters(), lr=1e-2))
        losses = [step(x, y).item() for _ in range(3)]
        results.append((losses, [v.numpy().tobytes() for v in net.state_dict().values()]))
    assert all(r == results[0] for r in results[1:])


def test_an_image_gives_the_same_bits_in_any_batch() -> None:
    net = small()
    net.eval()
    f = st.jit(lambda x: net(x))
    x = np.random.default_rng(3).standard_normal((7, 3, 33, 29)).astype(np.float32)
    whole = f(x).numpy()
    for part in (slice(0, 1), slice(2, 4), slice(3, 7)):
        assert f(x[part]).numpy().tobytes() == whole[part].tobytes()


def test_kept_values_follow_their_state() -> None:
    net = nn.Conv2d(16, 16, 3, padding=1)
    f = st.jit(lambda x: net(x))
    x = np.random.default_rng(4).standard_normal((1, 16, 9, 9)).astype(np.float32)
    first = [f(x).numpy() for _ in range(4)]
    assert all(a.tobytes() == first[0].tobytes() for a in first)
    for factor in (2.0, 3.0, 4.0, 5.0, 6.0, 7.0):
        net.weight.assign(net.weight * 0 + factor)
        for _ in range(3):
            want = st.conv(x, net.weight, net.bias, padding=1).numpy()
            np.testing.assert_allclose(f(x).numpy(), want, rtol=1e-5, atol=1e-4)
        assert all(a.tobytes() != f(x).numpy().tobytes() for a in first)


def test_what_changes_seldom_is_kept_again() -> None:
    net = nn.Conv2d(16, 16, 3, padding=1)
    f = st.jit(lambda x: net(x))
    x = st.asarray(np.random.default_rng(6).standard_normal((1, 16, 9, 9)).astype(np.float32))
    for factor in range(2 * executable.CHANGES):
        net.weight.assign(net.weight * 0 + factor)
        for _ in range(executable.SOON + 2):
            y = f(x)
        np.testing.assert_allclose(y.numpy(), st.conv(x, net.weight, net.bias, padding=1).numpy())
        assert not any("weights" in row.kernel for row in f.profile(x).rows)


def test_plans_let_go_of_what_they_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        executable, "KEPT_BYTES", 500_000
    )  # a size has 36,864 bytes of weights, or 184,384
    net = nn.Conv2d(32, 32, 3, padding=1)
    f = st.jit(lambda x: net(x))
    images = [np.full((1, 32, n, n), 0.5, np.float32) for n in range(5, 12)]
    for _ in range(3):
        for x in images:
            want = st.conv(x, net.weight, net.bias, padding=1).numpy()
            np.testing.assert_allclose(f(x).numpy(), want, rtol=1e-5, atol=1e-5)
        assert sum(executable._kept.plans.values()) <= 500_000
    assert executable._kept.plans


def test_a_profile_names_its_steps() -> None:
    net = small()
    net.eval()
    f = st.jit(lambda x: net(x))
    told = f.profile(np.zeros((1, 3, 16, 16), np.float32))
    assert any(r.kernel.startswith("dense_f32") and r.macs for r in told.rows)
    assert all(r.seconds >= 0 for r in told.rows)
    assert "GFLOP/s" in str(told)
    assert told.seconds >= max(r.seconds for r in told.rows)


def test_addresses_of_results_are_their_own() -> None:
    f = st.jit(lambda x: (x + 1, x + 2))
    results = [a.numpy() for _ in range(4) for a in f(np.zeros(100_000, np.float32))]
    spans = sorted((r.ctypes.data, r.ctypes.data + r.nbytes) for r in results)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert [r[0] for r in results] == [1, 2] * 4


def test_every_target_has_plans_of_its_own() -> None:
    x = st.ones((4, 5))
    plans = []
    for name in ("", "x86-64-v2", ""):
        if name and not can_run(named_target(name)):
            pytest.skip("the host is no x86-64")
        with st.config(target=name):
            plan, _ = plan_of([(x * 3 + 1).node])
            assert isinstance(plan, Executable) and plan.target == current_target()
            plans.append(plan)
    assert plans[0] is plans[2] and plans[0] is not plans[1]
