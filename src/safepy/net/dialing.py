"""How a stream comes to be, on the loop: listening and dialing, with the handshake (S1, S3).

Dialer and listener each send a hello of 40 bytes, then the dialer's first record says who it is
and proves the key, and the listener's answer (welcome or refusal) proves it in return. Before
that a connection costs a few kilobytes, lives at most five seconds, and few exist at a time: one
more pushes the oldest out, so whoever holds them all open cannot keep the other node out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection
from errno import EINPROGRESS

from safepy.errors import PeerError
from safepy.host.loop import Callback, Loop
from safepy.net.peer import SecureStream, tune
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

HANDSHAKE_LIMIT_S = 5.0
MAX_UNAUTHENTICATED = 32
#: A refused connection is told to the log at most this often.
REFUSAL_LOG_S = 10.0
_ACCEPT_PAUSE_S = 1.0

OnAccept = Callable[[Hello, "Incoming"], None]
OnOpen = Callable[[SecureStream, Welcome], None]
OnFailed = Callable[[str, Refused | None], None]


class _Handshake:
    """What both halves share: a socket on the loop, a time limit, a small parser."""

    def __init__(
        self, loop: Loop, sock: socket.socket, key: bytes, limit_s: float = HANDSHAKE_LIMIT_S
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._key = key
        self._nonce = os.urandom(NONCE_BYTES)
        self._parser = FrameParser(MAX_FIRST_RECORD_BYTES)
        self._ciphers: tuple[Sealer, Opener] | None = None
        self._live = True
        self._timer = loop.call_later(limit_s, lambda: self._end("handshake took too long"))

    def _read(self) -> None:
        then: Callback | None = None
        try:
            # More than one record may come (the dialer's first messages): all is kept.
            data = self._sock.recv(HELLO_BYTES + 4 + MAX_FIRST_RECORD_BYTES)
            if not data:
                raise PeerError("closed during the handshake")
            self._parser.feed(data)
            then = self._advance()
        except BlockingIOError:
            return
        except (OSError, PeerError) as error:
            self._end(str(error))
        if then is not None:
            then()  # Outside of the try: what it raises is not the peer's fault.

    def _advance(self) -> Callback | None:
        """Deal with what has arrived; returns what to call when this half is done."""
        raise NotImplementedError

    def _first_record(self) -> Hello | Welcome | Refused | None:
        assert self._ciphers is not None
        record = self._parser.take()
        if record is None:
            return None
        messages = unpack_messages(self._ciphers[1].open(record))
        if len(messages) != 1:
            raise PeerError("the first record must hold one message")
        return decode_first(messages[0])

    def _send(self, data: bytes) -> None:
        # A new connection's buffer takes these few bytes, or something is wrong with it.
        if self._sock.send(data) != len(data):
            raise PeerError("the handshake could not be sent")

    def _send_first(self, message: Hello | Welcome | Refused) -> None:
        assert self._ciphers is not None
        self._send(self._ciphers[0].seal(pack_messages([encode_first(message)])))

    def _release(self) -> bool:
        """Take the socket off the loop; whether it was on it."""
        if not self._live:
            return False
        self._live = False
        self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        return True

    def _become_stream(self) -> SecureStream:
        assert self._ciphers is not None
        self._release()
        self._parser.maximum_bytes = MAX_RECORD_BYTES
        return SecureStream(self._loop, self._sock, *self._ciphers, self._parser)

    def _end(self, reason: str) -> None:
        if self._release():
            self._sock.close()


class Incoming(_Handshake):
    """An accepted connection. Once its hello was authentic, `on_accept` gets it and calls
    `welcome` or `refuse`, at once or within the handshake's time limit."""

    def __init__(
        self, loop: Loop, sock: socket.socket, key: bytes, listener: Listener, address: str
    ) -> None:
        super().__init__(loop, sock, key)
        self.address = address
        self._listener = listener
        self._hello: Hello | None = None
        loop.add_reader(sock.fileno(), self._read)

    def welcome(self, welcome: Welcome) -> SecureStream | None:
        """Answer yes. Set the stream's callbacks at once. None when the dialer is gone."""
        if not self._live:
            return None
        try:
            self._send_first(welcome)
        except (OSError, PeerError) as error:
            self._end(str(error))
            return None
        self._listener._forget(self)
        return self._become_stream()

    def refuse(self, refused: Refused) -> None:
        """Answer no, and close."""
        if not self._live:
            return
        try:
            self._send_first(refused)
        except (OSError, PeerError) as error:
            self._end(str(error))
            return
        self._listener._forget(self)
        self._release()
        self._sock.close()

    def _advance(self) -> Callback | None:
        if self._ciphers is None:
            packed = self._parser.take_exactly(HELLO_BYTES)
            if packed is None:
                return None
            nonce = parse_hello(packed)
            self._send(pack_hello(self._nonce))
            self._ciphers = stream_ciphers(self._key, nonce, self._nonce, dialer=False)
        if self._hello is not None:
            if self._parser.buffered_bytes > 2 * MAX_FIRST_RECORD_BYTES:
                raise PeerError("sends without waiting for the answer")
            return None
        first = self._first_record()
        if first is None:
            return None
        if not isinstance(first, Hello):
            raise PeerError("expected a hello")
        self._hello = first
        return lambda: self._listener._on_accept(first, self)

    def _end(self, reason: str) -> None:
        if self._live:
            super()._end(reason)
            self._listener._forget(self)
            self._listener._refused(f"connection from {self.address} refused: {reason}")


