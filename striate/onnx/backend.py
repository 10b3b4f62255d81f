"""striate as a backend of the `onnx` package: what its test suite and tools run models with.

>>> import onnx.parser
>>> from striate.onnx import backend
>>> text = '<ir_version: 8, opset_import: ["": 17]> g (float[n] x) => (float[n] y) { y = Abs(x) }'
>>> backend.run_model(onnx.parser.parse_model(text), [np.float32([-2, 1])])
(array([2., 1.], dtype=float32),)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto
from onnx.backend.base import Backend, BackendRep

from striate.errors import DTypeError
from striate.ir.graph import Value
from striate.onnx.module import OnnxModule
from striate.onnx.read import read_proto


class StriateRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, net: OnnxModule) -> None:
        self.net = net

    def run(self, inputs: Sequence[Any], **kwargs: Any) -> tuple[Value, ...]:
        """The outputs for these inputs, as NumPy arrays; float16 is rounded to here."""
        result = self.net(*inputs)
        outputs = result if isinstance(result, tuple) else (result,)
        return tuple(
            y.numpy().astype(np.float16) if declared.dtype == "FLOAT16" else y.numpy()
            for declared, y in zip(self.net.graph.outputs, outputs, strict=True)
        )


class StriateBackend(Backend):
    """See `onnx.backend.base.Backend`."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> StriateRep:
        """The model, ready to run.

        Raises:
            DTypeError: the device is not the CPU.
            ModelError: the model is not valid, or has operators that striate does not run.
        """
        if not cls.supports_device(device):
            raise DTypeError(f"onnx: striate runs on CPU, got the device {device!r}")
        return StriateRep(OnnxModule(read_proto(model)))

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Value, ...]:
        """The outputs of a model for these inputs."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models run on `device`: on the CPU."""
        return device.partition(":")[0] == "CPU"


prepare = StriateBackend.prepare
run_model = StriateBackend.run_model
supports_device = StriateBackend.supports_device
