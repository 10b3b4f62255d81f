"""From the parts of a model to its file, or two: large weights may lie beside it.

What is written is complete before it gets its name. Weights beside the model get a name that is
free, so that at any moment the model that is there has the weights that it was written with.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np

import striate
from striate.dtype import DType
from striate.ir.graph import Value
from striate.ir.types import TensorType
from striate.onnx.read import onnx_package
from striate.onnx.writer.batch import Symbolic
from striate.weights.atomic import put_in_place, to_disk

OPSET = 21
OPSET_BFLOAT16 = 22  # the first in which convolutions and pools have it
LIMIT = 2**31 - 2**24  # bytes of weights that one message of protobuf has room for
SMALL = 1024  # bytes of a tensor that is in the model in any case
PAGE = 4096  # tensors beside the model begin at multiples, so that they can be mapped


def write(
    symbolic: Symbolic,
    path: Path,
    name: str,
    metadata: Mapping[str, str],
    external: bool | None,
) -> None:
    """Write a model, check it, and put it into its place.

    Raises:
        OSError: it cannot be written; what was there is intact.
    """
    onnx = onnx_package()
    constants = symbolic.parts.constants
    if external is None:
        external = sum(v.nbytes for v in constants.values()) > LIMIT
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        aside, taken = Path(folder) / path.name, _taken(path)
        names = (f"{path.name}.{k}.data" if k else f"{path.name}.data" for k in count())
        location = next(n for n in names if n not in taken)
        if external:
            with open(aside.with_name(location), "wb") as data:
                tensors = [_beside(n, v, data, location) for n, v in constants.items()]
                to_disk(data)
        else:
            tensors = [_inside(n, v) for n, v in constants.items()]
        with open(aside, "wb") as file:
            file.write(_model(symbolic, name, metadata, tensors).SerializeToString())
            to_disk(file)
        onnx.checker.check_model(aside, full_check=True)
        if external:
            put_in_place(aside.with_name(location), path.with_name(location))
        put_in_place(aside, path)
    for old in taken if external else ():
        with suppress(OSError):  # somebody may have it open
            path.with_name(old).unlink()


def _taken(path: Path) -> set[str]:
    """The files of weights that earlier models of this name have left beside it."""
    pattern = re.compile(re.escape(path.name) + r"(\.\d+)?\.data")
    return {p.name for p in path.parent.iterdir() if pattern.fullmatch(p.name)}


# ---- tensors -------------------------------------------------------------------------------


def _inside(name: str, value: Value) -> Any:
    return onnx_package().numpy_helper.from_array(np.asarray(value, order="C"), name)


def _beside(name: str, value: Value, data: BinaryIO, location: str) -> Any:
    """A tensor whose little-endian bytes are written to `data`, if it is not small."""
    if value.nbytes < SMALL:
        return _inside(name, value)
    if sys.byteorder == "big":
        value = value.byteswap()
    data.write(bytes(-data.tell() % PAGE))
    start = data.tell()
    data.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    proto = onnx_package().TensorProto
    tensor = proto(
        name=name,
        dims=value.shape,
        data_type=_number_of(value.dtype),
        data_location=proto.EXTERNAL,
    )
    for key, entry in (("location", location), ("offset", start), ("length", value.nbytes)):
        tensor.external_data.add(key=key, value=str(entry))
    return tensor


# ---- the model -----------------------------------------------------------------------------


def _number_of(dtype: Any) -> int:
    """ONNX's number for a dtype."""
    return int(onnx_package().helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _model(
    symbolic: Symbolic, name: str, metadata: Mapping[str, str], tensors: Sequence[Any]
) -> Any:
    onnx = onnx_package()
    helper = onnx.helper
    parts, shapes = symbolic.parts, symbolic.shapes

    def value(name: str, type: TensorType) -> Any:
        return helper.make_tensor_value_info(
            name, _number_of(type.dtype.numpy), shapes.get(name, type.shape)
        )

    nodes = []
    for item in parts.items:
        attributes = {
            k: _number_of(v.numpy) if isinstance(v, DType) else v
            for k, v in item.attributes.items()
        }
        nodes.append(
            helper.make_node(item.operator, item.inputs, item.outputs, name=item.name, **attributes)
        )
    graph = helper.make_graph(
        nodes,
        name,
        [value(n, t) for n, t in parts.inputs.items()],
        [value(n, t) for n, t in parts.outputs.items()],
        tensors,
        value_info=[value(n, t) for n, t in parts.types.items() if n not in parts.outputs],
    )
    types = [*parts.inputs.values(), *parts.outputs.values(), *parts.types.values()]
    opset = OPSET_BFLOAT16 if any(t.dtype.name == "bfloat16" for t in types) else OPSET
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="striate",
        producer_version=striate.__version__,
    )
    helper.set_model_props(model, dict(metadata))
    return model
