"""Reading an image between its pixels, at places that data say: GridSample, RoiAlign, DeformConv.

A place is interpolated per axis by taps, (index, weight) pairs; the value is the sum over all
combinations of taps, each one gather.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.onnx.operators.windows import pairs, per_axis, spatial_rank
from striate.onnx.registry import Call, operator

Taps = list[tuple[Array, Array]]  # (index, weight), floats [B, P] each


def _gathered(x: Array, sizes: Sequence[int], taps: Sequence[Taps]) -> Array:
    """x [B, C, prod(sizes)] at places [B, P], given by taps per axis, -> [B, C, P].

    What lies outside is zero.
    """
    b, c, _ = x.shape
    total: Array | None = None
    for combination in itertools.product(*taps):
        flat: Any = 0
        weight: Any = 1.0
        for (index, w), n in zip(combination, sizes, strict=True):
            inside = (index >= 0) & (index <= n - 1)
            weight = weight * st.where(inside, w, 0.0)
            flat = flat * n + st.where(inside, index, 0.0).astype("int64")
        where = st.broadcast_to(st.expand_dims(flat, 1), (b, c, flat.shape[1]))
        part = st.take_along_axis(x, where, 2) * st.expand_dims(weight, 1)
        total = part if total is None else total + part
    assert total is not None
    return total


def _linear_taps(at: Array) -> Taps:
    low = st.floor(at)
    f = at - low
    return [(low, 1 - f), (low + 1, f)]


# ---- GridSample ----------------------------------------------------------------------------


def _reflected(at: Array, low: float, high: float) -> Array:
    """Coordinates folded at both ends into [low, high]."""
    span = high - low
    if span <= 0:
        return at * 0 + low
    t = st.abs(at - low)
    turns = st.floor(t / span)
    rest = t - turns * span
    return st.where(turns % 2 == 0, low + rest, high - rest)


def _within(at: Array, n: int, padding: str, align: bool) -> Array:
    if padding == "border":
        return st.clip(at, 0.0, n - 1.0)
    if padding == "reflection":
        low, high = (0.0, n - 1.0) if align else (-0.5, n - 0.5)
        return st.clip(_reflected(at, low, high), 0.0, n - 1.0)
    return at


def _cubic_taps(at: Array, n: int, padding: str, align: bool) -> Taps:
    """Keys' kernel with a = -0.75; each tap is brought inside on its own."""
    low, a = st.floor(at), -0.75
    taps = []
    for k in range(-1, 3):
        t = st.abs(at - (low + k))
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((t - 5) * t + 8) * t * a - 4 * a
        weight = near if k in (0, 1) else far
        taps.append((_within(low + k, n, padding, align), weight))
    return taps


@operator("GridSample")
def grid_sample(node: Call, x: Array, grid: Array) -> Array:
    """x [N, C, *I] at grid [N, *O, r], whose last axis is a place, from the last axis of x to the
    first, in [-1, 1] -> [N, C, *O].
    """
    rank = spatial_rank(x)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(
        node.string("mode", "linear"), node.string("mode", "linear")
    )
    padding, align = node.string("padding_mode", "zeros"), bool(node.int("align_corners", 0))
    if mode not in ("nearest", "linear", "cubic"):
        raise ShapeError(f"mode must be linear, nearest or cubic, got {mode!r}")
    if padding not in ("zeros", "border", "reflection"):
        raise ShapeError(f"padding_mode must be zeros, border or reflection, got {padding!r}")
    if grid.ndim != rank + 2 or grid.shape[0] != x.shape[0] or grid.shape[-1] != rank:
        raise ShapeError(f"wants a grid [{x.shape[0]}, *O, {rank}] for {x.type}, got {grid.type}")
    if 0 in x.shape[2:]:
        raise ShapeError(f"there is nothing to sample in {x.type}")
    n, c, *sizes = x.shape
    places = grid.reshape(n, -1, rank)
    taps: list[Taps] = []
    for axis, size in enumerate(sizes):
        g = places[..., rank - 1 - axis]
        at = (g + 1) / 2 * (size - 1) if align else ((g + 1) * size - 1) / 2
        if mode == "nearest":
            index = _within(st.round(at), size, padding, align)
            taps.append([(index, st.ones(index.shape, x.dtype))])
        elif mode == "linear":
            taps.append(_linear_taps(_within(at, size, padding, align)))
        else:
            taps.append(_cubic_taps(at, size, padding, align))
    y = _gathered(x.reshape(n, c, prod(sizes)), sizes, taps)
    return y.reshape(n, c, *grid.shape[1:-1]).astype(x.dtype)


