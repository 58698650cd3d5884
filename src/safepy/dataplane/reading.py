"""Reads that would wait for the disk, beside the loop: nobody else waits for them then."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from safepy.host.loop import Loop

READ_THREADS = 8

#: (errno or 0, what was read)
Then = Callable[[int, bytes], None]


class ColdReader:
    """A few threads that read. `then` is called in the loop's thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(READ_THREADS, "cold-read")

    def read(self, fd: int, offset: int, size: int, then: Then) -> None:
        """`fd` belongs to the reader from now on."""
        self._pool.submit(self._read, fd, offset, size, then)

    def close(self) -> None:
        """Reads under way end by themselves; whoever asked may not listen any more."""
        self._pool.shutdown(wait=False)

    def _read(self, fd: int, offset: int, size: int, then: Then) -> None:
        number, data = 0, b""
        try:
            data = os.pread(fd, size, offset)
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os.close(fd)
        self._loop.post(lambda: then(number, data))
