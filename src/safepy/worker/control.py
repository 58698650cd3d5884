"""The socket pair to the daemon: orders in, reports out, one JSON document a datagram."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from safepy.host.loop import Loop
from safepy.worker import messages
from safepy.worker.messages import Order, Report

#: An order is small; the largest is `Setup` with its list of directories.
ORDER_BYTES_MAX = 256 * 1024
#: What the daemon takes in one datagram.
REPORT_BYTES_MAX = 64 * 1024


class Control:
    """Hands each order to `on_order`, and calls `on_gone` when the daemon is no more.

    The daemon's death is the worker's: without it nobody renews the gate or decides anything,
    and a new daemon starts a new worker.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_order: Callable[[Order], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._on_order = on_order
        self._on_gone = on_gone
        self._waiting: deque[bytes] = deque()
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._receive)

    def report(self, report: Report) -> None:
        """Send a report; kept in order when the daemon is slow to read.

        One that would be too long is said to be: it could end this worker, and whoever made it so
        long may be the other node (S4)."""
        data = messages.encode(report)
        if len(data) > REPORT_BYTES_MAX:
            text = f"a report of {len(data)} bytes is not passed on ({type(report).__name__})"
            data = messages.encode(messages.Log("nfsbox", "E", text))
        self._waiting.append(data)
        self._send()

    def _send(self) -> None:
        while self._waiting:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._send)
                return
            except OSError:
                self._on_gone()
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        while True:
            try:
                data = self._socket.recv(ORDER_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._on_gone()
                return
            self._on_order(messages.ORDER.decode(data))
