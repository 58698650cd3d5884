"""Permission to serve alone (protocol 7): links and arbiters cut in every combination, and each
rule of the section taken out once (K9, K11, K12, K12b, K12c)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from checks import Broken, Checks
from cluster import NAMES, TIMEOUT_S, Cluster
from node import Node

from safepy.core import election, following, permission, quiet, records, serving
from safepy.core import events as e
from safepy.core.arbitration import Arbiter, Arbitration
from safepy.core.election import Decision, Situation
from safepy.core.state import Link, ModuleState
from safepy.core.status import snapshot
from safepy.core.transitions import Cause
from safepy.core.turn import Turn
from safepy.core.witness import register_anew
from safepy.model import Disk, PeerView, State

Patch = pytest.MonkeyPatch


def unchecked(monkeypatch: Patch, check: str) -> None:
    """The check that looks at the rule itself is silent: what does the lack of the rule do?"""
    monkeypatch.setattr(Checks, check, lambda *arguments: None)


LIMIT_S = 10.0
SECONDS_TO_GIVE_UP = 3 * TIMEOUT_S + LIMIT_S + 10


def pair(seed: int, *required: Arbiter, guarded: str = "n2") -> tuple[Cluster, Node, Node]:
    """n1 PRIM, n2 SECOND, writes going on."""
    arbitration = Arbitration(required, guarded, watchdog_s=3.0, freeze_limit_s=LIMIT_S)
    cluster = Cluster(seed, arbitration=arbitration)
    cluster.form_pair()
    cluster.run(2.0)
    return cluster, cluster.nodes["n1"], cluster.nodes["n2"]


def cut(cluster: Cluster) -> None:
    cluster.network.cut_lanes(*NAMES)
    cluster.cut_stream()


def leaders(cluster: Cluster) -> list[str]:
    return [n.name for n in cluster.nodes.values() if n.state is not None and n.state.serving]


def reunite(cluster: Cluster) -> None:
    cluster.network.heal()
    cluster.arbiters.heal()
    for node in cluster.nodes.values():
        node.power_on()
    assert cluster.until(cluster.pair_ready, 120), cluster.tail()
    cluster.write_every_s = 0.0
    cluster.run(2.0)
    assert cluster.until(lambda: cluster.pair_ready() and cluster.quiet, 60), cluster.tail()
    cluster.checks.at_rest()


def shown(node: Node) -> State | None:
    return node.shown


# -- F20 to F24: the link is cut ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_f20_link_cut_and_both_reach_the_witness(seed: int) -> None:
    cluster, first, second = pair(seed, Arbiter.WITNESS)
    cut(cluster)
    assert cluster.until(
        lambda: {shown(first), shown(second)} == {State.ALONE, State.WAIT}, SECONDS_TO_GIVE_UP
    ), cluster.tail()
    loser = first if shown(first) is State.WAIT else second
    assert loser.disk.record.disk is Disk.UPTODATE, "a refused node may hold the better copy (K9)"
    winner = cluster.other(loser)
    assert winner.state is not None
    notes = snapshot(winner.state, 0.0).notes
    assert notes == ("serves alone by evidence E2: the witness gave this node the right to serve",)
    reunite(cluster)


@pytest.mark.parametrize("reaches", NAMES)
def test_f21_link_cut_and_one_reaches_the_witness(reaches: str) -> None:
    cluster, _first, _second = pair(2, Arbiter.WITNESS)
    winner = cluster.nodes[reaches]
    loser = cluster.other(winner)
    cluster.arbiters.witness_cut = {loser.name}
    cut(cluster)
    assert cluster.until(
        lambda: shown(winner) is State.ALONE and shown(loser) is State.WAIT, SECONDS_TO_GIVE_UP
    ), cluster.tail()
    cluster.run(30.0)
    assert leaders(cluster) == [winner.name]
    reunite(cluster)


def test_f22_link_cut_and_nobody_reaches_the_witness() -> None:
    """No service and no divergence; never a silent fall-back to the time-out."""
    cluster, first, second = pair(3, Arbiter.WITNESS)
    cluster.arbiters.witness_cut = set(NAMES)
    cut(cluster)
    cluster.run(TIMEOUT_S + 2.0)
    assert shown(first) is State.PRIM, "frozen, not given up yet"
    assert first.state is not None
    assert "writes are held" in snapshot(first.state, 0.0).waiting_for
    answered = cluster.checks.acknowledged_count
    assert cluster.until(
        lambda: shown(first) is State.WAIT and shown(second) is State.WAIT, SECONDS_TO_GIVE_UP
    ), cluster.tail()
    cluster.run(60.0)
    assert leaders(cluster) == []
    assert cluster.checks.acknowledged_count == answered, "a held write ends with an error"
    for node in (first, second):
        assert node.disk.record.disk is Disk.UPTODATE
    reunite(cluster)


def test_f22_the_witness_comes_back_while_the_primary_is_frozen() -> None:
    """It goes on asking as long as it is frozen."""
    cluster, first, _second = pair(4, Arbiter.WITNESS)
    cluster.arbiters.witness_cut = set(NAMES)
    cut(cluster)
    cluster.run(TIMEOUT_S + 4.0)
    cluster.arbiters.witness_cut = {"n2"}
    assert cluster.until(lambda: shown(first) is State.ALONE, 10.0), cluster.tail()
    reunite(cluster)


def test_f23_witness_down_and_the_pair_healthy() -> None:
    cluster, _first, _second = pair(5, Arbiter.WITNESS)
    cluster.arbiters.witness_cut = set(NAMES)
    before = cluster.checks.acknowledged_count
    cluster.run(120.0)
    assert cluster.pair_ready() and cluster.checks.acknowledged_count > before + 100
    assert not any("asks the witness" in text for _, _, text in cluster.story)


def test_f24_link_cut_and_both_reach_the_router() -> None:
    """E5 is a heuristic: both may go on, the state says so, and nothing is lost at reunion."""
    cluster, first, second = pair(6, Arbiter.PING)
    cut(cluster)
    assert cluster.until(lambda: sorted(leaders(cluster)) == ["n1", "n2"], 30.0), cluster.tail()
    cluster.run(5.0)
    for node in (first, second):
        assert node.state is not None
        assert "split brain possible" in snapshot(node.state, 0.0).notes[0]
    reunite(cluster)
    assert first.disk.kept | second.disk.kept, "what one of them wrote alone is kept aside"


@pytest.mark.parametrize("reaches", NAMES)
def test_f24_link_cut_and_one_reaches_the_router(reaches: str) -> None:
    cluster, _, _ = pair(7, Arbiter.PING)
    cluster.arbiters.router_cut = set(NAMES) - {reaches}
    cut(cluster)
    cluster.run(SECONDS_TO_GIVE_UP)
    assert leaders(cluster) == [reaches]
    cluster.run(60.0)
    assert leaders(cluster) == [reaches], "a ping is no evidence for a node that waits (E5)"
    reunite(cluster)


# -- E3, E4, and two that must both agree ---------------------------------------------------------


@pytest.mark.parametrize("reaches", [(), ("n1",), ("n2",), NAMES])
def test_link_cut_with_a_fencing_device(reaches: tuple[str, ...]) -> None:
    """E3: whoever goes on has had the other one switched off."""
    cluster, _, _ = pair(8, Arbiter.FENCE)
    cluster.arbiters.fence_cut = set(NAMES) - set(reaches)
    cut(cluster)
    cluster.run(SECONDS_TO_GIVE_UP)
    if not reaches:
        assert leaders(cluster) == []
    else:
        # Two that fence each other at the same time are both off: no service is allowed, two not.
        assert leaders(cluster) in ([], ["n1"], ["n2"])
        assert len(reaches) == 2 or leaders(cluster) == list(reaches)
    reunite(cluster)


@pytest.mark.parametrize("guarded", NAMES)
def test_link_cut_with_a_watchdog(guarded: str) -> None:
    """E4: the node without a watchdog goes on, after the other one was reset, never before."""
    cluster, _, _ = pair(9, Arbiter.WATCHDOG, guarded=guarded)
    survivor = next(name for name in NAMES if name != guarded)
    cut(cluster)
    alone = cluster.nodes[survivor]
    assert cluster.until(lambda: shown(alone) is State.ALONE, 40.0), cluster.tail()
    assert leaders(cluster) == [survivor]
    goes_on = next(t for t, _, text in cluster.story if "(E4)" in text)
    ended = "reset by its watchdog" if guarded == "n1" else "E Local state WAIT Transient"
    assert [t for t, name, text in cluster.story if name == guarded and text == ended and t > 5]
    assert all(t < goes_on for t, _, text in cluster.story if text == ended)
    reunite(cluster)


def test_a_watchdog_is_fed_while_the_other_node_is_heard() -> None:
    cluster, _, _ = pair(10, Arbiter.WATCHDOG, guarded="n2")
    cluster.run(60.0)
    assert cluster.pair_ready()
    assert not any("reset" in text for _, _, text in cluster.story)


@pytest.mark.parametrize("other", [Arbiter.FENCE, Arbiter.WATCHDOG, Arbiter.PING])
@pytest.mark.parametrize("witness", NAMES)
@pytest.mark.parametrize("device", NAMES)
def test_two_arbiters_must_both_agree(other: Arbiter, witness: str, device: str) -> None:
    """Each node reaches at most one of the two, or one node reaches both."""
    cluster, _, _ = pair(11, Arbiter.WITNESS, other)
    cluster.arbiters.witness_cut = set(NAMES) - {witness}
    cluster.arbiters.fence_cut = cluster.arbiters.router_cut = set(NAMES) - {device}
    cut(cluster)
    cluster.run(SECONDS_TO_GIVE_UP)
    able = witness == device if other is not Arbiter.WATCHDOG else witness == "n1"
    assert leaders(cluster) == ([witness] if able else []), cluster.tail()
    reunite(cluster)


def test_a_witness_that_lost_its_state_refuses() -> None:
    """7.1: until an operator registers it anew while the pair is in sync."""
    cluster, first, _second = pair(12, Arbiter.WITNESS)
    cluster.arbiters.register = None
    cut(cluster)
    cluster.run(SECONDS_TO_GIVE_UP)
    assert leaders(cluster) == []
    reunite(cluster)
    assert first.state is not None
    cluster.arbiters.register = register_anew(first.state.record.shared)
    cut(cluster)
    cluster.run(SECONDS_TO_GIVE_UP)
    assert len(leaders(cluster)) == 1


def test_f3_both_crash_and_the_primary_returns_first_with_a_witness() -> None:
    cluster, first, second = pair(13, Arbiter.WITNESS)
    first.power_off()
    second.power_off()
    cluster.run(5.0)
    first.power_on()
    assert cluster.until(lambda: shown(first) is State.ALONE, 30.0), cluster.tail()
    assert first.state is not None and first.state.evidence == "E2"
    reunite(cluster)


def test_f4_both_crash_and_the_secondary_returns_first_with_a_witness() -> None:
    """Its tree holds every stable answer."""
    cluster, first, second = pair(14, Arbiter.WITNESS)
    first.power_off()
    second.power_off()
    cluster.run(5.0)
    second.power_on()
    assert cluster.until(lambda: shown(second) is State.ALONE, 30.0), cluster.tail()
    reunite(cluster)


def test_f6_a_node_that_was_alone_serves_again_without_asking_anybody() -> None:
    """E0: before a start window has passed, though the other node is off and no witness answers."""
    cluster, first, second = pair(27, Arbiter.WITNESS)
    second.power_off()
    assert cluster.until(lambda: shown(first) is State.ALONE, 30.0), cluster.tail()
    cluster.run(3.0)
    first.power_off()
    cluster.run(1.0)
    cluster.arbiters.witness_cut = set(NAMES)
    before = cluster.checks.acknowledged_count
    first.power_on()
    assert cluster.until(lambda: shown(first) is State.ALONE, TIMEOUT_S - 1.0), cluster.tail()
    assert first.state is not None and first.state.evidence == "E0"
    cluster.run(10.0)
    assert cluster.checks.acknowledged_count > before + 10
    reunite(cluster)


@pytest.mark.parametrize("returns", NAMES)
def test_f3_f4_both_crash_and_one_returns_without_a_witness(returns: str) -> None:
    """It waits, however long, for the other one: whichever of them returns first."""
    cluster, first, second = pair(28)
    first.power_off()
    second.power_off()
    cluster.run(5.0)
    back = cluster.nodes[returns]
    back.power_on()
    cluster.run(60.0)
    assert shown(back) is State.WAIT, cluster.tail()
    assert back.state is not None and back.disk.record.disk is Disk.UPTODATE
    assert "to start and to lead" in snapshot(back.state, 0.0, back.clock_now()).waiting_for
    reunite(cluster)


def test_f7_a_stale_node_that_returns_alone_is_denied() -> None:
    """The primary went on with the witness's word and crashed; the other one cannot know."""
    cluster, first, second = pair(15, Arbiter.WITNESS)
    second.power_off()
    assert cluster.until(lambda: shown(first) is State.ALONE, 30.0), cluster.tail()
    cluster.run(3.0)
    first.power_off()
    cluster.run(1.0)
    second.power_on()
    cluster.run(30.0)
    assert shown(second) is State.WAIT
    assert second.state is not None
    said = snapshot(second.state, 0.0).waiting_for
    assert said.startswith("the witness gave the right to serve to n1"), said
    first.power_on()
    reunite(cluster)


