"""AArch64: every family of kernels is compiled, and run where there is an emulator.

The emulator is QEMU's (`qemu-aarch64`), the linker that of a cross compiler
(`aarch64-linux-gnu-gcc`): Debian has them as qemu-user, gcc-aarch64-linux-gnu and
libc6-dev-arm64-cross.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.codegen.kernel import At, Buffer, Scratch, Table, symbol
from striate.codegen.lower import Program
from striate.codegen.machine import named_target
from striate.ir.graph import Graph
from striate.runtime.jit import objects
from tests.codegen.computations import COMPUTATIONS, Draw
from tests.codegen.plans import assert_close, graph_of, program_of, reference

Array = NDArray[Any]
MAIN = Path(__file__).with_name("run_plan.c")
TARGET = replace(named_target("aarch64"), triple="aarch64-unknown-linux-gnu")
THREADS = 2


class PlanFile:
    """What `run_plan.c` reads."""

    def __init__(self) -> None:
        self.content: list[bytes] = []
        self.number: dict[Buffer, int] = {}

    def place(self, content: bytes) -> int:
        """The number of a new buffer with this content."""
        self.content.append(content)
        return len(self.content) - 1

    def write(self, program: Program, kernels: Sequence[Any], path: Path) -> None:
        """The steps, and all buffers with what they hold before."""
        steps: list[int] = [len(program.steps)]
        for step in program.steps:
            threads = 1 if step.single else THREADS
            steps += [kernels.index(step.kernel), threads, len(step.words)]
            for word in step.words:
                if isinstance(word, int):
                    steps += [-1, word]
                elif isinstance(word, Table):
                    steps += [self.place(np.array(word.values, "<i8").tobytes()), 0]
                elif isinstance(word, Scratch):
                    steps += [self.place(b"\xff" * (word.nbytes * threads)), 0]
                else:
                    b, offset = (word.buffer, word.offset) if isinstance(word, At) else (word, 0)
                    if b not in self.number:
                        self.number[b] = self.place(b"\xff" * b.nbytes)
                    steps += [self.number[b], offset]
        with path.open("wb") as file:
            file.write(np.int64(len(self.content)).tobytes())
            for x in self.content:
                file.write(np.int64(len(x)).tobytes() + x)
            file.write(np.array(steps, "<i8").tobytes())


def emulated(
    program: Program, graph: Graph, values: Sequence[Array], code: dict[Any, bytes], folder: Path
) -> list[Array]:
    """The outputs of a plan that an emulator runs.

    Raises:
        AssertionError: it died; the emulator's words are in the message.
    """
    plan = PlanFile()
    for b, x in zip(program.inputs, values, strict=True):
        plan.number[b] = plan.place(x.tobytes())
    for b, x in program.constants.items():
        plan.number[b] = plan.place(np.asarray(x).tobytes())
    for b, _ in program.faults:
        plan.number[b] = plan.place(bytes(16))
    for b in program.outputs:
        if b not in plan.number:
            plan.number[b] = plan.place(b"\xff" * b.nbytes)
    kernels = [*code]
    plan.write(program, kernels, folder / "plan")
    names = [symbol(k) for k in kernels]
    table = "typedef void kernel(void *, long, long);\n"
    table += "".join(f"extern kernel {n};\n" for n in names)
    table += f"kernel *const kernels[] = {{{', '.join(names)}}};\n"
    (folder / "kernels.c").write_text(table)
    for i, data in enumerate(code.values()):
        (folder / f"{i}.o").write_bytes(data)
    linked = [str(folder / f"{i}.o") for i in range(len(kernels))]
    sources = [str(MAIN), str(folder / "kernels.c")]
    run = folder / "run_plan"
    build = ["aarch64-linux-gnu-gcc", "-O1", "-static", "-o", str(run), *sources, *linked]
    command = ["qemu-aarch64", str(run), str(folder / "plan"), str(folder / "result")]
    for arguments in (build, command):
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{done.returncode} {done.stderr}"
    result = (folder / "result").read_bytes()
    starts = np.cumsum([0, *map(len, plan.content)])
    found = []
    for b, y in zip(program.outputs, graph.outputs, strict=True):
        i = plan.number[b]
        raw = result[starts[i] : starts[i + 1]]
        found.append(np.frombuffer(raw, y.type.dtype.numpy).reshape(y.shape))
    return found


def check(family: str, kind: int, folder: Path) -> None:
    """Compile one random computation, and run it where that can be done."""
    graph, values = graph_of(COMPUTATIONS[family](Draw(kind, 0, family)))
    program = program_of(graph, TARGET)
    code = objects([s.kernel for s in program.steps], TARGET)
    assert code and all(data.startswith(b"\x7fELF") for data in code.values())
    for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if shutil.which(tool) is None:
            pytest.skip(f"compiled, not run: there is no {tool}")
    want, atol = reference(graph, values)
    assert_close(emulated(program, graph, values, code, folder), want, atol)


@pytest.mark.parametrize("family", ["dense", "depthwise", "sums", "pools", "indexing", "randoms"])
def test_results(family: str, tmp_path: Path) -> None:
    check(family, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("family", COMPUTATIONS)
def test_results_of_every_family(family: str, kind: int, tmp_path: Path) -> None:
    check(family, kind, tmp_path)
