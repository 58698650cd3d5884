"""What source and target of a resynchronisation say to each other on one transfer stream.

The source asks and sends, the target answers requests in their order. Everything from the wire
is checked here before anything is done with it (S4, S8): a path is a list of single components.
"""

from __future__ import annotations

from stat import (
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    S_ISLNK,
)
from typing import Annotated

import msgspec
from msgspec import Meta

from safepy.dataplane.resync.zones import DIGEST_BYTES, ZONE_BYTES
from safepy.errors import LocalFault, PeerError
from safepy.wire.text import one_line

MAX_DEPTH = 4096
MAX_PATH_BYTES = 256 << 10
MAX_FILE_BYTES = (1 << 63) - 1

#: Target size in `Want` of a file that the target does not have.
ABSENT = -1

Name = Annotated[bytes, Meta(min_length=1, max_length=255)]
Path = Annotated[tuple[Name, ...], Meta(max_length=MAX_DEPTH)]
Tree = Annotated[int, Meta(ge=0, le=255)]
Size = Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]
Id = Annotated[int, Meta(ge=0, le=(1 << 32) - 2)]
Ranges = tuple[tuple[Size, Size], ...]
Xattrs = tuple[tuple[Annotated[bytes, Meta(min_length=1, max_length=255)], bytes], ...]


