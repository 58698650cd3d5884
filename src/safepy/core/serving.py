"""The node whose gate is or may be open: ALONE, PRIM, and the ways out of them.

The link to the secondary has its own file, `pairing.py`.
"""

from __future__ import annotations

from safepy.model import Disk, Gate, Level, PeerView, State, Status

from . import maintenance, pairing, permission, plans, records, reunion
from .commands import CloseGate, ModifiedRecorded
from .pairing import BOUND, open_as
from .state import Link, Phase
from .transitions import Cause
from .turn import Turn

ASLEEP = "This node was asleep, and the other one is silent: it may have led meanwhile"


# What the worker reports.


def first_modification(t: Turn, epoch: int) -> None:
    s = t.s
    if not s.serving or epoch < s.solo_epoch:
        return
    if s.record.modified:
        t.do(ModifiedRecorded(t.epoch))
        return
    s.modified_version = t.want(records.modified(s.wanted))


def disk_fault(t: Turn, disk: Disk, reason: str) -> None:
    """F43: in PRIM the other copy is good, so hand over. ALONE, ours is the newest there is."""
    s = t.s
    t.announce(Level.CRITICAL, f"The local replicated directories cannot be trusted: {reason}")
    if not s.serving or disk is Disk.UPTODATE:
        return
    # Alone the application goes on as far as it can; nobody is filled from this tree.
    s.degraded = True


# Changes.


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
        open_as(t, Gate.ALONE)


def shut(t: Turn) -> None:
    """This node serves no more; whatever the link was waiting for is void."""
    s = t.s
    if s.serving:
        s.served_until = t.now
    s.serving = False
    s.gate = Gate.CLOSED
    s.link = Link.SOLO
    s.modified_version = 0
    s.allowed = None
    s.dozing_since = None
    s.degraded = False
    permission.forget(s)


def step_aside(t: Turn, cause: Cause, outdated: bool = True, target: State = State.SECOND) -> None:
    """Forced retreat: the gate closes first, whatever plan was running. `outdated`: the other
    node is known to have the better copy."""
    s = t.s
    current = s.state
    if s.params.has_rfs:
        t.do(CloseGate(t.epoch))
    unanswered = t.frozen
    if unanswered:
        # Nothing was acknowledged under the claim: the old generation is the truth.
        t.want(t.unclaimed)
    shut(t)
    s.app_ready = False
    if s.phase is Phase.STOPPING:
        t.begin(plans.stop_aside(s.ran, current, s.action, outdated))
        return
    t.enter(target, Phase.RETREATING, cause)
    t.begin(plans.step_aside(s.ran, current, target, outdated))


# Rules that hold at every moment; each returns whether it changed something.


def rules(t: Turn) -> bool:
    s = t.s
    if not s.serving:
        return False
    return (
        _other_leader(t)
        or _has_a_better_copy(t)
        or _gives_up(t)
        or pairing.rules(t)
        or _modified_recorded(t)
        or _wake(t)
        or _raise_epoch(t)
        or _renew(t)
        or _swap_to_preferred(t)
    )


def _other_leader(t: Turn) -> bool:
    """The other node serves too: one of the two was frozen, or the brain was split."""
    s = t.s
    view = t.view
    if view is None or reunion.misfit(s.wanted, view):
        s.told_split = False
        return False
    if _overtaken(t, view):
        step_aside(t, Cause.OVERTAKEN)
        return True
    if not view.serving:
        s.told_split = False
        return False
    if not s.params.has_rfs:
        stays = reunion.wins_split(s.wanted, view.record)
    elif view.record.gen == s.wanted.gen:
        return False
    elif reunion.behind(s.wanted, view) and not s.wanted.peer_behind:
        step_aside(t, Cause.OVERTAKEN)
        return True
    elif reunion.behind(s.wanted, view):
        # It took our generation further although we serve in it: ours is contained in its.
        stays = False
    elif view.record.gen in reunion.ancestors(s.wanted):
        return False  # It is the one that was overtaken; it will find out from our beats.
    else:
        if s.wanted.base != view.record.base and not s.told_split:
            t.announce(
                Level.CRITICAL, "Both nodes serve unrelated generations: an operator must choose"
            )
            s.told_split = True
        if s.wanted.base != view.record.base:
            return False
        stays = reunion.wins_split(s.wanted, view.record)
    if stays:
        if not s.told_split:
            s.told_split = True
            t.announce(Level.EVENT, "Split brain recovery: staying alone")
            return True
        return False
    t.announce(Level.EVENT, "Split brain recovery: exiting alone")
    step_aside(t, Cause.SPLIT_BRAIN)
    return True


def _has_a_better_copy(t: Turn) -> bool:
    """This node's tree is faulty, and the secondary is in sync: hand over (F43)."""
    if not t.s.degraded or t.s.link is not Link.PAIRED:
        return False
    step_aside(t, Cause.LOCAL_FAULT)
    return True


def _overtaken(t: Turn, view: PeerView) -> bool:
    """While our writes depended on the secondary, or were held, it has led: it answers, or did
    so until a moment ago. What it acknowledged is not here."""
    s = t.s
    if not s.params.has_rfs:
        return False
    if t.frozen:
        return view.serving or reunion.behind(t.unclaimed, view)
    return s.link in BOUND and reunion.behind(s.wanted, view)


def _gives_up(t: Turn) -> bool:
    """Nobody says that this node may go on, and the application has waited long enough; or the
    permission cannot be recorded (F47). What is held fails, the application stops. The other
    node's copy may be the better one, and so may ours: neither is called outdated (K9)."""
    s = t.s
    detection_s = s.params.detection_s
    limit_s = detection_s + s.params.arbitration.patience_s(detection_s)
    if s.record_broken and s.link in (Link.CLAIMING, Link.CONFIRMING, Link.RECORDING):
        why = "the generation record cannot be written"
    elif s.link is Link.ASKING and t.now >= s.frozen_since + limit_s:
        why = permission.refusal(s) or (ASLEEP if s.doubt else "the other node is silent")
    elif not s.params.has_rfs and s.link is Link.PAIRED and t.peer_lost and permission.given_up(t):
        why = permission.refusal(s)
    else:
        return False
    permission.refused(t, why)
    step_aside(t, Cause.REFUSED, outdated=False, target=State.WAIT)
    return True


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
        open_as(t, Gate.PRIM)
        return True
    if heard or t.listened:
        s.dozing_since = None
        if s.link is Link.SOLO:
            open_as(t, Gate.ALONE)
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
    open_as(t, s.gate)
    return True


def _swap_to_preferred(t: Turn) -> bool:
    """`defaultprim`: the preferred node takes the lead once it is in sync (reference 7.4)."""
    s = t.s
    view = t.view
    if s.link is not Link.PAIRED or s.plan or s.phase is not Phase.LEADING or view is None:
        return False
    if s.join_epoch == s.swapped_epoch or not s.app_ready:
        return False
    if s.params.has_rfs and view.record.epoch < s.join_epoch:
        return False  # From before the join.
    if maintenance.on(s):
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
