"""A ResNet-9 on CIFAR-10, trained by striate and by PyTorch in turns, epoch by epoch.

    python -m bench.cifar10_speedrun --data DIR [--epochs 8] [--width 32] [--out FILE]

Both start from the same weights and see the same batches. DIR holds the set's binary files, or a
part of it. What is timed is the steps: forward, backward and update. PyTorch runs in the memory
format that is faster here, which is found before the first epoch.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.threads import pin

Array = NDArray[Any]
Batches = Iterable[tuple[Array, Array]]
PEAK = 0.1  # of the learning rate
PAUSE = 0.5  # seconds: threads that spin for the contender before go to sleep


class Trainer(Protocol):
    """A network in training."""

    name: str

    def step(self, x: Array, y: Array, rate: float) -> float:
        """One step on f32[N, 3, 32, 32] and i64[N]; the loss before it."""

    def right(self, x: Array, y: Array) -> int:
        """How many images are classified as they should be."""


def resnet9(kit: Any, width: int, classes: int = 10) -> Any:
    """x f32[N, 3, 32, 32] -> logits f32[N, classes]: eight 3x3 convolutions and a linear layer
    (D. Page 2018); `width` is 64 there.
    """
    from bench.networks import conv_norm, parts

    nn, residual = kit.nn, parts(kit).Residual
    block = partial(conv_norm, kit, kernel=3, act=nn.ReLU)
    w = width
    return nn.Sequential(
        block(3, w), block(w, 2 * w), nn.MaxPool2d(2),
        residual(nn.Sequential(block(2 * w, 2 * w), block(2 * w, 2 * w))),
        block(2 * w, 4 * w), nn.MaxPool2d(2),
        block(4 * w, 8 * w), nn.MaxPool2d(2),
        residual(nn.Sequential(block(8 * w, 8 * w), block(8 * w, 8 * w))),
        nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * w, classes),
    )  # fmt: skip


class Striate:
    """Ours."""

    name = "striate"

    def __init__(self, net: Any) -> None:
        import striate as st
        from bench.cifar10 import SMOOTHING, sgd
        from striate.train import eval_step

        self.net, self.optimizer = net.train(), sgd(net)
        loss = st.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
        self._step = st.train_step(net, loss, self.optimizer)
        self._eval = eval_step(net, st.nn.CrossEntropyLoss())

    def step(self, x: Array, y: Array, rate: float) -> float:
        self.optimizer.lr = rate
        return float(self._step(x, y).item())

    def right(self, x: Array, y: Array) -> int:
        self.net.eval()
        found = int(self._eval(x, y)[1].item())
        self.net.train()
        return found


class Torch:
    """PyTorch, with the weights of `state`, in one of its memory formats."""

    def __init__(self, net: Any, state: dict[str, Array], channels_last: bool) -> None:
        import torch

        from bench.cifar10 import DECAY, MOMENTUM, SMOOTHING

        self.name = f"PyTorch{' channels_last' if channels_last else ''}"
        self.form = torch.channels_last if channels_last else torch.contiguous_format
        net.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
        self.net = net.train().to(memory_format=self.form)
        self.optimizer = torch.optim.SGD(
            net.parameters(), 1.0, MOMENTUM, weight_decay=DECAY, nesterov=True, fused=True
        )
        self.loss = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
        self._given = torch.from_numpy

    def step(self, x: Array, y: Array, rate: float) -> float:
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        given = self._given(x).contiguous(memory_format=self.form)
        loss = self.loss(self.net(given), self._given(y))
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def right(self, x: Array, y: Array) -> int:
        import torch

        self.net.eval()
        with torch.no_grad():
            out = self.net(self._given(x).contiguous(memory_format=self.form))
        self.net.train()
        return int((out.argmax(1) == self._given(y)).sum())


@dataclass(frozen=True)
class Epoch:
    """What became of an epoch.

    Attributes:
        loss: mean over the training batches.
        accuracy: on the test set, after it.
        seconds: of all steps.
        first: loss before the first step.
    """

    loss: float
    accuracy: float
    seconds: float
    first: float


def epoch(trainer: Trainer, batches: Batches, test: Batches, rates: Sequence[float]) -> Epoch:
    """Train for an epoch, then test."""
    time.sleep(PAUSE)
    losses, seconds = [], 0.0
    for (x, y), rate in zip(batches, rates, strict=True):
        images = np.ascontiguousarray(x)
        start = time.perf_counter()
        losses.append(trainer.step(images, y, rate))
        seconds += time.perf_counter() - start
    right = [(trainer.right(np.ascontiguousarray(x), y), len(y)) for x, y in test]
    accuracy = sum(r for r, _ in right) / sum(n for _, n in right)
    return Epoch(statistics.fmean(losses), accuracy, seconds, losses[0])


def faster(make: Any, batches: Sequence[tuple[Array, Array]]) -> Torch:
    """A new trainer of PyTorch, in the memory format whose steps take less."""
    least = {}
    for channels_last in (False, True):
        trainer, seconds = make(channels_last), []
        for x, y in batches:
            start = time.perf_counter()
            trainer.step(np.ascontiguousarray(x), y, 0.0)
            seconds.append(time.perf_counter() - start)
        least[channels_last] = min(seconds)
    return make(min(least, key=lambda k: least[k]))


# ---- the report ----------------------------------------------------------------------------


def table(names: tuple[str, str], rows: Sequence[tuple[Epoch, Epoch]]) -> str:
    """A row per epoch."""
    head = ["epoch"]
    for what in ("training loss", "test accuracy", "seconds"):
        head += [f"{what}, {name}" for name in names]
    lines = [f"| {' | '.join([*head, 'ratio'])} |", "|" + "---|" * (len(head) + 1)]
    for i, (a, b) in enumerate(rows, start=1):
        cells = [f"{e.loss:.4f}" for e in (a, b)] + [f"{e.accuracy:.2%}" for e in (a, b)]
        cells += [f"{e.seconds:.1f}" for e in (a, b)]
        lines.append(f"| {' | '.join([str(i), *cells, f'{b.seconds / a.seconds:.2f}x'])} |")
    return "\n".join(lines)


def spread(rows: Sequence[tuple[Epoch, Epoch]], images: int) -> float:
    """Standard deviation of the difference of two equally good networks on so many images."""
    p = min(max(statistics.fmean(e.accuracy for e in rows[-1]), 0.01), 0.99)
    return math.sqrt(2 * p * (1 - p) / images)


def verdict(names: tuple[str, str], rows: Sequence[tuple[Epoch, Epoch]], images: int) -> str:
    """Seconds, and whether the curves are the same."""
    ours, theirs = (statistics.median(pair[i].seconds for pair in rows) for i in (0, 1))
    apart = max(abs(a.accuracy - b.accuracy) for a, b in rows)
    a, b = rows[0]
    noise = spread(rows, images)
    return (
        f"Median seconds an epoch: {names[0]} {ours:.1f}, {names[1]} {theirs:.1f}: "
        f"{theirs / ours:.2f}x.\n\n"
        f"The losses before the first step differ by {abs(a.first - b.first):.1e}; last accuracy "
        f"{rows[-1][0].accuracy:.2%} and {rows[-1][1].accuracy:.2%}. The curves are at most "
        f"{100 * apart:.1f} points apart; two equally good networks differ by {100 * noise:.1f} "
        f"(one standard deviation) on {images} test images."
    )


def main(given: Sequence[str]) -> int:
    """0 if both learned the same, up to four standard deviations of the last accuracy."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cifar10_speedrun", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=32, help="channels of the first layer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(given)
    pin(args.threads)  # before anything that reads the number of threads
    import striate as st
    from bench import cifar10, machine
    from bench.networks import striate_kit, torch_kit

    machine.pin_torch(args.threads)
    described = machine.describe(args.threads)
    described["command"] = (
        f"python -m bench.cifar10_speedrun --data DIR --epochs {args.epochs} "
        f"--width {args.width} --threads {args.threads} --seed {args.seed}"
    )
    st.random.seed(args.seed)
    train, test = cifar10.loaders(args.data, args.seed)
    net = resnet9(striate_kit(), args.width)
    state = {name: np.array(value.numpy()) for name, value in net.state_dict().items()}
    first = [next(iter(train.batches(e))) for e in range(4)]
    start = time.perf_counter()
    ours = Striate(net)
    theirs = faster(lambda form: Torch(resnet9(torch_kit(), args.width), state, form), first)
    schedule = st.optim.OneCycleLR(cifar10.sgd(net), PEAK, args.epochs * len(train))
    rates = [schedule.rate(0.0, i) for i in range(args.epochs * len(train))]
    names, rows = (ours.name, theirs.name), []
    text = ""
    for e in range(args.epochs):
        part = rates[e * len(train) : (e + 1) * len(train)]
        pair = [epoch(t, train.batches(e), test, part) for t in (ours, theirs)]
        rows.append((pair[0], pair[1]))
        text = "\n".join(
            [
                f"# CIFAR-10 speedrun: ResNet-9 of width {args.width}, {args.epochs} epochs",
                "",
                *(f"- {k}: {v}" for k, v in described.items()),
                "",
                f"{len(train.dataset)} training images in batches of {cifar10.BATCH}, "
                f"{len(test.dataset)} test images. Same initial weights, same batches; epochs "
                "alternate. Seconds are those of the steps (forward, backward, update); the first "
                "epoch of striate includes its compilation.",
                "",
                table(names, rows),
                "",
                verdict(names, rows, len(test.dataset)),
            ]
        )
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(text + "\n", encoding="utf-8")
        print(f"epoch {e + 1}: {rows[-1]}", flush=True)
    print(f"{text}\n\n{time.perf_counter() - start:.0f} s in all")
    a, b = (r.accuracy for r in rows[-1])
    return 0 if abs(a - b) <= 4 * spread(rows, len(test.dataset)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
