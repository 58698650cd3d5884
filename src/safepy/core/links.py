"""Heartbeat lanes: which beats are believed, which lanes live (protocol 9; F25, F30, F31).

A beat is believed when it proves three things: it echoes our present session (no replay from an
earlier life of ours), what it echoes was sent not longer ago than the lane's timeout, and its
counter is higher than the last one (no reorder, no duplicate). A new session of the peer must
also echo something newer than the old session ever did, and a session once replaced is refused
for good. The moment our echoed beat was sent is what the lane's life is measured from: since
then both directions worked, so a lane that only hears, or is only heard, dies.

Counters are shared by all lanes of a session, so that views which arrive over different lanes
have one order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from safepy.model import Beat, PeerView

#: Sessions of the peer that were replaced; far more than a daemon restarts within a timeout.
PAST_SESSIONS = 8


class Lane(NamedTuple):
    """One heartbeat network: its label, sending period, and the silence that means "lost"."""

    ident: str
    pulse_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class LaneState:
    """One lane as this node sees it.

    `sent` holds (counter, moment) of the beats that were not echoed yet. `proof_at` is when the
    newest beat was sent of which we know that the peer heard it and answered: both directions
    worked since then. `heard` is the (session, counter) we echo. `stranger` is the newest beat
    of a session that has not proved itself yet.
    """

    lane: Lane
    pulse_at: float
    proof_at: float
    sent: tuple[tuple[int, float], ...] = ()
    heard: tuple[str, int] = ("", 0)
    stranger: tuple[str, int] = ("", 0)
    stranger_at: float = 0.0
    up: bool | None = None


@dataclass(frozen=True, slots=True)
class Links:
    """The freshness rules' own memory: one node's lanes and what it believes of the peer.

    `session` is ours, `counter` the number of our last beat. `peer_echo` is the highest counter
    of ours that the peer ever echoed. `observing_since`: nothing is called lost before a whole
    timeout after this moment has passed (start, and every awakening: K18).
    """

    session: str
    lanes: tuple[LaneState, ...]
    observing_since: float
    counter: int = 0
    peer_session: str = ""
    peer_counter: int = 0
    peer_echo: int = 0
    past_sessions: tuple[str, ...] = ()
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """A beat to send."""

    lane: str
    counter: int
    echo_session: str
    echo_counter: int


def new(session: str, lanes: tuple[Lane, ...], now: float) -> Links:
    """All lanes silent, the first pulse due now."""
    return Links(
        session=session,
        lanes=tuple(LaneState(lane, pulse_at=now, proof_at=float("-inf")) for lane in lanes),
        observing_since=now,
    )


def send(
    links: Links, now: float, everywhere: bool, aligned: bool = False
) -> tuple[Links, tuple[Sent, ...]]:
    """The beats due at `now`, or one on every lane (`everywhere`: the view changed). `aligned`:
    the next ones are due at a multiple of the pulse, a whole pulse later at most."""
    counter = links.counter
    lanes: list[LaneState] = []
    beats: list[Sent] = []
    for state in links.lanes:
        if not everywhere and now < state.pulse_at:
            lanes.append(state)
            continue
        counter += 1
        echo = _echo(state, counter, now)
        beats.append(Sent(state.lane.ident, counter, *echo))
        pulse_at = _next_pulse(now, state.lane.pulse_s, aligned)
        sent = (*_young(state.sent, now - state.lane.timeout_s), (counter, now))
        lanes.append(replace(state, pulse_at=pulse_at, sent=sent))
    if not beats:
        return links, ()
    return replace(links, lanes=tuple(lanes), counter=counter), tuple(beats)


def _next_pulse(now: float, pulse_s: float, aligned: bool) -> float:
    at_multiple = (now // pulse_s + 1) * pulse_s
    return at_multiple if aligned and at_multiple > now else now + pulse_s


def _young(sent: tuple[tuple[int, float], ...], after: float) -> tuple[tuple[int, float], ...]:
    """What was sent later than that; the oldest stand first."""
    old = 0
    while old < len(sent) and sent[old][1] <= after:
        old += 1
    return sent[old:] if old else sent


def _echo(state: LaneState, counter: int, now: float) -> tuple[str, int]:
    """What to echo. A stranger gets every second echo, so that it can prove itself and a replayed
    one cannot talk the real peer down."""
    fresh = state.stranger[0] and now - state.stranger_at < state.lane.timeout_s
    if fresh and (not state.heard[0] or counter % 2):
        return state.stranger
    return state.heard


def drop(links: Links) -> Links:
    """Count a beat that is not believed."""
    return replace(links, dropped=links.dropped + 1)


def receive(links: Links, ident: str, beat: Beat, now: float) -> tuple[Links, PeerView | None]:
    """Take in a beat. The view is returned if it is believed and newer than the last one."""
    index = next((i for i, s in enumerate(links.lanes) if s.lane.ident == ident), None)
    if index is None or not beat.session or beat.session == links.session:
        return drop(links), None
    state = links.lanes[index]
    known = beat.session == links.peer_session
    if not known and beat.session in links.past_sessions:
        return drop(links), None
    last = state.heard if known else state.stranger
    if last[0] == beat.session and beat.counter <= last[1]:
        return drop(links), None
    proof_at = _proof(state, links.session, beat, now)
    if proof_at is None or not (known or _fresh_session(links, beat)):
        return _unproven(links, index, known, beat, now), None
    links = _proven(links, index, known, beat, proof_at)
    if beat.counter <= links.peer_counter:
        return links, None  # A newer view came over another lane.
    return replace(links, peer_counter=beat.counter), beat.view


def _fresh_session(links: Links, beat: Beat) -> bool:
    """The sender has heard something of ours that its former session never echoed."""
    return beat.echo_counter > links.peer_echo


def _proof(state: LaneState, session: str, beat: Beat, now: float) -> float | None:
    """When the echoed beat was sent, if it was ours, on this lane, and not too long ago.

    An echo that was given before is still a proof of the same old moment, no newer one."""
    if beat.echo_session != session:
        return None
    for counter, sent_at in state.sent:
        if counter == beat.echo_counter and now - sent_at < state.lane.timeout_s:
            return sent_at
    return None


def _unproven(links: Links, index: int, known: bool, beat: Beat, now: float) -> Links:
    """No credit. Remember what to echo: without that, nobody could ever prove anything."""
    state = links.lanes[index]
    here = (beat.session, beat.counter)
    state = replace(state, heard=here) if known else replace(state, stranger=here, stranger_at=now)
    return _with_lane(links, index, state)


def _proven(links: Links, index: int, known: bool, beat: Beat, proof_at: float) -> Links:
    state = links.lanes[index]
    state = replace(
        state,
        heard=(beat.session, beat.counter),
        stranger=state.stranger if known else ("", 0),
        proof_at=max(state.proof_at, proof_at),
        # Older beats of ours are no use any more; this one may be echoed again.
        sent=tuple(entry for entry in state.sent if entry[0] >= beat.echo_counter),
    )
    links = _with_lane(links, index, state)
    links = replace(links, peer_echo=max(links.peer_echo, beat.echo_counter))
    if known:
        return links
    past = links.past_sessions
    if links.peer_session:
        past = (links.peer_session, *past)[:PAST_SESSIONS]
    return replace(links, peer_session=beat.session, peer_counter=0, past_sessions=past)


def _with_lane(links: Links, index: int, state: LaneState) -> Links:
    return replace(links, lanes=(*links.lanes[:index], state, *links.lanes[index + 1 :]))


def observe_anew(links: Links, now: float) -> Links:
    """This node was asleep: nothing is lost before a whole timeout from now (K18)."""
    return replace(links, observing_since=now)


def with_lanes(links: Links, lanes: tuple[Lane, ...], now: float) -> Links:
    """The lanes are these from now on. One that stays keeps what is known of it; the counter of
    the session goes on, and nothing is lost before a whole timeout from now."""
    known = {state.lane.ident: state for state in links.lanes}
    states = tuple(
        replace(known[lane.ident], lane=lane, pulse_at=now)
        if lane.ident in known
        else LaneState(lane, pulse_at=now, proof_at=float("-inf"))
        for lane in lanes
    )
    return replace(links, lanes=states, observing_since=now)


def lane_expires_at(links: Links, state: LaneState) -> float:
    """The moment at which this lane counts as down, if nothing comes."""
    return max(state.proof_at, links.observing_since) + state.lane.timeout_s


def heard_at(links: Links) -> float:
    """Since this moment no lane proved both directions; minus infinity: never."""
    return max((state.proof_at for state in links.lanes), default=float("-inf"))


def lost_at(links: Links, other_sign_of_life_at: float) -> float:
    """The moment at which the peer counts as lost: every lane is down, and nothing was heard
    over the replication stream either for a whole timeout (F27). Without lanes, always."""
    if not links.lanes:
        return float("-inf")
    lanes = max(lane_expires_at(links, state) for state in links.lanes)
    longest = max(state.lane.timeout_s for state in links.lanes)
    return max(lanes, other_sign_of_life_at + longest)


def stranger_at_the_door(links: Links, now: float, pulse_s: float) -> bool:
    """A new session of the peer was heard just now and has not proved itself yet: what is
    believed of the peer may be from its former life."""
    return any(state.stranger[0] and now - state.stranger_at < 2 * pulse_s for state in links.lanes)


def with_lane_shown(links: Links, index: int, up: bool) -> Links:
    """Remember what was told about a lane."""
    return _with_lane(links, index, replace(links.lanes[index], up=up))


def next_moment(links: Links) -> float:
    """The next pulse, or the expiry of a lane that is not yet shown as down; infinity without
    lanes."""
    moment = min((state.pulse_at for state in links.lanes), default=float("inf"))
    for state in links.lanes:
        if state.up is not False:
            moment = min(moment, lane_expires_at(links, state))
    return moment
