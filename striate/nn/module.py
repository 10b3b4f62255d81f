"""`Module`: a tree of layers whose leaves are parameters and buffers; names, order and keys are
PyTorch's.

An attribute that is a `Parameter`, a `Module` or a registered buffer lives in a dictionary of its
kind; `state_dict` walks own parameters, own buffers, then children, each in order of definition.
Invariant: a traced function (`st.jit`) is never stale. Values of parameters and buffers are inputs
of its plan, and whatever else changes in a constructed module, `training` too, invalidates traces.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from inspect import Signature, signature
from itertools import chain
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from striate.core.array import Array, asarray
from striate.core.transforms import invalidate
from striate.core.watching import watchers
from striate.dtype import as_dtype
from striate.errors import DTypeError, ShapeError
from striate.ir.graph import constant
from striate.ir.types import TensorType
from striate.ops.movement import filled
from striate.ops.operand import as_value

T = TypeVar("T")


def own(data: Any, dtype: object = None) -> Array:
    """An array that shares neither node nor memory with `data`: state for an assignment."""
    if isinstance(data, Array):
        value = filled(data.node) if dtype is None else None
        if value is not None:
            return Array(constant(value))
        data = data.numpy()
    return Array(constant(as_value(data, None if dtype is None else as_dtype(dtype))))


class Parameter(Array):
    """An array that is trained: assigned to a module's attribute, it becomes one of its weights.

    Args:
        data: what `st.asarray` takes; copied.
        requires_grad: False for a frozen weight, which optimizers leave out.

    >>> w = st.nn.Parameter([1.0, 2.0])
    >>> w.assign(w * 2)
    Array([2., 4.], dtype=float32)
    """

    __slots__ = ("_requires_grad",)

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(own(data)._node)
        if requires_grad and not self.dtype.is_floating:
            raise DTypeError(
                f"Parameter: only floating arrays can be trained, got {self.type}; pass "
                "requires_grad=False or register a buffer"
            )
        self._requires_grad = requires_grad

    @property
    def requires_grad(self) -> bool:
        """Whether it is trained."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value != self._requires_grad:
            self._requires_grad = value
            invalidate()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        return Parameter(self, self._requires_grad)


