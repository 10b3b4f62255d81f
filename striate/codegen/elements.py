"""Elements between memory and registers: load and store of n lanes of any dtype.

In memory a bool is a byte and a bfloat16 is 16 bits; in registers they are an i1 and the float of
that value. Integers, float32 and float64 are the same in both.
"""

from __future__ import annotations

from striate.codegen.emitter import Emitter, Value, lanes_of, storage, vector
from striate.dtype import DType


def load_element(
    e: Emitter, p: Value, dtype: DType, lanes: int = 1, mask: Value | None = None
) -> Value:
    """`lanes` elements at an address, as they are computed with.

    With a mask (i1 per lane), lanes in which it is false are zero and their memory is not touched.
    """
    type = vector(storage(dtype), lanes)
    if mask is None:
        raw = e.load(p, type)
    elif lanes == 1:
        raw = e.choose(mask, lambda: [e.load(p, type)], lambda: [e.const(type, 0)])[0]
    else:
        raw = e.load_masked(p, mask, type)
    return e.widen(raw, dtype)


def store_element(
    e: Emitter,
    value: Value,
    p: Value,
    dtype: DType,
    mask: Value | None = None,
    stream: bool = False,
) -> None:
    """Write a value (one element, or n lanes) to an address; with a mask, only where it is true.

    A bfloat16 is rounded to nearest even, which changes nothing if it is rounded already.
    """
    raw = e.narrow(value, dtype)
    if stream:
        e.stream(raw, p)
    elif mask is None:
        e.store(raw, p)
    elif lanes_of(value.type) == 1:
        with e.when(mask):
            e.store(raw, p)
    else:
        e.store_masked(raw, p, mask)
