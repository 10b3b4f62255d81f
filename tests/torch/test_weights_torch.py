"""Files that PyTorch wrote are read as PyTorch reads them, and the other way round."""

from __future__ import annotations

import argparse
import warnings
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import striate as st
from striate import nn, weights
from striate.data import FormatError

DTYPES = [
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
    "complex64", "complex128", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2",
]  # fmt: skip


def as_bytes(t: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    """Name of the dtype, shape and bytes, whether or not NumPy has the dtype."""
    flat = t.detach().contiguous().reshape(-1)
    raw = flat.view(torch.uint8) if flat.numel() else torch.zeros(0, dtype=torch.uint8)
    return str(t.dtype).removeprefix("torch."), tuple(t.shape), raw.numpy().tobytes()


def same(got: Any, want: torch.Tensor) -> None:
    name, shape, raw = as_bytes(want)
    assert (got.dtype.name, got.shape, got.tobytes()) == (name, shape, raw)
    assert not got.flags.writeable or got.dtype == np.bool_


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(tmp_path: Path, name: str, zipped: bool) -> None:
    dtype = getattr(torch, name)
    base = (torch.arange(24).reshape(2, 3, 4) * 5 - 7).to(torch.float32)
    base = base.abs() if name.startswith("u") else base
    state = {"x": base.to(dtype), "scalar": base[1, 1, 1].to(dtype), "none": base[:0].to(dtype)}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    got = weights.read(tmp_path / "a.pth")
    assert list(got) == list(state)
    for key, value in state.items():
        same(got[key], value)


@pytest.mark.parametrize("zipped", [True, False])
def test_views_and_shared_storages(tmp_path: Path, zipped: bool) -> None:
    x = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    state = {
        "whole": x,
        "again": x,
        "transposed": x.permute(2, 0, 1),
        "rows": x[1:, ::2],
        "expanded": x[:1, :1].expand(3, 4, 5),
        "parameter": torch.nn.Parameter(x[2]),
        "buffer": torch.nn.Buffer(x[1]),
        "channels_last": x[None].contiguous(memory_format=torch.channels_last),
        "overlapping": x.reshape(-1).unfold(0, 6, 2),
    }
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    got = weights.read(tmp_path / "a.pth")
    for key, value in state.items():
        same(got[key], value)
    assert np.shares_memory(got["whole"], got["transposed"])


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.bn = torch.nn.BatchNorm2d(8)
        self.fc = torch.nn.Linear(8, 4)


class SmallHere(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)


def wrapped(net: torch.nn.Module, how: str) -> Any:
    state = net.state_dict()
    optimizer = torch.optim.AdamW(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    match how:
        case "bare":
            return state
        case "script":
            return {
                "epoch": 3,
                "arch": "small",
                "state_dict": state,
                "best": torch.tensor(0.9),
                "best_acc": np.float64(0.9),
                "optimizer": optimizer.state_dict(),
                "args": argparse.Namespace(lr=0.1, nested=argparse.Namespace(a=[1])),
                "device": torch.device("cpu"),
                "size": torch.Size([3, 4]),
                "dtype": torch.float16,
                "seen": {1, 2},
                "counter": Counter("ab"),
                "rng": torch.get_rng_state(),
                "numpy": np.arange(3),
            }
        case "model":
            return {"model": state, "ema": {k: v + 1 for k, v in state.items()}}
        case "parallel":
            return {"model_state_dict": OrderedDict(("module." + k, v) for k, v in state.items())}
        case "compiled":
            return {"_orig_mod.module." + k: v for k, v in state.items()}
        case _:
            raise AssertionError


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("how", ["bare", "script", "model", "parallel", "compiled"])
def test_checkpoints(tmp_path: Path, how: str, zipped: bool) -> None:
    net, path = Small(), tmp_path / "a.pth"
    saved = wrapped(net, how)
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    mine = SmallHere()
    assert st.load_weights(mine, path) == ([], [])
    for name, value in net.state_dict().items():
        same(mine.state_dict()[name].numpy(), value)
    if how == "model":
        st.load_weights(mine, path, key="ema")
        same(mine.conv.bias.numpy(), saved["ema"]["conv.bias"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(tmp_path: Path, protocol: int) -> None:
    for zipped in (True, False):
        torch.save(
            {"a": torch.ones(2)}, tmp_path / "a.pt", pickle_protocol=protocol,
            _use_new_zipfile_serialization=zipped,
        )  # fmt: skip
        assert weights.read(tmp_path / "a.pt")["a"].tolist() == [1, 1]


def test_half_precision_becomes_the_networks(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        net = Small().to(dtype)
        torch.save(net.state_dict(), tmp_path / "a.pth")
        mine = SmallHere()
        st.load_weights(mine, tmp_path / "a.pth")
        np.testing.assert_array_equal(
            mine.fc.weight.numpy(), net.fc.weight.detach().float().numpy()
        )


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_pytorch_reads_what_is_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    mine = SmallHere()
    st.save_weights(mine, path)
    if suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, weights_only=True)
    net = Small()
    net.load_state_dict(state)
    for name, value in net.state_dict().items():
        same(mine.state_dict()[name].numpy(), value)


def test_every_dtype_is_written(tmp_path: Path) -> None:
    arrays = {d: np.arange(6).reshape(2, 3).astype(d) for d in DTYPES[:3] + DTYPES[4:12]}
    arrays["bfloat16"] = np.arange(3).astype(ml_dtypes.bfloat16)
    arrays["scalar"] = np.float32(3)
    arrays["none"] = np.zeros((0, 3), np.float32)
    arrays["fortran"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    weights.write(tmp_path / "a.pth", arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(state) == list(arrays)
    for name, value in state.items():
        assert as_bytes(value)[1:] == (np.shape(arrays[name]), np.asarray(arrays[name]).tobytes())
    again = weights.read(tmp_path / "a.pth")
    for name, value in again.items():
        np.testing.assert_array_equal(value, arrays[name])


def test_without_checksums(tmp_path: Path) -> None:
    from torch.utils.serialization import config

    before = config.save.compute_crc32
    config.save.compute_crc32 = False
    try:
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    finally:
        config.save.compute_crc32 = before
    assert weights.read(tmp_path / "a.pth")["a"].tolist() == [1, 1]


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(Small(), path)
    with pytest.raises(FormatError, match=r"Small.*nothing of the file was executed"):
        weights.read(path)
    torch.save({"a": torch.ones(2, 2).to_sparse()}, path)
    with pytest.raises(FormatError, match="_get_layout"):
        weights.read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are going away
        torch.save({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, path)
    with pytest.raises(FormatError, match="QInt8Storage"):
        weights.read(path)
    torch.save({"a": torch.ones(2, dtype=torch.complex64).conj()}, path)
    with pytest.raises(FormatError, match="pending conjugation"):
        weights.read(path)
    torch.save(3, path)
    with pytest.raises(FormatError, match="found int"):
        weights.read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(FormatError, match="TorchScript"):
        weights.read(path)
