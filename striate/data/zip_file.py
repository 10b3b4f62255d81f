"""The directory of a zip archive, checked before anything of it is read."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from .files import DEFLATE_RATIO, FormatError, PathLike

MAX_MEMBERS = 100_000
_LOCAL_HEADER = 30  # bytes, before the name


@contextmanager
def intact_zip(where: str, path: PathLike) -> Iterator[None]:
    """What NumPy's and Python's readers raise for damage comes out as FormatError."""
    try:
        yield
    except FormatError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        TypeError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
        SyntaxError,
        tokenize.TokenError,
        KeyError,
        OSError,
        MemoryError,
    ) as error:
        if isinstance(error, OSError) and error.errno not in (None, 22):
            raise  # a fault of the machine (permission, disk), not of the file
        raise FormatError(
            where,
            path,
            "an intact zip archive is expected",
            f"found {type(error).__name__}: {str(error)[:200]}",
            "the file is damaged",
        ) from None


def checked_members(
    where: str, path: PathLike, archive: zipfile.ZipFile, size: int
) -> list[zipfile.ZipInfo]:
    """The members of an archive of `size` bytes, in the order of their bytes.

    They are stored or deflated, not encrypted, have names of their own that stay in their folder,
    lie one after the other without overlap, and announce no more than their packed bytes can hold.

    Raises:
        FormatError: one of that is not so.
    """
    members = sorted(archive.infolist(), key=lambda m: m.header_offset)
    if len(members) > MAX_MEMBERS:
        raise FormatError(
            where, path, f"at most {MAX_MEMBERS} members are read", f"found {len(members)}"
        )
    seen: set[str] = set()
    free = 0
    for member in members:
        name = member.filename
        if name in seen:
            raise FormatError(where, path, "each name occurs once", f"found {name!r} twice")
        seen.add(name)
        if not is_plain_name(name):
            raise FormatError(
                where, path, "names of members stay in their folder", f"found {name[:80]!r}"
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(
                where,
                path,
                "members are stored (0) or deflated (8)",
                f"{name!r} has the method {member.compress_type}",
            )
        if member.flag_bits & 1:
            raise FormatError(where, path, "members are not encrypted", f"{name!r} is")
        packed = member.compress_size
        most = packed * (1 if member.compress_type == zipfile.ZIP_STORED else DEFLATE_RATIO)
        if member.file_size > most:
            raise FormatError(
                where,
                path,
                f"{name!r} announces {member.file_size} bytes",
                f"its {packed} packed bytes hold at most {most}",
            )
        end = member.header_offset + _LOCAL_HEADER + packed
        if member.header_offset < free or end > size:
            raise FormatError(
                where,
                path,
                "members lie one after the other inside the file",
                f"{name!r} is at {member.header_offset}..{end} of {size}, {free} is the first free",
            )
        free = end
    return members


def is_plain_name(name: str) -> bool:
    """Whether a name, taken for a path, would stay in its folder on every system."""
    parts = name.replace("\\", "/").split("/")
    text = "\0" not in name and not any("\ud800" <= c <= "\udfff" for c in name)  # half a character
    return bool(name) and text and parts[0] != "" and ".." not in parts
