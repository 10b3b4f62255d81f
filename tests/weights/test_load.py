"""Weights from files in networks: names, shapes, dtypes, and what stays as it was."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import data, models, nn, weights
from striate.weights import WeightsError


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 2)


def values(net: nn.Module) -> dict[str, Any]:
    return {k: v.numpy() for k, v in net.state_dict().items()}


def equal(a: nn.Module, b: nn.Module) -> bool:
    theirs = values(b)
    return all(np.array_equal(v, theirs[k]) for k, v in values(a).items())


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth", ".pt"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    net, other = Net(), Net()
    assert not equal(net, other)
    st.save_weights(net, tmp_path / f"a{suffix}")
    assert st.load_weights(other, tmp_path / f"a{suffix}") == ([], [])
    assert equal(net, other)


def test_a_compiled_function_sees_the_new_weights(tmp_path: Path) -> None:
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    x, forward = np.ones((1, 3), np.float32), st.jit(other)
    before = forward(x).numpy()
    st.save_weights(net, tmp_path / "a.npz")
    st.load_weights(other, tmp_path / "a.npz")
    np.testing.assert_array_equal(forward(x).numpy(), st.jit(net)(x).numpy())
    assert not np.array_equal(before, forward(x).numpy())


def test_all_that_does_not_fit_is_listed_and_nothing_is_changed(tmp_path: Path) -> None:
    net, other = Net(), Net()
    arrays = values(net)
    del arrays["fc.bias"], arrays["bn.num_batches_tracked"]
    arrays |= {
        "extra": np.zeros(3), "conv.weight": np.zeros((5, 1, 3, 3), np.float32),
        "fc.weight": np.zeros((2, 4), np.int64),
    }  # fmt: skip
    weights.write(tmp_path / "a.npz", arrays)
    before = values(other)
    with pytest.raises(WeightsError) as caught:
        st.load_weights(other, tmp_path / "a.npz")
    error = caught.value
    assert error.missing == ["fc.bias"]
    assert error.unexpected == ["extra"]
    assert set(error.mismatched) == {"conv.weight", "fc.weight"}
    for part in (
        "4 entries do not fit Net of 9; nothing was loaded",
        "missing fc.bias: f32[2]",
        "unexpected extra: f64[3]",
        "mismatched conv.weight: the network has f32[4,1,3,3], the file f32[5,1,3,3]",
        "mismatched fc.weight: the network has f32[2,4], the file i64[2,4]",
    ):
        assert part in str(error)
    with pytest.raises(WeightsError, match="2 entries"):
        st.load_weights(other, tmp_path / "a.npz", strict=False)
    assert all(np.array_equal(v, before[k]) for k, v in values(other).items())
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.missing) == (str(error), error.missing)


def test_not_strict(tmp_path: Path) -> None:
    net, other = Net(), Net()
    arrays = values(net)
    del arrays["fc.bias"]
    weights.write(tmp_path / "a.npz", arrays | {"extra": np.zeros(3)})
    bias = other.fc.bias.numpy()
    found = st.load_weights(other, tmp_path / "a.npz", strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["fc.bias"], ["extra"])
    np.testing.assert_array_equal(other.fc.bias.numpy(), bias)
    np.testing.assert_array_equal(other.conv.weight.numpy(), net.conv.weight.numpy())


def test_rename(tmp_path: Path) -> None:
    net, other, path = Net(), Net(), tmp_path / "a.npz"
    arrays = {f"backbone.{k}": v for k, v in values(net).items()}
    weights.write(path, arrays | {"head.weight": np.zeros(3)})
    with pytest.raises(WeightsError, match=r"pass rename=\{'backbone.': ''\}"):
        st.load_weights(other, path)
    st.load_weights(other, path, rename={"backbone.": "", "head.": None})
    assert equal(net, other)
    # the longest beginning counts
    head = {"backbone.": "", "backbone.fc.": None, "head.": None}
    assert st.load_weights(Net(), path, rename=head, strict=False).missing_keys == [
        "fc.weight",
        "fc.bias",
    ]
    with pytest.raises(st.ShapeError, match="the name 'x' twice"):
        st.load_weights(other, path, rename={"backbone.fc.weight": "x", "backbone.fc.bias": "x"})
    whole = nn.Sequential(Net())
    weights.write(path, values(net))
    with pytest.raises(WeightsError, match=r"pass rename=\{'': '0.'\}"):
        st.load_weights(whole, path)
    st.load_weights(whole, path, rename={"": "0."})
    assert equal(net, whole[0])


def test_wrappers_are_taken_off(tmp_path: Path) -> None:
    net, path = Net(), tmp_path / "a.npz"
    for begin in ("module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."):
        weights.write(path, {begin + k: v for k, v in values(net).items()})
        other = Net()
        st.load_weights(other, path)
        assert equal(net, other)
    holder, filled = nn.Module(), nn.Module()
    holder.module, filled.module = net, Net()
    st.save_weights(holder, path)
    st.load_weights(filled, path)  # a network that really has such names
    assert equal(holder, filled)


def test_numbers_take_the_dtype_of_the_network(tmp_path: Path) -> None:
    net, path = nn.Linear(2, 1), tmp_path / "a.npz"
    for dtype in ("float16", "float64"):
        weights.write(path, {"weight": np.array([[0.1, 2]], dtype), "bias": np.ones(1, dtype)})
        st.load_weights(net, path)
        want = np.array([[0.1, 2]], dtype).astype(np.float32)
        np.testing.assert_array_equal(net.weight.numpy(), want)
    weights.write(path, {"weight": np.array([[1e300, np.inf]]), "bias": np.ones(1)})
    with pytest.raises(WeightsError, match="beyond the range of float32"):
        st.load_weights(net, path)
    weights.write(path, {"weight": np.array([[np.nan, np.inf]]), "bias": np.ones(1)})
    st.load_weights(net, path)
    bn = nn.BatchNorm2d(2)
    state = values(bn)
    weights.write(path, state | {"num_batches_tracked": np.int32(5)})
    st.load_weights(bn, path)
    assert bn.num_batches_tracked.item() == 5
    weights.write(path, state | {"num_batches_tracked": np.uint64(1 << 63)})
    with pytest.raises(WeightsError, match="beyond the range of int64"):
        st.load_weights(bn, path)
    half = nn.Linear(2, 1).to("bfloat16")
    st.save_weights(half, path)
    st.load_weights(half, path)
    assert half.weight.dtype is st.bfloat16


@pytest.mark.parametrize("shift", [1, 2, 5])
def test_bytes_at_odd_addresses(tmp_path: Path, shift: int) -> None:
    net, other, path = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), tmp_path / "a.safetensors"
    st.save_weights(net, path)
    content = path.read_bytes()
    n = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + n] + b" " * shift
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + n :])
    assert not weights.read(path)["weight"].flags.aligned
    st.load_weights(other, path)
    x = np.ones((1, 4, 5, 5), np.float32)
    np.testing.assert_array_equal(st.jit(other)(x).numpy(), st.jit(net)(x).numpy())


def test_broken_files_change_nothing(tmp_path: Path) -> None:
    net, path = Net(), tmp_path / "a.safetensors"
    st.save_weights(Net(), path)
    path.write_bytes(path.read_bytes()[:-1])
    before = values(net)
    with pytest.raises(data.FormatError, match=r"load_weights.*truncated"):
        st.load_weights(net, path)
    assert all(np.array_equal(v, before[k]) for k, v in values(net).items())
    with pytest.raises(FileNotFoundError):
        st.load_weights(net, tmp_path / "absent")
    with pytest.raises(data.FormatError, match="a directory"):
        st.load_weights(net, tmp_path)


def test_trained_resnet20(shared_data: Path, tmp_path: Path) -> None:
    net = models.resnet20()
    path = shared_data / "cifar10_resnet20" / "resnet20-12fca82f.npz"
    assert st.load_weights(net, path) == ([], [])
    for suffix in (".safetensors", ".pth"):
        other = models.resnet20()
        st.save_weights(net, tmp_path / f"a{suffix}")
        st.load_weights(other, tmp_path / f"a{suffix}")
        assert equal(net, other)
