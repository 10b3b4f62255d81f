"""CIFAR-10 for training runs: images from files in the binary format, batches, and their recipe.

The recipe is that of fast training on CIFAR-10 (D. Page, "How to train your ResNet", 2018): random
crops and flips, label smoothing, SGD with Nesterov's momentum, one cycle of the learning rate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from striate import data
from striate.nn import Module
from striate.optim import SGD

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
BATCH, MOMENTUM, DECAY, SMOOTHING = 64, 0.9, 5e-4, 0.1


def read(directory: Path) -> tuple[data.ArrayDataset, data.ArrayDataset]:
    """(training set, test set): the official `data_batch_*.bin` and `test_batch.bin`, in the
    directory or in its `cifar-10-batches-bin`, else all of `train*.bin` and of `test*.bin`.

    Raises:
        FileNotFoundError: one of the two is not there.
    """
    try:
        return data.cifar10(directory, "train"), data.cifar10(directory, "test")
    except FileNotFoundError:
        found = [sorted(directory.glob(f"{part}*.bin")) for part in ("train", "test")]
        if not all(found):
            raise
    pairs = [[data.read_cifar_binary(path) for path in paths] for paths in found]
    train, test = (
        data.ArrayDataset(np.concatenate([x for x, _ in p]), np.concatenate([y for _, y in p]))
        for p in pairs
    )
    return train, test


def loaders(directory: Path, seed: int) -> tuple[data.DataLoader, data.DataLoader]:
    """Batches of both sets: f32[N, 3, 32, 32], i64[N]; the last training batch is whole, too."""
    normalise = [data.ToFloat(255), data.Normalize(MEAN, STD)]
    augment = [data.RandomCrop(32, padding=4, mode="reflect"), data.HorizontalFlip()]
    train, test = read(directory)
    return (
        data.DataLoader(
            train, BATCH, shuffle=True, seed=seed, drop_last=True,
            transform=data.Compose([*augment, *normalise]),
        ),
        data.DataLoader(test, 512, transform=data.Compose(normalise)),
    )  # fmt: skip


def sgd(net: Module) -> SGD:
    """The optimizer of the recipe; its rate is set by a schedule."""
    return SGD(net.parameters(), momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
