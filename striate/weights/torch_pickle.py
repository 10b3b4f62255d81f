"""What the pickles of PyTorch's files mean: tensors as records of where their elements are.

The dialect knows the functions that torch.save writes for tensors, and plain containers. Nothing
is imported or called; a class, such as a whole pickled module, is refused by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from striate.data.pickle_machine import (
    Dialect,
    Name,
    PickleMachine,
    Refused,
    Shell,
    as_text,
    put_item,
    tell,
)
from striate.data.safe_pickle import PLAIN

_BY_STORAGE: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}
_BY_DTYPE: dict[str, Any] = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}
STORAGE_NAMES = {np.dtype(v): k for k, v in _BY_STORAGE.items()}
_MAX_SIZE = 1 << 48


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of bytes in the file.

    Attributes:
        key: its name there.
        dtype: of its elements; bytes where it is untyped.
        start: the first element that belongs to it, in the bytes of that name.
        count: how many elements it has.
        whole: how many the bytes of that name hold in all.
    """

    key: str
    dtype: np.dtype[Any]
    start: int
    count: int
    whole: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Elements of a storage: shape, strides and offset count elements of `dtype`."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of a copy of its own."""
        return prod(self.shape) * self.dtype.itemsize


def storage_of(key: Any) -> Storage:
    """The storage of a persistent id; raises Refused for any other."""
    if type(key) is not tuple or len(key) not in (5, 6) or as_text(key[0]) != "storage":
        raise Refused(f"a persistent id of type {tell(key)} that is no storage")
    kind, name, count = key[1], as_text(key[2]), key[4]
    if type(kind) is not Name:
        raise Refused(f"a storage of type {tell(kind)}")
    if kind == Name("torch.storage", "UntypedStorage"):
        dtype: Any = np.uint8
    elif kind.module not in ("torch", "torch.cuda") or kind.name not in _BY_STORAGE:
        raise Refused(f"a storage of type {kind}")
    else:
        dtype = _BY_STORAGE[kind.name]
    _check_sizes("a storage", (count,))
    start, whole = 0, count
    if len(key) == 6 and key[5] is not None:  # a view of another storage, in old files
        view = key[5]
        if type(view) is not tuple or len(view) != 3:
            raise Refused("a view of a storage that is none")
        start, count = view[1:]
        _check_sizes("a view of a storage", (start, count))
        if start + count > whole:
            raise Refused(f"elements {start}..{start + count} of a storage of {whole}")
    return Storage(name, np.dtype(dtype), start, count, whole)


def _check_sizes(what: str, values: Any) -> None:
    if type(values) is not tuple or len(values) > 32:
        raise Refused(f"{what} without sizes")
    for n in values:
        if type(n) is not int or not 0 <= n < _MAX_SIZE:
            raise Refused(f"{what} with a size outside 0..2^48")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: Any = None) -> Tensor:
    if type(storage) is not Storage:
        raise Refused(f"a tensor in {tell(storage)}")
    kind = storage.dtype
    count = storage.count
    if dtype is not None:
        if type(dtype) is not Name or dtype.module != "torch" or dtype.name not in _BY_DTYPE:
            raise Refused(f"a tensor of {tell(dtype)}")
        kind = np.dtype(_BY_DTYPE[dtype.name])
        count = count * storage.dtype.itemsize // kind.itemsize
    _check_sizes("a tensor", shape)
    _check_sizes("a tensor's strides", strides)
    _check_sizes("a tensor's offset", (offset,))
    if len(shape) != len(strides):
        raise Refused(f"a tensor of {len(shape)} sizes and {len(strides)} strides")
    if 0 in shape and prod(max(n, 1) for n in shape) * kind.itemsize >= 1 << 63:
        raise Refused("a tensor with sizes beyond 63 bits")
    if 0 not in shape:
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if last >= count:
            raise Refused(f"a tensor up to element {last} of a storage of {count}")
    return Tensor(storage, kind, offset, shape, strides)


def _rebuild(
    machine: PickleMachine, args: tuple[Any, ...], *, counts: range, typed: bool = False
) -> Tensor:
    """(storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata])"""
    if len(args) not in counts:
        raise Refused(f"a tensor of {len(args)} parts")
    rest = args[7 if typed else 6 :]
    if rest and rest[0]:
        raise Refused("a tensor with a pending conjugation or sign")
    if typed and args[6] is None:
        raise Refused("a tensor without a dtype")
    storage, offset, shape, strides = args[:4]
    return _tensor(storage, offset, shape, strides, args[6] if typed else None)


