"""Results as JSON, for machines, and as Markdown and a table on the screen, for people."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.timing import OURS, Result, Row

Table = list[list[str]]


SCALE = {"s": 1.0, "ms": 1e3, "us": 1e6, "MB": 1e-6}


def amount(value: float | None, unit: str = "ms") -> str:
    """Seconds (or bytes) in a unit, with three digits."""
    if value is None:
        return "-"
    shown = value * SCALE[unit]
    return f"{shown:.0f}" if shown >= 100 else f"{shown:.3g}"


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}%"


def _cell(row: Row | None, unit: str) -> str:
    """A peer's time, or a word where there is none."""
    if row is None:
        return ""
    if row.seconds is not None:
        return amount(row.seconds, unit)
    return "wrong" if row.reason.startswith("wrong") else "-"


def _error(result: Result) -> str:
    """Striate's, or what is the matter with it."""
    ours = next((r for r in result.rows if r.name == OURS), None)
    if ours is None or (ours.reason and ours.error is None):
        return "failed"
    mark = " WRONG" if ours.reason else ""
    return f"{ours.error:.0e}{mark}" if ours.error is not None else "-"


def peers_of(results: Sequence[Result]) -> list[str]:
    """Names of all peers, in order of appearance."""
    return list(dict.fromkeys(r.name for s in results for r in s.rows if r.name != OURS))


def table(results: Sequence[Result], bandwidth: float | None = None) -> Table:
    """A header and one row per result; columns that nothing is in are left out.

    Args:
        results: of one group.
        bandwidth: bytes a second, for the share of it.
    """
    peers = peers_of(results)
    head = ["case", "GFLOP", OURS, "best peer", "ratio", "of peak", "of copy", "error", *peers]
    rows = [head]
    for result in results:
        best, named = result.best, {r.name: r for r in result.rows}
        moved = result.nbytes / result.ours / bandwidth if result.ours and bandwidth else None
        rows.append(
            [
                result.name,
                f"{result.flops / 1e9:.3g}" if result.flops else "-",
                amount(result.ours, result.unit),
                amount(best.seconds, result.unit) if best else "-",
                ratio(result.ratio),
                percent(result.share) if result.flops else "-",
                percent(moved) if result.nbytes else "-",
                _error(result),
                *(_cell(named.get(p), result.unit) for p in peers),
            ]
        )
    empty = [i for i in (1, 5, 6, 7) if all(r[i] == "-" for r in rows[1:])]
    return [[cell for i, cell in enumerate(row) if i not in empty] for row in rows]


def summary(results: Sequence[Result]) -> str:
    """One line: in how many cases striate is better, and by how much in the mean and in all."""
    known = [r for r in results if r.ratio is not None]
    if not known:
        return f"{len(results)} cases, no ratio."
    mean = math.exp(sum(math.log(r.ratio or 1) for r in known) / len(known))
    wins = sum((r.ratio or 0) >= 1 for r in known)
    ours = sum((r.ours or 0) * r.count for r in known)
    best = sum((r.best.seconds or 0) * r.count for r in known if r.best)
    unit, without = results[0].unit, len(results) - len(known)
    return (
        f"Better than the best peer in {wins} of {len(known)} cases"
        f"{f' ({without} without a ratio)' if without else ''}; geometric mean of the ratios "
        f"{mean:.2f}x; all cases as often as they occur: {amount(ours, unit)} {unit} against "
        f"{amount(best, unit)} {unit} ({best / ours:.2f}x)."
    )


def failures(results: Sequence[Result]) -> list[str]:
    """What has no measurement, and why; equal reasons of one contender once."""
    seen: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for row in result.rows:
            if row.reason:
                seen.setdefault((row.name, row.reason), []).append(result.name)
    return [
        f"{name}: {reason} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
        for (name, reason), names in seen.items()
    ]


def markdown_table(rows: Table) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """By group, in order."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    return groups


LEGEND = (
    "Medians of interleaved rounds. Ratio: the best peer's by striate's, above 1 striate is "
    "better. Of peak: operations of the definition against the processor's fused multiply-adds, "
    "measured in the same rounds (algorithms that multiply less pass 100%). Of copy: operands and "
    "result, each once, against the bandwidth of a copy in memory (what stays in caches passes "
    "100%). Error: L2 distance to the first peer's result, or for training to float64's, relative."
)


def markdown(
    suite: str, machine: dict[str, str], results: Sequence[Result], bandwidth: float | None
) -> str:
    """The report."""
    lines = [f"# Benchmark: {suite}", "", *(f"- {k}: {v}" for k, v in machine.items()), "", LEGEND]
    for group, members in grouped(results).items():
        lines += [
            "",
            f"## {group} ({members[0].unit})",
            "",
            markdown_table(table(members, bandwidth)),
            "",
        ]
        lines += [summary(members), *([""] if failures(members) else [])]
        lines += [f"- {text}" for text in failures(members)]
    return "\n".join(lines) + "\n"


def document(suite: str, machine: dict[str, str], results: Sequence[Result]) -> dict[str, Any]:
    """Everything that was measured, for JSON."""
    cases = [
        asdict(r)
        | {"ours": r.ours, "best_peer": r.best.name if r.best else None, "ratio": r.ratio}
        | {"share_of_peak": r.share}
        for r in results
    ]
    return {"suite": suite, "machine": machine, "cases": cases}


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value


def save(
    directory: Path,
    suite: str,
    machine: dict[str, str],
    results: Sequence[Result],
    bandwidth: float | None = None,
) -> None:
    """Write SUITE.json and SUITE.md; a reader never sees half a file."""
    directory.mkdir(parents=True, exist_ok=True)
    data = json.dumps(_finite(document(suite, machine, results)), indent=1, allow_nan=False)
    texts = {"json": data + "\n", "md": markdown(suite, machine, results, bandwidth)}
    for suffix, text in texts.items():
        path = directory / f"{suite}.{suffix}"
        part = path.with_suffix(f".{suffix}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)


def show(title: str, rows: Table, notes: Sequence[str] = ()) -> None:
    """A table on the screen; plain text without rich."""
    try:
        from rich.console import Console
        from rich.table import Table as Rich
    except ImportError:
        print(f"\n{title}\n{markdown_table(rows)}\n", *notes, sep="\n")
        return
    console = Console(width=None if Console().is_terminal else 180)
    drawn = Rich(title=title, title_justify="left")
    for i, name in enumerate(rows[0]):
        drawn.add_column(name, justify="right" if i else "left")
    for row in rows[1:]:
        drawn.add_row(*row)
    console.print(drawn)
    for note in notes:
        console.print(note, markup=False, highlight=False)