def test_f15_the_winner_crashes_before_its_record() -> None:
    """On return it may claim the same epoch again, the other one cannot."""
    cluster, first, second = pair(16, Arbiter.WITNESS)
    cluster.arbiters.witness_cut = {"n2"}
    cut(cluster)
    assert cluster.until(lambda: bool(cluster.arbiters.granted), 20.0), cluster.tail()
    first.power_off()
    cluster.arbiters.witness_cut = set()
    cluster.run(30.0)
    assert leaders(cluster) == []
    second.power_off()
    first.power_on()
    assert cluster.until(lambda: shown(first) is State.ALONE, 30.0), cluster.tail()
    owners = {name for _, name in cluster.arbiters.granted}
    assert owners == {"n1"}
    reunite(cluster)


def test_a_claim_in_vain_begins_a_new_period(monkeypatch: Patch) -> None:
    """Only the secondary believed that the other one was lost, and its claim is stored: were the
    pair to go on in the same period, its next loss would find the witness closed."""
    cluster, first, second = pair(21, Arbiter.WITNESS)
    cluster.arbiters.answers_lost = 1.0
    believes = True
    # It comes to believe so by nothing that happens.
    monkeypatch.setattr(quiet, "taken", lambda *_: None)
    lost = Turn.peer_lost.fget
    assert lost is not None
    monkeypatch.setattr(
        Turn,
        "peer_lost",
        property(lambda t: (believes and t.s.params.node == "n2") or lost(t)),
    )
    assert cluster.until(lambda: bool(cluster.arbiters.granted), 5.0), cluster.tail()
    believes = False
    cluster.arbiters.heal()
    cluster.run(1.0)
    assert cluster.until(cluster.pair_ready, 60.0), cluster.tail()
    cluster.run(2.0)
    second.power_off()
    assert cluster.until(lambda: shown(first) is State.ALONE, 20.0), cluster.tail()


