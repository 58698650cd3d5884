"""ModuleState to the snapshot that CLI, console and probe show."""

from __future__ import annotations

from safepy.model import Disk, PeerView, Snapshot, State

from . import election, links, permission, reunion, syncmode
from .arbitration import OUTSIDE, heuristic, sentence
from .failover import acting
from .state import FROZEN, Link, ModuleState, Phase
from .turn import maintenance_until_unix_s, status_of

#: Why a node waits that may not have the newest data.
_DATA_BEHIND = (election.WAIT_FOR_REMOTE, election.NEVER_SYNCHRONISED)


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
        peer_state=_peer_state(state, peer),
        peer_status="" if peer is None else peer.status.value,
        waiting_for=_waiting_for(state),
        remedy=_remedy(state),
        record=state.record,
        resources=tuple(
            (name, value, wall_now) for name, value in sorted(state.told_resources.items())
        ),
        lanes=tuple((lane.lane.ident, lane.up is True) for lane in state.links.lanes),
        synchronisation=syncmode.in_words(state.sync_mode, state.sync_reason),
        sync_policy=syncmode.policy_in_words(state.record.policy),
        notes=_notes(state, peer is None),
        peer_resources=() if peer is None else peer.resources,
        story=tuple((wall_now - (now - at), text) for at, text in state.story),
        mode=state.params.mode,
        maintenance_until=maintenance_until_unix_s(state),
        maintenance_reason="" if state.maintenance is None else state.maintenance.reason,
        maintenance_by="" if state.maintenance is None else state.maintenance.by,
        peer_maintenance_until=0.0 if peer is None else peer.maintenance_until,
    )


def _peer_state(state: ModuleState, peer: PeerView | None) -> str:
    if peer is not None:
        return peer.state.value
    return "" if state.params.light else "UNKNOWN"


def _notes(state: ModuleState, peer_lost: bool) -> tuple[str, ...]:
    """What others said by which this node serves alone, while the other one is not heard."""
    name = state.evidence
    if state.state is not State.ALONE or not peer_lost or name.split("+")[0] not in OUTSIDE:
        return ()
    if heuristic(name):
        return (sentence(name),)
    return (f"serves alone by evidence {name}: {sentence(name)}",)


def _reason(state: ModuleState) -> str:
    if state.state is State.SECOND and state.remedy == "maintenance off":
        return "in maintenance this node does not take over, although the primary is gone"
    if state.state is State.PRIM and state.link in FROZEN:
        # The state changes when it is certain; until then it must not be said to be in sync.
        return "the secondary is lost, and it is being made certain that it cannot take over"
    if state.state in (State.ALONE, State.PRIM) and state.record.forced:
        if state.evidence == election.SYNCDELTA:
            return f"{state.reason}; forced by syncdelta: the data may be behind"
        return f"{state.reason}; forced by an operator"
    rule = acting.in_words(state)
    if rule and not state.blocked:
        return f"{state.reason}; {rule}"
    return state.reason


def _waiting_for(state: ModuleState) -> str:
    """For what, when the module or the application's writes wait."""
    if state.blocked:
        return _blocked_until(state)
    if state.dozing_since is not None:
        return "a sign of the other node after this one was asleep; writes are held"
    if state.link in FROZEN:
        refused = permission.refusal(state)
        if refused:
            return f"permission to serve alone; writes are held ({refused})"
        return "certainty that the lost secondary cannot take over; writes are held"
    if state.phase is Phase.FOLLOWING and permission.refusal(state):
        return f"permission to take over ({permission.refusal(state)})"
    if state.link in (Link.RECORDING, Link.JOINING):
        return "the secondary to join; writes are held for a moment"
    if state.script and not state.running and state.plan:
        return "the end of a script that still runs"
    return ""


