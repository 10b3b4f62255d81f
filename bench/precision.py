"""Does precision="high" train as well as "highest"? ResNet-20 on CIFAR-10, several seeds of each.

    python -m bench.precision --data DIR [--epochs 10] [--seeds 4] [--out FILE]

DIR holds the binary files, or a part of them. A seed sets the first weights, the order of the
images and their augmentation; both settings see the same. What they differ by is to be held against
what seeds differ by.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.threads import pin

SETTINGS = ("highest", "high")
PEAK = 0.1  # of the learning rate


def accuracy(directory: Path, seed: int, epochs: int, precision: str) -> float:
    """Train one network; the share of test images that it classifies as it should."""
    import striate as st
    from bench import cifar10
    from striate.models import resnet20
    from striate.train import eval_step

    with st.config(precision=precision):
        st.random.seed(seed)
        train, test = cifar10.loaders(directory, seed)
        net = resnet20().train()
        optimizer = cifar10.sgd(net)
        schedule = st.optim.OneCycleLR(optimizer, PEAK, epochs * len(train))
        loss = st.nn.CrossEntropyLoss(label_smoothing=cifar10.SMOOTHING)
        step = st.train_step(net, loss, optimizer)
        for epoch in range(epochs):
            for x, y in train.batches(epoch):
                step(x, y).item()
                schedule.step()
        net.eval()
        evaluate = eval_step(net, loss)
        right = sum(int(evaluate(x, y)[1].item()) for x, y in test)
    return right / len(test.dataset)


def report(found: dict[str, list[float]], images: int) -> str:
    """The accuracies, their means and spreads, and the difference in units of its own."""
    seeds = len(found[SETTINGS[0]])
    head = ["precision", *(f"seed {i}" for i in range(seeds)), "mean", "standard deviation"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, values in found.items():
        cells = [*(f"{v:.2%}" for v in values), f"{statistics.fmean(values):.2%}"]
        cells.append(f"{100 * statistics.stdev(values):.2f} points" if seeds > 1 else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if seeds < 2:
        return "\n".join(lines)
    apart, error = difference(found)
    return "\n".join(lines) + (
        f"\n\nThe means differ by {100 * apart:+.2f} points (high less highest), with a standard "
        f"error of {100 * error:.2f} points, from {seeds} seeds each on {images} test images: "
        f"{'within' if abs(apart) <= 2 * error else 'beyond'} two standard errors."
    )


def difference(found: dict[str, list[float]]) -> tuple[float, float]:
    """(mean of `high` less that of `highest`, its standard error as of independent runs)."""
    highest, high = (found[name] for name in SETTINGS)
    error = math.sqrt(sum(statistics.variance(v) / len(v) for v in (highest, high)))
    return statistics.fmean(high) - statistics.fmean(highest), error


def main(given: Sequence[str]) -> int:
    """0 if the means are within three standard errors."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.precision", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(given)
    pin(args.threads)
    from bench import cifar10, machine

    described = machine.describe(args.threads)
    described["command"] = (
        f"python -m bench.precision --data DIR --epochs {args.epochs} --seeds {args.seeds} "
        f"--threads {args.threads}"
    )
    train, test = cifar10.read(args.data)
    found: dict[str, list[float]] = {name: [] for name in SETTINGS}
    text = ""
    for seed in range(args.seeds):
        for name in SETTINGS:
            start = time.perf_counter()
            found[name].append(accuracy(args.data, seed, args.epochs, name))
            seconds = time.perf_counter() - start
            print(f"seed {seed}, {name}: {found[name][-1]:.2%} in {seconds:.0f} s", flush=True)
        text = "\n".join(
            [
                f"# ResNet-20 on CIFAR-10 by precision, {args.epochs} epochs",
                "",
                *(f"- {k}: {v}" for k, v in described.items()),
                "",
                f"{len(train)} training images, {len(test)} test images, batches of "
                f"{cifar10.BATCH}. The two settings of a seed begin with the same weights and see "
                "the same batches.",
                "",
                report(found, len(test)),
            ]
        )
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    if args.seeds < 2:
        return 0
    apart, error = difference(found)
    return 0 if abs(apart) <= 3 * error else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
