"""The original files of real data sets, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from striate.data import mnist, npz, read_cifar_binary, read_image, read_npz


@pytest.fixture
def real(shared_data: Path) -> Path:
    return shared_data


def need(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not in {path.parent}")
    return path


def test_mnist(real: Path) -> None:
    need(real / "mnist")
    train, test = mnist(real), mnist(real, "test")
    assert (train.x.shape, test.x.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert train.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert float(train.x.mean() / 255) == pytest.approx(0.1307, abs=1e-4)


def test_cifar10(real: Path) -> None:
    folder = need(real / "cifar10_exact")
    x, y = read_cifar_binary(folder / "test_first1017.bin", "cifar10")
    assert x.shape == (1017, 3, 32, 32)
    np.testing.assert_array_equal(y, np.fromfile(folder / "test_labels_10000.u8", np.uint8)[:1017])
    x, y = read_cifar_binary(folder / "train_5x1017.bin", "cifar10")
    labels = np.fromfile(folder / "train_labels_50000.u8", np.uint8).reshape(5, 10000)
    np.testing.assert_array_equal(y, labels[:, :1017].reshape(-1))
    mean = x.mean((0, 2, 3)) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=0.01)


@pytest.mark.parametrize("name", ["isbi_membrane/isbi30.npz", "fsdd/fsdd.npz"])
def test_npz(real: Path, name: str) -> None:
    path = need(real / name)
    arrays = read_npz(path)
    with np.load(path) as expected:
        assert set(arrays) == set(expected.files)
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, expected[key])


def test_a_segmentation_set(real: Path) -> None:
    path = need(real / "isbi_membrane" / "isbi30.npz")
    data = npz(path, x="images", y="labels", layout="NHW")
    assert (data.x.shape, data.y.shape) == ((30, 1, 512, 512), (30, 512, 512))


def test_a_photo(real: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow (striate[images]) is not installed")
    x = read_image(need(real / "onnx_ultraface" / "1.jpg"))
    assert x.shape[0] == 3
    assert x.std() > 10
