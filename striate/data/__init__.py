"""Data: readers of the usual files, datasets, a deterministic loader, augmentation.

Arrays are NumPy's: images `u8[N, C, H, W]`, labels `i64[N]`. Nothing here executes a file, trusts
a size in one, or carries random state: every batch is a function of (data, seed, epoch, batch).
"""

from .affine import RandomAffine as RandomAffine, warp_affine as warp_affine
from .augment import (
    Cutout as Cutout,
    HorizontalFlip as HorizontalFlip,
    RandomCrop as RandomCrop,
    VerticalFlip as VerticalFlip,
)
from .cifar import read_cifar_binary as read_cifar_binary, read_cifar_pickle as read_cifar_pickle
from .class_names import (
    CIFAR10_CLASSES as CIFAR10_CLASSES,
    CIFAR100_COARSE_CLASSES as CIFAR100_COARSE_CLASSES,
    CIFAR100_FINE_CLASSES as CIFAR100_FINE_CLASSES,
    FASHION_CLASSES as FASHION_CLASSES,
)
from .color import ColorJitter as ColorJitter
from .dataset import (
    ArrayDataset as ArrayDataset,
    Dataset as Dataset,
    Subset as Subset,
    collate as collate,
)
from .digits_uci import digits as digits
from .download import (
    DownloadError as DownloadError,
    Resource as Resource,
    data_dir as data_dir,
    extract as extract,
    fetch as fetch,
    verify as verify,
)
from .files import FormatError as FormatError
from .folder import ImageFolder as ImageFolder, read_image as read_image
from .idx import read_idx as read_idx, read_idx_pair as read_idx_pair
from .loader import DataLoader as DataLoader, LoaderError as LoaderError
from .mix import CutMix as CutMix, Mixup as Mixup
from .npz_file import npz as npz, read_npz as read_npz
from .rng import keyed_rng as keyed_rng
from .safe_pickle import read_pickle as read_pickle
from .sources import (
    cifar10 as cifar10,
    cifar100 as cifar100,
    fashion_mnist as fashion_mnist,
    mnist as mnist,
)
from .transform import (
    Compose as Compose,
    Normalize as Normalize,
    ToFloat as ToFloat,
    Transform as Transform,
    normalize as normalize,
    one_hot as one_hot,
    to_float as to_float,
)

__all__ = [
    # datasets
    "ArrayDataset",
    "Dataset",
    "ImageFolder",
    "Subset",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "mnist",
    "npz",
    # loading
    "DataLoader",
    "LoaderError",
    "collate",
    "keyed_rng",
    # transforms
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "HorizontalFlip",
    "Mixup",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "ToFloat",
    "Transform",
    "VerticalFlip",
    "normalize",
    "one_hot",
    "to_float",
    "warp_affine",
    # files
    "FormatError",
    "read_cifar_binary",
    "read_cifar_pickle",
    "read_idx",
    "read_idx_pair",
    "read_image",
    "read_npz",
    "read_pickle",
    # downloads
    "DownloadError",
    "Resource",
    "data_dir",
    "extract",
    "fetch",
    "verify",
    # names of classes
    "CIFAR10_CLASSES",
    "CIFAR100_COARSE_CLASSES",
    "CIFAR100_FINE_CLASSES",
    "FASHION_CLASSES",
]
