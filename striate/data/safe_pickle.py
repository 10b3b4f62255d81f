"""A pickle reader that executes nothing: plain data and numeric arrays, all else is refused.

The pickle stream is a program for a small stack machine. This one has no instruction that
imports or calls: a GLOBAL pushes its *name*, and REDUCE and BUILD know six names, whose meaning
(a dtype, an array, bytes) is written here. Invariant: every opcode makes at most one object, no
larger than its own bytes in the file, so memory is bounded by the size and the number of opcodes.
"""

import codecs
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from .files import FormatError, PathLike, read_bytes

_MAX_OPS = 2_000_000
_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_DTYPE = re.compile(r"[|<>=]?([?]|b1|[iu][1248]|f[248])\Z")


class _Refused(Exception):
    pass


@dataclass(frozen=True)
class _Name:
    module: str
    name: str


@dataclass
class _DType:
    code: str
    order: str = "|"


@dataclass
class _EmptyArray:
    keys: list[int] = field(default_factory=list)  # where the memo holds it


_MARK: Final = object()


def read_pickle(path: PathLike, *, max_bytes: int = 1 << 29) -> object:
    """Read a pickle of plain data without executing anything from it.

    Known: None, bool, int, float, str, bytes, list, tuple, dict with text keys, and NumPy arrays
    of bool, integers and floats (read-only views). Strings written by Python 2 come as bytes.
    Raises FileNotFoundError, and FormatError for anything else (a class, a function, a set, a
    damaged stream, more than `max_bytes` bytes or 2,000,000 opcodes).

    >>> import pickle, tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "a.pkl")
    ...     _ = path.write_bytes(pickle.dumps({"labels": [3, 1]}))
    ...     read_pickle(path)
    {'labels': [3, 1]}
    """
    data = read_bytes("read_pickle", path, max_bytes)
    machine = _Machine(data)
    try:
        return machine.run()
    except _Refused as error:
        found = str(error)
    except (ValueError, struct.error, OverflowError) as error:
        found = f"{type(error).__name__}: {error}"
    raise FormatError(
        "read_pickle",
        path,
        "a pickle of plain data and arrays is expected",
        f"found {found} before byte {machine.at} of {len(data)}",
        "nothing of the file was executed",
    )


