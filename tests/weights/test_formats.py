"""Reading and writing of weights files that are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from striate import weights
from striate.data import FormatError
from striate.errors import StriateError
from tests.weights.files import ARRAYS, EXAMPLES, legacy, pth, state, storage, tensor

FLOATS = np.arange(4, dtype=np.float32)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth", ".pt"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    arrays = ARRAYS | {
        "f64": np.float64([[1.5]]),
        "half": np.float16([1, 2]),
        "i8": np.int8([-1]),
        "none": np.zeros((0, 3), np.float32),
        "swapped": np.arange(3, dtype=">f4"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    weights.write(path, arrays)
    got = weights.read(path)
    assert set(got) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(got[name], value)
        assert got[name].dtype == np.asarray(value).dtype.newbyteorder("=")
        assert got[name].shape == np.shape(value)
    first = path.read_bytes()
    weights.write(path, dict(reversed(list(arrays.items()))))
    if suffix == ".safetensors":
        assert path.read_bytes() == first  # whatever the order
    assert {p.name for p in tmp_path.iterdir()} == {path.name}


def test_bfloat16(tmp_path: Path) -> None:
    value = np.float32([1, 2.5, -3]).astype(ml_dtypes.bfloat16)
    for suffix in (".safetensors", ".pth"):
        weights.write(tmp_path / f"a{suffix}", {"x": value})
        got = weights.read(tmp_path / f"a{suffix}")["x"]
        assert got.dtype == value.dtype and (got == value).all()
    weights.write(tmp_path / "a.npz", {"x": value})
    got = weights.read(tmp_path / "a.npz")["x"]
    assert got.dtype == np.float32 and (got == value.astype(np.float32)).all()


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    for name, content in EXAMPLES.items():
        (tmp_path / "weights.bin").write_bytes(content)
        assert len(weights.read(tmp_path / "weights.bin")) == (2 if name == "legacy pth" else 4)


def test_safetensors_package_agrees(tmp_path: Path) -> None:
    peer = pytest.importorskip("safetensors.numpy")
    plain = {k: np.asarray(v) for k, v in ARRAYS.items()}
    weights.write(tmp_path / "a.safetensors", plain, metadata={"a": "ä"})
    got = peer.load_file(tmp_path / "a.safetensors")
    assert set(got) == set(plain)
    for name, value in plain.items():
        np.testing.assert_array_equal(got[name], value)
    peer.save_file(plain, tmp_path / "b.safetensors", metadata={"b": "1"})
    for name, value in weights.read(tmp_path / "b.safetensors").items():
        np.testing.assert_array_equal(value, plain[name])


def read(tmp_path: Path, content: bytes, **kwargs: Any) -> dict[str, Any]:
    (tmp_path / "a.pth").write_bytes(content)
    return weights.read(tmp_path / "a.pth", **kwargs)


def test_strides_offsets_and_shared_storages(tmp_path: Path) -> None:
    tensors = {
        "all": tensor([2, 2], [2, 1]),
        "t": tensor([2, 2], [1, 2]),
        "tail": tensor([2], [1], 2),
        "wide": tensor([3, 2], [0, 1]),
        "none": tensor([0, 5], [5, 1], 4),
    }
    want = {
        "all": FLOATS.reshape(2, 2), "t": FLOATS.reshape(2, 2).T, "tail": FLOATS[2:],
        "wide": np.tile(FLOATS[:2], (3, 1)), "none": np.zeros((0, 5)),
    }  # fmt: skip
    count = (4).to_bytes(8, "little")
    for content in (
        pth(state(**tensors), s0=FLOATS.tobytes()),
        legacy(state(**tensors), ["0"], count + FLOATS.tobytes()),
    ):
        got = read(tmp_path, content)
        for name, value in want.items():
            np.testing.assert_array_equal(got[name], value)


def test_big_endian_files(tmp_path: Path) -> None:
    count = (4).to_bytes(8, "big")
    content = legacy(
        state(w=tensor([4], [1])), ["0"], count + FLOATS.astype(">f4").tobytes(), False
    )
    np.testing.assert_array_equal(read(tmp_path, content)["w"], FLOATS)


def test_old_views_of_storages(tmp_path: Path) -> None:
    view = storage(4)[:-2] + b"(U\x01vK\x01K\x03ttQ"  # elements 1..4 of storage 0
    content = legacy(
        state(w=tensor([2], [1], 1, view)), ["0"], bytes([4, *[0] * 7]) + FLOATS.tobytes()
    )
    assert read(tmp_path, content)["w"].tolist() == [2, 3]


def test_dicts_of_python_2(tmp_path: Path) -> None:
    ordered = b"\x80\x02ccollections\nOrderedDict\n(](](U\x01w" + tensor([4], [1]) + b"eetR."
    assert read(tmp_path, pth(ordered, s0=FLOATS.tobytes()))["w"].tolist() == [0, 1, 2, 3]


def test_tensors_of_the_oldest_files(tmp_path: Path) -> None:
    sizes = b"(L2L\nL2L\nt(L2L\nL1L\nt"
    plain = b"ctorch\nFloatTensor\n)\x81q\x09(" + storage(4) + b"L0L\n" + sizes + b"tb"
    tensors = {
        "plain": plain,
        "again": b"h\x09",  # the memo holds the tensor, not its shell
        "parameter": b"ctorch.nn.parameter\nParameter\n(h\x09\x88t\x81(\x88\x89}tb",
        "older": b"ctorch.nn.parameter\nParameter\n)\x81(h\x09N\x88}Ntb",
    }
    got = read(tmp_path, pth(state(**tensors), s0=FLOATS.tobytes()))
    for name in tensors:
        np.testing.assert_array_equal(got[name], FLOATS.reshape(2, 2))
    for bad in (b"ctorch\nFloatTensor\n)\x81", b"ctorch\nFloatTensor\n)\x81}b"):
        with pytest.raises(FormatError):
            read(tmp_path, pth(state(w=bad), s0=FLOATS.tobytes()))


def test_nested_keys(tmp_path: Path) -> None:
    inner = state(w=tensor([4], [1]))[2:-1]
    content = pth(b"\x80\x02}U\x01a}U\x01b" + inner + b"ss.", s0=FLOATS.tobytes())
    assert list(read(tmp_path, content, key="a.b")) == ["w"]
    with pytest.raises(FormatError, match=r"dict with the keys a.*pass key="):
        read(tmp_path, content)
    with pytest.raises(FormatError, match=r"key='a.c' is there, found a dict with the keys b"):
        read(tmp_path, content, key="a.c")
    for name in ("safetensors", "npz"):
        with pytest.raises(FormatError, match="key= is for PyTorch's files"):
            read(tmp_path, EXAMPLES[name], key="a")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.bin", 1.0, "the suffix '.bin'"),
        ("a.npz", np.array([{}], object), "no dtype object"),
        ("a.safetensors", np.zeros(2, np.complex128), "no dtype complex128"),
        ("a.pth", np.zeros(2, np.uint16), "no storage of uint16"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(StriateError, match=message):
        weights.write(tmp_path / name, {"x": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "../x", "a/../../x", "/x", "\\x", "a\0b"])
def test_names_that_are_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(StriateError, match="a path elsewhere"):
        weights.write(tmp_path / "a.npz", {name: np.zeros(1)})
    assert not list(tmp_path.iterdir())
