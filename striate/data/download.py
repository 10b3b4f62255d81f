"""Downloads: checked by a digest, bounded in size, and atomic.

Invariant: a file under its final name is complete and has the published digest. Bytes go into a
temporary file in the same folder, are hashed on the way, synced to disk, and renamed.
"""

import gzip
import hashlib
import importlib
import os
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from striate.errors import StriateError

from .files import FormatError, PathLike

_PIECE = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte


class DownloadError(StriateError, OSError):
    """A file could not be fetched: no network, a wrong digest, or too many bytes.

    >>> issubclass(DownloadError, OSError)
    True
    """


@dataclass(frozen=True)
class Resource:
    """A published file: where it lies, its name, and its digest (SHA-256, or else MD5).

    >>> Resource("a.gz", ("https://example.org/a.gz",), md5="0" * 32).max_bytes
    536870912
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None
    md5: str | None = None
    max_bytes: int = 1 << 29


def data_dir(root: PathLike | None = None) -> Path:
    """Where data lies: `root`, else `STRIATE_DATA_DIR`, else the user's cache folder.

    >>> data_dir("somewhere").name
    'somewhere'
    """
    if root is not None:
        return Path(root)
    if chosen := os.environ.get("STRIATE_DATA_DIR"):
        return Path(chosen)
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "striate" / "data"


def fetch(resource: Resource, folder: PathLike) -> Path:
    """Fetch a resource into a folder, unless a file of its name is there; returns its path.

    The URLs (http, https, file) are tried in order. Raises DownloadError, naming each URL and why
    it failed, and ValueError for a resource without a digest. A failure leaves no file behind.

    >>> import hashlib, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as d:
    ...     source = pathlib.Path(d, "source")
    ...     _ = source.write_bytes(b"data")
    ...     digest = hashlib.sha256(b"data").hexdigest()
    ...     path = fetch(Resource("a.bin", (source.as_uri(),), sha256=digest), d)
    ...     path.read_bytes()
    b'data'
    """
    _digest(resource)
    target = Path(folder) / resource.name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in resource.urls:
        try:
            _copy(url, resource, target)
            return target
        except (OSError, ValueError, EOFError) as error:
            failures.append(f"{url}: {error}")
        except Exception as error:  # http.client has errors of its own kind
            failures.append(f"{url}: {type(error).__name__}: {error}")
    raise DownloadError(
        f"fetch: {resource.name!r} could not be fetched into {os.fspath(target.parent)!r}: "
        + "; ".join(failures)
        + f" (without network, put a copy of the file at {os.fspath(target)!r})"
    )


def _copy(url: str, resource: Resource, target: Path) -> None:
    if not url.startswith(("https://", "http://", "file://")):
        raise ValueError("the URL is of http, https or file")
    # by name: it would be half of the time that importing striate.data takes
    request = importlib.import_module("urllib.request")
    with request.urlopen(url, timeout=_TIMEOUT) as response:
        announced = response.headers.get("Content-Length")
        write_atomic(target, response, resource.max_bytes, resource, announced)


def _digest(resource: Resource) -> tuple[Any, str]:
    if resource.sha256 is not None:
        return hashlib.sha256(), resource.sha256
    if resource.md5 is not None:
        return hashlib.md5(usedforsecurity=False), resource.md5
    raise ValueError(f"fetch: {resource.name!r} needs a digest (sha256 or md5), found none")


def write_atomic(
    target: Path,
    source: IO[bytes],
    most: int,
    resource: Resource | None = None,
    announced: str | None = None,
) -> None:
    """Copy a stream of at most `most` bytes to a file that appears complete or not at all.

    Raises DownloadError where the bytes are more than `most`, fewer than `announced`, or of another
    digest than the resource's.
    """
    hasher, wanted = _digest(resource) if resource is not None else (None, "")
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            count = 0
            while piece := source.read(_PIECE):
                count += len(piece)
                if count > most:
                    raise DownloadError(f"at most {most} bytes are expected, found more")
                if hasher is not None:
                    hasher.update(piece)
                out.write(piece)
            if announced is not None and announced.isdigit() and count != int(announced):
                raise DownloadError(f"{announced} bytes were announced, {count} came")
            if hasher is not None and hasher.hexdigest() != wanted:
                raise DownloadError(
                    f"the {hasher.name} digest is {wanted}, found {hasher.hexdigest()} "
                    f"({count} bytes)"
                )
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself becomes durable with its folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError:
            pass  # some network file systems cannot sync a folder
        finally:
            os.close(folder)


def _umask() -> int:
    # mkstemp gives 0600; the umask can only be read by setting it, which is not thread-safe
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


def verify(resource: Resource, path: PathLike) -> None:
    """Raise FormatError unless the file has the digest of the resource.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "a")
    ...     _ = path.write_bytes(b"")
    ...     verify(Resource("a", (), md5="d41d8cd98f00b204e9800998ecf8427e"), path)
    """
    hasher, wanted = _digest(resource)
    with open(path, "rb") as stream:
        while piece := stream.read(_PIECE):
            hasher.update(piece)
    if hasher.hexdigest() != wanted:
        raise FormatError(
            "verify",
            path,
            f"the {hasher.name} digest is {wanted}",
            f"found {hasher.hexdigest()}",
            "the file is damaged or another one: remove it and get it again",
        )


def extract(
    archive: PathLike, folder: PathLike, members: Mapping[str, int], *, max_bytes: int = 1 << 30
) -> list[Path]:
    """Unpack the named members of a .tar.gz into a folder; returns their paths.

    `members`: base name -> the most bytes that it may have. Only these are written, each as a
    regular file directly in `folder`, whatever path, link or mode the archive gives. Raises
    FormatError for a broken archive, an absent, doubled or too large member, one that is no regular
    file, and an archive that unpacks to more than `max_bytes`.

    >>> import io, pathlib, tarfile, tempfile
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "a.tar.gz")
    ...     with tarfile.open(path, "w:gz") as tar:
    ...         info = tarfile.TarInfo("../../etc/batch.bin")
    ...         info.size = 3
    ...         tar.addfile(info, io.BytesIO(b"abc"))
    ...     [p.relative_to(d).as_posix() for p in extract(path, d, {"batch.bin": 10})]
    ['batch.bin']
    """
    where, out = "extract", {}
    into = Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(archive) as packed:
            bounded = _Bounded(archive, cast(IO[bytes], packed), max_bytes)
            with tarfile.open(fileobj=cast(Any, bounded), mode="r|", bufsize=1 << 20) as tar:
                for info in tar:
                    name = info.name.replace("\\", "/").rsplit("/", 1)[-1]
                    if name not in members:
                        continue
                    if not info.isreg() or name in out or info.size > members[name]:
                        raise FormatError(
                            where,
                            archive,
                            f"{name!r} is one regular file of at most {members[name]} bytes",
                            f"found type {info.type!r}, {info.size} bytes"
                            + (", a second time" if name in out else ""),
                        )
                    stream = tar.extractfile(info)
                    assert stream is not None
                    write_atomic(into / name, stream, members[name])
                    out[name] = into / name
    except FormatError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise FormatError(
            where,
            archive,
            "an intact .tar.gz is expected",
            f"found {type(error).__name__}: {error}",
        ) from None
    absent = [name for name in members if name not in out]
    if absent:
        raise FormatError(
            where,
            archive,
            f"the archive holds {len(members)} wanted files",
            f"found {len(out)}; absent: {absent}",
        )
    return list(out.values())


class _Bounded:
    """A stream that raises FormatError behind `most` bytes: tar headers can ask for any amount."""

    def __init__(self, path: PathLike, stream: IO[bytes], most: int) -> None:
        self.path, self.stream, self.most, self.count = path, stream, most, 0

    def read(self, n: int) -> bytes:
        data = self.stream.read(min(n, 1 << 20))
        self.count += len(data)
        if self.count > self.most:
            raise FormatError(
                "extract",
                self.path,
                f"the archive unpacks to at most {self.most} bytes",
                "found more",
            )
        return data
