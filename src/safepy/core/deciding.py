"""WAIT: carry out what the election says."""

from __future__ import annotations

from safepy.model import Disk, Level

from . import election, following, operator, permission, plans, records, stopping, syncmode
from .election import Decision, Verdict
from .failover import acting
from .state import Phase
from .turn import Turn

PRIM_HINT = (
    "If you are sure that this server has valid data, run safekit prim to force start as primary"
)
PRIMFORCE_HINT = (
    "If you are sure that this server has valid data, "
    "run safekit primforce to force start as primary"
)

#: Between two dates of `syncat` (reference 6.8).
SCHEDULED = Decision(
    Verdict.WAIT,
    "rfs_syncat_wait",
    "the next scheduled synchronisation",
    blocked=True,
    remedy="set -r rfs.syncat -v up",
)


def rules(t: Turn) -> bool:
    """Decide, as long as nothing else is under way."""
    s = t.s
    if s.phase is not Phase.DECIDING or s.plan:
        return False
    held = acting.held(t)
    if held is None and s.held_by:
        _wake(t)
        t.clear_block()
        return True
    s.held_by = held.row if held is not None and held.blocked else ""
    decision = election.decide(t.situation(s.wish))
    if held is not None and decision.verdict is Verdict.YIELD:
        return _yield(t, decision) or _wait(t, held)
    if held is not None and decision.verdict is not Verdict.ABORT:
        return _wait(t, held)
    match decision.verdict:
        case Verdict.LEAD:
            _lead(t, decision)
            return True
        case Verdict.FOLLOW:
            return _follow(t, decision)
        case Verdict.YIELD:
            return _yield(t, decision)
        case Verdict.ABORT:
            _abort(t, decision)
            return True
        case Verdict.WAIT:
            return _wait(t, decision)
        case Verdict.ASK:
            arbiters = permission.needed(s, back=True)
            assert arbiters is not None
            return _wait(t, decision) or permission.pursue(t, arbiters)


def _wake(t: Turn) -> None:
    if t.s.told_wait:
        acting.announce_wakeup(t)


def _lead(t: Turn, decision: Decision) -> None:
    s = t.s
    _wake(t)
    if s.params.light:
        s.phase = Phase.LEADING
        t.clear_block()
        t.begin(plans.go_up(s.ran))
        return
    if decision.row == election.SYNCDELTA:
        t.announce(Level.CRITICAL, "Action prim from failover rule rfs_forceuptodate")
    t.announce(Level.INFO, f"Leads ({decision.row}): {decision.sentence}")
    s.phase = Phase.LEADING
    s.evidence = decision.row
    if decision.forced or decision.row == "prim":
        permission.tell_witness(t)
    permission.forget(s)
    s.lead_same = decision.same_generation
    s.lead_forced = decision.forced
    s.wish = "start"
    t.clear_block()
    t.begin(plans.lead(s.ran))


def _follow(t: Turn, decision: Decision) -> bool:
    s = t.s
    view = t.view
    assert view is not None
    objection = syncmode.objection(s.wanted, view)
    if objection:
        sentence = f"The external synchronisation cannot be applied: {objection}"
        _abort(t, Decision(Verdict.ABORT, "", sentence))
        return True
    if operator.must_wait_for_schedule(t):
        return _wait(t, SCHEDULED)
    if t.now < s.follow_after or not t.heard_lately or not operator.may_follow(t):
        return False
    if s.params.has_rfs and view.record.epoch < s.wanted.promised:
        return False  # It will raise its number when it hears ours.
    row = f" ({decision.row})" if decision.row else ""
    t.announce(Level.INFO, f"Follows{row}: {decision.sentence}")
    s.wish = "start"
    _wake(t)
    following.begin(t, decision.keep_aside)
    return True


def _yield(t: Turn, decision: Decision) -> bool:
    """The other node has the better copy, and may lead only when we said durably that ours is
    not (E1)."""
    s = t.s
    if s.wanted.disk is not Disk.UPTODATE or not t.heard_lately:
        return False
    t.announce(Level.INFO, f"Steps back ({decision.row}): {decision.sentence}")
    t.want(records.outdated(s.wanted))
    return True


def _abort(t: Turn, decision: Decision) -> None:
    s = t.s
    t.announce(Level.CRITICAL, decision.sentence)
    if s.record.disk is Disk.INCONSISTENT and s.wish == "prim":
        t.announce(Level.CRITICAL, PRIMFORCE_HINT)
    wish = "start" if s.wish == "start" else f"{s.wish} start"
    t.announce(Level.CRITICAL, f"Requested {wish} aborted")
    s.wish = "start"
    operator.aborted(t)
    stopping.begin(t, "stop", start_again=False)


def _wait(t: Turn, decision: Decision) -> bool:
    s = t.s
    waiting_for = decision.sentence
    if s.blocked == (waiting_for if decision.blocked else "") and s.reason == waiting_for:
        return False
    s.reason = waiting_for
    if not decision.blocked:
        _wake(t)
        t.clear_block()
        return True
    t.block(waiting_for, decision.remedy)
    if s.told_wait != waiting_for:
        s.told_wait = waiting_for
        _announce_wait(t, decision)
    return True


def _announce_wait(t: Turn, decision: Decision) -> None:
    if decision.row in ("degraded_server", "rfs_syncat_wait"):
        t.announce(Level.CRITICAL, f"Action wait from failover rule {decision.row}")
        return
    if any(decision.row == rule.label for rule in t.s.rules_true):
        acting.announce_wait(t, decision.row)
        return
    notuptodate = decision.row in ("D1", "D3", "D4", "D5", "D6", "D7", "D8", "D9", "E6", "D2")
    if not notuptodate:
        t.announce(Level.CRITICAL, f"{decision.row}: {decision.sentence}")
        return
    t.announce(Level.CRITICAL, election.WAIT_FOR_REMOTE)
    t.announce(Level.CRITICAL, "Action wait from failover rule notuptodate_server")
    if decision.sentence != election.WAIT_FOR_REMOTE:
        t.announce(Level.INFO, f"{decision.row}: {decision.sentence}")
    if t.s.record.disk is not Disk.INCONSISTENT:
        t.announce(Level.CRITICAL, PRIM_HINT)
