"""Memory shared with PyTorch, both ways, without a copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import striate as st

DTYPES = ["float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(dtype: str) -> None:
    x = st.asarray([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    t = torch.from_dlpack(x)
    assert t.dtype is getattr(torch, dtype) and t.shape == (2, 3)
    assert t.data_ptr() == x.numpy().ctypes.data
    back = st.from_dlpack(t)
    assert back.dtype is x.dtype and back.numpy().ctypes.data == t.data_ptr()
    assert back.tolist() == x.tolist()


def test_strides_sizes_and_scalars() -> None:
    t = torch.arange(6.0).reshape(2, 3).T
    x = st.from_dlpack(t)
    assert x.shape == (3, 2) and x.numpy().ctypes.data == t.data_ptr()
    np.testing.assert_array_equal((x + 1).numpy(), t.numpy() + 1)
    assert torch.from_dlpack(st.zeros((0, 3))).shape == (0, 3)
    assert torch.from_dlpack(st.asarray(3.0)).item() == 3


def test_a_dtype_that_we_do_not_have() -> None:
    with pytest.raises(st.DTypeError, match="float16"):
        st.from_dlpack(torch.ones(2).half())
    with pytest.raises(TypeError, match="no __dlpack__"):
        st.from_dlpack([1.0])