class Listener:
    """Accepts streams of one module on one address. Raises OSError when it cannot listen.

    `allowed`: source addresses that may connect at all (S5); empty means any. `on_refused` gets
    a line for the log now and then.
    """

    def __init__(
        self,
        loop: Loop,
        address: str,
        port: int,
        key: bytes,
        on_accept: OnAccept,
        on_refused: Callable[[str], None],
        allowed: Collection[str] = (),
        max_unauthenticated: int = MAX_UNAUTHENTICATED,
    ) -> None:
        self._loop = loop
        self._key = key
        self._on_accept = on_accept
        self._on_refused = on_refused
        self._allowed = frozenset(allowed)
        self._max_unauthenticated = max_unauthenticated
        self._incoming: dict[Incoming, None] = {}  # the oldest first
        self._silent_until_s = 0.0
        self._unsaid = 0
        #: Connections that were turned away, or that failed to prove themselves.
        self.refusals = 0
        self._open = True
        self._sock = _listening_socket(address, port)
        loop.add_reader(self._sock.fileno(), self._accept)

    @property
    def port(self) -> int:
        port = self._sock.getsockname()[1]
        assert isinstance(port, int)
        return port

    def close(self) -> None:
        """Stop listening; streams that were welcomed live on."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for incoming in list(self._incoming):
            incoming._end("no longer listening")

    def _accept(self) -> None:
        try:
            sock, peer = self._sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._refused(f"cannot accept: {error.strerror}")
            self._loop.remove_reader(self._sock.fileno())
            self._loop.call_later(_ACCEPT_PAUSE_S, self._accept_again)
            return
        address = str(peer[0])
        sock.setblocking(False)
        if self._allowed and address not in self._allowed:
            sock.close()
            self._refused(f"connection from {address} refused: not the other node")
            return
        if len(self._incoming) >= self._max_unauthenticated:
            next(iter(self._incoming))._end("too many handshakes at once")
        try:
            tune(sock)
        except OSError:  # gone already
            sock.close()
            return
        self._incoming[Incoming(self._loop, sock, self._key, self, address)] = None

    def _accept_again(self) -> None:
        if self._open:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _forget(self, incoming: Incoming) -> None:
        self._incoming.pop(incoming, None)

    def _refused(self, line: str) -> None:
        self.refusals += 1
        now_s = self._loop.now_s
        if now_s < self._silent_until_s:
            self._unsaid += 1
            return
        self._silent_until_s = now_s + REFUSAL_LOG_S
        more = f" (and {self._unsaid} more before)" if self._unsaid else ""
        self._unsaid = 0
        self._on_refused(line + more)


class Dial(_Handshake):
    """One try to reach the other node; see `dial`."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        key: bytes,
        hello: Hello,
        on_open: OnOpen,
        on_failed: OnFailed,
        limit_s: float,
    ) -> None:
        super().__init__(loop, sock, key, limit_s)
        self._hello = hello
        self._on_open = on_open
        self._on_failed = on_failed
        loop.add_writer(sock.fileno(), self._connected)

    def cancel(self) -> None:
        """Give up; no callback comes."""
        super()._end("")

    def _connected(self) -> None:
        number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._end(f"cannot connect: {os.strerror(number)}")
            return
        self._loop.remove_writer(self._sock.fileno())
        try:
            self._send(pack_hello(self._nonce))
        except (OSError, PeerError) as error:
            self._end(str(error))
            return
        self._loop.add_reader(self._sock.fileno(), self._read)

    def _advance(self) -> Callback | None:
        if self._ciphers is None:
            packed = self._parser.take_exactly(HELLO_BYTES)
            if packed is None:
                return None
            nonce = parse_hello(packed)
            self._ciphers = stream_ciphers(self._key, self._nonce, nonce, dialer=True)
            self._send_first(self._hello)
        first = self._first_record()
        if first is None:
            return None
        if isinstance(first, Refused):
            return lambda: self._end(f"refused by {first.node}: {first.detail}", first)
        if isinstance(first, Welcome):
            return lambda: self._on_open(self._become_stream(), first)
        raise PeerError("expected a welcome")

    def _end(self, reason: str, refused: Refused | None = None) -> None:
        if self._live:
            super()._end(reason)
            self._on_failed(reason, refused)


def dial(
    loop: Loop,
    address: str,
    port: int,
    key: bytes,
    hello: Hello,
    on_open: OnOpen,
    on_failed: OnFailed,
    local_address: str = "",
    limit_s: float = HANDSHAKE_LIMIT_S,
) -> Dial:
    """Connect, shake hands, authenticate; exactly one of the callbacks comes, in a later turn.

    `on_failed` gets the listener's refusal when there was one. Raises OSError when the
    addresses cannot be used at all.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    failed_at_once = ""
    try:
        tune(sock)
        if local_address:
            sock.bind((local_address, 0))
        number = sock.connect_ex((address, port))
        if number not in (0, EINPROGRESS):
            failed_at_once = f"cannot connect: {os.strerror(number)}"
    except OSError:
        sock.close()
        raise
    dialing = Dial(loop, sock, key, hello, on_open, on_failed, limit_s)
    if failed_at_once:
        loop.post(lambda: dialing._end(failed_at_once))
    return dialing


def _listening_socket(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(64)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
