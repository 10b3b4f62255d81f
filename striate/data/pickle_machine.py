"""A stack machine for pickles that executes nothing.

A pickle is a program for a small stack machine. This one has no instruction that imports or calls:
GLOBAL pushes a *name*, and what REDUCE, NEWOBJ, BUILD and persistent ids make of a name is looked
up in a `Dialect`, a table that the reader of a format writes; all else is refused. Invariant: every
opcode makes at most one object, no larger than its own bytes in the file, so memory is bounded by
the size and the number of opcodes.
"""

import codecs
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .files import FormatError, PathLike

_MAX_OPS = 2_000_000


class Refused(Exception):
    """What the pickle has and the dialect does not know."""


@dataclass(frozen=True)
class Name:
    """What GLOBAL pushes: the name of a function or class, never the thing."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:80]


@dataclass
class Shell:
    """An object whose state comes later, with BUILD.

    Attributes:
        keys: where the memo holds it; the finished object takes its place.
    """

    keys: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Dialect:
    """What the names in a pickle mean.

    Attributes:
        calls: (machine, arguments) -> the value that such a call stands for.
        states: by the type of an unfinished value, (value, state) -> the finished one.
        persistent: persistent id -> value.
    """

    calls: Mapping[Name, Callable[["PickleMachine", tuple[Any, ...]], Any]]
    states: Mapping[type, Callable[[Any, Any], Any]]
    persistent: Callable[[Any], Any] | None = None


def run_pickle(
    where: str, path: PathLike, data: bytes, dialect: Dialect, rule: str, at: int = 0
) -> tuple[Any, int]:
    """(object, end): the pickle in `data` from byte `at` up to byte `end`.

    Raises FormatError, which says that `rule` was expected, for a damaged stream and for
    whatever the dialect does not know.
    """
    machine = PickleMachine(data, dialect, at)
    try:
        return machine.run(), machine.at
    except Refused as error:
        found = str(error)
    except (ValueError, struct.error, OverflowError) as error:
        found = f"{type(error).__name__}: {error}"
    raise FormatError(
        where,
        path,
        rule,
        f"found {found} before byte {machine.at} of {len(data)}",
        "nothing of the file was executed",
    )


class PickleMachine:
    """One run over `data` from byte `at` on; afterwards `at` is behind the pickle."""

    def __init__(self, data: bytes, dialect: Dialect, at: int = 0) -> None:
        self.data, self.dialect, self.at, self.made = data, dialect, at, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> object:
        """The object; raises Refused, ValueError, struct.error or OverflowError."""
        for _ in range(_MAX_OPS):
            op = self.take(1)
            if op == b".":
                return self.pop()
            act = _ACTIONS.get(op)
            if act is None:
                raise Refused(f"the opcode {op!r}, which plain data does not need")
            act(self)
        raise Refused(f"more than {_MAX_OPS} opcodes")

    # the bytes

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        end = self.at + n
        if end > len(self.data):
            left = len(self.data) - self.at
            raise Refused(f"an opcode that needs {n} bytes where {left} are left")
        out = self.data[self.at : end]
        self.at = end
        return out

    def line(self, most: int = 1 << 16) -> bytes:
        """The bytes up to the next line feed."""
        end = self.data.find(b"\n", self.at, self.at + most)
        if end < 0:
            raise Refused("a line without end")
        out = self.data[self.at : end]
        self.at = end + 1
        return out

    def uint(self, n: int) -> int:
        """An integer of n bytes."""
        return int.from_bytes(self.take(n), "little")

    # the stack

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the uppermost value, not from below the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refused("an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        """The uppermost value, left where it is."""
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_mark(self) -> list[Any]:
        """Take all values above the last mark, and it."""
        if not self.marks:
            raise Refused("an opcode that needs a mark where none is set")
        base = self.marks.pop()
        items = self.stack[base:]
        del self.stack[base:]
        return items

    def put(self, key: int) -> None:
        """Note the uppermost value under a number."""
        value = self.top()
        if not 0 <= key < 1 << 32:
            raise Refused(f"the memo key {key}")
        if isinstance(value, Shell):
            value.keys.append(key)
        self.memo[key] = value

    def get(self, key: int) -> None:
        """Push what was noted under a number."""
        if key not in self.memo:
            raise Refused(f"the memo key {key}, which was never set")
        self.push(self.memo[key])

    # containers

    def extend(self, items: list[Any]) -> None:
        """Append to the list on the stack."""
        into = self.top()
        if type(into) is not list:
            raise Refused(f"an append to {type(into).__name__}")
        into.extend(items)

    def update(self, items: list[Any]) -> None:
        """Put keys and values in turn into the dict on the stack."""
        into = self.top()
        if type(into) is not dict or len(items) % 2:
            raise Refused(f"{len(items)} keys and values for {type(into).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            put_item(into, key, value)

    def charge(self, n: int) -> None:
        """Count what is copied; raises Refused beyond twice the file's size."""
        self.made += n
        if self.made > 2 * len(self.data):
            raise Refused(f"{self.made} copied bytes or items in a file of {len(self.data)}")

    # names

    def reduce(self) -> None:
        """What the dialect makes of a name and its arguments."""
        args, name = self.pop(), self.pop()
        if type(name) is not Name or type(args) is not tuple:
            raise Refused(f"a call of {tell(name)}")
        call = self.dialect.calls.get(name)
        if call is None:
            raise Refused(f"a call of {name}")
        self.push(call(self, args))

    def build(self) -> None:
        """What the dialect makes of an unfinished value and its state."""
        state, shell = self.pop(), self.pop()
        finish = self.dialect.states.get(type(shell))
        if finish is None:
            raise Refused(f"a state of type {tell(state)} for {tell(shell)}")
        value = finish(shell, state)
        if isinstance(shell, Shell):
            for key in shell.keys:
                self.memo[key] = value
        self.push(value)

    def persistent(self, key: Any) -> None:
        """What the dialect makes of a persistent id."""
        if self.dialect.persistent is None:
            raise Refused("a persistent id, which plain data does not need")
        self.push(self.dialect.persistent(key))


