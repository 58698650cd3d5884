"""Syncs beside the loop: what is begun here ends later, and the loop goes on meanwhile.

fsync and fdatasync of one object go to the kernel (`storage/aio.py`); syncfs, for which it has no
such thing, and whatever the kernel does not take, to a few threads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from safepy.core.replica.ops import Fsync
from safepy.host.loop import Loop
from safepy.storage.aio import KernelSyncs
from safepy.storage.backing import run_sync

SYNC_THREADS = 4

#: errno, or 0: durable.
Then = Callable[[int], None]


class Syncer:
    """`then` of each sync is called once, in a later turn of the loop."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(SYNC_THREADS, name)
        self._running: dict[int, Then] = {}
        self._numbers = count()
        self._closed = False
        self._kernel: KernelSyncs | None = None
        try:
            self._kernel = KernelSyncs()
        except OSError:
            return  # threads do it as well, if more slowly
        loop.add_reader(self._kernel.fd, self._ended)

    def start(self, op: Fsync, fd: int, then: Then) -> None:
        """Make durable what `op` names. `fd`, of `Tree.sync_descriptor`, is closed here."""
        if op.handle and self._kernel is not None:
            number = next(self._numbers)
            try:
                self._kernel.submit(fd, op.data_only, number)
            except OSError:
                pass  # too many, or no such thing for this object: a thread will say
            else:
                os.close(fd)
                self._running[number] = then
                return
        self._pool.submit(self._in_thread, op, fd, then)

    def close(self) -> None:
        """Nothing is begun any more; what is under way ends by itself, and is told."""
        self._closed = True
        self._pool.shutdown(wait=False)
        self._end_kernel()

    def _in_thread(self, op: Fsync, fd: int, then: Then) -> None:
        number = 0
        try:
            run_sync(op, fd)
        except OSError as error:
            number = error.errno or errno.EIO
        self._loop.post(lambda: then(number))

    def _ended(self) -> None:
        assert self._kernel is not None
        for number, code in self._kernel.ended():
            self._running.pop(number)(code)
        if self._closed:
            self._end_kernel()

    def _end_kernel(self) -> None:
        if self._kernel is not None and not self._running:
            self._loop.remove_reader(self._kernel.fd)
            self._kernel.close()
            self._kernel = None
