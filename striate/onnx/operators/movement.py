"""Movement: the same elements in other places."""

from __future__ import annotations

from math import prod

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.ir.types import normalize_axes, normalize_axis
from striate.onnx.operators.create import one
from striate.onnx.operators.windows import pairs
from striate.onnx.registry import Call, operator

# ---- shapes --------------------------------------------------------------------------------


@operator("Reshape", known=(1,))
def reshape(node: Call, x: Array, shape: Array | None = None) -> Array:
    """A size of 0 is that of x, but for `allowzero`; before opset 5 the shape is an attribute."""
    sizes = node.ints("shape") if shape is None else node.known_ints(shape, "shape")
    if not node.int("allowzero", 0):
        if any(n == 0 and k >= x.ndim for k, n in enumerate(sizes)):
            raise ShapeError(f"a size of 0 in {sizes} has no axis in {x.type} to be copied from")
        sizes = [x.shape[k] if n == 0 else n for k, n in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(node: Call, x: Array) -> Array:
    axis = node.int("axis", 1)
    axis = x.ndim if axis == x.ndim else normalize_axis("axis", axis, max(x.ndim, 1))
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def axes_of(node: Call, axes: Array | None) -> list[int] | None:
    """Axes from an input where there is one (newer opsets), else from the attribute."""
    found: list[int] | None
    found = node.ints("axes", None) if axes is None else node.known_ints(axes, "axes")
    return found


@operator("Squeeze", known=(1,))
def squeeze(node: Call, x: Array, axes: Array | None = None) -> Array:
    found = axes_of(node, axes)
    return st.squeeze(x, None if found is None else tuple(found))


@operator("Unsqueeze", known=(1,))
def unsqueeze(node: Call, x: Array, axes: Array | None = None) -> Array:
    found = axes_of(node, axes)
    if found is None:
        raise ShapeError("axes are missing")
    return st.expand_dims(x, tuple(found))


@operator("Expand", known=(1,))
def expand(node: Call, x: Array, shape: Array) -> Array:
    sizes = tuple(node.known_ints(shape, "shape"))
    return st.broadcast_to(x, np.broadcast_shapes(x.shape, sizes))


@operator("Tile", known=(1,))
def tile(node: Call, x: Array, repeats: Array) -> Array:
    times = node.known_ints(repeats, "repeats")
    if len(times) != x.ndim:
        raise ShapeError(f"{len(times)} repeats for the {x.ndim} axes of {x.type}")
    return st.tile(x, times)


# ---- order ---------------------------------------------------------------------------------


@operator("Transpose")
def transpose(node: Call, x: Array) -> Array:
    return st.permute_dims(x, node.ints("perm", None))


@operator("DepthToSpace")
def depth_to_space(node: Call, x: Array) -> Array:
    """Blocks from channels: DCR has the block's axes before the channel's, CRD after it."""
    block, mode = node.int("blocksize"), node.string("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise ShapeError(f"mode must be DCR or CRD, got {mode!r}")
    _check_block(x, block)
    if mode == "DCR":
        n, c, h, w = x.shape
        if c % block**2:
            raise ShapeError(f"the {c} channels of {x.type} do not divide by {block}**2")
        x = x.reshape(n, block * block, c // block**2, h, w).transpose(0, 2, 1, 3, 4)
        x = x.reshape(n, c, h, w)
    return st.pixel_shuffle(x, block)


@operator("SpaceToDepth")
def space_to_depth(node: Call, x: Array) -> Array:
    """Channels from blocks, the block's axes before the channel's (DCR), or after it (CRD)."""
    block, mode = node.int("blocksize"), node.string("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise ShapeError(f"mode must be DCR or CRD, got {mode!r}")
    _check_block(x, block)
    y = st.pixel_unshuffle(x, block)
    if mode == "CRD":
        return y
    n, c, h, w = y.shape
    y = y.reshape(n, x.shape[1], block * block, h, w).transpose(0, 2, 1, 3, 4)
    return y.reshape(n, c, h, w)


def _check_block(x: Array, block: int) -> None:
    if x.ndim != 4 or block < 1:
        raise ShapeError(f"wants x [N, C, H, W] and blocksize >= 1, got {x.type} and {block}")


# ---- join and cut --------------------------------------------------------------------------


@operator("Concat")
def concat(node: Call, *xs: Array) -> Array:
    return st.concat(xs, node.int("axis", 1) if node.opset < 4 else node.int("axis"))


@operator("Split", known=(1,))
def split(node: Call, x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    """Parts of given sizes, or equal ones, of which the last may be smaller."""
    axis = normalize_axis("axis", node.int("axis", 0), x.ndim)
    parts = node.ints("split", None) if sizes is None else node.known_ints(sizes, "split")
    if parts is None:
        count = node.int("num_outputs", node.outputs)
        n = x.shape[axis]
        if not node.outputs <= count <= max(n, node.outputs):
            raise ShapeError(f"num_outputs is {count}, for {node.outputs} outputs and size {n}")
        part = -(-n // count)
        parts = [max(0, min(part, n - k * part)) for k in range(count)]
    return tuple(st.split(x, parts, axis))


@operator("Slice", known=(1, 2, 3, 4))
def slice_(
    node: Call,
    x: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    """As Python's slices; attributes before opset 10, inputs since then."""
    first = node.ints("starts") if starts is None else node.known_ints(starts, "starts")
    last = node.ints("ends") if ends is None else node.known_ints(ends, "ends")
    found = axes_of(node, axes)
    which = list(range(len(first))) if found is None else found
    step = [1] * len(first) if steps is None else node.known_ints(steps, "steps")
    if not len(first) == len(last) == len(which) == len(step):
        raise ShapeError(f"starts, ends, axes and steps differ: {first}, {last}, {which}, {step}")
    index = [slice(None)] * x.ndim
    normalize_axes("axes", which, x.ndim)
    for a, start, stop, stride in zip(which, first, last, step, strict=True):
        axis = normalize_axis("axes", a, x.ndim)
        lo, hi, by = slice(start, stop, stride).indices(x.shape[axis])
        index[axis] = slice(lo, None if hi < 0 else hi, by)
    return x[tuple(index)]


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad", known=(1, 2, 3))
def pad(
    node: Call,
    x: Array,
    pads: Array | None = None,
    value: Array | None = None,
    axes: Array | None = None,
) -> Array:
    """Attributes before opset 11, inputs since then."""
    mode = node.string("mode", "constant")
    if mode not in _PAD_MODES:
        raise ShapeError(f"mode must be one of {', '.join(_PAD_MODES)}, got {mode!r}")
    if pads is None:
        given = node.ints("pads", None) or node.ints("paddings")
        filling = node.float("value", 0.0)
    else:
        given = node.known_ints(pads, "pads")
        filling = 0 if value is None else node.known(value, "constant_value").reshape(-1)[0].item()
    which = list(range(x.ndim)) if axes is None else node.known_ints(axes, "axes")
    normalize_axes("axes", which, x.ndim)
    widths = [(0, 0)] * x.ndim
    for a, width in zip(which, pairs(given, len(which)), strict=True):
        widths[normalize_axis("axes", a, x.ndim)] = width
    return st.pad(x, widths, _PAD_MODES[mode], filling)


# ---- along an axis -------------------------------------------------------------------------


def _scan(node: Call, x: Array, axis: Array, neutral: int) -> Array:
    """Every element combined with those before it, by doubling steps.

    Exclusive: without the element itself; reverse: from the end.
    """
    a = normalize_axis("axis", one(node, axis, "axis"), x.ndim)
    reverse = bool(node.int("reverse", 0))
    y = st.flip(x, a) if reverse else x

    def shifted(y: Array, by: int) -> Array:
        return st.pad(y, [(by, -by) if k == a else (0, 0) for k in range(x.ndim)], value=neutral)

    if node.int("exclusive", 0) and x.shape[a]:
        y = shifted(y, 1)
    if neutral == 0:
        y = st.cumulative_sum(y, a).astype(x.dtype)
    else:
        step = 1
        while step < x.shape[a]:
            y = y * shifted(y, step)
            step *= 2
    return st.flip(y, a) if reverse else y


@operator("CumSum", known=(1,))
def cumulative_sum(node: Call, x: Array, axis: Array) -> Array:
    return _scan(node, x, axis, 0)


@operator("CumProd", known=(1,))
def cumulative_product(node: Call, x: Array, axis: Array) -> Array:
    return _scan(node, x, axis, 1)


@operator("ReverseSequence")
def reverse_sequence(node: Call, x: Array, lengths: Array) -> Array:
    """The first `lengths` elements of each sequence, reversed; x [T, B, *S] or [B, T, *S]."""
    time, batch = node.int("time_axis", 0), node.int("batch_axis", 1)
    if {time, batch} != {0, 1} or x.ndim < 2 or lengths.shape != (x.shape[batch],):
        raise ShapeError(
            f"wants axes 0 and 1 and a length for each sequence, got time axis {time} and batch "
            f"axis {batch} of {x.type}, lengths {lengths.type}"
        )
    t = np.arange(x.shape[time]).reshape([-1, 1] if time == 0 else [1, -1])
    length = lengths.reshape([1, -1] if time == 0 else [-1, 1])
    source = st.where(t < length, length - 1 - t, t)  # [T, B] or [B, T]
    rows = source.reshape(*source.shape, *(1,) * (x.ndim - 2))
    return st.take_along_axis(x, st.broadcast_to(rows, x.shape), time)
