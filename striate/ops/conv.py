"""Convolution: one bilinear primitive, closed under differentiation.

A convolution is a trilinear form T(x, w, g) on

    x: [N, G, C, *I]        w: [G, K, C, *W]        g, y: [N, G, K, *O]

where each spatial axis is a `Window`. The forward pass and its two adjoints are the three partial
contractions of T, each again this primitive with relabelled axes:

    y  = conv(x, w)                                     contracts C, *W
    dx = conv(g, w with K, C exchanged; lhs adjoint)    contracts K, *W
    dw = conv(x, g with N as features; rhs adjoint)     contracts N, *O

Without spatial axes it is a batched matrix product. Positions outside the input contribute
nothing (they are not multiplied by zero, so an infinite weight does not make NaN at a border).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from math import prod
from types import EllipsisType

import numpy as np
from numpy.lib.stride_tricks import as_strided

from striate.dtype import int32, int64
from striate.errors import DTypeError, ShapeError
from striate.ir.arguments import integer
from striate.ir.graph import Cotangents, Node, Op, Value, apply
from striate.ir.types import TensorType
from striate.ops.elementwise import BFLOAT16, add
from striate.ops.movement import transpose
from striate.ops.window import Window

COLUMN_BYTES = 1 << 24  # the gathered columns of one product: about what stays in L2 and L3
FEW_OUTPUTS = 16  # fewer output positions than this: the batch joins them in one product


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """The sizes of one convolution: lhs[N, G, C, *I], rhs[G, K, C, *W] -> out[N, G, K, *O].

    Attributes:
        batch, groups, in_features, out_features: N, G, C, K; features are per group.
        windows: one `Window` per spatial axis; none is a batched matrix product.

    Raises:
        DTypeError: a size is not an integer, or `windows` not a tuple of windows.
        ShapeError: a size is negative.
        RangeError: a size is beyond 2**63 - 1.
    """

    batch: int
    groups: int
    in_features: int
    out_features: int
    windows: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch", "groups", "in_features", "out_features"):
            size = integer("ConvSpec", name, getattr(self, name), 0)
            object.__setattr__(self, name, size)
        windows = self.windows
        if not isinstance(windows, tuple) or not all(isinstance(t, Window) for t in windows):
            raise DTypeError(f"ConvSpec: windows must be a tuple of Window, got {windows!r}")

    @property
    def lhs_shape(self) -> tuple[int, ...]:
        """[N, G, C, *I]"""
        sizes = (w.in_size for w in self.windows)
        return (self.batch, self.groups, self.in_features, *sizes)

    @property
    def rhs_shape(self) -> tuple[int, ...]:
        """[G, K, C, *W]"""
        sizes = (w.kernel_size for w in self.windows)
        return (self.groups, self.out_features, self.in_features, *sizes)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """[N, G, K, *O]"""
        sizes = (w.out_size for w in self.windows)
        return (self.batch, self.groups, self.out_features, *sizes)

    @property
    def macs(self) -> int:
        """Multiply-adds, those with padding included."""
        return prod(self.out_shape) * self.in_features * prod(w.kernel_size for w in self.windows)

    def lhs_adjoint(self) -> ConvSpec:
        """The spec of (g, w -> dx): C and K exchange, windows take their lhs adjoint."""
        return replace(
            self,
            in_features=self.out_features,
            out_features=self.in_features,
            windows=tuple(w.lhs_adjoint() for w in self.windows),
        )

    def rhs_adjoint(self) -> ConvSpec:
        """The spec of (x, g -> dw): N and C exchange, windows take their rhs adjoint."""
        return replace(
            self,
            batch=self.in_features,
            in_features=self.batch,
            windows=tuple(w.rhs_adjoint() for w in self.windows),
        )


# ---- the primitive -------------------------------------------------------------------------


def swap(x: Node, a: int, b: int) -> Node:
    """`x` with two axes exchanged."""
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return transpose(x, tuple(order))


def conv(x: Node, w: Node, spec: ConvSpec) -> Node:
    """The primitive on nodes: x[N, G, C, *I], w[G, K, C, *W] -> [N, G, K, *O]."""
    return apply(CONV, (x, w), spec)


def conv_lhs_adjoint(g: Node, w: Node, spec: ConvSpec) -> Node:
    """g[N, G, K, *O], w[G, K, C, *W] -> dx[N, G, C, *I]; `spec` is that of the forward pass."""
    return conv(g, swap(w, 1, 2), spec.lhs_adjoint())  # w -> [G, C, K, *W]


def conv_rhs_adjoint(x: Node, g: Node, spec: ConvSpec) -> Node:
    """x[N, G, C, *I], g[N, G, K, *O] -> dw[G, K, C, *W]; `spec` is that of the forward pass."""
    order = (1, 2, 0, *range(3, g.ndim))
    dw = conv(swap(x, 0, 2), transpose(g, order), spec.rhs_adjoint())  # [C,G,N,*I], [G,K,N,*O]
    return transpose(dw, order)  # [C, G, K, *W] -> [G, K, C, *W]


def check_dtypes(op: str, x: TensorType, w: TensorType) -> None:
    """Whether products of two operands can be summed.

    Raises:
        DTypeError: the dtypes differ, or have no room for sums.
    """
    if x.dtype is not w.dtype:
        raise DTypeError(f"{op}: lhs and rhs must have one dtype, got {x} and {w}; cast one")
    if not x.dtype.is_floating and x.dtype not in (int32, int64):
        raise DTypeError(
            f"{op}: {x.dtype.name} has no room for sums of products (lhs {x}, rhs {w}); "
            "cast both to int32, int64 or a floating dtype"
        )


def _infer(spec: ConvSpec, x: TensorType, w: TensorType) -> TensorType:
    for name, given, wanted in (("lhs", x, spec.lhs_shape), ("rhs", w, spec.rhs_shape)):
        if given.shape != wanted:
            raise ShapeError(
                f"conv: {name} must have shape {wanted} for {spec}, got {given} (lhs {x}, rhs {w})"
            )
    check_dtypes("conv", x, w)
    return TensorType(spec.out_shape, x.dtype)


def _vjp(spec: ConvSpec, g: Node, out: Node, x: Node, w: Node) -> Cotangents:
    return conv_lhs_adjoint(g, w, spec), conv_rhs_adjoint(x, g, spec)


def _jvp(spec: ConvSpec, tangents: Cotangents, out: Node, x: Node, w: Node) -> Node | None:
    dx, dw = tangents
    parts = [conv(dx, w, spec)] if dx is not None else []
    parts += [conv(x, dw, spec)] if dw is not None else []
    return add(*parts) if len(parts) == 2 else parts[0]


# ---- NumPy: the definition, made of dense parts --------------------------------------------

Index = tuple[slice | int | EllipsisType, ...]
_LEAD = (slice(None),) * 3  # all of [n, g, c]


def _reference(spec: ConvSpec, x: Value, w: Value) -> Value:
    stored = x.dtype
    if stored == BFLOAT16:
        x, w = x.astype(np.float32), w.astype(np.float32)
    y = np.zeros(spec.out_shape, x.dtype)
    if 0 in y.shape or 0 in x.shape or 0 in w.shape:
        return y.astype(stored, copy=False)
    for phases in itertools.product(*(t.live_phases() for t in spec.windows)):
        out: Index = (*_LEAD, *(f.out for f in phases))
        taps: Index = (*_LEAD, *(f.kernel or slice(0) for f in phases))
        windows = tuple(f.window for f in phases if f.window is not None)
        y[out] = _dense(x, w[taps], windows)
    return y.astype(stored, copy=False)


def _dense(x: Value, w: Value, windows: tuple[Window, ...]) -> Value:
    """conv where every `lhs_dilation` is 1, by the schedule that fits the sizes."""
    reads = [t.reads() for t in windows]
    padded = any(lo < 0 or hi >= t.in_size for (lo, hi), t in zip(reads, windows, strict=True))
    sparse = prod(hi - lo + 1 for lo, hi in reads) > 4 * prod(t.in_size + 16 for t in windows)
    thin = x.shape[2] == 1 and w.shape[1] <= 2
    if sparse or thin or (padded and w.dtype.kind == "f" and not np.isfinite(w).all()):
        return _by_taps(x, w, windows)
    return _by_columns(x, w, windows)


def _by_taps(x: Value, w: Value, windows: tuple[Window, ...]) -> Value:
    """One product per tap, or per output where those are fewer; reads no padding at all."""
    if prod(t.kernel_size for t in windows) > prod(t.out_size for t in windows):
        return _by_outputs(x, w, windows)
    n, g, c = x.shape[:3]
    k = w.shape[1]
    y = np.zeros((n, g, k, *(t.out_size for t in windows)), x.dtype)
    for tap in itertools.product(*(range(t.kernel_size) for t in windows)):
        pairs = [_meets(t, k) for t, k in zip(windows, tap, strict=True)]
        outs: Index = (*_LEAD, *(outputs for outputs, _ in pairs))
        ins: Index = (*_LEAD, *(inputs for _, inputs in pairs))
        at: Index = (*_LEAD, *tap)
        part, weight = x[ins], w[at]  # [n, g, c, *o], [g, k, c]
        if not part.size:
            continue
        if c == 1:
            y[outs] += part * weight.reshape(1, g, k, *(1,) * len(windows))
        else:
            flat = np.matmul(weight, part.reshape(n, g, c, -1))  # -> [n, g, k, o]
            y[outs] += flat.reshape(n, g, k, *part.shape[3:])
    return y


def _by_outputs(x: Value, w: Value, windows: tuple[Window, ...]) -> Value:
    """One product per output: the taps of an output are the outputs of a tap, exchanged."""
    n, g = x.shape[:2]
    k = w.shape[1]
    y = np.zeros((n, g, k, *(t.out_size for t in windows)), x.dtype)
    turned = [t.rhs_adjoint() for t in windows]
    for out in itertools.product(*(range(t.out_size) for t in windows)):
        pairs = [_meets(t, o) for t, o in zip(turned, out, strict=True)]
        taps: Index = (*_LEAD, *(taken for taken, _ in pairs))
        ins: Index = (*_LEAD, *(inputs for _, inputs in pairs))
        if x[ins].size:
            rows = x[ins].reshape(n, g, -1).transpose(1, 0, 2)  # [g, n, c*w]
            flat = w[taps].reshape(g, k, -1).transpose(0, 2, 1)  # [g, c*w, k]
            at: Index = (*_LEAD, *out)
            y[at] = np.matmul(rows, flat).transpose(1, 0, 2)  # -> [n, g, k]
    return y


def _meets(window: Window, tap: int) -> tuple[slice, slice]:
    """(outputs, inputs) that meet through one tap of a dense window."""
    outs = window.outputs_of(tap)
    if not outs:
        return slice(0, 0), slice(0, 0)
    shift = window.rhs_dilation * tap - window.pad_lo
    first, last = (window.stride * o + shift for o in (outs[0], outs[-1]))
    stop = last + (1 if window.stride > 0 else -1)
    return slice(outs.start, outs.stop), slice(first, stop if stop >= 0 else None, window.stride)


def _by_columns(x: Value, w: Value, windows: tuple[Window, ...]) -> Value:
    """Gather [*W, *O] columns of the padded input and multiply: matrix products in BLAS."""
    n, g, c = x.shape[:3]
    k = w.shape[1]
    outs = tuple(t.out_size for t in windows)
    taps = tuple(t.kernel_size for t in windows)
    largest = max(range(len(outs)), key=outs.__getitem__, default=None)
    image = g * c * prod(taps) * prod(outs) * x.itemsize
    if largest is not None and image > 8 * COLUMN_BYTES and outs[largest] > FEW_OUTPUTS:
        halves = [_by_columns(x, w, part) for part in _halves(windows, largest)]
        return np.concatenate(halves, axis=3 + largest)
    view = _columns(x, windows)  # [n, g, c, *w, *o]
    if prod(outs) < FEW_OUTPUTS:
        axes = list(range(view.ndim))
        r = len(windows)
        order = [1, 0, *axes[3 + r :], 2, *axes[3 : 3 + r]]  # [g, n, *o, c, *w]
        flat = w.reshape(g, k, -1).transpose(0, 2, 1)  # [g, c*w, k]
        y = np.empty((g, n, *outs, k), x.dtype)
        for part in _chunks(n, view[0].size * x.itemsize):
            rows = view[part].transpose(order)
            m = rows.shape[1] * prod(outs)
            y[:, part] = np.matmul(rows.reshape(g, m, -1), flat).reshape(g, -1, *outs, k)
        return np.moveaxis(y, (0, -1), (1, 2))  # [g, n, *o, k] -> [n, g, k, *o]
    y = np.empty((n, g, k, *outs), x.dtype)
    flat = w.reshape(g, k, -1)
    for part in _chunks(n, view[0].size * x.itemsize):
        cols = view[part].reshape(-1, g, c * prod(taps), prod(outs))
        y[part] = np.matmul(flat, cols).reshape(-1, g, k, *outs)  # [g,k,cw] [n,g,cw,o]
    return y


def _halves(windows: tuple[Window, ...], axis: int) -> list[tuple[Window, ...]]:
    """The windows of the first and of the second half of the outputs of one axis."""
    t = windows[axis]
    half = t.out_size // 2
    first = replace(t, out_size=half)
    second = replace(t, out_size=t.out_size - half, pad_lo=t.pad_lo - t.stride * half)
    return [(*windows[:axis], part, *windows[axis + 1 :]) for part in (first, second)]


def _chunks(n: int, bytes_each: int) -> list[slice]:
    step = max(1, COLUMN_BYTES // max(1, bytes_each))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _columns(x: Value, windows: tuple[Window, ...]) -> Value:
    """The strided view [n, g, c, *w, *o] of the part of the zero-padded input that is read."""
    inside, widths, starts = [], [], []
    for t in windows:
        lo, hi = t.reads()
        inside.append(slice(min(max(lo, 0), t.in_size), max(min(hi + 1, t.in_size), 0)))
        present = len(range(*inside[-1].indices(t.in_size)))
        before = min(max(-lo, 0), hi - lo + 1)
        widths.append((before, hi - lo + 1 - before - present))
        starts.append(-t.pad_lo - lo)
    within: Index = (..., *inside)
    x = x[within]
    if any(w != (0, 0) for w in widths):
        x = np.pad(x, [(0, 0)] * 3 + widths)
    origin: Index = (..., *(slice(s, None) for s in starts))
    x = x[origin]
    steps = x.strides[3:]
    return as_strided(
        x,
        shape=(*x.shape[:3], *(t.kernel_size for t in windows), *(t.out_size for t in windows)),
        strides=(
            *x.strides[:3],
            *(t.rhs_dilation * s for t, s in zip(windows, steps, strict=True)),
            *(t.stride * s for t, s in zip(windows, steps, strict=True)),
        ),
        writeable=False,
    )


CONV: Op = Op("conv", _infer, _reference, _vjp, _jvp)
