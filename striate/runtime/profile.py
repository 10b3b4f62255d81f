"""Where the time of a plan goes: a row per step, as values and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        layers: the names of the layers that it computes, or is a part of.
    """

    kernel: str
    label: str
    seconds: float
    macs: int
    nbytes: int
    layers: tuple[str, ...]

    @property
    def title(self) -> str:
        """Its layers and what it computes of them, for a line of a table."""
        return "  ".join(filter(None, [" + ".join(self.layers), self.label or self.kernel]))

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
    def of(cls, timed: Iterable[tuple[Step, float]], layers: Sequence[str] = ()) -> Profile:
        """The profile of steps and their seconds; their origins are places in `layers`."""

        def row(s: Step, seconds: float) -> Row:
            found = (layers[i] for i in s.origins if isinstance(i, int) and i < len(layers))
            names = tuple(dict.fromkeys(filter(None, found)))
            nbytes = sum(b.nbytes for b in {*s.buffers()})
            return Row(s.kernel.name, s.label, seconds, s.macs, nbytes, names)

        return cls(tuple(row(s, t) for s, t in timed))

    @property
    def seconds(self) -> float:
        """The time of all steps."""
        return sum(r.seconds for r in self.rows)

    def __str__(self) -> str:
        whole = self.seconds or 1.0
        lines = [f"{'ms':>9} {'share':>6} {'GFLOP/s':>8} {'GB/s':>7}  layers, kernel"]
        for r in sorted(self.rows, key=lambda r: -r.seconds):
            lines.append(
                f"{1e3 * r.seconds:9.3f} {r.seconds / whole:6.1%} {r.gflops:8.1f} {r.gbytes:7.1f}"
                f"  {r.title}"
            )
        lines.append(f"{1e3 * self.seconds:9.3f} in {len(self.rows)} steps")
        return "\n".join(lines)
