"""From kernels to addresses: worker processes that die or never start, and the cache on disk."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from striate.codegen.kernel import emit
from striate.codegen.machine import (
    can_run,
    compile_object,
    current_target,
    host_target,
    named_target,
)
from striate.config import _from_environment, config
from striate.errors import StriateError
from striate.runtime import compilers, jit
from striate.runtime.compilers import Compiled, compile_all, stop_workers
from striate.runtime.jit import load, objects
from striate.runtime.team_code import TeamCode
from striate.target import data_caches
from tests.runtime.kernels import Broken, Constant, Unverified

ROOT = Path(__file__).resolve().parents[2]
SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def result(address: int) -> int:
    """What a `Constant` writes."""
    x = ctypes.c_int64()
    words = (ctypes.c_int64 * 1)(ctypes.addressof(x))
    SIGNATURE(address)(ctypes.addressof(words), 0, 1)
    return x.value


@pytest.fixture
def workers() -> Iterator[None]:
    """No worker before, none after."""
    stop_workers()
    yield
    stop_workers()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many kernels each call of the compiler had."""
    calls: list[int] = []

    def counting(*args):  # type: ignore[no-untyped-def]
        calls.append(len(args[0]))
        return compile_all(*args)

    monkeypatch.setattr(jit, "compile_all", counting)
    return calls


def test_many_kernels_of_one_name() -> None:
    kernels = [Constant(v) for v in range(100, 105)]
    addresses = load(kernels, host_target())
    assert [result(addresses[k]) for k in kernels] == [100, 101, 102, 103, 104]
    assert load(kernels * 2, host_target()) == addresses
    assert load([], host_target()) == {}


def test_errors_name_the_kernel() -> None:
    with pytest.raises(StriateError, match=r"(?s)kernel broken for x86.*this is what is wrong"):
        load([Broken(), Constant(1)], host_target())
    with pytest.raises(StriateError, match=r"(?s)kernel unverified .*llvm.fma"):
        load([Unverified()], host_target())
    assert result(load([Constant(1)], host_target())[Constant(1)]) == 1


def test_errors_of_a_worker_that_emits() -> None:
    """More kernels than are emitted here; what is wrong is told, the others are compiled."""
    kernels = [Constant(v) for v in range(200, 209)]
    done = compile_all([*kernels, Broken()], host_target())
    assert isinstance(done[Broken()], str)
    assert all(isinstance(done[k], Compiled) for k in kernels)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals here")
def test_a_worker_that_is_killed_while_idle(workers: None) -> None:
    compile_all([Constant(1)], host_target())
    (worker,) = compilers._idle
    os.kill(worker.process.pid, signal.SIGKILL)
    done = compile_all([Constant(2)], host_target())[Constant(2)]
    assert isinstance(done, Compiled)
    assert done.tuned


STUBS = {
    "dies at every job": "import pickle, sys; i, o = sys.stdin.buffer, sys.stdout.buffer; "
    "pickle.load(i); pickle.dump(None, o); o.flush(); pickle.load(i); sys.exit(7)",
    "talks nonsense": "import sys; sys.stdout.write('nonsense'); sys.stdin.read(1)",
    "does not start": "import sys; sys.exit(1)",
}


def stub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a script take the place of the worker's."""
    path = tmp_path / "worker.py"
    path.write_text(STUBS[name])
    monkeypatch.setattr(compilers, "_SCRIPT", path)