def stale_word() -> None:
    """The heartbeats are cut while the secondary adopts; the primary stops and starts again before
    it counts the other one as lost: what it believes of it is from before the adoption."""
    cluster, first, second = pair(22, Arbiter.WITNESS)
    second.power_off()
    assert cluster.until(lambda: shown(first) is State.ALONE, 30.0)
    cluster.sync_s = (1.0, 1.0)
    second.power_on()
    for node in (first, second):
        node.script_s = (0.005, 0.01)

    def caught_up() -> bool:
        return first.state is not None and first.state.link is not Link.SOLO

    while not caught_up():
        assert cluster.clock.now < 100, cluster.tail()
        cluster.run(0.001)
    cluster.network.cut_lanes(*NAMES)
    assert cluster.until(lambda: shown(first) is State.PRIM, 1.0), cluster.tail()
    cluster.act("n1", "stop")
    assert cluster.until(lambda: shown(first) is State.STOP, 2.0), cluster.tail()
    cluster.cut_stream()
    cluster.act("n1", "start")
    cluster.run(30.0)
    assert len(leaders(cluster)) == 1, cluster.tail()
    reunite(cluster)


def test_i3_the_other_nodes_word_must_be_younger_than_what_it_was_sent(monkeypatch: Patch) -> None:
    stale_word()
    meet = election._meet

    def believed(s: Situation, peer: PeerView) -> Decision:
        if peer.state is State.SECOND:
            peer = replace(peer, state=State.WAIT, ready_to_follow=True)
        return meet(replace(s, fresh=True), peer)

    monkeypatch.setattr(election, "_meet", believed)
    with pytest.raises(Broken):
        stale_word()


