"""Graphs inside of nodes: If, Loop and Scan.

A branch is chosen, and a loop unrolled, when the graph is built: conditions and numbers of trips
must be known then, the results of a trip need not.
"""

from __future__ import annotations

import numpy as np

import striate as st
from striate.core.array import Array
from striate.errors import ShapeError
from striate.ir.types import normalize_axis
from striate.onnx.registry import Call, operator

TRIPS = 1 << 14  # more than that would be a graph without end


def _truth(node: Call, x: Array, name: str) -> bool:
    values = node.known(x, name).reshape(-1)
    if len(values) != 1:
        raise ShapeError(f"the input {name!r} must be one truth value, got {x.type}")
    return bool(values[0])


@operator("If", known=(0,))
def if_(node: Call, condition: Array) -> tuple[Array, ...]:
    chosen = "then_branch" if _truth(node, condition, "cond") else "else_branch"
    return tuple(node.run(node.graph(chosen)))


@operator("Loop", known=(0, 1), known_results=(0,))
def loop(
    node: Call, trips: Array | None, condition: Array | None, *states: Array
) -> tuple[Array, ...]:
    """The states after the last trip, and what the trips gave, stacked."""
    body = node.graph("body")
    limit = None if trips is None else int(node.known_ints(trips, "M")[0])
    going = condition is None or _truth(node, condition, "cond")
    carried = list(states)
    rows: list[list[Array]] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
    trip = 0
    while going and (limit is None or trip < limit):
        if trip >= TRIPS:
            raise ShapeError(f"more than {TRIPS} trips: a loop is unrolled when it is built")
        keep = st.asarray(np.asarray(True))
        results = node.run(body, st.asarray(np.asarray(trip, np.int64)), keep, *carried)
        going = _truth(node, results[0], "cond")
        carried = results[1 : 1 + len(carried)]
        for row, value in zip(rows, results[1 + len(carried) :], strict=True):
            row.append(value)
        trip += 1
    if rows and not trip:
        raise ShapeError("it makes no trip: what its trips would give has no shape")
    return (*carried, *(st.stack(row) for row in rows))


@operator("Scan")
def scan(node: Call, *inputs: Array) -> tuple[Array, ...]:
    """The body over the slices of some inputs, which carries the states on."""
    body, count = node.graph("body"), node.int("num_scan_inputs")
    first = len(inputs) - count
    if node.opset < 9:
        raise ShapeError("Scan of opset 8, with a batch axis of its own, is not there")
    if not 1 <= count <= len(inputs):
        raise ShapeError(f"num_scan_inputs is {count}, of {len(inputs)} inputs")
    carried, scanned = list(inputs[:first]), list(inputs[first:])
    axes = node.ints("scan_input_axes", [0] * count)
    turned = node.ints("scan_input_directions", [0] * count)
    rows = [
        st.moveaxis(x, normalize_axis("scan_input_axes", a, x.ndim), 0)
        for x, a in zip(scanned, axes, strict=True)
    ]
    length = rows[0].shape[0]
    if length > TRIPS:
        raise ShapeError(f"more than {TRIPS} steps: a scan is unrolled when it is built")
    if any(r.shape[0] != length for r in rows):
        raise ShapeError(f"the scanned sizes differ: {[r.shape[0] for r in rows]}")
    made: list[list[Array]] = [[] for _ in range(len(body.outputs) - first)]
    for step in range(length):
        slices = [
            r[length - 1 - step if back else step] for r, back in zip(rows, turned, strict=True)
        ]
        results = node.run(body, *carried, *slices)
        carried = results[:first]
        for row, value in zip(made, results[first:], strict=True):
            row.append(value)
    if made and not length:
        raise ShapeError("it makes no step: what its steps would give has no shape")
    out_axes = node.ints("scan_output_axes", [0] * len(made))
    out_turned = node.ints("scan_output_directions", [0] * len(made))
    stacked = [
        st.stack(row[::-1] if back else row, axis=axis)
        for row, axis, back in zip(made, out_axes, out_turned, strict=True)
    ]
    return (*carried, *stacked)