@dataclass(frozen=True, slots=True)
class Step:
    """A layer of a network that is made of something else than modules, as of a file's nodes.

    Attributes:
        name: in its network.
        kind: what it does.
        weights: the parameters that it reads.
    """

    name: str
    kind: str
    weights: tuple[Parameter, ...]

    def named_modules(self) -> Iterator[tuple[str, Step]]:
        """Itself, under its name."""
        yield self.name, self


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` did not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class _ModuleType(ABCMeta):
    """Marks a module as constructed when the outermost `__init__` has returned."""

    @property
    def __signature__(cls) -> Signature:
        whole = signature(cls.__init__)  # type: ignore[misc]
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        module = super().__call__(*args, **kwargs)
        module.__dict__["_constructed"] = True
        return module


def _unchanged(old: object, new: object) -> bool:
    plain = isinstance(new, bool | int | float | str)
    return old is new or (plain and type(old) is type(new) and old == new)


class Module(metaclass=_ModuleType):
    """Base of all layers and networks.

    >>> class Net(st.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = st.nn.Linear(4, 2)
    ...
    ...     def forward(self, x):
    ...         return self.fc(x)
    >>> list(Net().state_dict())
    ['fc.weight', 'fc.bias']
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Array | None]
    _modules: dict[str, Module | None]
    _transient: set[str]
    _constructed: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """An empty module: the registries exist before any `__init__` runs."""
        self = super().__new__(cls)
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _transient=set(),
            _constructed=False,
        )
        return self

    def __init__(self) -> None:
        """Nothing to do; subclasses may leave out the call."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses define it.

        Raises:
            NotImplementedError: they did not.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`; NumPy arrays among the arguments become arrays."""
        given = [asarray(a) if isinstance(a, np.ndarray) else a for a in args]
        result = self.forward(*given, **kwargs)
        for watcher in watchers():
            watcher(self, (*given, *kwargs.values()), result)
        return result

    # ---- attributes --------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif name in self._buffers and (value is None or isinstance(value, Array)):
            self.register_buffer(name, value, persistent=name not in self._transient)
        elif value is None and name in self._parameters:
            self.register_parameter(name, None)
        elif value is None and name in self._modules:
            self.add_module(name, None)
        elif name in self._parameters or name in self._modules or name in self._buffers:
            kind = next(
                k for k in ("parameter", "module", "buffer") if name in self.__dict__[f"_{k}s"]
            )
            raise DTypeError(
                f"{type(self).__name__}: {name!r} is a {kind} and cannot become a "
                f"{type(value).__name__}; to change its value use {name}.assign"
            )
        elif not (name in self.__dict__ and _unchanged(self.__dict__[name], value)):
            object.__setattr__(self, name, value)
            self._changed()

    def __getattr__(self, name: str) -> Any:
        for registry in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(registry, {})
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                del registry[name]
                self._changed()
                return
        object.__delattr__(self, name)
        self._changed()

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]

    def _changed(self) -> None:
        if self._constructed:
            invalidate()

    def _register(self, registry: dict[str, Any], name: str, value: Any) -> None:
        if not name or "." in name:
            raise ShapeError(
                f"{type(self).__name__}: a name may not be empty or have a dot: {name!r}"
            )
        if name in registry and registry[name] is value:
            return
        for other in (self._parameters, self._buffers, self._modules, self.__dict__):
            if other is not registry:
                other.pop(name, None)
        registry[name] = value
        self._changed()

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Make `value` the parameter `name`; None keeps the name without a value."""
        self._register(self._parameters, name, value)

    def register_buffer(self, name: str, value: Array | None, persistent: bool = True) -> None:
        """Make `value` state that is not trained, such as a running mean.

        Only persistent buffers are in the `state_dict`.
        """
        self._register(self._buffers, name, value)
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Make `module` the child `name`."""
        self._register(self._modules, name, module)

    # ---- walking the tree --------------------------------------------------------------

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(name, module) of this module and all below it, each module once."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child._walk(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) one level below."""
        return ((name, child) for name, child in self._modules.items() if child is not None)

    def children(self) -> Iterator[Module]:
        """The modules one level below."""
        return (child for _, child in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), each parameter once, in the order of PyTorch."""
        return self._named(lambda m: m._parameters, prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Array]]:
        """(name, buffer), each buffer once."""
        return self._named(lambda m: m._buffers, prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Array]:
        """The buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def _named(
        self, registry: Callable[[Module], dict[str, T | None]], prefix: str, recurse: bool
    ) -> Iterator[tuple[str, T]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, value in registry(module).items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path.

        Raises:
            AttributeError: there is none.
        """
        module: Any = self
        for name in target.split(".") if target else ():
            module = getattr(module, name)
        if not isinstance(module, Module):
            raise AttributeError(f"{type(self).__name__}: {target!r} is not a module")
        return module

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call `fn` on every module below and then on this one; returns this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ---- modes -------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Training mode, here and below: dropout drops, batch normalisation uses the batch."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode, here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or free all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def to(self, dtype: object) -> Self:
        """Change all floating parameters and buffers to another floating dtype, in place.

        Raises:
            DTypeError: it is not a floating dtype.
        """
        target = as_dtype(dtype)
        if not target.is_floating:
            raise DTypeError(f"to: wants a floating dtype, got {target.name}")
        for array in chain(self.parameters(), self.buffers()):
            if array.dtype.is_floating and array.dtype is not target:
                array._node = own(array.astype(target))._node
                self._changed()
        return self

    # ---- state -------------------------------------------------------------------------

    def _state(self) -> dict[str, Array]:
        """The arrays themselves, under every name that they have."""
        arrays: dict[str, Array] = {}
        for path, module in self._walk(""):
            own_arrays: dict[str, Array | None] = {
                **module._parameters,
                **{k: b for k, b in module._buffers.items() if k not in module._transient},
            }
            for name, value in own_arrays.items():
                if value is not None:
                    arrays[f"{path}.{name}" if path else name] = value
        return arrays

    def state_dict(self) -> dict[str, Array]:
        """The values of all parameters and persistent buffers, by name.

        They are the values of now: training on changes the module, not the dictionary.
        """
        return {name: Array(array.node) for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Take over the values of a `state_dict`: arrays of striate or NumPy by name.

        `num_batches_tracked` may be missing, as in checkpoints older than it.

        Args:
            state: by name, values of the same shapes and dtypes.
            strict: False leaves missing names as they are, and passes over unexpected ones.

        Returns:
            The missing and the unexpected names.

        Raises:
            ShapeError: names (if strict), shapes or dtypes do not fit. The message has all of
                them, and nothing has changed.
        """
        mine = self._state()
        missing = [k for k in mine if k not in state and not k.endswith("num_batches_tracked")]
        unexpected = [k for k in state if k not in mine]
        problems = [f"missing {k}: {mine[k].type}" for k in missing] if strict else []
        problems += [f"unexpected {k}" for k in unexpected] if strict else []
        fresh: dict[str, Array] = {}
        for name in (k for k in mine if k in state):
            given = state[name]
            found = given.type if isinstance(given, Array) else _type_of(given)
            if found == mine[name].type:
                fresh[name] = own(given)
            else:
                problems.append(f"mismatched {name}: the module has {mine[name].type}, got {found}")
        if problems:
            raise ShapeError(
                f"load_state_dict: {len(problems)} of {len(mine)} entries of "
                f"{type(self).__name__} do not fit; nothing was loaded:\n  " + "\n  ".join(problems)
            )
        for name, value in fresh.items():
            mine[name].assign(value)
        return IncompatibleKeys(missing, unexpected)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        for array in self._buffers.values():
            if array is not None:
                memo.setdefault(id(array), own(array))
        copy.__dict__.update(deepcopy(self.__dict__, memo))
        return copy

    # ---- printing ----------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The arguments shown in the `repr`."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self._modules.items()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = "\n".join(([extra] if extra else []) + lines).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"


def _type_of(data: Any) -> TensorType | str:
    """Type of anything that NumPy can read; what NumPy calls it where striate has no such dtype."""
    array = np.asarray(data)
    try:
        return TensorType(array.shape, as_dtype(array.dtype))
    except DTypeError:
        return f"{array.dtype}{list(array.shape)}"


@contextmanager
def evaluation(f: object) -> Iterator[None]:
    """A block in which a module and all below it are in evaluation mode; others are as they are."""
    training = [m for m in f.modules() if m.training] if isinstance(f, Module) else []
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
