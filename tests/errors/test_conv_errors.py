"""Wrong calls and what they say: (function, arguments, exception, message)."""

# ruff: noqa: E501 (one row a call)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import striate as st

S, D, R = st.ShapeError, st.DTypeError, st.RangeError
LEAST, LARGEST = -(2**63), 2**63 - 1


class Case(NamedTuple):
    """A call that must fail."""

    call: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]
    error: type[Exception]
    message: str


def bad(call: Callable[..., Any], *args: Any, raises: Any, match: str, **options: Any) -> Case:
    return Case(call, args, options, raises, match)


def name_of(case: Case) -> str:
    options = ",".join(f"{k}={v!r}" for k, v in case.options.items())
    return f"{getattr(case.call, '__name__', 'call')}-{options or case.message}"[:60]


def ones(*shape: int, dtype: str = "f4") -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


X, W = ones(1, 4, 8, 8), ones(6, 4, 3, 3)  # one convolution that works
Y, V = ones(1, 6, 8, 8), ones(6, 4, 3, 3)  # one transposed convolution
X1, W1 = ones(1, 4, 8), ones(6, 4, 3)


def conv(raises: Any, match: str, x: Any = X, w: Any = W, **options: Any) -> Case:
    return bad(st.conv, x, w, raises=raises, match="^conv: " + match, **options)


def back(raises: Any, match: str, x: Any = Y, w: Any = V, **options: Any) -> Case:
    return bad(st.conv_transpose, x, w, raises=raises, match="^conv_transpose: " + match, **options)


