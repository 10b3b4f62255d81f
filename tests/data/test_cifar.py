from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.data import FormatError, read_cifar_binary, read_cifar_pickle
from tests.data.builders import cifar_records, python2_pickle
from tests.mutate import mutations


def test_binary_cifar10(tmp_path: Path) -> None:
    data = cifar_records(7)
    (tmp_path / "a.bin").write_bytes(data)
    x, y = read_cifar_binary(tmp_path / "a.bin", "cifar10")
    assert (x.shape, x.dtype, y.dtype) == ((7, 3, 32, 32), np.uint8, np.int64)
    records = np.frombuffer(data, np.uint8).reshape(7, 3073)
    np.testing.assert_array_equal(y, records[:, 0])
    np.testing.assert_array_equal(x[4, 1, 2, 3], records[4, 1 + 1024 + 2 * 32 + 3])
    assert x.flags.c_contiguous


def test_binary_cifar100(tmp_path: Path) -> None:
    data = cifar_records(4, "cifar100")
    (tmp_path / "a.bin").write_bytes(data)
    records = np.frombuffer(data, np.uint8).reshape(4, 3074)
    for column, labels in enumerate(("coarse", "fine")):
        x, y = read_cifar_binary(tmp_path / "a.bin", "cifar100", labels=labels)  # type: ignore[arg-type]
        np.testing.assert_array_equal(y, records[:, column])
        np.testing.assert_array_equal(x.reshape(4, -1), records[:, 2:])


def test_broken_binary(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for data, message in [
        (b"", "found 0 bytes"),
        (cifar_records(2)[:-1], "records of 3073 bytes, found 6145 bytes = 1 records and 3072"),
        (cifar_records(3, "cifar100"), "other kind"),
        (cifar_records(1) + bytes([10]) + bytes(3072), "sample 1 has the label 10"),
    ]:
        path.write_bytes(data)
        with pytest.raises(FormatError, match=message):
            read_cifar_binary(path, "cifar10")
    with pytest.raises(ValueError, match="'cifar11'"):
        read_cifar_binary(path, "cifar11")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels"):
        read_cifar_binary(path, labels="rough")  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="at most 10 bytes"):
        read_cifar_binary(path, max_bytes=10)
    with pytest.raises(FileNotFoundError):
        read_cifar_binary(tmp_path / "absent")


def test_damaged_binary(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for broken in mutations(cifar_records(3), 200, seed=0, focus=2):
        path.write_bytes(broken)
        try:
            x, y = read_cifar_binary(path)
        except FormatError:
            continue
        assert x.shape[1:] == (3, 32, 32)
        assert y.max() < 10


@pytest.mark.parametrize("text", [str, str.encode])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickle_of_python3(tmp_path: Path, text: Any, protocol: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
    batch = {
        text("data"): data,
        text("labels"): [1, 9, 0],
        text("fine_labels"): [99, 0, 5],
        text("coarse_labels"): [19, 0, 1],
    }
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(batch, protocol))
    x, y = read_cifar_pickle(path)
    np.testing.assert_array_equal(x.reshape(3, 3072), data)
    assert x.flags.writeable
    assert (y.dtype, y.tolist()) == (np.int64, [1, 9, 0])
    assert read_cifar_pickle(path, "cifar100")[1].tolist() == [99, 0, 5]
    assert read_cifar_pickle(path, "cifar100", labels="coarse")[1].tolist() == [19, 0, 1]


def test_pickle_of_python2_equals_binary(tmp_path: Path) -> None:
    records = np.frombuffer(cifar_records(6), np.uint8).reshape(6, 3073)
    (tmp_path / "a.bin").write_bytes(records.tobytes())
    labels = {"labels": records[:, 0].tolist()}
    (tmp_path / "a").write_bytes(python2_pickle(records[:, 1:], labels))
    for a, b in zip(
        read_cifar_binary(tmp_path / "a.bin"), read_cifar_pickle(tmp_path / "a"), strict=True
    ):
        np.testing.assert_array_equal(a, b)


GOOD = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "found NoneType"),
        ({"labels": [0]}, "found NoneType"),
        (GOOD | {"data": np.zeros((2, 3071), np.uint8)}, r"found uint8\[2, 3071\]"),
        (GOOD | {"data": np.zeros((2, 3072), np.int8)}, "found int8"),
        (GOOD | {"data": b"123"}, "found bytes"),
        (GOOD | {"labels": [0]}, "each of the 2 images, found 1 labels"),
        (GOOD | {"labels": [0, 10]}, "sample 1 has the label 10"),
        (GOOD | {"labels": [0, -1]}, "label -1"),
        (GOOD | {"labels": [0, 1 << 70]}, "above"),
        (GOOD | {"labels": [0, 1.5]}, "list of integers"),
        (GOOD | {"labels": "01"}, "list of integers"),
        ({"data": GOOD["data"], "fine_labels": [1, 2]}, "CIFAR-100 'fine_labels'"),
    ],
)
def test_foreign_pickles(tmp_path: Path, batch: Any, message: str) -> None:
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(batch))
    with pytest.raises(FormatError, match=message):
        read_cifar_pickle(path)


def test_damaged_pickle(tmp_path: Path) -> None:
    data = python2_pickle(np.zeros((2, 3072), np.uint8), {"labels": [3, 1]})
    path = tmp_path / "a"
    for broken in mutations(data, 300, seed=0, focus=250):
        path.write_bytes(broken)
        try:
            x, y = read_cifar_pickle(path)
        except FormatError:
            continue
        assert len(x) == len(y)
