"""From a function or a module to the parts of an ONNX model."""
