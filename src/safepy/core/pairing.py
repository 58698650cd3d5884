"""The link of a leading node to its secondary: caught up, joined, lost, released.

It runs beside the plan, never behind it: a script of the plan may itself wait for a write that
is held until the link is settled.
"""

from __future__ import annotations

from safepy.model import Disk, Gate, Level, PeerView, State, Status, SyncMode

from . import permission, plans, records, reunion, syncmode
from .arbitration import evidence
from .commands import AllowFollower, CloseGate, Join, OpenGate, ReleaseHeld
from .events import SyncChosen
from .state import Link, Phase
from .transitions import Cause
from .turn import Turn

#: The links on which the application's writes depend on the secondary.
BOUND = frozenset({Link.RECORDING, Link.JOINING, Link.PAIRED})
#: From this many losses within this time on, a new follower waits a detection time, then two,
#: four and eight.
FLAPPING_LOSSES = 3
FLAPPING_S = 600.0
FLAPPING_MAX_DOUBLINGS = 3


# What the worker reports.


def replica_lost(t: Turn, epoch: int, reason: str) -> None:
    """The worker holds every write from here on."""
    if t.s.serving and t.s.link in BOUND and epoch >= t.s.solo_epoch:
        t.announce(Level.EVENT, f"Replication to the secondary is lost: {reason}")
        freeze(t)


def caught_up(t: Turn, epoch: int) -> None:
    """The follower's tree equals ours, writes are held: first our record, then it may adopt."""
    s = t.s
    if not s.serving or s.link is not Link.SOLO or epoch < s.solo_epoch:
        return
    s.link = Link.RECORDING
    s.unjoined = s.wanted
    theirs = 0 if s.peer is None else s.peer.record.checkpoint_started
    # A wish for everything that came while something less was under way is still to be fulfilled.
    unfulfilled = s.wanted.policy.mode == "full" and s.sync_mode != SyncMode.EVERYTHING
    policy = s.wanted.policy if unfulfilled else records.DEFAULT_POLICY
    s.link_version = t.want(records.join(s.wanted, theirs, t.wall, policy))
    s.join_epoch = s.wanted.epoch


def joined(t: Turn, epoch: int) -> None:
    s = t.s
    if not s.serving or epoch != s.join_epoch:
        return
    if s.link is Link.JOINING:
        pair(t)
    elif s.link is not Link.PAIRED and s.wanted.marks_base:
        t.want(records.confirmed_late(s.wanted))


def resync_failed(t: Turn, epoch: int, reason: str) -> None:
    s = t.s
    if not s.serving or epoch < s.solo_epoch:
        return
    s.allowed = None
    s.reintegre_failed = True
    if s.link in BOUND:
        replica_lost(t, epoch, reason)
    elif s.told_resync != reason:
        s.told_resync = reason
        t.announce(Level.EVENT, f"The reintegration of the other node failed: {reason}")


def gate_stale(t: Turn, epoch: int) -> None:
    """The peer's worker is in a later epoch: this node leads no more, if the peer does (I13)."""
    s = t.s
    if not s.serving or epoch <= t.epoch or s.link is Link.SOLO:
        return
    s.wanted = records.see(s.wanted, epoch)
    if s.link in BOUND:
        freeze(t)


# Changes.


def pair(t: Turn) -> None:
    """ALONE to PRIM."""
    s = t.s
    s.told_resync = ""
    s.reintegre_failed = False
    s.told_sync = ("", "")
    s.link = Link.PAIRED
    s.unjoined = None
    s.evidence = ""
    s.allowed = None
    s.dozing_since = None
    s.paired_session = s.links.peer_session
    open_as(t, Gate.PRIM)
    _show(t, State.PRIM, Cause.JOINED)


def freeze(t: Turn) -> None:
    """The secondary is lost: no answer until the new generation is durable, and known to the
    peer or the peer silent, and our own permission durable (design-examples 6)."""
    s = t.s
    t.do(CloseGate(t.epoch))
    s.gate = Gate.CLOSED
    s.link = Link.CLAIMING
    s.link_version = t.want(records.claim(s.wanted, s.params.session, s.unjoined))
    s.unjoined = None
    s.claim_epoch = s.wanted.epoch
    s.dozing_since = None
    s.frozen_since = t.now
    permission.forget(s)


