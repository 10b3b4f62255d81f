"""float16, which striate has no dtype for: its values, in float32."""

from __future__ import annotations

import striate as st
from striate.core.array import Array

FLOAT16 = 10  # its number in ONNX
LARGEST = 65504.0


def rounded_to_half(x: Array) -> Array:
    """The nearest values of float16, the even one of two, in float32; the derivative is 1.

    A binade [t, 2t) has 1024 of them, and below its smallest normal number 2**-14 they are as far
    apart as above it.
    """
    if not x.dtype.is_floating or x.dtype.itemsize < 4:  # integers: rounded once
        x = x.astype("float32" if x.dtype.is_floating else "float64")
    size = st.abs(st.stop_gradient(x))
    t = st.where(size >= 2.0**2, 2.0**2, 2.0**-14).astype(x.dtype)
    for k in (8, 4, 2, 1):
        t = st.where(size >= t * 2.0**k, t * 2.0**k, t)
    step = t * 2.0**-10
    near = st.round(x / step) * step
    near = st.where(st.abs(near) > LARGEST, near * float("inf"), near)
    moved = st.where(near == 0, x * 0.0, x + st.stop_gradient(near - x))  # -0 keeps its sign
    same = near == x  # infinities, too, whose difference is none
    return st.where(same, x, moved).astype("float32")
