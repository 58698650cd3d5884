"""Time, as an object that a test can replace."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """All in seconds. Deadlines use `boottime` (it counts while the host sleeps, design 2, row 9),
    measurements `monotonic`; `wall` is for display and names only: it may jump."""

    def monotonic(self) -> float: ...

    def boottime(self) -> float: ...

    def wall(self) -> float: ...


def until_next(interval_s: float, now_s: float) -> float:
    """Seconds to the next multiple of the interval: whoever does something now and then waits so,
    and a process that does it for many modules wakes once for all of them."""
    return interval_s - now_s % interval_s


class SystemClock:
    """The clocks of this host."""

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()
