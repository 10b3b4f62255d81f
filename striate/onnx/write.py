"""`save`: a module or a function as an ONNX file.

The function is traced, rewritten into ONNX's operators (`rewrite`), and emitted (`emit`): weights
are initialisers under the names of the `state_dict`, nodes stand under the paths of the modules
that made them. A file appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from striate.core.array import asarray
from striate.errors import ShapeError
from striate.ir.graph import Node, topological
from striate.ir.types import TensorType
from striate.nn.module import evaluation
from striate.onnx.read import onnx_package
from striate.onnx.writer.batch import PRIMES, fixed, with_batch
from striate.onnx.writer.emit import Emitter, Parts, refuse_unknown
from striate.onnx.writer.file import write
from striate.onnx.writer.rewrite import rewrite
from striate.onnx.writer.trace import is_array, trace
from striate.pytree import flatten


def save(
    f: Callable[..., Any],
    path: str | os.PathLike[str],
    example: Any,
    *,
    dynamic_batch: bool | str = False,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    external_data: bool | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a module or a function as an ONNX model.

    A module is written as it is in evaluation mode. Its weights are initialisers under their
    names in the `state_dict`; nodes are named after the modules that made them. Operators that
    follow from the layers (Conv, BatchNormalization, Gelu, ...) are written as such, all else as
    elementary operators.

    Args:
        f: a module, or a function of arrays.
        path: of the file; what stands there is replaced as a whole.
        example: the argument of `f`, or a tuple of them; only shapes and dtypes matter.
        dynamic_batch: True if the first axis of the inputs, where it has the size that it has in
            the first of them, may be of any size; a string is its name instead of "batch".
        input_names, output_names: in the order of the leaves; by default the names of the
            arguments of `f`, and `output`.
        external_data: whether large weights are in a second file beside the first (`path` +
            ".data", or ".1.data" and so on where that is taken by an older model); by default
            where one file would pass the 2 GB that ONNX allows.
        metadata: names and texts to store with the model.

    Raises:
        StriateError: ops that no ONNX operator is known for, all of which are listed; a function
            that assigns state; a batch axis that the function does not leave open.
        ShapeError: names that are too many, too few, or not different.
        ImportError: the package onnx is not installed.
        OSError: the file cannot be written; an old one is intact.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> net = st.nn.Sequential(st.nn.Conv2d(3, 8, 3), st.nn.ReLU())
    >>> with TemporaryDirectory() as folder:
    ...     st.onnx.save(net, Path(folder) / "net.onnx", st.ones((1, 3, 8, 8)))
    ...     st.onnx.load(Path(folder) / "net.onnx")(st.ones((1, 3, 8, 8))).shape
    (1, 8, 6, 6)
    """
    onnx_package()
    args = example if isinstance(example, tuple) else (example,)
    with evaluation(f):
        if dynamic_batch:
            first, second = (
                _parts(f, args, _types(args, batch), input_names, output_names) for batch in PRIMES
            )
            name = dynamic_batch if isinstance(dynamic_batch, str) else "batch"
            symbolic = with_batch(first, second, name)
        else:
            symbolic = fixed(_parts(f, args, _types(args, None), input_names, output_names))
    name = getattr(f, "__name__", type(f).__name__)
    write(symbolic, Path(path), name, metadata or {}, external_data)


def _types(args: tuple[Any, ...], batch: int | None) -> list[TensorType]:
    """The types of the arrays among the arguments, with another batch size if one is given."""
    types = [asarray(leaf).type for leaf in flatten(args)[0] if is_array(leaf)]
    if batch is None or not types:
        return types
    if not types[0].shape:
        raise ShapeError(f"onnx: the first input {types[0]} has no axis that could be the batch")
    size = types[0].shape[0]
    return [
        t.with_shape((batch, *t.shape[1:])) if t.shape and t.shape[0] == size else t for t in types
    ]


# ---- from a function to parts --------------------------------------------------------------


def _parts(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    types: list[TensorType],
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
) -> Parts:
    program = trace(f, args, types)
    program.inputs = _renamed("input_names", program.inputs, inputs)
    program.outputs = _renamed("output_names", program.outputs, outputs)
    taken = {*program.inputs, *program.outputs}
    if len(taken) != len(program.inputs) + len(program.outputs):
        raise ShapeError(
            f"onnx: inputs and outputs need different names, got {list(program.inputs)} and "
            f"{list(program.outputs)}"
        )
    new, paths = rewrite(program)
    results = {name: new[node] for name, node in program.outputs.items()}
    refuse_unknown(topological(results.values(), stop=lambda n: n.data is not None))
    names = {node: name for name, node in program.inputs.items()}
    for node, (name, _) in program.state.items():
        names[node] = _free(name, taken)
        taken.add(names[node])
    fresh: dict[Node, str] = {}
    for name, node in results.items():
        if node not in names and node not in fresh and node.inputs and node.data is None:
            fresh[node] = name
    values = {node: array.numpy() for node, (_, array) in program.state.items()}
    emitter = Emitter({**names, **fresh}, paths, values, reserved=taken)
    emitter.run(results.values())
    for name, node in results.items():
        if emitter.known[node] != name:
            emitter.copy(emitter.known[node], name, node.type)
    emitter.drop_unused(results)
    parts = emitter.parts
    parts.inputs = {name: node.type for name, node in program.inputs.items()}
    parts.outputs = {name: node.type for name, node in results.items()}
    return parts


def _renamed(what: str, named: dict[str, Node], names: Sequence[str] | None) -> dict[str, Node]:
    if names is None:
        return named
    if len(names) != len(named) or len(set(names)) != len(names):
        raise ShapeError(f"onnx: {what} must be {len(named)} different names, got {list(names)}")
    return dict(zip(names, named.values(), strict=True))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
