"""A read that the local disk refuses is answered from the secondary (F45).

The application notices nothing but the time it takes; the operator is told at once. A disk that
refuses more than a few reads is not trusted any more: that is a fault as any other (F43).
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from safepy.errors import PeerError
from safepy.wire import replication as wire

#: Reads of one serving period that may be refused before the disk counts as broken.
REFUSED_READS_MAX = 8

#: (errno or 0, what was read)
Then = Callable[[int, bytes], None]


class Rescue:
    """At the primary. `ask` sends a request, in order among the operations, and says whether the
    secondary can be asked now. `refused(tree, handle, offset, size)` hears of every read that the
    disk refused, `broken` once when there were too many."""

    def __init__(
        self,
        ask: Callable[[wire.ReadAt], bool],
        refused: Callable[[int, int, int, int], None],
        broken: Callable[[str], None],
    ) -> None:
        self._ask = ask
        self._refused = refused
        self._broken = broken
        self._number = 0
        self._count = 0
        #: By number: how much was asked for, and who waits for it.
        self._waiting: dict[int, tuple[int, Then]] = {}

    def read(self, tree: int, handle: int, offset: int, size: int, then: Then) -> None:
        """Read from the secondary; EIO if that cannot be."""
        self._count += 1
        self._refused(tree, handle, offset, size)
        if self._count == REFUSED_READS_MAX:
            self._broken(f"the disk refused {self._count} reads")
        self._number += 1
        self._waiting[self._number] = (size, then)
        if not self._ask(wire.ReadAt(self._number, tree, handle, offset, size)):
            self._waiting.pop(self._number)[1](errno.EIO, b"")

    def answered(self, message: wire.ReadDone) -> None:
        """Raises PeerError for an answer to something else: the kernel refuses more than it asked
        for."""
        size, then = self._waiting.pop(message.number, (0, None))
        if then is None:
            return
        if len(message.data) > size:
            then(errno.EIO, b"")
            raise PeerError("more was read than was asked for")
        then(message.errno, message.data)

    def interrupted(self) -> None:
        """The stream is gone, and with it the answers."""
        waiting, self._waiting = self._waiting, {}
        for _, then in waiting.values():
            then(errno.EIO, b"")
