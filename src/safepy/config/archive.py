"""The rules for what a module package may hold, and a `.safe` file (a zip) read by them (S17).

Pure: it is given an open file. `config/module.py` opens, lists folders by the same rules, unpacks.
"""

from __future__ import annotations

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from safepy.config.xml import shown
from safepy.errors import PackageError

MAX_ARCHIVE_BYTES = 64 << 20
MAX_MEMBERS = 2000
MAX_MEMBER_BYTES = 64 << 20
MAX_TOTAL_BYTES = 256 << 20
MAX_RATIO = 200
#: Small archives may be as repetitive as they like.
RATIO_COUNTS_FROM_BYTES = 1 << 20
MAX_DEPTH = 12
MAX_NAME_BYTES = 255

MAX_DIRECTORY_BYTES = 4 << 20

#: What reading a damaged zip raises.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)

#: What zipfile lets through when the directory or a header is nonsense.
_NONSENSE = (ValueError, OverflowError, RuntimeError, struct.error)

_ENCRYPTED = 0x1
#: The end record of a zip, without its comment (at most 65535 bytes).
_END_BYTES = 22


@dataclass(frozen=True, slots=True)
class Member:
    """One file or folder. `open` gives the content of a file."""

    parts: tuple[str, ...]
    size_bytes: int
    open: Callable[[], IO[bytes]] | None

    @property
    def is_folder(self) -> bool:
        return self.open is None


def members_of_zip(file: IO[bytes], size_bytes: int) -> list[Member]:
    """The checked members of an open `.safe` file; they can be read as long as it is open.

    Raises PackageError. Reading a member raises what `BROKEN` lists when the file is damaged.
    """
    if size_bytes > MAX_ARCHIVE_BYTES:
        raise PackageError(f"{size_bytes} bytes, allowed are at most {MAX_ARCHIVE_BYTES}")
    _check_directory_size(file, size_bytes)
    try:
        archive = zipfile.ZipFile(file)
    except (*BROKEN, *_NONSENSE) as exc:
        raise PackageError(f"no module package: {shown(str(exc))}") from exc
    found = [_member_of_zip(archive, info) for info in archive.infolist()]
    total = sum(member.size_bytes for member in found)
    if total > RATIO_COUNTS_FROM_BYTES and total > MAX_RATIO * size_bytes:
        raise PackageError(f"unpacks to more than {MAX_RATIO} times its size")
    check_members(found)
    return found


def _check_directory_size(file: IO[bytes], size_bytes: int) -> None:
    """Before zipfile builds an object for each entry: can there be too many of them?"""
    file.seek(max(0, size_bytes - _END_BYTES - 0xFFFF))
    tail = file.read()
    end = tail[max(tail.rfind(b"PK\5\6"), 0) :][:_END_BYTES]
    if len(end) < _END_BYTES or not end.startswith(b"PK\5\6"):
        raise PackageError("no module package: it has no zip directory")
    if int.from_bytes(end[12:16], "little") > MAX_DIRECTORY_BYTES:
        raise PackageError(f"its directory is bigger than {MAX_DIRECTORY_BYTES} bytes")


def _member_of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    # orig_filename is the name as stored; zipfile has already "repaired" `filename`.
    name = info.orig_filename
    folder = name.endswith("/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG):
        raise PackageError(f"{shown(name)}: a link or a device, allowed are files and folders")
    if info.flag_bits & _ENCRYPTED:
        raise PackageError(f"{shown(name)}: encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PackageError(f"{shown(name)}: compressed in a way that is not stored or deflated")
    parts = parts_of(name[:-1] if folder else name)
    if folder:
        return Member(parts, 0, None)
    return Member(parts, info.file_size, _opener(archive, info))


def _opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    def open_() -> IO[bytes]:
        try:
            return archive.open(info)
        except (*BROKEN, *_NONSENSE) as exc:
            raise PackageError(f"no module package: {shown(str(exc))}") from exc

    return open_


def parts_of(name: str) -> tuple[str, ...]:
    """The components of a member's name. Raises PackageError unless it is plain (S8)."""
    parts = tuple(name.split("/"))
    for part in parts:
        if part in ("", ".", "..") or "\\" in part or not part.isprintable():
            raise PackageError(f'the name "{shown(name)}" may leave the folder or is no plain name')
        try:
            length = len(part.encode())
        except UnicodeEncodeError:
            raise PackageError(f'the name "{shown(name)}" is not UTF-8') from None
        if length > MAX_NAME_BYTES:
            raise PackageError(f'the name "{shown(name)}" is longer than {MAX_NAME_BYTES} bytes')
    if len(parts) > MAX_DEPTH:
        raise PackageError(f"{shown(name)}: deeper than {MAX_DEPTH} folders")
    return parts


def check_members(found: list[Member]) -> None:
    """Counts, sizes, and that no two names are or could be mistaken for the same.

    Raises PackageError.
    """
    if len(found) > MAX_MEMBERS:
        raise PackageError(f"{len(found)} members, allowed are at most {MAX_MEMBERS}")
    files: dict[str, tuple[str, ...]] = {}
    folders: dict[str, tuple[str, ...]] = {}
    for member in found:
        name = "/".join(member.parts)
        if member.size_bytes > MAX_MEMBER_BYTES:
            raise PackageError(f"{shown(name)}: bigger than {MAX_MEMBER_BYTES} bytes")
        above = member.parts if member.is_folder else member.parts[:-1]
        for depth in range(1, len(above) + 1):
            if folders.setdefault(_folded(above[:depth]), above[:depth]) != above[:depth]:
                raise PackageError(f"{shown(name)}: differs from another name only in case")
        if not member.is_folder and files.setdefault(_folded(member.parts), member.parts) is not (
            member.parts
        ):
            raise PackageError(f"{shown(name)}: there twice, or differs from another only in case")
    both = files.keys() & folders.keys()
    if both:
        raise PackageError(f"{shown(min(both))}: a file and a folder at the same time")
    if sum(member.size_bytes for member in found) > MAX_TOTAL_BYTES:
        raise PackageError(f"more than {MAX_TOTAL_BYTES} bytes when unpacked")


def _folded(parts: tuple[str, ...]) -> str:
    return unicodedata.normalize("NFKC", "/".join(parts)).casefold()
