"""Transforms: functions `(x, y, rng) -> (x, y)` on batches, with their randomness handed in.

A transform keeps no state and draws from `rng` only, so equal generators give equal results.
Images are `x: u8[N, C, H, W]` in 0..255 or `x: f32[N, C, H, W]`; the input is never written to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from striate.errors import DTypeError, ShapeError

from .dataset import Batch
from .files import Array


class Transform(Protocol):
    """Any callable `transform(x, y, rng) -> (x, y)`.

    >>> def double(x, y, rng):
    ...     return x * 2, y
    >>> t: Transform = double
    """

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Give the transformed batch; `x` and `y` stay as they are."""
        ...


def check_images(where: str, x: Array) -> tuple[int, int, int, int]:
    """The shape of `x: u8|f32[N, C, H, W]`; raises DTypeError or ShapeError otherwise."""
    if not isinstance(x, np.ndarray) or x.dtype not in (np.uint8, np.float32):
        raise DTypeError(
            f"{where}: images are uint8 or float32, found {getattr(x, 'dtype', type(x).__name__)}"
        )
    if x.ndim != 4:
        raise ShapeError(
            f"{where}: images have the shape [N, C, H, W], found {x.ndim} axes: {x.shape}"
        )
    n, c, h, w = x.shape
    return n, c, h, w


def restore(x: Array, values: Array) -> Array:
    """Float values back in the type of `x`: rounded and clipped to 0..255 where it is u8."""
    if x.dtype == np.uint8:
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return values.astype(x.dtype, copy=False)


def check_probability(where: str, p: float) -> None:
    """Raise ValueError unless `0 <= p <= 1`."""
    if not 0 <= p <= 1:
        raise ValueError(f"{where}: the probability p is in 0..1, found {p}")


class Compose:
    """Transforms one after the other, drawing from one generator.

    >>> from striate.data import HorizontalFlip, ToFloat
    >>> both = Compose([HorizontalFlip(), ToFloat()])
    >>> x, y = np.full((2, 1, 4, 4), 255, np.uint8), np.array([0, 1])
    >>> both(x, y, np.random.default_rng(0))[0].max()
    np.float32(1.0)
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Apply all, in order."""
        for transform in self.transforms:
            x, y = transform(x, y, rng)
        return x, y

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


@dataclass(frozen=True)
class ToFloat:
    """`x: u8[...] -> f32[...]`, divided by `scale` (255; the bundled digits go to 16).

    Float input stays as it is, in float32. `to_float` is `ToFloat()`.

    >>> x, _ = ToFloat(scale=16)(np.array([[0, 8, 16]], np.uint8), np.zeros(1))
    >>> x
    array([[0. , 0.5, 1. ]], dtype=float32)
    """

    scale: float = 255.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"ToFloat: scale is above 0, found {self.scale}")

    def __call__(self, x: Array, y: Array, rng: np.random.Generator | None = None, /) -> Batch:
        """Scale bytes to floats."""
        if x.dtype.kind == "f":
            return x.astype(np.float32, copy=False), y
        return x.astype(np.float32) / np.float32(self.scale), y


to_float = ToFloat()


class Normalize:
    """`(x - mean) / std` by channel: `x: u8|f32[N, C, ...] -> f32[N, C, ...]`.

    Bytes are divided by 255 first. `mean` and `std` have C entries, or one for all channels.
    Raises ValueError for a std that is not above 0, ShapeError for another number of channels.

    >>> x = np.full((1, 3, 2, 2), 255, np.uint8)
    >>> Normalize((0.5, 0.5, 0.0), (0.5, 0.25, 1.0))(x, np.zeros(1))[0][0, :, 0, 0]
    array([1., 2., 1.], dtype=float32)
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = np.atleast_1d(np.asarray(mean, np.float32))
        self.std = np.atleast_1d(np.asarray(std, np.float32))
        if self.mean.ndim != 1 or self.std.ndim != 1 or not np.all(self.std > 0):
            raise ValueError(
                f"Normalize: mean and std have one entry a channel and std is above 0, "
                f"found mean {mean} and std {std}"
            )

    def __call__(self, x: Array, y: Array, rng: np.random.Generator | None = None, /) -> Batch:
        """Scale, then shift and divide each channel."""
        x, y = to_float(x, y)
        channels = x.shape[1] if x.ndim > 1 else 0
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ShapeError(
                    f"Normalize: {name} has one entry a channel, found {len(values)} entries for "
                    f"x of shape {x.shape}"
                )
        axes = (-1,) + (1,) * (x.ndim - 2)
        return (x - self.mean.reshape(axes)) / self.std.reshape(axes), y

    def __repr__(self) -> str:
        return f"Normalize({self.mean.tolist()}, {self.std.tolist()})"


def normalize(mean: float | Sequence[float], std: float | Sequence[float]) -> Normalize:
    """The transform `Normalize(mean, std)`.

    >>> normalize(0.5, 0.5)
    Normalize([0.5], [0.5])
    """
    return Normalize(mean, std)


def one_hot(y: Array, classes: int) -> Array:
    """Labels as distributions: `y: i64[N] -> f32[N, classes]`; soft labels pass through.

    Raises ValueError for a label outside 0..classes-1, or soft labels with another width.

    >>> one_hot(np.array([1, 0]), 3)
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    if y.ndim == 2 and y.dtype.kind == "f":
        if y.shape[1] != classes:
            raise ValueError(f"one_hot: {classes} classes, found soft labels of shape {y.shape}")
        return y.astype(np.float32, copy=False)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(
            f"one_hot: labels are i64[N] or f32[N, {classes}], found {y.dtype}{list(y.shape)}"
        )
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        raise ValueError(f"one_hot: labels are in 0..{classes - 1}, found {wrong[0]}")
    out = np.zeros((len(y), classes), np.float32)
    out[np.arange(len(y)), y] = 1
    return out