def test_a_claim_that_was_not_used_does_not_stand_in_the_way() -> None:
    """The secondary's claim is stored, its answer is lost, the link comes back: a later loss of
    the same secondary must find the witness open to the primary."""
    cluster, _first, _second = pair(17, Arbiter.WITNESS)
    cluster.arbiters.answers_lost = 1.0
    cluster.network.cut_lanes("n1")
    cluster.cut_stream()
    # The primary is deaf a moment later than the secondary: it has asked nobody yet.
    assert cluster.until(lambda: bool(cluster.arbiters.granted), 20.0), cluster.tail()
    cluster.network.heal()
    cluster.arbiters.heal()
    assert cluster.until(cluster.pair_ready, 60.0), cluster.tail()
    cluster.run(2.0)
    leader = next(n for n in cluster.nodes.values() if shown(n) is State.PRIM)
    cluster.other(leader).power_off()
    assert cluster.until(lambda: shown(leader) is State.ALONE, 20.0), cluster.tail()


def test_an_operators_prim_is_told_to_the_witness() -> None:
    """P4: the node that was passed over must not be let in later."""
    cluster, first, second = pair(18, Arbiter.WITNESS)
    second.power_off()
    first.power_off()
    cluster.arbiters.witness_cut = {"n1"}
    first.power_on()
    cluster.run(12.0)
    assert shown(first) is State.WAIT
    cluster.arbiters.witness_cut = set()
    cluster.act("n1", "prim")
    assert cluster.until(lambda: shown(first) is State.ALONE, 20.0), cluster.tail()
    cluster.run(3.0)
    first.power_off()
    second.power_on()
    cluster.run(30.0)
    assert shown(second) is State.WAIT, cluster.tail()


