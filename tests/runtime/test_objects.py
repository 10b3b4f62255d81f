"""The cache of objects: what is damaged, planted or not ours is not used, and it stays small."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from striate.runtime.objects import MAGIC, ObjectCache, default_folder

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER = "ab" * 32, "cd" * 32
CONTENT = bytes(range(256)) * 8
POSIX = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners and modes here")


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    made = ObjectCache(tmp_path / "cache", 1 << 20)
    made.put(KEY, CONTENT)
    return made


def file(cache: ObjectCache, key: str = KEY) -> Path:
    return cache.folder / f"{key}.o"


def test_what_is_put_is_got(cache: ObjectCache) -> None:
    assert cache.get(KEY) == CONTENT
    assert cache.get(OTHER) is None
    assert ObjectCache(cache.folder, 1 << 20).get(KEY) == CONTENT
    cache.put(KEY, b"")
    assert cache.get(KEY) == b""


@POSIX
def test_folder_and_files_are_private(cache: ObjectCache) -> None:
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file(cache).stat().st_mode) == 0o600


@pytest.mark.parametrize("length", [0, 7, 8, 39, 40, 41, 1000, 2087])
def test_truncated(cache: ObjectCache, length: int) -> None:
    data = file(cache).read_bytes()
    assert len(data) == 2088
    file(cache).write_bytes(data[:length])
    assert cache.get(KEY) is None


@pytest.mark.parametrize("position", [0, 7, 8, 39, 40, 1000, 2087])
def test_flipped(cache: ObjectCache, position: int) -> None:
    data = bytearray(file(cache).read_bytes())
    data[position] ^= 1
    file(cache).write_bytes(data)
    assert cache.get(KEY) is None
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT


def test_longer(cache: ObjectCache) -> None:
    file(cache).write_bytes(file(cache).read_bytes() + b"\0")
    assert cache.get(KEY) is None


def test_the_object_of_another_kernel(cache: ObjectCache) -> None:
    file(cache).rename(file(cache, OTHER))
    assert cache.get(OTHER) is None


def test_planted(cache: ObjectCache) -> None:
    file(cache).write_bytes(MAGIC + bytes(32) + CONTENT)
    assert cache.get(KEY) is None


@POSIX
def test_links_are_not_followed(cache: ObjectCache) -> None:
    os.symlink(file(cache), file(cache, OTHER))
    assert cache.get(OTHER) is None
    file(cache).rename(cache.folder / "elsewhere")
    os.symlink(cache.folder / "elsewhere", file(cache))
    assert cache.get(KEY) is None


@POSIX
def test_a_file_that_others_can_write(cache: ObjectCache) -> None:
    file(cache).chmod(0o620)
    with pytest.warns(RuntimeWarning, match="nobody else may write"):
        assert cache.get(KEY) is None
    with warnings.catch_warnings():  # one warning is enough
        warnings.simplefilter("error")
        assert cache.get(KEY) is None
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT


@POSIX
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_can_write(cache: ObjectCache, mode: int) -> None:
    cache.folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match="chmod go-w"):
        again = ObjectCache(cache.folder, 1 << 20)
    assert again.get(KEY) is None
    again.put(OTHER, CONTENT)
    assert not file(cache, OTHER).exists()


@POSIX
def test_what_another_user_owns(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is somebody else."""
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.warns(RuntimeWarning, match="must belong to you"):
        assert cache.get(KEY) is None
    with pytest.warns(RuntimeWarning, match="must belong to you"):
        assert ObjectCache(cache.folder, 1 << 20).get(KEY) is None


def test_no_place_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "cache", tmp_path / "file"):
        cache = ObjectCache(folder, 1 << 20)
        cache.put(KEY, CONTENT)
        assert cache.get(KEY) is None


def test_a_folder_that_vanishes(cache: ObjectCache) -> None:
    file(cache).unlink()
    cache.folder.rmdir()
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) is None


def test_no_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    cache = ObjectCache(default_folder(), 1 << 20)
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) is None


def test_no_bytes_no_cache(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 0)
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) is None
    assert not cache.folder.exists()


def test_the_oldest_use_goes_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, 10 * 1040)
    keys = [f"{i:064x}" for i in range(10)]
    for age, key in enumerate(keys):
        cache.put(key, bytes(1000))
        os.utime(file(cache, key), (1e9 - age, 1e9 - age))  # the last is the oldest
    assert cache.get(keys[9]) is not None  # which renews it
    cache.put(KEY, bytes(1000))
    left = [key for key in [*keys, KEY] if cache.get(key) is not None]
    assert left == [*keys[:7], keys[9], KEY]  # nine tenths of the limit
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 9 * 1040


def test_what_dead_processes_left_goes_too(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, 3000)
    left = tmp_path / f".{OTHER}.1.2"
    left.write_bytes(bytes(2000))
    os.utime(left, (1e9, 1e9))
    cache.put(KEY, CONTENT)
    assert not left.exists()
    assert cache.get(KEY) == CONTENT


CROWD = """
import os, random, sys
from hashlib import sha256
from pathlib import Path
from striate.runtime.objects import ObjectCache

def work(seed):
    draw = random.Random(seed)
    cache = ObjectCache(Path(sys.argv[1]), 20_000)
    found = 0
    for _ in range(300):
        key = sha256(bytes([draw.randrange(40)])).hexdigest()
        content = key.encode() * 20
        got = cache.get(key)
        assert got in (None, content)
        found += got is not None
        if got is None:
            cache.put(key, content)
    assert found
    return 0

children = []
for seed in range(8):
    child = os.fork()
    if not child:
        status = 1
        try:
            status = work(seed)
        finally:
            os._exit(status)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
"""


@POSIX
def test_many_processes_in_one_folder(tmp_path: Path) -> None:
    """Eight processes read, write and evict the same forty entries."""
    done = subprocess.run(
        [sys.executable, "-c", CROWD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 9 * 20_000


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {
        ("posix", "linux"): Path("/somewhere/striate"),
        ("posix", "darwin"): Path.home() / "Library" / "Caches" / "striate",
    }
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    for (_, platform), place in places.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert default_folder() == place
