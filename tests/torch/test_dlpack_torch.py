"""Memory shared with PyTorch, both ways, bfloat16 included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import striate as st

DTYPES = {
    "bool": torch.bool, "int8": torch.int8, "int16": torch.int16, "int32": torch.int32,
    "int64": torch.int64, "uint8": torch.uint8, "bfloat16": torch.bfloat16,
    "float32": torch.float32, "float64": torch.float64,
}  # fmt: skip
SHAPES = [(), (3,), (2, 3), (0, 3)]


def address(x: st.Array) -> int:
    data = x.realize().node.data
    assert data is not None
    return int(data.ctypes.data)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways(name: str, shape: tuple[int, ...]) -> None:
    values = (np.arange(np.prod(shape)).reshape(shape) % 2).astype("f4")
    x = st.asarray(values).astype(name)
    t = torch.from_dlpack(x)
    assert t.dtype is DTYPES[name]
    assert tuple(t.shape) == shape
    np.testing.assert_array_equal(t.double().numpy(), values)
    y = st.from_dlpack(t)
    assert y.type == x.type
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    if x.size:
        assert t.data_ptr() == address(x) == address(y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strided_tensors(dtype: torch.dtype) -> None:
    base = torch.arange(24.0).reshape(4, 6).to(dtype)
    for t in (base.T, base[::2, 1::2], base[1:], base.expand(2, 4, 6), base[:0]):
        x = st.from_dlpack(t)
        assert x.shape == tuple(t.shape)
        np.testing.assert_array_equal(x.numpy().astype("f4"), t.float().numpy())
        again = torch.from_dlpack(x)
        assert torch.equal(again, t)


def test_bits_of_bfloat16() -> None:
    t = torch.tensor([1.0, -0.0, float("inf"), 1e-40, 3.3895e38]).bfloat16()
    x = st.from_dlpack(t)
    np.testing.assert_array_equal(x.numpy().view("i2"), t.view(torch.int16).numpy())
    kept = [0, 1, 2, 4]  # arithmetic may take what is below the least normal number for zero
    assert torch.equal(torch.from_dlpack(x + 0.0)[kept], (t + 0.0)[kept])


def test_lazy_values_are_computed() -> None:
    t = torch.from_dlpack(st.conv(st.ones((1, 1, 5)), st.ones((1, 1, 2))) * 3)
    assert torch.equal(t, torch.full((1, 1, 4), 6.0))
    assert torch.equal(torch.from_dlpack(st.ones((2, 2))), torch.ones(2, 2))


def test_a_copy_is_the_consumers() -> None:
    x = st.asarray([1.0, 2.0])
    t = torch.from_dlpack(x, copy=True)
    t += 1
    assert x.tolist() == [1, 2]


def test_refused() -> None:
    for t, error in (
        (torch.zeros(2, requires_grad=True), BufferError),
        (torch.zeros(2, device="meta"), BufferError),
        (torch.zeros(2).half(), st.DTypeError),
        (torch.zeros(2, dtype=torch.complex64), st.DTypeError),
        (torch.zeros(2, dtype=torch.float8_e4m3fn), st.DTypeError),
    ):
        with pytest.raises(error):
            st.from_dlpack(t)
