"""Data: readers of the usual files, datasets, a deterministic loader, augmentation.

Arrays are NumPy's: images `u8[N, C, H, W]`, labels `i64[N]`. Nothing here executes a file, trusts
a size in one, or carries random state: every batch is a function of (data, seed, epoch, batch).
"""

from .affine import RandomAffine as RandomAffine
from .affine import warp_affine as warp_affine
from .augment import Cutout as Cutout
from .augment import HorizontalFlip as HorizontalFlip
from .augment import RandomCrop as RandomCrop
from .augment import VerticalFlip as VerticalFlip
from .cifar import read_cifar_binary as read_cifar_binary
from .cifar import read_cifar_pickle as read_cifar_pickle
from .class_names import CIFAR10_CLASSES as CIFAR10_CLASSES
from .class_names import CIFAR100_COARSE_CLASSES as CIFAR100_COARSE_CLASSES
from .class_names import CIFAR100_FINE_CLASSES as CIFAR100_FINE_CLASSES
from .class_names import FASHION_CLASSES as FASHION_CLASSES
from .color import ColorJitter as ColorJitter
from .dataset import ArrayDataset as ArrayDataset
from .dataset import Dataset as Dataset
from .dataset import Subset as Subset
from .dataset import collate as collate
from .digits_uci import digits as digits
from .download import DownloadError as DownloadError
from .download import Resource as Resource
from .download import data_dir as data_dir
from .download import extract as extract
from .download import fetch as fetch
from .download import verify as verify
from .files import FormatError as FormatError
from .folder import ImageFolder as ImageFolder
from .folder import read_image as read_image
from .idx import read_idx as read_idx
from .idx import read_idx_pair as read_idx_pair
from .loader import DataLoader as DataLoader
from .loader import LoaderError as LoaderError
from .mix import CutMix as CutMix
from .mix import Mixup as Mixup
from .npz_file import npz as npz
from .npz_file import read_npz as read_npz
from .rng import keyed_rng as keyed_rng
from .safe_pickle import read_pickle as read_pickle
from .sources import cifar10 as cifar10
from .sources import cifar100 as cifar100
from .sources import fashion_mnist as fashion_mnist
from .sources import mnist as mnist
from .transform import Compose as Compose
from .transform import Normalize as Normalize
from .transform import ToFloat as ToFloat
from .transform import Transform as Transform
from .transform import normalize as normalize
from .transform import one_hot as one_hot
from .transform import to_float as to_float

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
