from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from striate.data import DownloadError, FormatError, Resource, data_dir, extract, fetch, verify

DATA = bytes(range(256)) * 500


class Handler(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/absent":
            self.send_error(404)
            return
        self.send_response(200)
        short = 100 if self.path == "/short" else 0
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        try:
            self.wfile.write(DATA[: len(DATA) - short])
            while self.path == "/endless":
                self.wfile.write(DATA)
        except OSError:
            pass  # the client has had enough

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Handler.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


SHA = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.mark.parametrize("digest", [{"sha256": SHA}, {"md5": MD5}, {"sha256": SHA, "md5": "no"}])
def test_a_download(tmp_path: Path, server: str, digest: dict[str, str]) -> None:
    folder = tmp_path / "deep" / "folder"
    resource = Resource("a.bin", (server + "/a",), **digest)
    path = fetch(resource, folder)
    assert path.read_bytes() == DATA
    assert os.listdir(folder) == ["a.bin"]
    assert fetch(resource, folder) == path
    assert Handler.asked == ["/a"]  # the second time, it was there
    assert path.stat().st_mode & 0o400


def test_the_next_url_is_tried(tmp_path: Path, server: str) -> None:
    urls = (server + "/absent", "ftp://127.0.0.1/a", server + "/b")
    assert fetch(Resource("a", urls, sha256=SHA), tmp_path).read_bytes() == DATA
    assert Handler.asked == ["/absent", "/b"]


@pytest.mark.parametrize(
    ("path", "digest", "message"),
    [
        ("/absent", SHA, "404"),
        ("/a", "0" * 64, f"the sha256 digest is {'0' * 64}, found {SHA}"),
        ("/short", SHA, r"128000 bytes were announced, 127900 came|IncompleteRead"),
        ("/endless", SHA, "at most 1000000 bytes are expected, found more"),
    ],
)
def test_a_failure_leaves_nothing(
    tmp_path: Path, server: str, path: str, digest: str, message: str
) -> None:
    resource = Resource("a", (server + path,), sha256=digest, max_bytes=1_000_000)
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(resource, tmp_path)
    assert server + path in str(caught.value)
    assert "put a copy of the file" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(DownloadError, match="refused"):
        fetch(Resource("a", (f"http://127.0.0.1:{port}/a",), sha256=SHA), tmp_path)
    with pytest.raises(DownloadError, match="http, https or file"):
        fetch(Resource("a", ("data:,a",), sha256=SHA), tmp_path)
    with pytest.raises(ValueError, match="needs a digest"):
        fetch(Resource("a", ()), tmp_path)


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIATE_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert data_dir() == tmp_path / "striate" / "data"
    monkeypatch.setattr("sys.platform", "darwin")
    assert data_dir().parts[-4:] == ("Library", "Caches", "striate", "data")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "local")
    assert data_dir().as_posix() == "local/striate/data"
    monkeypatch.setenv("STRIATE_DATA_DIR", str(tmp_path / "chosen"))
    assert data_dir() == tmp_path / "chosen"
    assert data_dir("given") == Path("given")


def test_verify(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)
    verify(Resource("a", (), sha256=SHA), path)
    with pytest.raises(FormatError, match=f"md5 digest is 00, found {MD5}"):
        verify(Resource("a", (), md5="00"), path)


def tar(path: Path, members: list[tuple[str, bytes | str, bytes]]) -> Path:
    """Members `(name, type or link target, data)`."""
    with tarfile.open(path, "w:gz") as out:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(kind, str):
                info.type, info.linkname = tarfile.SYMTYPE, kind
            else:
                info.type, info.size = kind, len(data)
            out.addfile(info, io.BytesIO(data))
    return path


REG = tarfile.REGTYPE


def test_only_the_wanted_members_are_written(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    archive = tar(
        tmp_path / "a.tar.gz",
        [
            ("../../outside", REG, b"x"),
            ("/absolute", REG, b"x"),
            ("link", "/etc", b""),
            ("link/wanted.bin", REG, b"data"),
            ("..\\..\\second.bin", REG, b"more"),
        ],
    )
    paths = extract(archive, inner, {"wanted.bin": 4, "second.bin": 4})
    assert [path.read_bytes() for path in paths] == [b"data", b"more"]
    everything = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    assert everything == {"a.tar.gz", "a", "a/b", "a/b/wanted.bin", "a/b/second.bin"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("x/wanted", "/etc/passwd", b"")], "regular file"),
        ([("wanted", tarfile.DIRTYPE, b"")], "regular file"),
        ([("wanted", REG, b"12345")], "at most 4 bytes, found .* 5 bytes"),
        ([("wanted", REG, b"1"), ("b/wanted", REG, b"2")], "second time"),
        ([("other", REG, b"1")], r"holds 1 wanted files, found 0; absent: \['wanted'\]"),
        ([("other", REG, bytes(3_000_000)), ("wanted", REG, b"1")], "unpacks to at most 1000000"),
    ],
)
def test_hostile_archives(tmp_path: Path, members: Any, message: str) -> None:
    archive = tar(tmp_path / "a.tar.gz", members)
    with pytest.raises(FormatError, match=message):
        extract(archive, tmp_path / "out", {"wanted": 4}, max_bytes=1_000_000)


def test_damaged_archives(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [("wanted", REG, os.urandom(3000))])
    data = archive.read_bytes()
    for broken in (b"", b"no archive", data[: len(data) // 2], data[:1000] + data[1100:]):
        archive.write_bytes(broken)
        with pytest.raises(FormatError):
            extract(archive, tmp_path / "out", {"wanted": 4000})
        assert [p for p in (tmp_path / "out").iterdir() if p.name != "wanted"] == []


def test_a_header_that_asks_for_much(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 200_000_000
    import gzip

    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(8_000_000)))
    tracemalloc.start()
    with pytest.raises(FormatError):
        extract(path, tmp_path / "out", {"wanted": 4}, max_bytes=1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
