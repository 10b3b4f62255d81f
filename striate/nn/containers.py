"""Modules that hold modules: a chain, a list, a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Self

from striate.errors import ShapeError
from striate.nn.module import Module


class _Indexed(Module):
    """Children named "0", "1", ...; what a chain and a list have in common."""

    def _replace(self, modules: Iterable[Module]) -> None:
        renumbered = {str(i): module for i, module in enumerate(modules)}
        self._modules.clear()
        self._modules.update(renumbered)
        self._changed()

    def _key(self, index: int) -> str:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(
                f"{type(self).__name__}: index {index} is out of range for {n} modules"
            )
        return list(self._modules)[index]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            return self._modules[self._key(index)]
        return self._part(dict(list(self.named_children())[index]))

    def _part(self, named: dict[str, Module]) -> Module:
        raise NotImplementedError

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        keys = list(self._modules)
        gone = keys[index] if isinstance(index, slice) else [self._key(index)]
        self._replace(m for k, m in self.named_children() if k not in gone)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        free = (str(i) for i in count(len(self)) if str(i) not in self._modules)
        self.add_module(next(free), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module before the one at `index`."""
        modules = list(self)
        modules.insert(index, module)
        self._replace(modules)


class Sequential(_Indexed):
    """Modules in a chain: the output of each is the input of the next.

    Args:
        modules: the modules, or one dictionary of them whose keys become their names.

    >>> net = st.nn.Sequential(st.nn.Linear(4, 8), st.nn.ReLU(), st.nn.Linear(8, 2))
    >>> net(st.ones((3, 4))).shape
    (3, 2)
    >>> list(net.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        named: Iterable[tuple[str, Any]] = ((str(i), m) for i, m in enumerate(modules))
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = modules[0].items()
        for name, module in named:
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: wants modules, got {type(module).__name__}")
            self.add_module(name, module)

    def _part(self, named: dict[str, Module]) -> Sequential:
        return Sequential(named)  # the names stay, as in PyTorch

    def forward(self, x: Any) -> Any:
        """The last module's output."""
        for module in self:
            x = module(x)
        return x


class ModuleList(_Indexed):
    """Modules in a list, for a `forward` that says itself how they are used.

    >>> len(st.nn.ModuleList(st.nn.Linear(4, 4) for _ in range(3)))
    3
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def _part(self, named: dict[str, Module]) -> ModuleList:
        return ModuleList(named.values())


class ModuleDict(Module):
    """Modules by name, in order of insertion."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add modules, or replace those of the same name."""
        for name, module in modules.items():
            self.add_module(name, module)

    def __getitem__(self, name: str) -> Module:
        module = self._modules[name]
        if module is None:
            raise ShapeError(f"ModuleDict: {name!r} has no module")
        return module

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return list(self.children())

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module)."""
        return list(self.named_children())
