"""Virtual time: a heap of (moment, number, call). The clock jumps to the next entry."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Call = Callable[[], None]


class Entry:
    """Something that is due; `cancel` makes it never happen."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def cancel(self) -> None:
        self.call = None


class Clock:
    """Seconds since the simulation began."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Entry]] = []
        self._numbers = count()

    def at(self, moment: float, call: Call) -> Entry:
        entry = Entry(call)
        heapq.heappush(self._heap, (max(moment, self.now), next(self._numbers), entry))
        return entry

    def later(self, delay_s: float, call: Call) -> Entry:
        return self.at(self.now + delay_s, call)

    def run_until(self, moment: float, after_each: Call | None = None) -> None:
        while self._heap and self._heap[0][0] <= moment:
            due, _, entry = heapq.heappop(self._heap)
            if entry.call is None:
                continue
            self.now = due
            entry.call()
            if after_each is not None:
                after_each()
        self.now = max(self.now, moment)
