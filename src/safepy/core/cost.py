"""What a command would lose, by what this node knows at this moment; said before it is done."""

from __future__ import annotations

from safepy.model import Disk, Snapshot, State

_LEADING = (State.ALONE, State.PRIM)


def cost(found: Snapshot, action: str) -> str:
    """A sentence without its full stop; empty where nothing would be lost.

    `action` is prim, primforce, second, forcestop, deconfig or uninstall; anything else is free.
    """
    match action:
        case "prim" | "primforce":
            return _of_leading(found, action)
        case "second":
            return _of_following(found)
        case "forcestop":
            return _of_killing(found)
        case "deconfig" | "uninstall":
            return _of_forgetting(found)
        case _:
            return ""


def _of_leading(found: Snapshot, action: str) -> str:
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
                f"{found.peer} has newer data: what it wrote since both nodes were in sync is "
                "given up (kept aside there when it returns)"
            )
        case Disk.UPTODATE if _may_be_behind(found):
            return (
                f"{found.peer} may have newer data: what it wrote after this node lost it is "
                "given up (kept aside there when it returns)"
            )
        case _:
            return ""


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
