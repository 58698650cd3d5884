"""Keys and records: authentic, in order, one direction, one stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.errors import PeerError
from safepy.wire.secure import (
    HELLO_BYTES,
    MAX_CLEAR_BYTES,
    VERSION,
    Hello,
    Refused,
    Welcome,
    decode_first,
    encode_first,
    fingerprint,
    module_key,
    pack_hello,
    parse_hello,
    stream_ciphers,
)

KEY = module_key(bytes(range(32)), "mirror")
DIALER, LISTENER = b"d" * 32, b"l" * 32


def pair(key=KEY, listener_nonce=LISTENER):
    return (
        stream_ciphers(key, DIALER, listener_nonce, dialer=True),
        stream_ciphers(key, DIALER, listener_nonce, dialer=False),
    )


def test_both_directions():
    (seal_d, open_d), (seal_l, open_l) = pair()
    for clear in (b"", b"x", b"y" * 5000):
        assert open_l.open(seal_d.seal(clear)[4:]) == clear
        assert open_d.open(seal_l.seal(clear)[4:]) == clear


@given(st.integers(0, 8 * (20 + 16) - 1))
def test_a_flipped_bit_is_noticed(bit):
    (seal, _), (_, opener) = pair()
    record = bytearray(seal.seal(b"t" * 20)[4:])
    record[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PeerError):
        opener.open(bytes(record))


def test_a_shorter_or_repeated_or_skipped_record_is_noticed():
    (seal, _), (_, opener) = pair()
    first, second = seal.seal(b"1"), seal.seal(b"2")
    with pytest.raises(PeerError):
        pair()[1][1].open(first[4:-1])
    with pytest.raises(PeerError):
        pair()[1][1].open(second[4:])
    assert opener.open(first[4:]) == b"1"
    with pytest.raises(PeerError):
        opener.open(first[4:])


def test_other_key_reflection_and_replay_are_noticed():
    (seal, open_d), _ = pair()
    record = seal.seal(b"x")[4:]
    with pytest.raises(PeerError):
        open_d.open(record)  # reflected to its sender
    with pytest.raises(PeerError):
        pair(key=module_key(bytes(32), "mirror"))[1][1].open(record)
    with pytest.raises(PeerError):
        pair(key=module_key(bytes(range(32)), "other"))[1][1].open(record)
    with pytest.raises(PeerError):  # replayed: the listener's nonce is another
        pair(listener_nonce=b"n" * 32)[1][1].open(record)


def test_too_large_a_record_is_a_bug():
    (seal, _), _ = pair()
    seal.seal(bytes(MAX_CLEAR_BYTES))
    with pytest.raises(ValueError):
        seal.seal(bytes(MAX_CLEAR_BYTES + 1))


def test_hello():
    packed = pack_hello(DIALER)
    assert len(packed) == HELLO_BYTES == 40
    assert parse_hello(packed) == DIALER
    with pytest.raises(PeerError):
        parse_hello(b"HTTP" + packed[4:])
    with pytest.raises(PeerError):
        parse_hello(packed[:4] + b"\0\x09" + packed[6:])


@pytest.mark.parametrize("kind", [Hello, Welcome, Refused])
def test_first_records(kind):
    message = kind(VERSION, "n1", "mirror", 7, "live", "id", "why")
    assert decode_first(encode_first(message)) == message
    with pytest.raises(PeerError, match="version 9"):
        decode_first(encode_first(kind(9, "n1", "mirror", 7, "live")))


@given(st.binary(max_size=100))
def test_first_record_of_any_bytes(data):
    with pytest.raises(PeerError):
        decode_first(data)


def test_fingerprint():
    assert fingerprint(b"key") == "2c70:e12b:7a06:46f9"
