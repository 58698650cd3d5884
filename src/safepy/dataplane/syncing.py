"""Syncs beside the loop: what is begun here ends later, and the loop goes on meanwhile."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from safepy.core.replica.ops import Fsync
from safepy.host.loop import Loop
from safepy.storage.backing import run_sync

#: Syncs under way at the same time; file systems carry many out with one write of their journal.
SYNC_THREADS = 8

#: errno, or 0: durable.
Then = Callable[[int], None]


class Syncer:
    """`then` of each sync is called once, in a later turn of the loop.

    Bare threads with a queue: the futures and locks of an executor take a fifth of the time that
    an fdatasync takes. (The kernel's own asynchronous fsync is faster on an idle machine and many
    times slower on a busy one: its threads wait behind everybody else's.)
    """

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._queue: SimpleQueue[tuple[Fsync, int, Then] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(SYNC_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, op: Fsync, fd: int, then: Then) -> None:
        """Make durable what `op` names. `fd`, of `Tree.sync_descriptor`, is closed here."""
        self._queue.put((op, fd, then))

    def close(self, wait: bool = False) -> None:
        """Nothing is begun any more; what was begun ends by itself (`wait`: before this returns),
        and is told."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _run(self) -> None:
        while (asked := self._queue.get()) is not None:
            op, fd, then = asked
            number = 0
            try:
                run_sync(op, fd)
            except OSError as error:
                number = error.errno or errno.EIO
            self._loop.post(partial(then, number))
