"""Length-prefixed records: an incremental parser with a hard maximum (S4, F33).

A record is a big-endian u32 length and that many bytes. A length above the maximum is refused
when its four bytes are there, before anything is kept for it.
"""

from __future__ import annotations

import struct

from safepy.errors import PeerError

LENGTH = struct.Struct(">I")

#: Largest record after authentication; the only ones before it are far smaller.
MAX_RECORD_BYTES = (1 << 20) + (64 << 10)


class FrameParser:
    """Feed it what arrives, in any pieces; take whole records out.

    `maximum_bytes` may be changed between two records (small before authentication).
    """

    __slots__ = ("_buffer", "_start", "maximum_bytes")

    def __init__(self, maximum_bytes: int = MAX_RECORD_BYTES) -> None:
        self.maximum_bytes = maximum_bytes
        self._buffer = bytearray()
        self._start = 0

    @property
    def buffered_bytes(self) -> int:
        return len(self._buffer) - self._start

    def feed(self, data: bytes | memoryview) -> None:
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def take(self) -> bytes | None:
        """The next whole record without its length, or None when more must arrive.

        Raises PeerError for a length above the maximum; the stream is then of no more use.
        """
        start = self._start
        have = len(self._buffer) - start
        if have < 4:
            return None
        (length,) = LENGTH.unpack_from(self._buffer, start)
        if length > self.maximum_bytes:
            raise PeerError(f"record of {length} bytes refused, at most {self.maximum_bytes}")
        if have < 4 + length:
            return None
        self._start = start + 4 + length
        return bytes(memoryview(self._buffer)[start + 4 : self._start])

    def take_exactly(self, size: int) -> bytes | None:
        """`size` raw bytes (the hello, which has no length), or None when more must arrive."""
        if self.buffered_bytes < size:
            return None
        start = self._start
        self._start = start + size
        return bytes(memoryview(self._buffer)[start : self._start])


def pack_messages(messages: list[bytes]) -> bytes:
    """Many messages as the clear text of one record."""
    pack = LENGTH.pack
    parts: list[bytes] = []
    for message in messages:
        parts.append(pack(len(message)))
        parts.append(message)
    return b"".join(parts)


def unpack_messages(clear: bytes) -> list[bytes]:
    """The messages of one record; an empty record (keepalive) has none.

    Raises PeerError when the lengths do not add up.
    """
    messages: list[bytes] = []
    at, end = 0, len(clear)
    unpack = LENGTH.unpack_from
    while at < end:
        if end - at < 4:
            raise PeerError("message length cut off inside a record")
        (length,) = unpack(clear, at)
        at += 4
        if length > end - at:
            raise PeerError("message longer than its record")
        messages.append(clear[at : at + length])
        at += length
    return messages
