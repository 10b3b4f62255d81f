"""striate: convolutional networks for Python, compiled for the processor you have.

The public names; the libraries (`nn`, `optim`, `data`, `train` and others) load on first use.
"""

from __future__ import annotations

import sys
from importlib import import_module
from math import e as e, inf as inf, nan as nan, pi as pi
from typing import TYPE_CHECKING, Any

from striate.config import config as config
from striate.core import array as _array, random as random
from striate.core.api import (
    abs as abs,
    acos as acos,
    acosh as acosh,
    adaptive_avg_pool as adaptive_avg_pool,
    adaptive_max_pool as adaptive_max_pool,
    add as add,
    all as all,
    any as any,
    argmax as argmax,
    argmin as argmin,
    asin as asin,
    asinh as asinh,
    astype as astype,
    atan as atan,
    atan2 as atan2,
    atanh as atanh,
    avg_pool as avg_pool,
    bitwise_and as bitwise_and,
    bitwise_invert as bitwise_invert,
    bitwise_or as bitwise_or,
    bitwise_xor as bitwise_xor,
    broadcast_arrays as broadcast_arrays,
    broadcast_to as broadcast_to,
    ceil as ceil,
    celu as celu,
    clip as clip,
    concat as concat,
    conv as conv,
    conv_general as conv_general,
    conv_transpose as conv_transpose,
    copysign as copysign,
    cos as cos,
    cosh as cosh,
    cumulative_sum as cumulative_sum,
    divide as divide,
    elu as elu,
    equal as equal,
    erf as erf,
    exp as exp,
    expand_dims as expand_dims,
    expm1 as expm1,
    flatten as flatten,
    flip as flip,
    floor as floor,
    floor_divide as floor_divide,
    gelu as gelu,
    global_avg_pool as global_avg_pool,
    global_max_pool as global_max_pool,
    glu as glu,
    greater as greater,
    greater_equal as greater_equal,
    hardshrink as hardshrink,
    hardsigmoid as hardsigmoid,
    hardswish as hardswish,
    hardtanh as hardtanh,
    hypot as hypot,
    isfinite as isfinite,
    isinf as isinf,
    isnan as isnan,
    leaky_relu as leaky_relu,
    less as less,
    less_equal as less_equal,
    linear as linear,
    log as log,
    log1p as log1p,
    log2 as log2,
    log10 as log10,
    log_sigmoid as log_sigmoid,
    log_softmax as log_softmax,
    logaddexp as logaddexp,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    logical_xor as logical_xor,
    logsumexp as logsumexp,
    lp_pool as lp_pool,
    matmul as matmul,
    matrix_transpose as matrix_transpose,
    max as max,
    max_pool as max_pool,
    max_unpool as max_unpool,
    maximum as maximum,
    mean as mean,
    min as min,
    minimum as minimum,
    mish as mish,
    moveaxis as moveaxis,
    multiply as multiply,
    negative as negative,
    not_equal as not_equal,
    one_hot as one_hot,
    pad as pad,
    permute_dims as permute_dims,
    pixel_shuffle as pixel_shuffle,
    pixel_unshuffle as pixel_unshuffle,
    pow as pow,
    prelu as prelu,
    put_add as put_add,
    reciprocal as reciprocal,
    relu as relu,
    relu6 as relu6,
    remainder as remainder,
    repeat as repeat,
    reshape as reshape,
    resize as resize,
    roll as roll,
    round as round,
    rsqrt as rsqrt,
    scatter_add as scatter_add,
    selu as selu,
    sigmoid as sigmoid,
    sign as sign,
    signbit as signbit,
    silu as silu,
    sin as sin,
    sinh as sinh,
    softmax as softmax,
    softplus as softplus,
    softshrink as softshrink,
    softsign as softsign,
    split as split,
    sqrt as sqrt,
    square as square,
    squeeze as squeeze,
    stack as stack,
    std as std,
    stop_gradient as stop_gradient,
    subtract as subtract,
    sum as sum,
    swapaxes as swapaxes,
    take as take,
    take_along_axis as take_along_axis,
    tan as tan,
    tanh as tanh,
    tanhshrink as tanhshrink,
    threshold as threshold,
    tile as tile,
    tril as tril,
    triu as triu,
    trunc as trunc,
    unstack as unstack,
    var as var,
    where as where,
)
from striate.core.array import Array as Array, asarray as asarray, from_dlpack as from_dlpack
from striate.core.creation import (
    arange as arange,
    empty as empty,
    empty_like as empty_like,
    eye as eye,
    full as full,
    full_like as full_like,
    linspace as linspace,
    ones as ones,
    ones_like as ones_like,
    zeros as zeros,
    zeros_like as zeros_like,
)
from striate.core.matrix import conv_matrix as conv_matrix
from striate.core.random import drop_path as drop_path, dropout as dropout
from striate.core.transforms import (
    grad as grad,
    gradients as gradients,
    jit as jit,
    jvp as jvp,
    value_and_grad as value_and_grad,
    vjp as vjp,
)
from striate.dtype import (
    DType as DType,
    bfloat16 as bfloat16,
    bool_ as bool_,
    float32 as float32,
    float64 as float64,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    uint8 as uint8,
)
from striate.errors import (
    DTypeError as DTypeError,
    RangeError as RangeError,
    ShapeError as ShapeError,
    StriateError as StriateError,
    TraceError as TraceError,
)
from striate.ops.conv import ConvSpec as ConvSpec
from striate.ops.window import Window as Window
from striate.runtime.threads import (
    get_num_threads as get_num_threads,
    set_num_threads as set_num_threads,
)

if TYPE_CHECKING:
    from striate import (
        data as data,
        models as models,
        nn as nn,
        onnx as onnx,
        optim as optim,
        tools as tools,
        train as train,
        viz as viz,
        weights as weights,
    )
    from striate.torch_backend import from_torch as from_torch, to_torch as to_torch
    from striate.train import fit as fit, train_step as train_step
    from striate.weights import load_weights as load_weights, save_weights as save_weights

__version__ = "0.1.0"

bool = bool_
newaxis = None

_LIBRARIES = ("data", "models", "nn", "onnx", "optim", "tools", "train", "viz", "weights")
_FUNCTIONS = {
    "fit": "train",
    "train_step": "train",
    "from_torch": "torch_backend",
    "to_torch": "torch_backend",
    "load_weights": "weights",
    "save_weights": "weights",
}  # of libraries, by their short name
_array._namespace.append(sys.modules[__name__])


def __getattr__(name: str) -> Any:
    if name in _LIBRARIES:
        return import_module(f"striate.{name}")
    if name in _FUNCTIONS:
        return getattr(import_module(f"striate.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'striate' has no attribute {name!r}")
