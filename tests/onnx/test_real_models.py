"""Trained models from files give the outputs that were recorded with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate.data import read_cifar_binary


def need(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not in {path.parent}")
    return path


def test_a_super_resolution_network(shared_data: Path) -> None:
    folder = need(shared_data / "onnx_super_resolution")
    net = st.onnx.load(folder / "super_resolution.onnx")
    y = net(np.load(folder / "ref_input.npy"))
    np.testing.assert_allclose(y.numpy(), np.load(folder / "ref_output.npy"), atol=1e-5)


def test_a_face_detector(shared_data: Path) -> None:
    folder = need(shared_data / "onnx_ultraface")
    net = st.onnx.load(folder / "version-RFB-320.onnx")
    scores, boxes = net(np.load(folder / "ref_input.npy"))
    for name, found in {"scores": scores, "boxes": boxes}.items():
        expected = np.load(folder / f"version-RFB-320_ref_{name}.npy")
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_a_classifier_at_two_batch_sizes(shared_data: Path) -> None:
    folder = need(shared_data / "cifar10_resnet20")
    images = need(shared_data / "cifar10_exact" / "test_first1017.bin")
    net = st.onnx.load(folder / "resnet20-12fca82f.onnx")
    expected = np.load(folder / "resnet20-12fca82f_logits_exact1017.npy")
    x, y = read_cifar_binary(images, "cifar10")
    mean = np.float32([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = np.float32([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    x = (x[:100].astype(np.float32) / 255 - mean) / std
    for n in (100, 3):
        found = net(x[:n]).numpy()
        np.testing.assert_allclose(found, expected[:n], atol=1e-4)
    assert (net(x).numpy().argmax(1) == y[:100]).mean() > 0.85
