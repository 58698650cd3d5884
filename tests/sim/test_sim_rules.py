"""Every safety rule taken out once: its schedule must then break a promise, and must not with
the rule in place (protocol 14). A rule whose absence nothing notices is not tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from checks import Broken, Checks
from cluster import NAMES, TIMEOUT_S, Cluster
from twin import Stream, Worker

from safepy.core import commands as c
from safepy.core import following, links, pairing, records, reunion
from safepy.core.links import LaneState
from safepy.core.state import Link
from safepy.core.transitions import Cause
from safepy.core.turn import Turn
from safepy.model import Active, Beat, Disk, Record, State

Patch = pytest.MonkeyPatch


def unchecked(monkeypatch: Patch, check: str) -> None:
    """The check that looks at the rule itself is silent: what does the lack of the rule do?"""
    monkeypatch.setattr(Checks, check, lambda *arguments: None)


def release_before_the_peer_knows() -> None:
    """The stream dies while heartbeats take two seconds. The primary must not answer alone until
    the secondary can have heard that it is behind; then the primary loses power."""
    cluster = Cluster(1)
    cluster.form_pair()
    for lane in cluster.network.lanes.values():
        lane.delay_s = (1.5, 1.5)
    cluster.run(3.0)
    cluster.network.stream_notice_s = (0.01, 0.01)
    cluster.cut_stream()
    cluster.run(1.0)
    cluster.nodes["n1"].power_off()
    cluster.network.drop_queued("n1")
    cluster.run(3 * TIMEOUT_S)


def test_i4_held_writes_are_not_released_before_the_peer_knows(monkeypatch: Patch) -> None:
    release_before_the_peer_knows()
    monkeypatch.setattr(pairing, "_knows", lambda t, view: True)
    with pytest.raises(Broken, match="without acknowledged writes"):
        release_before_the_peer_knows()


def outdated_takes_over() -> None:
    """The secondary's disk fills, the primary goes on alone, then it dies. The secondary must
    not serve what it has."""
    cluster = Cluster(2)
    cluster.form_pair()
    cluster.nodes["n2"].disk_full = True
    assert cluster.until(lambda: cluster.is_shown("n1", State.ALONE), 20)
    cluster.run(3.0)
    cluster.nodes["n1"].power_off()
    cluster.nodes["n2"].disk_full = False
    cluster.run(4 * TIMEOUT_S)


def test_i2_outdated_data_is_never_served(monkeypatch: Patch) -> None:
    outdated_takes_over()
    before = following._take_over

    def whatever_the_disk(t: Turn) -> bool:
        s = t.s
        if t.peer_lost:
            s.wanted = replace(s.wanted, disk=Disk.UPTODATE)
            s.synced = s.following = True
            s.unapplied = False
        return before(t)

    monkeypatch.setattr(following, "_take_over", whatever_the_disk)
    with pytest.raises(Broken, match="without acknowledged writes"):
        outdated_takes_over()


def adopt_before_the_source_recorded() -> None:
    """K7, I11: the target adopts while the source's disk still says that the target is behind.
    The source dies, the target leads, dies too, and the source returns alone."""
    cluster = Cluster(3)
    first, second = (cluster.nodes[name] for name in NAMES)
    cluster.act("n1", "prim")
    assert cluster.until(lambda: cluster.is_shown("n1", State.ALONE), 30)
    first.save_s = (2.0, 2.0)
    cluster.act("n2", "start")

    def adopted() -> bool:
        return bool(second.worker and second.worker.second)

    assert cluster.until(adopted, 40), cluster.tail()
    first.power_off()
    first.save_s = (0.001, 0.01)
    cluster.run(2 * TIMEOUT_S)
    second.power_off()
    cluster.run(1.0)
    first.power_on()
    cluster.run(4 * TIMEOUT_S)


def test_k7_the_source_records_before_the_target_adopts(monkeypatch: Patch) -> None:
    adopt_before_the_source_recorded()
    before = pairing._link_progress

    def at_once(t: Turn) -> bool:
        s = t.s
        if s.link is Link.RECORDING:
            s.link = Link.JOINING
            s.link_until = t.now + 10
            record = s.wanted
            t.do(c.Join(record.epoch, record.gen, record.base, record.history))
            return True
        return before(t)

    monkeypatch.setattr(pairing, "_link_progress", at_once)
    with pytest.raises(Broken, match="I11"):
        adopt_before_the_source_recorded()
    unchecked(monkeypatch, "i11_source_records_before_the_target_adopts")
    with pytest.raises(Broken, match="leads without acknowledged writes"):
        adopt_before_the_source_recorded()


def source_answers_while_the_target_adopts() -> Cluster:
    """K7 as it is written: the target has adopted, the source does not know it yet; the link
    breaks, the source is gone, and the target, which believes that it is in sync, leads."""
    cluster = Cluster(37, write_every_s=0.05)
    cluster.stable_share = 1.0
    first, second = (cluster.nodes[name] for name in NAMES)
    cluster.act("n1", "prim")
    assert cluster.until(lambda: cluster.is_shown("n1", State.ALONE), 30)
    cluster.network.stream_delay_s = (0.4, 0.4)
    cluster.act("n2", "start")

    def adopted() -> bool:
        return bool(second.worker and second.worker.second)

    assert cluster.until(adopted, 60), cluster.tail()
    cluster.run(0.3)
    assert first.worker is not None and not first.worker.joined, "it has not heard of it"
    cluster.cut_stream()
    first.power_off()
    cluster.network.heal()
    assert cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 5 * TIMEOUT_S), cluster.tail()
    return cluster


def test_k7_the_source_answers_nothing_alone_while_the_target_adopts(monkeypatch: Patch) -> None:
    cluster = source_answers_while_the_target_adopts()
    assert cluster.checks.owed, "it had answered before"
    synchronised = Worker._synchronised

    def goes_on(self: Worker, stream: Stream) -> None:
        synchronised(self, stream)
        if self.joining:
            self.held = False
            self.kick()

    monkeypatch.setattr(Worker, "_synchronised", goes_on)
    with pytest.raises(Broken, match="I4"):
        source_answers_while_the_target_adopts()
    unchecked(monkeypatch, "i4_left_behind_and_modified_are_durable")
    with pytest.raises(Broken, match="leads without acknowledged writes"):
        source_answers_while_the_target_adopts()


def replayed_beats() -> bool:
    """F31: somebody repeats the heartbeats of the primary's former life after its death.
    Returns whether the secondary took over."""
    cluster = Cluster(4)
    cluster.beats = []
    cluster.form_pair()
    first, second = (cluster.nodes[name] for name in NAMES)
    cluster.run(25.0)
    old = [
        command
        for name, command in cluster.beats
        if name == "n1" and command.beat.view.state is State.PRIM
    ]
    cluster.beats = None
    # The daemon of the primary starts again (its session is another one), and the pair forms anew.
    first.kill_daemon(0.5)
    cluster.run(1.0)
    assert cluster.until(cluster.pair_ready, 60), cluster.tail()
    leader = next(node for node in (first, second) if node.shown is State.PRIM)
    if leader is first:
        cluster.act("n1", "swap")
        assert cluster.until(lambda: cluster.is_shown("n2", State.PRIM), 60)
        assert cluster.until(cluster.pair_ready, 60)
    cluster.act("n2", "swap")
    assert cluster.until(
        lambda: cluster.is_shown("n1", State.PRIM) and cluster.is_shown("n2", State.SECOND), 60
    ), cluster.tail()
    first.power_off()
    end = cluster.clock.now + 3 * TIMEOUT_S
    for command in old:
        if cluster.clock.now >= end:
            break
        cluster.deliver_beat(second, command)
        cluster.run(0.4)
    assert cluster.clock.now >= end, "too few beats were recorded"
    return second.shown is State.ALONE


def _believe_everything(state: LaneState, session: str, beat: Beat, now: float) -> float:
    return now


def test_f31_replayed_beats_keep_nobody_alive(monkeypatch: Patch) -> None:
    assert replayed_beats()
    monkeypatch.setattr(links, "_proof", _believe_everything)
    monkeypatch.setattr(links, "PAST_SESSIONS", 0)
    monkeypatch.setattr(links, "_fresh_session", lambda links_, beat: True)
    assert not replayed_beats()


def asleep_then_silent() -> None:
    """K12c for a sleeper: the secondary sleeps, the primary goes on alone and dies, the secondary
    wakes up and hears nobody. Silence is no permission for it."""
    cluster = Cluster(5)
    cluster.form_pair()
    first, second = (cluster.nodes[name] for name in NAMES)
    second.freeze()
    cluster.run(2.5 * TIMEOUT_S)
    assert first.shown is State.ALONE, cluster.tail()
    first.power_off()
    cluster.run(0.2)
    second.awake()
    cluster.run(4 * TIMEOUT_S)


def test_k12c_silence_is_no_permission_after_a_sleep(monkeypatch: Patch) -> None:
    asleep_then_silent()
    before = following._cause_to_take_over

    def without_doubt(t: Turn) -> object:
        t.s.doubt = False
        return before(t)

    monkeypatch.setattr(following, "_cause_to_take_over", without_doubt)
    with pytest.raises(Broken, match="without acknowledged writes"):
        asleep_then_silent()


def claim_is_not_permission() -> None:
    """A primary claims a new generation, dies before the peer heard of it; the peer takes over,
    acknowledges, dies; the first one returns alone. Its claim must not count as E0."""
    cluster = Cluster(6)
    cluster.form_pair()
    first, second = (cluster.nodes[name] for name in NAMES)
    cluster.network.stream_notice_s = (0.01, 0.01)
    for lane in cluster.network.lanes.values():
        lane.delay_s = (1.0, 1.0)
    cluster.cut_stream()
    cluster.run(0.5)
    first.power_off()
    cluster.network.drop_queued("n1")
    cluster.network.heal()
    cluster.run(2 * TIMEOUT_S)
    assert second.shown is State.ALONE, cluster.tail()
    second.power_off()
    cluster.run(1.0)
    first.power_on()
    cluster.run(4 * TIMEOUT_S)


def test_i3_a_claim_is_no_permission(monkeypatch: Patch) -> None:
    claim_is_not_permission()
    claim = records.claim

    def at_once(record: Record, session: str, unjoined: Record | None) -> Record:
        return replace(claim(record, session, unjoined), peer_behind=True)

    monkeypatch.setattr(records, "claim", at_once)
    with pytest.raises(Broken, match="without acknowledged writes"):
        claim_is_not_permission()


def claimant_crashes() -> None:
    """K9: the primary loses its stream, its claim becomes durable, it loses power before anybody
    heard of it, and is back at once. The other node has every acknowledged write; this one lost
    its page cache."""
    cluster = Cluster(9, write_every_s=0.05)
    cluster.stable_share = 0.0
    cluster.form_pair()
    cluster.run(3.0)
    first, second = (cluster.nodes[name] for name in NAMES)
    for lane in cluster.network.lanes.values():
        lane.delay_s = (1.5, 1.5)
    cluster.network.stream_notice_s = (0.01, 0.01)
    gen = first.disk.record.gen
    cluster.cut_stream()
    assert cluster.until(lambda: first.disk.record.gen != gen, 5)
    cluster.network.drop_queued("n1")
    owed = dict(cluster.checks.owed)
    first.power_off()
    # Two things failed, a link and a node; but the other node is whole and has everything.
    cluster.checks.owed = {number: owed[number] for number in owed if number in second.has()}
    cluster.network.heal()
    first.power_on()
    assert cluster.until(cluster.pair_ready, 60), cluster.tail()


def test_k9_an_unconfirmed_claim_is_taken_back_after_a_crash(monkeypatch: Patch) -> None:
    claimant_crashes()
    monkeypatch.setattr(records, "is_unconfirmed_claim", lambda record: False)
    with pytest.raises(Broken, match="without acknowledged writes"):
        claimant_crashes()


def survivor_is_preferred() -> None:
    """K10: the primary loses power and is back at once; the secondary, which holds every
    acknowledged write, must not be overwritten by it."""
    cluster = Cluster(7)
    cluster.form_pair()
    cluster.run(3.0)
    first = cluster.nodes["n1"]
    first.power_off()
    cluster.run(0.3)
    first.power_on()
    assert cluster.until(cluster.pair_ready, 60), cluster.tail()
    cluster.write_every_s = 0
    cluster.run(1.0)
    cluster.checks.at_rest()


def test_k10_the_survivor_of_a_crash_is_the_source(monkeypatch: Patch) -> None:
    survivor_is_preferred()

    def waits_as_well(t: Turn) -> bool:
        """The secondary does not take over at once: the table decides between two that wait."""
        if not t.s.synced or t.view is None or t.view.state is not State.WAIT:
            return False
        following.leave(t, Cause.SOURCE_GONE)
        return True

    monkeypatch.setattr(following, "_take_over", waits_as_well)
    survivor_is_preferred()
    same_generation = reunion._same_generation

    def former_primary(mine: Record, theirs: Record, *more: object) -> reunion.Reunion:
        meeting = same_generation(mine, theirs, *more)  # type: ignore[arg-type]
        return replace(meeting, source=mine.active is Active.PRIMARY)

    monkeypatch.setattr(reunion, "_same_generation", former_primary)
    with pytest.raises(Broken, match="without acknowledged writes"):
        survivor_is_preferred()


def test_f35_the_gate_of_a_frozen_primary_answers_nothing_when_it_wakes(monkeypatch: Patch) -> None:
    def story() -> None:
        cluster = Cluster(8, write_every_s=0.05)
        cluster.form_pair()
        first = cluster.nodes["n1"]
        first.freeze()
        cluster.run(2 * TIMEOUT_S)
        assert cluster.is_shown("n2", State.ALONE), cluster.tail()
        first.awake()
        assert cluster.until(cluster.pair_ready, 60), cluster.tail()

    story()

    def no_peer_needed(self: Worker, write: object) -> None:
        self._acknowledge(write)  # type: ignore[arg-type]

    # A worker that answered without its secondary would be caught, frozen or not.
    send: Callable[[Worker, object], None] = no_peer_needed
    monkeypatch.setattr(Worker, "_send", send)
    with pytest.raises(Broken):
        story()