class ResyncFailed(LocalFault):
    """The resynchronisation cannot go on, by the fault of a disk or for lack of room.

    `fatal`: trying again cannot help without a person.
    """

    def __init__(self, message: str, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One name as the source has it.

    `linked`: no directory, and has several names; the target only leaves its place alone, a
    `Group` follows. `extents`: compare only these ranges of the content (None: all of it).
    """

    name: Name
    mode: Annotated[int, Meta(ge=0, le=0xFFFF)]
    uid: Id
    gid: Id
    size: Size
    mtime_ns: int
    atime_ns: int
    rdev: Annotated[int, Meta(ge=0, le=(1 << 32) - 1)] = 0
    linked: bool = False
    link: Annotated[bytes, Meta(max_length=4095)] = b""
    xattrs: Xattrs = ()
    extents: Ranges | None = None


class Listing(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Names of one directory. `whole`: it is all there is above `after` up to `upto` (None: no
    bound); what the target has besides goes. Otherwise only `entries` and `gone` count."""

    tree: Tree
    path: Path
    entries: tuple[Entry, ...]
    gone: tuple[Name, ...] = ()
    whole: bool = False
    after: Name | None = None
    upto: Name | None = None


class Group(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """These paths are one inode and no other path is. `grow`: the first path is right already,
    the others join it (a group that does not fit in one message)."""

    tree: Tree
    paths: Annotated[tuple[Path, ...], Meta(min_length=1)]
    entry: Entry
    grow: bool = False


class Compare(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Give the digests of these ranges of a large file, as if it ended at `size`."""

    tree: Tree
    path: Path
    name: Name
    ranges: Ranges
    size: Size


class FileData(msgspec.Struct, frozen=True, array_like=True):
    """Content for a file that is there or is to be made. `entry` comes with the last piece:
    then its size and attributes are made true too."""

    name: Name
    pieces: tuple[tuple[Size, bytes], ...]
    holes: Ranges = ()
    entry: Entry | None = None


class Data(msgspec.Struct, frozen=True, array_like=True, tag=4):
    tree: Tree
    path: Path
    files: tuple[FileData, ...]


class Attributes(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Attributes of directories, when nothing is changed in them any more."""

    tree: Tree
    directories: tuple[tuple[Path, Entry], ...]


class Barrier(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Answer when everything before is done. `flush`: and on the disk (I12)."""

    flush: bool = False


class End(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The source needs this stream no longer."""


Request = Listing | Group | Compare | Data | Attributes | Barrier | End


class Want(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The target needs content, or cannot know yet whether.

    `index` into the listing's entries; `size` here, or ABSENT. `full`: compare all of it, not
    only the extents. `attributes`: send the entry even when the content is equal. `digests`
    None: too large, compare piecemeal.
    """

    index: Annotated[int, Meta(ge=0)]
    size: Annotated[int, Meta(ge=ABSENT, le=MAX_FILE_BYTES)]
    full: bool = False
    attributes: bool = False
    digests: bytes | None = None


class Wanted(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Answer to `Listing` and `Group`. `missing`: there is no such directory here."""

    wants: tuple[Want, ...]
    missing: bool = False


class Digests(msgspec.Struct, frozen=True, array_like=True, tag=2):
    digests: bytes


class Passed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Answer to `Barrier`. `missing`: directories that something was sent for in vain."""

    missing: tuple[tuple[Tree, Path], ...] = ()


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The target gives up; instead of an answer."""

    reason: str
    fatal: bool

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "reason", one_line(self.reason))


class Busy(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """No answer, only a sign of life of a target that is at something long."""


Answer = Wanted | Digests | Passed | Failed | Busy

encode = msgspec.msgpack.encode
_REQUEST = msgspec.msgpack.Decoder(Request)
_ANSWER = msgspec.msgpack.Decoder(Answer)


def decode_request(data: bytes) -> Request:
    """Raises PeerError for what is no request or names what it must not."""
    try:
        request: Request = _REQUEST.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerError(f"resynchronisation request cannot be read: {error}") from error
    match request:
        case Listing(path=path, entries=entries, gone=gone):
            _check_path(path)
            for name in gone:
                _check_name(name)
            for entry in entries:
                _check_entry(entry)
        case Group(paths=paths, entry=entry):
            for path in paths:
                _check_path(path)
                if not path:
                    raise PeerError("the root of a tree cannot be a file")
            _check_entry(entry)
        case Compare(path=path, name=name, ranges=ranges):
            _check_path(path)
            _check_name(name)
            _check_ranges(ranges)
        case Data(path=path, files=files):
            _check_path(path)
            for file in files:
                _check_name(file.name)
                _check_ranges(file.holes, aligned=False)
                if any(at + len(piece) > MAX_FILE_BYTES for at, piece in file.pieces):
                    raise PeerError("content beyond the largest file")
                if file.entry is not None:
                    _check_entry(file.entry)
        case Attributes(directories=directories):
            for path, entry in directories:
                _check_path(path)
                _check_entry(entry)
    return request


def decode_answer(data: bytes) -> Answer:
    """Raises PeerError for what is no answer."""
    try:
        answer: Answer = _ANSWER.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerError(f"resynchronisation answer cannot be read: {error}") from error
    match answer:
        case Wanted(wants=wants):
            if any(want.digests and len(want.digests) % DIGEST_BYTES for want in wants):
                raise PeerError("digests of a wrong length")
        case Passed(missing=missing):
            for _, path in missing:
                _check_path(path)
    return answer


def _check_name(name: bytes) -> None:
    if b"/" in name or b"\0" in name or name in (b".", b".."):
        raise PeerError(f"name refused: {name!r}")


def _check_path(path: tuple[bytes, ...]) -> None:
    for name in path:
        _check_name(name)
    if sum(map(len, path)) > MAX_PATH_BYTES:
        raise PeerError("path too long")


def _check_entry(entry: Entry) -> None:
    # A directory's own entry in `Attributes` carries its real name too (the root: "?").
    _check_name(entry.name)
    if S_IFMT(entry.mode) not in _TYPES:
        raise PeerError(f"file type refused: {entry.mode:o}")
    if b"\0" in entry.link or S_ISLNK(entry.mode) != bool(entry.link):
        raise PeerError("symbolic link refused")
    for name, _ in entry.xattrs:
        if not xattr_allowed(name):
            raise PeerError(f"extended attribute refused: {name!r}")
    if entry.extents is not None:
        _check_ranges(entry.extents)


def _check_ranges(ranges: Ranges, aligned: bool = True) -> None:
    for start, end in ranges:
        if end <= start or (aligned and start % ZONE_BYTES):
            raise PeerError(f"range refused: {start} to {end}")


_TYPES = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK}
_ACL = (b"system.posix_acl_access", b"system.posix_acl_default")


def xattr_allowed(name: bytes, acl: bool = True) -> bool:
    """Whether an extended attribute is replicated (S10: ours never are)."""
    if name.startswith((b"user.", b"security.")):
        return b"\0" not in name
    if name.startswith(b"trusted."):
        return not name.startswith(b"trusted.safekit") and b"\0" not in name
    return acl and name in _ACL
