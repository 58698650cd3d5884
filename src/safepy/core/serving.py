"""The node whose gate is or may be open: ALONE, PRIM, and what lies between them.

What happens on the link to the secondary runs beside the plan, never behind it: a script of the
plan may itself wait for a write that is held until the link is settled.
"""

from __future__ import annotations

from safepy.model import Disk, Gate, Level, PeerView, State, Status

from . import election, plans, records
from .commands import (
    AllowFollower,
    CloseGate,
    Join,
    ModifiedRecorded,
    OpenGate,
    ReleaseHeld,
)
from .state import Link, Phase
from .transitions import Cause
from .turn import Turn

ASLEEP = "This node was asleep, and the other one is silent: it may have led meanwhile"

#: The links on which the application's writes depend on the secondary.
BOUND = frozenset({Link.RECORDING, Link.JOINING, Link.PAIRED})


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
    s.link_version = t.want(records.join(s.wanted))
    s.join_epoch = s.wanted.epoch


def joined(t: Turn, epoch: int) -> None:
    if t.s.serving and t.s.link is Link.JOINING and epoch == t.s.join_epoch:
        pair(t)


def resync_failed(t: Turn, epoch: int, reason: str) -> None:
    s = t.s
    if epoch < s.solo_epoch:
        return
    s.allowed = None
    if s.link in BOUND:
        replica_lost(t, epoch, reason)


def first_modification(t: Turn, epoch: int) -> None:
    s = t.s
    if not s.serving or epoch < s.solo_epoch:
        return
    if s.record.modified:
        t.do(ModifiedRecorded(t.epoch))
        return
    s.modified_version = t.want(records.modified(s.wanted))


def gate_stale(t: Turn, epoch: int) -> None:
    """The peer's worker is in a later epoch: this node leads no more, if the peer does (I13)."""
    s = t.s
    if not s.serving or epoch <= t.epoch or s.link is Link.SOLO:
        return
    s.wanted = records.see(s.wanted, epoch)
    if s.link in BOUND:
        freeze(t)


def disk_fault(t: Turn, disk: Disk, reason: str) -> None:
    """F43: in PRIM the other copy is good, so hand over. ALONE, ours is the newest there is."""
    s = t.s
    t.announce(Level.CRITICAL, f"The local replicated directories cannot be trusted: {reason}")
    if not s.serving or s.link is not Link.PAIRED or disk is Disk.UPTODATE:
        return
    step_aside(t, Cause.LOCAL_FAULT)


# Changes of the link.


def pair(t: Turn) -> None:
    """ALONE to PRIM."""
    s = t.s
    s.link = Link.PAIRED
    s.allowed = None
    s.dozing_since = None
    _open(t, Gate.PRIM)
    _show(t, State.PRIM, Cause.JOINED)


def freeze(t: Turn) -> None:
    """The secondary is lost: no answer until the new generation is durable, and known to the
    peer or the peer silent, and our own permission durable (design-examples 6)."""
    s = t.s
    t.do(CloseGate(t.epoch))
    s.gate = Gate.CLOSED
    s.link = Link.CLAIMING
    s.link_version = t.want(records.claim(s.wanted, s.params.session))
    s.claim_epoch = s.wanted.epoch
    s.dozing_since = None


def release(t: Turn) -> None:
    """Permission is durable: what was held is answered, the node goes on ALONE."""
    s = t.s
    s.link = Link.SOLO
    s.solo_epoch = t.epoch
    s.allowed = None
    s.gate = Gate.ALONE
    s.renew_at = t.now + s.params.pulse_s
    t.do(ReleaseHeld(t.epoch, s.params.gate_s))
    if s.state is State.PRIM:
        _show(t, State.ALONE, Cause.SECONDARY_GONE)


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


def _open(t: Turn, mode: Gate) -> None:
    s = t.s
    s.gate = mode
    s.renew_at = t.now + s.params.pulse_s
    t.do(OpenGate(mode, t.epoch, s.params.gate_s))


def open_gate(t: Turn) -> None:
    """The plan has come to the gate: ALONE from here on. A node that serves already (a swap that
    was given up) may have got a follower meanwhile, and then the link opens the gate."""
    s = t.s
    if not s.serving:
        s.serving = True
        s.solo_epoch = t.epoch
        s.link = Link.SOLO
        s.allowed = None
        s.dozing_since = None
    if s.params.has_rfs and s.link is Link.SOLO:
        _open(t, Gate.ALONE)


