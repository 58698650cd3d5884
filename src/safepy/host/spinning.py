"""When a loop should look again instead of sleeping.

Waking a sleeping thread costs tens of microseconds where the processor was idle too (on virtual
machines more than all the work of an operation), and one replicated operation is a chain of four
such wake-ups. So a loop that was often woken soon looks again for a short time first. It pays
only while the next event is near and nobody else wants the processor; both are learnt here, from
what just happened. A loop without work sleeps and costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

#: The longest time to look again, in seconds: about three wake-ups of an idle processor.
LONGEST_S = 0.000_2
_SHORTEST_S = 0.000_025
#: A yield of the processor that took so long gave it to somebody who has much to do.
_CROWDED_S = 0.000_2
_FIRST_REST_S = 0.05
_LONGEST_REST_S = 1.0
#: How often to count who wants to run, and for how long a crowd is believed to stay.
_COUNT_INTERVAL_S = 0.002
_CROWD_STAYS_S = 0.01
#: Threads that want to run while an operation goes its way: ours, the other node's if it is on the
#: same machine, the writer. With more than one for which there is no processor, nobody looks.
_WAITING_MAX = 1


class Crowd:
    """Whether more threads of this machine want to run than it has processors."""

    def __init__(self) -> None:
        self._processors = len(os.sched_getaffinity(0))
        self._fd = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> bool:
        running = os.pread(self._fd, 100, 0).split()[3].partition(b"/")[0]
        return int(running) > self._processors + _WAITING_MAX

    def close(self) -> None:
        os.close(self._fd)


class Spinning:
    """How long to look again before the next sleep. Times are seconds on one monotonic clock."""

    __slots__ = ("_counts_again_s", "_crowd", "_limit_s", "_rest_s", "_rests_until_s")

    def __init__(self, crowd: Callable[[], bool]) -> None:
        self._crowd = crowd
        self._counts_again_s = 0.0
        self._limit_s = 0.0
        self._rest_s = _FIRST_REST_S
        self._rests_until_s = 0.0

    def limit_s(self, now_s: float) -> float:
        """0.0: sleep at once."""
        if not self._limit_s or now_s < self._rests_until_s:
            return 0.0
        if now_s >= self._counts_again_s:
            self._counts_again_s = now_s + _COUNT_INTERVAL_S
            if self._crowd():
                self._rests_until_s = now_s + _CROWD_STAYS_S
                return 0.0
        return self._limit_s

    def slept(self, for_s: float) -> None:
        """A sleep ended because something happened. After a short one, looking would have paid."""
        if for_s < LONGEST_S:
            self._limit_s = min(LONGEST_S, max(_SHORTEST_S, 2 * self._limit_s))

    def looked_in_vain(self) -> None:
        self._limit_s /= 2
        if self._limit_s < _SHORTEST_S:
            self._limit_s = 0.0

    def is_crowded(self, yielded_s: float, now_s: float) -> bool:
        """Whether a yield says that others need the processor; then no looking for a while,
        longer each time that it is so again."""
        if yielded_s < _CROWDED_S:
            return False
        again = now_s - self._rests_until_s < self._rest_s
        self._rest_s = min(_LONGEST_REST_S, 2 * self._rest_s) if again else _FIRST_REST_S
        self._rests_until_s = now_s + self._rest_s
        return True
