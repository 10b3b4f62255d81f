from __future__ import annotations

import collections
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from striate.data import FormatError, read_pickle
from tests.data.builders import python2_pickle
from tests.mutate import mutations

PLAIN = {
    "none": None,
    "bools": [True, False],
    "ints": [0, -1, 255, 65535, 1 << 31, -(1 << 40), 1 << 200],
    "floats": [0.5, -1e300],
    "text": "äöü \n \U0001f600",
    "bytes": b"\x00\xff",
    "nested": {"a": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}]},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(pickle.dumps(PLAIN, protocol))
    assert read_pickle(path) == PLAIN


leaves = st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text() | st.binary()
trees = st.recursive(
    leaves, lambda t: st.lists(t) | st.tuples(t, t) | st.dictionaries(st.text(), t), max_leaves=9
)


@given(trees, st.integers(0, 5))
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: Any, protocol: int) -> None:
    path = tmp_path_factory.getbasetemp() / "tree"
    path.write_bytes(pickle.dumps(tree, protocol))
    assert read_pickle(path) == tree


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["u1", "?", "<i2", ">i4", "<f4", ">f8", "<f2"])
def test_arrays(tmp_path: Path, protocol: int, dtype: str) -> None:
    array = np.arange(12).astype(dtype).reshape(3, 4)
    empty = np.zeros((0, 4), dtype)
    path = tmp_path / "a"
    objects = [array, array, np.asfortranarray(array), array[:, ::2], empty]
    path.write_bytes(pickle.dumps(objects, protocol))
    out = read_pickle(path)
    assert isinstance(out, list)
    for got, expected in zip(out, objects, strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype
        assert not got.flags.writeable
    assert out[0] is out[1]  # the memo holds the array, not its shell


def test_python2_strings_are_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(python2_pickle(np.ones((2, 3), np.uint8), {"labels": [3, 1]}))
    out = read_pickle(path)
    assert isinstance(out, dict)
    assert out[b"labels"] == [3, 1]
    assert out[b"batch_label"] == b"training batch 1 of 5"
    np.testing.assert_array_equal(out[b"data"], np.ones((2, 3), np.uint8))


class Evil:
    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> Any:
        return self.call, self.args


def evil_state(marker: Path) -> bytes:
    """BUILD with a slot state that would set attributes of a class."""
    return b"\x80\x02cnumpy\nndarray\n}U\x01aK\x01sb."


ATTACKS = {
    "os.system": lambda m: pickle.dumps(Evil(os.system, f"touch {m}")),
    "eval": lambda m: pickle.dumps(Evil(eval, f"open({str(m)!r}, 'w')")),
    "open": lambda m: pickle.dumps(Evil(open, str(m), "w")),
    "protocol 0": lambda m: pickle.dumps(Evil(os.system, f"touch {m}"), 0),
    "inside data": lambda m: pickle.dumps({"data": Evil(os.mkdir, str(m)), "labels": []}, 2),
    "inst": lambda m: b"(S'touch " + str(m).encode() + b"'\nios\nsystem\n.",
    "obj": lambda m: b"(cos\nsystem\nS'touch " + str(m).encode() + b"'\no.",
    "newobj": lambda m: b"\x80\x02cos\nsystem\nU\x01x\x85\x81.",
    "getattr": lambda m: b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x01a\x8c\x01b\x86R.",
    "numpy load": lambda m: b"cnumpy\nload\n(S'" + str(m).encode() + b"'\ntR.",
    "dotted": lambda m: b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile_\x93)R.",
    "other _reconstruct": lambda m: b"ccopyreg\n_reconstructor\n(tR.",
    "extension": lambda m: b"\x80\x02\x82\x01.",
    "persistent": lambda m: b"Pos.system\n.",
    "class": lambda m: pickle.dumps(collections.OrderedDict(a=1)),
    "set": lambda m: pickle.dumps({1, 2}),
    "state of a class": evil_state,
    "object array": lambda m: pickle.dumps(np.array([Evil(os.mkdir, str(m))], object)),
    "record array": lambda m: pickle.dumps(np.zeros(2, [("a", "i4")])),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_executed(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "executed", tmp_path / "a.pkl"
    path.write_bytes(ATTACKS[name](marker))
    with pytest.raises(FormatError, match="nothing of the file was executed"):
        read_pickle(path)
    assert not marker.exists()


def many(op: bytes, n: int) -> bytes:
    return b"\x80\x02" + op * n


BOMBS = {
    "opcodes": many(b"]", 3_000_000) + b".",
    "huge string": b"\x80\x02T\xff\xff\xff\xff.",
    "huge frame": b"\x80\x04\x95" + b"\xff" * 8 + b".",
    "huge bytes": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "huge memo key": b"\x80\x02Nr\xff\xff\xff\xff.",
    "huge integer": b"\x80\x02\x8b\xff\xff\xff\x7f" + b"1" * 100,
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "no stop": b"\x80\x02N",
    "empty": b"",
    "no stack": b"\x80\x02.",
    "pop under the mark": b"N(0.",
    "no mark": b"\x80\x02t.",
    "no key": b"\x80\x02}Nu.",
    "odd items": b"\x80\x02}(U\x01au.",
    "unhashable key": b"\x80\x02}]Ns.",
    "deep key": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
    "append to a tuple": b"\x80\x02)Na.",
    "unknown memo": b"\x80\x02h\x07.",
    "newer protocol": b"\x80\x09N.",
    "repeated encode": (
        b"\x80\x02c_codecs\nencode\nq\x00X\x10\x27\x00\x00" + b"a" * 10_000 + b"q\x01"
        b"U\x06latin1q\x02" + b"h\x00h\x01h\x02\x86R" * 100_000 + b"."
    ),
    "wrong size": (
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\x7f\x85"
        b"cnumpy\ndtype\nU\x02u1\x85R\x89U\x01atb."
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(BOMBS[name])
    if name in ("opcodes", "repeated encode", "deep key"):  # counting memory is slow there
        with pytest.raises(FormatError):
            read_pickle(path)
        return
    if name == "huge memo key":
        assert read_pickle(path) is None  # a dict: the key costs nothing
        return
    tracemalloc.start()
    with pytest.raises(FormatError):
        read_pickle(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_deep_nesting_is_no_recursion(tmp_path: Path) -> None:
    path = tmp_path / "deep"
    path.write_bytes(b"\x80\x02)" + b"\x85" * 200_000 + b".")
    assert isinstance(read_pickle(path), tuple)


def test_too_large_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(pickle.dumps(b"x" * 1000))
    with pytest.raises(FormatError, match="at most 100 bytes are read"):
        read_pickle(path, max_bytes=100)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_random_damage(tmp_path: Path, which: int) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(2, 6)
    data = [
        python2_pickle(array, {"labels": [3, 1]}),
        pickle.dumps({"data": array, "labels": [3, 1], "more": PLAIN}, 2),
        pickle.dumps({"data": array, "labels": [3, 1], "more": PLAIN}, 5),
    ][which]
    path = tmp_path / "a"
    refused = 0
    for broken in mutations(data, 500, seed=which):
        path.write_bytes(broken)
        try:
            read_pickle(path)
        except FormatError:
            refused += 1
    assert refused > 200


def test_random_opcodes(tmp_path: Path) -> None:
    """Streams made of valid opcodes reach deeper than random bytes."""
    rng = np.random.default_rng(0)
    pieces = [
        b"(", b"0", b"1", b"2", b"N", b"K\x01", b"U\x01a", b"X\x01\0\0\0a", b"]", b"a", b"e", b")",
        b"t", b"\x85", b"\x86", b"\x87", b"}", b"d", b"s", b"u", b"q\x00", b"h\x00", b"l", b"\x94",
        b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"R", b"b", b"\x93",
        b"U\x02u1", b"U\x01|", struct.pack("<cI", b"T", 3) + b"abc", b"G" + bytes(8),
    ]  # fmt: skip
    path = tmp_path / "a"
    for _ in range(600):
        picks = rng.integers(0, len(pieces), int(rng.integers(1, 40)))
        path.write_bytes(b"".join(pieces[k] for k in picks) + b".")
        try:
            read_pickle(path)
        except FormatError:
            pass
