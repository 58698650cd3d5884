"""How many restarts detectors may ask for, and when to give up (reference 9.4)."""

from __future__ import annotations

from dataclasses import dataclass

#: The resource that keeps, over a restart of the daemon, why a module was stopped by itself.
FAULT = "heart.fault"


@dataclass(frozen=True, slots=True)
class LoopCount:
    """Restarts that detectors asked for since `since` (reference 9.4)."""

    since: float = 0.0
    count: int = 0


def detected(
    loop: LoopCount, now: float, maxloop: int, interval_s: float
) -> tuple[LoopCount, bool]:
    """One more detection. Returns the new count and whether the limit is passed: with
    `maxloop` 3, the fourth detection inside `interval_s`. An interval of 0 disables it."""
    if interval_s <= 0:
        return loop, False
    if loop.count == 0 or now - loop.since >= interval_s:
        loop = LoopCount(since=now, count=0)
    loop = LoopCount(loop.since, loop.count + 1)
    return loop, loop.count > maxloop


def reached(loop: LoopCount, now: float, maxloop: int, interval_s: float) -> bool:
    """Whether the limit is passed, and the interval is not over: what `checkloop` asks."""
    return interval_s > 0 and now - loop.since < interval_s and loop.count > maxloop


def reset(now: float) -> LoopCount:
    """An administrator acted: counting starts anew."""
    return LoopCount(since=now, count=0)
