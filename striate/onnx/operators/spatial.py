"""Images from blocks, and grids of positions."""

from __future__ import annotations

from math import prod

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.onnx.operators.windows import pairs, per_axis
from striate.onnx.registry import Call, operator


@operator("Col2Im", known=(1, 2))
def col2im(node: Call, x: Array, image: Array, block: Array) -> Array:
    """Blocks x [N, C * prod(W), prod(O)] added at their places in images [N, C, *I].

    It is the transposed convolution whose filter for each channel and tap is one at the tap.
    """
    sizes, kernel = node.known_ints(image, "image_shape"), node.known_ints(block, "block_shape")
    rank, taps = len(sizes), prod(kernel)
    if len(kernel) != rank or x.ndim != 3 or taps < 1 or x.shape[1] % taps:
        raise ShapeError(f"blocks {kernel} of images {sizes} do not fit {x.type}")
    stride, dilation = per_axis(node, "strides", rank), per_axis(node, "dilations", rank)
    pads = pairs(node.ints("pads", [0] * (2 * rank)), rank)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if min(stride) < 1:
        raise ShapeError(f"strides must be >= 1, got {stride}")
    outs = [
        (n + lo + hi - e) // s + 1
        for n, (lo, hi), e, s in zip(sizes, pads, extents, stride, strict=True)
    ]
    channels = x.shape[1] // taps
    if prod(outs) != x.shape[2] or min(outs) < 1:
        raise ShapeError(f"images {sizes} have {prod(outs)} blocks {kernel}, got {x.type}")
    one_hot = np.eye(taps, dtype=x.dtype.numpy).reshape(taps, 1, *kernel)
    w = st.tile(st.asarray(one_hot), (channels, *(1,) * (rank + 1)))  # [C * taps, 1, *W]
    ends = [
        (lo, (o - 1) * s + e - lo - n)
        for o, s, e, (lo, _), n in zip(outs, stride, extents, pads, sizes, strict=True)
    ]
    blocks = x.reshape(x.shape[0], x.shape[1], *outs)
    return st.conv_transpose(
        blocks, w, stride=stride, padding=ends, dilation=dilation, groups=channels
    )


@operator("AffineGrid", known=(1,))
def affine_grid(node: Call, theta: Array, size: Array) -> Array:
    """theta [N, r, r + 1] -> positions [N, *size, r] of a grid over [-1, 1]^r."""
    whole = node.known_ints(size, "size")
    sizes, rank = whole[2:], len(whole) - 2
    if rank not in (2, 3) or theta.shape != (whole[0], rank, rank + 1) or min(sizes) < 1:
        raise ShapeError(
            f"wants theta [N, r, r + 1] for sizes [N, C, *S], got {theta.type}, {whole}"
        )
    corners = bool(node.int("align_corners", 0))
    axes = [
        np.linspace(-1, 1, m) if corners and m > 1 else (2 * np.arange(m) + 1) / m - 1
        for m in sizes
    ]
    grid = np.meshgrid(*axes, indexing="ij")[::-1]  # x varies along the last axis
    points = np.stack([*grid, np.ones(sizes)], -1).reshape(-1, rank + 1)  # [prod(S), r + 1]
    found = st.matmul(st.asarray(points, theta.dtype), st.permute_dims(theta, (0, 2, 1)))
    return found.reshape(whole[0], *sizes, rank)