SPANS = "spatial axis 0 of f32.*: window: "
COMMON: list[tuple[Any, str, dict[str, Any]]] = [  # of both functions
    (S, "groups must be >= 1, got 0", {"groups": 0}),
    (S, "groups must be >= 1, got -1", {"groups": -1}),
    (S, f"groups must be >= 1, got {LEAST}", {"groups": LEAST}),
    (R, r"groups 9223372036854775808 is beyond the limit \d+ \(2\*\*63 - 1\)", {"groups": 2**63}),
    (D, r"groups must be an integer, got 2\.0", {"groups": 2.0}),
    (D, "groups must be an integer, got None", {"groups": None}),
    (D, "groups must be an integer, got True", {"groups": True}),
    (D, r"groups must be an integer, got \(1, 1\)", {"groups": (1, 1)}),
    (D, "groups must be an integer, got '2'", {"groups": "2"}),
    (S, "stride must be >= 1, got 0", {"stride": 0}),
    (S, "stride must be >= 1, got -2", {"stride": (1, -2)}),
    (S, r"stride has 3 values for 2 spatial axes: \(1, 1, 1\)", {"stride": (1, 1, 1)}),
    (S, "stride has 0 values for 2 spatial axes", {"stride": ()}),
    (D, r"stride must be integers, got 1\.0", {"stride": 1.0}),
    (D, "stride must be integers, got nan", {"stride": float("nan")}),
    (D, "stride must be integers, got None", {"stride": None}),
    (D, "stride must be integers, got '2'", {"stride": "2"}),
    (D, "stride must be integers, got True", {"stride": True}),
    (D, r"stride must be an integer, got 1\.5", {"stride": (1, 1.5)}),
    (R, "stride 9223372036854775808 is beyond the limit", {"stride": 2**63}),
    (S, "dilation must be >= 1, got 0", {"dilation": 0}),
    (S, "dilation must be >= 1, got -1", {"dilation": -1}),
    (D, "dilation must be an integer, got None", {"dilation": (1, None)}),
    (R, "dilation 9223372036854775808 is beyond the limit", {"dilation": 2**63}),
    (D, "padding must be integers, got None", {"padding": None}),
    (D, r"padding must be integers, got 1\.5", {"padding": 1.5}),
    (D, "padding must be integers, got nan", {"padding": float("nan")}),
    (D, "padding must be an integer, got 'a'", {"padding": [(1, "a"), (1, 1)]}),
    (D, r"padding must be an integer, got \(1, 2\)", {"padding": [(1, 2), 3]}),
    (S, "padding 'SAME' is not 'valid', 'same', 'same_lower' or 'causal'", {"padding": "SAME"}),
    (S, "padding has 3 values for 2 spatial axes", {"padding": (1, 2, 3)}),
    (S, r"padding wants 2 pairs \(lo, hi\)", {"padding": [(1, 2)] * 3}),
    (S, r"padding must be a pair \(lo, hi\), got \(1, 2, 3\)", {"padding": [(1, 2, 3)] * 2}),
    (R, "padding 9223372036854775808 is beyond the limit", {"padding": 2**63}),
    (R, "padding -9223372036854775808 is beyond the limit", {"padding": LEAST}),
    (S, "padding_mode 'edge' is not 'zeros' or one of", {"padding_mode": "edge"}),
    (S, "padding_mode None is not 'zeros' or one of", {"padding_mode": None}),
    (S, "data_format 'nchw' is not one of .*NCHW.* for 2 spatial axes", {"data_format": "nchw"}),
    (S, "data_format 'NCDHW' is not one of", {"data_format": "NCDHW"}),
    (S, "data_format None is not one of", {"data_format": None}),
    (S, r"data_format \[\] is not one of", {"data_format": []}),
]
CONV = [
    *(conv(error, message, **options) for error, message, options in COMMON),
    conv(S, r"x has 4 channels, w expects 4 \* 3 groups = 12", groups=3),
    conv(S, r"x has 4 channels, w expects 3 \* 1 groups = 3 \(x f32\[1,4,8,8\]", w=ones(6, 3, 3, 3)),
    conv(S, "the 6 filters of w .* do not divide into 4 groups", w=ones(6, 1, 3, 3), groups=4),
    conv(S, r"x has 4 channels, w expects 4 \* \d+ groups", groups=LARGEST),
    conv(S, "a kernel size must be >= 1, got", w=ones(6, 4, 0, 3)),
    conv(S, "a filter has two axes or more, .* got w f32.6.", w=ones(6)),
    conv(S, r"w f32\[6,4,3\] has 1 spatial axes, so x must have 3 axes .or 2 without a batch., got x", w=ones(6, 4, 3)),
    conv(S, r"w .* so x must have 4 axes .*, got x f32\[8,8\]", x=ones(8, 8)),
    conv(S, SPANS + r"a kernel of 9 .* spans 9, more than the padded input of 8", w=ones(6, 4, 9, 9)),
    conv(S, SPANS + r"a kernel of 3 .* spans 3, .* padded input of 2 \(8 \+ padding -3, -3\)", padding=-3),
    conv(S, SPANS + "a kernel of 3 .* more than the padded input of 0", x=ones(1, 4, 0, 8)),
    conv(S, SPANS + f"a kernel of 3 with dilation {2**31} spans {2**32 + 1}", dilation=2**31),
    conv(S, SPANS + f"a kernel of 3 with dilation {2**40}", dilation=2**40),
    conv(R, SPANS + r".*must be at most \d+ \(2\*\*63 - 1\)", dilation=2**62),
    conv(R, SPANS + r".*must be at most \d+ \(2\*\*63 - 1\)", dilation=LARGEST),
    conv(R, SPANS + ".*must be at most", X1, W1, padding=2**62),
    conv(R, SPANS + ".*must be at most", X1, W1, padding=2**63 - 5),
    conv(S, SPANS + ".*more than the padded input of -9223372036854775800", X1, W1, padding=-(2**62)),
    conv(S, r"reflect padding \(8, 8\) must be at most 7 for an axis of size 8", padding=8, padding_mode="reflect"),
    conv(S, r"circular padding \(9, 9\) must be at most 8", padding=9, padding_mode="circular"),
    conv(S, "replicate padding .* of an axis of size 0 copies nothing", x=ones(1, 4, 0, 8), padding=1, padding_mode="replicate"),
    conv(S, r"a crop of \(-5, -5\) is larger than the axis of 8", padding=-5, padding_mode="replicate"),
    conv(R, "padding .* is beyond", padding=2**62, padding_mode="replicate"),
    conv(MemoryError, "replicate padding .* needs .* bytes; this machine has", padding=2**50, padding_mode="replicate"),
    conv(S, r"bias must have shape \(6,\), got f32\[5\]", bias=ones(5)),
    conv(S, r"bias must have shape \(6,\), got f32\[6,1\]", bias=ones(6, 1)),
    conv(S, r"bias must have shape \(6,\), got f32\[\]", bias=3.0),
    conv(D, "bias f32.* has no place in the sums of i32", x=X.astype("i4"), w=W.astype("i4"), bias=ones(6)),
    conv(D, "int8 has no room for sums of products .* cast both to", x=X.astype("i1"), w=W.astype("i1")),
    conv(D, "uint8 has no room", x=X.astype("u1"), w=W.astype("u1")),
    conv(D, "int16 has no room", x=X.astype("i2"), w=W.astype("i2")),
    conv(D, "bool has no room", x=X > 0, w=W > 0),
    conv(D, r"x and w must have one dtype, got x i32.*, w i64.*; cast one", x=X.astype("i4"), w=W.astype("i8")),
    bad(st.conv, X.astype("f2"), W, raises=D, match="float16.* is not a dtype of striate; it has"),
    bad(st.conv, X.astype("c8"), W, raises=D, match="complex64.* is not a dtype of striate"),
    bad(st.conv, "image", W, raises=D, match="is not a dtype of striate"),
    bad(st.conv, None, W, raises=D, match="is not a dtype of striate"),
    bad(st.conv, X, W, bias="b", raises=D, match="is not a dtype of striate"),
]  # fmt: skip
TRANSPOSE = [
    *(back(error, message, **options) for error, message, options in COMMON),
    back(S, r"x has 5 channels, w expects 6 \(x f32", x=ones(1, 5, 8, 8)),
    back(S, "the 6 channels of x .* do not divide into 4 groups", groups=4),
    back(S, "a kernel size must be >= 1", w=ones(6, 4, 3, 0)),
    back(S, "a filter has two axes or more", w=ones(6)),
    back(S, "w .* so x must have 4 axes", x=ones(8, 8)),
    back(S, "output_padding must be less than stride or dilation, got 1 with stride 1", output_padding=1),
    back(S, "output_padding must be >= 0, got -1", output_padding=-1),
    back(S, "output_padding has 3 values", output_padding=(0, 0, 0)),
    back(D, r"output_padding must be integers, got 0\.5", output_padding=0.5),
    back(R, "output_padding 9223372036854775808 is beyond", output_padding=2**63),
    back(S, r"spatial axis 0 .* would get size -2 = \(8 - 1\) \* 1 - 6 - 6 \+ 1 \* \(3 - 1\)", padding=6),
    back(R, "spatial axis 0 .* would get size", stride=2**62),
    back(R, "spatial axis 0 .* would get size", dilation=LARGEST),
    back(R, "spatial axis 0 .* would get size", padding=-(2**62)),
    back(S, r"reflect padding \(4, 4\) must be at most 1 for an axis of size 2", padding=4, padding_mode="reflect"),
    back(S, r"bias must have shape \(4,\), got f32\[6\]", bias=ones(6)),
    back(D, "int8 has no room", x=Y.astype("i1"), w=V.astype("i1")),
]  # fmt: skip

