from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from striate.data import FormatError, read_idx, read_idx_pair
from tests.data.builders import IDX_CODES, idx_bytes
from tests.mutate import mutations


@pytest.mark.parametrize("code", IDX_CODES)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 0, 3), (1, 2, 3, 4)])
@pytest.mark.parametrize("packed", [False, True])
def test_round_trip(tmp_path: Path, code: str, shape: tuple[int, ...], packed: bool) -> None:
    array = (np.arange(int(np.prod(shape))) - 3).astype(code).reshape(shape)
    data = idx_bytes(array)
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(data) if packed else data)
    out = read_idx(path)
    np.testing.assert_array_equal(out, array)
    assert out.dtype == array.dtype
    assert out.dtype.isnative
    assert out.flags.writeable


@given(hnp.arrays(st.sampled_from(["u1", "i2", "i4"]), hnp.array_shapes(max_dims=4)))
def test_round_trip_of_any_array(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.idx"
    path.write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path), array)


BIG = struct.pack(">I", 0xFFFFFFFF)
GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found 0 bytes"),
        (b"\0\0\x08", "found 3 bytes"),
        (b"\0\0\x07\x01" + bytes(8), "magic number"),
        (b"PK\x03\x04" + bytes(8), "magic number"),
        (b"\0\0\x08\x00", "rank is in 1..8"),
        (b"\0\0\x08\xff" + bytes(2000), "announces 255"),
        (b"\0\0\x08\x03" + bytes(5), "has 16 bytes, found 9"),
        (b"\0\0\x08\x08" + BIG * 8, "at most 4294967296 bytes are read"),
        (b"\0\0\x08\x03" + bytes(4) + BIG * 2, "at most 4294967296 bytes are read"),
        (b"\0\0\x08\x01" + struct.pack(">I", 1 << 31), "found at most 0 bytes"),
        (GOOD[:-1], "2 x 3 x 4 of 1 bytes = 24 bytes, found at most 23"),
        (GOOD + b"x", "announces 24 bytes, found more"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_files_are_named(tmp_path: Path, data: bytes, message: str, packed: bool) -> None:
    path = tmp_path / "broken.idx"
    path.write_bytes(gzip.compress(data) if packed else data)
    if packed and "at most" in message and "read" not in message:
        message = "bytes"  # how much a packed file holds is known only when it is unpacked
    tracemalloc.start()
    with pytest.raises(FormatError, match=message) as caught:
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "broken.idx" in str(caught.value)
    assert str(caught.value).startswith("read_idx: ")
    assert peak < 1 << 20


def test_a_gzip_bomb_costs_what_its_header_announces(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros(10, np.uint8)) + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(FormatError, match="announces 10 bytes, found more"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_the_cap_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(GOOD)
    assert read_idx(path, max_bytes=24).shape == (2, 3, 4)
    with pytest.raises(FormatError, match="at most 23 bytes are read"):
        read_idx(path, max_bytes=23)


def test_gzip_damage_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    packed = gzip.compress(GOOD)
    path.write_bytes(packed[:-5])
    with pytest.raises(FormatError, match="truncated"):
        read_idx(path)
    path.write_bytes(packed[:-8] + bytes(4) + packed[-4:])  # the CRC
    with pytest.raises(FormatError, match="CRC"):
        read_idx(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")
    with pytest.raises(FormatError, match="found a directory"):
        read_idx(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FormatError, match="pipe"):  # and does not wait for a writer
            read_idx(tmp_path / "pipe")


@pytest.mark.parametrize("packed", [False, True])
def test_random_damage(tmp_path: Path, packed: bool) -> None:
    data = gzip.compress(GOOD) if packed else GOOD
    path = tmp_path / "a"
    refused = 0
    for broken in mutations(data, 400, seed=packed, focus=20):
        path.write_bytes(broken)
        try:
            read_idx(path)
        except FormatError:
            refused += 1
    assert refused > 150


def test_pairs(tmp_path: Path) -> None:
    images, labels = tmp_path / "x", tmp_path / "y"
    images.write_bytes(idx_bytes(np.zeros((3, 2, 2), np.uint8)))
    labels.write_bytes(idx_bytes(np.array([0, 9, 3], np.uint8)))
    x, y = read_idx_pair(images, labels, 10)
    assert (x.shape, x.dtype, y.dtype) == ((3, 1, 2, 2), np.uint8, np.int64)
    with pytest.raises(FormatError, match=r"0\.\.8, sample 1 has the label 9"):
        read_idx_pair(images, labels, 9)
    with pytest.raises(FormatError, match="exchanged"):
        read_idx_pair(labels, images, 10)
    labels.write_bytes(idx_bytes(np.array([0, 9], np.uint8)))
    with pytest.raises(FormatError, match="each of the 3 images, found 2"):
        read_idx_pair(images, labels, 10)


def test_format_error_survives_pickling() -> None:
    import pickle

    error = FormatError("read_idx", "a", "rule", "found 3", "hint")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path, again.where) == (str(error), "a", "read_idx")
