"""A TCP relay between two workers on loopback, which a test can cut, stop or falsify."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time


class Relay:
    """Listens at `address` and connects to `target` from `source` for each connection it gets.

    `cut` resets every connection, `cut_near` one end of each (the other one is half-open then);
    with `refuse` set new ones are reset at once. `stop` leaves the connections open and carries
    nothing. `falsify` flips one bit in the next piece that comes from the listener's side."""

    def __init__(self, address: str, target: tuple[str, int], source: str) -> None:
        self._target = target
        self._source = source
        self._listener = socket.create_server((address, 0))
        self._selector = selectors.DefaultSelector()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._near: list[socket.socket] = []
        self._left: list[socket.socket] = []
        self._lock = threading.Lock()
        self._ended = False
        self.refuse = False
        self.stop = False
        self.falsify = False
        self.accepted = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def cut(self) -> None:
        with self._lock:
            for end in list(self._pairs):
                self._reset(end)

    def cut_near(self) -> None:
        """The ends of those who dialled are reset; the listener's end of each connection stays
        open and nothing comes from it."""
        with self._lock:
            for near in self._near:
                far = self._pairs.pop(near, None)
                if far is not None:
                    self._pairs.pop(far)
                    self._selector.unregister(near)
                    self._selector.unregister(far)
                    self._end(near)
                    self._left.append(far)
            self._near.clear()

    def far_end_is_closed(self, limit_s: float) -> bool:
        """Of what `cut_near` left open: the listener closed each one within this time."""
        until_s = time.monotonic() + limit_s
        for far in self._left:
            far.settimeout(max(0.01, until_s - time.monotonic()))
            try:
                while far.recv(1 << 16):
                    pass
            except TimeoutError:
                return False
            except ConnectionResetError:
                pass
        return bool(self._left)

    def close(self) -> None:
        self._ended = True
        for far in self._left:
            far.close()
        self._thread.join(5)
        self.cut()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._ended:
            for key, _ in self._selector.select(0.02):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj in self._pairs:
                        self._carry(key.fileobj)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        self.accepted += 1
        if self.refuse:
            self._end(near)
            return
        try:
            far = socket.create_connection(self._target, 5, source_address=(self._source, 0))
        except OSError:
            self._end(near)
            return
        self._near.append(near)
        for one, other in ((near, far), (far, near)):
            one.settimeout(5)
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, end: socket.socket) -> None:
        if self.stop:
            return
        try:
            data = end.recv(1 << 16)
            if not data:
                self._drop(end, reset=False)
                return
            if self.falsify and len(data) > 8:
                self.falsify = False
                data = data[:-1] + bytes([data[-1] ^ 1])
            self._pairs[end].sendall(data)
        except OSError:
            self._reset(end)

    def _reset(self, end: socket.socket) -> None:
        self._drop(end, reset=True)

    def _drop(self, end: socket.socket, reset: bool) -> None:
        other = self._pairs.pop(end, None)
        if other is None:
            return
        self._pairs.pop(other, None)
        for one in (end, other):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            self._end(one, reset)

    @staticmethod
    def _end(end: socket.socket, reset: bool = True) -> None:
        with contextlib.suppress(OSError):
            if not reset:
                end.shutdown(socket.SHUT_WR)
                end.close()
                return
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
