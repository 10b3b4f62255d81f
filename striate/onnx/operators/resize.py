"""Resize and Upsample: interpolation at coordinates that the node says how to compute.

Each axis is a table of source indices and weights, made in float64 from known sizes and scales:

    y[.., o, ..] = sum over t of w[t, o] * x[.., i[t, o], ..]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate.core.array import Array
from striate.dtype import compute_dtype, float32
from striate.errors import RangeError, ShapeError
from striate.ir.types import normalize_axis
from striate.onnx.registry import Call, operator
from striate.target import memory_bytes

Floats = NDArray[np.float64]
Taps = tuple[NDArray[np.int64], Floats]  # indices and weights, [T, O] each


# ---- coordinates ---------------------------------------------------------------------------


def _coordinates(
    mode: str, n: int, out: int, scale: float, roi: tuple[float, float] | None
) -> Floats:
    """Where each output is in the input.

    Raises:
        ShapeError: the transformation is unknown, or lacks its roi.
    """
    o = np.arange(out, dtype=np.float64)
    if mode == "align_corners":  # of a length that a scale need not make whole
        length = out if abs(scale * n - out) < 1e-3 else scale * n
        return o * ((n - 1) / (length - 1)) if out > 1 else o * 0
    if mode == "tf_crop_and_resize":
        if roi is None:
            raise ShapeError("tf_crop_and_resize needs the input roi")
        start, end = roi
        if out > 1:
            return start * (n - 1) + o * ((end - start) * (n - 1) / (out - 1))
        return o * 0 + 0.5 * (start + end) * (n - 1)
    if mode == "pytorch_half_pixel" and out == 1:
        return o * 0
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (o + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        adjustment = out / (scale * n)
        return n / 2 * (1 - adjustment) + (o + 0.5) / scale - 0.5
    if mode == "asymmetric":
        return o / scale
    if mode == "tf_half_pixel_for_nn":
        return (o + 0.5) / scale
    raise ShapeError(f"coordinate_transformation_mode is unknown: {mode!r}")


ROUNDING: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


# ---- tables --------------------------------------------------------------------------------


def _linear(t: Floats) -> Floats:
    return np.asarray(np.maximum(1 - np.abs(t), 0))


def _cubic(a: float) -> Callable[[Floats], Floats]:
    """Keys' kernel (1981)."""

    def kernel(t: Floats) -> Floats:
        t = np.abs(t)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((t - 5) * t + 8) * t * a - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0.0))

    return kernel


def _taps(at: Floats, n: int, radius: int, kernel: Callable[[Floats], Floats],
          shrink: float, exclude_outside: bool) -> Taps:  # fmt: skip
    """Neighbours within `radius`, of a kernel that is stretched where the axis shrinks."""
    reach = math.ceil(radius / shrink)
    index = np.floor(at).astype(np.int64) + np.arange(1 - reach, reach + 1)[:, None]  # [T, O]
    weights = kernel((index - at) * shrink)
    if exclude_outside:
        weights = np.where((index >= 0) & (index < n), weights, 0.0)
    if exclude_outside or shrink < 1:
        total = weights.sum(axis=0)
        weights = weights / np.where(total == 0, 1, total)
    return np.clip(index, 0, n - 1), weights


def _applied(x: Array, axis: int, taps: Taps) -> Array:
    """The weighted sum of taps along an axis: [.., n, ..] -> [.., O, ..]."""
    index, weights = taps
    shape = tuple(-1 if a == axis else 1 for a in range(x.ndim))
    parts = [
        st.take(x, i, axis) * w.astype(x.dtype.numpy).reshape(shape)
        for i, w in zip(index, weights, strict=True)
        if w.any()
    ]
    total: Array = sum(parts[1:], parts[0])
    return total


# ---- the operators -------------------------------------------------------------------------


