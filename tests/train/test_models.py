"""A trained network, loaded by its keys, reproduces its logits and its score."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import striate as st
from striate import data, models

MEAN = np.float32([0.485, 0.456, 0.406]).reshape(3, 1, 1)
STD = np.float32([0.229, 0.224, 0.225]).reshape(3, 1, 1)


def test_resnet20_of_cifar10(shared_data: Path) -> None:
    folder = shared_data / "cifar10_resnet20"
    net = models.resnet20()
    with np.load(folder / "resnet20-12fca82f.npz") as weights:
        own = net.state_dict()
        given = {k: weights[k] for k in weights.files}
        counters = {k for k in own if k.endswith("num_batches_tracked")}
        assert set(given) | counters == set(own) | set(given)
        net.load_state_dict({**{k: own[k] for k in counters}, **given})
    net.eval()
    images, labels = data.read_cifar_binary(shared_data / "cifar10_exact" / "test_first1017.bin")
    forward = st.jit(net)
    batches = [(images[i : i + 128] / np.float32(255) - MEAN) / STD for i in range(0, 1017, 128)]
    logits = np.concatenate([forward(b.astype(np.float32)).numpy() for b in batches])
    want = np.load(folder / "resnet20-12fca82f_logits_exact1017.npy")
    assert (logits.argmax(1) == labels).sum() == 932
    # 20 layers of at most 576 products each; relative to the largest logit
    bound = 20 * 2 * np.finfo(np.float32).eps * 577 * np.abs(want).max()
    np.testing.assert_allclose(logits, want, rtol=0, atol=bound)


def test_small_fits_its_arguments() -> None:
    net = models.small(num_classes=7, in_channels=3)
    net.eval()
    assert net(np.zeros((2, 3, 20, 18), np.float32)).shape == (2, 7)
