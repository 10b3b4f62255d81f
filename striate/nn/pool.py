"""Pools as layers: thin names with PyTorch's arguments for the pools of `st`.

A name with a number fixes the rank, so that x may come without a batch axis: [C, *I].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from striate.core import api
from striate.core.array import Array
from striate.nn.module import Module
from striate.ops.adaptive import Sizes
from striate.ops.convolution import Ints, PaddingLike, per_axis


class _Pool(Module):
    """What all pools with a window have: its size and stride, per axis."""

    ndim: ClassVar[int]
    shown: ClassVar[tuple[str, ...]]

    def _window(self, kernel_size: Ints, stride: Ints | None) -> None:
        name = type(self).__name__
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, self.ndim, 1)
        given = kernel_size if stride is None else stride
        self.stride = per_axis(name, "stride", given, self.ndim, 1)

    def extra_repr(self) -> str:
        """The arguments by name."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.shown)


# ---- maxima --------------------------------------------------------------------------------


class _MaxPool(_Pool):
    """The largest element of every window; see `st.max_pool`."""

    shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: PaddingLike = 0,
        dilation: Ints = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self._window(kernel_size, stride)
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, x: Array) -> Any:
        """x: [N, C, *I] -> [N, C, *O], or a pair of it and indices i64[N, C, *O]."""
        return api.max_pool(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


class MaxPool1d(_MaxPool):
    """`st.max_pool` of [N, C, L]."""

    ndim = 1


class MaxPool2d(_MaxPool):
    """`st.max_pool` of [N, C, H, W].

    >>> st.nn.MaxPool2d(2)(st.ones((1, 3, 8, 8))).shape
    (1, 3, 4, 4)
    """

    ndim = 2


class MaxPool3d(_MaxPool):
    """`st.max_pool` of [N, C, D, H, W]."""

    ndim = 3


class _MaxUnpool(_Pool):
    """Zeros with every value at its index; see `st.max_unpool`."""

    shown = ("kernel_size", "stride", "padding")

    def __init__(
        self, kernel_size: Ints, stride: Ints | None = None, padding: PaddingLike = 0
    ) -> None:
        self._window(kernel_size, stride)
        self.padding = padding

    def forward(self, x: Array, indices: Array, output_size: Sequence[int] | None = None) -> Array:
        """x and indices: [N, C, *I] -> [N, C, *output_size]."""
        return api.max_unpool(x, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpool):
    """`st.max_unpool` of [N, C, L]."""

    ndim = 1


class MaxUnpool2d(_MaxUnpool):
    """`st.max_unpool` of [N, C, H, W]."""

    ndim = 2


class MaxUnpool3d(_MaxUnpool):
    """`st.max_unpool` of [N, C, D, H, W]."""

    ndim = 3


# ---- means ---------------------------------------------------------------------------------


class _AvgPool(_Pool):
    """The mean of every window; see `st.avg_pool`."""

    shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: PaddingLike = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self._window(kernel_size, stride)
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> [N, C, *O]."""
        return api.avg_pool(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override,
        )


class AvgPool1d(_AvgPool):
    """`st.avg_pool` of [N, C, L]."""

    ndim = 1


class AvgPool2d(_AvgPool):
    """`st.avg_pool` of [N, C, H, W]."""

    ndim = 2


class AvgPool3d(_AvgPool):
    """`st.avg_pool` of [N, C, D, H, W]."""

    ndim = 3


class _LPPool(_Pool):
    """The p-norm of every window; see `st.lp_pool`."""

    shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(
        self,
        norm_type: float,
        kernel_size: Ints,
        stride: Ints | None = None,
        ceil_mode: bool = False,
    ) -> None:
        self._window(kernel_size, stride)
        self.norm_type = norm_type
        self.ceil_mode = ceil_mode

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> [N, C, *O]."""
        return api.lp_pool(
            x, self.norm_type, self.kernel_size, stride=self.stride, ceil_mode=self.ceil_mode
        )


class LPPool1d(_LPPool):
    """`st.lp_pool` of [N, C, L]."""

    ndim = 1


class LPPool2d(_LPPool):
    """`st.lp_pool` of [N, C, H, W]."""

    ndim = 2


class LPPool3d(_LPPool):
    """`st.lp_pool` of [N, C, D, H, W]."""

    ndim = 3


# ---- by output size ------------------------------------------------------------------------


class _AdaptivePool(_Pool):
    """As many windows as the output has elements; None keeps an axis as it is."""

    shown = ("output_size",)

    def __init__(self, output_size: Sizes) -> None:
        each = (output_size,) if isinstance(output_size, int | None) else tuple(output_size)
        self.output_size = each * self.ndim if len(each) == 1 else each


class _AdaptiveAvgPool(_AdaptivePool):
    """Means; see `st.adaptive_avg_pool`."""

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> [N, C, *output_size]."""
        return api.adaptive_avg_pool(x, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """`st.adaptive_avg_pool` of [N, C, L]."""

    ndim = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """`st.adaptive_avg_pool` of [N, C, H, W].

    >>> st.nn.AdaptiveAvgPool2d((None, 1))(st.ones((1, 3, 8, 8))).shape
    (1, 3, 8, 1)
    """

    ndim = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """`st.adaptive_avg_pool` of [N, C, D, H, W]."""

    ndim = 3


class _AdaptiveMaxPool(_AdaptivePool):
    """Maxima; see `st.adaptive_max_pool`."""

    def __init__(self, output_size: Sizes, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x: Array) -> Any:
        """x: [N, C, *I] -> [N, C, *output_size], or a pair of it and indices."""
        return api.adaptive_max_pool(x, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """`st.adaptive_max_pool` of [N, C, L]."""

    ndim = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """`st.adaptive_max_pool` of [N, C, H, W]."""

    ndim = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """`st.adaptive_max_pool` of [N, C, D, H, W]."""

    ndim = 3


class GlobalAvgPool(Module):
    """The mean of every map; see `st.global_avg_pool`."""

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> [N, C, 1, ...]."""
        return api.global_avg_pool(x)


class GlobalMaxPool(Module):
    """The largest element of every map; see `st.global_max_pool`."""

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> [N, C, 1, ...]."""
        return api.global_max_pool(x)
