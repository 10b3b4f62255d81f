"""Memory shared with NumPy, both ways; tests/torch/test_dlpack_torch.py has PyTorch."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import striate as st

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "float32", "float64"]


def address(x: st.Array) -> int:
    """Where the elements of an array lie."""
    data = x.realize().node.data
    assert data is not None
    return int(data.ctypes.data)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3), (1, 0)])
def test_to_numpy_and_back(dtype: str, shape: tuple[int, ...]) -> None:
    x = st.asarray(np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
    n = np.from_dlpack(x)
    np.testing.assert_array_equal(n, x.numpy(), strict=True)
    y = st.from_dlpack(n)
    assert y.type == x.type
    if x.size:
        assert n.ctypes.data == address(x) == address(y), "no copy either way"


def test_what_is_exported_cannot_be_written() -> None:
    x = st.asarray([1.0, 2.0])
    n = np.from_dlpack(x)
    with pytest.raises(ValueError, match="read-only"):
        n[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 5
    assert x.tolist() == [1, 2]


def test_a_copy_may_be_written() -> None:
    for x in (st.asarray([1.0, 2.0]), st.ones(2), st.from_dlpack(np.frombuffer(b"\0" * 8, "f4"))):
        before = x.tolist()
        n = np.from_dlpack(x, copy=True)
        n[0] = 5
        assert x.tolist() == before
        assert np.array(x, copy=True).flags.writeable


class BeforeOne:
    """A consumer's view of us from before DLPack 1.0: no max_version, no flags."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __dlpack__(self, **_: Any) -> Any:
        return self.x.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_consumers_from_before_dlpack_1() -> None:
    x = st.asarray([1.0, 2.0])
    assert np.from_dlpack(BeforeOne(x)).ctypes.data == address(x)
    for read_only in (st.ones(3), st.from_dlpack(np.frombuffer(b"\0" * 8, "f4"))):
        np.testing.assert_array_equal(np.from_dlpack(BeforeOne(read_only)), read_only.numpy())


def test_strides_are_kept() -> None:
    base = np.arange(24.0).reshape(4, 6)
    for view in (
        base.T,
        base[::2, 1::2],
        base[:, ::-1],
        base[1:1],
        np.broadcast_to(base[:1], (3, 6)),
    ):
        x = st.from_dlpack(view)
        np.testing.assert_array_equal(x.numpy(), view)
        np.testing.assert_array_equal((x * 2 + 1).numpy(), view * 2 + 1)
        np.testing.assert_array_equal(np.from_dlpack(x), view)


def test_the_owner_may_go() -> None:
    x = st.from_dlpack(np.arange(1000.0))
    n = np.from_dlpack(st.asarray(np.arange(1000.0)))
    for _ in range(10):
        np.full(1000, 7.0)
    np.testing.assert_array_equal(x.numpy(), np.arange(1000.0))
    np.testing.assert_array_equal(n, np.arange(1000.0))


def test_read_only_memory_comes_in() -> None:
    source = np.frombuffer(np.arange(4.0).tobytes())
    x = st.from_dlpack(source)
    assert address(x) == source.ctypes.data
    assert x.tolist() == [0, 1, 2, 3]


def test_bfloat16_keeps_its_bits() -> None:
    x = st.asarray([1.0, -2.5, np.inf, 0.1]).astype("bfloat16")
    y = st.from_dlpack(x)
    assert y.dtype is st.bfloat16
    assert address(y) == address(x)
    np.testing.assert_array_equal(y.numpy().view("u2"), x.numpy().view("u2"))
    assert x.numpy().dtype == ml_dtypes.bfloat16
    with pytest.raises(RuntimeError, match="Unsupported dtype"):
        np.from_dlpack(x)  # NumPy has no bfloat16


@pytest.mark.parametrize("dtype", ["f2", "c8", "u2", "u4", "u8"])
def test_dtypes_that_striate_has_not(dtype: str) -> None:
    with pytest.raises(st.DTypeError, match="is not a dtype of striate"):
        st.from_dlpack(np.zeros(2, dtype))


def test_wrong_objects() -> None:
    with pytest.raises(st.DTypeError, match="from_dlpack: list has no __dlpack__"):
        st.from_dlpack([1.0])
    with pytest.raises(BufferError, match="native byte order"):
        st.from_dlpack(np.zeros(2, np.dtype("f4").newbyteorder()))
    with pytest.raises(st.TraceError):
        st.jit(lambda x: np.from_dlpack(x))(st.ones(2))


def test_the_array_protocol() -> None:
    x = st.asarray([[1, 2], [3, 4]])
    assert np.asarray(x).ctypes.data == address(x)
    np.testing.assert_array_equal(np.asarray(x, "f4"), np.float32([[1, 2], [3, 4]]), strict=True)
    with pytest.raises(ValueError, match="needs a copy"):
        np.array(x, "f4", copy=False)
    assert x.__dlpack_device__() == (1, 0)
    assert x.__array_namespace__() is st
