"""Layers that move values: flattening, padding, shuffling pixels, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from striate.core import api
from striate.core.array import Array
from striate.errors import ShapeError
from striate.ir.types import normalize_axis
from striate.nn.module import Module
from striate.ops.resize import Mode


class Flatten(Module):
    """The axes from `start_dim` to `end_dim`, merged.

    >>> st.nn.Flatten()(st.ones((2, 3, 4, 4))).shape
    (2, 48)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Array) -> Array:
        """x: [*A, *B, *C] -> [*A, prod(B), *C]."""
        return api.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """The axis `dim`, split into `unflattened_size`; one size may be -1.

    >>> st.nn.Unflatten(1, (3, -1))(st.ones((2, 12))).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x: Array) -> Array:
        """x: [*A, prod(B), *C] -> [*A, *B, *C]."""
        axis = normalize_axis("Unflatten", self.dim, x.ndim)
        return x.reshape(*x.shape[:axis], *self.unflattened_size, *x.shape[axis + 1 :])

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class PixelShuffle(Module):
    """Channels rearranged into a finer grid; see `st.pixel_shuffle`."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Array) -> Array:
        """x: [*B, C * r * r, H, W] -> [*B, C, H * r, W * r]."""
        return api.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """The inverse of `PixelShuffle`."""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, x: Array) -> Array:
        """x: [*B, C, H * r, W * r] -> [*B, C * r * r, H, W]."""
        return api.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"downscale_factor={self.downscale_factor}"


class Upsample(Module):
    """Resizing to `size`, or by `scale_factor`; see `st.resize`.

    Args:
        size: of the output, per spatial axis or one for all.
        scale_factor: instead of `size`.
        mode: "nearest", "linear", "bilinear", "trilinear", "bicubic", "area" or "nearest-exact".
        align_corners: whether the first and last elements keep their places.

    >>> st.nn.Upsample(scale_factor=2)(st.ones((1, 3, 4, 4))).shape
    (1, 3, 8, 8)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: Mode = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        if (size is None) == (scale_factor is None):
            raise ShapeError(
                f"Upsample: wants one of size and scale_factor, got {size} and {scale_factor}"
            )
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> [N, C, *O]."""
        return api.resize(
            x,
            self.size,
            scale=self.scale_factor,
            mode=self.mode,
            align_corners=bool(self.align_corners),
        )

    def extra_repr(self) -> str:
        """PyTorch's."""
        by_size = self.scale_factor is None
        target = f"size={self.size}" if by_size else f"scale_factor={self.scale_factor}"
        return f"{target}, mode={self.mode!r}"


# ---- padding -------------------------------------------------------------------------------


class _Pad(Module):
    """Padding of the last `ndim` axes: `padding` is one width, or (lo, hi) from the last axis on
    to the front, as PyTorch has it: (left, right, top, bottom).
    """

    ndim: ClassVar[int]
    mode: ClassVar[str] = "constant"

    def __init__(self, padding: int | Sequence[int]) -> None:
        widths = (padding,) * (2 * self.ndim) if isinstance(padding, int) else tuple(padding)
        if len(widths) != 2 * self.ndim:
            raise ShapeError(
                f"{type(self).__name__}: wants {2 * self.ndim} widths, got {len(widths)}: {padding}"
            )
        self.padding = widths
        self.value = 0.0

    def forward(self, x: Array) -> Array:
        """x: [*B, *I] -> [*B, *O]."""
        if x.ndim not in (self.ndim + 1, self.ndim + 2):
            raise ShapeError(f"{type(self).__name__}: wants [N, C, *I] or [C, *I], got {x.type}")
        pairs = zip(self.padding[-2::-2], self.padding[::-2], strict=True)  # first axis first
        return api.pad(x, list(pairs), self.mode, self.value)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A number around the last axis."""

    ndim = 1


class ConstantPad2d(_ConstantPad):
    """A number around the last two axes."""

    ndim = 2


class ConstantPad3d(_ConstantPad):
    """A number around the last three axes."""

    ndim = 3


class ZeroPad1d(_Pad):
    """Zeros around the last axis."""

    ndim = 1


class ZeroPad2d(_Pad):
    """Zeros around the last two axes.

    >>> st.nn.ZeroPad2d((1, 2, 0, 0))(st.ones((1, 1, 4, 4))).shape
    (1, 1, 4, 7)
    """

    ndim = 2


class ZeroPad3d(_Pad):
    """Zeros around the last three axes."""

    ndim = 3


class ReflectionPad1d(_Pad):
    """The last axis reflected at its ends, without the edge."""

    ndim, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The last two axes reflected at their ends, without the edge."""

    ndim, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The last three axes reflected at their ends, without the edge."""

    ndim, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The ends of the last axis repeated."""

    ndim, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The ends of the last two axes repeated."""

    ndim, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The ends of the last three axes repeated."""

    ndim, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """The last axis wrapped around."""

    ndim, mode = 1, "circular"


class CircularPad2d(_Pad):
    """The last two axes wrapped around."""

    ndim, mode = 2, "circular"


class CircularPad3d(_Pad):
    """The last three axes wrapped around."""

    ndim, mode = 3, "circular"
