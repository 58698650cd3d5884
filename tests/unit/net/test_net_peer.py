"""Streams over loopback: handshake, batching, refusal, and everything hostile."""

import os
import select
import socket
import struct
import threading
import time

import pytest

from safepy.errors import PeerError
from safepy.host.loop import Loop
from safepy.net.blocking import connect_blocking, shake_hands_blocking
from safepy.net.dialing import Listener, dial
from safepy.net.peer import GATHERED_MESSAGES
from safepy.wire.framing import FrameParser, pack_messages
from safepy.wire.secure import (
    HELLO_BYTES,
    MAX_MESSAGE_BYTES,
    VERSION,
    Hello,
    Refused,
    Welcome,
    encode_first,
    module_key,
    pack_hello,
    parse_hello,
    stream_ciphers,
)

KEY = module_key(b"k" * 32, "m")
HELLO = Hello(VERSION, "n2", "m", 3, "live", "id")
WELCOME = Welcome(VERSION, "n1", "m", 3, "live")


class Side:
    """What one end of a stream saw."""

    def __init__(self):
        self.stream = None
        self.messages = []
        self.batches = 0
        self.closed = None

    def hold(self, stream):
        self.stream = stream
        stream.on_messages = self.heard
        stream.on_closed = self.end
        return stream

    def heard(self, messages):
        self.messages += messages
        self.batches += 1

    def end(self, reason):
        self.closed = reason


class Lab:
    def __init__(self, address="127.0.0.1", **listen):
        self.loop = Loop()
        self.here, self.there = Side(), Side()
        self.hellos, self.refusals, self.failed = [], [], []
        self.answer = lambda incoming: self.here.hold(incoming.welcome(WELCOME))
        self.listener = Listener(
            self.loop, address, 0, KEY, self.accept, self.refusals.append, **listen
        )
        self.address = address

    def accept(self, hello, incoming):
        self.hellos.append(hello)
        self.answer(incoming)

    def dial(self, key=KEY, **options):
        return dial(
            self.loop, self.address, self.listener.port, key, HELLO,
            lambda stream, welcome: self.there.hold(stream),
            lambda reason, refused: self.failed.append((reason, refused)),
            **options,
        )  # fmt: skip

    def until(self, condition, limit_s=5.0):
        deadline_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline_s, "did not happen"
            self.loop.turn(0.05)

    def connect(self):
        self.dial()
        self.until(lambda: self.here.stream and self.there.stream)
        return self.here, self.there

    def raw(self):
        sock = socket.create_connection((self.address, self.listener.port), 5)
        sock.settimeout(5)
        return sock

    def raw_shaken(self, hello=None):
        """A dialer by hand: its socket and ciphers, after both hellos."""
        sock = self.raw()
        sock.sendall(hello or pack_hello(b"n" * 32))
        answer = b""

        def arrived():
            nonlocal answer
            if select.select([sock], [], [], 0)[0]:
                answer += sock.recv(HELLO_BYTES)
            return len(answer) == HELLO_BYTES

        self.until(arrived)
        return sock, *stream_ciphers(KEY, b"n" * 32, parse_hello(answer), dialer=True)


@pytest.fixture
def lab():
    lab = Lab()
    yield lab
    lab.listener.close()
    lab.loop.close()


def test_messages_that_have_gathered_do_not_wait_for_the_rest_of_the_turn(lab):
    here, there = lab.connect()
    lab.loop.turn(0.05)

    def arrives(limit_s):
        return bool(select.select([here.stream._sock], [], [], limit_s)[0])

    for _ in range(GATHERED_MESSAGES - 1):
        there.stream.send(b"x")
    assert not arrives(0.05)
    there.stream.send(b"x")
    assert arrives(5)
    there.stream.send(b"y")
    lab.until(lambda: len(here.messages) == GATHERED_MESSAGES + 1)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_messages_both_ways(address):
    lab = Lab(address)
    here, there = lab.connect()
    assert lab.hellos == [HELLO]
    sent = [b"", b"x", os.urandom(MAX_MESSAGE_BYTES)] + [os.urandom(4096)] * 1000
    for message in sent:
        there.stream.send(message)
        here.stream.send(message)
    lab.until(lambda: len(here.messages) == len(there.messages) == len(sent))
    assert here.messages == there.messages == sent
    assert there.batches < 60, "messages of a turn travel together"
    assert here.stream.buffered_bytes == 0
    there.stream.close()
    lab.until(lambda: here.closed)
    assert here.closed == "closed by the other node"
    assert there.closed is None
    lab.listener.close()


