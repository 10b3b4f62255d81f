"""What a kernel is, and what a step of a plan is.

A `Kernel` is a frozen dataclass that describes one piece of machine code completely: two equal
kernels are the same code, and its repr (with the target and the versions) is its name in the cache
of objects. Sizes, strides and addresses are not part of it; they come at run time as words:

    void kernel(ptr words, i64 thread, i64 threads)

Every thread of the team makes this call and does its share; no two threads write the same byte.
What is computed must not depend on `threads`: a reduction is split by shape alone. A step without
a barrier after it may run at the same time as the next one.

A `Step` is a kernel with its words. A word is an i64: a number, or the address of a buffer, of a
constant table, or of scratch memory.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, runtime_checkable

from striate.codegen.emitter import Emitter
from striate.target import Target

ALIGNMENT = 64  # bytes: every buffer and scratch region begins at a multiple
STREAM = 8 << 20  # bytes of a value from which on the caches forget it before it is read again


@runtime_checkable
class Kernel(Protocol):
    """Machine code to be; a frozen dataclass whose fields are plain values."""

    @property
    def name(self) -> str:
        """A self-describing C identifier, as `dense_f32_14x2`; need not be unique."""
        ...

    def emit(self, e: Emitter) -> None:
        """Emit the body: read the words, do this thread's share; the emitter adds the return."""
        ...


def symbol(kernel: Kernel) -> str:
    """The name of a kernel's function: unlike the kernel's own name, it is unique."""
    identity = f"{type(kernel).__module__} {kernel!r}"
    return f"{kernel.name}_{sha256(identity.encode()).hexdigest()[:16]}"


def emit(kernel: Kernel, target: Target) -> str:
    """The LLVM IR of a kernel, as text; its function is named `symbol(kernel)`."""
    e = Emitter(target, symbol(kernel))
    kernel.emit(e)
    e.b.ret_void()
    return str(e.module)


class Buffer:
    """Memory of one dense row-major value; equal to nothing but itself."""

    __slots__ = ("label", "nbytes")

    def __init__(self, nbytes: int, label: str = "") -> None:
        self.nbytes = nbytes
        self.label = label

    def __repr__(self) -> str:
        return f"<buffer {self.label} {self.nbytes}>"


@dataclass(frozen=True, slots=True)
class At:
    """The address of a byte in a buffer."""

    buffer: Buffer
    offset: int


@dataclass(frozen=True, slots=True)
class Table:
    """The address of a constant i64 array."""

    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scratch:
    """The address of scratch memory of this step: thread t may use bytes
    [t * nbytes, (t + 1) * nbytes); `nbytes` is a multiple of 64. It holds nothing at the start.
    """

    nbytes: int


Word = int | Buffer | At | Table | Scratch


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One kernel call of a plan.

    Attributes:
        kernel: the code.
        words: its arguments.
        writes: the buffers that it writes; the other buffers among its words it only reads.
        label: what it computes, for people.
        macs: multiply-adds, for the profile.
        single: too little work to share: one thread makes the call alone, as thread 0 of 1.
        updates: of `writes`, those whose old content it reads too.
        origins: those of the nodes that it computes, each once.
    """

    kernel: Kernel
    words: tuple[Word, ...]
    writes: tuple[Buffer, ...]
    label: str = ""
    macs: int = 0
    single: bool = False
    updates: tuple[Buffer, ...] = ()
    origins: tuple[Hashable, ...] = ()

    def buffers(self) -> Iterable[Buffer]:
        """Every buffer that it touches."""
        for word in self.words:
            if isinstance(word, Buffer):
                yield word
            elif isinstance(word, At):
                yield word.buffer


@dataclass(frozen=True, slots=True)
class View:
    """Strided access to a buffer: element (i, j, ...) stands at offset + i*strides[0] + ...

    Attributes:
        buffer: the memory.
        offset, strides: in elements; strides may be 0 or negative.
    """

    buffer: Buffer
    offset: int
    strides: tuple[int, ...]