SPEC = st.ConvSpec(1, 1, 4, 6, (st.Window.of(8, 3), st.Window.of(8, 3)))
GENERAL = [
    bad(st.conv_general, X, W, SPEC, raises=S, match=r"^conv: lhs must have shape \(1, 1, 4, 8, 8\)"),
    bad(st.conv_general, X[None], W, SPEC, raises=S, match=r"^conv: rhs must have shape \(1, 6, 4, 3, 3\)"),
    bad(st.conv_general, X[None], W[None].astype("f8"), SPEC, raises=D, match="one dtype, got f32.* and f64.*; cast one"),
    bad(st.conv_general, X, W, None, raises=D, match="^conv_general: spec must be a ConvSpec, got NoneType"),
    bad(st.ConvSpec, 1, 1, 1, -1, raises=S, match="^ConvSpec: out_features must be >= 0, got -1"),
    bad(st.ConvSpec, 1.0, 1, 1, 1, raises=D, match=r"^ConvSpec: batch must be an integer, got 1\.0"),
    bad(st.ConvSpec, 1, None, 1, 1, raises=D, match="^ConvSpec: groups must be an integer, got None"),
    bad(st.ConvSpec, 1, 1, 2**63, 1, raises=R, match="^ConvSpec: in_features .* beyond the limit"),
    bad(st.ConvSpec, 1, 1, 1, 1, [], raises=D, match="^ConvSpec: windows must be a tuple of Window"),
    bad(st.ConvSpec, 1, 1, 1, 1, (3,), raises=D, match=r"^ConvSpec: windows must be a tuple of Window, got \(3,\)"),
    bad(st.conv_matrix, W, SPEC, raises=S, match=r"^conv_matrix: w must have shape \(1, 6, 4, 3, 3\)"),
]  # fmt: skip
WINDOW = [
    bad(st.Window, -1, 1, 1, raises=S, match="^window: in_size must be >= 0, got -1"),
    bad(st.Window, 1, -1, 1, raises=S, match="^window: out_size must be >= 0, got -1"),
    bad(st.Window, 1, 1, -1, raises=S, match="^window: kernel_size must be >= 0, got -1"),
    bad(st.Window, 1, 1, 1, 0, raises=S, match="^window: stride must not be 0"),
    bad(st.Window, 1, 1, 1, 1, 0, raises=S, match="^window: lhs_dilation must not be 0"),
    bad(st.Window, 1, 1, 1, 1, 1, 0, raises=S, match="^window: rhs_dilation must not be 0"),
    bad(st.Window, 1.5, 1, 1, raises=D, match=r"^window: in_size must be an integer, got 1\.5"),
    bad(st.Window, 1, None, 1, raises=D, match="^window: out_size must be an integer, got None"),
    bad(st.Window, 1, 1, float("nan"), raises=D, match="^window: kernel_size must be an integer"),
    bad(st.Window, 1, 1, 1, True, raises=D, match="^window: stride must be an integer, got True"),
    bad(st.Window, 1, 1, 1, pad_lo="0", raises=D, match="^window: pad_lo must be an integer"),
    bad(st.Window, 1, 1, 1, pad_lo=2**63, raises=R, match="^window: pad_lo .* beyond the limit"),
    bad(st.Window, 1, 3, 3, 2**62, 1, 2**62, raises=R, match=r"reaches \d+; the limit is \d+ \(2\*\*63 - 1\)"),
    bad(st.Window, 2**62, 2**62, 1, 2, raises=R, match="reaches"),
    bad(st.Window.of, 8, 0, raises=S, match="^window: kernel_size must be >= 1, got 0"),
    bad(st.Window.of, 8, 3, stride=0, raises=S, match="^window: stride must be >= 1, got 0"),
    bad(st.Window.of, 8, 3, lhs_dilation=-1, raises=S, match="^window: lhs_dilation must be >= 1"),
    bad(st.Window.of, 8, 3, rhs_dilation=0, raises=S, match="^window: rhs_dilation must not be 0"),
    bad(st.Window.of, 8, 3, padding=1, raises=D, match="^window: padding must be integers, got 1"),
    bad(st.Window.of, 8, 3, padding=(1,), raises=S, match=r"^window: padding must be a pair \(lo, hi\)"),
    bad(st.Window.of, 2, 3, raises=S, match="^window: a kernel of 3 .* more than the padded input of 2"),
    bad(st.Window.of, 2, 3, rhs_dilation=-(2**62), raises=R, match="must be at most"),
]  # fmt: skip

