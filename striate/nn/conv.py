"""Convolutional layers: a filter and a bias for `st.conv` and `st.conv_transpose`.

One class for any number of spatial axes, `Conv(ndim, ...)`; the names with a number fix `ndim`.
Keys are PyTorch's: `weight` [K, C/groups, *W] ([C, K/groups, *W] if transposed) and `bias` [K].
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partialmethod
from math import prod
from typing import ClassVar, get_args

from striate.core import api
from striate.core.array import Array
from striate.core.creation import zeros
from striate.dtype import float32
from striate.errors import ShapeError
from striate.nn.init import fan_in_uniform_
from striate.nn.module import Module, Parameter
from striate.ops.convolution import Ints, PaddingLike, pads_of, per_axis
from striate.ops.padding import PadMode


class _Convolution(Module):
    """What a convolution and its adjoint have in common: the arguments and the parameters."""

    transposed: ClassVar[bool]
    output_padding: tuple[int, ...] = ()

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: PaddingLike = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PadMode = "zeros",
        *,
        dtype: object = float32,
    ) -> None:
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"{name}: in_channels {in_channels} and out_channels {out_channels} must divide "
                f"into groups, got groups {groups}"
            )
        if padding_mode not in get_args(PadMode):
            raise ShapeError(
                f"{name}: padding_mode {padding_mode!r} is not one of {get_args(PadMode)}"
            )
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, ndim, 1)
        self.stride = per_axis(name, "stride", stride, ndim, 1)
        self.dilation = per_axis(name, "dilation", dilation, ndim, 1)
        pads_of(name, padding, (1,) * ndim, self.kernel_size, self.stride, self.dilation)  # valid?
        self.padding = padding
        self.groups = groups
        self.padding_mode = padding_mode
        k, c = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = Parameter(zeros((k, c // groups, *self.kernel_size), dtype))
        self.bias = Parameter(zeros(out_channels, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw filter and bias as PyTorch does: uniform in +-1 / sqrt(fan_in)."""
        fan_in = prod(self.weight.shape[1:])
        fan_in_uniform_(self.weight, fan_in)
        if self.bias is not None:
            fan_in_uniform_(self.bias, fan_in)

    def _check(self, x: Array) -> None:
        if x.ndim not in (self.ndim + 1, self.ndim + 2):
            raise ShapeError(
                f"{type(self).__name__}: wants x [N, C, *I] with {self.ndim} spatial axes, or "
                f"without the batch, got {x.type}"
            )
        if x.shape[-self.ndim - 1] != self.in_channels:
            raise ShapeError(
                f"{type(self).__name__}: wants {self.in_channels} channels, got "
                f"{x.shape[-self.ndim - 1]} (x {x.type})"
            )

    def extra_repr(self) -> str:
        """PyTorch's."""
        padding = self.padding
        padding = (padding,) * self.ndim if isinstance(padding, int) else padding
        zeros, ones = (0,) * self.ndim, (1,) * self.ndim
        shown = {
            "padding": (padding, zeros),
            "dilation": (self.dilation, ones),
            "output_padding": (self.output_padding or zeros, zeros),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
            "padding_mode": (self.padding_mode, "zeros"),
        }
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ) + "".join(f", {name}={v}" for name, (v, default) in shown.items() if v != default)


