"""The node that receives: SECOND, from the first byte of the resynchronisation to the take-over."""

from __future__ import annotations

from safepy.model import Active, Disk, Level, State

from . import (
    election,
    maintenance,
    operator,
    permission,
    plans,
    records,
    reunion,
    serving,
    stopping,
    switching,
)
from .arbitration import Arbiter, evidence
from .commands import Adopted
from .election import Verdict
from .events import AdoptRequested, StepDone
from .plans import Then, Work
from .state import Phase
from .transitions import Cause
from .turn import Turn

STARTSYNCH = "_rfs_startsynch"

#: After this many failed starts of a resynchronisation in a row the wait between them is longest.
MAX_BACKOFF_DOUBLINGS = 5
NOBODY_CAN_SAY = "The primary is silent, and no arbiter can say on this node that it is down"


# What the worker reports.


def adopt_requested(t: Turn, event: AdoptRequested) -> None:
    """The source's record is durable and our tree is flushed. An invitation from before
    something newer that we have seen is refused: its source has moved on without us (K7, I11)."""
    s = t.s
    if s.phase is not Phase.FOLLOWING or not s.following or s.synced or _differs(t):
        return
    if event.epoch < s.wanted.promised or event.epoch <= s.wanted.epoch:
        return
    s.adopting_version = t.want(
        records.adopt(
            s.wanted,
            event.epoch,
            event.gen,
            event.base,
            event.history,
            event.checkpoint,
            t.wall,
            # What was said after this attempt began is for the next one.
            records.DEFAULT_POLICY if s.wanted.policy == s.follow_policy else s.wanted.policy,
        )
    )


def joined(t: Turn, epoch: int) -> None:
    """From here every operation of the primary comes to us: SECOND, and the scripts of it."""
    s = t.s
    if s.phase is not Phase.FOLLOWING or not s.synced or epoch != s.adopted_epoch or s.app_ready:
        return
    settle(t)


def settle(t: Turn) -> None:
    """The scripts of SECOND, then ready."""
    s = t.s
    if s.params.has_rfs:
        t.announce(Level.EVENT, "Uptodate replicated file system")
    current = State.SECOND if s.transition_called else State.WAIT
    t.begin(plans.settle_as_second(s.ran, current, s.transition_called))
    s.transition_called = True
    s.follow_failures = 0
    s.told_resync = ""
    s.told_sync = ("", "")
    s.reintegre_failed = False
    s.copy_since = 0.0


def resync_failed(t: Turn, reason: str, fatal: bool) -> None:
    """Tried again as long as the stream returns, unless a new try cannot help."""
    s = t.s
    if s.phase is not Phase.FOLLOWING or s.synced:
        return
    s.reintegre_failed = True
    if not fatal:
        if s.told_resync != reason:
            s.told_resync = reason
            t.announce(Level.EVENT, f"Reintegration failed, it is tried again: {reason}")
        return
    t.announce(Level.CRITICAL, f"Reintegration failed: {reason}")
    leave(t, Cause.LOCAL_FAULT)
    # Only a person can make room or mount the right tree; another try follows all the same, late.
    t.block(f"the reintegration failed: {reason}", "restart")
    s.follow_after = t.now + 10 * s.params.detection_s


def disk_fault(t: Turn, disk: Disk, reason: str) -> None:
    """F42: this copy is behind from here on; say so, so that the primary can go on."""
    s = t.s
    if s.phase is Phase.STOPPED:
        return
    t.announce(Level.CRITICAL, f"The local replicated directories cannot be trusted: {reason}")
    if s.phase is not Phase.FOLLOWING or not s.following:
        if s.wanted.disk is Disk.UPTODATE and s.wanted.active is Active.SECONDARY:
            stopping.received_is_lost(t)
        return
    if disk is Disk.INCONSISTENT and s.wanted.disk is Disk.UPTODATE:
        t.want(records.inconsistent(s.wanted))
    else:
        t.want(records.outdated(s.wanted))
    _back_off(t)
    fall_behind(t)


def _back_off(t: Turn) -> None:
    s = t.s
    doublings = min(s.follow_failures, MAX_BACKOFF_DOUBLINGS)
    s.follow_after = t.now + s.params.detection_s * 2**doublings
    s.follow_failures += 1