def _blocked_until(state: ModuleState) -> str:
    peer = state.params.peer
    if reunion.PUT_BACK in state.blocked:
        return "an operator to say which of the two nodes has the right data"
    if state.held_by and _is_waited_for(state):
        return f"{state.blocked}; nobody serves: {peer} waits for this node, whose data come first"
    if state.blocked not in _DATA_BEHIND:
        return state.blocked
    if _heard_started(state):
        return f"{peer} or this node to be told that its data are the right ones"
    if state.record.disk is Disk.UNCONFIGURED:
        return f"{peer} to lead; then this node is filled from it"
    off = "" if state.failover else " (automatic failover is off)"
    return f"{peer} to start and to lead, because its data may be newer{off}"


def _remedy(state: ModuleState) -> str:
    """The command that ends the waiting, as it is typed."""
    if not state.blocked:
        return ""
    on_module, peer = f"-m {state.params.module}", state.params.peer
    if state.blocked in _DATA_BEHIND:
        return _remedy_for_old_data(state)
    match state.remedy:
        case "prim":
            return f"safekit prim {on_module}, on the node whose data shall stay"
        case election.LEAD_THERE:
            return (
                f"safekit start {on_module} on {peer}; or, to lead here: safekit prim {on_module}"
            )
        case "restart":
            return f"safekit stopstart {on_module}"
        case "stopstart there":
            return f"safekit stopstart {on_module} on {peer}"
        case "config":
            return (
                f"safekit stop {on_module}, safekit config {on_module} with the same files on both "
                f"nodes, safekit start {on_module}"
            )
        case election.MAINTENANCE_OFF_THERE:
            again = f"; {peer} then gets everything anew" if state.params.has_rfs else ""
            return (
                f"safekit maintenance {on_module} off on {peer}; then it takes over; or, to serve "
                f"from here: safekit prim {on_module}{again}"
            )
        case election.RELEASE_THERE:
            price = f", which gives up what {peer} wrote last" if state.params.has_rfs else ""
            return (
                f"safekit why {on_module} on {peer}, which tells what to mend; or, to serve from "
                f"here: safekit prim {on_module}{price}"
            )
        case "checker off" if _is_waited_for(state):
            return (
                f"safekit checker off {on_module}; or, to serve from {peer}: safekit prim "
                f"{on_module} there, which gives up what this node wrote last"
            )
        case "maintenance off":
            return f"safekit maintenance {on_module} off; then this node takes over"
        case "cluster":
            return "safekit cluster config FILE, the same on both nodes"
        case "":
            return ""
        case command:
            return f"safekit {command} {on_module}"


def _remedy_for_old_data(state: ModuleState) -> str:
    """`prim` gives up what the other node may have written: it is named last, and with its
    price. Inconsistent data are refused by `prim`, so only the other node can help."""
    module, peer = state.params.module, state.params.peer
    prim = state.remedy == "prim"
    if _heard_started(state):
        where = "on the node with the right data" if prim else f"on {peer}"
        return f"safekit prim -m {module}, {where}"
    start = f"safekit start -m {module} on {peer}"
    if not prim:
        return start
    if state.record.disk is Disk.UNCONFIGURED:
        return f"{start}; or, if the right data are here: safekit prim -m {module}"
    return (
        f"{start}; or, if {peer} is lost for good: safekit prim -m {module} here, "
        f"which gives up what {peer} wrote last"
    )


def _is_waited_for(state: ModuleState) -> bool:
    """The other node is started as well, and would follow: the data of this one come first."""
    peer, params = state.peer, state.params
    if peer is None or not params.has_rfs or not _heard_started(state):
        return False
    if peer.state is not State.WAIT or peer.held:
        return False
    found = reunion.reunion(state.record, state.lost_volatile, peer, params.defaultprim)
    return found.source is True


def _heard_started(state: ModuleState) -> bool:
    """The other node is heard, and was started too: starting it does not help."""
    peer_lost = state.now >= links.lost_at(state.links, state.replica_heard_at)
    return not peer_lost and state.peer is not None and state.peer.state is not State.STOP
