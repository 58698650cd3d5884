"""The time with which the kernel would stamp a file now."""

from __future__ import annotations

import os


class StampClock:
    """Asked for by touching a file of our own, in memory.

    No clock of clock_gettime(2) will do. A fine one runs ahead of the stamps that the kernel
    takes from the last tick, so "now" would lie after the write that comes next; the coarse one
    falls behind since Linux 6.13, which gives finer stamps where somebody looks.
    """

    def __init__(self) -> None:
        self._fd = os.memfd_create("safepy-stamps", os.MFD_CLOEXEC)

    def now_ns(self) -> int:
        os.utime(self._fd)
        return os.stat(self._fd).st_mtime_ns

    def __del__(self) -> None:
        os.close(self._fd)
