"""Every knob of striate, in one place.

A knob is read from the environment once, at import; `config(...)` changes it for a block of code
in the running thread or task.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace

from striate.errors import StriateError

PRECISIONS = ("highest", "high", "fast")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force.

    Attributes:
        backend: which executor runs a plan (`STRIATE_BACKEND`); `native` is machine
            code, `numpy` the interpreter that defines what it must compute.
        verify: re-check every graph after every pass (`STRIATE_VERIFY=1`).
        debug: what is printed to stderr for each graph that is compiled (`STRIATE_DEBUG`), each
            level with those before it: 1 the steps of its plan, 2 its size after every pass, 3 its
            text after every pass, 4 its kernels, 5 their LLVM IR, 6 their assembly.
        num_threads: threads of a run (`STRIATE_NUM_THREADS`) unless `set_num_threads` was called;
            0: as many as there are processors that the process may use.
        target: the processor to compile for (`STRIATE_TARGET`): `x86-64-v4`, `x86-64-v3`,
            `x86-64-v2`, `aarch64`; empty: the one that it runs on.
        precision: which algorithms may be chosen (`STRIATE_PRECISION`): `highest`, those whose
            errors are as those of the definition; `high`, also Winograd's for tiles of up to about
            4x4 outputs, which lose about two bits; `fast`, up to 6x6, which lose about four.
        cache_dir: where machine code is kept (`STRIATE_CACHE_DIR`); empty: where the platform
            keeps caches. It must belong to this user alone.
        cache_size: the most that is kept there, in MiB (`STRIATE_CACHE_SIZE`); 0: nothing is.
    """

    backend: str = "native"
    verify: bool = False
    debug: int = 0
    num_threads: int = 0
    target: str = ""
    precision: str = "high"
    cache_dir: str = ""
    cache_size: int = 512


def _natural(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise StriateError(f"{name} must be a whole number, 0 or more, got {text!r}")
    return int(text)


def _precision(where: str, value: str) -> str:
    if value not in PRECISIONS:
        raise StriateError(f"{where} must be one of {', '.join(PRECISIONS)}, got {value!r}")
    return value


def _from_environment() -> Settings:
    return Settings(
        backend=os.environ.get("STRIATE_BACKEND", "native"),
        verify=os.environ.get("STRIATE_VERIFY", "0") not in ("", "0"),
        debug=_natural("STRIATE_DEBUG", 0),
        num_threads=_natural("STRIATE_NUM_THREADS", 0),
        target=os.environ.get("STRIATE_TARGET", ""),
        precision=_precision("STRIATE_PRECISION", os.environ.get("STRIATE_PRECISION", "high")),
        cache_dir=os.environ.get("STRIATE_CACHE_DIR", ""),
        cache_size=_natural("STRIATE_CACHE_SIZE", 512),
    )


_DEFAULT = _from_environment()
_current: ContextVar[Settings] = ContextVar("striate_settings", default=_DEFAULT)


def settings() -> Settings:
    """The settings in force here."""
    return _current.get()


@contextmanager
def config(**changes: object) -> Iterator[Settings]:
    """Change settings for a block.

    Raises:
        TypeError: a name is not a field of `Settings`, or its value has another type.
        StriateError: there is no such precision.

    >>> with config(verify=True) as s:
    ...     s.verify
    True
    """
    known = {f.name: type(getattr(settings(), f.name)) for f in fields(Settings)}
    for name, value in changes.items():
        if name not in known:
            raise TypeError(f"config: no setting {name!r}; there are {', '.join(known)}")
        if not isinstance(value, known[name]):
            raise TypeError(
                f"config: {name} must be {known[name].__name__}, got {type(value).__name__}"
            )
    if "precision" in changes:
        _precision("config: precision", str(changes["precision"]))
    token = _current.set(replace(settings(), **changes))  # type: ignore[arg-type]
    try:
        yield settings()
    finally:
        _current.reset(token)
