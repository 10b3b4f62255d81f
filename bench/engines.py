"""Inference engines that take a model file: ONNX Runtime, OpenVINO, ncnn.

Each function turns a model into a call of no arguments for one input. Threads are set alike.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.layers import Layer
from bench.timing import Unavailable

Call = Callable[[], NDArray[Any]]


def need(name: str) -> Any:
    """A module.

    Raises:
        Unavailable: it is not installed, or does not load.
    """
    try:
        return import_module(name)
    except Exception as error:
        raise Unavailable(f"{name}: {error}".splitlines()[0]) from error


def onnx_of_layer(layer: Layer, w: NDArray[Any]) -> bytes:
    """A model of one convolution whose filter is known."""
    onnx = need("onnx")
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(layer.dtype))
    attributes: dict[str, Any] = {
        "strides": layer.stride, "pads": layer.padding * 2, "dilations": layer.dilation,
        "group": layer.groups, "kernel_shape": layer.kernel,
    }  # fmt: skip
    if layer.transposed:
        attributes["output_padding"] = layer.output_padding
    op = "ConvTranspose" if layer.transposed else "Conv"
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], **attributes)],
        "layer",
        [helper.make_tensor_value_info("x", kind, layer.x_shape)],
        [helper.make_tensor_value_info("y", kind, layer.y_shape)],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def onnx_of_network(net: Any, x: Any) -> bytes:
    """A PyTorch module, exported in evaluation mode."""
    torch = need("torch")
    need("onnx"), need("onnxscript")
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        path = Path(directory) / "net.onnx"
        torch.onnx.export(net, (x,), str(path), dynamo=True, external_data=False, verbose=False)
        logging.disable(logging.NOTSET)
        return path.read_bytes()


def onnxruntime(model: bytes, x: NDArray[Any], threads: int) -> Call:
    """All graph optimisations."""
    ort = need("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]  # type: ignore[no-any-return]


def openvino(model: bytes, x: NDArray[Any], threads: int) -> Call:
    """Latency hint, arithmetic in the dtype of x."""
    ov = need("openvino")
    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f64" if x.dtype == np.float64 else "f32",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(x))  # a copy: a shared one would not keep x alive

    def call() -> NDArray[Any]:
        request.infer()
        data: NDArray[Any] = request.get_output_tensor(0).data
        return data

    return call


# ---- ncnn ----------------------------------------------------------------------------------


def _ncnn_net(threads: int) -> tuple[Any, Any]:
    ncnn = need("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_winograd_convolution = True
    net.opt.use_sgemm_convolution = True
    net.opt.use_packing_layout = True
    net.opt.use_vulkan_compute = False
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)
    return ncnn, net


def _ncnn_call(ncnn: Any, net: Any, x: NDArray[Any], names: tuple[str, str]) -> Call:
    """x: [1, C, *I]"""
    given = ncnn.Mat(x[0]).clone()

    def call() -> NDArray[Any]:
        extractor = net.create_extractor()
        extractor.input(names[0], given)
        status, out = extractor.extract(names[1])
        if status:
            raise RuntimeError(f"ncnn: extract returned {status}")
        return np.array(out)[None]

    return call


def ncnn_layer(layer: Layer, w: NDArray[Any], x: NDArray[Any], threads: int) -> Call:
    """Winograd and packed layouts, float32."""
    if layer.ndim != 2 or layer.transposed or layer.batch > 1 or layer.dtype != "float32":
        raise Unavailable("ncnn: only 2-D float32 convolutions of one sample")
    ncnn, net = _ncnn_net(threads)
    grouped = layer.groups > 1
    pairs = {
        0: layer.features, 1: layer.kernel[1], 11: layer.kernel[0], 2: layer.dilation[1],
        12: layer.dilation[0], 3: layer.stride[1], 13: layer.stride[0], 4: layer.padding[1],
        14: layer.padding[0], 5: 0, 6: w.size, **({7: layer.groups} if grouped else {}),
    }  # fmt: skip
    kind = "ConvolutionDepthWise" if grouped else "Convolution"
    words = " ".join(f"{k}={v}" for k, v in pairs.items())
    text = f"7767517\n2 2\nInput in 0 1 x\n{kind} conv 1 1 x y {words}\n"
    with tempfile.TemporaryDirectory() as directory:
        param, binary = Path(directory) / "net.param", Path(directory) / "net.bin"
        param.write_text(text)
        binary.write_bytes(bytes(4) + w.tobytes())  # the flag 0: float32 as it is
        if net.load_param(str(param)) or net.load_model(str(binary)):
            raise RuntimeError("ncnn: the model does not load")
    return _ncnn_call(ncnn, net, x, ("x", "y"))


def ncnn_network(net: Any, x: Any, threads: int) -> Call:
    """A PyTorch module, converted by pnnx."""
    torch, pnnx = need("torch"), need("pnnx")
    if x.shape[0] > 1:
        raise Unavailable("ncnn: one sample at a time")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "net.pt"
        torch.jit.trace(net, x, check_trace=False).save(str(path))
        shape = f"inputshape=[{','.join(map(str, x.shape))}]"
        subprocess.run(
            [pnnx.EXEC_PATH, str(path), shape, "fp16=0"], check=True, capture_output=True
        )
        ncnn, target = _ncnn_net(threads)
        files = [str(path.with_suffix(f".ncnn.{s}")) for s in ("param", "bin")]
        if target.load_param(files[0]) or target.load_model(files[1]):
            raise RuntimeError("ncnn: the converted model does not load")
    return _ncnn_call(ncnn, target, x.numpy(), ("in0", "out0"))
