"""For the examples in striate's docstrings: `st` and `np` are at hand. Not part of the wheel."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

# Frontends of third parties that are not installed here have nothing to collect.
collect_ignore = [
    path
    for party, modules in {
        "torch": ["torch_backend"],
        "onnx": ["onnx"],
        "mpi4py": ["distributed"],
    }.items()
    if find_spec(party) is None
    for module in modules
    for path in (f"striate/{module}.py", f"striate/{module}")
]


@pytest.fixture(autouse=True, scope="session")
def names_in_examples(doctest_namespace: dict[str, Any]) -> None:
    import striate as st

    doctest_namespace.update(st=st, np=np)
