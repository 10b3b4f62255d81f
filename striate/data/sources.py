"""The known data sets by name: their files, official sources, digests and classes.

Each function looks for the user's files first (in `root`, or in the folders in which other
libraries keep them), then unpacks an archive that lies there, and downloads only when told to.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from .cifar import Kind, Labels, check_kind, read_cifar_binary, read_cifar_pickle
from .class_names import (
    CIFAR10_CLASSES,
    CIFAR100_COARSE_CLASSES,
    CIFAR100_FINE_CLASSES,
    FASHION_CLASSES,
)
from .dataset import ArrayDataset
from .download import Resource, data_dir, extract, fetch, verify
from .files import Array, PathLike
from .idx import read_idx_pair

Split: TypeAlias = Literal["train", "test"]

_MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_FASHION_URLS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# the digests that the authors publish, in the order of _IDX_FILES
_MNIST_MD5 = {
    "train": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
    "test": ("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
}
_FASHION_MD5 = {
    "train": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
    "test": ("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
}


def _cifar_resource(name: str, md5: str) -> Resource:
    return Resource(name, (_CIFAR_URL + name,), md5=md5)


_CIFAR: dict[str, dict[str, Resource]] = {
    "cifar10": {
        "binary": _cifar_resource("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
        "pickle": _cifar_resource("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    },
    "cifar100": {
        "binary": _cifar_resource("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
        "pickle": _cifar_resource("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    },
}
_CIFAR_FILES: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("cifar10", "binary"): {
        "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test": ("test_batch.bin",),
    },
    ("cifar10", "pickle"): {
        "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test": ("test_batch",),
    },
    ("cifar100", "binary"): {"train": ("train.bin",), "test": ("test.bin",)},
    ("cifar100", "pickle"): {"train": ("train",), "test": ("test",)},
}
_CIFAR_FOLDERS = {
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar10", "pickle"): "cifar-10-batches-py",
    ("cifar100", "binary"): "cifar-100-binary",
    ("cifar100", "pickle"): "cifar-100-python",
}
_MAX_MEMBER = 1 << 28


def mnist(
    root: PathLike | None = None, split: Split = "train", *, download: bool = False
) -> ArrayDataset:
    """MNIST: `x: u8[60000 or 10000, 1, 28, 28]`, `y: i64[N]`, from the original idx files.

    The files (.gz or unpacked) are looked for in `root`, `root/mnist` and `root/MNIST/raw`; `root`
    defaults to `STRIATE_DATA_DIR`, else the user's cache. With `download`, absent files are fetched
    into `root/mnist`. Raises FileNotFoundError, FormatError, DownloadError, and ValueError for
    another split.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     sizes = [0, 0, 0, 2] * 3
    ...     images = pathlib.Path(d, "train-images-idx3-ubyte")
    ...     _ = images.write_bytes(bytes([0, 0, 8, 3] + sizes + [9] * 8))
    ...     labels = pathlib.Path(d, "train-labels-idx1-ubyte")
    ...     _ = labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 0]))
    ...     mnist(d, "train").y
    array([5, 0])
    """
    names = ("mnist", "MNIST/raw")
    classes = [str(d) for d in range(10)]
    return _idx("mnist", root, split, names, _MNIST_URLS, _MNIST_MD5, classes, download)


def fashion_mnist(
    root: PathLike | None = None, split: Split = "train", *, download: bool = False
) -> ArrayDataset:
    """Fashion-MNIST: `x: u8[60000 or 10000, 1, 28, 28]`, `y: i64[N]`, ten kinds of clothing.

    As `mnist`, with the folders `root`, `root/fashion_mnist` and `root/FashionMNIST/raw`.

    >>> fashion_mnist("no such folder")
    Traceback (most recent call last):
    FileNotFoundError: fashion_mnist: 'train-images-idx3-ubyte' (or .gz) is in none of ...
    """
    names = ("fashion_mnist", "FashionMNIST/raw")
    return _idx(
        "fashion_mnist", root, split, names, _FASHION_URLS, _FASHION_MD5, FASHION_CLASSES, download
    )


def _idx(
    where: str,
    root: PathLike | None,
    split: str,
    names: Sequence[str],
    urls: Sequence[str],
    md5: dict[str, tuple[str, str]],
    classes: Sequence[str],
    may_fetch: bool,
) -> ArrayDataset:
    _check_split(where, split)
    base = data_dir(root)
    folders = [base, *(base / name for name in names)]
    paths = []
    for name, digest in zip(_IDX_FILES[split], md5[split], strict=True):
        # some copies have a dot before idx3
        spellings = [name, name.replace("-idx", ".idx")]
        wanted = [spelling + end for spelling in spellings for end in ("", ".gz")]
        path = _first(folder / w for folder in folders for w in wanted)
        if path is None and may_fetch:
            packed = name + ".gz"
            resource = Resource(packed, tuple(url + packed for url in urls), md5=digest)
            path = fetch(resource, base / names[0])
        if path is None:
            raise _absent(where, f"{name!r} (or .gz)", folders)
        paths.append(path)
    x, y = read_idx_pair(paths[0], paths[1], len(classes))
    return ArrayDataset(x, y, classes=classes)


def cifar10(
    root: PathLike | None = None, split: Split = "train", *, download: bool = False
) -> ArrayDataset:
    """CIFAR-10: `x: u8[50000 or 10000, 3, 32, 32]`, `y: i64[N]`, from either official format.

    Batch files, binary or pickled, are looked for in `root`, `root/cifar10`, and in the official
    folder below each; then an official archive, which is verified and unpacked there. `root`
    defaults to `STRIATE_DATA_DIR`, else the user's cache. With `download`, the binary archive is
    fetched into `root/cifar10`. Raises FileNotFoundError, FormatError, DownloadError, and
    ValueError for another split.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     _ = pathlib.Path(d, "test_batch.bin").write_bytes(bytes([6]) + bytes(3072))
    ...     data = cifar10(d, "test")
    >>> data.x.shape, data.classes[data.y[0]]
    ((1, 3, 32, 32), 'frog')
    """
    x, y = _cifar("cifar10", root, split, "fine", download)
    return ArrayDataset(x, y, classes=CIFAR10_CLASSES)


def cifar100(
    root: PathLike | None = None,
    split: Split = "train",
    *,
    labels: Labels = "fine",
    download: bool = False,
) -> ArrayDataset:
    """CIFAR-100: `x: u8[50000 or 10000, 3, 32, 32]`, `y: i64[N]`: 100 fine or 20 coarse labels.

    As `cifar10`, with the folders `root` and `root/cifar100`.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as d:
    ...     _ = pathlib.Path(d, "test.bin").write_bytes(bytes([1, 73]) + bytes(3072))
    ...     data = cifar100(d, "test", labels="coarse")
    >>> data.classes[data.y[0]]
    'fish'
    """
    x, y = _cifar("cifar100", root, split, labels, download)
    names = CIFAR100_FINE_CLASSES if labels == "fine" else CIFAR100_COARSE_CLASSES
    return ArrayDataset(x, y, classes=names)


def _cifar(
    kind: Kind, root: PathLike | None, split: str, labels: Labels, may_fetch: bool
) -> tuple[Array, Array]:
    _check_split(kind, split)
    check_kind(kind, kind, labels)
    base = data_dir(root)
    folders = [base, base / kind]
    found = _cifar_files(kind, split, folders)
    if found is None:
        found = _cifar_unpacked(kind, split, folders)
    if found is None and may_fetch:
        fetch(_CIFAR[kind]["binary"], base / kind)
        found = _cifar_unpacked(kind, split, folders)
    if found is None:
        wanted = " or ".join(repr(_CIFAR_FILES[kind, f][split][0]) for f in ("binary", "pickle"))
        raise _absent(kind, f"{wanted} (or an official archive)", folders)
    form, paths = found
    read: Callable[..., tuple[Array, Array]] = (
        read_cifar_binary if form == "binary" else read_cifar_pickle
    )
    parts = [read(path, kind, labels=labels) for path in paths]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _cifar_files(kind: Kind, split: str, folders: Sequence[Path]) -> tuple[str, list[Path]] | None:
    for form in ("binary", "pickle"):
        for folder in folders:
            for place in (folder, folder / _CIFAR_FOLDERS[kind, form]):
                paths = [place / name for name in _CIFAR_FILES[kind, form][split]]
                if all(path.is_file() for path in paths):
                    return form, paths
    return None


def _cifar_unpacked(
    kind: Kind, split: str, folders: Sequence[Path]
) -> tuple[str, list[Path]] | None:
    for form, resource in _CIFAR[kind].items():
        archive = _first(folder / resource.name for folder in folders)
        if archive is not None:
            verify(resource, archive)
            files = _CIFAR_FILES[kind, form]
            members = dict.fromkeys((*files["train"], *files["test"]), _MAX_MEMBER)
            extract(archive, archive.parent / _CIFAR_FOLDERS[kind, form], members)
            return _cifar_files(kind, split, folders)
    return None


def _check_split(where: str, split: str) -> None:
    if split not in ("train", "test"):
        raise ValueError(f"{where}: split is 'train' or 'test', found {split!r}")


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _absent(where: str, what: str, folders: Sequence[Path]) -> FileNotFoundError:
    places = ", ".join(repr(str(folder)) for folder in folders)
    return FileNotFoundError(
        f"{where}: {what} is in none of {places} (download=True fetches it, root= and "
        "STRIATE_DATA_DIR name another folder)"
    )
