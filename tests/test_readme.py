"""The first example of the README runs and learns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def test_first_example() -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert 0 < scope["loss"].item() < 2.3, "better than guessing after one pass"
