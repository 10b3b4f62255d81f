"""Print the lines of every file of the package; fail if one passes 600 (it is two files)."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 600


def main() -> int:
    packages: dict[str, list[tuple[str, int]]] = defaultdict(list)
    too_long = []
    for path in sorted(ROOT.glob("striate/**/*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        name = path.relative_to(ROOT)
        packages[name.parent.as_posix()].append((name.name, lines))
        if lines > LIMIT:
            too_long.append(f"{name.as_posix()}: {lines} lines")
    for package, files in packages.items():
        print(f"{package}/  {sum(lines for _, lines in files)}")
        for name, lines in files:
            print(f"  {lines:5d}  {name}")
    print(f"{sum(lines for files in packages.values() for _, lines in files):7d}  in all")
    for line in too_long:
        print(f"over {LIMIT} lines: {line}", file=sys.stderr)
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