class Conv(_Convolution):
    """Convolution over `ndim` spatial axes; see `st.conv` for the arguments.

    Args:
        ndim: number of spatial axes; `Conv1d`, `Conv2d` and `Conv3d` fix it.
        in_channels, out_channels: C and K.
        kernel_size, stride, padding, dilation, groups, padding_mode: of the convolution.
        bias: whether to add one.
        dtype: of the parameters.

    Raises:
        ShapeError: the groups do not divide the channels, or a window argument does not fit.

    >>> st.nn.Conv(4, 2, 3, kernel_size=3)(st.ones((1, 2, 4, 4, 4, 4))).shape
    (1, 3, 2, 2, 2, 2)
    """

    transposed = False

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] or [C, *I] -> [N, K, *O] or [K, *O]."""
        self._check(x)
        return api.conv(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            padding_mode=self.padding_mode,
        )


class Conv1d(Conv):
    """`Conv` over one axis: x [N, C, L]."""

    __init__ = partialmethod(Conv.__init__, 1)


class Conv2d(Conv):
    """`Conv` over two axes: x [N, C, H, W].

    >>> st.nn.Conv2d(3, 16, 3, stride=2, padding="same")(st.ones((1, 3, 8, 8))).shape
    (1, 16, 4, 4)
    """

    __init__ = partialmethod(Conv.__init__, 2)


class Conv3d(Conv):
    """`Conv` over three axes: x [N, C, D, H, W]."""

    __init__ = partialmethod(Conv.__init__, 3)


class ConvTranspose(_Convolution):
    """The adjoint of a convolution over `ndim` axes; see `st.conv_transpose` for the arguments.

    Args:
        ndim: number of spatial axes; `ConvTranspose1d`, `...2d` and `...3d` fix it.
        dtype: of the parameters.

    Raises:
        ShapeError: the groups do not divide the channels, or a window argument does not fit.

    >>> st.nn.ConvTranspose2d(8, 3, 2, stride=2)(st.ones((1, 8, 5, 5))).shape
    (1, 3, 10, 10)
    """

    transposed = True

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: PaddingLike = 0,
        output_padding: Ints = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Ints = 1,
        padding_mode: PadMode = "zeros",
        *,
        dtype: object = float32,
    ) -> None:
        super().__init__(
            ndim, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, dtype=dtype,
        )  # fmt: skip
        self.output_padding = per_axis(
            type(self).__name__, "output_padding", output_padding, ndim, 0
        )

    def forward(self, x: Array, output_size: Sequence[int] | None = None) -> Array:
        """x: [N, C, *I] or [C, *I] -> [N, K, *O] or [K, *O].

        Args:
            x: the input.
            output_size: *O, or the whole shape, in place of `output_padding`.
        """
        self._check(x)
        extra = self.output_padding
        if output_size is not None:
            least = self._run(x, (0,) * self.ndim).shape[-self.ndim :]
            wanted = tuple(output_size)[-self.ndim :]
            extra = tuple(o - n for o, n in zip(wanted, least, strict=True))
            limits = zip(extra, self.stride, self.dilation, strict=True)
            if any(not 0 <= e < max(s, d) for e, s, d in limits):
                raise ShapeError(
                    f"{type(self).__name__}: output_size must be {least} or larger by less than "
                    f"the stride {self.stride}, got {wanted}"
                )
        return self._run(x, extra)

    def _run(self, x: Array, output_padding: tuple[int, ...]) -> Array:
        return api.conv_transpose(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=output_padding,
            dilation=self.dilation,
            groups=self.groups,
            padding_mode=self.padding_mode,
        )


class ConvTranspose1d(ConvTranspose):
    """`ConvTranspose` over one axis: x [N, C, L]."""

    __init__ = partialmethod(ConvTranspose.__init__, 1)


class ConvTranspose2d(ConvTranspose):
    """`ConvTranspose` over two axes: x [N, C, H, W]."""

    __init__ = partialmethod(ConvTranspose.__init__, 2)


class ConvTranspose3d(ConvTranspose):
    """`ConvTranspose` over three axes: x [N, C, D, H, W]."""

    __init__ = partialmethod(ConvTranspose.__init__, 3)


class SeparableConv(Module):
    """A depthwise convolution, and a pointwise one that mixes the channels (Chollet 2017).

    The keys are timm's: `conv_dw.*` and `conv_pw.*`.

    Args:
        ndim: number of spatial axes; `SeparableConv2d` fixes it.
        in_channels, out_channels, kernel_size, stride, padding, dilation: of the convolution
            that it stands for.
        bias: of both.
        channel_multiplier: filters per input channel.
        dtype: of the parameters.

    >>> list(st.nn.SeparableConv2d(4, 8, 3, bias=False).state_dict())
    ['conv_dw.weight', 'conv_pw.weight']
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints = 3,
        stride: Ints = 1,
        padding: PaddingLike = "same",
        dilation: Ints = 1,
        bias: bool = True,
        channel_multiplier: int = 1,
        *,
        dtype: object = float32,
    ) -> None:
        middle = in_channels * channel_multiplier
        self.conv_dw = Conv(
            ndim,
            in_channels,
            middle,
            kernel_size,
            stride,
            padding,
            dilation,
            in_channels,
            bias,
            dtype=dtype,
        )
        self.conv_pw = Conv(ndim, middle, out_channels, 1, bias=bias, dtype=dtype)

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> [N, K, *O]."""
        return self.conv_pw(self.conv_dw(x))  # type: ignore[no-any-return]


class SeparableConv2d(SeparableConv):
    """`SeparableConv` over two axes: x [N, C, H, W]."""

    __init__ = partialmethod(SeparableConv.__init__, 2)
