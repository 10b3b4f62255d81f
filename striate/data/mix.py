"""Mixup and CutMix: each image is joined with another of its batch, and so are the labels.

x' = lam x + (1 - lam) x[perm]        y' = lam y + (1 - lam) y[perm]        lam ~ Beta(a, a)
"""

from dataclasses import dataclass

import numpy as np

from striate.errors import ShapeError

from .dataset import Batch
from .files import Array
from .transform import check_images, one_hot, restore


@dataclass(frozen=True)
class _Mix:
    classes: int
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.classes < 1 or not 0 < self.alpha < np.inf:
            raise ValueError(
                f"{type(self).__name__}: classes is at least 1 and alpha above 0, "
                f"found {self.classes} and {self.alpha}"
            )

    def _labels(self, y: Array, n: int) -> Array:
        if len(y) != n:
            raise ShapeError(f"{type(self).__name__}: {n} images need {n} labels, found {len(y)}")
        return one_hot(y, self.classes)


def _join(y: Array, perm: Array, lam: float) -> Array:
    return (lam * y + (1 - lam) * y[perm]).astype(np.float32)


@dataclass(frozen=True)
class Mixup(_Mix):
    """Blend each image with another: `x: u8|f32[N, C, H, W]`, same type; `y -> f32[N, classes]`.

    One weight `lam ~ Beta(alpha, alpha)` and one permutation a batch; labels sum to 1. `y` is
    i64[N] or soft already. Raises ValueError for labels that do not fit.

    >>> x, y = np.zeros((2, 1, 4, 4), np.float32), np.array([0, 2])
    >>> Mixup(3)(x, y, np.random.default_rng(0))[1].sum(1)
    array([1., 1.], dtype=float32)
    """

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Blend images and labels with their partners."""
        n, *_ = check_images("Mixup", x)
        soft = self._labels(y, n)
        lam, perm = float(rng.beta(self.alpha, self.alpha)), rng.permutation(n)
        mixed = np.float32(lam) * x.astype(np.float32) + np.float32(1 - lam) * x[perm]
        return restore(x, mixed), _join(soft, perm, lam)


@dataclass(frozen=True)
class CutMix(_Mix):
    """Replace one box of each image by that of another: same type; `y -> f32[N, classes]`.

    The box has the share `1 - lam` of the area, `lam ~ Beta(alpha, alpha)`, before it is clipped at
    the border; labels are weighted by the area that it really has. Raises ValueError for labels
    that do not fit.

    >>> x, y = np.zeros((2, 1, 4, 4), np.float32), np.array([0, 2])
    >>> CutMix(3)(x, y, np.random.default_rng(0))[1].sum(1)
    array([1., 1.], dtype=float32)
    """

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Paste a box of each image's partner; weigh the labels by area."""
        n, _, h, w = check_images("CutMix", x)
        soft = self._labels(y, n)
        lam, perm = float(rng.beta(self.alpha, self.alpha)), rng.permutation(n)
        centre = rng.random(2)
        side = float(np.sqrt(1 - lam))
        (top, bottom), (left, right) = _span(centre[0], h, side), _span(centre[1], w, side)
        out = x.copy()
        out[:, :, top:bottom, left:right] = x[perm, :, top:bottom, left:right]
        area = h * w
        kept = 1 - (bottom - top) * (right - left) / area if area else 1.0
        return out, _join(soft, perm, kept)


def _span(centre: float, size: int, share: float) -> tuple[int, int]:
    middle, length = int(centre * size), round(share * size)
    low = middle - length // 2
    return max(low, 0), min(low + length, size)
