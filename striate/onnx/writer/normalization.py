"""Batch normalisation by known moments, as it is to be seen in primitives:

    (x - mean) * (1 / sqrt(var + eps) * weight) + bias

with one number a channel, axis 1 of x, in each of mean, var, weight and bias.
"""

from __future__ import annotations

from striate.ir.graph import Node
from striate.onnx.writer.dialect import number, operator, reshaped
from striate.ops import elementwise as e, functions as f
from striate.ops.movement import BROADCAST_TO


def batch_normalization(y: Node, b: Node) -> Node | None:
    """The operator for y + b, if it is the end of one."""
    if y.op is not e.MULTIPLY or y.inputs[0].op is not e.SUBTRACT or y.ndim < 2:
        return None
    x, mean = y.inputs[0].inputs
    scale = y.inputs[1].inputs[0] if y.inputs[1].op is BROADCAST_TO else y.inputs[1]
    if scale.op is not e.MULTIPLY or scale.inputs[0].op is not f.RECIPROCAL:
        return None
    root = scale.inputs[0].inputs[0]
    if root.op is not f.SQRT or root.inputs[0].op is not e.ADD:
        return None
    var, eps = root.inputs[0].inputs
    epsilon = number(eps)
    vectors = [_per_channel(v, y.shape) for v in (scale.inputs[1], b, mean, var)]
    known = [v for v in vectors if v is not None]
    if epsilon is None or len(known) != 4 or y.type.dtype.kind != "f":
        return None
    return operator("BatchNormalization", [x, *known], y.type, epsilon=float(epsilon))


def _per_channel(v: Node, shape: tuple[int, ...]) -> Node | None:
    """The vector [C] that `v` is along axis 1 of `shape`, if it is one."""
    v = v.inputs[0] if v.op is BROADCAST_TO else v
    aligned = (*(1,) * (len(shape) - v.ndim), *v.shape)
    wanted = tuple(n if a == 1 else 1 for a, n in enumerate(shape))
    return reshaped(v, (shape[1],)) if aligned == wanted else None
