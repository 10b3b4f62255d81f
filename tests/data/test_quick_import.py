from __future__ import annotations

import subprocess
import sys


def test_import_loads_no_optional_party() -> None:
    code = (
        "import sys, striate.data as d; "
        "bad = {'PIL', 'urllib.request', 'ssl', 'matplotlib'} & set(sys.modules); "
        "assert not bad, bad; "
        "assert all(hasattr(d, name) for name in d.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
