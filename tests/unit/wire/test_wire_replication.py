"""The messages of the live stream: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.core.replica import ops
from safepy.errors import PeerError
from safepy.wire import replication as wire

MESSAGES = [
    wire.Apply(7, 0, ops.Write(3, 4096, b"\x00\xff" * 20, True, ((3, 17), (1, 18)))),
    wire.Apply(8, 1, ops.Rename(1, b"a\n", 2, b"\xff", 2)),
    wire.Apply(9, 0, ops.SetAttr(5, size=0)),
    wire.Apply(10, 0, ops.Bind(4, b"d/e")),
    wire.Ack(1 << 40),
    wire.Completed(3, 28),
    wire.Fault(28, "no room"),
    wire.SyncBegin("ab", 6, True),
    wire.SyncFlush(1),
    wire.Flushed(1),
    wire.SyncFailed("why", False),
    wire.Adopt(3, "g", "b", ((1, "x"),)),
    wire.AdoptDone(3),
    wire.SyncProgress("round 1", 3, 9, 1 << 40, 1 << 41, 12, 1, 2.5e6, None),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_goes_in_comes_out(message: wire.AnyMessage) -> None:
    assert wire.decode(wire.encode(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_peer_error(data: bytes) -> None:
    try:
        wire.decode(data)
    except PeerError:
        return


@given(st.sampled_from(MESSAGES), st.integers(0, 400), st.integers(1, 255))
def test_a_flipped_byte_never_raises_anything_else(
    message: wire.AnyMessage, at: int, flip: int
) -> None:
    data = bytearray(wire.encode(message))
    data[at % len(data)] ^= flip
    try:
        wire.decode(bytes(data))
    except PeerError:
        return


def test_a_message_that_is_too_long_is_refused_before_it_is_read() -> None:
    data = wire.encode(wire.Apply(1, 0, ops.Write(1, 0, bytes(wire.MESSAGE_BYTES_MAX))))
    with pytest.raises(PeerError, match="exceeds"):
        wire.decode(data)


def test_an_unknown_operation_is_refused() -> None:
    data = msgspec.msgpack.encode([1, 7, 0, [99, 1]])
    with pytest.raises(PeerError):
        wire.decode(data)
