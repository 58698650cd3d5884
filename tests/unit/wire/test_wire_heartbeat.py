"""Heartbeats: what is sealed is opened; anything else is a PeerError and nothing worse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.errors import PeerError
from safepy.model import Beat, PeerView, Record, State, Status
from safepy.wire.heartbeat import DATAGRAM_BYTES_MAX, Opener, Sealer

KEY = bytes(range(32))
SESSION = "ab" * 16
VIEW = PeerView(
    node="n1",
    state=State.PRIM,
    status=Status.READY,
    record=Record(epoch=7, history=tuple((n, f"{n:032x}") for n in range(16))),
    resources=(("state.local", "PRIM Ready"),),
)
BEAT = Beat(SESSION, 42, "cd" * 16, 41, VIEW)


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(KEY, "web", "n1", SESSION)


@pytest.fixture
def opener() -> Opener:
    return Opener(KEY, "web", "n1")


def test_sealed_and_opened(sealer: Sealer, opener: Opener) -> None:
    datagram = sealer.seal(1, BEAT)
    assert opener.open(1, datagram) == BEAT
    assert b"PRIM" not in datagram


def test_many_sessions_in_turn(opener: Opener) -> None:
    for number in range(20):
        session = f"{number:032x}"
        beat = replace(BEAT, session=session)
        datagram = Sealer(KEY, "web", "n1", session).seal(0, beat)
        assert opener.open(0, datagram) == beat


@pytest.mark.parametrize(
    ("key", "module", "node", "lane"),
    [
        (bytes(32), "web", "n1", 1),
        (KEY, "db", "n1", 1),
        (KEY, "web", "n2", 1),
        (KEY, "web", "n1", 0),
    ],
)
def test_of_another_key_module_sender_or_lane(
    sealer: Sealer, key: bytes, module: str, node: str, lane: int
) -> None:
    with pytest.raises(PeerError):
        Opener(key, module, node).open(lane, sealer.seal(1, BEAT))


def test_a_body_that_contradicts_its_header(sealer: Sealer, opener: Opener) -> None:
    for wrong in (
        replace(BEAT, session="00" * 16),
        replace(BEAT, view=replace(VIEW, node="n2")),
    ):
        with pytest.raises(PeerError, match="contradicts"):
            opener.open(1, sealer.seal(1, wrong))


def test_every_flipped_byte_is_noticed(sealer: Sealer, opener: Opener) -> None:
    datagram = sealer.seal(1, BEAT)
    for at in range(len(datagram)):
        damaged = bytearray(datagram)
        damaged[at] ^= 1
        with pytest.raises(PeerError):
            opener.open(1, bytes(damaged))


def test_every_cut_is_noticed(sealer: Sealer, opener: Opener) -> None:
    datagram = sealer.seal(1, BEAT)
    for length in range(len(datagram)):
        with pytest.raises(PeerError):
            opener.open(1, datagram[:length])
    with pytest.raises(PeerError):
        opener.open(1, datagram + b"\0")


def test_too_many_resources_do_not_silence_the_node(sealer: Sealer, opener: Opener) -> None:
    many = tuple((f"custom.{n}", "x" * 100) for n in range(1000))
    datagram = sealer.seal(1, replace(BEAT, view=replace(VIEW, resources=many)))
    assert len(datagram) <= DATAGRAM_BYTES_MAX
    assert opener.open(1, datagram) == replace(BEAT, view=replace(VIEW, resources=()))


@given(st.binary(max_size=400))
def test_noise(data: bytes) -> None:
    opener = Opener(KEY, "web", "n1")
    for datagram in (data, b"SFKB\x01" + data):
        with pytest.raises(PeerError):
            opener.open(0, datagram)


@given(body=st.binary(max_size=300))
def test_an_authentic_body_of_noise(body: bytes) -> None:
    """Even who has the key cannot make it raise anything else."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from safepy.wire import heartbeat

    session = bytes.fromhex(SESSION)
    header = heartbeat._HEADER.pack(b"SFKB", 1, session, 0, 5)
    cipher = AESGCM(heartbeat._key(KEY, "web", "n1", session))
    datagram = header + cipher.encrypt(heartbeat._nonce(0, 5), body, header)
    with pytest.raises(PeerError):
        Opener(KEY, "web", "n1").open(0, datagram)