def test_a_worker_that_dies_twice(
    workers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub("dies at every job", tmp_path, monkeypatch)
    with pytest.raises(StriateError, match=r"kernel constant .* died, twice"):
        load([Constant(300)], host_target())
    monkeypatch.undo()
    assert result(load([Constant(300)], host_target())[Constant(300)]) == 300


def test_a_worker_that_dies_once(
    workers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub("dies at every job", tmp_path, monkeypatch)
    bad = compilers.Worker()
    monkeypatch.undo()
    compilers._idle.append(bad)
    done = compile_all([Constant(301)], host_target())[Constant(301)]
    assert isinstance(done, Compiled)
    assert done.tuned


@pytest.mark.parametrize("how", ["talks nonsense", "does not start", "no Python", "frozen"])
def test_without_workers_kernels_are_compiled_here(
    how: str, workers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how in STUBS:
        stub(how, tmp_path, monkeypatch)
    elif how == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    kernel = Constant(310 + len(how))
    done = compile_all([kernel], host_target())[kernel]
    assert isinstance(done, Compiled)
    assert not done.tuned
    assert result(load([kernel], host_target())[kernel]) == kernel.value


def test_disk(tmp_path: Path, compiled: list[int]) -> None:
    with config(cache_dir=str(tmp_path)):
        first = objects([TeamCode()], host_target())
        assert objects([TeamCode()], host_target()) == first
    assert compiled == [1]
    (path,) = tmp_path.glob("*.o")
    assert first[TeamCode()] in path.read_bytes()


@pytest.mark.parametrize("damage", ["truncate", "flip", "plant"])
def test_damage_on_disk_is_repaired(damage: str, tmp_path: Path, compiled: list[int]) -> None:
    with config(cache_dir=str(tmp_path)):
        good = objects([TeamCode()], host_target())
        (path,) = tmp_path.glob("*.o")
        data = path.read_bytes()
        flipped = bytes([*data[:500], data[500] ^ 4, *data[501:]])
        path.write_bytes({"truncate": data[:-1], "flip": flipped, "plant": b"\x90" * 999}[damage])
        assert objects([TeamCode()], host_target()) == good
        assert path.read_bytes() == data
        assert objects([TeamCode()], host_target()) == good
    assert compiled == [1, 1]


def test_targets_and_sources_have_objects_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with config(cache_dir=str(tmp_path)):
        for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2", "aarch64"):
            objects([TeamCode()], named_target(name))
        monkeypatch.setattr(jit, "code_version", lambda: b"of later sources")
        objects([TeamCode()], named_target("aarch64"))
    assert len([*tmp_path.glob("*.o")]) == 5


def test_kernels_from_elsewhere_are_not_kept(tmp_path: Path) -> None:
    """What their code depends on is not known."""
    with config(cache_dir=str(tmp_path)):
        objects([Constant(400)], host_target())
    assert not [*tmp_path.iterdir()]


def test_code_that_was_compiled_without_workers_is_not_kept(
    workers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub("does not start", tmp_path, monkeypatch)
    monkeypatch.setattr(compilers, "HERE", 0)
    with config(cache_dir=str(tmp_path / "cache")):
        objects([TeamCode()], host_target())
    assert not [*tmp_path.glob("cache/*.o")]


def test_little_is_compiled_here_as_a_worker_does_it(
    workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, kernel = host_target(), TeamCode()
    scheduled = compile_object(emit(kernel, target), target)
    here = compile_all([kernel], target)[kernel]
    assert not compilers._idle
    monkeypatch.setattr(compilers, "HERE", 0)
    there = compile_all([kernel], target)[kernel]
    assert compilers._idle
    assert isinstance(here, Compiled)
    assert here == there
    assert compile_object(emit(kernel, target), target) == scheduled  # the scheduler is back


TWO = """
from striate.codegen.machine import host_target
from striate.runtime.jit import load
from striate.runtime.team_code import TeamCode
assert load([TeamCode()], host_target())[TeamCode()]
"""


def test_processes_that_start_together(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STRIATE_CACHE_DIR": str(tmp_path)}
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen([sys.executable, "-c", TWO], env=environment, stderr=pipe)
        for _ in range(2)
    ]
    assert [p.communicate(timeout=100)[1] for p in both] == [b"", b""]
    assert [p.returncode for p in both] == [0, 0]
    assert len([*tmp_path.iterdir()]) == 1


FORKED = """
import os, sys, warnings
from striate.codegen.machine import host_target
from striate.runtime import compilers
from tests.runtime.kernels import Constant

def tuned(value):
    return compilers.compile_all([Constant(value)], host_target())[Constant(value)].tuned

assert tuned(1)
(mine,) = compilers._idle
child = os.fork()
if not child:
    assert not compilers._idle
    assert tuned(2)
    sys.exit(0)  # which ends the child's workers
assert os.waitpid(child, 0)[1] == 0
assert compilers._idle == [mine] and mine.alive()
assert tuned(3)
assert compilers._idle == [mine]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_workers_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "default::ResourceWarning", "-c", FORKED],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["STRIATE_NUM_THREADS", "STRIATE_CACHE_SIZE"])
def test_numbers_in_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = name.removeprefix("STRIATE_").lower()
    monkeypatch.setenv(name, " 7 ")
    assert getattr(_from_environment(), field) == 7
    for wrong in ("-1", "seven", "1.5"):
        monkeypatch.setenv(name, wrong)
        with pytest.raises(StriateError, match=f"{name} must be a whole number"):
            _from_environment()


def test_the_target_of_the_settings() -> None:
    assert current_target() == host_target()
    with config(target="aarch64"):
        assert current_target() == named_target("aarch64")
    with config(target="z80"), pytest.raises(StriateError, match=r"no target 'z80'; there are"):
        current_target()


def test_a_target_that_the_host_cannot_run() -> None:
    name = "x86-64-v2" if host_target().name == "aarch64" else "aarch64"
    target = named_target(name)
    assert not can_run(target)
    assert objects([Constant(1)], target)  # compiling is no problem
    with pytest.raises(StriateError, match=f"cannot run code for {name}"):
        load([Constant(1)], target)


def test_the_host() -> None:
    target = host_target()
    assert can_run(target)
    assert can_run(named_target(target.name))
    l1, l2 = data_caches()
    assert target.l1 == (l1 or named_target(target.name).l1)
    assert target.l2 == (l2 or named_target(target.name).l2)
    assert 4 << 10 <= target.l1 < target.l2
