"""Weights files made to do harm: each is refused, in memory of the order of its size, and nothing
of it runs."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate import weights
from striate.data import FormatError
from tests.mutate import mutations, refusals
from tests.weights.files import (
    ARRAYS,
    EXAMPLES,
    legacy,
    npy,
    npz,
    pickled,
    pth,
    safetensors,
    state,
    storage,
    tensor,
    zipped,
)

F4 = np.arange(4, dtype=np.float32).tobytes()
BIG = 1 << 40


def memory_of(size: int) -> int:
    """What reading may take: a small multiple of the file, and what Python's modules need."""
    return 128 * size + (4 << 20)


def refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message):
            weights.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < memory_of(len(content))


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS = {
    "empty header": (safetensors(b""), "safetensors, npz or PyTorch file is expected"),
    "no json": (safetensors(b"{nothing"), "the header is JSON"),
    "not utf-8": (safetensors(b'{"\xff": 1}'), "UnicodeDecodeError"),
    "header beyond the end": (b"\xff\x00\x00\x00\x00\x00\x00\x00{}", "the header has at most 2"),
    "header of 2^40": (BIG.to_bytes(8, "little") + b"{}", "the header has at most 2"),
    "deep": (safetensors(b'{"a":' * 200_000), "RecursionError"),
    "deep lists": (safetensors(b'{"a":' + b"[" * 200_000), "RecursionError"),
    "duplicates": (
        safetensors(
            b'{"a":%s,"a":%s}' % ((b'{"dtype":"F32","shape":[4],"data_offsets":[0,16]}',) * 2), F4
        ),
        "a name occurs twice",
    ),
    "overlap": (
        safetensors({"a": entry(), "b": entry(offsets=(8, 24))}, F4 * 2),
        "may not overlap",
    ),
    "the same bytes": (safetensors({"a": entry(), "b": entry()}, F4), "may not overlap"),
    "hole": (safetensors({"a": entry(offsets=(4, 20))}, F4 + b"----"), "holes"),
    "more behind": (safetensors({"a": entry()}, F4 + b"-"), "fill the 17 bytes"),
    "truncated": (safetensors({"a": entry()}, F4[:-1]), "begin <= end <= 15"),
    "backwards": (safetensors({"a": entry(offsets=(16, 0))}, F4), "begin <= end"),
    "negative": (safetensors({"a": entry(offsets=(-16, 0))}, F4), "begin <= end"),
    "beyond 64 bits": (safetensors({"a": entry(offsets=(0, 1 << 70))}, F4), "begin <= end"),
    "huge shape": (
        safetensors({"a": entry(shape=(BIG, BIG))}, F4),
        "has 4835703278458516698824704",
    ),
    "overflow": (safetensors({"a": entry(shape=(1 << 62, 4))}, F4), "its offsets hold 16"),
    "huge and empty": (
        safetensors({"a": entry(shape=(0, 1 << 62, 4), offsets=(0, 0))}),
        "fit in 63 bits",
    ),
    "half a character": (
        safetensors(b'{"\\ud800": {"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', F4),
        "a path elsewhere",
    ),
    "negative size": (safetensors({"a": entry(shape=(-4,))}, F4), "up to 32 sizes"),
    "two negative sizes": (safetensors({"a": entry(shape=(-2, -2))}, F4), "up to 32 sizes"),
    "no integer": (safetensors({"a": entry(shape=(4.0,))}, F4), "up to 32 sizes"),
    "true": (safetensors({"a": entry(shape=(True, 4))}, F4), "up to 32 sizes"),
    "many axes": (safetensors({"a": entry(shape=(1,) * 33 + (4,))}, F4), "up to 32 sizes"),
    "digits": (
        safetensors(
            b'{"a":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,16]}}'
        ),
        "header is JSON",
    ),
    "dtype": (safetensors({"a": entry("F31")}, F4), "found 'F31'"),
    "no dtype": (safetensors({"a": entry({})}, F4), "found dict"),
    "missing field": (safetensors({"a": {"dtype": "F32"}}), "has dtype, shape and"),
    "more fields": (safetensors({"a": entry() | {"x": 1}}, F4), "has dtype, shape and"),
    "a list": (safetensors({"a": []}), r"found \[\]"),
    "metadata of numbers": (safetensors({"__metadata__": {"a": 1}}), "text only"),
    "name with ..": (safetensors({"../a": entry()}, F4), "a path elsewhere"),
    "name with NUL": (safetensors({"a\0b": entry()}, F4), "a path elsewhere"),
    "absolute name": (safetensors({"/etc/a": entry()}, F4), "a path elsewhere"),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors(tmp_path: Path, name: str) -> None:
    refused(tmp_path / "a", *SAFETENSORS[name])


@pytest.mark.parametrize("example", ["safetensors", "pth", "legacy pth", "npz"])
def test_every_truncation_is_refused(tmp_path: Path, example: str) -> None:
    content = EXAMPLES[example]
    for end in range(0, len(content), 1 if len(content) < 700 else 3):
        (tmp_path / "a").write_bytes(content[:end])
        with pytest.raises(FormatError):
            weights.read(tmp_path / "a")


@pytest.mark.parametrize("example", ["pth", "npz", "packed npz"])
def test_flipped_bits_of_the_values_are_noticed(tmp_path: Path, example: str) -> None:
    content = bytearray(EXAMPLES[example])
    at = content.find(ARRAYS["conv.weight"].tobytes()[8:20])
    if at < 0:  # deflated: the member's packed bytes lie behind its header
        at = content.index(b"conv.weight.npy") + 60
    content[at] ^= 1
    refused(tmp_path / "a", bytes(content), r"(?i)crc|the file is damaged")


class Evil:
    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> Any:
        return self.call, self.args


W = tensor([4], [1])
ATTACKS = {
    "os.system": lambda m: pickle.dumps(Evil(os.system, f"touch {m}"), 2),
    "exec": lambda m: pickle.dumps({"w": Evil(exec, f"open({str(m)!r}, 'w')")}, 2),
    "mkdir beside weights": lambda m: state(w=W, x=pickle.dumps(Evil(os.mkdir, str(m)), 2)[2:-1]),
    "protocol 0": lambda m: pickle.dumps(Evil(os.system, f"touch {m}"), 0),
    "protocol 4": lambda m: pickle.dumps(Evil(os.system, f"touch {m}"), 4),
    "inst": lambda m: b"(S'touch " + str(m).encode() + b"'\nios\nsystem\n.",
    "obj": lambda m: b"(cos\nsystem\nS'touch " + str(m).encode() + b"'\no.",
    "newobj": lambda m: b"\x80\x02cos\nsystem\nU\x01x\x85\x81.",
    "newobj with keywords": lambda m: b"\x80\x04cos\nsystem\n)}\x92.",
    "extension": lambda m: b"\x80\x02\x82\x01.",
    "build of a class": lambda m: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}U\x01aK\x01sb.",
    "storage of a class": lambda m: state(w=tensor([4], [1], of=storage(4, kind="os system"))),
    "persistent of a call": lambda m: b"\x80\x02cos\nsystem\nQ.",
    "rebuild by another": lambda m: (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n(U\x01xt}tR."
    ),
    "rebuild of a type": lambda m: (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\ncos\nsystem\n)}tR."
    ),
    "getattr": lambda m: b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x01a\x8c\x01b\x86R.",
    "torch.load": lambda m: b"\x80\x02ctorch\nload\nU\x01x\x85R.",
    "a module": lambda m: b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81}b.",
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("old", [False, True])
def test_nothing_is_executed(tmp_path: Path, name: str, old: bool) -> None:
    marker = tmp_path / "executed"
    pickled = ATTACKS[name](marker)
    content = legacy(pickled, ["0"], F4) if old else pth(pickled, s0=F4)
    refused(tmp_path / "a", content, "nothing of the file was executed")
    assert not marker.exists()


