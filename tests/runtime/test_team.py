"""The team: programs give the same for any number of threads, and flags mean what they say."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
import pytest

import striate as st
from striate.runtime import team
from striate.runtime.sleeping import by_python
from striate.runtime.team import BARRIER, SINGLE, Program, profile, run
from tests.runtime.kernels import (
    Busy,
    Constant,
    Count,
    Square,
    Where,
    pointer,
    program,
    smoothed,
    smoothing,
)

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_same_bits_for_any_number_of_threads(threads: int, n: int) -> None:
    x = RNG.standard_normal(n).astype(np.float32)
    expected = smoothed(x, 60)
    plan, _ = smoothing(x, 60)
    run(plan, threads)
    assert np.array_equal(x, expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_thread_calls_a_shared_row_and_one_a_single_row(threads: int) -> None:
    x = np.zeros((2, 40), np.int64)
    shared = Count(), (pointer(x[0]),), 0
    single = Count(), (pointer(x[1]),), SINGLE | BARRIER
    plan = program(*[shared] * 50, *[single] * 20, shared)
    run(plan, threads)
    assert x[0, :threads].tolist() == [51] * threads
    assert x[0, threads:32].sum() == 0
    assert x[0, 32] == threads
    assert (x[1, 0], x[1, 1:32].sum(), x[1, 32]) == (20, 0, 1)  # as thread 0 of 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_single_rows_spread_over_the_team(threads: int) -> None:
    """Row i belongs to thread i mod threads, which is known by its stack."""
    x = np.zeros(12, np.int64)
    run(program(*[(Where(), (pointer(x[i:]),), SINGLE) for i in range(12)]), threads)
    stacks = [x[t::threads] for t in range(threads)]
    assert all(np.ptp(stack) < 1 << 10 for stack in stacks)
    assert len({int(stack[0]) >> 12 for stack in stacks}) == threads


def test_rows_after_a_barrier_see_what_was_written_before() -> None:
    """Many values, each written by a single row of some thread and counted by all."""
    x = np.zeros(1, np.int64)
    plan = program(*[(Constant(v), (pointer(x),), SINGLE | BARRIER) for v in (1, 2, 3, 4) * 10])
    for _ in range(20):
        run(plan, 3)
        assert x[0] == 4


def test_an_empty_program() -> None:
    run(program(), 1)
    run(program(), 3)
    assert profile(program(), 2).shape == (0,)


def test_a_long_program_is_cut_into_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_SLICE", 0.0)
    crew_team = team.Team()
    x = RNG.standard_normal(50).astype(np.float32)
    expected = smoothed(x, 400)
    plan, _ = smoothing(x, 400)
    crew_team.run(plan, 3)
    assert np.array_equal(x, expected)
    assert crew_team._crew is not None
    assert crew_team._crew.runs >= 100  # a slice of nothing ends at every barrier
    crew_team.stop()


def test_sleeping_by_python() -> None:
    crew = team._Crew(3, by_python(3), spin=0.0)
    x = RNG.standard_normal(64).astype(np.float32)
    expected = smoothed(x, 100)
    plan, _ = smoothing(x, 100)
    done = 0
    while done < plan.count:
        done = crew.run(plan, done, 3, 0)
    crew.quit()
    assert np.array_equal(x, expected)


def test_always_parking() -> None:
    crew = team._Crew(4, spin=0.0)
    x = RNG.standard_normal(64).astype(np.float32)
    expected = smoothed(x, 1000)
    plan, _ = smoothing(x, 1000)
    done = 0
    while done < plan.count:
        done = crew.run(plan, done, 4, 0)
    crew.quit()
    assert np.array_equal(x, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the scheduler decides")
def test_a_worker_leaves_the_processor_of_the_caller() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one processor")
    here = min(allowed)
    crew = team._Crew(2)
    plan = program((Count(), (pointer(np.zeros(40, np.int64)),), BARRIER))
    worker = crew.workers[0].native_id
    assert worker is not None
    os.sched_setaffinity(0, {here})
    try:
        os.sched_setaffinity(worker, {here})
        for _ in range(20):
            time.sleep(0.01)  # the worker parks; the wake-up puts it beside the caller
            crew.run(plan, 0, 2, 0)
            if here not in os.sched_getaffinity(worker):
                break
        assert os.sched_getaffinity(worker) == allowed - {here}
    finally:
        os.sched_setaffinity(0, allowed)
        crew.quit()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the scheduler decides")
def test_threads_share_a_processor_if_there_is_but_one() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        crew = team._Crew(3, spin=0.0)
        x = RNG.standard_normal(64).astype(np.float32)
        expected = smoothed(x, 50)
        plan, _ = smoothing(x, 50)
        done = 0
        while done < plan.count:
            done = crew.run(plan, done, 3, 0)
        affinities = [os.sched_getaffinity(worker.native_id or 0) for worker in crew.workers]
        crew.quit()
    finally:
        os.sched_setaffinity(0, allowed)
    assert np.array_equal(x, expected)
    assert affinities == [{min(allowed)}] * 2


def test_the_number_of_threads_may_change_from_run_to_run() -> None:
    own = team.Team()
    x = np.zeros(40, np.int64)
    plan = program((Count(), (pointer(x),), BARRIER))
    for threads in (2, 5, 1, 3, 2, 4, 5) * 5:
        x[:] = 0
        own.run(plan, threads)
        assert (x[:32].sum(), x[32]) == (threads, threads)
    own.stop()
    own.run(plan, 2)  # starts again
    assert x[0] == 2
    own.stop()


def test_callers_in_several_threads() -> None:
    errors = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal(100).astype(np.float32)
        for threads in (2, 1, 3) * 5:
            expected = smoothed(x, 20)
            plan, _ = smoothing(x, 20)
            run(plan, threads)
            if not np.array_equal(x, expected):
                errors.append(seed)

    callers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not errors


@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_are_flushed_inside_and_only_there(threads: int) -> None:
    small = np.full(2, 1e-22, np.float32)
    denormal = np.full(2, 1e-40, np.float32)
    assert (small * small > 0).all()
    for x in (small.copy(), denormal):
        run(program((Square(), (pointer(x),), 0)), threads)
        assert (x[:threads] == 0).all()
    assert (small * small > 0).all()  # 1e-44: the caller's mode is back
    assert (np.float32(1e-40) * np.float32(0.5)) > 0


def test_profile_tells_the_long_rows() -> None:
    plan = program(*[(Busy(), (n,), 0) for n in (1_000_000, 10, 500_000)])
    found = []
    for _ in range(5):  # each of them may be interrupted
        start = time.perf_counter()
        found.append(profile(plan, 2))
        assert found[-1].shape == (3,)
        assert found[-1].sum() <= time.perf_counter() - start
    least = np.min(found, axis=0)
    assert least[1] < least[2] < least[0]
    assert least[0] > 1e-3  # a division takes more than a nanosecond


def test_number_of_threads() -> None:
    before = st.get_num_threads()
    x = np.zeros(40, np.int64)
    plan = program((Count(), (pointer(x),), 0))
    try:
        st.set_num_threads(3)
        assert st.get_num_threads() == 3
        run(plan)
        assert x[32] == 3
        for wrong, kind in ((0, st.RangeError), (-1, st.RangeError), (1.5, TypeError)):
            with pytest.raises(kind):
                st.set_num_threads(wrong)  # type: ignore[arg-type]
    finally:
        st.set_num_threads(before)


def test_programs_are_checked() -> None:
    with pytest.raises(st.ShapeError, match=r"\[n, 3\]"):
        Program([[1, 2]])
    with pytest.raises(st.RangeError, match="must not be 0"):
        Program([[0, 0, 0]])