A, M = ones(2, 3), ones(3, 4)
MATMUL = [
    bad(st.matmul, A, ones(4, 4), raises=S, match="^matmul: inner sizes must be equal, got 3 and 4"),
    bad(st.matmul, A, 3.0, raises=S, match="^matmul: operands need an axis, got .*; use"),
    bad(st.matmul, ones(2, 2, 3), ones(3, 3, 4), raises=S, match=r"^matmul: shapes \(2,\) and \(3,\) do not broadcast"),
    bad(st.matmul, A > 0, M > 0, raises=D, match="bool has no room for sums of products"),
    bad(st.matmul, A.astype("i1"), M.astype("i1"), raises=D, match="int8 has no room"),
    bad(st.matmul, A.astype("f2"), M, raises=D, match="float16"),
    bad(st.matmul, A, None, raises=D, match="is not a dtype of striate"),
    bad(st.linear, A, ones(4, 2), raises=S, match=r"^linear: wants x \[\*B, C\] and w \[K, C\], got x f32\[2,3\]"),
    bad(st.linear, A, ones(3), raises=S, match="^linear: wants x"),
    bad(st.linear, 1.0, M, raises=S, match="^linear: wants x"),
    bad(st.linear, A, ones(4, 3), ones(5), raises=S, match="do not broadcast"),
]  # fmt: skip
MOVEMENT = [
    bad(st.pad, A, [(1, 1)] * 3, raises=S, match=r"^pad: 3 pairs of widths for the 2 axes of f32\[2,3\]"),
    bad(st.pad, A, 1, raises=D, match="^pad: widths must be pairs"),
    bad(st.pad, A, [1, 1], raises=D, match="^pad: widths must be integers, got 1"),
    bad(st.pad, A, [(1, 2, 3)], raises=S, match="^pad: widths must be a pair"),
    bad(st.pad, A, [(1.5, 1)], raises=D, match=r"^pad: widths must be an integer, got 1\.5"),
    bad(st.pad, A, [(None, 1)], raises=D, match="^pad: widths must be an integer, got None"),
    bad(st.pad, A, [(-2, -2)], raises=S, match="^pad: .* cropped by"),
    bad(st.pad, A, [(2**63, 0)], raises=R, match="^pad: widths 9223372036854775808 is beyond"),
    bad(st.pad, A, [(2**62, 2**62)], raises=R, match=r"needs \d+ bytes; the limit is"),
    bad(st.pad, A, [(1, 1)], "edge", raises=S, match="^pad: padding_mode 'edge' is not"),
    bad(st.pad, A, [(1, 1)], None, raises=S, match="^pad: padding_mode None is not"),
    bad(st.pad, A, [(3, 0)], "reflect", raises=S, match=r"^pad: reflect padding \(3, 0\) must be at most 2 for an axis of size 3"),
    bad(st.pad, A, [(4, 0)], "symmetric", raises=S, match=r"^pad: symmetric padding \(4, 0\) must be at most 3"),
    bad(st.pad, A, [(1, 1)], value="0", raises=D, match="^pad: value must be a number, got '0'"),
    bad(st.pad, A, [(1, 1)], value=None, raises=D, match="^pad: value must be a number"),
    bad(st.pad, A.astype("i4"), [(1, 1)], value=0.5, raises=D, match=r"^pad: int32 has no 0\.5; cast the array"),
    bad(st.pad, A.astype("i4"), [(1, 1)], value=float("nan"), raises=D, match="^pad: int32 has no nan"),
    bad(st.pad, A.astype("u1"), [(1, 1)], value=-1, raises=D, match="^pad: -1 does not fit in uint8"),
    bad(st.reshape, A, (4, -1), raises=S, match="^reshape: .* has 6 elements, not a multiple of the 4"),
    bad(st.reshape, A, (-1, -1), raises=S, match="^reshape: sizes must be >= 0, with at most one -1"),
    bad(st.reshape, A, (5,), raises=S, match=r"^reshape: f32\[2,3\] has 6 elements, shape \(5,\) has 5"),
    bad(st.reshape, A, (2.0, 3), raises=D, match=r"^reshape: shape must be an integer, got 2\.0"),
    bad(st.reshape, A, "23", raises=D, match="^reshape: shape must be integers, got '23'"),
    bad(st.reshape, A, None, raises=D, match="^reshape: shape must be integers, got None"),
    bad(st.reshape, A, (2**63, 0), raises=R, match="^reshape: shape 9223372036854775808 is beyond"),
    bad(st.reshape, A, (2**62, 3), raises=S, match="^reshape: .* has 6 elements"),
    bad(st.permute_dims, A, (0, 0), raises=S, match=r"^transpose: \(0, 0\) is not a permutation of the 2 axes"),
    bad(st.permute_dims, A, (0,), raises=S, match="^transpose: .* is not a permutation"),
    bad(st.permute_dims, A, (0, 2), raises=S, match="^transpose: axis 2 is out of range for 2 axes"),
    bad(st.permute_dims, A, (0, 1.0), raises=D, match=r"^transpose: axes must be an integer, got 1\.0"),
    bad(st.permute_dims, A, 1, raises=D, match="^transpose: axes must be integers, got 1"),
    bad(st.broadcast_to, A, (2, 4), raises=S, match=r"^broadcast_to: f32\[2,3\] does not broadcast to \(2, 4\)"),
    bad(st.broadcast_to, A, (1.5, 2, 3), raises=D, match="^broadcast_to: shape must be an integer"),
    bad(st.broadcast_to, A, (2**62, 2, 3), raises=R, match=r"needs \d+ bytes; the limit is"),
    bad(st.concat, [], raises=S, match="^concat: wants one array or more"),
    bad(st.concat, [A, M], raises=S, match=r"^concat: sizes must agree outside axis 0, got f32\[2,3\] and f32\[3,4\]"),
    bad(st.concat, [A, ones(3)], raises=S, match="^concat: ranks must be equal"),
    bad(st.concat, [A, A], axis=2, raises=S, match="^concat: axis 2 is out of range for 2 axes"),
    bad(st.concat, [1.0, 2.0], raises=S, match="^concat: arrays without axes cannot be joined; use st.stack"),
]  # fmt: skip


