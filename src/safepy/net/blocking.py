"""The encrypted stream for threads: transfers of a resynchronisation.

Same handshake and records as on the loop. Every call has a time limit. While a send waits for
room, what arrives is taken in, so two sides that both send never block one another; the
protocol above bounds how much that can be.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque

from safepy.errors import PeerError
from safepy.net.traffic import TRAFFIC
from safepy.wire.framing import MAX_RECORD_BYTES, FrameParser, pack_messages, unpack_messages
from safepy.wire.secure import (
    HELLO_BYTES,
    MAX_FIRST_RECORD_BYTES,
    NONCE_BYTES,
    Hello,
    Opener,
    Refused,
    Sealer,
    Welcome,
    decode_first,
    encode_first,
    pack_hello,
    parse_hello,
    stream_ciphers,
)

#: An idle stream whose other end vanished ends after a few of these (and TCP_USER_TIMEOUT).
KEEPALIVE_S = 5
_RECEIVE_BYTES = 512 << 10
#: What may pile up here unread while a send waits.
MAX_AHEAD_BYTES = 64 << 20


class BlockingStream:
    """Send and receive whole messages; used by one thread at a time.

    Every method raises PeerError when the other side is gone, silent for `timeout_s`, or sends
    what it must not. `shutdown` may be called from any thread, to end a call that waits.
    """

    def __init__(
        self,
        sock: socket.socket,
        sealer: Sealer,
        opener: Opener,
        parser: FrameParser,
        timeout_s: float,
        unsent: bytes = b"",
    ) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
                sock.setsockopt(socket.IPPROTO_TCP, option, KEEPALIVE_S)
        self._sock = sock
        self._sealer = sealer
        self._opener = opener
        self._parser = parser
        self._timeout_s = timeout_s
        self._unsent = unsent
        self._messages: deque[bytes] = deque()
        self._poll = select.poll()
        self._ended = False
        self.sent_bytes = 0
        self.received_bytes = 0

    def send(self, message: bytes) -> None:
        """Send one message; returns when the kernel has it."""
        self._unsent += self._sealer.seal(pack_messages([message]))
        self._push()

    def receive(self, patient: bool = False) -> bytes:
        """The next message. `patient`: there is no hurry, only a connection that is dead ends
        the waiting (the kernel looks for it)."""
        if self._unsent:
            self._push()
        while not self._messages:
            record = self._parser.take()
            if record is not None:
                self._messages.extend(unpack_messages(self._opener.open(record)))
            elif self._ended:
                raise PeerError("closed by the other node")
            elif not self._take_in():
                self._wait(select.POLLIN, None if patient else self._timeout_s)
        return self._messages.popleft()

    def shutdown(self) -> None:
        """Cut the connection; calls that wait in other threads end with PeerError."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # It is cut already: that is what was wanted.

    def close(self) -> None:
        self._sock.close()

    def _push(self) -> None:
        data, self._unsent = memoryview(self._unsent), b""
        self.sent_bytes += len(data)
        TRAFFIC.sent(len(data))
        while data:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                ahead = self._parser.buffered_bytes < MAX_AHEAD_BYTES and not self._ended
                events = select.POLLOUT | (select.POLLIN if ahead else 0)
                if self._wait(events, self._timeout_s) & select.POLLIN:
                    self._take_in()
            except OSError as error:
                raise PeerError(f"cannot send: {error.strerror}") from error

    def _take_in(self) -> bool:
        """Read what is there, without waiting; whether something was."""
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            raise PeerError(f"cannot receive: {error.strerror}") from error
        if not data:
            self._ended = True
        self.received_bytes += len(data)
        TRAFFIC.received(len(data))
        self._parser.feed(data)
        return True

    def _wait(self, events: int, timeout_s: float | None) -> int:
        descriptor = self._sock.fileno()
        if descriptor < 0:
            raise PeerError("stream is closed")
        self._poll.register(descriptor, events)
        ready = self._poll.poll(None if timeout_s is None else timeout_s * 1000)
        if not ready:
            raise PeerError(f"no answer from the other node in {self._timeout_s:g} s")
        return ready[0][1]


def connect_blocking(
    address: str,
    port: int,
    key: bytes,
    hello: Hello,
    timeout_s: float,
    local_address: str | None = None,
) -> tuple[BlockingStream, Welcome]:
    """Dial, shake hands, authenticate. Raises PeerError; a refusal says why."""
    source = (local_address, 0) if local_address else None
    try:
        sock = socket.create_connection((address, port), timeout_s, source)
    except OSError as error:
        raise PeerError(f"cannot connect to {address} port {port}: {error}") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))
        return shake_hands_blocking(sock, key, hello, timeout_s)
    except OSError as error:
        sock.close()
        raise PeerError(f"handshake with {address} port {port} failed: {error}") from error
    except PeerError:
        sock.close()
        raise


def shake_hands_blocking(
    sock: socket.socket, key: bytes, hello: Hello, timeout_s: float
) -> tuple[BlockingStream, Welcome]:
    """The dialer's half of the handshake on a connected socket."""
    nonce = os.urandom(NONCE_BYTES)
    sock.settimeout(timeout_s)
    sock.sendall(pack_hello(nonce))
    answer = b""
    deadline_s = time.monotonic() + timeout_s
    while len(answer) < HELLO_BYTES:
        data = sock.recv(HELLO_BYTES - len(answer))
        if not data or time.monotonic() > deadline_s:
            raise PeerError("no hello from the other node (it is busy, or not a safepy)")
        answer += data
    sealer, opener = stream_ciphers(key, nonce, parse_hello(answer), dialer=True)
    parser = FrameParser(MAX_FIRST_RECORD_BYTES)
    stream = BlockingStream(sock, sealer, opener, parser, timeout_s)
    stream.send(encode_first(hello))
    first = decode_first(stream.receive())
    if isinstance(first, Refused):
        raise PeerError(f"refused by {first.node}: {first.detail}")
    if not isinstance(first, Welcome):
        raise PeerError("expected a welcome")
    parser.maximum_bytes = MAX_RECORD_BYTES
    return stream, first