def test_failover_off_never_asks() -> None:
    cluster = Cluster(19, arbitration=Arbitration((Arbiter.WITNESS,)), failover=False)
    cluster.form_pair()
    cluster.run(2.0)
    cluster.nodes["n1"].power_off()
    cluster.run(40.0)
    assert cluster.nodes["n2"].shown is State.WAIT
    assert not cluster.arbiters.granted
    cluster.nodes["n1"].power_on()
    reunite(cluster)


def test_failover_is_switched_on_while_the_former_primary_is_stopped() -> None:
    """A clean stop with failover off leaves nobody behind durably when a witness can decide."""
    cluster = Cluster(26, arbitration=Arbitration((Arbiter.WITNESS,)), failover=False)
    cluster.form_pair()
    cluster.run(2.0)
    first, second = cluster.nodes["n1"], cluster.nodes["n2"]
    cluster.act("n1", "stop")
    assert cluster.until(lambda: shown(first) is State.STOP, 20.0)
    cluster.run(10.0)
    assert shown(second) is State.WAIT
    first.power_off()
    second.happen(e.FailoverSet(True))
    assert cluster.until(lambda: shown(second) is State.ALONE, 20.0), cluster.tail()
    cut(cluster)
    first.power_on()
    cluster.act("n1", "start")
    cluster.run(30.0)
    assert leaders(cluster) == ["n2"], cluster.tail()


def test_f12_source_crashes_during_a_resync_with_a_witness() -> None:
    """The target is INCONSISTENT: no arbiter makes it serve; the source returns by its record."""
    cluster, first, second = pair(20, Arbiter.WITNESS)
    second.power_off()
    assert cluster.until(lambda: shown(first) is State.ALONE, 30.0)
    cluster.sync_s = (5.0, 5.0)
    second.power_on()
    inconsistent = lambda: second.disk.record.disk is Disk.INCONSISTENT  # noqa: E731
    assert cluster.until(inconsistent, 30.0), cluster.tail()
    cluster.run(1.0)
    first.power_off()
    cluster.run(40.0)
    assert shown(second) is State.WAIT
    first.power_on()
    assert cluster.until(lambda: shown(first) is State.ALONE, 2.0), "E0: at once"
    cluster.sync_s = (0.2, 1.5)
    reunite(cluster)