def put_item(into: dict[Any, Any], key: Any, value: Any) -> None:
    """into[key] = value, where key is text or a number below 2^60; raises Refused for others."""
    # nested tuples overflow the C stack when hashed, large integers can be made to collide
    if type(key) not in (str, bytes, int) or (type(key) is int and abs(key) >= 1 << 60):
        raise Refused(f"a dict key of type {type(key).__name__}")
    into[key] = value


def tell(value: Any) -> str:
    """A value in an error message: its name or its type."""
    return str(value) if type(value) is Name else type(value).__name__


def as_text(value: Any) -> str:
    """ASCII bytes or a string as a string; raises Refused for anything else."""
    if type(value) is bytes:
        return value.decode("ascii")
    if type(value) is str:
        return value
    raise Refused(f"{type(value).__name__} where text is needed")


def _string(m: PickleMachine) -> None:
    text = m.line(1 << 28).strip()
    if len(text) < 2 or text[:1] not in b"'\"" or text[:1] != text[-1:]:
        raise Refused("a string without quotes")
    m.push(codecs.escape_decode(text[1:-1])[0])


def _int(m: PickleMachine) -> None:
    text = m.line(128)
    m.push(text == b"01" if text in (b"00", b"01") else int(text))


def _long(m: PickleMachine, n: int) -> None:
    if n > 64:
        raise Refused(f"an integer of {n} bytes")
    m.push(int.from_bytes(m.take(n), "little", signed=True))


def _unicode(m: PickleMachine, n: int) -> None:
    m.push(m.take(n).decode("utf-8", "surrogatepass"))


def _tuple(m: PickleMachine, n: int) -> None:
    items = [m.pop() for _ in range(n)]
    m.push(tuple(reversed(items)))


def _dict(m: PickleMachine) -> None:
    items = m.pop_mark()
    m.push({})
    m.update(items)


def _proto(m: PickleMachine) -> None:
    if (version := m.uint(1)) > 5:
        raise Refused(f"the protocol {version}, newer than 5")


def _global(m: PickleMachine) -> None:
    m.push(Name(m.line(256).decode("ascii"), m.line(256).decode("ascii")))


def _stack_global(m: PickleMachine) -> None:
    name, module = m.pop(), m.pop()
    m.push(Name(as_text(module), as_text(name)))


def _append(m: PickleMachine) -> None:
    value = m.pop()
    m.extend([value])


def _setitem(m: PickleMachine) -> None:
    value, key = m.pop(), m.pop()
    m.update([key, value])


_ACTIONS: dict[bytes, Callable[[PickleMachine], Any]] = {
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
    b"Q": lambda m: m.persistent(m.pop()),
    b"P": lambda m: m.persistent(m.line().decode("ascii")),
    b"R": lambda m: m.reduce(),
    b"\x81": lambda m: m.reduce(),  # NEWOBJ: what the name makes of no state
    b"b": lambda m: m.build(),
}
