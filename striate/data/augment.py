"""Augmentation that moves or hides pixels: crop, flips, cutout. All of a batch at once.

Each sample has its own draw; arrays of draws come from `rng` in a fixed order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from striate.errors import ShapeError

from .dataset import Batch
from .files import Array
from .transform import check_images, check_probability


@dataclass(frozen=True)
class RandomCrop:
    """Pad each side by `padding`, then cut out `size` at a random place of each image.

    `x: u8|f32[N, C, H, W] -> [N, C, *size]`; `size` is (H, W), one number for both, or None for
    the size of the input. `mode` is "constant" (with `fill`), "reflect" or "edge". Raises
    ShapeError where the padded image is smaller than `size`.

    >>> x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    >>> RandomCrop(2, padding=0)(x, np.zeros(1), np.random.default_rng(0))[0].shape
    (1, 1, 2, 2)
    """

    size: int | tuple[int, int] | None = None
    padding: int = 4
    mode: Literal["constant", "reflect", "edge"] = "constant"
    fill: float = 0

    def __post_init__(self) -> None:
        if self.padding < 0 or self.mode not in ("constant", "reflect", "edge"):
            raise ValueError(
                "RandomCrop: padding is at least 0 and mode 'constant', 'reflect' or 'edge', "
                f"found {self.padding} and {self.mode!r}"
            )

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Cut a random window out of each padded image."""
        n, c, h, w = check_images("RandomCrop", x)
        p = self.padding
        size = (h, w) if self.size is None else self.size
        th, tw = (size, size) if isinstance(size, int) else size
        if not (0 < th <= h + 2 * p and 0 < tw <= w + 2 * p):
            raise ShapeError(
                f"RandomCrop: the crop fits in the padded image, found a crop of {th} x {tw} in "
                f"{h + 2 * p} x {w + 2 * p} (padding {p} a side)"
            )
        pads = ((0, 0), (0, 0), (p, p), (p, p))
        if p == 0 or x.size == 0:
            padded = np.zeros((n, c, h + 2 * p, w + 2 * p), x.dtype) if p else x
        elif self.mode == "constant":
            padded = np.pad(x, pads, constant_values=x.dtype.type(self.fill))
        else:
            padded = np.pad(x, pads, mode=self.mode)
        top = rng.integers(0, h + 2 * p - th + 1, n)
        left = rng.integers(0, w + 2 * p - tw + 1, n)
        windows = sliding_window_view(padded, (th, tw), axis=(2, 3))  # [n, c, i, j, th, tw]
        return windows[np.arange(n), :, top, left], y  # [n, c, th, tw]


@dataclass(frozen=True)
class _Flip:
    p: float = 0.5

    def __post_init__(self) -> None:
        check_probability(type(self).__name__, self.p)

    def _flip(self, x: Array, rng: np.random.Generator, axis: int) -> Array:
        n, *_ = check_images(type(self).__name__, x)
        chosen = rng.random(n) < self.p
        return np.where(chosen[:, None, None, None], np.flip(x, axis), x)


@dataclass(frozen=True)
class HorizontalFlip(_Flip):
    """Exchange left and right, in each image with probability `p`: `[N, C, H, W]`, same type.

    >>> x = np.array([[[[1, 2, 3]]]], np.uint8)
    >>> HorizontalFlip(p=1)(x, np.zeros(1), np.random.default_rng(0))[0]
    array([[[[3, 2, 1]]]], dtype=uint8)
    """

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Mirror the chosen images."""
        return self._flip(x, rng, 3), y


@dataclass(frozen=True)
class VerticalFlip(_Flip):
    """Exchange top and bottom, in each image with probability `p`: `[N, C, H, W]`, same type.

    >>> x = np.array([[[[1], [2]]]], np.uint8)
    >>> VerticalFlip(p=1)(x, np.zeros(1), np.random.default_rng(0))[0].tolist()
    [[[[2], [1]]]]
    """

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Mirror the chosen images."""
        return self._flip(x, rng, 2), y


@dataclass(frozen=True)
class Cutout:
    """Overwrite a `size` x `size` square around a random pixel of each image with `fill`.

    The square is clipped at the border. `x: u8|f32[N, C, H, W]`, same type and shape.

    >>> x = np.ones((1, 1, 4, 4), np.float32)
    >>> out, _ = Cutout(9)(x, np.zeros(1), np.random.default_rng(0))
    >>> float(out.sum())
    0.0
    """

    size: int
    fill: float = 0
    p: float = 1.0

    def __post_init__(self) -> None:
        check_probability("Cutout", self.p)
        if self.size < 0:
            raise ValueError(f"Cutout: size is at least 0, found {self.size}")

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Hide a square of each image."""
        n, _, h, w = check_images("Cutout", x)
        if x.size == 0:
            return x, y
        top = rng.integers(0, h, n) - self.size // 2
        left = rng.integers(0, w, n) - self.size // 2
        chosen = rng.random(n) < self.p
        i, j = np.arange(h) - top[:, None], np.arange(w) - left[:, None]  # [n, h], [n, w]
        rows = (i >= 0) & (i < self.size) & chosen[:, None]
        cols = (j >= 0) & (j < self.size)
        hole = rows[:, None, :, None] & cols[:, None, None, :]  # [n, 1, h, w]
        return np.where(hole, x.dtype.type(self.fill), x), y
