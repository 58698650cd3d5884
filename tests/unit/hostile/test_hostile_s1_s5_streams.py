"""S1 to S5, F29, F31 to F33 on TCP: strangers, recordings, reflections, floods of connections.

The real listener and the real dialer; the attacker has raw sockets.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "net"))
from test_net_peer import HELLO, KEY, Lab

from safepy.net import dialing
from safepy.net.dialing import REFUSAL_LOG_S, Dial, Listener, dial
from safepy.wire.framing import pack_messages
from safepy.wire.secure import (
    HELLO_BYTES,
    VERSION,
    Hello,
    encode_first,
    module_key,
    pack_hello,
    parse_hello,
    stream_ciphers,
)

FIRST = pack_messages([encode_first(HELLO)])


@pytest.fixture
def lab() -> Iterator[Any]:
    made = Lab()
    yield made
    made.listener.close()
    made.loop.close()


def closed(sock: socket.socket) -> bool:
    """Whether the other side has ended the connection; what it said before is thrown away."""
    try:
        while select.select([sock], [], [], 0)[0]:
            if not sock.recv(65536):
                return True
    except OSError:
        return True
    return False


def received(lab: Any, sock: socket.socket) -> bytes:
    """All that comes until the other side has nothing to say."""
    answer = b""
    for _ in range(20):
        lab.loop.turn(0.005)
        with contextlib.suppress(OSError):
            if select.select([sock], [], [], 0)[0]:
                answer += sock.recv(65536)
    return answer


STRANGERS = {
    "nothing": b"",
    "one byte": b"S",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "hello alone": pack_hello(b"n" * 32),
    "hello, then noise": pack_hello(b"n" * 32) + struct.pack(">I", 40) + bytes(40),
    "hello, then 4 GiB": pack_hello(b"n" * 32) + b"\xff\xff\xff\xff" + bytes(100),
    "hello, then an empty record": pack_hello(b"n" * 32) + bytes(4),
    "an old version": struct.pack(">4sHH32s", b"SFKS", 0, 0, b"n" * 32),
    "a version to come": struct.pack(">4sHH32s", b"SFKS", 65535, 0, b"n" * 32),
    "much": os.urandom(60_000),
}


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS)
def test_s3_a_stranger_is_never_answered_with_more_than_it_said(lab: Any, said: bytes) -> None:
    with lab.raw() as sock:
        if said:
            sock.sendall(said)
        answer = received(lab, sock)
    assert len(answer) <= min(len(said), HELLO_BYTES)
    assert lab.hellos == [] and lab.here.stream is None


@pytest.mark.parametrize(
    ("key", "first"),
    [
        (module_key(b"o" * 32, "m"), HELLO),
        (module_key(b"k" * 32, "other"), HELLO),
        (KEY, Hello(VERSION + 1, "n2", "m", 3, "live")),
        (KEY, Hello(0, "n2", "m", 3, "live")),
    ],
    ids=["another cluster", "another module", "a version to come", "an old version"],
)
def test_s1_s2_foreign_keys_and_versions_are_refused_and_counted(
    lab: Any, key: bytes, first: Hello
) -> None:
    """Another version: F55."""
    sock = lab.raw()
    sock.sendall(pack_hello(b"n" * 32))
    answer = received(lab, sock)
    sealer, _ = stream_ciphers(key, b"n" * 32, parse_hello(answer), dialer=True)
    sock.sendall(sealer.seal(pack_messages([encode_first(first)])))
    lab.until(lambda: closed(sock))
    assert lab.hellos == [] and lab.listener.refusals == 1 and len(lab.refusals) == 1
    sock.close()


def test_s1_f31_the_recording_of_a_whole_stream_opens_nothing(lab: Any) -> None:
    """Everything a dialer ever sent is sent again, on a new connection."""
    sock, sealer, _ = lab.raw_shaken()
    recording = [sealer.seal(FIRST)]
    recording += [sealer.seal(pack_messages([b"message %d" % n])) for n in range(5)]
    sock.sendall(b"".join(recording))
    lab.until(lambda: len(lab.here.messages) == 5)
    sock.close()
    lab.until(lambda: lab.here.closed)
    for said in (recording, recording[::-1], recording[1:]):
        again, _, _ = lab.raw_shaken()
        again.sendall(b"".join(said))
        lab.until(lambda again=again: closed(again))
        again.close()
    assert len(lab.hellos) == 1 and len(lab.here.messages) == 5
    assert lab.listener.refusals == 3


@pytest.mark.parametrize("attack", ["repeated", "skipped", "swapped", "flipped", "cut"])
def test_f30_f32_records_out_of_order_or_damaged_end_the_stream(lab: Any, attack: str) -> None:
    sock, sealer, _ = lab.raw_shaken()
    sock.sendall(sealer.seal(FIRST))
    lab.until(lambda: lab.here.stream)
    one, two, three = (sealer.seal(pack_messages([word])) for word in (b"1", b"2", b"3"))
    flipped = bytearray(two)
    flipped[-1] ^= 1
    cut = struct.pack(">I", len(two) - 5) + two[4:-1]
    said = {
        "repeated": [one, one, two],
        "skipped": [one, three],
        "swapped": [one, three, two],
        "flipped": [one, bytes(flipped), three],
        "cut": [one, cut, three],
    }
    sock.sendall(b"".join(said[attack]))
    lab.until(lambda: lab.here.closed)
    assert lab.here.messages == [b"1"]
    assert "not authentic" in lab.here.closed
    sock.close()


def test_s2_our_own_bytes_sent_back_to_us_prove_nothing(lab: Any) -> None:
    """An attacker without the key answers both sides with what they said themselves."""
    echo = socket.create_server(("127.0.0.1", 0))
    failed: list[str] = []
    dialer: Dial = dial(
        lab.loop, "127.0.0.1", echo.getsockname()[1], KEY, HELLO,
        lambda *_: pytest.fail("believed itself"), lambda reason, _: failed.append(reason),
    )  # fmt: skip
    lab.until(lambda: bool(select.select([echo], [], [], 0)[0]))
    mirror, _ = echo.accept()
    mirror.setblocking(False)

    def reflect() -> bool:
        with contextlib.suppress(BlockingIOError):
            mirror.sendall(mirror.recv(65536))
        return bool(failed)

    lab.until(reflect)
    assert "not authentic" in failed[0]
    dialer.cancel()
    # The listener: its answer comes back as if it were a dialer's record.
    sock = lab.raw()
    sock.sendall(pack_hello(b"n" * 32))
    answer = received(lab, sock)
    sock.sendall(answer + answer)
    lab.until(lambda: closed(sock))
    # And a stream that stands: what it sends is sent back to it.
    live, sealer, _ = lab.raw_shaken()
    live.sendall(sealer.seal(FIRST))
    lab.until(lambda: lab.here.stream)
    lab.here.stream.send(b"to the peer")
    live.sendall(received(lab, live))
    lab.until(lambda: lab.here.closed)
    assert lab.here.messages == [] and "not authentic" in lab.here.closed
    live.close()
    for each in (echo, mirror, sock):
        each.close()


def hold_open(lab: Any, count: int, say: bytes) -> list[socket.socket]:
    held = []
    for _ in range(count):
        sock = lab.raw()
        if say:
            sock.sendall(say)
        held.append(sock)
        lab.loop.turn(0)
    return held


@pytest.mark.parametrize("say", [b"", b"S", pack_hello(b"n" * 32)], ids=["silent", "slow", "hello"])
def test_s3_f29_whoever_holds_connections_open_does_not_keep_the_peer_out(
    lab: Any, say: bytes
) -> None:
    """Half-open connections: few exist, each for a bounded time, and the other node gets in."""
    held = hold_open(lab, 2 * dialing.MAX_UNAUTHENTICATED, say)
    assert len(lab.listener._incoming) == dialing.MAX_UNAUTHENTICATED
    lab.dial()
    lab.until(lambda: lab.here.stream and lab.there.stream)
    # More come all the time; it tries again as the worker does.
    more = iter(range(10_000))
    lab.here.stream = lab.there.stream = None
    lab.dial()

    def pressed() -> bool:
        if next(more) % 4 == 0:
            held.extend(hold_open(lab, 1, say))
        if lab.failed:
            lab.failed.clear()
            lab.dial()
        return bool(lab.here.stream and lab.there.stream)

    lab.until(pressed, 10.0)
    assert len(lab.refusals) == 1  # and the log is told once in a while
    for sock in held:
        sock.close()


def test_s3_a_handshake_that_never_ends_is_ended(lab: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("safepy.net.dialing._Handshake.__init__.__defaults__", (0.1,))
    slow = hold_open(lab, 5, pack_hello(b"n" * 32))
    lab.until(lambda: all(map(closed, slow)))
    assert len(lab.listener._incoming) == 0 and lab.listener.refusals == 5
    for sock in slow:
        sock.close()


def test_s3_s26_a_thousand_connections_leave_nothing_behind(lab: Any) -> None:
    noise = pack_hello(b"n" * 32) + struct.pack(">I", 2000) + bytes(1000)
    for sock in hold_open(lab, 20, noise):
        sock.close()
    lab.until(lambda: len(lab.listener._incoming) == 0)
    before_fds = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    try:
        for number in range(1000):
            sock = lab.raw()
            sock.sendall(noise if number % 2 else b"GET / HTTP/1.1\r\n\r\n" * 9)
            lab.loop.turn(0)
            lab.loop.turn(0)
            sock.close()
        lab.until(lambda: len(lab.listener._incoming) == 0)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(os.listdir("/proc/self/fd")) <= before_fds
    assert peak < 4 << 20 and kept < 1 << 20
    assert lab.hellos == []
    assert lab.listener.refusals >= 1000
    assert len(lab.refusals) <= 1 + 60 / REFUSAL_LOG_S
    lab.dial()
    lab.until(lambda: lab.here.stream and lab.there.stream)


@pytest.mark.parametrize(
    ("here", "peer", "stranger"),
    [("127.0.0.1", "127.0.0.2", "127.0.0.3"), ("::1", "2001:db8::1", "::1")],
)
def test_s5_other_addresses_are_dropped_before_a_word(here: str, peer: str, stranger: str) -> None:
    lab = Lab(here, allowed=[peer])
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in here else socket.AF_INET)
        sock.bind((stranger, 0))
        sock.settimeout(5)
        sock.connect((here, lab.listener.port))
        lab.until(lambda: lab.refusals)
        assert "not the other node" in lab.refusals[0]
        assert closed(sock) and len(lab.listener._incoming) == 0
        sock.close()
    finally:
        lab.listener.close()
        lab.loop.close()


def test_s5_only_the_configured_address_listens(lab: Any) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.9", lab.listener.port), 5)
    for address in ("", "0.0.0.0", "::"):
        from safepy.config import cluster
        from safepy.errors import ConfigError

        text = (
            f'<cluster><lans><lan name="l"><node name="a" addr="{address}"/></lan></lans></cluster>'
        )
        with pytest.raises(ConfigError):
            cluster.parse(text.encode(), "cluster.xml")


def test_s4_f33_an_authenticated_flood_is_bounded_in_memory(lab: Any) -> None:
    """Whoever holds the key may send fast, but what is not read stays in its own buffers."""
    here, there = lab.connect()
    here.stream.on_messages = lambda messages: None
    tracemalloc.start()
    try:
        for _ in range(200):
            there.stream.send(bytes(512 << 10))
            lab.loop.turn(0)
        lab.until(lambda: there.stream.buffered_bytes == 0)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def refuse_loudly(lab: Any) -> Callable[[Any], None]:
    from safepy.wire.secure import Refused

    return lambda incoming: incoming.refuse(
        Refused(VERSION, "n1\n", "m", 9, "live", detail="\x1b[2J" + "x" * 5000)
    )


def test_s3_words_of_the_other_node_are_one_printable_line(lab: Any) -> None:
    lab.answer = refuse_loudly(lab)
    lab.dial()
    lab.until(lambda: lab.failed)
    reason, _ = lab.failed[0]
    assert reason.isprintable() and len(reason) < 600


def test_a_key_holder_that_sends_broken_text_is_refused_like_anybody(lab: Any) -> None:
    sock, sealer, _ = lab.raw_shaken()
    broken = encode_first(HELLO).replace(b"live", b"\xff\xfe\xff\xfe")
    sock.sendall(sealer.seal(pack_messages([broken])))
    lab.until(lambda: closed(sock))
    assert lab.hellos == [] and lab.listener.refusals == 1
    sock.close()


def test_the_listener_of_these_tests_is_the_products(lab: Any) -> None:
    assert type(lab.listener) is Listener
