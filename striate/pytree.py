"""Nested containers of values: flatten, unflatten, map.

A tree is a dict (keys sorted), list, tuple, named tuple, None or a dataclass registered by
`register`; all else is a leaf. Invariant: `unflatten(*reversed(flatten(t))) == t`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")

_REGISTERED: set[type] = set()


@dataclass(frozen=True, slots=True)
class TreeDef:
    """The structure of a tree without its leaves; hashable, so that it can key a cache."""

    kind: object  # a container type, or None for a leaf
    keys: tuple[object, ...] = ()
    children: tuple[TreeDef, ...] = ()


LEAF = TreeDef(None)


def register(cls: type[T]) -> type[T]:
    """Let a dataclass be a container: its fields are its children."""
    if not is_dataclass(cls):
        raise TypeError(f"pytree.register: {cls.__name__} is not a dataclass")
    _REGISTERED.add(cls)
    return cls


def _children(tree: Any) -> tuple[object, tuple[object, ...], Sequence[Any]] | None:
    """(kind, keys, children) of a container; None for a leaf."""
    kind = type(tree)
    if tree is None:
        return kind, (), ()
    if isinstance(tree, dict):
        try:
            keys = sorted(tree)
        except TypeError:
            keys = sorted(tree, key=repr)
        return kind, tuple(keys), [tree[k] for k in keys]
    if isinstance(tree, list | tuple):
        return kind, (len(tree),), tree
    if kind in _REGISTERED:
        names = tuple(f.name for f in fields(tree))
        return kind, names, [getattr(tree, n) for n in names]
    return None


def flatten(tree: Any) -> tuple[list[Any], TreeDef]:
    """Leaves in a fixed order, and the structure.

    >>> flatten({"b": [1, 2], "a": 3})[0]
    [3, 1, 2]
    """
    leaves: list[Any] = []

    def walk(node: Any) -> TreeDef:
        parts = _children(node)
        if parts is None:
            leaves.append(node)
            return LEAF
        kind, keys, children = parts
        return TreeDef(kind, keys, tuple(walk(c) for c in children))

    return leaves, walk(tree)


def leaf_paths(tree: Any) -> list[tuple[object, ...]]:
    """Where each leaf is, in the order of `flatten`: the keys and positions from the root to it.

    >>> leaf_paths({"b": [1, 2], "a": 3})
    [('a',), ('b', 0), ('b', 1)]
    """
    parts = _children(tree)
    if parts is None:
        return [()]
    _, keys, children = parts
    steps = range(len(children)) if isinstance(tree, list | tuple) else keys
    return [
        (step, *path)
        for step, child in zip(steps, children, strict=True)
        for path in leaf_paths(child)
    ]


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Any:
    """The tree with this structure and these leaves."""
    it = iter(leaves)

    def build(d: TreeDef) -> Any:
        if d.kind is None:
            return next(it)
        parts = [build(c) for c in d.children]
        kind: Any = d.kind
        if kind is type(None):
            return None
        if issubclass(kind, dict):
            built = zip(d.keys, parts, strict=True)
            return kind(built) if kind is not dict else dict(built)
        if issubclass(kind, list):
            return kind(parts)
        if issubclass(kind, tuple):
            return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
        return kind(**{str(k): v for k, v in zip(d.keys, parts, strict=True)})

    tree = build(treedef)
    if next(it, LEAF) is not LEAF:
        raise ValueError("pytree.unflatten: more leaves than the structure has")
    return tree


def tree_map(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """The tree of `fn(leaf, ...)`; all trees must have the same structure.

    >>> tree_map(lambda a, b: a + b, (1, [2]), (10, [20]))
    (11, [22])
    """
    leaves, treedef = flatten(tree)
    columns = [leaves]
    for other in rest:
        more, otherdef = flatten(other)
        if otherdef != treedef:
            raise ValueError(f"tree_map: structures differ: {treedef} and {otherdef}")
        columns.append(more)
    return unflatten(treedef, [fn(*row) for row in zip(*columns, strict=True)])
