"""Which beats are believed (F25, F30, F31) and when a lane, and the peer, count as lost."""

from __future__ import annotations

from safepy.core import links
from safepy.core.links import Lane, Links
from safepy.model import Beat, PeerView, Record, State, Status

LANES = (Lane("one", 1.0, 5.0), Lane("two", 1.0, 5.0))
VIEW = PeerView("b", State.WAIT, Status.TRANSIENT, Record())
NEVER = float("-inf")


def beat(session: str, counter: int, echo: tuple[str, int] = ("", 0)) -> Beat:
    return Beat(session, counter, *echo, VIEW)


def fresh(lanes: tuple[Lane, ...] = LANES[:1]) -> Links:
    return links.new("mine", lanes, 0.0)


def met() -> tuple[Links, float]:
    """A pair that has just proved itself to us at 0.2."""
    state, _ = links.send(fresh(), 0.0, everywhere=True)
    state, nothing = links.receive(state, "one", beat("theirs", 1), 0.1)
    assert nothing is None, "an unproven beat is believed by nobody"
    state, view = links.receive(state, "one", beat("theirs", 2, ("mine", 1)), 0.2)
    assert view is VIEW
    return state, 0.2


def test_a_beat_is_believed_once_it_echoes_this_session() -> None:
    state, now = met()
    assert links.heard_at(state) == 0.0, "life counts from when the echoed beat was sent"
    assert links.lost_at(state, NEVER) == 5.0
    assert now < 5.0


def test_what_is_echoed_is_what_was_heard_last() -> None:
    state, _ = met()
    state, sent = links.send(state, 1.0, everywhere=False)
    assert [(s.counter, s.echo_session, s.echo_counter) for s in sent] == [(2, "theirs", 2)]


def test_old_and_repeated_counters_are_dropped_and_counted() -> None:
    state, _ = met()
    again, view = links.receive(state, "one", beat("theirs", 2, ("mine", 1)), 0.3)
    assert view is None and again.dropped == state.dropped + 1


def test_an_echo_of_an_earlier_life_of_ours_is_no_sign_of_life() -> None:
    state, _ = met()
    state, view = links.receive(state, "one", beat("theirs", 9, ("mine-before", 1)), 3.0)
    assert view is None
    assert links.heard_at(state) == 0.0


def test_a_lane_that_only_hears_dies() -> None:
    """One-way loss: they hear nothing of ours, so they echo the same old beat for ever."""
    state, _ = met()
    for second in range(1, 10):
        state, _ = links.send(state, float(second), everywhere=False)
        state, _ = links.receive(
            state, "one", beat("theirs", 2 + second, ("mine", 1)), second + 0.1
        )
    assert links.heard_at(state) == 0.0
    assert links.lost_at(state, NEVER) == 5.0


def test_a_restarted_peer_proves_itself_and_its_former_session_is_refused_for_good() -> None:
    state, _ = met()
    state, _ = links.receive(state, "one", beat("reborn", 1), 0.5)
    assert links.stranger_at_the_door(state, 0.6, 1.0)
    state, sent = links.send(state, 1.0, everywhere=False)
    state, sent_too = links.send(state, 1.1, everywhere=True)
    assert "reborn" in {s.echo_session for s in (*sent, *sent_too)}, "it must be able to answer"
    state, view = links.receive(state, "one", beat("reborn", 2, ("mine", 3)), 1.2)
    assert view is VIEW and state.peer_session == "reborn"
    assert not links.stranger_at_the_door(state, 1.3, 1.0)
    state, view = links.receive(state, "one", beat("theirs", 99, ("mine", 3)), 1.3)
    assert view is None and state.peer_session == "reborn"


def test_a_replay_of_a_former_session_does_not_replace_the_present_one() -> None:
    """It can only echo what was echoed before (F31)."""
    state, _ = met()
    state, view = links.receive(state, "one", beat("older", 50, ("mine", 1)), 0.4)
    assert view is None and state.peer_session == "theirs"


def test_the_real_peer_is_echoed_although_a_replay_knocks_all_the_time() -> None:
    state, _ = met()
    echoes = []
    for second in range(1, 7):
        state, _ = links.receive(state, "one", beat("replay", second), second - 0.5)
        state, sent = links.send(state, float(second), everywhere=False)
        echoes.append(sent[0].echo_session)
    assert "theirs" in echoes


def test_views_have_one_order_over_all_lanes() -> None:
    state = fresh(LANES)
    state, _ = links.send(state, 0.0, everywhere=True)
    state, newer = links.receive(state, "two", beat("theirs", 8, ("mine", 2)), 0.1)
    state, older = links.receive(state, "one", beat("theirs", 7, ("mine", 1)), 0.2)
    assert newer is VIEW and older is None
    assert all(lane.proof_at == 0.0 for lane in state.lanes), "but both lanes live"


def test_the_peer_is_lost_when_every_lane_and_the_stream_are_silent() -> None:
    state = fresh(LANES)
    assert links.lost_at(state, NEVER) == 5.0
    assert links.lost_at(state, 4.0) == 9.0, "authentic traffic on the stream is a sign of life"


def test_each_lane_has_its_own_pulse_and_timeout() -> None:
    state = fresh((Lane("one", 1.0, 5.0), Lane("two", 0.25, 2.0)))
    state, _ = links.send(state, 0.0, everywhere=True)
    state, sent = links.send(state, 0.25, everywhere=False)
    assert [each.lane for each in sent] == ["two"]
    assert [links.lane_expires_at(state, lane) for lane in state.lanes] == [5.0, 2.0]


def test_after_a_sleep_a_whole_timeout_is_observed_anew() -> None:
    state, _ = met()
    state = links.observe_anew(state, 100.0)
    assert links.lost_at(state, NEVER) == 105.0


def test_an_own_or_unknown_lane_is_dropped() -> None:
    state = fresh()
    state, view = links.receive(state, "nowhere", beat("theirs", 1), 0.0)
    assert view is None and state.dropped == 1
    state, view = links.receive(state, "one", beat("mine", 1), 0.0)
    assert view is None and state.dropped == 2


def test_memory_is_bounded_while_nobody_answers() -> None:
    state = fresh()
    for second in range(1000):
        state, _ = links.send(state, float(second), everywhere=True)
    assert len(state.lanes[0].sent) <= 6
