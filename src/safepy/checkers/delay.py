"""How late is a program of this node that has something to do?

Measured where it matters: in the loop that sends the heartbeats. A machine that is overloaded, that
swaps or is stopped by its hypervisor shows here before a timeout expires.
"""

from __future__ import annotations

import asyncio

from safepy.checkers.base import Tell
from safepy.config.schema import DelayCheck

#: How often it is looked; between two looks a delay of this length may go unseen.
LOOK_S = 0.25


class DelayMeter:
    """Tells once in an interval how late the worst wake-up in it was."""

    def __init__(self, check: DelayCheck) -> None:
        self._max_s = check.max_s
        self._interval_s = check.interval_s
        self._look_s = min(LOOK_S, check.max_s / 2)

    async def run(self, tell: Tell) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            worst_s, until = 0.0, loop.time() + self._interval_s
            while (now := loop.time()) < until:
                await asyncio.sleep(self._look_s)
                worst_s = max(worst_s, loop.time() - now - self._look_s)
            tell(judged(worst_s, self._max_s))


def judged(worst_s: float, max_s: float) -> str:
    if worst_s <= max_s:
        return ""
    return f"woken up {worst_s * 1000:.0f} ms late, more than {max_s * 1000:.0f} ms"
