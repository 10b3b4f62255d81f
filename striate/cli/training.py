"""`striate train` and `striate eval`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import striate as st
from striate import data, models, nn, optim, train
from striate.cli.source import at_least_one, trained
from striate.errors import StriateError

OPTIMIZERS = {"adamw": optim.AdamW, "adam": optim.Adam, "sgd": optim.SGD}


@dataclass(frozen=True)
class Task:
    """What a network is trained on: its data and how pixels become numbers."""

    training: data.Dataset
    test: data.Dataset | None
    classes: tuple[str, ...]
    channels: int
    size: int
    scale: float
    mean: float
    std: float

    @property
    def transform(self) -> Any:
        """u8 batches to f32, zero mean and unit deviation or nearly."""
        c = self.channels
        steps: list[data.Transform] = [
            data.ToFloat(self.scale),
            data.Normalize([self.mean] * c, [self.std] * c),
        ]
        return data.Compose(steps)

    def meta(self, model: str) -> dict[str, Any]:
        """What `predict` needs beside the weights."""
        return {
            "model": model,
            "classes": list(self.classes),
            "channels": self.channels,
            "size": self.size,
            "scale": self.scale,
            "mean": self.mean,
            "std": self.std,
        }


def find_task(args: argparse.Namespace) -> Task:
    """The data that the arguments name.

    Raises:
        StriateError: `--data` is missing.
        FileNotFoundError: there is nothing there.
    """
    name = args.dataset
    if name == "digits":
        digits = tuple(map(str, range(10)))
        return Task(data.digits("train"), data.digits("test"), digits, 1, 8, 16.0, 0.305, 0.376)
    if args.data is None:
        raise StriateError(f"{name}: say where the data is, with --data DIR")
    if name == "folder":
        return _folder_task(args)
    if name == "cifar10":
        sets = data.cifar10(args.data, "train"), data.cifar10(args.data, "test")
        return Task(*sets, data.CIFAR10_CLASSES, 3, 32, 255.0, 0.473, 0.251)
    read = data.mnist if name == "mnist" else data.fashion_mnist
    names = data.FASHION_CLASSES if name == "fashion" else tuple(map(str, range(10)))
    return Task(
        read(args.data, "train"), read(args.data, "test"), names, 1, 28, 255.0, 0.1307, 0.3081
    )


def _folder_task(args: argparse.Namespace) -> Task:
    """Every fifth image of a folder is held out."""
    images = data.ImageFolder(args.data, size=(args.size, args.size))
    held_out = range(4, len(images), 5)
    rest = [i for i in range(len(images)) if i % 5 != 4]
    return Task(
        data.Subset(images, rest), data.Subset(images, held_out), tuple(images.classes),
        3, args.size, 255.0, 0.45, 0.27,
    )  # fmt: skip


def run_train(args: argparse.Namespace) -> int:
    """Train, save the weights, report the accuracy."""
    st.random.seed(args.seed)
    task = find_task(args)
    out = Path(args.out or f"runs/{args.dataset}")
    net = models.MODELS[args.model](len(task.classes), task.channels)
    augment: list[Any] = []
    if args.augment:
        augment = [data.RandomAffine(degrees=8, translate=(0.06, 0.06), scale=(0.95, 1.05))]
    loader = data.DataLoader(
        task.training, args.batch_size, shuffle=True, seed=args.seed,
        transform=data.Compose([task.transform, *augment]),
    )  # fmt: skip
    optimizer = OPTIMIZERS[args.optimizer](net.parameters(), lr=args.lr)
    schedule = optim.OneCycleLR(optimizer, args.lr, max(1, args.epochs * len(loader)))
    validation = None
    if task.test is not None:
        validation = data.DataLoader(task.test, 256, transform=task.transform)
    history = train.fit(
        net, loader, loss=nn.CrossEntropyLoss(), optimizer=optimizer, schedule=schedule,
        epochs=args.epochs, validation=validation, out=out, resume=args.resume,
    )  # fmt: skip
    path = train.save(out / "model.safetensors", net.state_dict(), task.meta(args.model))
    if history.rows and "val_accuracy" in history.rows[-1]:
        print(f"accuracy {history.rows[-1]['val_accuracy']:.2%}")
    print(f"weights in {path}")
    return 0


def run_eval(args: argparse.Namespace) -> int:
    """Print the accuracy on held-out data."""
    net, meta = trained(args.weights)
    args.size = meta["size"]
    task = find_task(args)
    if len(task.classes) != len(meta["classes"]) or task.channels != meta["channels"]:
        raise StriateError(
            f"eval: the model has {len(meta['classes'])} classes and {meta['channels']} channels, "
            f"{args.dataset} has {len(task.classes)} and {task.channels}"
        )
    loader = data.DataLoader(task.test or task.training, 256, transform=task.transform)
    row = train.evaluate(net, loader, nn.CrossEntropyLoss())
    print(f"accuracy {row['accuracy']:.2%}  loss {row['loss']:.4f}")
    return 0


def add(commands: Any) -> None:
    """Register `train` and `eval`."""
    datasets = ("digits", "mnist", "fashion", "cifar10", "folder")

    p = commands.add_parser("train", help="train a network", description=run_train.__doc__)
    p.add_argument("dataset", choices=datasets, help="what to train on; digits are included")
    p.add_argument("--data", metavar="DIR", help="folder of the data (not for digits)")
    p.add_argument("--model", choices=sorted(models.MODELS), default="small")
    p.add_argument("--size", type=at_least_one, default=32, help="of folder images (default 32)")
    p.add_argument("--epochs", type=at_least_one, default=10, help="over the data (default 10)")
    p.add_argument("--batch-size", type=at_least_one, default=64, help="default 64")
    p.add_argument("--lr", type=float, default=5e-3, help="peak learning rate (default 0.005)")
    p.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default="adamw")
    p.add_argument("--augment", action="store_true", help="small rotations, shifts and scales")
    p.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    p.add_argument("--out", metavar="DIR", help="where results go (default runs/DATASET)")
    p.add_argument("--resume", action="store_true", help="go on with the run in --out")
    p.set_defaults(run=run_train)

    p = commands.add_parser("eval", help="measure a network", description=run_eval.__doc__)
    p.add_argument("weights", metavar="WEIGHTS", help="model.safetensors of a training run")
    p.add_argument("dataset", choices=datasets)
    p.add_argument("--data", metavar="DIR", help="folder of the data (not for digits)")
    p.set_defaults(run=run_eval)
