"""Normalisation: y = (x - mean) / sqrt(var + eps) * weight + bias, and over what the mean runs.

    BatchNorm      x [N, C, *I]: over N and *I, for each channel (Ioffe & Szegedy 2015)
    InstanceNorm   over *I, for each sample and channel (Ulyanov et al. 2016)
    GroupNorm      over *I and the channels of a group, for each sample (Wu & He 2018)
    LayerNorm      over the last axes (Ba et al. 2016); LayerNorm2d over the channels

The variance is the mean of squared differences from the mean (two passes, no cancellation), and
bfloat16 is computed in float32. Buffers are assigned in training mode, eagerly and in `st.jit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from striate.core import api
from striate.core.array import Array
from striate.core.creation import ones, zeros
from striate.dtype import compute_dtype, float32, int64
from striate.errors import ShapeError
from striate.nn.module import Module, Parameter


def moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """(mean, variance) over some axes, which stay with size 1; of floating x, never bfloat16."""
    mean = api.mean(x, axes, keepdims=True)
    return mean, api.mean(api.square(x - mean), axes, keepdims=True)


def normalize(
    x: Array,
    moments: tuple[Array, Array],
    eps: float,
    weight: Array | None,
    bias: Array | None,
    shape: tuple[int, ...],
) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias.

    Args:
        x: [*S].
        moments: (mean, variance); they broadcast against x.
        eps: added to the variance.
        weight, bias: in any shape that reshapes to `shape`.
        shape: broadcasts against x; one size may be -1.
    """
    mean, var = moments
    scale = api.rsqrt(var + eps)
    if weight is not None:
        scale = scale * _wide(weight).reshape(*shape)
    y = (x - mean) * scale
    return y if bias is None else y + _wide(bias).reshape(*shape)


def _wide(x: Array) -> Array:
    return x.astype(compute_dtype(x.dtype) if x.dtype.is_floating else float32)


def _narrow(y: Array, x: Array) -> Array:
    return y.astype(x.dtype) if x.dtype.is_floating else y


def _along(axis: int, ndim: int) -> tuple[int, ...]:
    """The shape of a vector that is axis `axis` of `ndim`."""
    return tuple(-1 if a == axis else 1 for a in range(ndim))


# ---- with running statistics ---------------------------------------------------------------