# ---- DeformConv ----------------------------------------------------------------------------


@operator("DeformConv")
def deform_conv(
    node: Call,
    x: Array,
    w: Array,
    offset: Array,
    b: Array | None = None,
    mask: Array | None = None,
) -> Array:
    """A convolution whose taps are moved by `offset` [N, D*K*r, *O] and weighted by `mask`
    [N, D*K, *O]: K taps of r axes, for each of D groups of channels.

    Method: Zhu, Hu, Lin & Dai, "Deformable ConvNets v2" (2019).
    """
    rank = spatial_rank(x)
    n, c, *sizes = x.shape
    kernel = w.shape[2:]
    group, deformed = node.int("group", 1), node.int("offset_group", 1)
    stride, dilation = per_axis(node, "strides", rank), per_axis(node, "dilations", rank)
    pads = pairs(node.ints("pads", [0] * (2 * rank)), rank)
    outs = tuple(
        (i + lo + hi - (k - 1) * d - 1) // s + 1
        for i, k, s, d, (lo, hi) in zip(sizes, kernel, stride, dilation, pads, strict=True)
    )
    taps, places = prod(kernel), prod(outs)
    if w.ndim != rank + 2 or w.shape[1] * group != c or w.shape[0] % group or c % deformed:
        raise ShapeError(f"x {x.type} and w {w.type} do not fit group {group} and {deformed}")
    if offset.shape != (n, deformed * taps * rank, *outs):
        want = (n, deformed * taps * rank, *outs)
        raise ShapeError(f"the offsets must have shape {want}, got {offset.type}")
    moved = offset.reshape(n * deformed, taps, rank, places)
    steps = np.indices(kernel).reshape(rank, taps, 1)
    starts = np.indices(outs).reshape(rank, 1, places)
    at: list[Taps] = []
    for axis in range(rank):
        origin = starts[axis] * stride[axis] - pads[axis][0] + steps[axis] * dilation[axis]
        place = moved[:, :, axis] + origin.astype(np.float32)  # [N*D, K, P]
        at.append(_linear_taps(place.reshape(n * deformed, taps * places)))
    columns = _gathered(x.reshape(n * deformed, c // deformed, prod(sizes)), sizes, at)
    if mask is not None:
        if mask.shape != (n, deformed * taps, *outs):
            want = (n, deformed * taps, *outs)
            raise ShapeError(f"the mask must have shape {want}, got {mask.type}")
        columns = columns * mask.reshape(n * deformed, 1, taps * places)
    columns = columns.reshape(n, group, c // group * taps, places)
    filters = w.reshape(group, w.shape[0] // group, -1)
    y = st.matmul(filters, columns).reshape(n, w.shape[0], *outs)
    return y if b is None else y + b.reshape(-1, *(1,) * rank)


# ---- RoiAlign ------------------------------------------------------------------------------

Floats = NDArray[np.float64]
Axis = tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]  # low, high, and their weights


def _samples(starts: Floats, steps: Floats, out: int, grid: int, n: int) -> Axis:
    """The samples of an axis, [R, out * grid]: `grid` in each bin; more than 1 outside there is
    nothing, nearer than that the edge.
    """
    k = (np.arange(out * grid) + 0.5) / grid
    at = starts[:, None] + steps[:, None] * k
    there = (at >= -1) & (at <= n)
    at = np.clip(at, 0, n - 1)
    low = np.floor(at).astype(np.int64)
    f = at - low
    return low, np.minimum(low + 1, n - 1), (1 - f) * there, f * there


@operator("RoiAlign", known=(1, 2))
def roi_align(node: Call, x: Array, rois: Array, images: Array) -> Array:
    """x [N, C, H, W], rois [R, 4] as (x1, y1, x2, y2), images [R] -> [R, C, OH, OW].

    Method: He, Gkioxari, Dollár & Girshick, "Mask R-CNN" (2017).
    """
    if x.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 4 or images.shape != rois.shape[:1]:
        raise ShapeError(f"{x.type}, rois {rois.type} and images {images.type} do not fit")
    mode, ratio = node.string("mode", "avg"), node.int("sampling_ratio", 0)
    oh, ow = node.int("output_height", 1), node.int("output_width", 1)
    default = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    half = node.string("coordinate_transformation_mode", default) == "half_pixel"
    if mode not in ("avg", "max") or min(oh, ow) < 1 or ratio < 0:
        raise ShapeError(f"mode {mode!r}, output {oh} x {ow} and sampling_ratio {ratio} are no roi")
    boxes = node.known(rois, "rois").astype(np.float64) * node.float("spatial_scale", 1.0)
    boxes = boxes - (0.5 if half else 0.0)
    image = np.asarray(node.known_ints(images, "batch_indices"), np.int64)
    if image.size and not 0 <= image.min() <= image.max() < x.shape[0]:
        raise ShapeError(f"batch_indices must be in [0, {x.shape[0]})")
    extent = boxes[:, 2:] - boxes[:, :2]
    if not half:
        extent = np.maximum(extent, 1.0)
    grids = [
        (ratio or max(ceil(h / oh), 0), ratio or max(ceil(w / ow), 0)) for w, h in extent.tolist()
    ]
    found: dict[int, Array] = {}
    for key in sorted({(int(i), g) for i, g in zip(image, grids, strict=True)}):
        number, grid = key
        chosen = [r for r in range(len(image)) if (image[r], grids[r]) == key]
        if 0 in grid:
            part = st.zeros((len(chosen), x.shape[1], oh, ow), x.dtype)
        else:
            part = _pooled(x[number], boxes[chosen, :2], extent[chosen], (oh, ow), grid, mode)
        found |= {r: part[k] for k, r in enumerate(chosen)}
    if not found:
        return st.zeros((0, x.shape[1], oh, ow), x.dtype)
    return st.stack([found[r] for r in range(len(image))])


def _pooled(
    x: Array,
    corners: Floats,
    extent: Floats,
    outs: tuple[int, int],
    grid: tuple[int, int],
    mode: str,
) -> Array:
    """x [C, H, W] in boxes with one grid of samples -> [R, C, OH, OW]."""
    c, h, w = x.shape
    (oh, ow), (gh, gw) = outs, grid
    rows = _samples(corners[:, 1], extent[:, 1] / oh, oh, gh, h)
    columns = _samples(corners[:, 0], extent[:, 0] / ow, ow, gw, w)
    flat, count = x.reshape(c, h * w), len(corners)
    parts = []
    for a, b in itertools.product(range(2), range(2)):
        index = rows[a][:, :, None] * w + columns[b][:, None, :]  # [R, OH*gh, OW*gw]
        weight = rows[2 + a][:, :, None] * columns[2 + b][:, None, :]
        values = st.take(flat, index.reshape(-1), 1) * weight.reshape(-1).astype(x.dtype.numpy)
        parts.append(values.reshape(c, count, oh, gh, ow, gw))
    if mode == "avg":
        y = st.mean(sum(parts[1:], parts[0]), (3, 5))
    else:  # ONNX's: of the weighted corners themselves
        y = st.max(st.stack(parts), (0, 4, 6))
    return st.moveaxis(y, 0, 1)
