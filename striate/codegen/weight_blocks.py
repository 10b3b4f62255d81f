"""Weights in vectors of features, for convolutions in several parts.

Each part packs some taps of all features and channels. Where features are far apart in memory, and
the taps are neighbours, every part would gather single elements out of the same cache lines. So the
weights are first transposed, all of them at once, in squares of registers; then parts copy vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from striate.codegen.boxes import Operand, copy_step
from striate.codegen.dense_geometry import count_parts
from striate.codegen.kernel import Buffer, Step, View
from striate.dtype import DType, compute_dtype
from striate.ops.conv import ConvSpec
from striate.target import Target
from striate.transform.views import dense_strides

MANY = 1 << 14  # weights; fewer are in the first cache for all parts


@dataclass(frozen=True, slots=True)
class VectorView(View):
    """Weights [G, K, C, *W], of whose features a vector's number are neighbours.

    Attributes:
        vector_step: elements from one vector of features to the next.
    """

    vector_step: int


def vector_step(w: View, lanes: int) -> int:
    """Elements from one vector of features to the next."""
    return w.vector_step if isinstance(w, VectorView) else lanes * w.strides[1]


def features_in_vectors(
    target: Target, spec: ConvSpec, dtype: DType, w: View
) -> tuple[View, list[Step]]:
    """The weights [G, K, C, *W] as [G, K/V, *W, C, V], where that pays, else as they are."""
    lanes = target.lanes(compute_dtype(dtype).bits)
    g, k, c, *taps = spec.rhs_shape
    many = prod(spec.rhs_shape) >= MANY and count_parts(spec) > 1
    if not many or w.strides[1] == 1 or k % lanes:
        return w, []
    shape = (g, k // lanes, *taps, c, lanes)
    made = dense_strides(shape)
    buffer = Buffer(prod(shape) * dtype.itemsize, "weights in vectors")
    wg, wk, wc, *ws = w.strides
    source = View(w.buffer, w.offset, (wg, lanes * wk, *ws, wc, wk))
    steps = copy_step(shape, Operand(dtype, source), Operand(dtype, View(buffer, 0, made)))
    strides = (made[0], 1, lanes, *made[2:-2])
    return VectorView(buffer, 0, strides, made[1]), steps
