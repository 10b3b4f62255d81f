"""Layers that are one ONNX operator, where that is not to be seen in their primitives: norms,
activations, means that leave padding out, padding by mode, resizing.

A rule gives the node of the operator, or None where this layer as it is has none; its primitives
are written then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from striate import nn
from striate.core.array import Array
from striate.ir.graph import Node, constant
from striate.ir.types import normalize_axis
from striate.nn.pool import _AvgPool
from striate.nn.shape import _Pad
from striate.onnx.writer.dialect import operator, reshaped, transposed
from striate.onnx.writer.trace import Call
from striate.ops.convolution import pads_of

Held = Mapping[Array, Node]
LayerRule = Callable[[Any, Node, Node, Held], "Node | None"]


def layer(call: Call, node: Node, inputs: Sequence[Node], held: Held) -> Node | None:
    """The operator for a value that a layer returned, if there is one.

    Args:
        call: of the layer.
        node: the value.
        inputs: what the layer was given, rewritten.
        held: the node of every array of state.
    """
    cls: Any = type(call.module)
    known: Any = next((c for c in cls.__mro__ if c in LAYERS), None)
    if known is None or len(inputs) != 1 or len(call.outputs) != 1:
        return None
    if cls.forward is not known.forward:
        return None  # a subclass computes something of its own
    return LAYERS[known](call.module, node, inputs[0], held)


def _plain(x: Node, *state: Node | None) -> bool:
    """Whether values are floating, of one dtype, and wide enough to be computed in."""
    dtypes = {n.type.dtype for n in (x, *state) if n is not None}
    return len(dtypes) == 1 and x.type.dtype.kind == "f" and 0 not in x.shape


def _vector(value: float, size: int, like: Node) -> Node:
    return constant(np.full(size, value, like.type.dtype.numpy))


# ---- norms ---------------------------------------------------------------------------------


def _batch_norm(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    if module.uses_batch:
        return None
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = [getattr(module, name) for name in names]
    nodes = [None if a is None else held[a] for a in arrays]
    if not _plain(x, *nodes):
        return None
    c = x.shape[1]
    defaults = (1.0, 0.0, 0.0, 1.0)
    filled = [_vector(v, c, x) if n is None else n for n, v in zip(nodes, defaults, strict=True)]
    eps = float(module.eps)
    return operator("BatchNormalization", [x, *filled], node.type, epsilon=eps)


def _instance_norm(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    if not module.uses_batch or x.ndim < 3 or x.ndim == module.single:
        return None
    weight, bias = (None if a is None else held[a] for a in (module.weight, module.bias))
    if not _plain(x, weight, bias):
        return None
    c = x.shape[1]
    scale = _vector(1.0, c, x) if weight is None else weight
    shift = _vector(0.0, c, x) if bias is None else bias
    eps = float(module.eps)
    return operator("InstanceNormalization", [x, scale, shift], node.type, epsilon=eps)


def _group_norm(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    weight, bias = (None if a is None else held[a] for a in (module.weight, module.bias))
    if x.ndim < 3 or not _plain(x, weight, bias):
        return None
    c = x.shape[1]
    scale = _vector(1.0, c, x) if weight is None else weight
    shift = _vector(0.0, c, x) if bias is None else bias
    return operator(
        "GroupNormalization", [x, scale, shift], node.type,
        epsilon=float(module.eps), num_groups=module.num_groups,
    )  # fmt: skip


def _layer_norm(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    shape = module.normalized_shape
    weight, bias = (None if a is None else held[a] for a in (module.weight, module.bias))
    if not _plain(x, weight, bias):
        return None
    scale = constant(np.ones(shape, x.type.dtype.numpy)) if weight is None else weight
    inputs = [x, scale] if bias is None else [x, scale, bias]
    eps = float(module.eps)
    return operator(
        "LayerNormalization",
        inputs,
        node.type,
        axis=-len(shape),
        epsilon=eps,
    )


def _layer_norm_2d(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    """The channels last, normalised, and back."""
    to_last = (0, *range(2, x.ndim), 1)
    back = (0, x.ndim - 1, *range(1, x.ndim - 1))
    moved = transposed(x, to_last)
    y = _layer_norm(module, moved, moved, held)
    return None if y is None else transposed(y, back)


# ---- activations ---------------------------------------------------------------------------


def _activation(name: str, arguments: Mapping[str, str] | None = None) -> LayerRule:
    """An operator whose attributes are attributes of the layer: {of ONNX: of the layer}."""

    def rule(module: Any, node: Node, x: Node, held: Held) -> Node | None:
        if not _plain(x):
            return None
        values: dict[str, Any] = {
            k: float(getattr(module, v)) for k, v in (arguments or {}).items()
        }
        return operator(name, [x], node.type, **values)

    return rule


def _gelu(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    if not _plain(x):
        return None
    return operator("Gelu", [x], node.type, approximate=str(module.approximate))


def _hard_sigmoid(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    return operator("HardSigmoid", [x], node.type, alpha=1 / 6, beta=0.5) if _plain(x) else None


def _softplus(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    """PyTorch's threshold is where the two formulas agree to the last bit from 20 on."""
    if not _plain(x) or module.beta != 1 or not module.threshold >= 20:
        return None
    return operator("Softplus", [x], node.type)