def _geometry(
    node: Call, x: Array, axes: list[int], scales: list[float], sizes: list[int]
) -> tuple[list[float], list[int]]:
    """(scales, sizes) of the axes, of which one is given.

    Raises:
        ShapeError: both or none are given, their number is wrong, or a scale is not positive.
    """
    given = [x.shape[a] for a in axes]
    if bool(scales) == bool(sizes) and axes:
        raise ShapeError("wants one of scales and sizes")
    if len(scales or sizes) != len(axes):
        raise ShapeError(f"{scales or sizes} has not one value for each of the axes {axes}")
    if 0 in given:
        raise ShapeError(f"there is nothing to interpolate in {x.type}")
    if scales:
        if any(not (s > 0 and math.isfinite(s)) for s in scales):
            raise ShapeError(f"scales must be positive, got {scales}")
        return scales, [math.floor(n * s) for n, s in zip(given, scales, strict=True)]
    if any(n < 0 for n in sizes):
        raise ShapeError(f"sizes must not be negative, got {sizes}")
    ratios = [o / n for o, n in zip(sizes, given, strict=True)]
    policy = node.string("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return ratios, sizes
    if policy not in ("not_larger", "not_smaller"):
        raise ShapeError(f"keep_aspect_ratio_policy is unknown: {policy!r}")
    common = min(ratios) if policy == "not_larger" else max(ratios)
    return [common] * len(axes), [math.floor(n * common + 0.5) for n in given]


def _resized(
    node: Call,
    x: Array,
    axes: list[int],
    scales: list[float],
    sizes: list[int],
    roi: list[float] | None,
    coordinates: str,
    rounding: str,
) -> Array:
    """x with its axes interpolated by the mode of the node."""
    mode = node.string("mode", "nearest")
    scales, sizes = _geometry(node, x, axes, scales, sizes)
    out = {**dict(enumerate(x.shape)), **dict(zip(axes, sizes, strict=True))}
    if math.prod(out.values()) * x.dtype.itemsize > memory_bytes():
        raise RangeError(
            f"{x.type} resized to {list(out.values())} is beyond this machine's memory"
        )
    kernel: Callable[[Floats], Floats]
    outside: list[tuple[int, NDArray[Any]]] = []
    dtype = x.dtype
    if mode != "nearest":
        x = x.astype(compute_dtype(dtype) if dtype.is_floating else float32)
    for k, axis in enumerate(axes):
        n, o, scale = x.shape[axis], sizes[k], scales[k]
        window = None if roi is None else (roi[k], roi[k + len(axes)])
        at = _coordinates(coordinates, n, o, scale, window)
        if coordinates == "tf_crop_and_resize":
            outside.append((axis, (at < 0) | (at > n - 1)))
        if mode == "nearest":
            if rounding not in ROUNDING:
                raise ShapeError(f"nearest_mode is unknown: {rounding!r}")
            index = np.clip(ROUNDING[rounding](at), 0, n - 1).astype(np.int64)
            if not np.array_equal(index, np.arange(n)):
                x = st.take(x, index, axis)
            continue
        if mode == "linear":
            radius, kernel = 1, _linear
        elif mode == "cubic":
            radius, kernel = 2, _cubic(node.float("cubic_coeff_a", -0.75))
        else:
            raise ShapeError(f"mode must be nearest, linear or cubic, got {mode!r}")
        shrink = min(scale, 1.0) if node.int("antialias", 0) else 1.0
        if not np.array_equal(at, np.arange(n)) or shrink < 1:
            excluded = bool(node.int("exclude_outside", 0))
            x = _applied(x, axis, _taps(at, n, radius, kernel, shrink, excluded))
    for axis, mask in outside:
        along = mask.reshape(tuple(-1 if a == axis else 1 for a in range(x.ndim)))
        x = st.where(along, node.float("extrapolation_value", 0.0), x)
    return _narrowed(x, dtype)


def _narrowed(x: Array, dtype: Any) -> Array:
    """Results of integers are rounded and limited to their dtype."""
    if x.dtype is dtype or dtype.is_floating:
        return x.astype(dtype)
    info = np.iinfo(dtype.name)
    return st.clip(st.round(x), float(info.min), float(info.max)).astype(dtype)


def _floats(node: Call, x: Array | None, name: str) -> list[float]:
    return [] if x is None else [float(v) for v in node.known(x, name).reshape(-1)]


@operator("Resize", known=(1, 2, 3))
def resize(
    node: Call,
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Array:
    if node.opset < 11:  # (x, scales), with the coordinates that were meant then
        factors = _floats(node, roi, "scales")
        return _resized(node, x, list(range(x.ndim)), factors, [], None, "asymmetric", "floor")
    axes = [normalize_axis("axes", a, x.ndim) for a in node.ints("axes", list(range(x.ndim)))]
    coordinates = node.string("coordinate_transformation_mode", "half_pixel")
    region = _floats(node, roi, "roi") or None
    if coordinates != "tf_crop_and_resize":
        region = None
    elif region is not None and len(region) != 2 * len(axes):
        raise ShapeError(f"roi has {len(region)} values for the axes {axes}")
    wanted = [] if sizes is None else [int(v) for v in node.known_ints(sizes, "sizes")]
    return _resized(
        node, x, axes, _floats(node, scales, "scales"), wanted, region, coordinates,
        node.string("nearest_mode", "round_prefer_floor"),
    )  # fmt: skip


@operator("Upsample", known=(1,))
def upsample(node: Call, x: Array, scales: Array | None = None) -> Array:
    """Scales are an attribute before opset 9, an input since then."""
    factors = _floats(node, scales, "scales") if scales is not None else node.floats("scales")
    return _resized(
        node, x, list(range(x.ndim)), list(factors), [], None, "asymmetric", "floor"
    )  # fmt: skip


@operator("CenterCropPad", known=(1,))
def center_crop_pad(node: Call, x: Array, shape: Array) -> Array:
    """The middle of x, or x in the middle of zeros; odd elements are left out, or added, last."""
    axes = [normalize_axis("axes", a, x.ndim) for a in node.ints("axes", list(range(x.ndim)))]
    sizes = node.known_ints(shape, "shape")
    if len(sizes) != len(axes) or any(n < 0 for n in sizes):
        raise ShapeError(f"wants a size >= 0 for each of the axes {axes}, got {sizes}")
    widths = [(0, 0)] * x.ndim
    for axis, n in zip(axes, sizes, strict=True):
        extra = n - x.shape[axis]
        lo = extra // 2 if extra > 0 else -((-extra) // 2)
        widths[axis] = (lo, extra - lo)
    return st.pad(x, widths)
