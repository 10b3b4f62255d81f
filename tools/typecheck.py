"""Run mypy --strict over those of pyproject.toml's [tool.striate] typed that are written."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    paths = [ROOT / "striate" / name for name in settings["tool"]["striate"]["typed"]]
    written = [str(path.relative_to(ROOT)) for path in paths if path.exists()]
    if not written:
        print("types: nothing written yet")
        return 0
    return subprocess.call([sys.executable, "-m", "mypy", *written], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
