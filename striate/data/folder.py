"""Images in folders: `root/class_name/*.png`, decoded by Pillow when a sample is asked for."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .files import Array, FormatError, PathLike, regular_size

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# EPS and its like are programs: they stay out, whatever a file is called
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485  # a quarter of a GiB at 24 bits a pixel: Pillow's own bound


def read_image(
    path: PathLike,
    *,
    mode: Literal["RGB", "L"] = "RGB",
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Array:
    """Decode one image: u8[C, H, W], C = 3 for "RGB" and 1 for "L" (grey).

    `size = (H, W)` resizes with an antialiased bilinear filter. The pixel count in the header
    is checked before anything is decoded (Pillow itself stops at twice the default, whatever
    `max_pixels` is). 16-bit images keep their upper 8 bits; EXIF rotation is not applied. Raises
    ImportError without Pillow, FileNotFoundError, FormatError for a broken or too large image.

    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "a.png")
    ...     Image.new("RGB", (4, 2), (255, 0, 0)).save(path)
    ...     x = read_image(path)
    >>> x.shape, x[:, 0, 0]
    ((3, 2, 4), array([255,   0,   0], dtype=uint8))
    """
    where = "read_image"
    image_module = _pillow(where)
    if mode not in ("RGB", "L"):
        raise ValueError(f"{where}: mode is 'RGB' or 'L', found {mode!r}")
    regular_size(where, path)
    try:
        with open(path, "rb") as stream, image_module.open(stream, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise FormatError(
                    where,
                    path,
                    f"an image has at most {max_pixels} pixels",
                    f"the header announces {width} x {height} = {width * height}",
                    "raise max_pixels if this is meant",
                )
            return _decode(image_module, image, path, mode, size)
    except FormatError:
        raise
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning) as error:
        raise FormatError(
            where, path, f"an image has at most {max_pixels} pixels", f"found: {error}"
        ) from None
    except (
        SyntaxError,
        ValueError,
        EOFError,
        TypeError,
        IndexError,
        KeyError,
        OverflowError,
        ArithmeticError,
        AttributeError,
        RuntimeError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a fault of the machine (permission, disk), not of the file
        raise FormatError(
            where,
            path,
            f"an image in one of {', '.join(_FORMATS)} is expected",
            f"found {type(error).__name__}: {str(error)[:200]}",
        ) from error


def _decode(
    image_module: Any, image: Any, path: PathLike, mode: str, size: tuple[int, int] | None
) -> Array:
    if image.mode.startswith("I;16"):
        image = image_module.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise FormatError(
            "read_image", path, "an image has 8 or 16 bits a sample", f"found mode {image.mode!r}"
        )
    image = image.convert(mode)
    if size is not None:
        image = image.resize((size[1], size[0]), image_module.Resampling.BILINEAR)
    pixels = np.asarray(image)
    # [h, w] or [h, w, c] -> [c, h, w]
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _pillow(where: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"{where}: decoding images needs Pillow: pip install 'striate[images]'"
        ) from error
    return Image


class ImageFolder:
    """Images in `root/class_name/*.png` (jpg, bmp, gif, ppm, tif, webp): a lazy dataset.

    Classes are the names of the folders, sorted; samples are sorted within a class; hidden files
    and other endings are left out. `data[i]` is `(u8[C, H, W], label)`, decoded at that moment by
    `read_image` with the same `mode`, `size` and `max_pixels`. Raises FileNotFoundError where
    root is absent or holds no class, ImportError without Pillow, and, when a sample is read,
    FormatError for a broken image.

    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as d:
    ...     for name in ("cat", "dog"):
    ...         pathlib.Path(d, name).mkdir()
    ...         Image.new("L", (9, 9)).save(pathlib.Path(d, name, "1.png"))
    ...     data = ImageFolder(d, size=(8, 8))
    ...     data.classes, len(data), data[1][0].shape, data[1][1]
    (('cat', 'dog'), 2, (3, 8, 8), 1)
    """

    def __init__(
        self,
        root: PathLike,
        *,
        mode: Literal["RGB", "L"] = "RGB",
        size: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        _pillow("ImageFolder")
        self.root, self.mode, self.size, self.max_pixels = Path(root), mode, size, max_pixels
        if mode not in ("RGB", "L"):
            raise ValueError(f"ImageFolder: mode is 'RGB' or 'L', found {mode!r}")
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"ImageFolder: size is (H, W), both at least 1, found {size}")
        with os.scandir(self.root) as entries:
            found = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        self.classes: tuple[str, ...] = tuple(found)
        self.samples: list[tuple[Path, int]] = []
        for label, name in enumerate(self.classes):
            with os.scandir(self.root / name) as entries:
                files = sorted(
                    e.name
                    for e in entries
                    if e.name.lower().endswith(EXTENSIONS)
                    and not e.name.startswith(".")
                    and e.is_file()
                )
            self.samples += [(self.root / name / file, label) for file in files]
        if not self.classes:
            raise FileNotFoundError(
                f"ImageFolder: {os.fspath(self.root)!r} has one folder a class, found 0 folders; "
                "images belong into root/class_name/"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int, /) -> tuple[Array, int]:
        path, label = self.samples[i]
        x = read_image(path, mode=self.mode, size=self.size, max_pixels=self.max_pixels)
        return x, label

    def __repr__(self) -> str:
        return (
            f"ImageFolder({os.fspath(self.root)!r}: {len(self)} images, "
            f"{len(self.classes)} classes)"
        )
