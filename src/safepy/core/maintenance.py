"""Maintenance: an administrator works on the module, and nothing happens by itself until it ends.

What is suspended: the take-over from SECOND, the rules of the failover machine, what errd and
checkers ask for, the swap to the preferred node. What is not: commands of an administrator, and
everything that keeps data safe (the primary makes durable that it is alone, a node without
permission gives way, a dead replication process is started anew).

It holds on the node where it was said, and ends by itself: the end is a moment on the core's
clock, which counts suspended time and which nobody sets.
"""

from __future__ import annotations

from dataclasses import dataclass

from safepy.model import Level

from . import words
from .commands import SetResource
from .events import ActionRequested, MaintenanceSet
from .plans import Script
from .state import Maintenance, ModuleState
from .turn import Turn

#: Resources: "on" or "off"; then, for the next run of the daemon, the end and the length (Unix
#: seconds, seconds), the reason and who said so.
RESOURCE = "usersetting.maintenance"
UNTIL, LENGTH, REASON, BY = (f"maintenance.{name}" for name in ("until", "length", "reason", "by"))


def on(s: ModuleState) -> bool:
    """Whether nothing may happen by itself now."""
    return s.maintenance is not None and s.now < s.maintenance.until


@dataclass(frozen=True, slots=True)
class Kept:
    """What an earlier run of the daemon noted in the resources."""

    until_unix_s: float
    length_s: float
    reason: str
    by: str


def taken_up(kept: Kept, now: float, wall: float) -> Maintenance | None:
    """The maintenance that an earlier run noted, on this run's clock; None if it is over. The
    wall clock may have been set meanwhile: it never lasts longer than it was said to."""
    left_s = min(kept.until_unix_s - wall, kept.length_s)
    if not left_s > 0:
        return None
    return Maintenance(now + left_s, kept.length_s, kept.reason, kept.by)


def changed(t: Turn, event: MaintenanceSet) -> None:
    """`safekit maintenance on|off`."""
    s = t.s
    if event.until is None or event.until <= t.now:
        if s.maintenance is not None:
            _end(t, f"ended by {event.who}")
        else:
            t.announce(Level.INFO, "Action maintenance off ignored: there is none")
        return
    length_s = event.until - t.now
    s.maintenance = Maintenance(event.until, length_s, event.reason, event.who)
    s.told_ignored = frozenset()
    why = f": {event.reason}" if event.reason else ""
    t.announce(
        Level.EVENT,
        f"Maintenance begins, called by {event.who}, for {words.span(length_s)}{why}. Until it "
        "ends nothing happens by itself on this node: no take-over, no failover rule, no action "
        "of errd or a checker, no swap to the preferred node",
    )
    for name, value in (
        (UNTIL, f"{event.until + s.params.wall_offset_s:.0f}"),
        (LENGTH, f"{length_s:.0f}"),
        (REASON, event.reason),
        (BY, event.who),
        (RESOURCE, "on"),
    ):
        t.do(SetResource(name, value, event.who))


def _end(t: Turn, how: str) -> None:
    s = t.s
    s.maintenance = None
    s.told_ignored = frozenset()
    t.announce(Level.EVENT, f"Maintenance {how}: automatic actions are possible again")
    t.do(SetResource(RESOURCE, "off"))
    t.clear_block()


def rules(t: Turn) -> bool:
    """It ends by itself."""
    s = t.s
    if s.maintenance is None or on(s):
        return False
    _end(t, "is over")
    return True


def suspends(t: Turn, event: ActionRequested) -> bool:
    """Whether this wish is none of an administrator's, and so waits for the end; said once for
    each kind. What a script of the module asks while it runs belongs to the command that called
    it: a `prestart` that finds the application running must be able to stop the module."""
    s = t.s
    if not on(s) or not event.identity:
        return False
    step = s.plan[0] if s.plan and s.running else None
    if isinstance(step, Script) and step.name == event.identity:
        return False
    if (kind := (event.action, event.who)) not in s.told_ignored:
        s.told_ignored |= {kind}
        t.announce(
            Level.EVENT,
            f"Action {event.action} of {event.who} is not carried out: maintenance",
        )
    return True


def holds_back(t: Turn, lost: str) -> bool:
    """SECOND, the primary is gone (`lost` says how), and in maintenance this node does not take
    over; it says so, and what ends that."""
    s = t.s
    if not on(s):
        return False
    waiting_for = f"the end of the maintenance: the primary is gone ({lost}), nobody takes over"
    if s.blocked == waiting_for:
        return False
    t.announce(
        Level.CRITICAL,
        f"The primary is gone ({lost}); in maintenance this node does not take over. To let it: "
        "safekit maintenance off",
    )
    t.block(waiting_for, "maintenance off")
    return True


def back(t: Turn) -> None:
    """The primary is there (again)."""
    if t.s.remedy == "maintenance off":
        t.clear_block()