def _shrink(bias: bool, module: Any, node: Node, x: Node, held: Held) -> Node | None:
    if not _plain(x):
        return None
    lambd = float(module.lambd)
    return operator("Shrink", [x], node.type, lambd=lambd, bias=lambd if bias else 0.0)


def _threshold(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    if not _plain(x) or module.value != 0:
        return None
    return operator("ThresholdedRelu", [x], node.type, alpha=float(module.threshold))


def _prelu(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    slope = held[module.weight]
    if not _plain(x, slope) or x.ndim < 2:
        return None
    if slope.type.size != 1:
        slope = reshaped(slope, (slope.type.size, *(1,) * (x.ndim - 2)))
    return operator("PRelu", [x, slope], node.type)


# ---- pools, padding and resizing -----------------------------------------------------------


def _avg_pool(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    """The mean of what is not padding; with padding it is to be seen in the primitives."""
    rank = module.ndim
    if not _plain(x) or module.divisor_override is not None or x.ndim != rank + 2:
        return None
    if module.count_include_pad:
        return None
    kernel, stride = module.kernel_size, module.stride
    ones = (1,) * rank
    pads = pads_of("avg_pool", module.padding, x.shape[2:], kernel, stride, ones)
    lows, highs = [lo for lo, _ in pads], []
    windows = zip(x.shape[2:], node.shape[2:], kernel, stride, pads, strict=True)
    for n, out, k, s, (lo, hi) in windows:
        highs.append(max(hi, (out - 1) * s + k - n - lo))  # what ceil_mode adds
    widths = zip(lows + highs, [*kernel, *kernel], strict=True)
    if any(not 0 <= p < k for p, k in widths):
        return None
    return operator(
        "AveragePool", [x], node.type, count_include_pad=0, kernel_shape=list(kernel),
        pads=lows + highs, strides=list(stride),
    )  # fmt: skip


MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pad(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    mode, rank = module.mode, module.ndim
    if mode not in MODES or 0 in x.shape or min(module.padding) < 0:
        return None
    lows = [0] * (x.ndim - rank) + list(module.padding[-2::-2])
    highs = [0] * (x.ndim - rank) + list(module.padding[::-2])
    widths = constant(np.array(lows + highs, np.int64))
    return operator("Pad", [x, widths], node.type, mode=MODES[mode])


RESIZED = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def _upsample(module: Any, node: Node, x: Node, held: Held) -> Node | None:
    """By integer scales and by sizes, where ONNX's coordinates are PyTorch's."""
    rank, mode = x.ndim - 2, str(module.mode)
    if not _plain(x) or rank < 1:
        return None
    sizes = node.shape[2:]
    grows = all(o % n == 0 for o, n in zip(sizes, x.shape[2:], strict=True))
    given = module.scale_factor
    factors = given if isinstance(given, Sequence) else (given,)
    exact = given is None or all(float(v).is_integer() for v in factors if v is not None)
    if mode == "nearest":
        if not grows:
            return None
        attributes: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    elif mode in RESIZED and (exact or module.align_corners):
        align = "align_corners" if module.align_corners else "half_pixel"
        attributes = {"mode": RESIZED[mode], "coordinate_transformation_mode": align}
        if mode == "bicubic" and rank != 2:
            return None
    else:
        return None
    if prod(sizes) == 0:
        return None
    scales = constant(
        np.array([1, 1, *(o / n for o, n in zip(sizes, x.shape[2:], strict=True))], np.float32)
    )
    if grows:
        return operator("Resize", [x, None, scales], node.type, **attributes)
    target, axes = constant(np.array(sizes, np.int64)), list(range(2, x.ndim))
    return operator("Resize", [x, None, None, target], node.type, axes=axes, **attributes)


def _softmax_along(name: str) -> LayerRule:
    def rule(module: Any, node: Node, x: Node, held: Held) -> Node | None:
        if not _plain(x):
            return None
        axis = normalize_axis(name, module.dim, x.ndim)
        return operator(name, [x], node.type, axis=axis)

    return rule


LAYERS: dict[type, LayerRule] = {
    nn.BatchNorm: _batch_norm,
    nn.InstanceNorm: _instance_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.LayerNorm2d: _layer_norm_2d,
    nn.Sigmoid: _activation("Sigmoid"),
    nn.Tanh: _activation("Tanh"),
    nn.Softsign: _activation("Softsign"),
    nn.SELU: _activation("Selu"),
    nn.Mish: _activation("Mish"),
    nn.Hardswish: _activation("HardSwish"),
    nn.Hardsigmoid: _hard_sigmoid,
    nn.LeakyReLU: _activation("LeakyRelu", {"alpha": "negative_slope"}),
    nn.CELU: _activation("Celu", {"alpha": "alpha"}),
    nn.ELU: _activation("Elu", {"alpha": "alpha"}),
    nn.GELU: _gelu,
    nn.Softplus: _softplus,
    nn.Softshrink: partial(_shrink, True),
    nn.Hardshrink: partial(_shrink, False),
    nn.Threshold: _threshold,
    nn.PReLU: _prelu,
    nn.LogSoftmax: _softmax_along("LogSoftmax"),
    nn.Softmax: _softmax_along("Softmax"),
    _AvgPool: _avg_pool,
    _Pad: _pad,
    nn.Upsample: _upsample,
}
