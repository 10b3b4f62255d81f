"""The training loop: epochs, validation, metrics, checkpoints, early stop, exact resume.

Everything that a step depends on is in the checkpoint: weights, running statistics, optimizer,
schedule, averages, the counters of the random generator, and the position (epoch, batch). Data
order and augmentation are functions of (seed, epoch, index). So a run that was killed and resumed
ends with the bytes of one that was not; a run with other data order or schedule is refused.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from striate.core import random
from striate.data import ArrayDataset, DataLoader, Dataset
from striate.errors import ShapeError, StriateError
from striate.nn import Module
from striate.optim import EMA, Optimizer, Schedule
from striate.optim.optimizer import check_arrays
from striate.train.checkpoint import load, save
from striate.train.report import Reporter
from striate.train.step import Loss, eval_step, train_step
from striate.weights.atomic import remove_stale, write_atomic

Data = DataLoader | Dataset | tuple[Any, Any]
Row = dict[str, Any]
FILES = ("last.safetensors", "best.safetensors", "metrics.jsonl", "metrics.csv")


@dataclass
class History:
    """What `fit` gives back.

    Attributes:
        rows: one mapping per epoch: epoch, loss, lr, seconds, and val_loss, val_accuracy.
        stopped: why the run ended: "epochs" or "early stop".
    """

    rows: list[Row] = field(default_factory=list)
    stopped: str = "epochs"

    @property
    def best(self) -> Row:
        """The row with the lowest validation loss (training loss if there is no validation)."""
        return min(self.rows, key=_score)


def _score(row: Mapping[str, Any]) -> float:
    return float(row.get("val_loss", row["loss"]))


def _loader(data: Data, batch_size: int, seed: int, shuffle: bool) -> DataLoader:
    if isinstance(data, DataLoader):
        return data
    dataset = ArrayDataset(*data) if isinstance(data, tuple) else data
    return DataLoader(dataset, batch_size, shuffle=shuffle, seed=seed)


def evaluate(net: Module, data: Data, loss: Loss, *, batch_size: int = 256) -> Row:
    """Mean loss and accuracy of a network, in evaluation mode.

    Afterwards each submodule is in the mode that it had.

    Raises:
        ShapeError: there is no data.
    """
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    step = eval_step(net, loss)
    total, right, count, answers = 0.0, 0, 0, 0
    try:
        for x, y in _loader(data, batch_size, 0, shuffle=False).batches(0):
            value, hits = step(x, y)
            total += value.item() * len(x)
            right += int(hits.item())
            count += len(x)
            answers += y.size if y.dtype.kind in "iu" else len(x)
    finally:
        for module, training in modes:
            module.training = training
    if not count:
        raise ShapeError("evaluate: there is no data")
    return {"loss": total / count, "accuracy": right / answers}


@dataclass
class _Run:
    """The state of a run, in and out of checkpoints."""

    net: Module
    optimizer: Optimizer
    schedule: Schedule | None
    ema: EMA | None
    order: Row  # what the sequence of batches and rates depends on, beside the arrays
    history: History = field(default_factory=History)

    def parts(self) -> dict[str, Module | Optimizer | EMA]:
        parts: dict[str, Module | Optimizer | EMA] = {"net": self.net, "optimizer": self.optimizer}
        return parts if self.ema is None else {**parts, "ema": self.ema}

    def arrays(self) -> dict[str, Any]:
        generator = random.default_generator
        return {
            **{
                f"{p}.{k}": v
                for p, part in self.parts().items()
                for k, v in part.state_dict().items()
            },
            "random.seed": generator.seed,
            "random.step": generator.step,
        }

    def meta(self, epoch: int, batch: int, partial: Mapping[str, Any]) -> Row:
        schedule = self.schedule.state_dict() if self.schedule is not None else None
        return {
            "epoch": epoch,
            "batch": batch,
            "partial": dict(partial),
            "rows": self.history.rows,
            "schedule": schedule,
            "order": self.order,
        }

    def restore(self, path: Path) -> Row:
        arrays, meta = load(path)
        old = meta.get("order", {})
        other = [
            f"{k} was {old.get(k)!r}, is {v!r}" for k, v in self.order.items() if v != old.get(k)
        ]
        if other:
            raise StriateError(
                f"fit: resume: {path} is of another run: {', '.join(other)}; give the old values, "
                "or start anew in another folder"
            )
        check_arrays("fit: resume", self.arrays(), arrays)  # all names, before any is assigned
        for p, part in self.parts().items():
            own = (k for k in arrays if k.startswith(f"{p}."))
            part.load_state_dict({k.removeprefix(f"{p}."): arrays[k] for k in own})
        random.default_generator.seed.assign(arrays["random.seed"])
        random.default_generator.step.assign(arrays["random.step"])
        if self.schedule is not None:
            self.schedule.load_state_dict(meta["schedule"])
        self.history.rows[:] = meta["rows"]
        return meta


def fit(
    net: Module,
    data: Data,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int = 64,
    validation: Data | None = None,
    schedule: Schedule | None = None,
    schedule_per: Literal["batch", "epoch"] = "batch",
    clip_norm: float | None = None,
    ema: EMA | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    save_every: int | None = None,
    early_stop: int | None = None,
    seed: int = 0,
    progress: bool = True,
    callbacks: Sequence[Callable[[Row], object]] = (),
) -> History:
    """Train a network.

    If `net.training` is False, the whole network is put into training mode first; if it is True,
    the modes of submodules are left alone: normalisation frozen by `net.bn.eval()` stays frozen in
    all epochs.

    Args:
        net: the network.
        data: a `DataLoader`, a dataset, or a pair of arrays (x, y).
        loss: (output, y) -> one number.
        optimizer: of the network's parameters.
        epochs: passes over the data, those of a resumed run included.
        batch_size: where `data` is no loader.
        validation: measured after each epoch, with the weights of then (not the averages of
            `ema`).
        schedule: sets the learning rates.
        schedule_per: whether the schedule steps after each batch or after each epoch.
        clip_norm: the joint norm to which gradients are clipped.
        ema: averages to keep, updated after each batch; `ema.swap()` puts them into the network.
        out: folder for `last.safetensors`, `best.safetensors`, `metrics.jsonl` and `metrics.csv`.
        resume: go on from `last.safetensors` in `out`, if it is there; the result has the bytes
            of a run without interruption.
        save_every: write `last.safetensors` every so many batches too, not only after epochs.
        early_stop: stop after so many epochs without a better validation loss.
        seed: of the order of the data, where `data` is no loader. Weights and dropout are drawn
            from `st.random`.
        progress: show a bar, or lines where there is no terminal.
        callbacks: called with the row of each epoch.

    Raises:
        ShapeError: epochs < 0, or there is no data.
        StriateError: the checkpoint does not fit the network, the optimizer, the batches (their
            size, number and seed) or the schedule; nothing is changed.
    """
    if epochs < 0 or (early_stop is not None and early_stop < 1):
        raise ShapeError(f"fit: wants epochs >= 0 and early_stop >= 1, got {epochs}, {early_stop}")
    if schedule_per not in ("batch", "epoch"):
        raise ShapeError(f"fit: schedule_per must be 'batch' or 'epoch', got {schedule_per!r}")
    if out is None and (resume or save_every):
        raise StriateError("fit: resume and save_every need a folder `out`")
    loader = _loader(data, batch_size, seed, shuffle=True)
    if epochs and not len(loader):
        raise ShapeError("fit: the loader has no batches")
    folder = None if out is None else Path(out)
    order = {
        "batch_size": loader.batch_size,
        "batches": len(loader),
        "seed": loader.seed,
        "schedule": None if schedule is None else f"{type(schedule).__name__} per {schedule_per}",
    }
    run = _Run(net, optimizer, schedule, ema, order)
    for path in () if folder is None else (folder / name for name in FILES):
        remove_stale(path)
    first, start, partial = 0, 0, {"total": 0.0, "count": 0, "seconds": 0.0}
    if folder is not None and resume and (folder / "last.safetensors").exists():
        meta = run.restore(folder / "last.safetensors")
        first, start, partial = meta["epoch"], meta["batch"], meta["partial"]
    step = train_step(net, loss, optimizer, clip_norm=clip_norm, ema=ema)
    reporter = Reporter(epochs, progress)
    if not net.training:
        net.train()
    for epoch in range(first, epochs):
        began = time.perf_counter() - partial["seconds"]
        batches = reporter.steps(loader.batches(epoch, start), epoch + 1, start, len(loader))
        for i, (x, y) in enumerate(batches, start=start + 1):
            partial["total"] += step(x, y).item() * len(x)
            partial["count"] += len(x)
            if schedule is not None and schedule_per == "batch":
                schedule.step()
            if folder is not None and save_every and i % save_every == 0 and i < len(loader):
                partial["seconds"] = time.perf_counter() - began
                save(folder / "last.safetensors", run.arrays(), run.meta(epoch, i, partial))
        row: Row = {"epoch": epoch + 1, "loss": partial["total"] / max(partial["count"], 1)}
        if validation is not None:
            measured = evaluate(net, validation, loss, batch_size=batch_size)
            row |= {f"val_{k}": v for k, v in measured.items()}
        row |= {"lr": optimizer.lr, "seconds": round(time.perf_counter() - began, 3)}
        if schedule is not None and schedule_per == "epoch":
            schedule.step()
        better = not run.history.rows or _score(row) < _score(run.history.best)
        run.history.rows.append(row)
        start, partial = 0, {"total": 0.0, "count": 0, "seconds": 0.0}
        if folder is not None:
            state = run.meta(epoch + 1, 0, partial)
            if better:
                save(folder / "best.safetensors", run.arrays(), state)
            save(folder / "last.safetensors", run.arrays(), state)
            _write_metrics(folder, run.history.rows)
        reporter.epoch(row)
        for callback in callbacks:
            callback(row)
        since_best = len(run.history.rows) - 1 - run.history.rows.index(run.history.best)
        if early_stop is not None and since_best >= early_stop:
            run.history.stopped = "early stop"
            break
    return run.history


def _write_metrics(folder: Path, rows: Iterable[Row]) -> None:
    """metrics.jsonl and metrics.csv, whole."""
    rows = list(rows)
    write_atomic(folder / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(dict.fromkeys(k for r in rows for k in r)))
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / "metrics.csv", table.getvalue().encode())