TENSORS = {
    "too large": (tensor([5], [1]), "up to element 4 of a storage of 4"),
    "offset": (tensor([4], [1], 1), "up to element 4 of a storage of 4"),
    "offset of 2^47": (tensor([1], [1], 1 << 47), "of a storage of 4"),
    "offset of 2^70": (tensor([1], [1], 1 << 70), "size outside"),
    "negative offset": (tensor([1], [1], -1), "outside"),
    "negative size": (tensor([-1], [1]), "outside"),
    "negative stride": (tensor([2], [-1], 1), "outside"),
    "large stride": (tensor([2], [1 << 47]), "of a storage of 4"),
    "ranks differ": (tensor([2], [1, 1]), "1 sizes and 2 strides"),
    "many axes": (tensor([1] * 33, [1] * 33), "without sizes"),
    "expanded": (tensor([1 << 20, 1 << 20], [0, 0]), "16 times the file's"),
    "storage without bytes": (tensor([1], [1], of=storage(1 << 40)), "1099511627776|4398046511104"),
    "storage of 2^60": (tensor([1], [1], of=storage(1 << 60)), "outside"),
    "storage elsewhere": (
        tensor([1], [1], of=storage(4, "../data.pkl")),
        "found none|no tensor is in it",
    ),
    "storage with NUL": (tensor([1], [1], of=storage(4, "0\0")), "found none|no tensor is in it"),
    "quantised": (tensor([1], [1], of=storage(4, kind="torch QInt8Storage")), "QInt8Storage"),
    "in a number": (tensor([1], [1], of=b"K\x01"), "a tensor in int"),
    "few parts": (b"ctorch._utils\n_rebuild_tensor_v2\n(tR", "a tensor of 0 parts"),
    "a parameter of nothing": (b"ctorch._utils\n_rebuild_parameter\n(tR", "without a tensor"),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("old", [False, True])
def test_tensors(tmp_path: Path, name: str, old: bool) -> None:
    pickled, message = TENSORS[name]
    pickled = state(w=pickled)
    content = legacy(pickled, ["0"], bytes([4, *[0] * 7]) + F4) if old else pth(pickled, s0=F4)
    refused(tmp_path / "a", content, message)


LEGACY = {
    "magic": (pickle.dumps(3, 2), "found a pickle of 3"),
    "version": (EXAMPLES["legacy pth"].replace(b"M\xe9\x03.", b"M\xe8\x03.", 1), "found 1000"),
    "keys twice": (legacy(state(w=W), ["0", "0"], b""), "found one twice"),
    "keys of numbers": (legacy(state(w=W), [0], b""), "found dict, list"),  # type: ignore[list-item]
    "unknown key": (legacy(state(w=W), ["1"], bytes(8)), "no tensor is in it"),
    "no bytes": (legacy(state(w=W), ["0"], b""), "truncated"),
    "count of 2^63": (legacy(state(w=W), ["0"], b"\xff" * 8 + F4), "the file has"),
    "small count": (legacy(state(w=W), ["0"], bytes([2, *[0] * 7]) + F4), "has 16 bytes"),
    "two types": (
        legacy(
            state(w=W, x=tensor([1], [1], of=storage(2, kind="torch DoubleStorage"))), ["0"], F4
        ),
        "two types",
    ),
    "a plain pickle": (pickle.dumps({"w": [1]}, 2), "found a pickle of dict"),
}


@pytest.mark.parametrize("name", LEGACY)
def test_legacy(tmp_path: Path, name: str) -> None:
    refused(tmp_path / "a", *LEGACY[name])


def test_pickle_bombs(tmp_path: Path) -> None:
    copies = (
        b"\x80\x02](" + b"K\x01" * 1000 + b"eq\x00" + b"cbuiltins\nset\nh\x00\x85R" * 1000 + b"."
    )
    refused(tmp_path / "a", pth(copies), "copied bytes or items")
    doubled = (
        b"\x80\x02]q\x00" + b"h\x00h\x00\x86q\x00" * 10_000 + b"."
    )  # 2^10000 leaves, as a tree
    refused(tmp_path / "a", pth(doubled), "a dict of tensors by name is expected")
    deep = b"\x80\x02}U\x05modelq\x00" + b"}h\x00" * 50_000 + b"N" + b"s" * 50_000 + b"s."
    refused(tmp_path / "a", pth(deep), "a dict of tensors by name is expected")
    keys = (
        b"\x80\x02}("
        + b"".join(b"\x8a\x09" + struct.pack("<q", 0) + b"\x10N" for _ in "ab")
        + b"u."
    )
    refused(tmp_path / "a", pth(keys), "a dict key of type int")


def test_zip_bombs(tmp_path: Path) -> None:
    path = tmp_path / "a"
    zeros = npz({"x": np.zeros(4 << 20, np.uint8)}, packed=True)
    refused(path, zeros, "100 times the file's")
    refused(
        path, zipped({"a/data.pkl": state(w=W), "a/data/0": bytes(1 << 20)}, 8), "is compressed"
    )
    member = npz({"x": np.zeros(1000)})
    directory = member.rindex(b"PK\x01\x02")
    for size in (b"\xff\xff\xff\x7f", b"\x00\x00\x01\x00"):
        lying = bytearray(member)
        lying[directory + 24 : directory + 28] = size
        refused(path, bytes(lying), "its [0-9]+ packed bytes hold at most")


def test_overlapping_members(tmp_path: Path) -> None:
    """A directory whose entries share bytes holds much in little."""
    content = npz({f"x{i}": np.zeros(100) for i in range(20)})
    broken = bytearray(content)
    at = broken.index(b"PK\x01\x02")
    first = broken[at + 42 : at + 46]
    while (at := broken.find(b"PK\x01\x02", at + 4)) >= 0:
        broken[at + 42 : at + 46] = first
    refused(tmp_path / "a", bytes(broken), "members lie one after the other")


def test_names_in_archives(tmp_path: Path) -> None:
    array = npz({"x": np.zeros(2)})
    npy = zipfile.ZipFile(tmp_path / "x") if (tmp_path / "x").exists() else None
    assert npy is None
    (tmp_path / "x.npz").write_bytes(array)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        one = archive.read("x.npy")
    for name in ("../x.npy", "/etc/x.npy", "a/../../x.npy", "..\\x.npy"):
        refused(tmp_path / "a", zipped({name: one}), "stay in their folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the second
        path = tmp_path / "twice"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", one)
            archive.writestr("x.npy", one)
    refused(tmp_path / "a", path.read_bytes(), "found 'x.npy' twice")
    refused(tmp_path / "a", zipped({"x.npy": one, "x": one}), "found 'x' twice")
    refused(tmp_path / "a", zipped({"a/data.pkl": b"N.", "b/data.pkl": b"N."}), "found 2")
    refused(tmp_path / "a", npz({"x": np.array([Evil(os.mkdir, "x")], object)}), "need pickle")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "x.npz", "twice"}


DAMAGED = {
    **{name: (content, None, bytes) for name, content in EXAMPLES.items()},
    "npy in an intact npz": (npy(), 128, lambda b: zipped({"x.npy": b})),
    "pickle in an intact pth": (pickled("pth"), None, lambda b: pth(b, s0=bytes(96), s1=bytes(8))),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_random_damage(tmp_path: Path, name: str) -> None:
    content, focus, wrap = DAMAGED[name]
    broken = (wrap(b) for b in mutations(content, 100, seed=len(content), focus=focus or 300))
    most = memory_of(2 * len(content))
    assert refusals(weights.read, FormatError, broken, tmp_path / "a", memory=most) > 50