def at(*index: Any) -> Callable[[], Any]:
    return lambda: st.asarray(A)[index if len(index) != 1 else index[0]]


INDEX = [
    bad(at(0, 0, 0), raises=S, match="^index: 3 indices and 0 ... for the 2 axes"),
    bad(at(..., ...), raises=S, match="^index: 0 indices and 2 ..."),
    bad(at(2), raises=S, match="^index: 2 is out of range for axis 0 of size 2"),
    bad(at(-3), raises=S, match="^index: -3 is out of range"),
    bad(at(2**63), raises=S, match="^index: 9223372036854775808 is out of range"),
    bad(at(1.0), raises=D, match="^index: float is not an integer, a slice, ... or None; use st.take"),
    bad(at("a"), raises=D, match="^index: str is not an integer"),
    bad(at(True), raises=D, match="^index: bool is not an integer"),
    bad(at([0, 1]), raises=D, match="^index: list is not an integer"),
    bad(at(np.array([0, 1]), ...), raises=D, match="^index: ndarray is not an integer"),
    bad(at(slice(0, 1, 0)), raises=S, match="^index: the step of a slice must not be 0"),
    bad(at(slice(0.0, 1)), raises=D, match="^index: a slice is made of integers or None"),
    bad(at(slice("a")), raises=D, match="^index: a slice is made of integers or None"),
    bad(st.take, A, [[0]], raises=S, match="^take: indices must have one axis, got i64.1,1."),
    bad(st.take, A, [0.5], raises=D, match="^take: indices must be integers, got f32"),
    bad(st.take, A, [0], 2, raises=S, match="^take: axis 2 is out of range for 2 axes"),
    bad(lambda: st.take(A, [2]).numpy(), raises=IndexError, match="^take: index 2 is out of range for axis 0 of size 2"),
    bad(lambda: st.take(A, [-3]).numpy(), raises=IndexError, match="^take: index -3 is out of range"),
    bad(st.put_add, A, [0], 5, raises=S, match="^put_add: wants one index for each of the 2 values along axis 0"),
    bad(st.put_add, A, [0.0, 1.0], 5, raises=D, match="^put_add: indices must be integers"),
    bad(st.put_add, A, [0, 1], -1, raises=S, match="^put_add: size must be >= 0, got -1"),
    bad(st.take_along_axis, A, [[0]], raises=S, match="^take_along_axis: indices must have the shape .* outside axis 1"),
    bad(st.scatter_add, A, [[0]], 3, raises=S, match="^scatter_add: values and indices must have one shape"),
    bad(st.scatter_add, A, [[0]], 1.5, raises=D, match="^scatter_add: size must be an integer, got 1.5"),
    bad(st.one_hot, [0.5], 3, raises=D, match="^one_hot: indices must be integers"),
    bad(st.one_hot, [0], "3", raises=D, match="^one_hot: classes must be an integer, got '3'"),
    bad(st.asarray, "a", raises=D, match="is not a dtype of striate"),
    bad(st.asarray, object(), raises=D, match="is not a dtype of striate"),
    bad(st.asarray, [1, None], raises=D, match="is not a dtype of striate"),
    bad(st.asarray, 2j, raises=D, match="is not a dtype of striate"),
    bad(st.asarray, ones(2).astype("f2"), raises=D, match="float16.* is not a dtype of striate"),
    bad(st.asarray, [1.0], "float128", raises=D, match="'float128' is not a dtype of striate"),
    bad(st.asarray, 2**70, raises=D, match="is not a dtype of striate|does not fit"),
    bad(lambda: len(st.asarray(1.0)), raises=TypeError, match="without axes has no length"),
    bad(lambda: st.asarray(A).item(), raises=S, match=r"^item: wants one element, got f32\[2,3\]"),
    bad(lambda: bool(st.asarray(A)), raises=S, match="^item: wants one element"),
    bad(lambda: st.asarray(A).assign(M), raises=S, match=r"^assign: the array is f32\[2,3\], the value f32\[3,4\]"),
    bad(lambda: st.asarray(A).assign(A.astype("f8")), raises=D, match="^assign: .*; cast it"),
]  # fmt: skip


