"""The encrypted TCP stream to the other node's worker, on the worker's loop.

One side listens, the other dials (`net/dialing.py` holds the handshakes). What is sent during a
turn of the loop leaves at its end in few records, or earlier when some messages have gathered: the
other node works on these while the turn goes on. `net/blocking.py` is the same stream for threads.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary

from safepy.errors import PeerError
from safepy.host.loop import Loop
from safepy.net.blocking import BlockingStream
from safepy.net.traffic import TRAFFIC
from safepy.wire.framing import FrameParser, pack_messages, unpack_messages
from safepy.wire.secure import MAX_CLEAR_BYTES, MAX_MESSAGE_BYTES, Opener, Sealer

KEEPALIVE_S = 1.0
#: How long sent bytes may stay unacknowledged by the other kernel.
USER_TIMEOUT_MS = 5_000
#: More than the window of the protocol above (64 MiB of data), so that it never gets there.
MAX_BUFFERED_BYTES = 96 << 20
_RECEIVE_BYTES = 256 << 10
#: So many messages are worth a record, and a system call, of their own. Measured with 16 writers
#: and both nodes on one machine: a fifth more writes than with all of a turn at its end; smaller
#: groups cost more system calls than they gain.
GATHERED_MESSAGES = 8
#: Records received in one turn: other descriptors get their turn too.
_RECEIVES_A_TURN = 4

OnMessages = Callable[[list[bytes]], None]
OnClosed = Callable[[str], None]


def tune(sock: socket.socket) -> None:
    """Options that every stream between workers has."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


