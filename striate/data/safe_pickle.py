"""Pickles of plain data and numeric arrays, read without executing anything; all else is refused.

The dialect `PLAIN` knows six names: what NumPy and Python 2 and 3 need for arrays and bytes.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from .files import PathLike, read_bytes
from .pickle_machine import Dialect, Name, PickleMachine, Refused, Shell, as_text, run_pickle

_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_DTYPE = re.compile(r"[|<>=]?([?]|b1|[iu][1248]|f[248])\Z")


def read_pickle(path: PathLike, *, max_bytes: int = 1 << 29) -> object:
    """Read a pickle of plain data without executing anything from it.

    Known: None, bool, int, float, str, bytes, list, tuple, dict with keys of text or integers, and
    NumPy arrays of bool, integers and floats (read-only views). Strings written by Python 2 come as
    bytes. Raises FileNotFoundError, and FormatError for anything else (a class, a function, a set,
    a damaged stream, more than `max_bytes` bytes or 2,000,000 opcodes).

    >>> import pickle, tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "a.pkl")
    ...     _ = path.write_bytes(pickle.dumps({"labels": [3, 1]}))
    ...     read_pickle(path)
    {'labels': [3, 1]}
    """
    data = read_bytes("read_pickle", path, max_bytes)
    rule = "a pickle of plain data and arrays is expected"
    return run_pickle("read_pickle", path, data, PLAIN, rule)[0]


@dataclass
class _DType(Shell):
    code: str = ""
    order: str = "|"


class _EmptyArray(Shell):
    pass


def _new_dtype(machine: PickleMachine, args: tuple[Any, ...]) -> _DType:
    if not args:
        raise Refused("a dtype without a name")
    return _DType(code=as_text(args[0]))


def _dtype_state(shell: _DType, state: Any) -> _DType:
    if type(state) is not tuple or len(state) < 5:
        raise Refused("a dtype of unknown state")
    if any(part is not None for part in state[2:5]):
        raise Refused("a structured dtype")
    shell.order = as_text(state[1])
    return shell


def _array_state(shell: _EmptyArray, state: Any) -> Any:
    if type(state) is not tuple or len(state) != 5:
        raise Refused("an array of unknown state")
    return _array(state[1], state[2], state[3], state[4])


def _from_buffer(machine: PickleMachine, args: tuple[Any, ...]) -> Any:
    if len(args) != 4:
        raise Refused(f"an array of {len(args)} parts")
    raw, dtype, shape, order = args
    return _array(shape, dtype, order == "F", raw)


def _scalar(machine: PickleMachine, args: tuple[Any, ...]) -> Any:
    if len(args) != 2:
        raise Refused(f"a number of {len(args)} parts")
    return _array((), args[0], False, args[1])[()].item()


def _encoded(machine: PickleMachine, args: tuple[Any, ...]) -> bytes:
    # Python 3 writes bytes so for protocols 0 to 2; one memo entry can be encoded repeatedly
    if len(args) != 2 or type(args[0]) is not str or args[1] not in ("latin1", "latin-1"):
        raise Refused("an encoding other than latin1")
    machine.charge(len(args[0]))
    return args[0].encode("latin-1")


def _no_bytes(machine: PickleMachine, args: tuple[Any, ...]) -> bytes:
    if args:
        raise Refused("a call of bytes")
    return b""


def _array(shape: Any, dtype: Any, fortran: Any, raw: Any) -> Any:
    if type(dtype) is not _DType or not _DTYPE.match(dtype.code) or dtype.order not in "|<>=":
        raise Refused("an array that is not of plain numbers")
    if type(shape) is int:
        shape = (shape,)
    if type(shape) is not tuple or len(shape) > 32:
        raise Refused("an array without a shape")
    if any(type(s) is not int or not 0 <= s < 1 << 40 for s in shape):
        raise Refused("an array with a size outside 0..2^40")
    if type(raw) not in (bytes, bytearray):
        raise Refused(f"array data of type {type(raw).__name__}")
    kind = np.dtype(dtype.code)
    if dtype.order in ("<", ">"):
        kind = kind.newbyteorder("<" if dtype.order == "<" else ">")
    need = math.prod(shape) * kind.itemsize
    if need != len(raw):
        raise Refused(f"an array of {need} bytes with {len(raw)} bytes of data")
    out = np.frombuffer(raw, kind) if raw else np.empty(0, kind)
    out.flags.writeable = False
    return out.reshape(shape, order="F" if fortran else "C")


PLAIN = Dialect(
    calls={
        **{Name(module, "_reconstruct"): lambda m, args: _EmptyArray() for module in _CORE},
        **{Name(module, "scalar"): _scalar for module in _CORE},
        **{Name(module, "_frombuffer"): _from_buffer for module in _NUMERIC},
        Name("numpy", "dtype"): _new_dtype,
        Name("_codecs", "encode"): _encoded,
        Name("__builtin__", "bytes"): _no_bytes,
        Name("builtins", "bytes"): _no_bytes,
    },
    states={_DType: _dtype_state, _EmptyArray: _array_state},
)
