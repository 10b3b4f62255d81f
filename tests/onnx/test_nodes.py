"""The node tests of the `onnx` package for every operator that striate runs."""

from __future__ import annotations

import re

import pytest

import striate as st
from tests.onnx.nodes import cases, check

OPERATORS = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Concat Constant
    ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace Div Dropout Elu Equal Erf Exp
    Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid Identity
    InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mod Mul Neg Not OneHot Or PRelu Pad Pow
    RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape ReverseSequence Round
    Scatter ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
    Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh Tile Transpose Trilu Unsqueeze
    Where Xor
""".split()  # noqa: SIM905

# What is left out, by a pattern of the case's name, and why.
EXCLUDED = {
    r"FLOAT16|float16|_fp16": "striate has no dtype float16",
    r"FLOAT8|FLOAT4|INT4|INT2|e8m0": "striate has no dtypes of 8-bit floats, and of 4 and 2 bits",
    r"uint16|uint32|uint64|_ui64|bitwise_not_3d": "striate's only unsigned dtype is uint8",
    r"training_dropout": "the mask is that of NumPy's generator",
    r"identity_sequence|identity_opt": "striate runs tensors only",
    r"bitshift.*(int64|negative_shift)": "shifts of 64 bits, and by negative numbers",
    r"mod.*fmod_0": "the remainder of floats needs fmod=1",
    r"range_.*_expanded": "spelled out by a Loop",
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


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_compiled(operator: str) -> None:
    for case in included(operator):
        check(case)