def test_what_is_sent_in_on_accept_arrives(lab):
    lab.answer = lambda incoming: lab.here.hold(incoming.welcome(WELCOME)).send(b"first")
    lab.dial()
    lab.until(lambda: lab.there.messages)
    assert lab.there.messages == [b"first"]


def test_what_is_sent_at_a_turns_end_or_outside_of_turns_does_not_wait(lab):
    here, there = lab.connect()
    left = ["late"]
    lab.loop.at_turn_end(lambda: left and there.stream.send(left.pop().encode()))
    began_s = time.monotonic()
    lab.loop.turn(0)
    there.stream.send(b"outside")
    while len(here.messages) < 2:
        lab.loop.turn(5.0)
    assert time.monotonic() - began_s < 0.9  # less than a keepalive's time
    assert sorted(here.messages) == [b"late", b"outside"]


def test_keepalive_is_heard(lab):
    here, _ = lab.connect()
    before = here.stream.last_heard_s
    lab.until(lambda: here.stream.last_heard_s > before + 0.5, 3)
    assert here.messages == []


def test_refusal_reaches_the_dialer(lab):
    refused = Refused(VERSION, "n1", "m", 9, "live", detail="stale epoch")
    lab.answer = lambda incoming: incoming.refuse(refused)
    lab.dial()
    lab.until(lambda: lab.failed)
    assert lab.failed == [("refused by n1: stale epoch", refused)]


def test_other_key(lab):
    lab.dial(key=module_key(b"o" * 32, "m"))
    lab.until(lambda: lab.failed and lab.refusals)
    assert lab.hellos == []
    assert "not authentic" in lab.refusals[0]


def test_nobody_listens(lab):
    lab.listener.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        failed = []
        dial(lab.loop, "127.0.0.1", port, KEY, HELLO, None, lambda r, _: failed.append(r))
        lab.until(lambda: failed)
    assert "Connection refused" in failed[0]


def test_a_recorded_stream_cannot_be_played_again(lab):
    sock, sealer, _ = lab.raw_shaken()
    record = sealer.seal(pack_messages([encode_first(HELLO)]))
    sock.sendall(record)
    lab.until(lambda: len(lab.hellos) == 1)
    again, _, _ = lab.raw_shaken()  # the same nonce from the dialer
    again.sendall(record)
    lab.until(lambda: lab.refusals)
    assert len(lab.hellos) == 1
    sock.close()
    again.close()


def test_a_flipped_bit_closes(lab):
    sock, sealer, _ = lab.raw_shaken()
    sock.sendall(sealer.seal(pack_messages([encode_first(HELLO)])))
    lab.until(lambda: lab.here.stream)
    good = sealer.seal(pack_messages([b"good"]))
    bad = bytearray(sealer.seal(pack_messages([b"bad"])))
    bad[9] ^= 4
    sock.sendall(good + bad)
    lab.until(lambda: lab.here.closed)
    assert lab.here.messages == [b"good"]
    assert "not authentic" in lab.here.closed
    sock.close()


def test_oversize_is_refused_before_and_after_the_handshake(lab):
    sock, _, _ = lab.raw_shaken()
    sock.sendall(struct.pack(">I", 3000))
    lab.until(lambda: lab.refusals)
    assert "3000 bytes refused" in lab.refusals[0]
    sock.close()
    here, there = lab.connect()
    there.stream._sock.send(struct.pack(">I", 1 << 30))
    lab.until(lambda: here.closed)
    assert f"{1 << 30} bytes refused" in here.closed


def test_strangers_get_nothing(lab):
    with lab.raw() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 100)
        lab.until(lambda: lab.refusals)
        assert sock.recv(100) == b""
    assert "not a safepy stream" in lab.refusals[0]


