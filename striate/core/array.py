"""`Array`: a lazy value.

An operation on arrays checks shapes and dtypes at once and records a node; reading a value
computes what it needs. An array is a handle: `assign` gives it another value, which is how state
(weights, running statistics, optimizer moments) is updated, inside `st.jit` too.

Invariant: outside of a trace `_node` is the array's value; inside, what an array from outside
holds is an input of the trace, and what is assigned to it is one of its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import EllipsisType, ModuleType
from typing import Any, ParamSpec, overload
from weakref import WeakValueDictionary

import numpy as np

from striate.core import dlpack
from striate.dtype import DType, as_dtype
from striate.errors import DTypeError, ShapeError
from striate.ir.graph import CONSTANT, Node, Value, constant, parameter
from striate.ir.types import TensorType
from striate.ops import elementwise, functions, matmul, movement, reduce
from striate.ops.operand import Operand, as_node, as_value, sharing_numbers
from striate.runtime.plan import evaluate

P = ParamSpec("P")
Index = int | slice | EllipsisType | None | tuple[int | slice | EllipsisType | None, ...]


class Trace:
    """One run of a function under `st.jit`: what it reads from and writes to the outside.

    Attributes:
        captured: outside arrays that were read, each with the parameter that stands for it.
        written: outside arrays that were assigned, each with its new node.
    """

    def __init__(self) -> None:
        self.captured: dict[Array, Node] = {}
        self.written: dict[Array, Node] = {}

    def read(self, array: Array) -> Node:
        """The node of an outside array in this trace."""
        if array in self.written:
            return self.written[array]
        if array not in self.captured:
            self.captured[array] = parameter(array.type)
        return self.captured[array]


_trace: ContextVar[Trace | None] = ContextVar("striate_trace", default=None)
_recording: ContextVar[int] = ContextVar("striate_recording", default=0)
# Assigned, not computed yet, by id: computed with the next reading.
_pending: WeakValueDictionary[int, Array] = WeakValueDictionary()


@contextmanager
def tracing() -> Iterator[Trace]:
    """A block in which arrays are symbols."""
    trace = Trace()
    token = _trace.set(trace)
    try:
        with sharing_numbers():
            yield trace
    finally:
        _trace.reset(token)


def current_trace() -> Trace | None:
    """The trace that is running, if any."""
    return _trace.get()


@contextmanager
def recording() -> Iterator[None]:
    """A block in which arrays keep their history when they are read, for a derivative."""
    token = _recording.set(_recording.get() + 1)
    try:
        yield
    finally:
        _recording.reset(token)


def is_recording() -> bool:
    """Whether a derivative is being taken of what runs."""
    return _recording.get() > 0


@contextmanager
def variables(arrays: Sequence[Array]) -> Iterator[list[Node]]:
    """A block in which each array holds a node of its own with its value, to differentiate by:
    two arrays may have shared one. An array that is not assigned in the block gets its own back.
    """
    trace = _trace.get()
    old = [x.node for x in arrays]
    fresh = [movement.alias(n) for n in old]
    outside = [trace is not None and x._owner is not trace for x in arrays]
    unwritten = [trace is None or x not in trace.written for x in arrays]

    def hold(x: Array, node: Node, is_outside: bool) -> None:
        if is_outside and trace is not None:
            trace.written[x] = node
        else:
            x._node = node

    for x, node, is_outside in zip(arrays, fresh, outside, strict=True):
        hold(x, node, is_outside)
    try:
        yield fresh
    finally:
        for x, node, was, is_outside, new in zip(
            arrays, fresh, old, outside, unwritten, strict=True
        ):
            if x.node is node:
                hold(x, was, is_outside)
                if is_outside and new and trace is not None:
                    del trace.written[x]


class Array:
    """An n-dimensional array of one dtype; see `st.asarray`.

    >>> x = st.asarray([[1.0, 2.0], [3.0, 4.0]])
    >>> (x * 2 + 1).sum(axis=0)
    Array([10., 14.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_node", "_owner")
    __array_ufunc__ = None  # NumPy arrays leave their operators with us to us

    def __init__(self, node: Node) -> None:
        self._node = node
        self._owner = _trace.get()

    # ---- what it is --------------------------------------------------------------------

    @property
    def node(self) -> Node:
        """The graph node of this array, here and now."""
        trace = _trace.get()
        return self._node if trace is self._owner or trace is None else trace.read(self)

    @property
    def type(self) -> TensorType:
        """Shape and dtype together, as `f32[8,3,32,32]`."""
        return self._node.type

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._node.type.shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self._node.type.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._node.type.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._node.type.size

    @property
    def nbytes(self) -> int:
        """Bytes of the value."""
        return self._node.type.nbytes

    @property
    def device(self) -> str:
        """Always `cpu`."""
        return "cpu"

    def to_device(self, device: str, /, *, stream: None = None) -> Array:
        """This array; there is one device.

        Raises:
            ValueError: the device is not `cpu`.
        """
        if device != "cpu":
            raise ValueError(f"to_device: striate runs on 'cpu', got {device!r}")
        return self

    # ---- its value ---------------------------------------------------------------------

    def realize(self) -> Array:
        """Compute the value now, with all that was assigned and not computed yet.

        Raises:
            TraceError: the value is not known because a function is being traced.
        """
        _value(self)
        return self

    def numpy(self) -> Value:
        """The value as a read-only NumPy array; no copy.

        Raises:
            TraceError: the value is not known because a function is being traced.
        """
        view = _value(self).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Value:
        value = self.numpy()
        if dtype is not None and np.dtype(dtype) != value.dtype:
            if copy is False:
                raise ValueError(f"__array__: {value.dtype} to {dtype} needs a copy")
            return value.astype(dtype)
        return value.copy() if copy else value

    def __dlpack__(self, **options: Any) -> Any:
        return dlpack.export(_value(self), **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        return _namespace[0]

    def item(self) -> Any:
        """The one element, as a Python number.

        Raises:
            ShapeError: there is not exactly one.
        """
        if self.size != 1:
            raise ShapeError(f"item: wants one element, got {self.type}")
        return _value(self).item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return _value(self).tolist()

    def assign(self, value: Operand) -> Array:
        """Give this array another value of the same type.

        Raises:
            ShapeError: the shapes differ.
            DTypeError: the dtypes differ.

        >>> x = st.zeros(2)
        >>> x.assign(x + 1)
        Array([1., 1.], dtype=float32)
        """
        node = as_node(value, self.dtype)
        if node.shape != self.shape:
            raise ShapeError(f"assign: the array is {self.type}, the value {node.type}")
        if node.type.dtype is not self.dtype:
            raise DTypeError(f"assign: the array is {self.type}, the value {node.type}; cast it")
        trace = _trace.get()
        if trace is not None and self._owner is not trace:
            trace.written[self] = node
            return self
        self._node = node
        if trace is None and node.data is None:
            _pending[id(self)] = self
        return self

    def __repr__(self) -> str:
        if _trace.get() is not None:
            return f"Array({self.type}, traced)"
        text = np.array2string(_value(self), separator=", ", prefix="Array(")
        return f"Array({text}, dtype={self.dtype.name})"

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise DTypeError(f"index: only integer arrays can be an index, got {self.type}")
        return int(self.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len: an array without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> Array:
        return Array(self.node)  # values do not change: a new handle is a copy

    # ---- operators ---------------------------------------------------------------------

    def __add__(self, other: Operand) -> Array:
        return Array(elementwise.add(self, other))

    def __radd__(self, other: Operand) -> Array:
        return Array(elementwise.add(other, self))

    def __sub__(self, other: Operand) -> Array:
        return Array(elementwise.subtract(self, other))

    def __rsub__(self, other: Operand) -> Array:
        return Array(elementwise.subtract(other, self))

    def __mul__(self, other: Operand) -> Array:
        return Array(elementwise.multiply(self, other))

    def __rmul__(self, other: Operand) -> Array:
        return Array(elementwise.multiply(other, self))

    def __truediv__(self, other: Operand) -> Array:
        return Array(elementwise.divide(self, other))

    def __rtruediv__(self, other: Operand) -> Array:
        return Array(elementwise.divide(other, self))

    def __floordiv__(self, other: Operand) -> Array:
        return Array(elementwise.floor_divide(self, other))

    def __rfloordiv__(self, other: Operand) -> Array:
        return Array(elementwise.floor_divide(other, self))

    def __mod__(self, other: Operand) -> Array:
        return Array(elementwise.remainder(self, other))

    def __rmod__(self, other: Operand) -> Array:
        return Array(elementwise.remainder(other, self))

    def __pow__(self, other: Operand) -> Array:
        return Array(functions.pow(self, other))

    def __rpow__(self, other: Operand) -> Array:
        return Array(functions.pow(other, self))

    def __matmul__(self, other: Operand) -> Array:
        return Array(matmul.matmul(self, other))

    def __rmatmul__(self, other: Operand) -> Array:
        return Array(matmul.matmul(other, self))

    def __neg__(self) -> Array:
        return Array(elementwise.negative(self))

    def __pos__(self) -> Array:
        return self

    def __abs__(self) -> Array:
        return Array(functions.abs(self))

    def __eq__(self, other: Operand) -> Array:  # type: ignore[override]
        return Array(elementwise.equal(self, other))

    def __ne__(self, other: Operand) -> Array:  # type: ignore[override]
        return Array(elementwise.not_equal(self, other))

    def __lt__(self, other: Operand) -> Array:
        return Array(elementwise.less(self, other))

    def __le__(self, other: Operand) -> Array:
        return Array(elementwise.less_equal(self, other))

    def __gt__(self, other: Operand) -> Array:
        return Array(elementwise.greater(self, other))

    def __ge__(self, other: Operand) -> Array:
        return Array(elementwise.greater_equal(self, other))

    def __and__(self, other: Operand) -> Array:
        return Array(elementwise.bitwise_and(self, other))

    def __rand__(self, other: Operand) -> Array:
        return Array(elementwise.bitwise_and(other, self))

    def __or__(self, other: Operand) -> Array:
        return Array(elementwise.bitwise_or(self, other))

    def __ror__(self, other: Operand) -> Array:
        return Array(elementwise.bitwise_or(other, self))

    def __xor__(self, other: Operand) -> Array:
        return Array(elementwise.bitwise_xor(self, other))

    def __rxor__(self, other: Operand) -> Array:
        return Array(elementwise.bitwise_xor(other, self))

    def __invert__(self) -> Array:
        return Array(elementwise.bitwise_invert(self))

    def __getitem__(self, index: Index) -> Array:
        return Array(movement.index(self.node, index if isinstance(index, tuple) else (index,)))

    # ---- methods -----------------------------------------------------------------------

    @property
    def T(self) -> Array:
        """The axes reversed."""
        return Array(movement.transpose(self))

    @property
    def mT(self) -> Array:
        """The last two axes exchanged.

        Raises:
            ShapeError: there are fewer than two axes.
        """
        return Array(movement.matrix_transpose(self))

    def astype(self, dtype: object) -> Array:
        """See `st.astype`."""
        return Array(elementwise.cast(self, dtype))

    def reshape(self, *shape: int | Sequence[int]) -> Array:
        """See `st.reshape`; sizes may come one by one."""
        flat = shape[0] if len(shape) == 1 else shape
        return Array(movement.reshape(self, flat))  # type: ignore[arg-type]

    def transpose(self, *axes: int) -> Array:
        """See `st.permute_dims`; without axes they are reversed."""
        return Array(movement.transpose(self, axes or None))

    def sum(self, axis: reduce.Axes = None, *, keepdims: bool = False) -> Array:
        """See `st.sum`."""
        return Array(reduce.sum(self, axis, keepdims=keepdims))

    def mean(self, axis: reduce.Axes = None, *, keepdims: bool = False) -> Array:
        """See `st.mean`."""
        return Array(reduce.mean(self, axis, keepdims=keepdims))

    def max(self, axis: reduce.Axes = None, *, keepdims: bool = False) -> Array:
        """See `st.max`."""
        return Array(reduce.max(self, axis, keepdims=keepdims))

    def min(self, axis: reduce.Axes = None, *, keepdims: bool = False) -> Array:
        """See `st.min`."""
        return Array(reduce.min(self, axis, keepdims=keepdims))

    def all(self, axis: reduce.Axes = None, *, keepdims: bool = False) -> Array:
        """See `st.all`."""
        return Array(reduce.all(self, axis, keepdims=keepdims))

    def any(self, axis: reduce.Axes = None, *, keepdims: bool = False) -> Array:
        """See `st.any`."""
        return Array(reduce.any(self, axis, keepdims=keepdims))

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Array:
        """See `st.argmax`."""
        return Array(reduce.argmax(self, axis, keepdims=keepdims))


def _value(array: Array) -> Value:
    """The value of an array, computed if it is not known yet."""
    node = array.node
    if node.data is None:
        waiting = []
        if _trace.get() is None:
            waiting = list(_pending.values())
            _pending.clear()
        evaluate([node, *(a._node for a in waiting)])
        for a in waiting:
            _forget_history(a)
    _forget_history(array)
    assert node.data is not None
    return node.data


def _forget_history(array: Array) -> None:
    """Let go of the nodes that a computed value came from, unless a derivative may need them."""
    node = array._node
    if not _recording.get() and node.data is not None and node.op is not CONSTANT:
        array._node = constant(node.data)


_namespace: list[ModuleType] = []  # the module `striate`, which sets itself here


@overload
def lift(fn: Callable[P, Node]) -> Callable[P, Array]: ...
@overload
def lift(fn: Callable[P, Node | tuple[Node, ...]]) -> Callable[P, Any]: ...
def lift(fn: Callable[P, Any]) -> Callable[P, Any]:
    """The public function of a function on nodes; one that may return a tuple of nodes is typed
    to return Any, so that callers can unpack it or not.
    """

    @wraps(fn)
    def public(*args: P.args, **kwargs: P.kwargs) -> Any:
        out = fn(*args, **kwargs)
        return tuple(map(Array, out)) if isinstance(out, tuple) else Array(out)

    return public


def asarray(data: Any, dtype: object = None) -> Array:
    """An array with the elements of `data`, which is copied.

    Args:
        data: an `Array`, a NumPy array, a number, or nested lists of numbers. Lists of floats
            become float32, lists of integers int64; NumPy arrays keep their dtype.
        dtype: another dtype.

    Raises:
        DTypeError: `data` is not numeric, or has a dtype that striate does not have.

    >>> st.asarray([1.5, 2.5])
    Array([1.5, 2.5], dtype=float32)
    """
    if isinstance(data, Array):
        return data if dtype is None else data.astype(dtype)
    return Array(constant(as_value(data, None if dtype is None else as_dtype(dtype))))


def from_dlpack(x: Any, /) -> Array:
    """An array that shares the memory of any CPU array with `__dlpack__`; no copy.

    The memory must not be written while the array is in use.

    Raises:
        BufferError, DTypeError: the array is not on the CPU or has a dtype striate does not have.

    >>> st.from_dlpack(np.arange(3.0)).dtype
    striate.float64
    """
    return Array(constant(dlpack.load(x)))