def _parameter(machine: PickleMachine, args: tuple[Any, ...]) -> Tensor:
    if not args or type(args[0]) is not Tensor:
        raise Refused("a parameter without a tensor")
    return args[0]


class _Unset(Shell):
    """A tensor that gets its elements with its state, in the oldest files."""


def _old_tensor(machine: PickleMachine, args: tuple[Any, ...]) -> Tensor | _Unset:
    """torch.FloatTensor() and its kin, and Parameter(), or Parameter(tensor, ...)."""
    return args[0] if args and type(args[0]) is Tensor else _Unset()


def _old_state(value: Tensor | _Unset, state: Any) -> Tensor:
    """(storage, offset, size, stride) of a tensor, or the attributes of a parameter."""
    if type(state) is tuple and len(state) == 4:
        storage, offset, shape, strides = state
        return _tensor(storage, offset, shape, strides)
    if type(state) is tuple and len(state) == 5 and type(state[0]) is Tensor:
        return state[0]
    if type(state) is tuple and len(state) == 3 and type(value) is Tensor:
        return value
    raise Refused(f"a state of type {tell(state)} for a tensor")


def _from_type(machine: PickleMachine, args: tuple[Any, ...]) -> Tensor:
    """A tensor with attributes: (function, type, arguments, state)."""
    if len(args) != 4 or type(args[0]) is not Name or type(args[2]) is not tuple:
        raise Refused("a tensor of unknown make")
    if args[0] not in _TENSORS or type(args[1]) is not Name or args[1] not in _TENSOR_TYPES:
        raise Refused(f"a tensor of type {tell(args[1])} by {args[0]}")
    return _TENSORS[args[0]](machine, args[2])


def _ordered(machine: PickleMachine, args: tuple[Any, ...]) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    if not args:
        return out
    if len(args) != 1 or type(args[0]) not in (list, tuple, dict):
        raise Refused("a dict of unknown make")
    pairs = args[0].items() if type(args[0]) is dict else args[0]
    machine.charge(len(args[0]))
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise Refused("a dict of unknown make")
        put_item(out, *pair)
    return out


def _items(machine: PickleMachine, args: tuple[Any, ...]) -> list[Any]:
    if len(args) != 1 or type(args[0]) not in (list, tuple):
        raise Refused("a set of unknown make")
    machine.charge(len(args[0]))
    return list(args[0])


def _size(machine: PickleMachine, args: tuple[Any, ...]) -> tuple[int, ...]:
    if len(args) != 1 or type(args[0]) is not tuple:
        raise Refused("a torch.Size without a tuple")
    return args[0]


def _device(machine: PickleMachine, args: tuple[Any, ...]) -> str:
    return as_text(args[0]) if args else ""


def _dict_state(value: dict[Any, Any], state: Any) -> dict[Any, Any]:
    """Attributes, such as _metadata of a state dict: they are no weights, and are not kept."""
    if type(state) is not dict:
        raise Refused(f"a state of type {tell(state)} for a dict")
    return value


_TENSORS: dict[Name, Callable[[PickleMachine, tuple[Any, ...]], Tensor]] = {
    Name("torch._utils", "_rebuild_tensor"): lambda m, a: _rebuild(m, a, counts=range(4, 5)),
    Name("torch._utils", "_rebuild_tensor_v2"): lambda m, a: _rebuild(m, a, counts=range(5, 8)),
    Name("torch._utils", "_rebuild_tensor_v3"): lambda m, a: _rebuild(
        m, a, counts=range(7, 9), typed=True
    ),
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch._utils", "_rebuild_parameter_with_state"): _parameter,
}
_TENSOR_TYPES = (
    Name("torch", "Tensor"),
    Name("torch.nn.parameter", "Parameter"),
    Name("torch.nn.parameter", "Buffer"),
)
TORCH = Dialect(
    calls={
        **PLAIN.calls,
        **_TENSORS,
        Name("torch._tensor", "_rebuild_from_type_v2"): _from_type,
        Name("torch.nn.parameter", "Parameter"): _old_tensor,
        **{
            Name(module, kind.replace("Storage", "Tensor")): _old_tensor
            for module in ("torch", "torch.cuda")
            for kind in _BY_STORAGE
        },
        Name("torch", "Size"): _size,
        Name("torch", "device"): _device,
        Name("collections", "OrderedDict"): _ordered,
        Name("collections", "Counter"): _ordered,
        Name("argparse", "Namespace"): _ordered,  # the arguments of a training script
        **{Name(m, n): _items for m in ("__builtin__", "builtins") for n in ("set", "frozenset")},
    },
    states={**PLAIN.states, dict: _dict_state, Tensor: _old_state, _Unset: _old_state},
    persistent=storage_of,
)
