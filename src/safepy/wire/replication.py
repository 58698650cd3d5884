"""The messages of the live stream between two workers, as values and back.

One msgpack document a message; `wire/secure.py` seals them, so what arrives here comes from a
node that holds the module's key. It is still checked: a type or a length that does not fit is a
`PeerError`, never another exception (S4, F33). Sequence numbers are those of one stream; the
stream's HELLO carries the epoch, so a frame of an older stream or epoch cannot get in (I13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from safepy.core.replica.ops import AnyOp
from safepy.errors import PeerError
from safepy.wire.text import one_line

#: Largest encoded message: a write of 1 MiB and its header.
MESSAGE_BYTES_MAX = (1 << 20) + (1 << 16)

# Bounds of what is passed on to the daemon or calculated with (S4). What is larger is refused;
# free text is cut instead (`one_line`).
_HIGHEST = (1 << 63) - 1
Number = Annotated[int, Meta(ge=0, le=_HIGHEST)]
TreeIndex = Annotated[int, Meta(ge=0, le=255)]
Errno = Annotated[int, Meta(ge=0, le=4095)]
#: Ids of generations and streams, modes: short words of our own.
Word = Annotated[str, Meta(max_length=64, pattern=r"^[0-9A-Za-z_.-]*\Z")]
History = Annotated[tuple[tuple[Number, Word], ...], Meta(max_length=64)]
#: What the kernel takes as the error of a request.
ReplyErrno = Annotated[int, Meta(ge=0, le=511)]
#: What is different about a name, in words of our own.
Kind = Annotated[str, Meta(max_length=64, pattern=r"^[a-z ]*\Z")]
#: Neither infinite nor NaN.
Finite = Annotated[float, Meta(ge=0, le=1e300)]


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages."""


_NAME_BYTES_MAX = 255
_PATH_BYTES_MAX = 256 << 10
_PATH_DEPTH_MAX = 4096


def _check_name(name: bytes) -> None:
    """One component (S8). Raises ValueError."""
    if not 0 < len(name) <= _NAME_BYTES_MAX or name in (b".", b".."):
        raise ValueError("no name of a directory entry")
    if b"/" in name or b"\0" in name:
        raise ValueError("no name of a directory entry")


def _check_path(path: bytes) -> None:
    """Components joined by "/"; empty: the root (S8). Raises ValueError."""
    if len(path) > _PATH_BYTES_MAX or path.count(b"/") >= _PATH_DEPTH_MAX:
        raise ValueError("path too long")
    for name in path.split(b"/") if path else ():
        _check_name(name)


def _check_offered(path: bytes) -> None:
    """As a path, but "/" at its end means a directory's attributes (`SyncOffer`)."""
    _check_path(path.removesuffix(b"/"))


