from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.data import (
    CIFAR10_CLASSES,
    CIFAR100_COARSE_CLASSES,
    CIFAR100_FINE_CLASSES,
    DownloadError,
    FormatError,
    Resource,
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    mnist,
    sources,
)
from tests.data.builders import cifar_records, python2_pickle, write_mnist


@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
def test_mnist_is_found(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / place, 5, "test")
    data = mnist(tmp_path, "test")
    assert (data.x.shape, data.x.dtype, data.y.tolist()) == ((5, 1, 4, 4), np.uint8, [*range(5)])
    assert data.classes == tuple("0123456789")
    monkeypatch.setenv("STRIATE_DATA_DIR", str(tmp_path))
    assert len(mnist(split="test")) == 5
    with pytest.raises(FileNotFoundError, match=r"'train-images-idx3-ubyte' \(or .gz\) is in none"):
        mnist()


def test_other_spellings(tmp_path: Path) -> None:
    write_mnist(tmp_path, 4)
    for path in list(tmp_path.iterdir()):
        packed = gzip.compress(path.read_bytes())
        path.with_name(path.name.replace("-idx", ".idx") + ".gz").write_bytes(packed)
        path.unlink()
    assert len(mnist(tmp_path)) == 4
    assert len(fashion_mnist(tmp_path)) == 4


def test_mnist_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    write_mnist(source, 6)
    digests = []
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        packed = gzip.compress((source / name).read_bytes())
        (source / f"{name}.gz").write_bytes(packed)
        digests.append(hashlib.md5(packed).hexdigest())
    monkeypatch.setattr(sources, "_MNIST_URLS", (source.as_uri() + "/",))
    with pytest.raises(DownloadError, match="f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        mnist(root, download=True)
    monkeypatch.setattr(sources, "_MNIST_MD5", {"train": tuple(digests)})
    assert len(mnist(root, download=True)) == 6
    assert len(mnist(root)) == 6


def write_cifar10(folder: Path, form: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        data = cifar_records(2, seed=k)
        if form == "binary":
            (folder / f"{name}.bin").write_bytes(data)
        else:
            records = np.frombuffer(data, np.uint8).reshape(2, 3073)
            labels = {"labels": records[:, 0].tolist()}
            (folder / name).write_bytes(python2_pickle(records[:, 1:], labels))


PLACES = {
    "binary": [".", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10"],
    "pickle": [".", "cifar-10-batches-py"],
}


@pytest.mark.parametrize(("form", "place"), [(f, p) for f in PLACES for p in PLACES[f]])
def test_cifar10_is_found(tmp_path: Path, form: str, place: str) -> None:
    write_cifar10(tmp_path / place, form)
    train, test = cifar10(tmp_path), cifar10(tmp_path, "test")
    assert train.x.shape == (10, 3, 32, 32)
    assert test.x.shape == (2, 3, 32, 32)
    expected = np.concatenate(
        [np.frombuffer(cifar_records(2, seed=k), np.uint8).reshape(2, 3073) for k in range(6)]
    )
    np.testing.assert_array_equal(train.y, expected[:10, 0])
    np.testing.assert_array_equal(test.x.reshape(2, -1), expected[10:, 1:])
    assert train.classes == CIFAR10_CLASSES


def test_cifar100_is_found(tmp_path: Path) -> None:
    data = cifar_records(3, "cifar100")
    records = np.frombuffer(data, np.uint8).reshape(3, 3074)
    (tmp_path / "cifar-100-binary").mkdir()
    (tmp_path / "cifar-100-binary" / "train.bin").write_bytes(data)
    (tmp_path / "cifar-100-python").mkdir()
    lists = {"coarse_labels": records[:, 0].tolist(), "fine_labels": records[:, 1].tolist()}
    (tmp_path / "cifar-100-python" / "test").write_bytes(python2_pickle(records[:, 2:], lists))
    for split in ("train", "test"):
        fine, coarse = (
            cifar100(tmp_path, split, labels=labels)  # type: ignore[arg-type]
            for labels in ("fine", "coarse")
        )
        np.testing.assert_array_equal(fine.y, records[:, 1])
        np.testing.assert_array_equal(coarse.y, records[:, 0])
        np.testing.assert_array_equal(fine.x.reshape(3, -1), records[:, 2:])
        assert fine.classes == CIFAR100_FINE_CLASSES
        assert coarse.classes == CIFAR100_COARSE_CLASSES


@pytest.mark.parametrize("may_download", [False, True])
def test_an_archive_is_verified_and_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_download: bool
) -> None:
    write_cifar10(tmp_path / "source", "binary")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.add(tmp_path / "source", "cifar-10-batches-bin")
    packed = out.getvalue()
    root = tmp_path / "root"
    place = root if not may_download else tmp_path / "server"
    place.mkdir()
    archive = place / "cifar-10-binary.tar.gz"
    archive.write_bytes(packed)
    if not may_download:
        with pytest.raises(FormatError, match="c32a1d4ab5d03f1284b67883e8d87530"):
            cifar10(root, "test")
    mine = Resource(archive.name, (archive.as_uri(),), md5=hashlib.md5(packed).hexdigest())
    monkeypatch.setitem(sources._CIFAR["cifar10"], "binary", mine)
    assert len(cifar10(root, "test", download=may_download)) == 2
    archive.unlink()
    assert len(cifar10(root, "train")) == 10


@pytest.mark.parametrize("function", [mnist, fashion_mnist, cifar10, cifar100])
def test_what_is_absent(tmp_path: Path, function: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"download=True .*STRIATE_DATA_DIR"):
        function(tmp_path)
    with pytest.raises(ValueError, match="'validation'"):
        function(tmp_path, "validation")


def test_numbers_of_classes() -> None:
    assert len(set(CIFAR10_CLASSES)) == 10
    assert len(set(CIFAR100_FINE_CLASSES)) == 100
    assert len(set(CIFAR100_COARSE_CLASSES)) == 20
    assert list(CIFAR100_FINE_CLASSES) == sorted(CIFAR100_FINE_CLASSES)


def test_the_bundled_digits() -> None:
    train, test, everything = digits(), digits("test"), digits("all")
    assert (len(train), len(test), len(everything)) == (1198, 599, 1797)
    assert everything.x.shape == (1797, 1, 8, 8)
    assert (everything.x.min(), everything.x.max(), everything.x.dtype) == (0, 16, np.uint8)
    counts = np.bincount(everything.y)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert everything.x[0, 0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    np.testing.assert_array_equal(test.x, everything.x[2::3])
    np.testing.assert_array_equal(train.y[:4], everything.y[[0, 1, 3, 4]])
    with pytest.raises(ValueError, match="'valid'"):
        digits("valid")  # type: ignore[arg-type]


def test_the_notice_is_shipped() -> None:
    notice = Path(sources.__file__).with_name("digits.LICENSE.md").read_text()
    for part in ("Alpaydin", "Kaynak", "CC BY 4.0", "https://doi.org/10.24432/C50P49"):
        assert part in notice
