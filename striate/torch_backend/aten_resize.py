"""Rules of ATen's resizing operators, of which there are three per mode and rank.

upsample_bilinear2d(x, size, align_corners, *scales)                  .default
upsample_bilinear2d(x, size or None, align_corners, scales or None)   .vec
upsample_bilinear2d_backward(g, size, input_size, align_corners, *scales)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.ir.graph import Node
from striate.ops.movement import zeros
from striate.ops.resize import Mode, resize
from striate.torch_backend.aten_network import linear_adjoint
from striate.torch_backend.rules import Unsupported, rule

# Operator -> (mode, whether it takes align_corners, whether it smooths before it shrinks).
RESIZES: dict[str, tuple[Mode, bool, bool]] = {
    "upsample_linear1d": ("linear", True, False),
    "upsample_bilinear2d": ("bilinear", True, False),
    "upsample_trilinear3d": ("trilinear", True, False),
    "upsample_bicubic2d": ("bicubic", True, False),
    "_upsample_bilinear2d_aa": ("bilinear", True, True),
    "_upsample_bicubic2d_aa": ("bicubic", True, True),
}
for _rank in (1, 2, 3):
    RESIZES[f"upsample_nearest{_rank}d"] = ("nearest", False, False)
    RESIZES[f"_upsample_nearest_exact{_rank}d"] = ("nearest-exact", False, False)


def _enter(name: str, mode: Mode, corners: bool, antialias: bool) -> None:
    def resized(
        x: Node, size: Sequence[int] | None, align: bool, scales: Sequence[float | None] | None
    ) -> Node:
        if not x.type.dtype.is_floating:
            raise Unsupported(f"{name} of integers")
        options: dict[str, Any] = {"mode": mode, "align_corners": align, "antialias": antialias}
        if scales and None not in scales:
            return resize(x, scale=tuple(scales), **options)  # type: ignore[arg-type]
        if size is None:
            raise Unsupported(f"{name} without a size")
        return resize(x, tuple(size), **options)

    def default(x: Node, size: Sequence[int], *rest: Any) -> Node:
        return resized(x, size, rest[0] if corners else False, rest[corners:])

    def vec(x: Node, size: Sequence[int] | None, *rest: Any) -> Node:
        return resized(x, size, rest[0] if corners else False, rest[-1])

    def backward(g: Node, size: Sequence[int], shape: Sequence[int], *rest: Any) -> Node:
        x = zeros(g.type.with_shape(tuple(shape)))
        return linear_adjoint(lambda v: default(v, size, *rest), g, x)

    rule(f"{name}.default")(default)
    rule(f"{name}.vec")(vec)
    rule(f"{name}_backward.default")(backward)


for _name, _row in RESIZES.items():
    _enter(_name, *_row)