def release(t: Turn) -> None:
    """Permission is durable: what was held is answered, the node goes on ALONE."""
    s = t.s
    s.link = Link.SOLO
    s.solo_epoch = t.epoch
    s.allowed = None
    s.gate = Gate.ALONE
    s.renew_at = t.now + s.params.renew_s
    permission.forget(s)
    _count_loss(t)
    t.do(ReleaseHeld(t.epoch, s.params.gate_s))
    if s.state is State.PRIM:
        _show(t, State.ALONE, Cause.SECONDARY_GONE)


def _count_loss(t: Turn) -> None:
    """Flapping (protocol 9): after some losses in a short time the next follower waits, twice as
    long each time. A secondary that was stopped on purpose is not a loss."""
    s = t.s
    view = t.view
    same_run = s.links.peer_session == s.paired_session
    if view is not None and same_run and view.state in (State.STOP, State.WAIT):
        return
    s.losses = (*(at for at in s.losses if t.now - at < FLAPPING_S), t.now)
    doublings = min(len(s.losses) - FLAPPING_LOSSES, FLAPPING_MAX_DOUBLINGS)
    if doublings < 0:
        return
    delay_s = s.params.detection_s * 2**doublings
    s.pair_after = t.now + delay_s
    t.announce(
        Level.CRITICAL,
        f"The secondary was lost {len(s.losses)} times in {FLAPPING_S / 60:.0f} minutes: "
        f"its reintegration waits for {delay_s:.0f} s",
    )


def _show(t: Turn, target: State, cause: Cause) -> None:
    """ALONE and PRIM change into each other without touching the application: only the `sec`
    scripts follow, and only if the application is not being stopped."""
    s = t.s
    before = s.state
    if s.phase is not Phase.LEADING:
        s.state = target  # Stopping or swapping: the plan under way runs the right scripts.
        return
    t.enter(target, Phase.LEADING, cause)
    ran = plans.ran_after(s.plan, s.ran)
    t.append(plans.change(ran, before, target))


def open_as(t: Turn, mode: Gate) -> None:
    """Open the gate, or renew it; and say when the next renewal is due."""
    s = t.s
    s.gate = mode
    s.renew_at = t.now + s.params.renew_s
    t.do(OpenGate(mode, t.epoch, s.params.gate_s))


# Rules that hold at every moment; each returns whether it changed something.


def rules(t: Turn) -> bool:
    return _secondary_gone(t) or _link_progress(t) or _allow_follower(t) or _pair_without_data(t)


def _secondary_gone(t: Turn) -> bool:
    """In sync, but the secondary is lost, or says itself that it is no secondary any more."""
    s = t.s
    if s.link is Link.JOINING and t.now >= s.link_until:
        freeze(t)
        return True
    if s.link is not Link.PAIRED:
        return False
    if t.peer_lost or _says_it_left(t, t.view):
        if s.params.has_rfs:
            freeze(t)
        else:
            arbiters = permission.needed(s, back=s.doubt) if t.peer_lost else ()
            if arbiters and not permission.granted(s, arbiters):
                # Nothing is held meanwhile: what the application does is not known here.
                return permission.pursue(t, arbiters)
            permission.forget(s)
            s.link = Link.SOLO
            t.permitted(evidence(arbiters or ()) if t.peer_lost else "E1")
            t.want(records.confirm(records.claim(s.wanted, s.params.session)))
            if s.state is State.PRIM:
                _show(t, State.ALONE, Cause.SECONDARY_GONE)
        return True
    return False


def _says_it_left(t: Turn, view: PeerView | None) -> bool:
    if view is None:
        return False
    if not t.s.params.has_rfs:
        # With a higher number than ours it has led while we slept, and has given way since: it
        # follows again once we lead under a number of our own.
        return view.state is not State.SECOND or view.record.epoch > t.s.wanted.epoch
    # A view from before the join would say that it is not in sync: it says nothing.
    if view.record.epoch < t.s.join_epoch:
        return False
    return view.state is not State.SECOND or view.record.disk is not Disk.UPTODATE


