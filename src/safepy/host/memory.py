"""How the C library keeps memory for this process."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE_BUFFER_BYTES = 32 << 20
_KEPT_FREE_BYTES = 128 << 20


def keep_large_buffers() -> None:
    """Have freed buffers of up to 32 MiB used again instead of given back to the kernel.

    A write of 1 MiB passes through several buffers of that size; mapping, zeroing and unmapping
    each of them anew cost more than all copying (measured: 115 to 190 MiB/s, sequential writes
    replicated on one machine). Another C library than glibc has no `mallopt`, and needs none.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BUFFER_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
