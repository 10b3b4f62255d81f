from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.data import FormatError, npz, npz_file, read_npz
from striate.errors import ShapeError
from tests.mutate import mutations


def npy(array: Any, **header: Any) -> bytes:
    out = io.BytesIO()
    fields = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    np.lib.format.write_array_header_1_0(out, fields)
    return out.getvalue() + array.tobytes()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in members.items():
            out.writestr(name, data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_round_trip(tmp_path: Path, save: Any) -> None:
    arrays = {
        "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.float64(3.5),
        "empty": np.zeros((0, 5), np.int16),
        "text": np.array(["ab", "cde"]),
        "big": np.arange(3, dtype=">i4"),
        "record": np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
        "bool": np.array([True, False]),
    }
    save(tmp_path / "a.npz", **arrays)
    out = read_npz(tmp_path / "a.npz")
    assert set(out) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(out[name], array)
        assert out[name].dtype == np.asarray(array).dtype
        assert out[name].flags.f_contiguous == np.asarray(array).flags.f_contiguous


def test_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(FormatError, match="need pickle"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"shape": (1 << 40,)}, "= 1099511627776 bytes, the archive holds 4"),
        ({"shape": (1 << 62, 1 << 62)}, "the archive holds 4"),
        ({"shape": (-4,)}, "sizes >= 0"),
        ({"shape": (True, 4)}, "sizes >= 0"),
        ({"shape": (3,)}, "= 3 bytes, the archive holds 4"),
        ({"shape": (1,) * 33}, "at most 32 sizes"),
        ({"descr": "|O"}, "found the dtype object"),
        ({"descr": "|V0"}, "found the dtype"),
        ({"descr": "nonsense"}, "TypeError"),
        ({"more": 1}, "header of 'x.npy' has descr"),
    ],
)
def test_lying_headers(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.npz"
    archive(path, {"x.npy": npy(np.zeros(4, np.uint8), **header)})
    tracemalloc.start()
    with pytest.raises(FormatError, match=message):
        read_npz(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_members_that_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for data, message in [
        (b"", "begins with"),
        (b"hello, world", "begins with"),
        (b"\x93NUMPY\x01\x00\xff\xff{}", "at most 10000 bytes"),
        (b"\x93NUMPY\x01\x00\x10\x00{}", "announces 16 bytes, found 2"),
        (b"\x93NUMPY\x01\x00\x02\x00{}", "has descr"),
        (b"\x93NUMPY\x01\x00\x0c\x00__import__()", "ValueError"),
        (b"\x93NUMPY\x01\x00\x04\x00(((((", "SyntaxError"),
    ]:
        archive(path, {"x.npy": data})
        with pytest.raises(FormatError, match=message):
            read_npz(path)


def test_archives_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for data in (b"", b"PK", b"\x93NUMPY", bytes(1000)):
        path.write_bytes(data)
        with pytest.raises(FormatError, match="BadZipFile"):
            read_npz(path)
    archive(path, {"x.npy": npy(np.zeros(4))}, zipfile.ZIP_BZIP2)
    with pytest.raises(FormatError, match="method 12"):
        read_npz(path)
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "absent")


def test_zip_bombs(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(1 << 20, np.uint8))
    with pytest.raises(FormatError, match="at most 100000 arrays and 1000000 bytes"):
        read_npz(path, max_bytes=1_000_000)
    # a directory that announces 4 GiB for 100 packed bytes
    archive(path, {"x.npy": npy(np.zeros(4, np.uint8))})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 0xFFFF0000)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="announces 4294901760 bytes"):
        read_npz(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_random_damage(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.npz"
    archive(path, {"x.npy": npy(np.arange(20)), "y.npy": npy(np.ones(3))}, method)
    data = path.read_bytes()
    refused = 0
    for broken in mutations(data, 400, seed=method, focus=200):
        path.write_bytes(broken)
        try:
            read_npz(path)
        except FormatError:
            refused += 1
    assert refused > 200


def test_damaged_headers_behind_a_good_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for broken in mutations(npy(np.arange(20)), 300, seed=3, focus=128):
        archive(path, {"x.npy": broken}, zipfile.ZIP_STORED)
        try:
            read_npz(path)
        except FormatError:
            pass


def test_the_cap_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    real = npz_file.read_array

    def spy(*args: Any) -> Any:
        given.append(args[-1])
        return real(*args)

    monkeypatch.setattr(npz_file, "read_array", spy)
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    read_npz(tmp_path / "a.npz", max_bytes=1 << 40)  # above the default, down to the last reader
    assert given == [1 << 40]


def test_as_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    np.savez(path, x=x, grey=x[..., 0], y=np.array([1, 0], np.uint8), masks=x[..., 0])
    data = npz(path, layout="NHWC")
    assert data.x.shape == (2, 3, 4, 5)
    assert data.y.dtype == np.int64
    np.testing.assert_array_equal(data.x[1, 2], x[1, :, :, 2])
    assert npz(path, x="grey", y="masks", layout="NHW").x.shape == (2, 1, 4, 5)
    assert npz(path, x="grey", y="masks").y.shape == (2, 4, 5)
    with pytest.raises(FormatError, match="called 'images'"):
        npz(path, x="images")
    with pytest.raises(ShapeError, match="needs rank 3, 'x' has rank 4"):
        npz(path, layout="NHW")
    with pytest.raises(ValueError, match="'CHW'"):
        npz(path, layout="CHW")  # type: ignore[arg-type]