def square(x: st.Array) -> st.Array:
    return (x * x).sum()


TRANSFORM = [
    bad(st.grad(square), A.astype("i4"), raises=D, match=r"^grad: argument 0 has i32\[2,3\]; derivatives exist"),
    bad(st.grad(square), A > 0, raises=D, match="^grad: argument 0 has bool"),
    bad(st.grad(square), "a", raises=D, match="is not a dtype of striate"),
    bad(st.grad(square, argnums=1), A, raises=S, match="^grad: argnums has 1, the call has 1 arguments"),
    bad(st.grad(square, argnums=(0, 5)), A, raises=S, match="^grad: argnums has 5"),
    bad(st.grad(lambda x: x * x), A, raises=S, match=r"^grad: the function must return one floating number, got f32\[2,3\]"),
    bad(st.grad(lambda x: x.sum() > 0), A, raises=S, match="^grad: the function must return one floating number, got bool"),
    bad(st.vjp, square, A.astype("i4"), raises=D, match="^vjp: primal 0 has i32"),
    bad(lambda: st.vjp(square, A)[1](ones(2)), raises=S, match=r"^vjp: the output is f32\[\], its cotangent f32\[2\]"),
    bad(lambda: st.vjp(square, A)[1]((1.0, 1.0)), raises=S, match="^vjp: the cotangent must have the structure of the output"),
    bad(st.jvp, square, (A,), (M,), raises=S, match=r"^jvp: a primal is f32\[2,3\], its tangent f32\[3,4\]"),
    bad(st.jvp, square, (A,), (), raises=S, match="^jvp: the tangents must have the structure of the primals"),
    bad(st.jvp, square, (A.astype("i4"),), (A,), raises=D, match="^jvp: primal 0 has i32"),
    bad(st.gradients, lambda: st.asarray(1.0), [A], raises=D, match="^gradients: derivatives exist by floating arrays only, got ndarray"),
    bad(st.jit(lambda x: float(x)), st.asarray(1.0), raises=st.TraceError, match="^value: it depends on an argument"),
    bad(st.jit(lambda x: x if x > 0 else -x), st.asarray(1.0), raises=st.TraceError, match="use st.where"),
    bad(st.jit(lambda x: x.numpy()), st.asarray(1.0), raises=st.TraceError, match="^value"),
    bad(st.jit(lambda x: st.conv(x, W, groups=3)), X, raises=S, match="^conv: x has 4 channels"),
]  # fmt: skip

