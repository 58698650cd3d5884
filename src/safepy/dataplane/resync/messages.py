"""What source and target of a resynchronisation say to each other on one transfer stream.

The source asks and sends, the target answers requests in their order. Everything from the wire
is checked here before anything is done with it (S4, S8): a path is a list of single components.
"""

from __future__ import annotations

from enum import IntEnum
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

#: Directories in one `Summarise`.
MAX_SUMMARIES = 64
IDENT_BYTES = 16

#: Target size in `Want` of a file that the target does not have.
ABSENT = -1

Name = Annotated[bytes, Meta(min_length=1, max_length=255)]
Path = Annotated[tuple[Name, ...], Meta(max_length=MAX_DEPTH)]
Tree = Annotated[int, Meta(ge=0, le=255)]
Size = Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]
Id = Annotated[int, Meta(ge=0, le=(1 << 32) - 2)]
Ranges = tuple[tuple[Size, Size], ...]
Ident = Annotated[bytes, Meta(max_length=IDENT_BYTES)]
SegmentName = Annotated[bytes, Meta(max_length=255)]
Digest = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Xattrs = tuple[tuple[Annotated[bytes, Meta(min_length=1, max_length=255)], bytes], ...]


class Rule(IntEnum):
    """When the content of a regular file is compared whole, whatever the extents say."""

    #: The ids differ.
    IDENT = 0
    #: The ids, the sizes or the modification times differ.
    TIME = 1
    #: The sizes differ: everything else is taken as equal by an operator's word.
    SIZE = 2


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
    `ident`: the id that names the object on both nodes, empty if it has none. `rule`: what else
    makes the content worth comparing whole, see `Rule`.
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
    ident: Ident = b""
    rule: Annotated[int, Meta(ge=0, le=2)] = Rule.IDENT


class Begin(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """First on each stream. `seed`: a random number of this synchronisation's own, from which all
    digests are made: content that was prepared to collide does not."""

    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Summarise(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Give digests of these directories' names and attributes; `content`: and of small files."""

    tree: Tree
    paths: Annotated[tuple[Path, ...], Meta(min_length=1, max_length=MAX_SUMMARIES)]
    content: bool


class Listing(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Names of one directory. `whole`: it is all there is above `after` and below `before` (None:
    no bound); what the target has besides goes. Otherwise only `entries` and `gone` count.

    `holders` (one for each entry, or none at all): the entries are absent on the target, and may
    be taken from these paths, which the source knows to be free (None: made anew)."""

    tree: Tree
    path: Path
    entries: tuple[Entry, ...]
    gone: tuple[Name, ...] = ()
    whole: bool = False
    after: Name | None = None
    before: Name | None = None
    holders: tuple[Path | None, ...] = ()


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
    """Answer when everything before is done. `flush`: and on the disk (I12). `settled`: all names
    were looked at, what was taken out and is not claimed may go."""

    flush: bool = False
    settled: bool = False


class End(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The source needs this stream no longer."""


Request = Listing | Group | Compare | Data | Attributes | Barrier | End | Begin | Summarise


class Want(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The target needs content, or cannot know yet whether.

    `index` into the listing's entries; `size` here, or ABSENT. `full`: compare all of it, not
    only the extents. `attributes`: send the entry even when the content is equal. `digests`
    None: too large, compare piecemeal. `holder`: absent, but what has its ident stands there. Of a
    directory: ABSENT says that it was made now and is empty, `full` that it was another one, so
    nothing below may be taken as equal. `extents`: to be compared besides those of the source.
    """

    index: Annotated[int, Meta(ge=0)]
    size: Annotated[int, Meta(ge=ABSENT, le=MAX_FILE_BYTES)]
    full: bool = False
    attributes: bool = False
    digests: bytes | None = None
    holder: Path | None = None
    extents: Ranges = ()


class Wanted(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Answer to `Listing` and `Group`. `missing`: there is no such directory here."""

    wants: tuple[Want, ...]
    missing: bool = False


class Digests(msgspec.Struct, frozen=True, array_like=True, tag=2):
    digests: bytes


class Summaries(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Answer to `Summarise`: for each directory, in order, what `summary.Segment` says (None: there
    is no such directory; empty: it is empty, or too large to say)."""

    directories: tuple[tuple[tuple[SegmentName, Digest], ...] | None, ...]


class Passed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Answer to `Barrier`. `missing`: directories that something was sent for in vain."""

    missing: tuple[tuple[Tree, Path], ...] = ()
    #: Something was taken out of its place and waits to be claimed.
    holding: bool = False


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The target gives up; instead of an answer."""

    reason: str
    fatal: bool

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "reason", one_line(self.reason))


class Busy(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """No answer, only a sign of life of a target that is at something long."""


Answer = Wanted | Digests | Passed | Failed | Busy | Summaries

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
        case Listing(path=path, entries=entries, gone=gone, holders=holders):
            _check_path(path)
            if holders and len(holders) != len(entries):
                raise PeerError("holders do not fit the entries")
            for holder in holders:
                _check_holder(holder)
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
        case Summarise(paths=paths):
            for path in paths:
                _check_path(path)
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
            for want in wants:
                _check_holder(want.holder)
                _check_ranges(want.extents)
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


def _check_holder(path: tuple[bytes, ...] | None) -> None:
    if path is not None:
        _check_path(path)
        if not path:
            raise PeerError("the root of a tree cannot be moved")


def _check_entry(entry: Entry) -> None:
    # A directory's own entry in `Attributes` carries its real name too (the root: "?").
    _check_name(entry.name)
    if S_IFMT(entry.mode) not in _TYPES:
        raise PeerError(f"file type refused: {entry.mode:o}")
    if b"\0" in entry.link or S_ISLNK(entry.mode) != bool(entry.link):
        raise PeerError("symbolic link refused")
    if len(entry.ident) not in (0, IDENT_BYTES):
        raise PeerError("id of a wrong length")
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
