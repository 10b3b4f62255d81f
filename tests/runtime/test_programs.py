"""Programs on disk: what is read is what would be made, and what is damaged is made anew."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.codegen.kernel import At, Buffer
from striate.codegen.lower import Program
from striate.codegen.machine import current_target
from striate.ir.graph import Graph, Op, apply, parameter
from striate.runtime import plan, programs
from striate.runtime.programs import PROTOCOL, program_for
from striate.transform.canonical import Canonical, canonical
from tests.codegen.computations import COMPUTATIONS, Draw

F32 = st.ones(3).type


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which small programs are kept, too."""
    monkeypatch.setattr(programs, "WORTH", 0)
    with st.config(cache_dir=str(tmp_path)):
        yield tmp_path


def form_of(family: str, kind: int = 0, size: int = 0) -> Canonical:
    return canonical([y.node for y in COMPUTATIONS[family](Draw(kind, size, family))])


def simplified(form: Canonical) -> Callable[[], Graph]:
    return lambda: plan.simplified(form)


def never() -> Graph:
    raise AssertionError("nobody needs the graph")


def outline(program: Program) -> Any:
    """All of a program, its buffers by number."""
    number: dict[Buffer, int] = {}

    def place(word: Any) -> Any:
        if isinstance(word, At):
            return (place(word.buffer), word.offset)
        if isinstance(word, Buffer):
            return ("buffer", number.setdefault(word, len(number)), word.nbytes)
        return word

    def all_of(words: Any) -> list[Any]:
        return [place(word) for word in words]

    return (
        [
            (s.kernel, all_of(s.words), all_of(s.writes), all_of(s.updates), s.label, s.macs,
             s.single, s.origins)
            for s in program.steps
        ],
        all_of(program.inputs),
        all_of(program.outputs),
        program.results,
        [(place(b), x.dtype, x.shape, x.tobytes()) for b, x in program.constants.items()],
        [(place(b), error.func, error.args) for b, error in program.faults],  # type: ignore[attr-defined]
        program.largest,
    )  # fmt: skip


@pytest.mark.parametrize("family", COMPUTATIONS)
def test_what_is_read_is_what_would_be_made(family: str, kept: Path) -> None:
    form, target = form_of(family), current_target()
    made = program_for(form, simplified(form), target)
    assert len([*kept.glob("*.plan")]) == 1
    again = form_of(family)  # the same once more, of other nodes
    assert outline(program_for(again, never, target)) == outline(made)


@pytest.mark.parametrize("family", ["networks", "indexing", "dense"])
def test_programs_from_disk_give_the_same_bits(family: str, kept: Path) -> None:
    form = form_of(family)
    values = [n.data for n in form.leaves]
    assert all(x is not None for x in values)
    want = [y.tobytes() for y in plan.build(form)(values)]
    (path,) = kept.glob("*.plan")
    before = path.stat().st_mtime_ns
    assert [y.tobytes() for y in plan.build(form)(values)] == want
    assert path.stat().st_mtime_ns == before, "it was read, not written again"


def test_an_index_out_of_range_is_told_by_programs_from_disk(kept: Path) -> None:
    x, index = st.arange(5.0), st.asarray([1, 7])
    form = canonical([st.take(x, index).node])
    values: Any = [n.data for n in form.leaves]
    for _ in range(2):
        with pytest.raises(IndexError, match=r"take: index 7 is out of range for axis 0 of size 5"):
            plan.build(form)(values)
    assert len([*kept.glob("*.plan")]) == 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "plant", "garbage", "another"])
def test_damage_is_repaired(damage: str, kept: Path) -> None:
    """`garbage` and `another` carry the right sum, of a content that is no program."""
    form, target = form_of("networks"), current_target()
    made = outline(program_for(form, simplified(form), target))
    (path,) = kept.glob("*.plan")
    data = path.read_bytes()
    flipped = bytes([*data[:500], data[500] ^ 4, *data[501:]])
    if damage in ("garbage", "another"):
        wrong = zlib.compress(pickle.dumps([1], PROTOCOL))
        content = b"garbage" if damage == "garbage" else wrong
        programs.disk_cache().put(path.stem, content, programs.KIND)
    else:
        path.write_bytes({"truncate": data[:-1], "flip": flipped, "plant": b"x" * 999}[damage])
    assert outline(program_for(form, simplified(form), target)) == made
    assert outline(program_for(form, never, target)) == made