class _RunningNorm(Module):
    """What batch and instance normalisation share: parameters, buffers, and how they move.

    Buffers `running_mean`, `running_var` [C] and `num_batches_tracked` (i64) are PyTorch's.
    """

    ranks: ClassVar[tuple[int, ...]]  # how many axes x may have

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        bias: bool,
        dtype: object,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(ones(num_features, dtype)) if affine else None
        self.bias = Parameter(zeros(num_features, dtype)) if affine and bias else None
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, dtype) if tracked else None)
        self.register_buffer("running_var", ones(num_features, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", zeros((), int64) if tracked else None)

    def reset_running_stats(self) -> None:
        """Forget the statistics: mean 0, variance 1, no batches."""
        if self.track_running_stats:
            self.running_mean.assign(zeros(self.num_features, self.running_mean.dtype))
            self.running_var.assign(ones(self.num_features, self.running_var.dtype))
            self.num_batches_tracked.assign(0)

    @property
    def uses_batch(self) -> bool:
        """Whether x is normalised by its own moments and not by the running ones."""
        return self.training or self.running_mean is None

    def _check(self, x: Array, channel: int) -> None:
        if x.ndim not in self.ranks:
            wanted = " or ".join(map(str, self.ranks))
            raise ShapeError(f"{type(self).__name__}: wants x with {wanted} axes, got {x.type}")
        if x.shape[channel] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: wants {self.num_features} channels, got "
                f"{x.shape[channel]} (x {x.type})"
            )

    def _normalize(self, x: Array, channel: int, axes: tuple[int, ...]) -> Array:
        """Normalise by the moments over `axes` (training), or by the running ones."""
        wide, shape = _wide(x), _along(channel, x.ndim)
        if self.uses_batch:
            mean, var = moments(wide, axes)
            if self.running_mean is not None and x.size:
                self._track(mean, var, channel, prod(x.shape[a] for a in axes))
        else:
            mean = _wide(self.running_mean).reshape(*shape)
            var = _wide(self.running_var).reshape(*shape)
        y = normalize(wide, (mean, var), self.eps, self.weight, self.bias, shape)
        return _narrow(y, x)

    def _track(self, mean: Array, var: Array, channel: int, count: int) -> None:
        """Move the running statistics; the variance that they keep is the unbiased one."""
        share: float | Array
        if self.momentum is None:  # the plain average of all batches
            share = 1.0 / self.num_batches_tracked.astype(self.running_mean.dtype)
        else:
            share = self.momentum
        others = tuple(a for a in range(mean.ndim) if a != channel)
        unbiased = var * (count / max(1, count - 1))
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            new = api.stop_gradient(api.mean(value, others))  # [1, C, 1, 1] or [N, C, 1, 1] -> [C]
            moved = running * (1.0 - share) + new.astype(running.dtype) * share
            running.assign(moved.astype(running.dtype))

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm(_RunningNorm):
    """Batch normalisation of [N, C, *I] for any number of spatial axes.

    In training mode by the moments of the batch, which move the running ones by `momentum`; in
    evaluation mode by the running ones.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: share of the new batch in the running moments; None averages all batches.
        affine: whether there are `weight` and `bias` [C].
        bias: False for no `bias`.
        track_running_stats: False normalises by the batch always.
        dtype: of parameters and buffers.

    >>> st.nn.BatchNorm2d(3)(st.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    ranks = tuple(range(2, 65))

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: object = float32,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias, dtype)

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> the same.

        Raises:
            ShapeError: wrong rank or channels; training on a single value per channel.
        """
        self._check(x, 1)
        axes = (0, *range(2, x.ndim))
        if self.uses_batch and prod(x.shape[a] for a in axes) == 1:
            raise ShapeError(
                f"{type(self).__name__}: wants more than 1 value per channel in training, got "
                f"{x.type}; use .eval() or a larger batch"
            )
        if self.training and self.num_batches_tracked is not None and x.size:
            self.num_batches_tracked.assign(self.num_batches_tracked + 1)
        return self._normalize(x, 1, axes)


class BatchNorm1d(BatchNorm):
    """`BatchNorm` of [N, C] or [N, C, L]."""

    ranks = (2, 3)


class BatchNorm2d(BatchNorm):
    """`BatchNorm` of [N, C, H, W]."""

    ranks = (4,)


class BatchNorm3d(BatchNorm):
    """`BatchNorm` of [N, C, D, H, W]."""

    ranks = (5,)


class InstanceNorm(_RunningNorm):
    """Instance normalisation of [N, C, *I] or [C, *I]: each map by its own moments.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: share of the new batch in the running moments.
        affine: whether there are `weight` and `bias` [C].
        bias: False for no `bias`.
        track_running_stats: whether to keep running moments, and normalise by them in
            evaluation mode.
        dtype: of parameters and buffers.
    """

    ranks = tuple(range(2, 65))
    single: ClassVar[int] = 0  # the rank of x without a batch axis

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: object = float32,
    ) -> None:
        super().__init__(
            num_features, eps, momentum or 0.0, affine, track_running_stats, bias, dtype
        )

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] or [C, *I] -> the same.

        Raises:
            ShapeError: wrong rank or channels; a single value per map by its own moments.
        """
        channel = 0 if x.ndim == self.single else 1
        self._check(x, channel)
        axes = tuple(range(channel + 1, x.ndim))
        if self.uses_batch and prod(x.shape[a] for a in axes) == 1:
            raise ShapeError(
                f"{type(self).__name__}: wants more than 1 spatial element, got {x.type}"
            )
        return self._normalize(x, channel, axes)


class InstanceNorm1d(InstanceNorm):
    """`InstanceNorm` of [N, C, L] or [C, L]."""

    ranks = (2, 3)
    single = 2


class InstanceNorm2d(InstanceNorm):
    """`InstanceNorm` of [N, C, H, W] or [C, H, W]."""

    ranks = (3, 4)
    single = 3


class InstanceNorm3d(InstanceNorm):
    """`InstanceNorm` of [N, C, D, H, W] or [C, D, H, W]."""

    ranks = (4, 5)
    single = 4


# ---- without state -------------------------------------------------------------------------


class GroupNorm(Module):
    """Group normalisation: each sample's channels in `num_groups` blocks of their own moments.

    Args:
        num_groups: how many blocks.
        num_channels: C.
        eps: added to the variance.
        affine: whether there are `weight` and `bias` [C].
        bias: False for no `bias`.
        dtype: of the parameters.

    >>> st.nn.GroupNorm(2, 6)(st.ones((2, 6, 4))).shape
    (2, 6, 4)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: object = float32,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ShapeError(
                f"GroupNorm: num_channels {num_channels} must divide into num_groups {num_groups}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.weight = Parameter(ones(num_channels, dtype)) if affine else None
        self.bias = Parameter(zeros(num_channels, dtype)) if affine and bias else None

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> the same."""
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(f"GroupNorm: wants x [N, {self.num_channels}, *I], got {x.type}")
        n, c, *sizes = x.shape
        g = self.num_groups
        grouped = _wide(x).reshape(n, g, c // g, prod(sizes))  # [n, c, *i] -> [n, g, c/g, i]
        by_own = moments(grouped, (2, 3))
        y = normalize(grouped, by_own, self.eps, self.weight, self.bias, (g, c // g, 1))
        return _narrow(y.reshape(*x.shape), x)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm(Module):
    """Layer normalisation over the last axes.

    Args:
        normalized_shape: sizes of those axes, or the size of the last one.
        eps: added to the variance.
        elementwise_affine: whether there is a `weight` of that shape.
        bias: whether there is a `bias` too.
        dtype: of the parameters.

    >>> st.nn.LayerNorm(8)(st.ones((2, 5, 8))).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: object = float32,
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(int(n) for n in shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        affine = elementwise_affine
        self.weight = Parameter(ones(self.normalized_shape, dtype)) if affine else None
        self.bias = Parameter(zeros(self.normalized_shape, dtype)) if affine and bias else None

    def forward(self, x: Array) -> Array:
        """x: [*B, *normalized_shape] -> the same."""
        rank = len(self.normalized_shape)
        if not rank or x.shape[-rank:] != self.normalized_shape:
            raise ShapeError(
                f"{type(self).__name__}: wants x whose last axes are {self.normalized_shape}, got "
                f"{x.type}"
            )
        wide = _wide(x)
        by_own = moments(wide, tuple(range(x.ndim - rank, x.ndim)))
        y = normalize(wide, by_own, self.eps, self.weight, self.bias, self.normalized_shape)
        return _narrow(y, x)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class LayerNorm2d(LayerNorm):
    """`LayerNorm` over the channels of [N, C, *I], as torchvision and timm have it for ConvNeXt.

    Args:
        num_channels: C.
        eps: added to the variance (ConvNeXt's 1e-6).
        affine: whether there are `weight` and `bias` [C].
        dtype: of the parameters.
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-6,
        affine: bool = True,
        *,
        dtype: object = float32,
    ) -> None:
        super().__init__(num_channels, eps, affine, dtype=dtype)

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> the same."""
        if x.ndim < 2 or x.shape[1:2] != self.normalized_shape:
            raise ShapeError(
                f"LayerNorm2d: wants x [N, {self.normalized_shape[0]}, *I], got {x.type}"
            )
        wide = _wide(x)
        shape = _along(1, x.ndim)
        y = normalize(wide, moments(wide, (1,)), self.eps, self.weight, self.bias, shape)
        return _narrow(y, x)


class LocalResponseNorm(Module):
    """x / (k + alpha * mean of x^2 over `size` neighbouring channels) ** beta (Krizhevsky 2012).

    Args:
        size: how many channels; beyond the first and the last stand zeros, which count.
        alpha, beta, k: of the formula.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        if size < 1:
            raise ShapeError(f"LocalResponseNorm: size must be >= 1, got {size}")
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> the same."""
        if x.ndim < 3:
            raise ShapeError(f"LocalResponseNorm: wants x [N, C, *I], got {x.type}")
        n, c, *sizes = x.shape
        squares = api.square(_wide(x)).reshape(n, 1, c, prod(sizes))  # [n, c, *i] -> [n, 1, c, i]
        around = (self.size // 2, (self.size - 1) // 2)
        mean = api.avg_pool(squares, (self.size, 1), stride=1, padding=[around, (0, 0)])
        divisor = api.pow(mean.reshape(*x.shape) * self.alpha + self.k, self.beta)
        return _narrow(_wide(x) / divisor, x)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
