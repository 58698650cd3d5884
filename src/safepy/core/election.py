"""Who leads: at the start, when two nodes meet, when one is gone. Pure values in, a verdict out.

Rows D0 to D11 are the reunion table (`reunion.py`), E0, E1, E2 and E6 the permissions (protocol
7). Of two nodes that meet, the one that is not the source makes itself durably OUTDATED first, and
only that (E1) lets the source lead. So a moment in which the two see different things ends in
waiting, never in two leaders.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from safepy.model import Active, Disk, PeerView, Record, State

from .records import put_back
from .reunion import (
    PUT_BACK_THERE,
    ancestors,
    leads,
    misfit,
    must_keep_aside,
    relation,
    reunion,
)

WAIT_FOR_REMOTE = (
    "Data may be not uptodate for replicated directories (wait for the start of the remote server)"
)
#: Row of a decision to lead by consent given beforehand (reference 6.7).
SYNCDELTA = "syncdelta"
IN_MAINTENANCE = "the other node has the newest data, and in maintenance it does not take over"
MAINTENANCE_OFF_THERE = "maintenance off there"
#: Sentence and remedy of a former secondary without replicated directories (reference 7.2).
FAILOVER_OFF = "automatic failover is off, and the other node was the primary"
LEAD_THERE = "start there, or prim"
#: Its data come first, and it may not serve: who asks here is told to look there.
HELD_THERE = "failover rule {rule} keeps the other node from serving, and its data come first"
#: Of a module without replicated directories.
HELD_FIRST = "failover rule {rule} keeps the other node from serving, which comes first"
RELEASE_THERE = "release there"
#: In `PeerView.held`: a wait rule depends on a resource without a first report.
UNTESTED = "init"
NEVER_SYNCHRONISED = "no data was ever synchronised here"


class Verdict(StrEnum):
    """What to do. YIELD: record that we are behind, then look again. ASK: wait, and ask the
    witness meanwhile."""

    LEAD = "lead"
    FOLLOW = "follow"
    YIELD = "yield"
    WAIT = "wait"
    ASK = "ask"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with the row it comes from and a sentence for people.

    `blocked` tells a WAIT that only the outside can end (NotReady) from one that is a matter of
    moments. `remedy` is a command the operator may use, without the name of the module.
    """

    verdict: Verdict
    row: str
    sentence: str
    blocked: bool = False
    remedy: str = ""
    same_generation: bool = False
    forced: bool = False
    keep_aside: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the decision in WAIT depends on.

    `peer` is what is believed of the other node, None if nothing. `absent`: nothing authentic
    was heard for a whole start window (I20). `listened`: long enough to have heard a peer that
    serves (a few pulses). `wish` is start, prim, primforce, second or secondforce. `recent`: an
    operator consented to lead with data as young as these. `uncertain`: the peer has just
    restarted, what is believed of it may be old. `witness`: there is one that may be asked (E2),
    `granted` and `refusal` are what it said. `held`: a failover rule keeps this node from serving,
    and the other one may instead; `held_known`: that one has answered since it was told so, or
    that it is over. `fresh`: the peer spoke since this node last served.
    """

    record: Record
    lost_volatile: bool
    peer: PeerView | None
    absent: bool
    listened: bool
    wish: str = "start"
    has_data: bool = True
    defaultprim: str = "alone"
    config_digest: str = ""
    uncertain: bool = False
    witness: bool = False
    granted: bool = False
    fresh: bool = True
    refusal: str = ""
    recent: bool = False
    light: bool = False
    held: str = ""
    held_known: bool = True
    failover: bool = True


def decide(s: Situation) -> Decision:
    """What a node in WAIT does."""
    peer = s.peer
    if s.light:
        return Decision(Verdict.LEAD, "light", "a light module runs on this node alone")
    if peer is not None:
        sentence = misfit(s.record, peer)
        if sentence:
            return Decision(Verdict.WAIT, "D0", sentence, blocked=True, remedy="cluster")
    if s.uncertain:
        return Decision(Verdict.WAIT, "", "the other node has just restarted")
    if s.wish.startswith("prim"):
        return _forced_prim(s)
    if peer is not None and peer.config_digest != s.config_digest:
        return Decision(
            Verdict.WAIT,
            "D0",
            "the configurations of the two nodes differ "
            f"(here {s.config_digest or 'none'}, there {peer.config_digest or 'none'})",
            blocked=True,
            remedy="config",
        )
    if not s.has_data:
        return _without_data(s)
    if peer is not None and leads(peer):
        return _peer_leads(s, peer)
    if s.wish.startswith("second"):
        return _second_without_primary(s)
    if peer is None:
        return _nobody_heard(s)
    if peer.state is State.SECOND and peer.record.disk is Disk.UPTODATE:
        return _will_take_over(peer)
    return _meet(s, peer)


def _forced_prim(s: Situation) -> Decision:
    """`safekit prim`, and `primforce`, which takes inconsistent data too (reference 6.4)."""
    if s.peer is not None and leads(s.peer):
        return Decision(Verdict.ABORT, "", "the other node is primary already")
    if s.has_data and s.record.disk is Disk.INCONSISTENT and s.wish != "primforce":
        return Decision(
            Verdict.ABORT,
            "",
            "Data may be inconsistent for replicated directories (stopped during reintegration)",
        )
    if s.peer is None and not s.listened:
        return Decision(Verdict.WAIT, "", "listening for the other node")
    match s.record.disk:
        case Disk.UNCONFIGURED:
            return Decision(Verdict.LEAD, "prim", "first start, by an operator")
        case Disk.UPTODATE:
            if s.has_data and s.peer is not None and put_back(s.record, s.peer.record):
                return Decision(Verdict.LEAD, "prim", "forced by an operator", forced=True)
            same = s.record.peer_behind and bool(s.record.gen)
            return Decision(Verdict.LEAD, "prim", "by an operator", same_generation=same)
        case _:
            return Decision(Verdict.LEAD, "prim", "forced by an operator", forced=True)


def _without_data(s: Situation) -> Decision:
    """A module without replicated directories: nobody's data can be older. With failover off the
    application comes back where it was (reference 7.2)."""
    peer = s.peer
    if peer is None:
        if s.absent and _stays_there(s):
            return Decision(Verdict.WAIT, "failover-off", FAILOVER_OFF, True, LEAD_THERE)
        if s.absent:
            return Decision(Verdict.LEAD, "E6", "the other node is absent")
        return Decision(Verdict.WAIT, "", "listening for the other node")
    if leads(peer):
        return Decision(Verdict.FOLLOW, "", "the other node is primary")
    if s.wish.startswith("second"):
        return _second_without_primary(s)
    if peer.state is State.SECOND:
        return _will_take_over(peer)
    if peer.state is State.STOP and _stays_there(s):
        return Decision(Verdict.WAIT, "failover-off", FAILOVER_OFF, True, LEAD_THERE)
    if peer.state is State.STOP:
        return Decision(Verdict.LEAD, "E1", "the other node is stopped")
    if not peer.ready_to_follow:
        return Decision(Verdict.WAIT, "", "the other node is starting or stopping")
    if s.defaultprim in (s.record.node, peer.node):
        first = s.defaultprim == s.record.node
    elif (s.record.last_role == "P") != (peer.record.last_role == "P"):
        first = s.record.last_role == "P"
    else:
        first = s.record.node < peer.node
    if first:
        if not s.held_known:
            return Decision(
                Verdict.WAIT, "D5", "telling the other node that no rule holds this one"
            )
        return Decision(Verdict.LEAD, "D5", "both nodes start, this one comes first")
    if peer.gives_way not in ("", UNTESTED):
        return Decision(
            Verdict.LEAD, "D5", "a failover rule holds the other node, which comes first"
        )
    if peer.held not in ("", UNTESTED):
        sentence = HELD_FIRST.format(rule=peer.held)
        return Decision(Verdict.WAIT, "failover-off", sentence, True, RELEASE_THERE)
    return Decision(Verdict.WAIT, "D5", "both nodes start, the other one comes first")


def _stays_there(s: Situation) -> bool:
    """This node followed last, and is not to lead by itself."""
    was_second = s.record.active is Active.SECONDARY or (
        s.record.active is Active.NONE and s.record.last_role == "S"
    )
    return not s.failover and was_second


def _will_take_over(peer: PeerView) -> Decision:
    """A secondary in sync whose primary is gone: in maintenance it waits for an administrator."""
    if not peer.maintenance_until:
        return Decision(Verdict.WAIT, "", "the other node is about to take over")
    return Decision(
        Verdict.WAIT, "maintenance", IN_MAINTENANCE, blocked=True, remedy=MAINTENANCE_OFF_THERE
    )


def _peer_leads(s: Situation, peer: PeerView) -> Decision:
    """Follow it, unless its data is not a continuation of ours and nobody said so."""
    if not peer.serving:
        return Decision(Verdict.WAIT, "", "the other node is starting or settling as primary")
    meeting = reunion(s.record, s.lost_volatile, peer, s.defaultprim)
    if peer.record.disk is not Disk.UPTODATE:
        return Decision(
            Verdict.WAIT,
            meeting.row,
            "the other node serves without data",
            blocked=True,
            remedy="stopstart there",
        )
    row = relation(s.record, peer.record) if s.record.gen else "D2"
    ours_is_newer = s.record.gen != peer.record.gen and peer.record.gen in ancestors(s.record)
    if peer.degraded:
        return Decision(
            Verdict.WAIT,
            "degraded_server",
            "the other node runs without replication",
            blocked=True,
            remedy="stopstart there",
        )
    if not s.wish.startswith("second"):
        if put_back(peer.record, s.record):
            return Decision(
                Verdict.WAIT,
                "D10",
                f"{PUT_BACK_THERE}, and serves data that may be older than this node's",
                blocked=True,
                remedy="second",
            )
        if ours_is_newer and not peer.record.forced:
            return Decision(
                Verdict.WAIT,
                meeting.row,
                "the primary serves data that is older than this node's",
                blocked=True,
                remedy="second",
            )
        if row in ("D10", "D11"):
            return Decision(
                Verdict.WAIT,
                row,
                meeting.sentence if meeting.row == row else "unrelated data on the two nodes",
                blocked=True,
                remedy="second",
            )
    return Decision(
        Verdict.FOLLOW,
        meeting.row,
        "the other node is primary",
        keep_aside=must_keep_aside(s.record, peer.record),
    )


def _second_without_primary(s: Situation) -> Decision:
    if s.absent or (s.listened and s.peer is not None):
        return Decision(Verdict.ABORT, "", "the other node is not primary")
    return Decision(Verdict.WAIT, "", "listening for the other node")


def _alone_by_own_record(record: Record) -> bool:
    """E0."""
    return record.disk is Disk.UPTODATE and record.peer_behind


def _nobody_heard(s: Situation) -> Decision:
    if _alone_by_own_record(s.record) and s.listened:
        return Decision(
            Verdict.LEAD, "E0", "the other node is known to be behind", same_generation=True
        )
    if not s.absent:
        return Decision(Verdict.WAIT, "", "listening for the other node")
    if s.witness and s.record.disk is Disk.UPTODATE:
        return _by_witness(s)
    if s.recent:
        return Decision(
            Verdict.LEAD,
            SYNCDELTA,
            "the last synchronisation is younger than syncdelta, and the other node is absent",
            forced=True,
        )
    return _wait_for_remote(s, "E6")


def _by_witness(s: Situation) -> Decision:
    """E2, the only outside evidence that counts for a node that comes back: whoever went on
    without it has claimed this very number before (K12c). Not before a whole start window has
    passed (I20)."""
    if s.granted:
        return Decision(Verdict.LEAD, "E2", "the witness gave this node the right to serve")
    if not s.refusal:
        return Decision(Verdict.ASK, "E2", "asking the witness for the right to serve")
    return Decision(Verdict.ASK, "E2", s.refusal, blocked=True, remedy="prim")


def _wait_for_remote(s: Situation, row: str) -> Decision:
    sentence = NEVER_SYNCHRONISED if s.record.disk is Disk.UNCONFIGURED else WAIT_FOR_REMOTE
    remedy = "prim" if s.record.disk is not Disk.INCONSISTENT else ""
    return Decision(Verdict.WAIT, row, sentence, blocked=True, remedy=remedy)


def _one_is_held(s: Situation, peer: PeerView, source: bool) -> Decision | None:
    """Both nodes have the same data, and a failover rule keeps one of them from serving. The one
    that comes first steps back once the other knows that it is held, and so does not step back
    itself; which it says by being ready. So never both do."""
    if not source:
        if not peer.gives_way:
            return None
        return Decision(Verdict.WAIT, "D5", "a failover rule may keep the other node from serving")
    ready = peer.state is State.WAIT and peer.ready_to_follow and not peer.gives_way
    if s.held in ("", UNTESTED) or not s.held_known or not ready:
        return None
    return Decision(Verdict.YIELD, "D5", "a failover rule holds this node, the other one may serve")


def _meet(s: Situation, peer: PeerView) -> Decision:
    """Two nodes, neither of them serving: permission E0 or E1, else the table."""
    meeting = reunion(s.record, s.lost_volatile, peer, s.defaultprim)
    row = meeting.row
    if meeting.source is None:
        if row in ("D1", "D3"):
            return _wait_for_remote(s, row)
        return Decision(Verdict.WAIT, row, meeting.sentence, blocked=True, remedy="prim")
    stopped = peer.state is State.STOP
    if row == "D5" and not stopped and (s.held or peer.gives_way):
        found = _one_is_held(s, peer, meeting.source)
        if found is not None:
            return found
    if meeting.source:
        # What is believed of it may be older than its adoption of what we sent it last.
        settled = s.fresh and (stopped or (peer.state is State.WAIT and peer.ready_to_follow))
        known_behind = _alone_by_own_record(s.record) and (row in ("D7", "D8") or stopped)
        if peer.record.disk is not Disk.UPTODATE or known_behind:
            own = _alone_by_own_record(s.record)
            if not own and not settled:
                return Decision(Verdict.WAIT, row, "the other node is starting or stopping")
            return Decision(
                Verdict.LEAD, "E0" if own else "E1", meeting.sentence, same_generation=own
            )
        if stopped:
            return _wait_for_remote(s, row)
        return Decision(Verdict.WAIT, row, "waiting until the other node has stepped back")
    if stopped and row != "D9":
        return _wait_for_remote(s, row)
    if stopped and _alone_by_own_record(s.record):
        return Decision(Verdict.LEAD, "E0", meeting.sentence, same_generation=True)
    if s.record.disk is Disk.UPTODATE and not stopped:
        if not peer.ready_to_follow:
            return Decision(Verdict.WAIT, row, "the other node is starting or stopping")
        return Decision(Verdict.YIELD, row, meeting.sentence)
    if stopped:
        return _wait_for_remote(s, row)
    if peer.held not in ("", UNTESTED):
        sentence = HELD_THERE.format(rule=peer.held)
        return Decision(Verdict.WAIT, row, sentence, blocked=True, remedy=RELEASE_THERE)
    return Decision(Verdict.WAIT, row, "waiting until the other node serves")
