"""Colour jitter: brightness, contrast, saturation and hue, each with one factor an image."""

from dataclasses import dataclass

import numpy as np

from striate.errors import ShapeError

from .dataset import Batch
from .files import Array
from .transform import check_images, restore

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue at random, in this order.

    `x: u8[N, C, H, W]` in 0..255 or `f32` in 0..1 (clipped there), same type and shape. The first
    three are factors in `1 +- value` (never below 0): a blend with black, with the image's mean
    grey, with its grey version. `hue` shifts the colour circle by `+-hue` turns, at most 0.5.
    Saturation and hue need C = 3. Raises ValueError out of range, ShapeError for another C.

    >>> x = np.full((1, 3, 2, 2), 100, np.uint8)
    >>> ColorJitter(brightness=0.4)(x, np.zeros(1), np.random.default_rng(0))[0].shape
    (1, 3, 2, 2)
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        values = (self.brightness, self.contrast, self.saturation, self.hue)
        if not all(0 <= v < np.inf for v in values) or self.hue > 0.5:
            raise ValueError(
                f"ColorJitter: the amounts are at least 0 and hue at most 0.5, found {values}"
            )

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Change the colours of each image."""
        n, c, _, _ = check_images("ColorJitter", x)
        if (self.saturation or self.hue) and c != 3:
            raise ShapeError(f"ColorJitter: saturation and hue need 3 channels, found {c}")
        draws = (rng.random((4, n, 1, 1, 1)) * 2 - 1).astype(np.float32)  # in -1..1
        if x.size == 0:
            return x, y
        full = np.float32(255 if x.dtype == np.uint8 else 1)
        v = x.astype(np.float32) / full
        if self.brightness:
            v = np.clip(v * _factor(draws[0], self.brightness), 0, 1)
        if self.contrast:
            mean = grey(v).mean((1, 2, 3), keepdims=True)  # [n, 1, 1, 1]
            v = _blend(v, mean, _factor(draws[1], self.contrast))
        if self.saturation:
            v = _blend(v, grey(v), _factor(draws[2], self.saturation))
        if self.hue:
            v = shift_hue(np.clip(v, 0, 1), draws[3] * np.float32(self.hue))
        return restore(x, np.clip(v, 0, 1) * full), y


def _factor(draw: Array, amount: float) -> Array:
    return np.maximum(1 + draw * np.float32(amount), np.float32(0))


def _blend(v: Array, other: Array, factor: Array) -> Array:
    out: Array = np.clip(other + factor * (v - other), 0, 1)
    return out


def grey(v: Array) -> Array:
    """The luma of `v: f32[N, 3, H, W]`, or the mean of other channels: f32[N, 1, H, W]."""
    if v.shape[1] != 3:
        mean: Array = v.mean(1, keepdims=True)
        return mean
    luma: Array = np.einsum("nchw,c->nhw", v, _GREY)
    return luma[:, None]


def shift_hue(v: Array, turns: Array) -> Array:
    """Turn the hue of `v: f32[N, 3, H, W]` in 0..1 by `turns: f32[N, 1, 1, 1]` (1: once round)."""
    r, g, b = v[:, :1], v[:, 1:2], v[:, 2:]
    top, low = v.max(1, keepdims=True), v.min(1, keepdims=True)
    chroma = top - low
    safe = np.where(chroma > 0, chroma, np.float32(1))
    sector = np.where(
        top == r, ((g - b) / safe) % 6, np.where(top == g, (b - r) / safe + 2, (r - g) / safe + 4)
    )
    # hsv -> rgb: channel = v - chroma * clip(min(k, 4 - k), 0, 1), k = n + sector mod 6
    start = np.array([5, 3, 1], np.float32).reshape(1, 3, 1, 1)
    k = (start + sector + turns * 6) % 6
    out: Array = top - chroma * np.clip(np.minimum(k, 4 - k), 0, 1)
    return out