def test_settings_targets_and_sources_have_programs_of_their_own(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = form_of("networks")

    def made() -> int:
        program_for(form, simplified(form), current_target())
        return len([*kept.glob("*.plan")])

    counts = [made()]
    for change in ({"precision": "highest"}, {"target": "x86-64-v2"}, {"num_threads": 7}):
        with st.config(**change):
            counts.append(made())
    monkeypatch.setattr(programs, "code_version", lambda: b"of later sources")
    assert [*counts, made()] == [1, 2, 3, 3, 4]


@pytest.mark.parametrize("change", [{"verify": True}, {"debug": 2}, {"cache_size": 0}])
def test_who_looks_at_the_passes_sees_them(
    change: dict[str, Any], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    form, target = form_of("sums"), current_target()
    program_for(form, simplified(form), target)
    seen = []
    with st.config(**change):
        program_for(form, lambda: seen.append(1) or plan.simplified(form), target)  # type: ignore[func-returns-value]
    assert seen == [1]
    assert ("block_channels" in capsys.readouterr().err) == ("debug" in change)


def test_small_programs_are_not_kept(tmp_path: Path) -> None:
    with st.config(cache_dir=str(tmp_path)):
        form = canonical([(st.ones(3) + st.asarray([1.0, 2.0, 3.0])).node])
        program_for(form, simplified(form), current_target())
    assert not [*tmp_path.glob("*.plan")]


def test_a_value_that_this_machine_cannot_hold(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program may have been made where there was more memory."""
    form, target = form_of("dense"), current_target()
    program_for(form, simplified(form), target)
    monkeypatch.setattr("striate.transform.interpret.memory_bytes", lambda: 8)
    with pytest.raises(MemoryError, match="this machine has 8"):
        program_for(form, never, target)


# ---- identities ----------------------------------------------------------------------------


def test_identities_tell_structures_apart() -> None:
    x = st.asarray(np.ones((4, 4), np.float32))
    different = [
        [x + x], [x * x], [x + x, x * x], [x * x, x + x], [x + x, x + x],
        [st.pad(x, [(1, 1)])], [st.pad(x, [(1, 1)], value=-0.0)],
        [st.pad(x, [(1, 1)], value=float("nan"))], [st.pad(x, [(2, 2)])],
        [x.reshape(2, 8)], [x.reshape(8, 2)], [x.astype("float64")],
        [x.astype("int32")], [st.sum(x, 0)], [st.sum(x, 1)], [x.astype("int32") + 1],
        [x + st.asarray(np.ones(4, np.float32))], [x + 1.0],
    ]  # fmt: skip
    found = [canonical([y.node for y in ys]).identity() for ys in different]
    assert None not in found
    assert len({*found}) == len(different)
    again = st.asarray(np.zeros((4, 4), np.float32))
    assert canonical([(again + again).node]).identity() == found[0]


def test_what_is_not_ours_has_no_identity(kept: Path) -> None:
    foreign = Op("foreign", lambda attrs, x: x, lambda attrs, x: x)
    assert canonical([apply(foreign, (parameter(F32),))]).identity() is None
    ours = (st.ones(3) + st.ones(3)).node.op
    assert canonical([apply(ours, (parameter(F32),) * 2, attrs=object())]).identity() is None


def test_layers_of_a_program_from_disk_have_their_names(kept: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2))
    x = np.ones((1, 3, 12, 12), np.float32)

    def names() -> list[Any]:
        plan._plans.clear()
        return [row.layers for row in st.jit(lambda x: net(x)).profile(x).rows]

    first = names()
    assert {"0", "2"} <= {name for layers in first for name in layers}
    assert names() == first
    assert len([*kept.glob("*.plan")]) == 1
