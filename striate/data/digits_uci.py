"""The 1,797 handwritten digits that come with the package (UCI, CC BY 4.0: digits.LICENSE.md)."""

from pathlib import Path
from typing import Literal

import numpy as np

from .dataset import ArrayDataset
from .npz_file import read_npz


def digits(split: Literal["train", "test", "all"] = "train") -> ArrayDataset:
    """Real handwritten digits, 8x8, bundled: `x: u8[N, 1, 8, 8]` in 0..16, `y: i64[N]` in 0..9.

    The test split is every third image (those with index % 3 == 2: 599), the train split the other
    1,198, "all" the 1,797. Writers appear in both splits, so this is a test of the software, not of
    generalisation to new writers. `ToFloat(scale=16)` gives 0..1. Raises ValueError for another
    split.

    >>> data = digits("test")
    >>> data.x.shape, data.x.max()
    ((599, 1, 8, 8), np.uint8(16))
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"digits: split is 'train', 'test' or 'all', found {split!r}")
    arrays = read_npz(Path(__file__).with_name("digits.npz"))
    x, y = arrays["images"][:, None], arrays["labels"]  # [n, h, w] -> [n, 1, h, w]
    held_out = np.arange(len(x)) % 3 == 2
    keep = {"train": ~held_out, "test": held_out, "all": np.ones(len(x), bool)}[split]
    return ArrayDataset(x[keep], y[keep], classes=[str(d) for d in range(10)])
