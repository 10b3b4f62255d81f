"""The words of a kernel by name: the kernel reads what the step was given."""

from __future__ import annotations

from collections.abc import Mapping

from striate.codegen.emitter import Emitter, Value
from striate.codegen.kernel import Word


class Words:
    """Reads words by name.

    Args:
        e: the emitter.
        names: of the words, in order.
    """

    def __init__(self, e: Emitter, names: tuple[str, ...]) -> None:
        self.e = e
        self.places = {name: i for i, name in enumerate(names)}

    def number(self, name: str) -> Value:
        """The word as an i64."""
        return self.e.number(self.places[name])

    def pointer(self, name: str) -> Value:
        """The word as an address."""
        return self.e.pointer(self.places[name])


def arranged(names: tuple[str, ...], words: Mapping[str, Word]) -> tuple[Word, ...]:
    """The words of a step in the order of the kernel's names; none may lack or be left."""
    assert set(names) == set(words), set(names) ^ set(words)
    return tuple(words[name] for name in names)
