"""What all tests share: hypothesis profiles, the folder of real data, the marker `torch`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
TORCH_TESTS = Path(__file__).resolve().parent / "torch"

# A first call compiles, so no deadline. In CI every run draws the same cases.
hypothesis.settings.register_profile("local", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

collect_ignore = [] if find_spec("torch") else ["torch"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Everything in tests/torch carries the marker `torch`."""
    if TORCH_TESTS in item.path.parents:
        item.add_marker("torch")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data and trained models; tests that need it are skipped without it."""
    folder = Path(os.environ.get("STRIATE_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set STRIATE_TEST_DATA to the folder that has it")
    return folder
