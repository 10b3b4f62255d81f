"""Where the time of a plan goes: a row per step, as values and as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from striate.codegen.kernel import Step


@dataclass(frozen=True, slots=True)
class Row:
    """One step of a run.

    Attributes:
        kernel: the name of its machine code.
        label: what it computes.
        seconds: from the end of the step before it until all threads have ended it.
        macs: multiply-adds; 0 where they are not counted.
        nbytes: of the buffers that it reads and writes, each once.
    """

    kernel: str
    label: str
    seconds: float
    macs: int
    nbytes: int

    @property
    def gflops(self) -> float:
        """Billions of additions and multiplications a second."""
        return 2e-9 * self.macs / self.seconds if self.seconds else 0.0

    @property
    def gbytes(self) -> float:
        """Billions of bytes a second."""
        return 1e-9 * self.nbytes / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The rows of a run, in order; its text is a table, the slowest steps first."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, timed: Iterable[tuple[Step, float]]) -> Profile:
        """The profile of steps and their seconds."""
        return cls(
            tuple(
                Row(s.kernel.name, s.label, t, s.macs, sum(b.nbytes for b in {*s.buffers()}))
                for s, t in timed
            )
        )

    @property
    def seconds(self) -> float:
        """The time of all steps."""
        return sum(r.seconds for r in self.rows)

    def __str__(self) -> str:
        whole = self.seconds or 1.0
        lines = [f"{'ms':>9} {'share':>6} {'GFLOP/s':>8} {'GB/s':>7}  kernel"]
        for r in sorted(self.rows, key=lambda r: -r.seconds):
            lines.append(
                f"{1e3 * r.seconds:9.3f} {r.seconds / whole:6.1%} {r.gflops:8.1f} {r.gbytes:7.1f}"
                f"  {r.label or r.kernel}"
            )
        lines.append(f"{1e3 * self.seconds:9.3f} in {len(self.rows)} steps")
        return "\n".join(lines)