CASES = [*CONV, *TRANSPOSE, *GENERAL, *WINDOW, *MATMUL, *MOVEMENT, *INDEX, *TRANSFORM]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_wrong_call_says_what_is_wrong(case: Case) -> None:
    with pytest.raises(case.error, match=case.message) as caught:
        case.call(*case.args, **case.options)
    assert type(caught.value) is case.error


# ---- every integer argument at every boundary ----------------------------------------------

BOUNDARY = [LEAST, -(2**31), -1, 0, 2**31 - 1, 2**31, 2**32 + 1, 2**40, 2**62, LARGEST, 2**63]
NAMES = ["stride", "padding", "dilation", "groups", "output_padding"]


@pytest.mark.parametrize("value", BOUNDARY)
@pytest.mark.parametrize("name", NAMES)
def test_boundary_values(name: str, value: int) -> None:
    """Each gives a result, or an error that can be understood; none wraps or hangs."""
    for call, x, w in ((st.conv, X1, W1), (st.conv_transpose, ones(1, 6, 4), W1)):
        if name == "output_padding" and call is st.conv:
            continue
        for given in (value, (value,)):
            if name == "groups" and isinstance(given, tuple):
                continue
            try:
                y = call(x, w, **{name: given}).numpy()
            except (st.StriateError, MemoryError) as error:
                text = str(error)
                assert str(abs(value)) in text or "needs" in text or "must be at most" in text
            else:
                assert y.shape[:2] == (1, 6 if call is st.conv else 4)
                assert np.isfinite(y).all()


# ---- what is unusual and right -------------------------------------------------------------


def test_nothing_in_the_batch() -> None:
    assert st.conv(ones(0, 4, 8, 8), W).numpy().shape == (0, 6, 6, 6)
    assert st.conv_transpose(ones(0, 6, 8, 8), V).numpy().shape == (0, 4, 10, 10)
    dx, dw = st.grad(lambda x, w: st.conv(x, w).sum(), argnums=(0, 1))(ones(0, 4, 8, 8), W)
    assert dx.numpy().shape == (0, 4, 8, 8)
    np.testing.assert_array_equal(dw.numpy(), np.zeros_like(W))


def test_no_channels() -> None:
    y = st.conv(ones(2, 0, 5), ones(3, 0, 2), np.float32([1, 2, 3]))
    np.testing.assert_array_equal(
        y.numpy(), np.broadcast_to(np.float32([[[1], [2], [3]]]), (2, 3, 4))
    )
    np.testing.assert_array_equal(
        st.conv(ones(2, 0, 5), ones(3, 0, 2)).numpy(), np.zeros((2, 3, 4))
    )
    assert st.conv(ones(2, 0, 5), ones(0, 0, 2)).numpy().shape == (2, 0, 4)
    assert st.conv(ones(2, 4, 5), ones(0, 4, 2)).numpy().shape == (2, 0, 4)
    dx = st.grad(lambda x: st.conv(x, ones(0, 4, 2)).sum())(ones(2, 4, 5))
    np.testing.assert_array_equal(dx.numpy(), np.zeros((2, 4, 5)))


