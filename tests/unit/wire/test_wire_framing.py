"""Framing: any cut of the byte stream gives the same frames; nothing above the maximum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.errors import PeerError
from safepy.wire.framing import LENGTH, FrameParser, pack_messages, unpack_messages


@given(st.lists(st.binary(max_size=50), max_size=20), st.lists(st.integers(1, 60)))
def test_any_cut_gives_the_same_frames(frames, cuts):
    stream = b"".join(LENGTH.pack(len(f)) + f for f in frames)
    parser = FrameParser(maximum_bytes=50)
    got, at = [], 0
    for cut in [*cuts, len(stream) + 1]:
        parser.feed(stream[at : at + cut])
        at += cut
        while (frame := parser.take()) is not None:
            got.append(frame)
    assert got == frames
    assert parser.buffered_bytes == 0


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_messages_come_back(messages):
    assert unpack_messages(pack_messages(messages)) == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_peer_error(clear):
    try:
        messages = unpack_messages(clear)
    except PeerError:
        return
    assert pack_messages(messages) == clear


def test_oversize_is_refused_at_its_length():
    parser = FrameParser(maximum_bytes=100)
    parser.feed(LENGTH.pack(100)[:3])
    assert parser.take() is None
    parser = FrameParser(maximum_bytes=100)
    parser.feed(LENGTH.pack(101))
    with pytest.raises(PeerError, match="101 bytes refused"):
        parser.take()


def test_the_hello_has_no_length():
    parser = FrameParser(maximum_bytes=10)
    parser.feed(b"hel")
    assert parser.take_exactly(5) is None
    parser.feed(b"lo" + LENGTH.pack(2) + b"ok")
    assert parser.take_exactly(5) == b"hello"
    assert parser.take() == b"ok"
