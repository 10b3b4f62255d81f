"""What one sees while training: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any


def line(row: Mapping[str, Any]) -> str:
    """One epoch in one line."""
    parts = []
    for name, value in row.items():
        if name == "epoch":
            parts.append(f"epoch {value:3d}")
        elif isinstance(value, float):
            form = f"{value:.2%}" if "accuracy" in name else f"{value:.4g}"
            parts.append(f"{name} {form}")
    return "  ".join(parts)


class Reporter:
    """Shows steps and epochs; silent if `enabled` is False."""

    def __init__(self, epochs: int, enabled: bool) -> None:
        self.epochs = epochs
        self.enabled = enabled
        self.live = enabled and sys.stderr.isatty() and find_spec("rich") is not None

    def steps(self, items: Iterable[Any], epoch: int, done: int, total: int) -> Iterator[Any]:
        """The items, with a bar while they pass."""
        if not self.live:
            yield from items
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(f"epoch {epoch}/{self.epochs}", total=total, completed=done)
            for item in items:
                yield item
                bar.advance(task)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is over."""
        if self.enabled:
            print(line(row), file=sys.stderr, flush=True)
