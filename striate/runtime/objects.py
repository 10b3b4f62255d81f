"""Object files on disk, so that a kernel is compiled once for a user and not once a process; and
programs, so that a network is lowered once.

An entry is a file named by a key: magic, sha256 of (key + content), content. The sum finds what was
truncated, flipped or renamed, but whoever writes a file can write its sum. What is loaded becomes
machine code, so trust comes from ownership alone: the folder and each file must belong to this user
and be writable by nobody else; what is not is left alone, with one warning.

Files appear by an atomic rename, never in pieces; processes need no lock between them. A use
renews a file's time (to the hour), and the oldest go when there are more bytes than allowed. What
cannot be written or read is not there: a cache never raises.
"""

from __future__ import annotations

import os
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

MAGIC = b"striate1"
KINDS = (".o", ".plan")  # how names end
_HEADER = len(MAGIC) + 32
_HOUR = 3600
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def default_folder() -> Path | None:
    """Where this platform keeps a user's caches, and in it ours; None: the user has no home."""
    try:
        if os.name == "nt":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "striate"


def _private(status: os.stat_result) -> bool:
    """Does it belong to this user, and can nobody else write it?"""
    if not hasattr(os, "getuid"):  # Windows: what is in a user's folder is the user's
        return True
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.getuid() and not status.st_mode & others


def _sum(key: str, content: bytes) -> bytes:
    return sha256(key.encode() + b"\0" + content).digest()


class ObjectCache:
    """Bytes by key (hexadecimal digits) and kind (`o`, `plan`) in a folder.

    Args:
        folder: made, with mode 0700, if there is none; None: keep nothing.
        limit: the most bytes to keep; 0: keep nothing, find nothing.
    """

    def __init__(self, folder: Path | None, limit: int) -> None:
        self.folder = folder or Path()
        self.limit = limit
        self._bytes: int | None = None  # what the folder holds, as far as we know
        self._warned = False
        self._usable = folder is not None and limit > 0 and self._prepare()

    def _prepare(self) -> bool:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.stat()
        except OSError:
            return False
        if not _private(status):
            self._warn(self.folder)
            return False
        return True

    def _warn(self, path: Path) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"striate does not use {path} as a cache: it must belong to you, and nobody else "
                "may write it (chmod go-w, or set STRIATE_CACHE_DIR)",
                RuntimeWarning,
                stacklevel=2,
            )

    def _path(self, key: str, kind: str) -> Path:
        return self.folder / f"{key}.{kind}"

    def get(self, key: str, kind: str = "o") -> bytes | None:
        """The content of a key, or None: unknown, damaged, or not to be trusted."""
        if not self._usable:
            return None
        try:
            file = os.open(self._path(key, kind), os.O_RDONLY | _FLAGS)
        except OSError:
            return None
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or not _private(status):
                self._warn(self._path(key, kind))
                return None
            data = b""
            while part := os.read(file, status.st_size + 1):
                data += part
        except OSError:
            return None
        finally:
            os.close(file)
        content = data[_HEADER:]
        if data[:_HEADER] != MAGIC + _sum(key, content):
            return None
        if time.time() - status.st_mtime > _HOUR:
            self._renew(self._path(key, kind))
        return content

    def _renew(self, path: Path) -> None:
        try:
            os.utime(path)
        except OSError:
            pass

    def put(self, key: str, content: bytes, kind: str = "o") -> None:
        """Keep the content of a key, in the place of any other."""
        if not self._usable:
            return
        data = MAGIC + _sum(key, content) + content
        new = self.folder / f".{key}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            try:
                with os.fdopen(file, "wb") as stream:
                    stream.write(data)
                os.replace(new, self._path(key, kind))
            except OSError:
                os.unlink(new)
                raise
            self._bytes = self._size() if self._bytes is None else self._bytes + len(data)
            if self._bytes > self.limit:
                self._evict()
        except OSError:
            pass

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        """(time of use, bytes, path) of each file, leftovers of dead processes included."""
        with os.scandir(self.folder) as found:
            for entry in found:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:  # another process was faster
                    continue
                if stat.S_ISREG(status.st_mode) and (
                    entry.name.endswith(KINDS) or entry.name[0] == "."
                ):
                    yield status.st_mtime, status.st_size, entry.path

    def _size(self) -> int:
        return sum(size for _, size, _ in self._entries())

    def _evict(self) -> None:
        """Remove the files that were not used for longest, to nine tenths of the limit."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self.limit * 9 // 10:
                break
            try:
                os.unlink(path)
            except OSError:
                pass
            total -= size
        self._bytes = total
