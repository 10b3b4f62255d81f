"""Models in the format of ONNX: `load` reads one as a module."""

from __future__ import annotations

from striate.onnx.model import ModelError as ModelError
from striate.onnx.module import OnnxModule as OnnxModule, load as load

__all__ = ["ModelError", "OnnxModule", "load"]
