"""ONNX's way to say a window: attributes of convolutions and pools, normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.errors import ShapeError
from striate.onnx.registry import Call

AUTO = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}


def per_axis(node: Call, name: str, rank: int, default: int = 1) -> list[int]:
    """An attribute with one integer per spatial axis.

    Raises:
        ShapeError: it has another number of values.
    """
    values: list[int] = node.ints(name, [default] * rank)
    if len(values) != rank:
        raise ShapeError(f"{name} has {len(values)} values for {rank} spatial axes: {values}")
    return values


def pairs(values: Sequence[int], rank: int) -> list[tuple[int, int]]:
    """ONNX's pads, all beginnings and then all ends, as (lo, hi) per axis.

    Raises:
        ShapeError: there are not two per axis.
    """
    if len(values) != 2 * rank:
        raise ShapeError(f"pads has {len(values)} values for {rank} axes: {list(values)}")
    return list(zip(values[:rank], values[rank:], strict=True))


def padding(node: Call, rank: int) -> Any:
    """The padding of a window, as `st.conv` takes it.

    Raises:
        ShapeError: `auto_pad` is unknown, or `pads` has not two values per axis.
    """
    auto = node.string("auto_pad", "NOTSET")
    if auto in AUTO:
        return AUTO[auto]
    if auto not in ("NOTSET", ""):
        raise ShapeError(f"auto_pad must be NOTSET or one of {', '.join(AUTO)}, got {auto!r}")
    return pairs(node.ints("pads", [0] * (2 * rank)), rank)


def spatial_rank(x: Any) -> int:
    """The number of spatial axes of x [N, C, *I].

    Raises:
        ShapeError: there is none.
    """
    if x.ndim < 3:
        raise ShapeError(f"wants x [N, C, *I] with a spatial axis, got {x.type}")
    return int(x.ndim - 2)