# -- the rules taken out --------------------------------------------------------------------------


def refused_survivor() -> None:
    """K9: n1 wins and loses power before it used its right; n2, which was refused, is the only
    one that still has every answer."""
    cluster, first, second = pair(30, Arbiter.WITNESS)
    cluster.write_every_s = 0.05
    cluster.stable_share = 0.0
    cluster.run(3.0)
    cluster.arbiters.witness_cut = {"n2"}
    cluster.network.stream_notice_s = (0.01, 0.01)
    cut(cluster)
    assert cluster.until(lambda: first.disk.record.epoch > second.disk.record.epoch, 10.0)
    first.save_s = (30.0, 30.0)
    assert cluster.until(lambda: bool(cluster.arbiters.granted), 30.0), cluster.tail()
    cluster.arbiters.witness_cut = set()
    assert cluster.until(lambda: shown(second) is State.WAIT, 20.0), cluster.tail()
    owed = {number: False for number in cluster.checks.owed if number in second.has()}
    newest = max(owed)
    assert newest not in first.disk.stable
    first.power_off()
    first.disk.tree.discard(newest)  # Without luck: the kernel had not written it yet.
    first.disk.stable.discard(newest)
    cluster.checks.owed = owed
    first.save_s = (0.001, 0.01)
    cluster.network.heal()
    first.power_on()
    reunite(cluster)


def test_k9_a_refusal_does_not_write_outdated(monkeypatch: Patch) -> None:
    refused_survivor()
    leave = following.leave

    def outdated_as_well(t: Turn, cause: Cause) -> None:
        leave(t, cause)
        if cause is Cause.REFUSED:
            t.want(records.outdated(t.s.wanted))

    monkeypatch.setattr(following, "leave", outdated_as_well)
    with pytest.raises(Broken, match=r"without acknowledged writes|are gone"):
        refused_survivor()