class SecureStream:
    """An authenticated stream on the loop. Made by `Listener` and `dial`.

    Set `on_messages` and `on_closed` before anything can arrive (in the callback that hands the
    stream over). `on_closed` is called once, with a sentence, and not after `close`.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        sealer: Sealer,
        opener: Opener,
        parser: FrameParser,
        max_buffered_bytes: int = MAX_BUFFERED_BYTES,
    ) -> None:
        self.on_messages: OnMessages | None = None
        self.on_closed: OnClosed | None = None
        self._loop = loop
        self._sock = sock
        self._sealer = sealer
        self._opener = opener
        self._parser = parser
        self._max_buffered_bytes = max_buffered_bytes
        self._messages: list[bytes] = []
        self._messages_bytes = 0
        self._unsent = bytearray()
        self._writing = False
        self._open = True
        self._heard_s = loop.now_s
        self._flusher = _Flusher.of(loop)
        self._keepalive = loop.call_later(KEEPALIVE_S, self._keep_alive)
        loop.add_reader(sock.fileno(), self._readable)
        # Records may have come together with the handshake.
        loop.post(self._deliver)

    @property
    def last_heard_s(self) -> float:
        """When something authentic arrived last, on the loop's clock."""
        return self._heard_s

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait here because the kernel does not take them yet."""
        return len(self._unsent) + self._messages_bytes

    def send(self, message: bytes) -> None:
        """Queue one message, at most MAX_MESSAGE_BYTES; it leaves at the end of the turn, or
        with the next ones.

        Nothing happens on a closed stream. One whose buffer is full is closed (`on_closed` in a
        later turn): the window of the protocol above must keep it from happening.
        """
        if not self._open:
            return
        size = len(message)
        if size > MAX_MESSAGE_BYTES:
            raise ValueError(f"message of {size} bytes, at most {MAX_MESSAGE_BYTES}")
        messages = self._messages
        if not messages:
            self._flusher.want(self)
        messages.append(message)
        self._messages_bytes += size + 4
        if self._messages_bytes + len(self._unsent) > self._max_buffered_bytes:
            self._loop.post(lambda: self._fail("send buffer full"))
        elif len(messages) >= GATHERED_MESSAGES:
            self.flush()

    def flush(self) -> None:
        """Send now what the turn's end would."""
        if not self._open:
            return
        if self._messages:
            for clear in _records(self._messages):
                self._unsent += self._sealer.seal(clear)
            self._messages = []
            self._messages_bytes = 0
        if not self._writing:
            self._write()

    def close(self) -> None:
        """Send what is possible at once and close; `on_closed` is not called."""
        if self._open:
            self.flush()
        if self._open:
            self._leave_loop()
            self._sock.close()

    def detach(self, timeout_s: float) -> BlockingStream:
        """Take the stream off the loop, for a thread. What is unsent goes along."""
        if not self._open:
            raise PeerError("stream is closed")
        self.flush()
        if not self._open:
            raise PeerError("stream is closed")
        self._leave_loop()
        return BlockingStream(
            self._sock, self._sealer, self._opener, self._parser, timeout_s, bytes(self._unsent)
        )

    def _leave_loop(self) -> None:
        self._open = False
        self._keepalive.cancel()
        self._loop.remove_reader(self._sock.fileno())
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock.fileno())

    def _fail(self, reason: str) -> None:
        if not self._open:
            return
        self._leave_loop()
        self._sock.close()
        if self.on_closed is not None:
            self.on_closed(reason)

    def _keep_alive(self) -> None:
        if not self._messages and not self._unsent:
            self._unsent += self._sealer.seal(b"")
            self._write()
        if self._open:
            self._keepalive = self._loop.call_later(KEEPALIVE_S, self._keep_alive)

    def _write(self) -> None:
        unsent = self._unsent
        if unsent:
            try:
                sent = self._sock.send(unsent)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                # The caller is in the middle of something: tell it in the next turn.
                reason = f"cannot send: {error.strerror}"
                self._loop.post(lambda: self._fail(reason))
                return
            TRAFFIC.sent(sent)
            del unsent[:sent]
        if bool(unsent) != self._writing:
            self._writing = bool(unsent)
            if unsent:
                self._loop.add_writer(self._sock.fileno(), self._write)
            else:
                self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        parser = self._parser
        for _ in range(_RECEIVES_A_TURN):
            try:
                data = self._sock.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(f"cannot receive: {error.strerror}")
                return
            if not data:
                self._fail("closed by the other node")
                return
            TRAFFIC.received(len(data))
            parser.feed(data)
            self._deliver()
            if not self._open or len(data) < _RECEIVE_BYTES:
                return

    def _deliver(self) -> None:
        """Hand on what is whole. A bad record closes; what came before it is handed on."""
        if not self._open:
            return
        messages: list[bytes] = []
        failure = ""
        try:
            while (record := self._parser.take()) is not None:
                messages += unpack_messages(self._opener.open(record))
                self._heard_s = self._loop.now_s
        except PeerError as error:
            failure = str(error)
        if messages and self.on_messages is not None:
            self.on_messages(messages)
        if failure:
            self._fail(failure)


def _records(messages: list[bytes]) -> list[bytes]:
    """Clear texts of as few records as the messages fit in."""
    total = sum(map(len, messages)) + 4 * len(messages)
    if total <= MAX_CLEAR_BYTES:
        return [pack_messages(messages)]
    records: list[bytes] = []
    start = size = 0
    for index, message in enumerate(messages):
        if size + len(message) + 4 > MAX_CLEAR_BYTES:
            records.append(pack_messages(messages[start:index]))
            start, size = index, 0
        size += len(message) + 4
    records.append(pack_messages(messages[start:]))
    return records


def _nothing() -> None:
    pass


class _Flusher:
    """One callback at the turn's end for all streams of a loop, however many come and go."""

    _all: ClassVar[WeakKeyDictionary[Loop, _Flusher]] = WeakKeyDictionary()

    def __init__(self, loop: Loop) -> None:
        self._waiting: list[SecureStream] = []
        loop.at_turn_end(self._flush)

    @classmethod
    def of(cls, loop: Loop) -> _Flusher:
        flusher = cls._all.get(loop)
        if flusher is None:
            flusher = cls._all[loop] = cls(loop)
        return flusher

    def want(self, stream: SecureStream) -> None:
        self._waiting.append(stream)
        # Sent by another callback of the turn's end, or outside of a turn: then the next turn
        # must come at once. Within a turn this costs nothing.
        stream._loop.post(_nothing)

    def _flush(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for stream in waiting:
                stream.flush()
