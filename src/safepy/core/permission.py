"""Asking the arbiters for the right to serve alone (protocol 7), one after the other.

Nothing here decides that a node serves. The link of a PRIM, the take-over of a SECOND and the
decision in WAIT ask `needed` who must agree, `granted` whether they did, and otherwise `pursue`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from safepy.model import Active, Level

from . import commands
from .arbitration import Arbiter
from .events import StepDone, WitnessAnswered
from .state import Inquiry, ModuleState

if TYPE_CHECKING:
    from .turn import Turn

#: Between two questions, when the last one was refused or not answered.
ASK_AGAIN_S = 1.0
_SILENT = {
    Arbiter.WITNESS: "the witness does not answer",
    Arbiter.FENCE: "the fencing agent has not confirmed that the other node is off",
    Arbiter.PING: "the witness address does not answer a ping here",
}


def want(s: ModuleState) -> int:
    """The number that is claimed: the one after the last period that both nodes shared. Both
    claim the same one, whatever else either of them has seen, so one of them loses (I3)."""
    return s.wanted.shared + 1


def needed(s: ModuleState, back: bool) -> tuple[Arbiter, ...] | None:
    """Who must agree, now that the other node is silent. None: nobody can say it.

    `back`: this node restarted, or slept while the other one may have led. Then only a witness
    counts: that the other node is off now says nothing about what it acknowledged (K12c)."""
    arbitration = s.params.arbitration
    required = arbitration.required
    if not s.params.has_rfs:
        # No data can diverge, but the application should not run twice (reference 7.5).
        return tuple(a for a in required if a is Arbiter.PING)
    if back and Arbiter.WITNESS not in required:
        return None
    if Arbiter.WITNESS in required and not s.wanted.shared:
        return None
    if Arbiter.WATCHDOG in required and arbitration.guarded != s.params.peer:
        return None
    return required


def claim_needed(s: ModuleState) -> tuple[Arbiter, ...]:
    """Who must agree when the other node says that it does not serve, but has not made durable
    that it is behind: it might ask a witness later, so the witness must have heard us first."""
    if not s.params.has_rfs or not s.wanted.shared:
        return ()
    return tuple(a for a in s.params.arbitration.required if a is Arbiter.WITNESS)


def may_ask_in_wait(s: ModuleState) -> bool:
    """WAIT to ALONE by the witness. With automatic failover off, only for a former primary."""
    was_primary = s.wanted.active is Active.PRIMARY or s.wanted.last_role == "P"
    return needed(s, back=True) is not None and (s.failover or was_primary) and s.params.has_rfs


def agreed(arbiters: tuple[Arbiter, ...], yes: frozenset[Arbiter]) -> bool:
    """All of them, never one of them (K12b)."""
    return all(arbiter in yes for arbiter in arbiters)


def granted(s: ModuleState, arbiters: tuple[Arbiter, ...]) -> bool:
    return agreed(arbiters, frozenset() if s.inquiry is None else s.inquiry.granted)


def granted_in_wait(s: ModuleState) -> bool:
    arbiters = needed(s, back=True)
    return arbiters is not None and granted(s, arbiters)


def given_up(t: Turn) -> bool:
    """A node that need not be frozen while it asks asks so long, or until the witness said no."""
    inquiry = t.s.inquiry
    if inquiry is None:
        return False
    params = t.s.params
    limit_s = params.arbitration.patience_s(params.detection_s)
    return inquiry.final or t.now >= inquiry.since + limit_s


def tell_witness(t: Turn) -> None:
    """An operator said that this node leads: the witness hears of it, if it can. Nobody waits for
    the answer, but from then on the other node is refused when it comes back alone."""
    if claim_needed(t.s):
        t.do(commands.AskWitness(t.new_id(), want(t.s)))


def refusal(s: ModuleState) -> str:
    """Why permission is not there yet; empty: it was not refused."""
    return "" if s.inquiry is None else s.inquiry.refusal


def pursue(t: Turn, arbiters: tuple[Arbiter, ...]) -> bool:
    """Ask the next one that has not agreed, unless a question is open or was refused just now, or
    the witness has given this number to the other node: it never takes that back."""
    s = t.s
    if s.inquiry is None:
        s.inquiry = Inquiry(want(s), since=t.now)
    inquiry = s.inquiry
    arbiter = next((a for a in arbiters if a not in inquiry.granted), None)
    if arbiter is None or inquiry.step or inquiry.final or t.now < inquiry.ask_at:
        return False
    if arbiter is Arbiter.WATCHDOG:
        return _watchdog(t, inquiry)
    number = t.new_id()
    match arbiter:
        case Arbiter.WITNESS:
            t.do(commands.AskWitness(number, inquiry.want))
        case Arbiter.FENCE:
            t.do(commands.Fence(number))
        case Arbiter.PING:
            t.do(commands.Ping(number))
    s.inquiry = replace(
        inquiry,
        step=number,
        asked=arbiter,
        claimed=inquiry.claimed or arbiter is Arbiter.WITNESS,
    )
    return True


def _watchdog(t: Turn, inquiry: Inquiry) -> bool:
    params = t.s.params
    until = inquiry.since + params.arbitration.watchdog_wait_s(params.detection_s)
    if t.now < until:
        t.s.inquiry = replace(
            inquiry, ask_at=until, refusal="the watchdog of the other node has not reset it yet"
        )
        return True
    t.s.inquiry = _yes(inquiry, Arbiter.WATCHDOG)
    return True


def _yes(inquiry: Inquiry, arbiter: Arbiter) -> Inquiry:
    return replace(
        inquiry, granted=inquiry.granted | {arbiter}, step=0, asked=None, ask_at=0.0, refusal=""
    )


def answered(t: Turn, event: StepDone | WitnessAnswered) -> bool:
    """The answer to an open question; whether it was one."""
    s = t.s
    inquiry = s.inquiry
    if inquiry is None or not inquiry.step or event.step_id != inquiry.step:
        return False
    assert inquiry.asked is not None
    if isinstance(event, WitnessAnswered):
        yes = event.granted and inquiry.asked is Arbiter.WITNESS
        why, final = event.refusal, not event.granted and event.epoch >= inquiry.want
    else:
        # The witness's yes has words of its own; a step that merely ended is none.
        yes = event.ok and inquiry.asked is not Arbiter.WITNESS
        why, final = f"{_SILENT[inquiry.asked]}: {event.detail}", False
    if yes:
        s.inquiry = _yes(inquiry, inquiry.asked)
    else:
        s.inquiry = replace(
            inquiry,
            step=0,
            asked=None,
            ask_at=t.now + ASK_AGAIN_S,
            refusal=why,
            final=final,
        )
    return True


def refused(t: Turn, why: str = "") -> None:
    """This node has given up asking, and gives way."""
    s = t.s
    t.announce(Level.CRITICAL, f"No permission to serve alone: {why or refusal(s)}")
    inquiry = s.inquiry
    required = s.params.arbitration.required
    if Arbiter.PING in required and inquiry is not None and Arbiter.PING not in inquiry.granted:
        s.isolated = True


def uptodate(s: ModuleState) -> dict[str, str]:
    """The resource of `<splitbrain>`, on which the rule splitbrain_failure depends (7.5)."""
    if Arbiter.PING not in s.params.arbitration.required:
        return {}
    return {"splitbrain.uptodate": "down" if s.isolated else "up"}


def forget(s: ModuleState) -> None:
    s.inquiry = None


def rules(t: Turn) -> bool:
    """What was said about a silent peer is void once it is heard; what the witness granted is
    not: it stands in the register."""
    s = t.s
    if s.isolated and t.view is not None:
        s.isolated = False
        return True
    inquiry = s.inquiry
    if inquiry is None:
        return False
    if inquiry.want != want(s):
        s.inquiry = None
        return True
    return t.view is not None and start_anew(t)


def start_anew(t: Turn) -> bool:
    """Nothing that depends on time or on the other node's silence counts any more."""
    s = t.s
    inquiry = s.inquiry
    if inquiry is None:
        return False
    s.inquiry = replace(inquiry, since=t.now, granted=inquiry.granted & {Arbiter.WITNESS})
    if inquiry.asked is not Arbiter.WITNESS:
        s.inquiry = replace(s.inquiry, step=0, asked=None)
    return s.inquiry != inquiry
