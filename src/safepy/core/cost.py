"""What a command would lose, by what this node knows at this moment; said before it is done."""

from __future__ import annotations

import math

from safepy.model import Disk, Snapshot, State

_LEADING = (State.ALONE, State.PRIM)


def cost(found: Snapshot, action: str, wall_now: float) -> str:
    """A sentence without its full stop; empty where nothing would be lost.

    `action` is prim, primforce, second, stop, stopstart, shutdown, forcestop, deconfig or
    uninstall; anything else is free.
    `wall_now` is Unix seconds: how much is told in time.
    """
    match action:
        case "prim" | "primforce":
            return _of_leading(found, action, wall_now)
        case "second":
            return _of_following(found)
        case "stop" | "stopstart" | "shutdown":
            return _of_stopping(found, wall_now)
        case "forcestop":
            return _of_killing(found)
        case "deconfig" | "uninstall":
            return _of_forgetting(found)
        case _:
            return ""


def _of_leading(found: Snapshot, action: str, wall_now: float) -> str:
    if found.state not in (State.STOP, State.WAIT) or found.peer_state in _LEADING:
        return ""  # refused as it is
    match found.record.disk:
        case Disk.INCONSISTENT if action == "primforce":
            return (
                "the data here are a mixture that a broken synchronisation left, and "
                f"{found.peer} gets them"
            )
        case Disk.OUTDATED:
            return (
                f"{found.peer} has newer data: {_what_it_wrote(found, wall_now)} would be set "
                "aside (kept there when it returns)"
            )
        case Disk.UPTODATE if _may_be_behind(found):
            return (
                f"{found.peer} may have newer data: {_what_it_wrote(found, wall_now)} would be set "
                "aside (kept there when it returns)"
            )
        case _:
            return ""


def _what_it_wrote(found: Snapshot, wall_now: float) -> str:
    """ "its last 3 minutes of writes": since the last moment at which both are known to have been
    in sync."""
    synced_at = found.record.synced_at
    if not 0 < synced_at <= wall_now:
        return "what it wrote since both nodes were in sync"
    return f"its last {in_words(wall_now - synced_at)} of writes"


def in_words(seconds: float) -> str:
    """A length of time as people say it, rounded up to its largest unit."""
    for unit, length_s in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length_s:
            count = math.ceil(seconds / length_s)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    count = max(1, math.ceil(seconds))
    return f"{count} second{'s' if count > 1 else ''}"


def _may_be_behind(found: Snapshot) -> bool:
    """Nothing here says that the other node stopped having the newest data before this one did: it
    is not heard, or this one waits for it. On a first start there is nothing to be behind of."""
    record = found.record
    if not record.gen or record.peer_behind:
        return False
    return found.peer_state in ("", "UNKNOWN") or bool(found.waiting_for)


def _of_following(found: Snapshot) -> str:
    if found.state not in (State.STOP, State.WAIT) or not found.record.peer_behind:
        return ""
    if found.peer_state not in _LEADING:
        return ""
    return f"what this node wrote alone is given up for the data of {found.peer} (kept aside here)"


def _of_stopping(found: Snapshot, wall_now: float) -> str:
    """No data, but the service: in maintenance the secondary does not take over."""
    if found.state is not State.PRIM or not found.peer_maintenance_until:
        return ""
    left = in_words(found.peer_maintenance_until - wall_now)
    return (
        f"{found.peer} is in maintenance, for another {left}, and does not take over: the "
        "application is down until that ends (to move it there: safekit swap)"
    )


def _of_killing(found: Snapshot) -> str:
    if found.state not in (*_LEADING, State.UP):
        return ""
    return "the application is killed: what it has not yet written to its files is lost"


def _of_forgetting(found: Snapshot) -> str:
    if found.record.disk is Disk.INCONSISTENT:
        return "it is forgotten that the data here are a mixture that a broken synchronisation left"
    if found.record.peer_behind:
        return (
            f"it is forgotten that this node has changes that {found.peer} has not: the next start "
            "needs prim, on the right node"
        )
    return ""
