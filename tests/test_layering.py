"""The layers of the package, enforced: a module imports only what stands below it.

The table is docs/architecture.md's. Every file is parsed, nothing is imported: an import counts
wherever it stands, under `if TYPE_CHECKING` too (but for the facade, whose libraries load on first
use). The last tests try the checker itself on small trees that break one rule each.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom up. `striate` itself is the facade over all up to core, which libraries may use.
LAYERS = {
    "values": ["errors", "dtype", "config", "pytree", "target", "memory"],
    "ir": ["ir"],
    "ops": ["ops"],
    "transform": ["transform"],
    "codegen": ["codegen"],
    "runtime": ["runtime"],
    "core": ["core"],
    "facade": [""],
    "libraries": ["nn", "optim", "data", "weights", "models", "train", "tools", "viz"],
    "frontends": ["cli", "demo", "torch_backend", "onnx", "distributed", "__main__"],
}
LAYER = {part: layer for layer, parts in LAYERS.items() for part in parts}
HEIGHT = {layer: height for height, layer in enumerate(LAYERS)}

# What a library may import of its own layer, and of the layers below where that is not all.
SIBLINGS = {
    "nn": {"nn"},
    "optim": {"optim", "nn"},
    "data": {"data"},
    "models": {"models", "nn"},
    "weights": {"weights", "nn", "data"},
    "train": {"train", "nn", "optim", "data", "weights", "models"},
    "tools": {"tools", "nn"},
    "viz": {"viz", "nn"},
}
BELOW = {"data": {"values"}, "viz": {"values", "core", "facade"}}

# Third parties: the required ones are imported at the top, LLVM where the compiler is (and on first
# use), the optional ones inside the functions of the parts that make something of them.
OPTIONAL = {
    "PIL",
    "matplotlib",
    "rich",
    "safetensors",
    "onnx",
    "google",  # protobuf, which comes with onnx
    "onnxruntime",
    "torch",
    "torchvision",
    "mpi4py",
}
USES_OPTIONAL = {"data", "viz", "train", *LAYERS["frontends"]}
USES_LLVM = {"codegen", "runtime"}
MAY_IMPORT_BY_NAME = {"", *USES_OPTIONAL, *USES_LLVM}  # importlib.import_module hides an import


class Import(NamedTuple):
    """One imported module, absolute, and where."""

    module: str
    line: int
    in_function: bool


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, name: str, modules: set[str]) -> Iterator[Import]:
    """Every import in the file. `from a import b` imports `a.b` if `modules` has it, else `a`."""

    def visit(node: ast.AST, in_function: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, in_function)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield Import(inner if inner in modules else source, node.lineno, in_function)
        deeper = (
            in_function
            or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            or (name == "striate" and is_type_checking(node))  # the types of what PEP 562 loads
        )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, deeper)

    return visit(ast.parse(path.read_text(encoding="utf-8"), str(path)), False)


def is_type_checking(node: ast.AST) -> bool:
    """Is it `if TYPE_CHECKING:` without an else?"""
    return (
        isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse
    )


def part_of(module: str) -> str:
    """`striate.ir.graph` -> `ir`, `striate` -> the empty string."""
    _, _, inner = module.partition(".")
    return inner.partition(".")[0]


def breaks_layers(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported` (parts of the package), or None."""
    above, below = LAYER[importer], LAYER[imported]
    if importer == imported:
        return None
    if above == below == "libraries":
        if imported in SIBLINGS[importer]:
            return None
        return f"{importer} may import of its layer only {', '.join(sorted(SIBLINGS[importer]))}"
    if HEIGHT[below] > HEIGHT[above]:
        return f"{below} stands above {above}"
    if below not in BELOW.get(importer, {below}):
        return f"{importer} may import only {', '.join(sorted(BELOW[importer]))}"
    return None


def breaks_third_party(importer: str, module: str, in_function: bool) -> str | None:
    """Why `importer` may not import `module`, which is not ours, there, or None."""
    party = module.partition(".")[0]
    if module == "importlib" and importer not in MAY_IMPORT_BY_NAME:
        return "importlib.import_module would hide an import"
    if party == "llvmlite":
        if importer not in USES_LLVM:
            return "LLVM belongs to codegen and runtime"
    elif party in OPTIONAL:
        if importer not in USES_OPTIONAL:
            return f"optional third parties belong to {', '.join(sorted(USES_OPTIONAL))}"
        if not in_function and LAYER[importer] != "frontends":
            return f"{party} is optional: import it in the function that needs it"
    elif in_function:
        return "an import inside a function (only optional third parties and llvmlite may be)"
    return None


