"""The messages of the live stream between two workers, as values and back.

One msgpack document a message; `wire/secure.py` seals them, so what arrives here comes from a
node that holds the module's key. It is still checked: a type or a length that does not fit is a
`PeerError`, never another exception (S4, F33). Sequence numbers are those of one stream; the
stream's HELLO carries the epoch, so a frame of an older stream or epoch cannot get in (I13).
"""

from __future__ import annotations

import msgspec

from safepy.core.replica.ops import AnyOp
from safepy.errors import PeerError

#: Largest encoded message: a write of 1 MiB and its header.
MESSAGE_BYTES_MAX = (1 << 20) + (1 << 16)


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages."""


class Apply(Message, frozen=True, tag=1):
    """Primary: do this operation on directory number `tree`."""

    seq: int
    tree: int
    op: AnyOp


class Ack(Message, frozen=True, tag=2):
    """Secondary: everything up to `seq` is received (or applied, by `acknowledge_on`)."""

    seq: int


class Completed(Message, frozen=True, tag=3):
    """Secondary: the fsync `seq` ended with `errno` (0: durable here)."""

    seq: int
    errno: int


class Fault(Message, frozen=True, tag=4):
    """Secondary: an operation failed here that had not failed there; this copy is behind."""

    errno: int
    text: str


class SyncBegin(Message, frozen=True, tag=5):
    """Source: open `transfers` transfer connections with `stream_id`; the comparison starts."""

    stream_id: str
    transfers: int
    keep_aside: bool


class SyncFlush(Message, frozen=True, tag=6):
    """Source: make durable what has come so far."""

    number: int


class Flushed(Message, frozen=True, tag=7):
    """Target: answer to `SyncFlush`."""

    number: int


class SyncFailed(Message, frozen=True, tag=8):
    """Either side: the comparison cannot go on. `fatal`: trying again does not help."""

    reason: str
    fatal: bool


class Adopt(Message, frozen=True, tag=9):
    """Source: the trees are equal and flushed, take this identity (I11)."""

    epoch: int
    gen: str
    base: str
    history: tuple[tuple[int, str], ...]


class AdoptDone(Message, frozen=True, tag=10):
    """Target: the identity is durable here; from now on this node is SECOND of `epoch`."""

    epoch: int


class SyncProgress(Message, frozen=True, tag=12):
    """Source: how far it is, once a second, for those who look at the target (model.Progress)."""

    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    bytes_copied: int
    files_copied: int
    rate_bytes_s: float
    left_s: float | None


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