class _Machine:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.made = data, 0, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> object:
        for _ in range(_MAX_OPS):
            op = self.take(1)
            if op == b".":
                return self.pop()
            act = _ACTIONS.get(op)
            if act is None:
                raise _Refused(f"the opcode {op!r}, which plain data does not need")
            act(self)
        raise _Refused(f"more than {_MAX_OPS} opcodes")

    # the bytes

    def take(self, n: int) -> bytes:
        end = self.at + n
        if end > len(self.data):
            left = len(self.data) - self.at
            raise _Refused(f"an opcode that needs {n} bytes where {left} are left")
        out = self.data[self.at : end]
        self.at = end
        return out

    def line(self, most: int = 1 << 16) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + most)
        if end < 0:
            raise _Refused("a line without end")
        out = self.data[self.at : end]
        self.at = end + 1
        return out

    def uint(self, n: int) -> int:
        return int.from_bytes(self.take(n), "little")

    # the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _Refused("an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise _Refused("an opcode that needs a mark where none is set")
        base = self.marks.pop()
        items = self.stack[base:]
        del self.stack[base:]
        return items

    def put(self, key: int) -> None:
        value = self.top()
        if not 0 <= key < 1 << 32:
            raise _Refused(f"the memo key {key}")
        if type(value) is _EmptyArray:
            value.keys.append(key)
        self.memo[key] = value

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise _Refused(f"the memo key {key}, which was never set")
        self.push(self.memo[key])

    # containers

    def extend(self, items: list[Any]) -> None:
        into = self.top()
        if type(into) is not list:
            raise _Refused(f"an append to {type(into).__name__}")
        into.extend(items)

    def update(self, items: list[Any]) -> None:
        into = self.top()
        if type(into) is not dict or len(items) % 2:
            raise _Refused(f"{len(items)} keys and values for {type(into).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # text only: nested tuples overflow the C stack when hashed, integers can collide
            if type(key) not in (str, bytes):
                raise _Refused(f"a dict key of type {type(key).__name__}")
            into[key] = value

    # the six names

    def reduce(self) -> None:
        args, name = self.pop(), self.pop()
        if type(name) is not _Name or type(args) is not tuple:
            raise _Refused(f"a call of {_tell(name)}")
        if name.name == "_reconstruct" and name.module in _CORE:
            self.push(_EmptyArray())
        elif name == _Name("numpy", "dtype") and args:
            self.push(_DType(_text(args[0])))
        elif name.name == "_frombuffer" and name.module in _NUMERIC and len(args) == 4:
            raw, dtype, shape, order = args
            self.push(_array(shape, dtype, order == "F", raw))
        elif name == _Name("_codecs", "encode") and len(args) == 2:
            self.push(self.encoded(*args))
        elif name.module in ("__builtin__", "builtins") and name.name == "bytes" and args == ():
            self.push(b"")
        else:
            raise _Refused(f"a call of {_tell(name)}")

    def encoded(self, text: Any, encoding: Any) -> bytes:
        # Python 3 writes bytes so for protocols 0 to 2; one memo entry can be encoded repeatedly
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise _Refused("an encoding other than latin1")
        self.made += len(text)
        if self.made > 2 * len(self.data):
            raise _Refused(f"{self.made} encoded bytes in a file of {len(self.data)}")
        return text.encode("latin-1")

    def build(self) -> None:
        state, shell = self.pop(), self.pop()
        if type(state) is not tuple:
            raise _Refused(f"a state of type {type(state).__name__}")
        if type(shell) is _DType and len(state) >= 5:
            if any(part is not None for part in state[2:5]):
                raise _Refused("a structured dtype")
            shell.order = _text(state[1])
            self.push(shell)
        elif type(shell) is _EmptyArray and len(state) == 5:
            array = _array(state[1], state[2], state[3], state[4])
            for key in shell.keys:
                self.memo[key] = array
            self.push(array)
        else:
            raise _Refused(f"a state of {len(state)} parts for {_tell(shell)}")


def _tell(value: Any) -> str:
    if type(value) is _Name:
        return f"{value.module}.{value.name}"[:80]
    return type(value).__name__


def _text(value: Any) -> str:
    if type(value) is bytes:
        return value.decode("ascii")
    if type(value) is str:
        return value
    raise _Refused(f"{type(value).__name__} where text is needed")


def _array(shape: Any, dtype: Any, fortran: Any, raw: Any) -> Any:
    if type(dtype) is not _DType or not _DTYPE.match(dtype.code) or dtype.order not in "|<>=":
        raise _Refused("an array that is not of plain numbers")
    if type(shape) is int:
        shape = (shape,)
    if type(shape) is not tuple or len(shape) > 32:
        raise _Refused("an array without a shape")
    if any(type(s) is not int or not 0 <= s < 1 << 40 for s in shape):
        raise _Refused("an array with a size outside 0..2^40")
    if type(raw) not in (bytes, bytearray):
        raise _Refused(f"array data of type {type(raw).__name__}")
    kind = np.dtype(dtype.code)
    if dtype.order in ("<", ">"):
        kind = kind.newbyteorder("<" if dtype.order == "<" else ">")
    need = math.prod(shape) * kind.itemsize
    if need != len(raw):
        raise _Refused(f"an array of {need} bytes with {len(raw)} bytes of data")
    out = np.frombuffer(raw, kind) if raw else np.empty(0, kind)
    out.flags.writeable = False
    return out.reshape(shape, order="F" if fortran else "C")


def _string(m: _Machine) -> None:
    text = m.line(1 << 28).strip()
    if len(text) < 2 or text[:1] not in b"'\"" or text[:1] != text[-1:]:
        raise _Refused("a string without quotes")
    m.push(codecs.escape_decode(text[1:-1])[0])


def _int(m: _Machine) -> None:
    text = m.line(128)
    m.push(text == b"01" if text in (b"00", b"01") else int(text))


def _long(m: _Machine, n: int) -> None:
    if n > 64:
        raise _Refused(f"an integer of {n} bytes")
    m.push(int.from_bytes(m.take(n), "little", signed=True))


def _unicode(m: _Machine, n: int) -> None:
    m.push(m.take(n).decode("utf-8", "surrogatepass"))


def _tuple(m: _Machine, n: int) -> None:
    items = [m.pop() for _ in range(n)]
    m.push(tuple(reversed(items)))


def _dict(m: _Machine) -> None:
    items = m.pop_mark()
    m.push({})
    m.update(items)


def _proto(m: _Machine) -> None:
    if (version := m.uint(1)) > 5:
        raise _Refused(f"the protocol {version}, newer than 5")


def _global(m: _Machine) -> None:
    m.push(_Name(m.line(256).decode("ascii"), m.line(256).decode("ascii")))


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    m.push(_Name(_text(module), _text(name)))


def _append(m: _Machine) -> None:
    value = m.pop()
    m.extend([value])


def _setitem(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    m.update([key, value])


_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _proto,
    b"\x95": lambda m: m.take(8),  # FRAME: a hint about reading ahead
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": lambda m: m.pop(),
    b"1": lambda m: m.pop_mark(),
    b"2": lambda m: m.push(m.top()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": _int,
    b"J": lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),
    b"K": lambda m: m.push(m.uint(1)),
    b"M": lambda m: m.push(m.uint(2)),
    b"L": lambda m: m.push(int(m.line(128).rstrip(b"L"))),
    b"\x8a": lambda m: _long(m, m.uint(1)),
    b"\x8b": lambda m: _long(m, m.uint(4)),
    b"F": lambda m: m.push(float(m.line(128))),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"S": _string,
    b"T": lambda m: m.push(m.take(m.uint(4))),
    b"U": lambda m: m.push(m.take(m.uint(1))),
    b"B": lambda m: m.push(m.take(m.uint(4))),
    b"C": lambda m: m.push(m.take(m.uint(1))),
    b"\x8e": lambda m: m.push(m.take(m.uint(8))),
    b"\x96": lambda m: m.push(bytearray(m.take(m.uint(8)))),
    b"V": lambda m: m.push(m.line(1 << 28).decode("raw-unicode-escape")),
    b"X": lambda m: _unicode(m, m.uint(4)),
    b"\x8c": lambda m: _unicode(m, m.uint(1)),
    b"\x8d": lambda m: _unicode(m, m.uint(8)),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.pop_mark()),
    b"a": _append,
    b"e": lambda m: m.extend(m.pop_mark()),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"\x85": lambda m: _tuple(m, 1),
    b"\x86": lambda m: _tuple(m, 2),
    b"\x87": lambda m: _tuple(m, 3),
    b"}": lambda m: m.push({}),
    b"d": _dict,
    b"s": _setitem,
    b"u": lambda m: m.update(m.pop_mark()),
    b"p": lambda m: m.put(int(m.line(16))),
    b"q": lambda m: m.put(m.uint(1)),
    b"r": lambda m: m.put(m.uint(4)),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"g": lambda m: m.get(int(m.line(16))),
    b"h": lambda m: m.get(m.uint(1)),
    b"j": lambda m: m.get(m.uint(4)),
    b"c": _global,
    b"\x93": _stack_global,
    b"R": lambda m: m.reduce(),
    b"b": lambda m: m.build(),
}
