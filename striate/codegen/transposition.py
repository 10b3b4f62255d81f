"""The transposition of a square of registers, in log2(V) rounds of shuffles."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from striate.codegen.emitter import I32, Emitter, Value, lanes_of


def transposed(e: Emitter, rows: Sequence[Value]) -> list[Value]:
    """V vectors of V lanes, V a power of two: lane i of result j is lane j of row i.

    Round s exchanges the off-diagonal blocks of side s.
    """
    n = len(rows)
    assert all(lanes_of(r.type) == n for r in rows) and n & (n - 1) == 0
    values, s = [*rows], 1
    while s < n:
        low = [i if not i & s else n + i - s for i in range(n)]
        high = [i + s if not i & s else n + i for i in range(n)]
        new = [*values]
        for i in range(n):
            if not i & s:
                pair = values[i], values[i + s]
                for at, order in ((i, low), (i + s, high)):
                    picks = ir.Constant(ir.VectorType(I32, n), order)
                    new[at] = e.b.shuffle_vector(*pair, picks)
        values, s = new, 2 * s
    return values
