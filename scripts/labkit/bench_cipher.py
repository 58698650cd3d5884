"""What encryption costs: a record sealed on one side and opened on the other, in this process.

There is no switch that would turn encryption off, so its part of a write is measured by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from safepy.host.memory import keep_large_buffers
from safepy.wire.secure import MAX_CLEAR_BYTES, stream_ciphers

_KEY = bytes(range(32))
_SECONDS = 0.5


@dataclass(frozen=True)
class Cipher:
    """Microseconds of processor for one record, both sides together."""

    bytes: int
    both_us: float


def measure() -> list[Cipher]:
    keep_large_buffers()  # as the worker does
    return [_measured(size) for size in (128, 4 << 10, 128 << 10, MAX_CLEAR_BYTES)]


def _measured(size: int) -> Cipher:
    here, _ = stream_ciphers(_KEY, b"a" * 32, b"b" * 32, dialer=True)
    _, there = stream_ciphers(_KEY, b"a" * 32, b"b" * 32, dialer=False)
    clear = bytes(size)
    records = 0
    begun = time.process_time()
    while (used := time.process_time() - begun) < _SECONDS:
        for _ in range(16):
            there.open(here.seal(clear)[4:])
        records += 16
    return Cipher(size, used / records * 1e6)
