"""ModuleState to the snapshot that CLI, console and probe show."""

from __future__ import annotations

from safepy.model import Snapshot, State

from . import links
from .state import FROZEN, Link, ModuleState
from .turn import status_of


def snapshot(state: ModuleState, wall_now: float, now: float | None = None) -> Snapshot:
    """What people see. `wall_now` is wall-clock seconds, for display only; `now` the time of the
    core's clock, by default that of the last step."""
    now = state.now if now is None else now
    peer_lost = now >= links.lost_at(state.links, state.replica_heard_at)
    peer = None if peer_lost else state.peer
    return Snapshot(
        module=state.params.module,
        node=state.params.node,
        peer=state.params.peer,
        state=state.state,
        status=status_of(state),
        reason=_reason(state),
        since=wall_now - (now - state.since),
        peer_state="UNKNOWN" if peer is None else peer.state.value,
        peer_status="" if peer is None else peer.status.value,
        waiting_for=_waiting_for(state),
        remedy=_remedy(state),
        record=state.record,
        resources=tuple((name, value, wall_now) for name, value in state.told_resources),
        lanes=tuple((lane.lane.ident, lane.up is True) for lane in state.links.lanes),
    )


def _reason(state: ModuleState) -> str:
    if state.state in (State.ALONE, State.PRIM) and state.record.forced:
        return f"{state.reason}; forced by an operator"
    return state.reason


def _waiting_for(state: ModuleState) -> str:
    if state.blocked:
        return state.blocked
    if state.dozing_since is not None:
        return "a sign of the other node after this one was asleep"
    if state.link in FROZEN:
        return "certainty that the lost secondary cannot take over; writes are held"
    if state.link in (Link.RECORDING, Link.JOINING):
        return "the secondary to join; writes are held for a moment"
    if state.script and not state.running and state.plan:
        return "the end of a script that still runs"
    return ""


def _remedy(state: ModuleState) -> str:
    """The command that ends the waiting, as it is typed."""
    if not state.blocked or not state.remedy:
        return ""
    module = state.params.module
    if state.remedy in ("prim", "second"):
        # Both are start commands (reference 6.4); `prim` is also taken while waiting.
        return f"safekit {state.remedy} -m {module}"
    if state.remedy == "restart":
        return f"safekit stopstart -m {module}"
    return f"safekit {state.remedy} -m {module}"