class _Worded(Message, frozen=True):
    """Base of messages with words for people, which go into logs, or with names and paths."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if field in _TEXTS:
                msgspec.structs.force_setattr(self, field, one_line(getattr(self, field)))
            elif (check := _CHECKS.get(field)) is not None:
                check(getattr(self, field))


_TEXTS = frozenset({"text", "reason", "phase", "error", "problem"})


def _check_all(check: Callable[[bytes], None], at: int) -> Callable[[Sequence[Any]], None]:
    def checked(entries: Sequence[Any]) -> None:
        for entry in entries:
            check(entry[at])

    return checked


def _check_names(names: Sequence[bytes]) -> None:
    for name in names:
        _check_name(name)


def _check_items(items: Sequence[Any]) -> None:
    for name, _, _ in items:
        if name != b".":  # the directory itself
            _check_name(name)


#: Fields with names and paths, whatever message they are in.
_CHECKS: dict[str, Callable[[Any], None]] = {
    "path": _check_path,
    "paths": _check_all(_check_offered, 1),
    "differences": _check_all(_check_path, 1),
    "names": _check_names,
    "items": _check_items,
}


class Apply(Message, frozen=True, tag=1):
    """Primary: do this operation on directory number `tree`."""

    seq: Number
    tree: TreeIndex
    op: AnyOp


class Ack(Message, frozen=True, tag=2):
    """Secondary: everything up to `seq` is received (or applied, by `acknowledge_on`)."""

    seq: Number


class Completed(Message, frozen=True, tag=3):
    """Secondary: the fsync `seq` ended with `errno` (0: durable here)."""

    seq: Number
    errno: Errno


class Fault(_Worded, frozen=True, tag=4):
    """Secondary: an operation failed here that had not failed there; this copy is behind."""

    errno: Errno
    text: str


class SyncBegin(_Worded, frozen=True, tag=5):
    """Source: open `transfers` transfer connections with `stream_id`; the comparison starts.
    `dated`: an operator says that files older than a date are equal, known differences aside."""

    stream_id: Word
    transfers: Number
    keep_aside: bool
    mode: Word = "everything"
    reason: str = ""
    dated: bool = False


class SyncFlush(Message, frozen=True, tag=6):
    """Source: make durable what has come so far."""

    number: Number


class Flushed(Message, frozen=True, tag=7):
    """Target: answer to `SyncFlush`."""

    number: Number


class SyncFailed(_Worded, frozen=True, tag=8):
    """Either side: the comparison cannot go on. `fatal`: trying again does not help."""

    reason: str
    fatal: bool


class Adopt(Message, frozen=True, tag=9):
    """Source: the trees are equal and flushed, take this identity (I11)."""

    epoch: Number
    gen: Word
    base: Word
    history: History
    checkpoint: Number = 0


class AdoptDone(Message, frozen=True, tag=10):
    """Target: the identity is durable here; from now on this node is SECOND of `epoch`."""

    epoch: Number


class SyncProgress(_Worded, frozen=True, tag=12):
    """Source: how far it is, once a second, for those who look at the target (model.Progress)."""

    phase: str
    files_done: Number
    files_total: Number
    bytes_done: Number
    bytes_total: Number
    bytes_copied: Number
    files_copied: Number
    rate_bytes_s: Finite
    left_s: Finite | None
    trees_done: Number = 0
    trees_total: Number = 0
    scan_s: Finite = 0.0
    copy_s: Finite = 0.0
    mode: Word = ""
    reason: str = ""


class SyncOffer(_Worded, frozen=True, tag=13):
    """Target, before the transfers begin: what it knows of its own tree. `known`: its differences
    from the state both nodes shared are in the source's marks and in `paths`, (directory number,
    path) of what was changed here while the module was stopped; a path that ends in "/" means the
    attributes of that directory alone. Otherwise names must be walked.
    Several of these may come; `last` ends them. `reason` says why it is not known."""

    known: bool
    paths: tuple[tuple[TreeIndex, bytes], ...]
    last: bool
    reason: str = ""


class Checkpoint(Message, frozen=True, tag=14):
    """Primary, in order among the operations: make everything so far durable, and say so
    (protocol 4.3)."""

    number: Number


class CheckpointDone(Message, frozen=True, tag=15):
    """Secondary: everything before that `Checkpoint` is durable here, and so is its number."""

    number: Number


class Resume(Message, frozen=True, tag=16):
    """Secondary, first on a connection that takes the place of one that broke: everything up to
    `received` has come (F26, F32)."""

    received: Number


class SyncAgain(Message, frozen=True, tag=17):
    """Primary, after `Resume`: the end of this fsync, which was received, is still awaited."""

    seq: Number
    tree: TreeIndex
    op: AnyOp


class Leave(Message, frozen=True, tag=18):
    """Secondary: this node stops following; the stream will not be taken up again."""


class VerifyAsk(Message, frozen=True, tag=19):
    """Secondary: an operator wants both copies compared; the primary does it. `mend` as in
    `VerifyTold.mend`."""

    mend: Word


class VerifyStop(Message, frozen=True, tag=20):
    """Secondary: end the comparison that was asked for."""


class MoreNames(_Worded, frozen=True, tag=21):
    """Primary: which names does this directory have besides these, after `after` up to `upto`?"""

    number: Number
    tree: TreeIndex
    path: bytes
    after: bytes
    upto: bytes
    names: tuple[bytes, ...]


class MoreNamesAre(_Worded, frozen=True, tag=22):
    """Secondary: answer to `MoreNames`; `error` is a sentence if it could not be read."""

    number: Number
    names: tuple[bytes, ...]
    error: str = ""


class Inspect(_Worded, frozen=True, tag=23):
    """Primary, in order among the operations: digests of these names in this directory, as they are
    now (`dataplane.resync.inspection`). `warm`: out of order, only have them read into memory."""

    number: Number
    tree: TreeIndex
    path: bytes
    items: tuple[tuple[bytes, Number, Number], ...]
    seed: Number
    warm: bool = False


class Inspected(_Worded, frozen=True, tag=24):
    """Secondary: answer to `Inspect`."""

    number: Number
    digests: tuple[tuple[bytes, bytes], ...]
    error: str = ""


class VerifyTold(_Worded, frozen=True, tag=25):
    """Primary: how far the comparison is that the secondary asked for, and what differs. `done`
    ends it, with `problem` if it did not come to its end."""

    files: Number
    compared_bytes: Number
    differences: tuple[tuple[TreeIndex, bytes, Kind], ...] = ()
    done: bool = False
    problem: str = ""


class Owed(_Worded, frozen=True, tag=26):
    """Primary: these paths differ, and this node's content is to be given up for the
    secondary's: once it leads, they are compared (`rfsverify --mend second`)."""

    paths: tuple[tuple[TreeIndex, bytes], ...]


class ReadAt(Message, frozen=True, tag=27):
    """Primary, in order among the operations: its own disk refuses to read this (F45)."""

    number: Number
    tree: TreeIndex
    handle: Number
    offset: Number
    size: Number


class ReadDone(Message, frozen=True, tag=28):
    """Secondary: answer to `ReadAt`."""

    number: Number
    errno: ReplyErrno
    data: bytes


AnyMessage = (
    Apply
    | Ack
    | Completed
    | Fault
    | SyncBegin
    | SyncFlush
    | Flushed
    | SyncFailed
    | Adopt
    | AdoptDone
    | SyncProgress
    | SyncOffer
    | Checkpoint
    | CheckpointDone
    | Resume
    | SyncAgain
    | Leave
    | VerifyAsk
    | VerifyStop
    | MoreNames
    | MoreNamesAre
    | Inspect
    | Inspected
    | VerifyTold
    | Owed
    | ReadAt
    | ReadDone
)

_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)
encode = msgspec.msgpack.Encoder().encode


def decode(data: bytes | memoryview) -> AnyMessage:
    """One message. Raises PeerError for anything that is not exactly one of them."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise PeerError(f"replication message of {len(data)} bytes exceeds {MESSAGE_BYTES_MAX}")
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerError(f"unreadable replication message: {error}") from error
