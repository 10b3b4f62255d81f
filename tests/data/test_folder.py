from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from striate.data import DataLoader, FormatError, ImageFolder, LoaderError, read_image
from tests.mutate import mutations

Image = pytest.importorskip("PIL.Image", reason="Pillow (striate[images]) is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("dog", "cat"):
        (tmp_path / name).mkdir()
        for k, end in enumerate(("png", "PNG", "jpg", "bmp")):
            pixels = rng.integers(0, 256, (6 + k, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.{end}")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / ".hidden.png").write_text("no image")
    (tmp_path / ".git").mkdir()
    (tmp_path / "readme.png").write_text("no image either")
    return tmp_path


def test_classes_and_order(folder: Path) -> None:
    data = ImageFolder(folder)
    assert data.classes == ("cat", "dog")
    assert len(data) == 8
    names = [path.relative_to(folder).as_posix() for path, _ in data.samples]
    assert names[:4] == ["cat/0.png", "cat/1.PNG", "cat/2.jpg", "cat/3.bmp"]
    assert [label for _, label in data.samples] == [0] * 4 + [1] * 4
    x, y = data[7]
    assert (x.shape, x.dtype, y) == ((3, 9, 8), np.uint8, 1)


def test_pixels(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels.transpose(2, 0, 1))
    assert read_image(tmp_path / "a.png", mode="L").shape == (1, 2, 4)
    assert read_image(tmp_path / "a.png", size=(5, 7)).shape == (3, 5, 7)
    deep = np.array([[0, 0x1234], [0xFFFF, 0x00FF]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", mode="L")[0], deep >> 8)
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(FormatError, match="mode 'F'"):
        read_image(tmp_path / "float.tif")


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(9460, 9460), (13378, 13378), (20000, 20000), (1 << 30, 1 << 30)]
)
def test_too_many_pixels(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(width, height))
    with pytest.raises(FormatError, match="at most 89478485 pixels"):
        read_image(path)


def test_the_cap_is_the_callers(tmp_path: Path) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=100).shape == (3, 10, 10)
    with pytest.raises(FormatError, match="at most 99 pixels, the header announces 10 x 10 = 100"):
        read_image(tmp_path / "a.png", max_pixels=99)


def test_postscript_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(FormatError, match="an image in one of PNG"):
        read_image(path)


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found 0 folders"):
        ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError):
        ImageFolder(tmp_path / "absent")
    with pytest.raises(ValueError, match="size"):
        ImageFolder(tmp_path, size=(0, 3))
    with pytest.raises(ValueError, match="mode"):
        ImageFolder(tmp_path, mode="CMYK")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode"):
        read_image(tmp_path, mode="CMYK")  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage that it can read through
def test_random_damage(tmp_path: Path, end: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path = tmp_path / f"a.{end}"
    Image.fromarray(pixels).save(path)
    for broken in mutations(path.read_bytes(), 60, seed=1, focus=60):
        path.write_bytes(broken)
        try:
            read_image(path, max_pixels=1 << 20)
        except FormatError:
            pass


def test_in_a_loader(folder: Path) -> None:
    with pytest.raises(LoaderError, match=r"one shape and type.* at 0 and .* at 1; resize"):
        list(DataLoader(ImageFolder(folder), 4))
    loader = DataLoader(ImageFolder(folder, size=(5, 5)), 3, workers=2)
    batches = list(loader)
    assert [x.shape for x, _ in batches] == [(3, 3, 5, 5), (3, 3, 5, 5), (2, 3, 5, 5)]
    (folder / "cat" / "1.PNG").write_bytes(b"broken")
    with pytest.raises(LoaderError, match=r"sample 1 .*FormatError: .*1\.PNG") as caught:
        list(loader)
    assert caught.value.index == 1
    assert isinstance(caught.value.__cause__, FormatError)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'striate\[images\]'"):
        ImageFolder(tmp_path)
