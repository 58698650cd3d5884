"""From any state to STOP, wished or not, and back again after a stopstart."""

from __future__ import annotations

from typing import TypeGuard

from safepy.model import Active, Disk, Level, PeerView, Record, State

from . import plans, records, serving
from .arbitration import Arbiter
from .plans import Address, Save, Work
from .state import Link, Phase
from .transitions import Cause
from .turn import Turn


def begin(t: Turn, action: str, start_again: bool, cause: Cause = Cause.STOP) -> None:
    """Stop the module, whatever it is doing. `action` is what the scripts are told."""
    s = t.s
    if s.phase is Phase.STOPPED:
        return
    s.start_again = start_again
    if s.phase is Phase.STOPPING:
        return
    plan = _to_wait(t, action)
    s.stop_cause = cause
    s.quiesced = False
    s.app_ready = False
    s.request = ""
    s.failed_stops = frozenset()
    s.phase = Phase.STOPPING
    s.action = action
    t.clear_block()
    t.begin((*plan, *plans.end(action)))


def _to_wait(t: Turn, action: str) -> plans.Plan:
    s = t.s
    if s.params.light:
        return _down(t, action)
    if s.serving:
        return plans.stop_leading(s.ran, s.state, action)
    match s.phase:
        case Phase.FOLLOWING:
            return plans.stop_following(s.ran, s.state, action, s.synced)
        case Phase.TAKING_OVER:
            # The claim may be durable, or everything may be still as it was: both are sound.
            return (*_down(t, action), Work.STOP_FOLLOWING, Work.DEMOTE, Save.STOPPED)
        case Phase.RETREATING:
            # Only what the retreat was about to record: a node that was refused permission may
            # still hold the better copy (K9).
            behind = Save.OUTDATED in s.plan or s.handing_over
            record = Save.OUTDATED if behind else Save.STEPPED_DOWN
            return (Work.DEMOTE, Address.REMOVE, record, *_down(t, action))
        case Phase.LEADING:
            return (*_down(t, action), Address.REMOVE, Work.DEMOTE, Save.STOPPED)
        case _:
            return _down(t, action)


def _down(t: Turn, action: str) -> plans.Plan:
    """The application, if any of it runs, and the visible state WAIT."""
    s = t.s
    plan: plans.Plan = plans.stops(s.ran, s.state, State.WAIT, action)
    if s.ran:
        plan += (plans.Script("transition", s.state, State.WAIT, action),)
    return (*plan, plans.Then.WAIT)


def worker_died(t: Turn, reason: str) -> None:
    """Where the gate was nothing answers any more (F16); the page cache is intact."""
    s = t.s
    if not s.worker:
        return
    s.worker = False
    t.announce(Level.CRITICAL, f"The replication process died: {reason}")
    if s.phase in (Phase.STOPPED, Phase.STOPPING):
        serving.shut(t)
        return
    if s.serving:
        if t.frozen:
            t.want(t.unclaimed)
        state = s.state
        serving.shut(t)
        s.app_ready = False
        s.phase = Phase.STOPPING
        s.stop_cause = Cause.STOP
        s.action = "stopstart"
        s.start_again = True
        t.clear_block()
        t.begin((*plans.stop_broken(s.ran, state, "stopstart"), *plans.end("stopstart")))
        return
    _worker_took_with_it(t)
    if s.phase is Phase.FOLLOWING:
        s.synced = s.following = s.app_ready = False
        s.adopting_version = 0
        # The primary may be handing over to us at this very moment.
        s.fresh_since = t.now
        t.begin((Work.STOP_WORKER, Work.START_WORKER))
        return
    begin(t, "stopstart", start_again=True)


def received_is_lost(t: Turn) -> None:
    """What the primary was told we have may not be in the tree. This is not called OUTDATED: a
    primary that handed over in order saw everything applied before it called itself so, and no
    node would be left to lead. A primary that lives tells us soon enough; a dead one is waited
    for, and the table prefers it (D6)."""
    t.s.lost_volatile = True
    t.s.unapplied = True


def _worker_took_with_it(t: Turn) -> None:
    """Operations may have been acknowledged on receipt and died unapplied with the worker."""
    s = t.s
    in_sync = s.phase is Phase.FOLLOWING and s.wanted.disk is Disk.UPTODATE
    if in_sync or (s.phase is Phase.TAKING_OVER and s.wanted.active is Active.SECONDARY):
        received_is_lost(t)


def local_fault(t: Turn, detail: str) -> None:
    """This node cannot go on: nothing is recorded that is not true, and the peer takes over."""
    t.announce(Level.CRITICAL, detail)
    t.s.fault = detail
    if t.s.phase not in (Phase.STOPPED, Phase.STOPPING):
        t.announce(Level.CRITICAL, "Action stop called by heart : local fault")
    begin(t, "stop", start_again=False)


def stopped_record(t: Turn) -> Record | None:
    """What a clean end of activity leaves in the record; None: the end was not clean.

    A leader whose secondary is in sync and stays hands over: it calls itself OUTDATED, which is
    the other's permission (E1). It does not if the other is leaving as well."""
    s = t.s
    if s.handing_over:
        return records.stopped(_outdated(t, s.wanted), "S")
    if not s.serving:
        return records.gave_way(s.wanted)
    if s.params.has_rfs and not s.quiesced:
        return None
    secondary = t.view
    if s.link is not Link.PAIRED or not _stays(secondary):
        return records.stopped(s.wanted, "P")
    if secondary.failover:
        # Whatever the switch says here: it is the other node that takes over or does not.
        return records.stopped(_outdated(t, s.wanted), "P")
    if Arbiter.WITNESS in s.params.arbitration.required:
        # Both copies are equal; the witness will say that this node may lead again.
        return records.stopped(s.wanted, "P")
    # Both copies are equal, and this node is the one that shall lead again.
    return records.stopped(records.leave_behind(s.wanted), "P")


def _stays(view: PeerView | None) -> TypeGuard[PeerView]:
    return view is not None and view.state is State.SECOND and view.record.disk is Disk.UPTODATE


def _outdated(t: Turn, record: Record) -> Record:
    return records.outdated(record) if t.s.params.has_rfs else record
