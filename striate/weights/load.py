"""Weights from files into networks, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from striate.core.array import Array
from striate.data.files import Array as Values, PathLike
from striate.dtype import as_dtype
from striate.errors import DTypeError, ShapeError
from striate.ir.types import TensorType
from striate.nn import IncompatibleKeys, Module
from striate.weights.formats import read_as, write
from striate.weights.layouts import in_own_names

_WRAPPED = ("module.", "_orig_mod.")  # by DataParallel, and by torch.compile


class WeightsError(ShapeError):
    """A file's names, shapes or dtypes do not fit a network; nothing was loaded.

    Attributes:
        missing: names that the network has and the file has not.
        unexpected: names that the file has and the network has not.
        mismatched: names that both have, with what each has there.
    """

    def __init__(
        self, text: str, missing: list[str], unexpected: list[str], mismatched: dict[str, str]
    ) -> None:
        super().__init__(text)
        self.missing, self.unexpected, self.mismatched = missing, unexpected, mismatched

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.missing, self.unexpected, self.mismatched)


def load_weights(
    net: Module,
    path: PathLike,
    *,
    strict: bool = True,
    rename: Mapping[str, str | None] | None = None,
    key: str | None = None,
) -> IncompatibleKeys:
    """Load the weights of a file into a network.

    The file may be safetensors, `.npz` or PyTorch's `.pth` / `.pt` (see `st.weights.read`).
    `module.` and `_orig_mod.` before all names, as wrappers of PyTorch leave them, are dropped.
    Networks of `st.models` take timm's names for theirs.
    Floating weights take the dtype of the network's (float16 becomes float32), integers too where
    they fit. `num_batches_tracked` may be missing.

    Args:
        net: the network.
        path: the file.
        strict: False leaves weights that the file has not as they are, and passes over names that
            the network has not. Shapes must fit in any case.
        rename: beginnings of names in the file, and what to put there instead; None leaves such
            names out. The longest beginning that fits counts.
        key: in PyTorch's files, under which key the weights are; found by default.

    Returns:
        `(missing_keys, unexpected_keys)`, both empty if strict.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: it is damaged or of another format.
        WeightsError: names, shapes or dtypes do not fit. The message lists all of them, and nothing
            has changed.

    >>> import tempfile, pathlib
    >>> net, other = st.nn.Linear(3, 2), st.nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as d:
    ...     path = pathlib.Path(d, "net.safetensors")
    ...     st.save_weights(net, path)
    ...     st.load_weights(other, path)
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    >>> bool((net.weight == other.weight).all())
    True
    """
    given = renamed(read_as("load_weights", path, key), rename or {})
    mine = net.state_dict()
    given = in_own_names(_unwrapped(given, mine), net)
    missing = [k for k in mine if k not in given and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in given if k not in mine]
    mismatched: dict[str, str] = {}
    fresh: dict[str, Values] = {}
    for name in (k for k in mine if k in given):
        try:
            fresh[name] = _fitted(given[name], mine[name].type)
        except DTypeError as error:
            mismatched[name] = str(error)
    problems = [f"missing {k}: {mine[k].type}" for k in missing] if strict else []
    problems += [f"unexpected {k}: {_type(given[k])}" for k in unexpected] if strict else []
    problems += [f"mismatched {k}: {why}" for k, why in mismatched.items()]
    if problems:
        raise WeightsError(
            f"load_weights: {str(path)!r}: {len(problems)} entries do not fit "
            f"{type(net).__name__} of {len(mine)}; nothing was loaded:\n  "
            + "\n  ".join(problems)
            + _hint(missing, unexpected),
            missing,
            unexpected,
            mismatched,
        )
    net.load_state_dict(fresh, strict=False)
    return IncompatibleKeys(missing, unexpected)


def save_weights(net: Module, path: PathLike, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write the `state_dict` of a network: `.safetensors`, `.npz`, `.pth` or `.pt`.

    The file is replaced as a whole. torchvision, timm and others read it under their usual names.

    Raises:
        StriateError: the suffix is another, or the format cannot hold it.
        OSError: the file cannot be written.
    """
    if metadata is None and str(path).endswith(".safetensors"):
        metadata = {"format": "pt"}  # what PyTorch's readers ask for
    write(path, {k: v.numpy() for k, v in net.state_dict().items()}, metadata=metadata)


def renamed(arrays: Mapping[str, Values], rename: Mapping[str, str | None]) -> dict[str, Values]:
    """The arrays with other beginnings of their names, as `load_weights(rename=...)`.

    Raises:
        ShapeError: two would have one name.
    """
    out: dict[str, Values] = {}
    for name, array in arrays.items():
        begin = max((b for b in rename if name.startswith(b)), key=len, default=None)
        new: str | None = name
        if begin is not None:
            put = rename[begin]
            new = None if put is None else put + name[len(begin) :]
        if new is None:
            continue
        if new in out:
            raise ShapeError(f"weights: rename gives the name {new!r} twice")
        out[new] = array
    return out


def _unwrapped(arrays: dict[str, Values], mine: Mapping[str, Array]) -> dict[str, Values]:
    for begin in _WRAPPED * 2:
        wrapped = arrays and all(k.startswith(begin) for k in arrays)
        if wrapped and not any(k.startswith(begin) for k in mine):
            arrays = {k.removeprefix(begin): a for k, a in arrays.items()}
    return arrays


def _type(array: Values) -> str:
    try:
        return str(TensorType(array.shape, as_dtype(array.dtype)))
    except DTypeError:
        return f"{array.dtype}{list(array.shape)}"


def _fitted(array: Values, type: TensorType) -> Values:
    """The values in the dtype of the network.

    Raises:
        DTypeError: the shape or the kind of numbers is another, or a value has no place.
    """
    text = f"the network has {type}, the file {_type(array)}"
    same_kind = _kind(array.dtype) == _kind(type.dtype.numpy)
    if array.shape != type.shape or not same_kind:
        raise DTypeError(text)
    if array.dtype == type.dtype.numpy:
        return array
    with np.errstate(over="ignore"):
        out: Values = array.astype(type.dtype.numpy)
    if type.dtype.is_floating:
        fits = not (np.isinf(out.astype(np.float64)) & np.isfinite(array.astype(np.float64))).any()
    else:
        fits = np.array_equal(out, array)
    if not fits:
        raise DTypeError(f"{text}, with values beyond the range of {type.dtype.name}")
    return out


def _kind(dtype: np.dtype[np.generic]) -> str:
    if dtype.kind in "iu":
        return "integer"
    return "float" if dtype.kind in "fV" and dtype.fields is None else dtype.kind


def _hint(missing: list[str], unexpected: list[str]) -> str:
    """A change of beginnings that would name all that is missing."""
    if not missing or not unexpected:
        return ""
    have = set(unexpected)
    longer = {u[: -len(missing[0])] for u in unexpected if u.endswith("." + missing[0])}
    for begin in sorted(longer):
        if all(begin + k in have for k in missing):
            return f"\n(the file has them under {begin!r}: pass rename={{{begin!r}: ''}})"
    shorter = {missing[0][: -len(u)] for u in unexpected if missing[0].endswith("." + u)}
    for begin in sorted(shorter):
        if all(k.startswith(begin) and k.removeprefix(begin) in have for k in missing):
            return f"\n(the file has them without {begin!r}: pass rename={{'': {begin!r}}})"
    return ""
