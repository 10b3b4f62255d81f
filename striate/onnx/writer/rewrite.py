"""A traced program in ONNX's dialect: every node is one that has an ONNX operator.

The graph is rebuilt from the inputs on. A value that a known layer returned becomes the operator
of that layer (`layers`); a convolution becomes one of ONNX's (`convolutions`); a few shapes of
expression that are one operator are found here; and what ONNX lacks is composed of what it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from striate.dtype import bool_, int32, int64
from striate.ir.graph import Node, Op, apply, constant, topological
from striate.ir.types import TensorType
from striate.onnx.writer.convolutions import convolution, placed, with_bias
from striate.onnx.writer.dialect import base, is_operator, number, operator, reshaped, transposed
from striate.onnx.writer.layers import layer
from striate.onnx.writer.normalization import batch_normalization
from striate.onnx.writer.trace import Program
from striate.ops import elementwise as e, functions as f, index, movement as m, reduce, special
from striate.ops.conv import CONV
from striate.ops.pool import ARGMAX_POOL
from striate.ops.window import Window

Rule = Callable[..., "Node | None"]
POOLED = ("float16", "bfloat16", "float32", "float64", "int8", "uint8")  # dtypes of MaxPool


def rewrite(program: Program) -> tuple[dict[Node, Node], dict[Node, str]]:
    """(new, paths): what each node becomes, and the module path of every new node."""
    new: dict[Node, Node] = {}
    paths: dict[Node, str] = {}
    for node in topological(program.outputs.values(), stop=lambda n: n.data is not None):
        new[node] = _rewritten(node, new, program)
        for made in topological([new[node]], stop=lambda n: n in paths):
            paths.setdefault(made, program.paths.get(node, ""))
    return new, paths


def _rewritten(node: Node, new: dict[Node, Node], program: Program) -> Node:
    if node.data is not None or not node.inputs:
        return node
    call = program.calls.get(node)
    if call is not None and all(x in new for x in call.inputs):
        made = layer(call, node, [new[x] for x in call.inputs], program.held)
        if made is not None:
            return made
    inputs = tuple(new[x] for x in node.inputs)
    rule = RULES.get(node.op)
    made = None if rule is None else rule(node, *inputs)
    return apply(node.op, inputs, node.attrs) if made is None else made


# ---- what is one operator ------------------------------------------------------------------


def _add(node: Node, x: Node, y: Node) -> Node | None:
    return with_bias(x, y) or with_bias(y, x) or batch_normalization(x, y)


def _where(node: Node, c: Node, x: Node, y: Node) -> Node | None:
    """relu, hardtanh and clip."""
    return _limited(node, c, x, y) or _clipped(node, c, x, y)


def _same(a: Node, b: Node) -> bool:
    """Whether two values are one, or one number."""
    return a is b or (number(a) is not None and number(a) == number(b))


def _clipped(node: Node, c: Node, limit: Node, y: Node) -> Node | None:
    """where(y < lo, lo, y), and where(hi < y, hi, y), which may follow it; a limit that is not a
    constant stands as where(lo == lo, y, lo) for its NaN.
    """
    bound = _unstretched(limit)
    if y.op is e.WHERE and y.inputs[2] is limit:
        test = _unstretched(y.inputs[0])
        if test.op is e.EQUAL and {_unstretched(x) for x in test.inputs} == {bound}:
            y = y.inputs[1]
    if c.op is not e.LESS or bound.type.size != 1 or y.type.dtype is bool_:
        return None
    bound = reshaped(bound, ())
    if c.inputs[0] is y and _same(c.inputs[1], limit):
        return operator("Clip", [y, bound], node.type)
    if c.inputs[1] is not y or not _same(c.inputs[0], limit):
        return None
    if is_operator(y, "Clip") and len(y.inputs) == 2 and not y.attrs.absent:
        return operator("Clip", [*y.inputs, bound], node.type)
    return operator("Clip", [y, None, bound], node.type)


def _limited(node: Node, c: Node, x: Node, y: Node) -> Node | None:
    """where(x <= lo, lo, where(hi <= x, hi, x)), and relu."""
    lo = number(x)
    if c.op is not e.LESS_EQUAL or lo is None or number(c.inputs[1]) != lo:
        return None
    source = c.inputs[0]
    if y is source and lo == 0:
        return operator("Relu", [source], node.type)
    if y.op is not e.WHERE or y.inputs[2] is not source or y.inputs[0].op is not e.LESS_EQUAL:
        return None
    hi, (limit, compared) = number(y.inputs[1]), y.inputs[0].inputs
    if hi is None or number(limit) != hi or compared is not source:
        return None
    limits = [constant(np.asarray(v, node.type.dtype.numpy)) for v in (lo, hi)]
    return operator("Clip", [source, *limits], node.type)


def _divide(node: Node, x: Node, y: Node) -> Node | None:
    """Means and softmax."""
    inner, count = base(x), number(y)
    if count is not None and inner.op is e.MULTIPLY:
        pool = inner.inputs[0]
        if is_operator(pool, "AveragePool") and number(inner.inputs[1]) == count:
            return reshaped(pool, node.shape)
    if count is not None and inner.op is m.SUM:
        source, axes = inner.inputs[0], inner.attrs
        if count == math.prod(source.shape[a] for a in axes):
            return _mean(node, source, axes)
    return _softmax(node, x, y)


def _mean(node: Node, x: Node, axes: tuple[int, ...]) -> Node:
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    if x.ndim > 2 and axes == tuple(range(2, x.ndim)):
        y = operator("GlobalAveragePool", [x], x.type.with_shape(kept))
    else:
        vector = constant(np.array(axes, np.int64))
        keep = node.shape == kept
        shape = kept if keep else tuple(n for a, n in enumerate(x.shape) if a not in axes)
        y = operator("ReduceMean", [x, vector], x.type.with_shape(shape), keepdims=int(keep))
    return reshaped(y, node.shape)


def _unstretched(x: Node) -> Node:
    """What a value is before it was broadcast and reshaped."""
    while x.op in (m.BROADCAST_TO, m.RESHAPE) and x.data is None:
        x = x.inputs[0]
    return x


def _constant_along(x: Node, axis: int) -> bool:
    """Whether a value was one element along an axis, before it was broadcast to its shape."""
    if x.op is not m.BROADCAST_TO or x.data is not None:
        return x.shape[axis] == 1
    source, at = x.inputs[0], axis - (x.ndim - x.inputs[0].ndim)
    return at < 0 or source.shape[at] == 1


def _kept_sum(y: Node, x: Node) -> int | None:
    """The axis of which y is the sum of x, kept with size 1 and broadcast back."""
    total = _unstretched(y)
    if total.op is not m.SUM or total.inputs[0] is not x or len(total.attrs) != 1:
        return None
    axis: int = total.attrs[0]
    kept = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    source = y.inputs[0] if y.op is m.BROADCAST_TO else y
    return axis if source.shape == kept else None


def _shifted(x: Node, axis: int) -> Node | None:
    """z where x is z minus what is one number along an axis, which no softmax sees."""
    if x.op is not e.SUBTRACT or not _constant_along(x.inputs[1], axis):
        return None
    shift = _unstretched(x.inputs[1])  # as softmax takes it: the largest, or 0 if that is infinite
    if shift.op is not e.WHERE or shift.inputs[0].op is not e.ISINF:
        return None
    return x.inputs[0] if _unstretched(shift.inputs[2]).op is reduce.MAX else None


def _softmax(node: Node, x: Node, y: Node) -> Node | None:
    axis = _kept_sum(y, x)
    if axis is None or x.op is not f.EXP:
        return None
    z = _shifted(x.inputs[0], axis)
    return None if z is None else operator("Softmax", [z], node.type, axis=axis)


def _subtract(node: Node, x: Node, y: Node) -> Node | None:
    """log_softmax: s - log(sum(exp(s)))."""
    source = y.inputs[0] if y.op is m.BROADCAST_TO else y
    if source.op is not f.LOG:
        return None
    total = _unstretched(source.inputs[0])
    if total.op is not m.SUM or total.inputs[0].op is not f.EXP:
        return None
    axis = _kept_sum(source.inputs[0], total.inputs[0])
    if axis is None or total.inputs[0].inputs[0] is not x:
        return None
    z = _shifted(x, axis)
    return None if z is None else operator("LogSoftmax", [z], node.type, axis=axis)


def _pooled(x: Node, windows: tuple[Window, ...], output: int) -> Node | None:
    """Values (0) or indices into the whole tensor (1) of a max pool."""
    flat, pads = placed(x, windows, 2)
    if flat is not x or x.type.dtype.name not in POOLED:
        return None
    shape = (*x.shape[:2], *(w.out_size for w in windows))
    return operator(
        "MaxPool", [x], TensorType(shape, int64 if output else x.type.dtype), output=output,
        dilations=[w.rhs_dilation for w in windows],
        kernel_shape=[w.kernel_size for w in windows],
        pads=pads, strides=[w.stride for w in windows],
    )  # fmt: skip


def _argmax_pool(node: Node, x: Node) -> Node | None:
    whole = _pooled(x, node.attrs, 1)
    if whole is None:
        return None
    size = constant(np.asarray(math.prod(x.shape[2:]), np.int64))
    return operator("Mod", [whole, size], node.type)  # ONNX counts through batch and channels


def _take_along_axis(node: Node, x: Node, i: Node) -> Node | None:
    """The values at the indices of a max pool of the same input are its first output."""
    found = base(i)
    if not is_operator(found, "Mod") or not is_operator(found.inputs[0], "MaxPool"):
        return None
    whole = found.inputs[0]
    source, attrs = whole.inputs[0], whole.attrs
    if base(source) is not base(x) or source.shape[:2] != x.shape[:2] or node.attrs.axis != 2:
        return None
    type = source.type.with_shape(whole.shape)
    return reshaped(operator("MaxPool", [source], type, **dict(attrs.attributes)), node.shape)


# ---- what is composed ----------------------------------------------------------------------


def _expm1(node: Node, x: Node) -> Node:
    """2t / (1 - t) with t = tanh(x/2), which keeps the digits of a small x."""
    near = e.where(e.less(f.abs(x), 1.0), x, 0.0)
    t = f.tanh(e.multiply(near, 0.5))
    exact = e.divide(e.multiply(t, 2.0), e.subtract(1.0, t))
    return e.where(e.less(f.abs(x), 1.0), exact, e.subtract(f.exp(x), 1.0))


def _log1p(node: Node, x: Node) -> Node:
    """log(u) * x / (u - 1) with u = 1 + x, where rounding cancels."""
    u = e.add(x, 1.0)
    beyond = e.logical_or(e.equal(u, 1.0), e.isinf(x))
    d = e.where(beyond, 1.0, e.subtract(u, 1.0))
    return e.where(beyond, x, e.multiply(f.log(u), e.divide(x, d)))


def _hypot(node: Node, x: Node, y: Node) -> Node:
    x, y = f.abs(x), f.abs(y)
    larger, smaller = e.maximum(x, y), e.minimum(x, y)
    plain = e.logical_or(e.equal(larger, 0.0), e.isinf(larger))
    ratio = e.divide(e.where(plain, 0.0, smaller), e.where(plain, 1.0, larger))
    return e.multiply(larger, f.sqrt(e.add(e.multiply(ratio, ratio), 1.0)))


def _signbit(node: Node, x: Node) -> Node:
    return e.logical_or(e.less(x, 0.0), e.less(f.reciprocal(x), 0.0))  # 1 / -0.0 = -inf


def _atan2(node: Node, y: Node, x: Node) -> Node:
    """atan(y / x), turned by half a circle where x is negative."""
    minus = _signbit(node, x)
    both = e.logical_and(e.isinf(x), e.isinf(y))
    neither = e.logical_and(e.equal(x, 0.0), e.equal(y, 0.0))
    a = f.abs(e.where(both, e.where(e.less(y, 0.0), -1.0, 1.0), y))
    b = f.abs(e.where(both, 1.0, e.where(neither, 1.0, x)))
    angle = f.atan(e.divide(a, b))
    angle = e.where(minus, e.subtract(math.pi, angle), angle)
    return e.where(_signbit(node, y), e.negative(angle), angle)


def _floor_divide(node: Node, x: Node, y: Node) -> Node:
    if node.type.dtype.kind == "u":
        return operator("Div", [x, y], node.type)
    whole = e.subtract(x, _remainder(node, x, y))
    if not node.type.dtype.is_floating:
        return operator("Div", [whole, y], node.type)
    by_zero = e.logical_or(e.equal(y, 0.0), e.isinf(x))
    return e.where(by_zero, e.divide(x, y), f.round(e.divide(whole, y)))


def _remainder(node: Node, x: Node, y: Node) -> Node:
    if not node.type.dtype.is_floating:
        return operator("Mod", [x, y], node.type)  # the sign of y
    r = operator("Mod", [x, y], node.type, fmod=1)  # the sign of x
    turned = e.logical_xor(e.less(r, 0.0), e.less(y, 0.0))
    return e.where(e.logical_or(e.equal(r, 0.0), e.logical_not(turned)), r, e.add(r, y))


def _put_add(node: Node, g: Node, i: Node) -> Node:
    axis = node.attrs.axis
    along = m.reshape(i, [g.shape[a] if a == axis else 1 for a in range(g.ndim)])
    return apply(index.SCATTER_ADD, (g, m.broadcast_to(along, g.shape)), node.attrs)


def _pad(node: Node, x: Node) -> Node:
    """Gaps between neighbours are zeros along a new axis, merged: [.., n] -> [.., n, 1 + gap]."""
    attrs = node.attrs
    for axis, p in enumerate(attrs.axes):
        if p.interior:
            lead, n, rest = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
            split = m.reshape(x, (*lead, n, 1, *rest))
            widths = [(0, p.interior if a == axis + 1 else 0) for a in range(split.ndim)]
            merged = m.reshape(
                m.pad(split, widths, attrs.value), (*lead, n * (1 + p.interior), *rest)
            )
            x = m.pad(merged, [(0, -p.interior if a == axis and n else 0) for a in range(x.ndim)])
    return m.pad(x, [(p.lo, p.hi) for p in attrs.axes], attrs.value)


def _of_bools(op: Op) -> Rule:
    """`op` where the operands are bools."""
    return lambda node, *xs: apply(op, xs) if xs[0].type.dtype is bool_ else None


def _less(op: Op) -> Rule:
    def rule(node: Node, *xs: Node) -> Node | None:
        if xs[0].type.dtype is not bool_:
            return None
        return apply(op, tuple(e.cast(x, int32) for x in xs))

    return rule


def _rounded(node: Node, x: Node) -> Node | None:
    return None if node.type.dtype.is_floating else x


def _trunc(node: Node, x: Node) -> Node:
    return e.where(e.less(x, 0), f.ceil(x), f.floor(x)) if node.type.dtype.is_floating else x


RULES: dict[Op, Rule] = {
    CONV: lambda node, x, w: convolution(node.attrs, x, w),
    ARGMAX_POOL: _argmax_pool,
    index.TAKE_ALONG_AXIS: _take_along_axis,
    index.PUT_ADD: _put_add,
    m.RESHAPE: lambda node, x: reshaped(x, node.shape),
    m.TRANSPOSE: lambda node, x: transposed(x, node.attrs),
    m.ALIAS: lambda node, x: x,
    m.PAD: _pad,
    reduce.STOP_GRADIENT: lambda node, x: x,
    e.ADD: _add,
    e.SUBTRACT: _subtract,
    e.DIVIDE: _divide,
    e.WHERE: _where,
    e.MAXIMUM: _of_bools(e.LOGICAL_OR),
    e.MINIMUM: _of_bools(e.LOGICAL_AND),
    e.NEGATIVE: lambda node, x: e.subtract(0, x) if x.type.dtype.kind == "u" else None,
    e.NOT_EQUAL: lambda node, x, y: e.logical_not(e.equal(x, y)),
    e.LESS: _less(e.LESS),
    e.LESS_EQUAL: _less(e.LESS_EQUAL),
    e.FLOOR_DIVIDE: _floor_divide,
    e.REMAINDER: _remainder,
    e.ATAN2: _atan2,
    e.BITWISE_AND: _of_bools(e.LOGICAL_AND),
    e.BITWISE_OR: _of_bools(e.LOGICAL_OR),
    e.BITWISE_XOR: _of_bools(e.LOGICAL_XOR),
    e.BITWISE_INVERT: _of_bools(e.LOGICAL_NOT),
    f.EXPM1: _expm1,
    f.LOG1P: _log1p,
    f.LOG2: lambda node, x: e.multiply(f.log(x), 1 / math.log(2)),
    f.LOG10: lambda node, x: e.multiply(f.log(x), 1 / math.log(10)),
    f.RSQRT: lambda node, x: f.reciprocal(f.sqrt(x)),
    f.SQUARE: lambda node, x: e.multiply(x, x),
    f.FLOOR: _rounded,
    f.CEIL: _rounded,
    f.ROUND: _rounded,
    f.TRUNC: _trunc,
    special.HYPOT: _hypot,
    special.SIGNBIT: _signbit,
}