def called_back(t: Turn, callback: str, event: StepDone) -> None:
    """`_rfs_callback` has ended. What it says before a synchronisation decides whether that one
    begins; it may also have taken so long that there is nobody to follow any more."""
    s = t.s
    if not event.ok:
        t.announce(Level.CRITICAL, f"_rfs_callback {callback} failed: {event.detail}")
    if callback != STARTSYNCH or s.phase is not Phase.FOLLOWING:
        return
    view = t.view
    still = view is not None and view.serving and view.record.epoch == s.follow_epoch
    if event.ok and still:
        return
    if not event.ok:
        s.reintegre_failed = True
        _back_off(t)
    s.following = False
    t.begin(())


# Changes.


def begin(t: Turn, keep_aside: bool) -> None:
    """The peer serves: be brought up to date by it."""
    s = t.s
    view = t.view
    assert view is not None
    if s.state is State.WAIT:
        t.enter(State.SECOND, Phase.FOLLOWING, Cause.PEER_LEADS)
        s.transition_called = False
    s.phase = Phase.FOLLOWING
    s.app_ready = False
    s.synced = not s.params.has_rfs
    s.handing_over = False
    s.following = True
    s.adopting_version = 0
    s.adopted_epoch = 0
    s.keep_aside = keep_aside
    s.follow_epoch = view.record.epoch
    s.follow_policy = s.wanted.policy
    permission.forget(s)
    t.clear_block()
    t.begin(plans.follow())
    if not s.params.has_rfs:
        current = State.SECOND if s.transition_called else State.WAIT
        t.append(plans.settle_as_second(s.ran, current, s.transition_called))
        s.transition_called = True


def fall_behind(t: Turn) -> None:
    """In sync no more: close the stream, then be brought up to date anew."""
    s = t.s
    s.synced = False
    s.app_ready = False
    s.following = False
    s.adopting_version = 0
    t.begin((Work.STOP_FOLLOWING,))


def leave(t: Turn, cause: Cause) -> None:
    """SECOND to WAIT without stopping: there is nobody to follow."""
    s = t.s
    was_following = s.following
    s.synced = s.following = s.handing_over = s.app_ready = False
    s.adopting_version = 0
    t.enter(State.WAIT, Phase.DECIDING, cause)
    plan: plans.Plan = (Work.STOP_FOLLOWING,) if was_following else ()
    if s.ran:
        plan += plans.change(s.ran, State.SECOND, State.WAIT, "stop")
    t.begin((*plan, Then.DECIDE))


# Rules that hold at every moment.


def behind(t: Turn) -> bool:
    """The other node has moved on from the generation we hold: make that durable, whatever we
    are doing (K12c: nothing else would keep us from serving yesterday's data)."""
    s = t.s
    view = t.view
    if s.serving or view is None or not s.params.has_rfs or s.wanted.disk is not Disk.UPTODATE:
        return False
    if s.phase is Phase.LEADING or not reunion.behind(s.wanted, view):
        return False
    if reunion.misfit(s.wanted, view):
        return False
    t.want(records.outdated(s.wanted))
    if s.phase is Phase.FOLLOWING and s.following:
        fall_behind(t)
    return True


def rules(t: Turn) -> bool:
    if t.s.phase is not Phase.FOLLOWING:
        return False
    return (
        _adopted(t)
        or _take_over(t)
        or _source_gone(t)
        or _changed(t)
        or _follow(t)
        or _request_heard(t)
    )


def _adopted(t: Turn) -> bool:
    s = t.s
    if not s.adopting_version or not t.durable(s.adopting_version):
        return False
    s.adopting_version = 0
    s.adopted_epoch = s.record.epoch
    s.synced = True
    s.unapplied = s.lost_volatile = False
    t.do(Adopted(s.adopted_epoch))
    return True


def _take_over(t: Turn) -> bool:
    """SECOND, in sync, and the primary is gone (reference 7.1)."""
    s = t.s
    if not s.synced or (s.params.has_rfs and s.wanted.disk is not Disk.UPTODATE):
        return False
    cause = _cause_to_take_over(t)
    if cause is None:
        maintenance.back(t)
        return _claimed_in_vain(t)
    if cause is not Cause.SWAP and maintenance.on(s):
        return maintenance.holds_back(t, cause.value)
    arbiters = _who_must_agree(t, cause)
    if arbiters is None:
        t.announce(Level.CRITICAL, serving.ASLEEP if s.doubt else NOBODY_CAN_SAY)
        leave(t, Cause.SOURCE_GONE)
        return True
    if cause is not Cause.SWAP and not switching.takes_over(s):
        t.announce(Level.EVENT, "Failover-off configured")
        t.announce(Level.CRITICAL, "Action stopstart called by failover-off")
        stopping.begin(t, "stopstart", start_again=True, cause=Cause.FAILOVER_OFF)
        return True
    if not permission.granted(s, arbiters):
        if not permission.given_up(t):
            return permission.pursue(t, arbiters)
        permission.refused(t)
        leave(t, Cause.REFUSED)
        return True
    if cause is not Cause.SWAP:
        t.announce(Level.CRITICAL, f"Action alone called by heart: {cause.value}")
    s.phase = Phase.TAKING_OVER
    s.take_over_cause = cause
    t.permitted(evidence(arbiters) if arbiters or cause is Cause.NO_HEARTBEAT else "E1")
    s.app_ready = False
    s.following = False
    s.adopting_version = 0
    t.begin(plans.take_over(s.ran))
    return True


