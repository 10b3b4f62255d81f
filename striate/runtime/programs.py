"""From the form of a graph to the program of a plan: through the passes, or from disk.

The passes and the lowering of a large network take longer than all its machine code takes to be
loaded. So a program is kept beside its kernels, in the same cache (`objects.py`), which says whom
it trusts; its key is all that it depends on: the identity of the form, the target, the settings
that passes read, and the versions of our sources, Python and NumPy. Its memory is not part of it:
`arena.py` places it anew for whatever threads there are.
"""

from __future__ import annotations

import pickle
import sys
import zlib
from collections.abc import Callable
from hashlib import sha256

import numpy as np

from striate.codegen.lower import PASSES, Lowering, Program
from striate.config import settings
from striate.ir.graph import Graph
from striate.runtime.debug import show_pass
from striate.runtime.jit import code_version, disk_cache
from striate.target import Target
from striate.transform.canonical import Canonical
from striate.transform.interpret import refuse_larger_than_memory

KIND = "plan"
PROTOCOL = 5
WORTH = 64  # rows of a form; a program of fewer is made as fast as it is read


def lowered(graph: Graph, target: Target) -> Program:
    """The program of a graph.

    Raises:
        MemoryError: a value is larger than the machine's memory.
        StriateError: a pass broke the graph (`verify`), or an op has no kernel.
    """
    for node in graph.nodes():
        refuse_larger_than_memory(node.op.name, node.type)
    show_pass("graph", graph)
    for name, change in PASSES:
        graph = change(graph, target)
        if settings().verify:
            graph.verify()
        show_pass(name, graph)
    return Lowering(graph, target).program


def program_for(form: Canonical, graph: Callable[[], Graph], target: Target) -> Program:
    """The program of a form, whose graph is made if it is needed.

    Raises:
        MemoryError: a value is larger than the machine's memory.
        StriateError: a pass broke the graph (`verify`), or an op has no kernel.
    """
    key = _key(form, target)
    program = None if key is None else _read(key)
    if program is None:
        program = lowered(graph(), target)
        if key is not None:
            disk_cache().put(key, zlib.compress(pickle.dumps(program, PROTOCOL), 1), KIND)
    else:
        refuse_larger_than_memory(*program.largest)
    return program


def _key(form: Canonical, target: Target) -> str | None:
    """The name of a form's program on disk; None if it is not to be there: it is small, cannot be
    told apart by a text, or somebody wants to see or check the passes.
    """
    chosen = settings()
    if len(form.key[0]) < WORTH or chosen.verify or chosen.debug:
        return None
    identity = form.identity()
    if identity is None:
        return None
    rest = (identity, target, chosen.precision, sys.version_info, np.__version__)
    return sha256(code_version() + repr(rest).encode()).hexdigest()


def _read(key: str) -> Program | None:
    """The program on disk, if there is one that can be read."""
    data = disk_cache().get(key, KIND)
    if data is None:
        return None
    try:
        program = pickle.loads(zlib.decompress(data))
    except Exception:  # what damaged bytes can raise has no end
        return None
    return program if isinstance(program, Program) else None
