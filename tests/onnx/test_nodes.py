"""The node tests of the `onnx` package for every operator that striate runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx.backend.test
import onnx.numpy_helper
import pytest

import striate as st
from tests.onnx.nodes import cases, check, check_folder

OPERATORS = """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
    BatchNormalization BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike
    CausalConvWithState Ceil Celu CenterCropPad Clip Col2Im Compress Concat Constant
    ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumProd CumSum DeformConv DepthToSpace
    DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool
    Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity If
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax Loop LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxUnpool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg NegativeLogLikelihoodLoss NonMaxSuppression
    NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization
    RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign
    Round Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size
    Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
    Sum SwiGLU Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample
    Where Xor
""".split()  # noqa: SIM905

# What is left out, by a pattern of the case's name, and why.
EXCLUDED = {
    r"FLOAT8|FLOAT4|INT4|INT2|e8m0": "striate has no dtypes of 8-bit floats, and of 4 and 2 bits",
    r"_(e4m3fn|e5m2|u?int4|u?int2|float4e2m1)": "striate has no dtypes of 8-bit floats, and below",
    r"(if|loop\d+)_(seq|opt)": "striate runs tensors only",
    r"scan_sum": "the Scan of opset 8, with a batch axis of its own",
    r"uint16|uint32|uint64|_ui64|bitwise_not_3d": "striate's only unsigned dtype is uint8",
    r"training_dropout": "the mask is that of NumPy's generator",
    r"identity_sequence|identity_opt": "striate runs tensors only",
    r"bitshift.*(int64|negative_shift)": "shifts of 64 bits, and by negative numbers",
    r"string": "striate runs numbers only",
}


def reason(name: str) -> str:
    """Why a case is left out; empty if it is not."""
    return next((why for pattern, why in EXCLUDED.items() if re.search(pattern, name)), "")


def included(operator: str) -> list[object]:
    found = [case for case in cases()[operator] if not reason(case.name)]
    assert found, f"onnx has no test of {operator}"
    return found


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator(operator: str) -> None:
    """By the NumPy interpreter: what is tested is how operators are read."""
    with st.config(backend="numpy"):
        for case in included(operator):
            check(case)


LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
NETWORKS = ("squeezenet", "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50",
            "shufflenet", "vgg19", "zfnet512")  # fmt: skip


@pytest.mark.parametrize(
    "name", [NETWORKS[0], *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS[1:])]
)
def test_a_light_model(name: str) -> None:
    """Whole networks, whose weights are made by ConstantOfShape, with their recorded outputs."""
    net = st.onnx.load(LIGHT / f"light_{name}.onnx")
    expected = onnx.TensorProto.FromString((LIGHT / f"light_{name}_output_0.pb").read_bytes())
    (image,) = net.graph.inputs
    assert image.shape is not None
    sizes = [n if isinstance(n, int) else 1 for n in image.shape]
    x = np.random.default_rng(0).random(sizes, np.float32)  # equal weights: any image will do
    y = onnx.numpy_helper.to_array(expected)
    np.testing.assert_allclose(net(x).numpy(), y, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["pytorch-converted", "pytorch-operator"])
def test_models_of_old_versions(kind: str) -> None:
    """Layers as PyTorch exported them in 2017, in opset 6."""
    from onnx.backend.test.loader import load_model_tests

    found = load_model_tests(kind=kind)
    assert len(found) > 30
    with st.config(backend="numpy"):
        for case in found:
            check_folder(case)


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_compiled(operator: str) -> None:
    for case in included(operator):
        check(case)