def test_empty_axes() -> None:
    np.testing.assert_array_equal(
        st.conv(ones(1, 4, 0), W1, padding=2).numpy(), np.zeros((1, 6, 2))
    )
    assert st.conv_transpose(ones(1, 6, 0), W1, stride=2).numpy().shape == (1, 4, 0)
    assert st.conv_transpose(ones(1, 6, 2), W1, padding=2).numpy().shape == (1, 4, 0)


def test_one_pixel() -> None:
    y = st.conv(ones(1, 4, 1, 1), W, padding=1, stride=7, dilation=1)
    np.testing.assert_array_equal(y.numpy(), np.full((1, 6, 1, 1), 4))
    assert st.conv_transpose(ones(1, 6, 1, 1), V, padding=1).numpy().shape == (1, 4, 1, 1)


@pytest.mark.parametrize("d", [2**31, 2**40, 2**60])
def test_huge_dilation(d: int) -> None:
    """Only the middle tap meets the input."""
    x, w = np.float32([[[1, 2, 3]]]), np.float32([[[5, 7, 11]]])
    np.testing.assert_array_equal(st.conv(x, w, dilation=d, padding=d).numpy(), 7 * x)
    dx, dw = st.grad(lambda x, w: (st.conv(x, w, dilation=d, padding=d) * x).sum(), argnums=(0, 1))(
        x, w
    )
    np.testing.assert_array_equal(dx.numpy(), 14 * x)
    np.testing.assert_array_equal(dw.numpy(), [[[0, 14, 0]]])
    np.testing.assert_array_equal(st.conv_transpose(x, w, dilation=d, padding=d).numpy(), 7 * x)
    far = st.conv(x, w, dilation=d, padding=d, stride=d).numpy()
    np.testing.assert_array_equal(far, [[[7]]])


def test_huge_stride() -> None:
    x, w = np.float32([[[1, 2, 3]]]), np.float32([[[5, 7]]])
    np.testing.assert_array_equal(st.conv(x, w, stride=2**62).numpy(), [[[19]]])
    dx = st.grad(lambda x: st.conv(x, w, stride=2**62).sum())(x)
    np.testing.assert_array_equal(dx.numpy(), [[[5, 7, 0]]])
    once = st.conv_transpose(np.float32([[[2]]]), w, stride=2**62).numpy()
    np.testing.assert_array_equal(once, [[[10, 14]]])
    pad = [(2**40, 2**40)]
    np.testing.assert_array_equal(st.conv(x, w, stride=2**40, padding=pad).numpy(), [[[0, 19, 0]]])


def test_many_phases_of_which_few_are_live() -> None:
    """2**20 zeros between inputs: the work is that of the taps."""
    y = st.conv_transpose(np.float32([[[1, 2]]]), np.float32([[[5, 7]]]), stride=2**20).numpy()
    assert y.shape == (1, 1, 2**20 + 2)
    at = np.flatnonzero(y)
    np.testing.assert_array_equal(at, [0, 1, 2**20, 2**20 + 1])
    np.testing.assert_array_equal(y[0, 0, at], [5, 7, 10, 14])
    two = st.conv_transpose(ones(1, 1, 2, 2), ones(1, 1, 2, 2), stride=2**11).numpy()
    assert two.sum() == 16


def test_more_than_memory() -> None:
    with pytest.raises(
        MemoryError, match=r"conv: the result .* needs [\d,]+ bytes; this machine has"
    ):
        st.conv(X1, W1, padding=2**50).numpy()
    with pytest.raises(MemoryError, match="conv: the result"):
        st.conv_transpose(ones(1, 6, 4), W1, stride=2**50).numpy()


def test_integers_are_taken_from_numpy_and_arrays() -> None:
    want = st.conv(X, W, stride=2, padding=1).numpy()
    for two, one in ((np.int64(2), np.uint8(1)), (st.asarray(2), np.array(1))):
        np.testing.assert_array_equal(st.conv(X, W, stride=two, padding=one).numpy(), want)
    given = st.conv(X, W, stride=np.array([2, 2]), padding=np.array([[1, 1], [1, 1]]))
    np.testing.assert_array_equal(given.numpy(), want)


def test_pad_values_are_kept_apart() -> None:
    """Equal attributes are one node: -0.0 must not be 0.0 there, nor nan unlike itself."""
    plus, minus = st.pad(A, [(1, 1)], value=0.0), st.pad(A, [(1, 1)], value=-0.0)
    assert np.signbit(minus.numpy()[:, 0]).all() and not np.signbit(plus.numpy()[:, 0]).any()
    x = st.asarray(A)
    nan = float("nan")
    assert st.pad(x, [(1, 1)], value=nan).node is st.pad(x, [(1, 1)], value=-nan * 0 + nan).node
