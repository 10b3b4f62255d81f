"""Files that are replaced as a whole: a kill at any moment leaves the old one or the new one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file as a whole: after a crash it is the old one or the new one.

    Raises:
        OSError: the disk is full or not writable; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
    ) as file:
        try:
            file.write(content)
            to_disk(file)
        except BaseException:
            file.close()
            os.unlink(file.name)
            raise
    put_in_place(Path(file.name), path)


def to_disk(file: IO[bytes]) -> None:
    """What has been written to the file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def put_in_place(aside: Path, path: Path) -> None:
    """Give a complete file its name, under which an old one may stand: its permissions stay."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    os.chmod(aside, mode)
    os.replace(aside, path)
    with suppress(OSError):  # a folder cannot be opened on Windows
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_stale(path: Path) -> None:
    """Remove what writers of this file that were killed have left aside."""
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
