"""As much of PostgreSQL's protocol as a load needs: trust, simple queries, text results."""

from __future__ import annotations

import socket
import struct
from types import TracebackType


class Refused(Exception):
    """The server answered with an error; nothing of the transaction was committed."""


class Connection:
    """Raises `OSError` when the connection breaks: what was under way may or may not be done."""

    def __init__(self, host: str, *, timeout_s: float, user: str = "postgres") -> None:
        self._socket = socket.create_connection((host, 5432), timeout=timeout_s)
        try:
            fields = b"user\0" + user.encode() + b"\0database\0postgres\0\0"
            start = struct.pack("!II", len(fields) + 8, 196608) + fields
            self._socket.sendall(start)
            self._answer()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def query(self, sql: str) -> list[list[str | None]]:
        """Run one query string to its end; rows of the last result. Raises `Refused`."""
        text = sql.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
        return self._answer()

    def _answer(self) -> list[list[str | None]]:
        rows: list[list[str | None]] = []
        refusal: str | None = None
        while True:
            kind, body = self._message()
            if kind == b"E":
                fields = (field for field in body.split(b"\0") if field)
                refusal = next((f[1:].decode() for f in fields if f[:1] == b"M"), "error")
                if b"SFATAL\0" in body:
                    raise Refused(refusal)
            elif kind == b"T":
                rows = []
            elif kind == b"D":
                rows.append(_row(body))
            elif kind == b"R" and body[:4] != b"\0\0\0\0":
                raise Refused("the server wants a password")
            elif kind == b"Z":
                if refusal is not None:
                    raise Refused(refusal)
                return rows

    def _message(self) -> tuple[bytes, bytes]:
        kind = self._exactly(1)
        (length,) = struct.unpack("!I", self._exactly(4))
        return kind, self._exactly(length - 4)

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise ConnectionResetError("the server closed the connection")
            parts += part
        return bytes(parts)


def _row(body: bytes) -> list[str | None]:
    (count,) = struct.unpack_from("!H", body)
    at = 2
    values: list[str | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        if length < 0:
            values.append(None)
            continue
        values.append(body[at : at + length].decode())
        at += length
    return values


def anywhere(hosts: list[str], *, timeout_s: float = 1.0) -> Connection:
    """A connection to whichever host serves. Raises `OSError` when none does."""
    for host in hosts:
        try:
            return Connection(host, timeout_s=timeout_s)
        except (OSError, Refused):
            continue
    raise ConnectionRefusedError(f"no server at {', '.join(hosts)}")