def test_k9_a_frozen_primary_that_gives_up_keeps_its_data(monkeypatch: Patch) -> None:
    """The same for the primary: stopped by an operator in the middle of its retreat."""

    def story() -> Cluster:
        cluster, first, _second = pair(31, Arbiter.WITNESS)
        cluster.arbiters.witness_cut = set(NAMES)
        first.script_s = (3.0, 3.0)
        cut(cluster)
        assert cluster.until(lambda: shown(first) is State.WAIT, 60.0), cluster.tail()
        cluster.act("n1", "stop")
        assert cluster.until(lambda: shown(first) is State.STOP, 60.0), cluster.tail()
        return cluster

    assert story().nodes["n1"].disk.record.disk is Disk.UPTODATE
    step_aside = serving.step_aside

    def outdated(t: Turn, cause: Cause, outdated: bool = True, **more: object) -> None:
        step_aside(t, cause, True, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(serving, "step_aside", outdated)
    assert story().nodes["n1"].disk.record.disk is Disk.OUTDATED


def early_riser() -> None:
    """K11: n2 crashes and is back before n1 noticed; the links work, and take their time."""
    cluster, _first, second = pair(32, Arbiter.WITNESS)
    cluster.stable_share = 0.0
    cluster.run(2.0)
    for lane in cluster.network.lanes.values():
        lane.delay_s = (1.0, 1.0)
    cluster.network.stream_notice_s = (3.0, 3.0)
    second.power_off()
    second.power_on()
    cluster.run(2.0)
    reunite(cluster)


def test_k11_a_node_that_comes_back_listens_before_it_asks(monkeypatch: Patch) -> None:
    early_riser()
    nobody_heard = election._nobody_heard

    def at_once(s: Situation) -> Decision:
        return nobody_heard(replace(s, absent=True))

    monkeypatch.setattr(election, "_nobody_heard", at_once)
    with pytest.raises(Broken, match="I20"):
        early_riser()
    unchecked(monkeypatch, "i20_asks_after_a_whole_start_window")
    with pytest.raises(Broken, match="n2 leads without acknowledged writes"):
        early_riser()


def two_halves(*required: Arbiter) -> Cluster:
    """K12: the link is cut, both go on if they may."""
    cluster, _, _ = pair(33, *required)
    cluster.sound = True  # Whatever is configured: what would a sound arbiter promise?
    cut(cluster)
    cluster.run(SECONDS_TO_GIVE_UP)
    return cluster


def test_k12_without_an_arbiter_both_halves_go_on() -> None:
    assert len(leaders(two_halves(Arbiter.WITNESS))) == 1
    with pytest.raises(Broken, match="without acknowledged writes"):
        two_halves()


def either_of_two() -> None:
    """K12b: n1 reaches the witness only, n2 the fencing device only."""
    cluster, _first, _second = pair(34, Arbiter.WITNESS, Arbiter.FENCE)
    cluster.arbiters.witness_cut = {"n2"}
    cluster.arbiters.fence_cut = {"n1"}
    cut(cluster)
    cluster.run(SECONDS_TO_GIVE_UP)


def test_k12b_two_arbiters_are_no_alternatives(monkeypatch: Patch) -> None:
    either_of_two()

    def one_of_them(arbiters: tuple[Arbiter, ...], yes: frozenset[Arbiter]) -> bool:
        return not arbiters or any(arbiter in yes for arbiter in arbiters)

    def next_one(t: Turn, arbiters: tuple[Arbiter, ...]) -> bool:
        return pursue(t, arbiters[::-1] if t.s.params.node == "n2" else arbiters)

    pursue = permission.pursue
    monkeypatch.setattr(permission, "agreed", one_of_them)
    monkeypatch.setattr(permission, "pursue", next_one)
    with pytest.raises(Broken, match="I3"):
        either_of_two()
    unchecked(monkeypatch, "i3_one_permission_for_one_period")
    with pytest.raises(Broken, match="without acknowledged writes"):
        either_of_two()


def yesterdays_data(*required: Arbiter) -> None:
    """K12c: n2 crashes, n1 goes on alone, n1 crashes, n2 returns alone."""
    cluster, first, second = pair(35, *required)
    second.power_off()
    assert cluster.until(lambda: shown(first) is State.ALONE, 40.0), cluster.tail()
    cluster.run(3.0)
    first.power_off()
    second.power_on()
    cluster.run(60.0)


@pytest.mark.parametrize(
    "required", [(Arbiter.FENCE,), (Arbiter.PING,), ()], ids=["E3", "E5", "E6"]
)
def test_k12c_no_evidence_but_the_witness_counts_after_a_restart(
    required: tuple[Arbiter, ...], monkeypatch: Patch
) -> None:
    """E4 is left out: a watchdog guards one of the two nodes, and this takes both."""
    yesterdays_data(*required)
    needed = permission.needed

    def whoever(s: ModuleState, back: bool) -> tuple[Arbiter, ...] | None:
        return needed(s, back=False)

    monkeypatch.setattr(permission, "needed", whoever)
    with pytest.raises(Broken, match=r"without acknowledged writes|did already \(I3\)"):
        yesterdays_data(*required)


def claimant_returns_alone() -> None:
    """I3: n1 raised its number and was refused, n2 went on; n1 returns alone with it."""
    cluster, first, second = pair(36, Arbiter.WITNESS)
    cluster.arbiters.witness_cut = {"n1"}
    cut(cluster)
    assert cluster.until(lambda: shown(second) is State.ALONE, 20.0), cluster.tail()
    cluster.run(2.0)
    first.power_off()
    second.power_off()
    cluster.arbiters.witness_cut = set()
    first.power_on()
    cluster.run(60.0)


def test_i3_both_nodes_claim_the_number_after_the_period_they_shared(monkeypatch: Patch) -> None:
    yesterdays_data(Arbiter.WITNESS)
    claimant_returns_alone()
    monkeypatch.setattr(permission, "want", lambda s: records.next_epoch(s.wanted))
    with pytest.raises(Broken):
        claimant_returns_alone()