def test_few_unauthenticated_at_a_time_and_a_quiet_log():
    lab = Lab(max_unauthenticated=4)
    socks = [lab.raw() for _ in range(10)]
    lab.until(lambda: lab.refusals)
    for _ in range(20):
        lab.loop.turn(0.01)
    for sock in socks[:6]:  # the oldest went
        assert sock.recv(1) == b""
    assert len(lab.listener._incoming) == 4
    assert len(lab.refusals) == 1 and "too many" in lab.refusals[0]
    assert lab.listener.refusals == 6
    lab.listener.close()
    assert socks[-1].recv(1) == b""
    for sock in socks:
        sock.close()


def test_only_allowed_addresses():
    lab = Lab(allowed=["192.0.2.1"])
    with lab.raw() as sock:
        lab.until(lambda: lab.refusals)
        assert sock.recv(1) == b""
    assert "not the other node" in lab.refusals[0]
    lab.listener.close()


def test_a_silent_dialer_is_dropped(lab, monkeypatch):
    monkeypatch.setattr("safepy.net.dialing.HANDSHAKE_LIMIT_S", 0.1)
    monkeypatch.setattr("safepy.net.dialing._Handshake.__init__.__defaults__", (0.1,))
    with lab.raw() as sock:
        lab.until(lambda: lab.refusals)
        assert sock.recv(1) == b""
    assert "too long" in lab.refusals[0]


def test_the_send_buffer_is_bounded(lab):
    here, there = lab.connect()
    there.stream._max_buffered_bytes = 3 << 20
    here.stream._loop.remove_reader(here.stream._sock.fileno())  # a peer that does not read
    message = bytes(256 << 10)

    def push():
        there.stream.send(message)
        return there.closed

    lab.until(push)
    assert there.closed == "send buffer full"


def blocking_pair(lab):
    """A dialed blocking stream, and the accepted one detached from the loop."""
    accepted = []
    lab.answer = lambda incoming: accepted.append(incoming.welcome(WELCOME).detach(5.0))
    result = []
    thread = threading.Thread(
        target=lambda: result.append(
            connect_blocking(lab.address, lab.listener.port, KEY, HELLO, 5.0)
        )
    )
    thread.start()
    lab.until(lambda: result)
    thread.join()
    return result[0][0], accepted[0]


def test_blocking_twins(lab):
    there, here = blocking_pair(lab)
    sent = [b"", b"x" * 5000, os.urandom(MAX_MESSAGE_BYTES)] * 30
    got = []

    def echo():  # Both sides send a lot before either reads: no deadlock.
        for message in sent:
            here.send(message)
        got.extend(here.receive() for _ in sent)

    thread = threading.Thread(target=echo)
    thread.start()
    for message in sent:
        there.send(message)
    assert [there.receive() for _ in sent] == sent
    thread.join()
    assert got == sent
    here.close()
    with pytest.raises(PeerError, match="closed"):
        there.receive()
    there.close()


def test_blocking_time_limit_and_shutdown(lab):
    there, here = blocking_pair(lab)
    there._timeout_s = 0.05
    with pytest.raises(PeerError, match="no answer"):
        there.receive()
    with pytest.raises(PeerError, match="no answer"):
        for _ in range(1000):
            there.send(bytes(1 << 20))
    threading.Timer(0.1, here.shutdown).start()
    here._parser = FrameParser()
    with pytest.raises(PeerError):
        while True:
            here.receive()
    there.close()
    here.close()


def test_blocking_refusal(lab):
    lab.answer = lambda incoming: incoming.refuse(
        Refused(VERSION, "n1", "m", 9, "live", detail="busy")
    )
    result = []

    def run():
        try:
            connect_blocking(lab.address, lab.listener.port, KEY, HELLO, 5.0)
        except PeerError as error:
            result.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    lab.until(lambda: result)
    thread.join()
    assert result == ["refused by n1: busy"]


def test_a_blocking_dialer_does_not_believe_a_stranger():
    ours, stranger = socket.socketpair()
    stranger.sendall(pack_hello(b"s" * 32) + struct.pack(">I", 40) + bytes(40))
    with pytest.raises(PeerError, match="not authentic"):
        shake_hands_blocking(ours, KEY, HELLO, 1.0)
    ours.close()
    stranger.close()
