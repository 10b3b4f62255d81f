"""Who is told of each call of a layer, and which layer each node was made for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from striate.core.array import Array
from striate.ir.graph import topological
from striate.pytree import flatten


class Layer(Protocol):
    """What calls are told of: a module, or a step of a network that is made of something else."""

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """(name, layer) of itself and all below it; its own name is empty if it has none."""
        ...


Watcher = Callable[[Any, tuple[Any, ...], Any], object]
_watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("striate_watchers", default=())


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """A block in which `watcher(layer, arguments, result)` follows every call of a layer; inner
    calls end, and are seen, before outer ones.

    >>> with watching(lambda layer, arguments, result: print(layer, result.shape)):
    ...     _ = st.nn.Flatten()(st.ones((2, 3, 4)))
    Flatten(start_dim=1, end_dim=-1) (2, 12)
    """
    token = _watchers.set((watcher, *_watchers.get()))
    try:
        yield
    finally:
        _watchers.reset(token)


def watchers() -> tuple[Watcher, ...]:
    """Who is to be told of each call."""
    return _watchers.get()


class Origins:
    """A watcher that gives each node the innermost layer that made it as its origin."""

    def __init__(self) -> None:
        self._layers: list[Layer] = []

    def __call__(self, layer: Layer, arguments: tuple[Any, ...], result: Any) -> None:
        """Take over what a call has made."""
        given = {x.node for x in flatten(arguments)[0] if isinstance(x, Array)}
        nodes = [x.node for x in flatten(result)[0] if isinstance(x, Array)]
        for n in topological(nodes, lambda n: n in given or n.origin is not None):
            if n not in given and n.origin is None:
                n.origin = layer
        self._layers.append(layer)

    def names(self, origins: Sequence[object]) -> list[str]:
        """The layers' names, each from the outermost layer that was called; empty for no layer."""
        names: dict[int, str] = {}
        for layer in reversed(self._layers):
            if id(layer) not in names:
                for name, inner in layer.named_modules():
                    names.setdefault(id(inner), name or type(inner).__name__)
        return [names.get(id(origin), "") for origin in origins]