def violations(root: Path) -> list[str]:
    """All breaches of the rules by the package at root/striate, each as `file:line: ...`."""
    files = {module_name(path, root): path for path in sorted(root.glob("striate/**/*.py"))}
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        importer = part_of(name)
        where = path.relative_to(root).as_posix()
        if importer not in LAYER:
            found.append(f"{where}: striate.{importer} is in no layer of tests/test_layering.py")
            continue
        graph[name] = set()
        for item in imports(path, name, set(files)):
            party, _, _ = item.module.partition(".")
            imported = part_of(item.module)
            if party != "striate":
                why = breaks_third_party(importer, item.module, item.in_function)
            elif item.in_function:
                # Only the facade may wait: PEP 562 loads libraries and frontends on first use.
                why = "an import inside a function" if importer else None
            elif imported not in LAYER:
                why = f"striate.{imported} is in no layer"
            else:
                why = breaks_layers(importer, imported)
                if item.module != name:
                    graph[name].add(item.module)
            if why:
                found.append(f"{where}:{item.line}: imports {item.module}: {why}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("a cycle of imports: " + " <- ".join(error.args[1]))
    return found


def test_imports_go_downward() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"ir/graph.py": "from striate.ops import conv", "ops/conv.py": ""}, "ops stands above ir"),
        ({"ir/graph.py": "from ..ops import conv", "ops/conv.py": ""}, "ops stands above ir"),
        ({"ir/graph.py": "import striate"}, "facade stands above ir"),
        (
            {
                "errors.py": "if TYPE_CHECKING:\n    import striate.ir.graph",
                "ir/graph.py": "",
            },
            "ir stands above values",
        ),
        (
            {"ops/a.py": "from . import b", "ops/b.py": "from striate.ops.a import x"},
            "a cycle of imports",
        ),
        (
            {"nn/a.py": "import striate.optim", "optim/__init__.py": ""},
            "nn may import of its layer only nn",
        ),
        (
            {"data.py": "from striate.core.api import grad", "core/api.py": ""},
            "data may import only values",
        ),
        (
            {"viz.py": "import striate.transform.fuse", "transform/fuse.py": ""},
            "viz may import only",
        ),
        ({"train.py": "import striate.cli", "cli.py": ""}, "frontends stands above libraries"),
        ({"ops/a.py": "def f():\n    import json"}, "inside a function"),
        (
            {"core/a.py": "def f():\n    import striate.errors", "errors.py": ""},
            "inside a function",
        ),
        ({"core/a.py": "import llvmlite.binding"}, "LLVM belongs to"),
        ({"core/a.py": "from importlib import import_module"}, "would hide an import"),
        ({"nn/a.py": "def f():\n    import torch"}, "optional third parties belong to"),
        ({"viz.py": "import matplotlib.pyplot"}, "matplotlib is optional"),
        ({"__init__.py": "from striate import nn", "nn.py": ""}, "libraries stands above facade"),
        ({"novelty.py": ""}, "striate.novelty is in no layer"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    found = violations(tree(tmp_path, files))
    assert len(found) == 1
    assert expected in found[0]


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from .core.api import grad\nif TYPE_CHECKING:\n    from striate import nn",
        "errors.py": "import json",
        "ir/__init__.py": "from .graph import Graph",
        "ir/graph.py": "from . import types\nfrom striate.errors import ShapeError",
        "ir/types.py": "import numpy as np",
        "codegen/emit.py": "def f():\n    import llvmlite.ir",
        "core/api.py": "from striate.ir import Graph",
        "nn/__init__.py": "import striate as st",
        "optim.py": "from striate import nn",
        "viz.py": "import striate as st\ndef f():\n    import matplotlib.pyplot",
        "torch_backend.py": "import torch\nfrom striate import nn, viz",
    }
    assert violations(tree(tmp_path, files)) == []


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "striate" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
