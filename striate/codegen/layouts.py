"""Which blocks of channels the kernels of a target take: the answers to `transform.blocks`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from striate.codegen.dense_plan import dense_supports
from striate.codegen.fft import fft_supports
from striate.codegen.grouped import grouped_supports, grouped_weight_supports
from striate.codegen.small import small_supports, small_weight_supports
from striate.codegen.weight_gradient import weight_gradient_supports
from striate.codegen.winograd_parts import winograd_supports
from striate.dtype import DType, bfloat16
from striate.ops.conv import ConvSpec
from striate.target import Target

FILLED = 0.4  # of the vectors: what pays for filling blocks
ROOM = 1.25  # channels in filled blocks, per channel
Supports = Callable[[Target, ConvSpec, DType, int, int], bool]
CONV_KERNELS: dict[str, Supports] = {
    "small": small_supports,
    "fft": fft_supports,
    "grouped": grouped_supports,
    "winograd": winograd_supports,
    "dense": dense_supports,
}

WEIGHT_GRADIENT_KERNELS: tuple[Supports, ...] = (
    small_weight_supports,
    weight_gradient_supports,
    grouped_weight_supports,
)


class TargetLayouts:
    """The blocks for a target."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def block(self, channels: int, dtype: DType) -> int:
        """The largest of a vector's lanes, a half and a quarter of them that divides the channels;
        else 1.
        """
        lanes = self.target.lanes(32 if dtype is bfloat16 else dtype.bits)
        sizes = [b for b in (lanes, lanes // 2, lanes // 4) if b > 1]
        return next((b for b in sizes if channels and channels % b == 0), 1)

    def _choices(self, spec: ConvSpec, dtype: DType) -> list[tuple[int, int]]:
        g, c, k = spec.groups, spec.in_features, spec.out_features
        if not spec.windows:
            return [(c, k)]
        x, y = self.block(g * c, dtype), self.block(g * k, dtype)
        inner = (self.block(c, dtype), self.block(k, dtype))
        return list(dict.fromkeys([(x, y), inner, (1, y), (x, 1), (1, 1)]))

    def kernel(self, spec: ConvSpec, dtype: DType, x_block: int, y_block: int) -> str | None:
        """The kernel for a convolution in these blocks."""
        return next(
            (
                name
                for name, supports in CONV_KERNELS.items()
                if supports(self.target, spec, dtype, x_block, y_block)
            ),
            None,
        )

    def conv(self, spec: ConvSpec, dtype: DType) -> tuple[int, int] | None:
        """Blocks of x and y for which there is a kernel."""
        if 0 in (*spec.lhs_shape, *spec.rhs_shape, *spec.out_shape):
            return None
        return next(
            (
                (x, y)
                for x, y in self._choices(spec, dtype)
                if self.kernel(spec, dtype, x, y) is not None
            ),
            None,
        )

    def small(self, spec: ConvSpec, dtype: DType) -> bool:
        """Whether images are so small that weights are read in place, in any blocks."""
        return small_supports(self.target, spec, dtype, 1, 1)

    def small_weights(self, spec: ConvSpec, dtype: DType) -> bool:
        """The same of a weight gradient."""
        return small_weight_supports(self.target, spec, dtype, 1, 1)

    def filled(self, spec: ConvSpec, dtype: DType) -> int | None:
        """Whole vectors for a depthwise convolution whose channels are blocks of less, or none,
        where they then take less than `FILLED` of the vectors and few channels are added.
        """
        if not spec.windows or (spec.in_features, spec.out_features) != (1, 1):
            return None
        if 0 in (*spec.lhs_shape, *spec.rhs_shape, *spec.out_shape) or not dtype.is_floating:
            return None
        full = self.target.lanes(32 if dtype is bfloat16 else dtype.bits)
        vectors = -(-spec.groups // full)
        now = spec.groups // self.block(spec.groups, dtype)
        if vectors >= FILLED * now or vectors * full > spec.groups * ROOM:
            return None
        whole = replace(spec, groups=vectors * full)
        return full if grouped_supports(self.target, whole, dtype, full, full) else None

    def weight_gradient(self, spec: ConvSpec, dtype: DType) -> tuple[int, int] | None:
        """Blocks of x and g for which there is a kernel."""
        if 0 in (*spec.lhs_shape, *spec.rhs_shape, *spec.out_shape):
            return None
        return next(
            (
                (x, g)
                for x, g in self._choices(spec, dtype)
                if any(f(self.target, spec, dtype, x, g) for f in WEIGHT_GRADIENT_KERNELS)
            ),
            None,
        )