def shut(t: Turn) -> None:
    """This node serves no more; whatever the link was waiting for is void."""
    s = t.s
    s.serving = False
    s.gate = Gate.CLOSED
    s.link = Link.SOLO
    s.modified_version = 0
    s.allowed = None
    s.dozing_since = None


def step_aside(t: Turn, cause: Cause, outdated: bool = True) -> None:
    """Forced retreat: the gate closes first, whatever plan was running. `outdated`: the other
    node is known to have the better copy."""
    s = t.s
    current = s.state
    if s.params.has_rfs:
        t.do(CloseGate(t.epoch))
    unanswered = t.frozen
    if unanswered:
        # Nothing was acknowledged under the claim: the old generation is the truth.
        t.want(records.unclaim(s.wanted))
    shut(t)
    s.app_ready = False
    if s.phase is Phase.STOPPING:
        t.begin(plans.stop_aside(s.ran, current, s.action, outdated))
        return
    t.enter(State.SECOND, Phase.RETREATING, cause)
    t.begin(plans.step_aside(s.ran, current, outdated))


# Rules that hold at every moment; each returns whether it changed something.


def rules(t: Turn) -> bool:
    s = t.s
    if not s.serving:
        return False
    return (
        _other_leader(t)
        or _secondary_gone(t)
        or _link_progress(t)
        or _modified_recorded(t)
        or _wake(t)
        or _raise_epoch(t)
        or _renew(t)
        or _allow_follower(t)
        or _pair_without_data(t)
        or _swap_to_preferred(t)
    )


def _other_leader(t: Turn) -> bool:
    """The other node serves too: one of the two was frozen, or the brain was split."""
    s = t.s
    view = t.view
    if view is None or election.misfit(s.wanted, view):
        s.told_split = False
        return False
    if _overtaken(t, view):
        step_aside(t, Cause.OVERTAKEN)
        return True
    if not view.serving:
        s.told_split = False
        return False
    if not s.params.has_rfs:
        stays = election.wins_split(s.wanted, view.record)
    elif view.record.gen == s.wanted.gen:
        return False
    elif election.behind(s.wanted, view) and not s.wanted.peer_behind:
        step_aside(t, Cause.OVERTAKEN)
        return True
    elif election.behind(s.wanted, view):
        # It took our generation further although we serve in it: ours is contained in its.
        stays = False
    elif view.record.gen in election.ancestors(s.wanted):
        return False  # It is the one that was overtaken; it will find out from our beats.
    else:
        if s.wanted.base != view.record.base and not s.told_split:
            t.announce(
                Level.CRITICAL, "Both nodes serve unrelated generations: an operator must choose"
            )
            s.told_split = True
        if s.wanted.base != view.record.base:
            return False
        stays = election.wins_split(s.wanted, view.record)
    if stays:
        if not s.told_split:
            s.told_split = True
            t.announce(Level.EVENT, "Split brain recovery: staying alone")
            return True
        return False
    t.announce(Level.EVENT, "Split brain recovery: exiting alone")
    step_aside(t, Cause.SPLIT_BRAIN)
    return True


def _overtaken(t: Turn, view: PeerView) -> bool:
    """While our writes depended on the secondary, or were held, it has led: it answers, or did
    so until a moment ago. What it acknowledged is not here."""
    s = t.s
    if not s.params.has_rfs:
        return False
    if t.frozen:
        return view.serving or election.behind(records.unclaim(s.wanted), view)
    return s.link in BOUND and election.behind(s.wanted, view)


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
            s.link = Link.SOLO
            t.want(records.confirm(records.claim(s.wanted, s.params.session)))
            if s.state is State.PRIM:
                _show(t, State.ALONE, Cause.SECONDARY_GONE)
        return True
    return False


def _says_it_left(t: Turn, view: PeerView | None) -> bool:
    if view is None:
        return False
    if not t.s.params.has_rfs:
        return view.state is not State.SECOND
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
            t.do(Join(record.epoch, record.gen, record.base, record.history))
            return True
        case Link.CLAIMING if t.durable(s.link_version):
            s.link = Link.ASKING
            return True
        case Link.ASKING if t.peer_lost and s.doubt:
            # Frozen for good: the peer may have led while we slept. Its copy may be the better
            # one, and so may ours: neither is called outdated (K9).
            t.announce(Level.CRITICAL, ASLEEP)
            step_aside(t, Cause.OVERTAKEN, outdated=False)
            return True
        case Link.ASKING if t.peer_lost or _knows(t, t.view):
            s.link = Link.CONFIRMING
            s.link_version = t.want(records.confirm(s.wanted))
            return True
        case Link.CONFIRMING if t.durable(s.link_version):
            release(t)
            return True
        case _:
            return False


