"""Models in the format of ONNX: `load` reads one as a module, `save` writes one."""

from __future__ import annotations

from striate.onnx.model import ModelError as ModelError
from striate.onnx.module import OnnxModule as OnnxModule, load as load
from striate.onnx.write import save as save

__all__ = ["ModelError", "OnnxModule", "load", "save"]