def _cause_to_take_over(t: Turn) -> Cause | None:
    s = t.s
    view = t.view
    if view is None:
        return Cause.NO_HEARTBEAT
    if view.serving:
        return None
    if view.state in (State.STOP, State.WAIT):
        return Cause.REMOTE_STOP
    if view.state is State.SECOND and (
        not s.params.has_rfs or view.record.disk is not Disk.UPTODATE
    ):
        return Cause.SWAP
    return None


def _who_must_agree(t: Turn, cause: Cause) -> tuple[Arbiter, ...] | None:
    """None: nobody can say that this node may serve alone."""
    s = t.s
    if cause is Cause.NO_HEARTBEAT:
        return permission.needed(s, back=s.doubt)
    view = t.view
    if view is not None and view.record.disk is not Disk.UPTODATE:
        return ()  # E1: it has made durable that it is behind.
    return permission.claim_needed(s)


def _claimed_in_vain(t: Turn) -> bool:
    """The primary is there after all, and a claim of ours may stand at the witness: were the
    primary to lose us in this same period, it would be refused. So begin a new one."""
    s = t.s
    if s.inquiry is None or not s.inquiry.claimed or not s.params.has_rfs:
        return False
    permission.forget(s)
    fall_behind(t)
    return True


def still_entitled(t: Turn) -> bool:
    """Looked at once more, after everything received was applied and before the claim."""
    s = t.s
    if not s.params.has_rfs:
        return True
    view = t.view
    if s.unapplied or s.wanted.disk is not Disk.UPTODATE:
        return False
    return view is None or not view.serving


def _source_gone(t: Turn) -> bool:
    """Nothing to take over with, and nobody to follow (F12)."""
    s = t.s
    if s.synced or s.plan:
        return False
    view = t.view
    gone = view is None or (view.state in (State.STOP, State.WAIT) and not view.serving)
    if view is not None and view.state is State.SECOND and not view.serving:
        # Two followers and nobody to follow, unless one is about to take over (swap).
        gone = not s.handing_over or view.record.disk is not Disk.UPTODATE
    if not gone:
        return False
    leave(t, Cause.SOURCE_GONE)
    return True


def _differs(t: Turn) -> bool:
    """The source has another configuration: it was changed while this node is synchronised."""
    view = t.view
    return view is not None and view.config_digest != t.s.params.config_digest


def _changed(t: Turn) -> bool:
    """Nodes with different settings (time-outs among them) do not become a pair."""
    s = t.s
    if not s.following or s.synced or s.adopting_version or s.plan or not _differs(t):
        return False
    leave(t, Cause.SOURCE_GONE)
    return True


def _follow(t: Turn) -> bool:
    """The peer serves and we do not follow it, or follow it under a number it has given up."""
    s = t.s
    view = t.view
    if s.synced or s.plan or view is None or not view.serving or t.now < s.follow_after:
        return False
    if not t.heard_lately or not operator.may_follow(t):
        return False
    if view.record.epoch < s.wanted.promised:
        return False  # It will raise its number when it hears ours.
    if s.following and (view.record.epoch == s.follow_epoch or not view.record.peer_behind):
        return False
    if s.adopting_version:
        return False
    decision = election.decide(t.situation("start"))
    if decision.verdict is Verdict.FOLLOW:
        begin(t, decision.keep_aside)
        return True
    if decision.blocked:
        leave(t, Cause.SOURCE_GONE)
        return True
    return False


def _request_heard(t: Turn) -> bool:
    """A wish was told long enough, or is fulfilled."""
    s = t.s
    view = t.view
    if not s.request:
        return False
    if t.now < s.request_until and view is not None and view.state is State.PRIM and view.serving:
        return False
    s.request = ""
    return True