def _knows(t: Turn, view: PeerView | None) -> bool:
    """The peer will not lead with what it has (E1): it has seen the epoch of our claim, so it
    refuses any earlier invitation to adopt, and it is not an up to date secondary."""
    if view is None or max(view.record.promised, view.record.epoch) < t.s.claim_epoch:
        return False
    if election.leads(view):
        return False
    return view.record.disk is not Disk.UPTODATE or view.state is not State.SECOND


def _modified_recorded(t: Turn) -> bool:
    s = t.s
    if not s.modified_version or not t.durable(s.modified_version):
        return False
    s.modified_version = 0
    t.do(ModifiedRecorded(t.epoch))
    return True


def _wake(t: Turn) -> bool:
    """After an awakening the gate stays shut until the peer was heard again, by a beat that
    answers one we sent since; a node that is alone anyway listens for a few pulses."""
    s = t.s
    if s.dozing_since is None:
        return False
    view = t.view
    heard = view is not None and t.heard_at >= s.dozing_since
    if s.link is Link.PAIRED:
        if not heard or view is None or view.record.epoch != t.epoch:
            return False
        s.dozing_since = None
        _open(t, Gate.PRIM)
        return True
    if heard or t.listened:
        s.dozing_since = None
        if s.link is Link.SOLO:
            _open(t, Gate.ALONE)
        return True
    return False


def _raise_epoch(t: Turn) -> bool:
    """The number of the serving period is the highest there is: a follower that saw a higher one
    would be right to refuse ours."""
    s = t.s
    if s.link is not Link.SOLO or s.wanted.promised <= s.wanted.epoch:
        return False
    if t.view is not None and t.view.serving:
        return False
    t.want(records.renumber(s.wanted))
    return True


def _renew(t: Turn) -> bool:
    s = t.s
    if not s.params.has_rfs or s.dozing_since is not None or t.now < s.renew_at:
        return False
    if s.gate is Gate.CLOSED or s.link not in (Link.SOLO, Link.PAIRED):
        return False
    _open(t, s.gate)
    return True


def _allow_follower(t: Turn) -> bool:
    s = t.s
    view = t.view
    if not s.params.has_rfs or s.link is not Link.SOLO or s.phase is not Phase.LEADING:
        return False
    if view is None or not view.ready_to_follow or view.config_digest != s.params.config_digest:
        return False
    if s.wanted.epoch != t.epoch or s.wanted_version != s.durable_version:
        return False
    if election.misfit(s.wanted, view) or s.dozing_since is not None:
        return False
    order = (t.epoch, election.must_keep_aside(view.record, s.record), s.links.peer_session)
    if s.allowed == order:
        return False
    s.allowed = order
    t.do(AllowFollower(order[0], order[1]))
    return True


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


def _swap_to_preferred(t: Turn) -> bool:
    """`defaultprim`: the preferred node takes the lead once it is in sync (reference 7.4)."""
    s = t.s
    view = t.view
    if s.link is not Link.PAIRED or s.plan or s.phase is not Phase.LEADING or view is None:
        return False
    if s.join_epoch == s.swapped_epoch or not s.app_ready or view.record.epoch < s.join_epoch:
        return False
    if view.state is not State.SECOND or view.status is not Status.READY:
        return False
    s.swapped_epoch = s.join_epoch
    wanted = s.params.defaultprim
    if wanted == view.node or (wanted == "lastprim" and view.record.last_role == "P"):
        t.announce(Level.EVENT, "Transition SWAP from defaultprim")
        begin_swap(t)
        return True
    return False


# Wished retreats.


def begin_swap(t: Turn) -> None:
    s = t.s
    t.announce(Level.EVENT, "Begin of Swap")
    s.phase = Phase.SWAPPING
    s.app_ready = False
    t.begin(plans.swap(s.ran))


def swap_point(t: Turn) -> bool:
    """Both nodes are quiet and flushed. Hand over, or take the application up again if the
    secondary went away. False: not known yet."""
    s = t.s
    if t.frozen or s.link in (Link.RECORDING, Link.JOINING):
        return False
    if s.link is Link.PAIRED:
        shut(t)
        s.handing_over = True
        t.enter(State.SECOND, Phase.RETREATING, Cause.SWAP)
        s.transition_called = True
        t.begin(plans.hand_over())
    else:
        s.phase = Phase.LEADING
        t.announce(Level.EVENT, "The secondary went away: the swap is given up")
        t.begin(plans.swap_failed(s.ran, s.state))
    return True