def _link_progress(t: Turn) -> bool:
    s = t.s
    match s.link:
        case Link.RECORDING if t.durable(s.link_version):
            s.link = Link.JOINING
            s.link_until = t.now + s.params.detection_s
            record = s.record
            t.do(Join(record.epoch, record.gen, record.base, record.history, record.checkpoint))
            return True
        case Link.CLAIMING if t.durable(s.link_version):
            s.link = Link.ASKING
            return True
        case Link.ASKING:
            return _ask(t)
        case Link.CONFIRMING if t.durable(s.link_version):
            release(t)
            return True
        case _:
            return False


def _ask(t: Turn) -> bool:
    """The right to go on alone: the other node's own word (E1), or everybody who must agree."""
    s = t.s
    view = t.view
    said_so = _knows(t, view)
    if said_so and view is not None:
        outdated = view.record.disk is not Disk.UPTODATE
        arbiters = () if outdated else permission.claim_needed(s)
        name = evidence(arbiters) if arbiters else "E1"
    elif view is not None:
        return False
    else:
        asked = permission.needed(s, back=s.doubt)
        if asked is None:
            return False
        arbiters, name = asked, evidence(asked)
    if not permission.granted(s, arbiters):
        return permission.pursue(t, arbiters)
    s.link = Link.CONFIRMING
    t.permitted(name)
    s.link_version = t.want(records.confirm(s.wanted))
    return True


def _knows(t: Turn, view: PeerView | None) -> bool:
    """The peer will not lead with what it has (E1): it has seen the epoch of our claim, so it
    refuses any earlier invitation to adopt, and it is not an up to date secondary."""
    if view is None or max(view.record.promised, view.record.epoch) < t.s.claim_epoch:
        return False
    if reunion.leads(view):
        return False
    return view.record.disk is not Disk.UPTODATE or view.state is not State.SECOND


def _allow_follower(t: Turn) -> bool:
    s = t.s
    view = t.view
    if not s.params.has_rfs or s.link is not Link.SOLO or s.phase is not Phase.LEADING:
        return False
    if t.now < s.pair_after:
        return False
    if view is None or not view.ready_to_follow or view.config_digest != s.params.config_digest:
        return False
    if s.wanted.epoch != t.epoch or s.wanted_version != s.durable_version:
        return False
    if reunion.misfit(s.wanted, view) or s.dozing_since is not None:
        return False
    if s.degraded:
        return False
    keep_aside = reunion.must_keep_aside(view.record, s.record)
    choice = syncmode.choose(s.record, view)
    # The reason is for people: the records may come to say the same for another one meanwhile.
    order = (t.epoch, keep_aside, choice.mode, choice.since, s.links.peer_session)
    if s.allowed == order:
        return False
    s.allowed = order
    if choice.abnormal and s.told_abnormal != s.links.peer_session:
        s.told_abnormal = s.links.peer_session
        t.announce(Level.EVENT, syncmode.ABNORMAL, "reintegre")
        t.announce(Level.EVENT, syncmode.ABNORMAL_NEXT, "reintegre")
    reason = f"{choice.reason} ({choice.row})"
    t.do(AllowFollower(t.epoch, keep_aside, choice.mode, reason, choice.since))
    return True


def sync_chosen(t: Turn, event: SyncChosen) -> None:
    """How a synchronisation that begins is done; told by the worker of either side."""
    s = t.s
    if s.serving and (s.link is not Link.SOLO or event.epoch < s.solo_epoch):
        return
    if not s.serving and (s.phase is not Phase.FOLLOWING or s.synced):
        return
    s.sync_mode, s.sync_reason = event.mode, event.reason
    if s.told_sync != (event.mode, event.reason):
        s.told_sync = (event.mode, event.reason)
        words = syncmode.in_words(event.mode, event.reason)
        t.announce(Level.EVENT, f"Reintegration: {words}", "reintegre")


def _pair_without_data(t: Turn) -> bool:
    """Without replicated directories the secondary's own word is enough."""
    s = t.s
    view = t.view
    if s.params.has_rfs or s.link is not Link.SOLO or s.phase is not Phase.LEADING:
        return False
    if view is None or view.state is not State.SECOND or view.status is not Status.READY:
        return False
    t.want(records.join(s.wanted))
    s.link = Link.PAIRED
    s.join_epoch = s.wanted.epoch
    _show(t, State.PRIM, Cause.JOINED)
    return True
