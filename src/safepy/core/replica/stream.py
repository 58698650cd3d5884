"""The primary's window: what was sent and not yet acknowledged (protocol 4.4, I13).

Sequence numbers count from 1 for each stream. Acknowledgements are cumulative; an operation that
the peer *completes* separately (fsync) is left when both its acknowledgement and its
completion came. Time comes in as an argument: seconds on any one monotonic clock.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from safepy.errors import PeerError

MAX_OPS = 1024
MAX_BYTES = 64 << 20

T = TypeVar("T")


class Window(Generic[T]):
    """Operations in flight, each with what its sender wants back (None: nothing) and what was
    sent, kept for a stream that takes the place of one that broke (F32)."""

    def __init__(self, max_ops: int = MAX_OPS, max_bytes: int = MAX_BYTES) -> None:
        self._max_ops = max_ops
        self._max_bytes = max_bytes
        self._last = 0  # newest number given
        self._acknowledged = 0
        # Unacknowledged, oldest first: item, size, time, what was sent.
        self._sent: deque[tuple[T | None, int, float, object]] = deque()
        self._completing: dict[int, tuple[T, float, object]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """How many answers of the peer are awaited."""
        return len(self._sent) + len(self._completing)

    @property
    def bytes_in_flight(self) -> int:
        return self._bytes

    @property
    def last_seq(self) -> int:
        return self._last

    @property
    def full(self) -> bool:
        """No further operation of an application should be added. Those that belong to one
        already begun may."""
        awaited = len(self._sent) + len(self._completing)
        return awaited >= self._max_ops or self._bytes >= self._max_bytes

    def add(self, item: T | None, size_bytes: int, now_s: float, sent: object = None) -> int:
        """An operation is sent now; returns its number."""
        self._sent.append((item, size_bytes, now_s, sent))
        self._bytes += size_bytes
        self._last += 1
        return self._last

    def add_completing(self, item: T, size_bytes: int, now_s: float, sent: object = None) -> int:
        """As `add`, for an operation that `complete` ends."""
        seq = self.add(None, size_bytes, now_s, sent)
        self._completing[seq] = (item, now_s, sent)
        return seq

    def unacknowledged(self) -> list[tuple[int, object]]:
        """(number, what was sent) of all that the peer may not have, in order."""
        first = self._acknowledged + 1
        return [(first + index, entry[3]) for index, entry in enumerate(self._sent)]

    def uncompleted(self) -> list[tuple[int, object]]:
        """(number, what was sent) of what the peer has and has not completed, in order."""
        completing = self._completing.items()
        return [(seq, entry[2]) for seq, entry in completing if seq <= self._acknowledged]

    def acknowledge(self, seq: int) -> list[T]:
        """The peer has everything up to `seq`: the items of the operations that this ends.

        An old number changes nothing. Raises PeerError for one that was never sent.
        """
        if seq > self._last:
            raise PeerError(f"acknowledgement of {seq}, but only {self._last} were sent")
        ended: list[T] = []
        while self._acknowledged < seq:
            item, size_bytes, _, _ = self._sent.popleft()
            self._bytes -= size_bytes
            self._acknowledged += 1
            if item is not None:
                ended.append(item)
        return ended

    def complete(self, seq: int) -> T:
        """The peer completed this operation; raises PeerError if it awaits no completion."""
        entry = self._completing.pop(seq, None)
        if entry is None:
            raise PeerError(f"completion of {seq}, which awaits none")
        return entry[0]

    def oldest_sent_s(self) -> float | None:
        """When the longest unanswered operation was sent; None if all are answered."""
        times = [self._sent[0][2]] if self._sent else []
        if self._completing:
            times.append(next(iter(self._completing.values()))[1])
        return min(times, default=None)

    def take_all(self) -> list[T]:
        """Empty the window: the stream is given up. Items in the order they were sent,
        completing ones last."""
        items = [entry[0] for entry in self._sent if entry[0] is not None]
        items += [entry[0] for entry in self._completing.values()]
        self._sent.clear()
        self._completing.clear()
        self._acknowledged = self._last
        self._bytes = 0
        return items
