"""Rows of the failure table (protocol 10) that need exact moments, which only virtual time gives.

The stories in tests/scenarios show the ordinary rows; docs/failures.md says which test shows which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from checks import Broken
from cluster import NAMES, TIMEOUT_S, Cluster
from node import Node
from twin import Worker

from safepy.core import events as e
from safepy.core import machine, pairing, plans, progress
from safepy.core.state import Link
from safepy.core.status import snapshot
from safepy.core.turn import Turn
from safepy.model import Disk, Status

STOP, WAIT, ALONE, PRIM, SECOND = "STOP", "WAIT", "ALONE", "PRIM", "SECOND"


def pair(seed: int, **more: object) -> tuple[Cluster, Node, Node]:
    cluster = Cluster(seed, **more)  # type: ignore[arg-type]
    cluster.form_pair()
    cluster.run(2.0)
    return cluster, cluster.nodes["n1"], cluster.nodes["n2"]


def becomes(cluster: Cluster, node: Node, state: str, at_most_s: float = 60.0) -> None:
    assert cluster.until(lambda: node.shown == state, at_most_s), cluster.tail()


def at_rest(cluster: Cluster) -> None:
    """Everything works again: the pair forms, both copies are equal, nothing owed is missing."""
    cluster.network.heal()
    for node in cluster.nodes.values():
        node.awake()
        node.power_on()
    assert cluster.until(cluster.pair_ready, 120), cluster.tail()
    cluster.write_every_s = 0.0
    cluster.run(2.0)
    assert cluster.until(lambda: cluster.pair_ready() and cluster.quiet, 60), cluster.tail()
    cluster.checks.at_rest()


def writing(cluster: Cluster, node: Node) -> Callable[[], bool]:
    """A write is applied here and has no answer yet."""
    return lambda: node.worker is not None and bool(node.worker.pending)


def step_until(cluster: Cluster, condition: Callable[[], bool], at_most_s: float) -> None:
    """Looked at far more often than anything takes."""
    end = cluster.clock.now + at_most_s
    while not condition():
        assert cluster.clock.now < end, cluster.tail()
        cluster.run(0.0003)


# -- one write, and a crash around it ------------------------------


def test_f8_crash_after_the_local_apply_and_before_the_remote_one() -> None:
    """Never acknowledged; the other node takes over without it, and overwrites it at the return."""
    cluster, first, second = pair(1, write_every_s=0.05)
    cluster.network.stream_delay_s = (0.5, 0.5)
    step_until(cluster, writing(cluster, first), 5.0)
    assert first.worker is not None
    number = first.worker.pending[-1].number
    assert number not in second.has()
    first.power_off()
    becomes(cluster, second, ALONE)
    assert number not in cluster.checks.owed and number not in second.has()
    at_rest(cluster)


def test_f9_crash_after_the_remote_apply_and_before_the_answer() -> None:
    """The other node has it; an operation without an answer may survive."""
    cluster, first, second = pair(2, write_every_s=0.05)
    cluster.network.stream_delay_s = (0.05, 0.05)
    step_until(
        cluster,
        lambda: (
            first.worker is not None
            and any(w.number in second.has() and not w.remote_done for w in first.worker.pending)
        ),
        5.0,
    )
    first.power_off()
    becomes(cluster, second, ALONE)
    at_rest(cluster)


def test_f10_crash_right_after_an_answer() -> None:
    """P2: the other node has it, though it may be in nobody's file system yet."""
    cluster, first, second = pair(3, write_every_s=0.05)
    cluster.stable_share = 0.0
    for _ in range(3):
        before = cluster.checks.acknowledged_count
        step_until(cluster, lambda n=before: cluster.checks.acknowledged_count > n, 5.0)  # type: ignore[misc]
    newest = max(cluster.checks.owed)
    first.power_off()
    becomes(cluster, second, ALONE)
    assert newest in second.has()
    at_rest(cluster)


def test_f17_what_a_dead_receiver_had_not_applied_makes_its_node_no_source() -> None:
    """Acknowledged on receipt, and gone with the secondary's worker; the primary loses power at
    the same moment. Whatever the primary still has, the secondary does not lead over it (D6)."""
    cluster, first, second = pair(29, write_every_s=0.05)
    cluster.stable_share = 0.0
    received = lambda: second.worker is not None and bool(second.worker.received)  # noqa: E731
    step_until(cluster, received, 10.0)
    second.kill_worker()
    first.power_off()
    cluster.run(3 * TIMEOUT_S)
    assert second.shown == WAIT and second.disk.record.disk is Disk.UPTODATE
    assert second.state is not None and second.state.lost_volatile
    first.power_on()
    assert cluster.until(cluster.pair_ready, 60.0), cluster.tail()
    assert (first.shown, second.shown) == (PRIM, SECOND)
    at_rest(cluster)


# -- a resynchronisation that breaks off ------------------------------


def returning(seed: int) -> tuple[Cluster, Node, Node]:
    """n1 ALONE, n2 in the middle of its resynchronisation."""
    cluster, first, second = pair(seed)
    second.power_off()
    becomes(cluster, first, ALONE)
    cluster.run(2.0)
    cluster.sync_s = (4.0, 4.0)
    second.power_on()
    being_written = lambda: second.disk.record.disk is Disk.INCONSISTENT  # noqa: E731
    assert cluster.until(being_written, 40.0), cluster.tail()
    cluster.run(1.0)
    cluster.sync_s = (0.2, 1.5)
    return cluster, first, second


def test_f12_source_crashes_during_resync() -> None:
    """Service stops: the target's copy is neither the old nor the new one. The source returns at
    once by its own record (E0)."""
    cluster, first, second = returning(4)
    first.power_off()
    cluster.run(40.0)
    assert second.shown == WAIT and second.state is not None
    assert "n1" in snapshot(second.state, 0.0).waiting_for
    first.power_on()
    becomes(cluster, first, ALONE, 3.0)
    at_rest(cluster)


def test_f13_target_crashes_during_resync() -> None:
    """The source goes on, and answers all the time; the resynchronisation begins again."""
    cluster, first, second = returning(5)
    before = cluster.checks.acknowledged_count
    second.power_off()
    cluster.run(10.0)
    assert first.shown == ALONE and cluster.checks.acknowledged_count > before + 10
    assert second.disk.record.disk is Disk.INCONSISTENT
    at_rest(cluster)


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("crashes", NAMES)
def test_f14_crash_between_adopt_sent_and_confirmed(crashes: str, adopted: bool) -> None:
    """The source is frozen and needs permission; if the target adopted, it is a full SECOND."""
    cluster, first, second = pair(6)
    second.power_off()
    becomes(cluster, first, ALONE)
    second.power_on()
    # The answer to Join stays away; whether the target's record is written in time differs.
    second.save_s = (0.001, 0.002)
    cluster.network.stream_delay_s = (0.02, 0.02)

    def joining() -> bool:
        return first.state is not None and first.state.link is Link.JOINING

    step_until(cluster, joining, 60.0)
    if adopted:
        good = lambda: second.disk.record.disk is Disk.UPTODATE  # noqa: E731
        step_until(cluster, good, 5.0)
    cluster.nodes[crashes].power_off()
    other = cluster.other(cluster.nodes[crashes])
    cluster.run(20.0)
    if crashes == "n2" or adopted:
        assert other.shown == ALONE, cluster.tail()
    at_rest(cluster)


# -- links and clocks ------------------------------


@pytest.mark.parametrize("deaf", NAMES)
def test_f25_one_way_loss_is_a_cut_link(deaf: str) -> None:
    """Both nodes consider the network down: what is heard does not echo what was sent."""
    cluster, first, second = pair(7)
    cluster.checks.split_possible = True  # E6: both may go on.
    cluster.network.cut_lanes(*(name for name in NAMES if name != deaf))
    cluster.cut_stream()
    cluster.run(2 * TIMEOUT_S + 1.0)
    for node in (first, second):
        assert node.state is not None
        assert snapshot(node.state, 0.0, node.clock_now()).peer_state == "UNKNOWN", node.name
    at_rest(cluster)


def test_f34_a_secondary_that_makes_no_progress_is_left_behind() -> None:
    """Heartbeats arrive, acknowledgements do not: after the time limit the primary goes on, once
    the secondary has said durably that it is behind (E1)."""
    cluster, first, second = pair(24)
    cluster.network.stream_delay_s = (30.0, 30.0)
    becomes(cluster, first, ALONE, 40.0)
    assert any("Permission to serve alone (E1)" in text for _, _, text in cluster.story)
    assert second.disk.record.disk is not Disk.UPTODATE
    at_rest(cluster)


def test_f36_the_primarys_clock_stands_still_while_it_is_frozen() -> None:
    """It notices by the other node's higher epoch, not by time; no answer in between."""
    cluster, first, second = pair(8, write_every_s=0.05)
    first.freeze()
    becomes(cluster, second, ALONE)
    cluster.run(3.0)
    first.awake(clock_stood_still=True)
    assert cluster.until(lambda: first.shown == SECOND, 10.0), cluster.tail()
    at_rest(cluster)


def test_f38_both_frozen_go_on_as_primary_and_secondary() -> None:
    """A storage or host hiccup longer than the detection time: nobody is declared lost."""
    cluster, first, second = pair(9)
    for node in (first, second):
        node.freeze()
    cluster.run(3 * TIMEOUT_S)
    for node in (first, second):
        node.awake()
    states = set()
    for _ in range(40):
        cluster.run(0.25)
        states.add((first.shown, second.shown))
    assert states == {(PRIM, SECOND)}, states
    at_rest(cluster)


def test_f39_the_wall_clock_decides_nothing() -> None:
    """I17: decades forth or back change no step of a whole day, only what people read."""

    def day(wall_offset_s: float) -> list[tuple[float, str, str]]:
        cluster, first, second = pair(10, wall_offset_s=wall_offset_s)
        first.power_off()
        becomes(cluster, second, ALONE)
        first.power_on()
        at_rest(cluster)
        cluster.act("n2", "swap")
        cluster.run(20.0)
        return cluster.story

    usual = day(1.8e9)
    assert day(1.8e9 + 30 * 365 * 86400) == usual
    assert day(-1.8e9) == usual


def test_f40_starved_of_processor_time() -> None:
    """Short pauses, again and again: no role changes."""
    cluster, first, second = pair(11)
    for _ in range(12):
        for node in (first, second):
            node.freeze()
        cluster.run(0.5 * TIMEOUT_S)
        for node in (first, second):
            node.awake()
        cluster.run(1.0)
        assert (first.shown, second.shown) == (PRIM, SECOND), cluster.tail()
    at_rest(cluster)


# -- records, configurations, identities ------------------------------


def test_f47_the_primary_cannot_write_its_record() -> None:
    """No state change and no answer that needs one: it stops, the secondary takes over."""
    cluster, first, second = pair(12)
    gen = first.disk.record.gen
    cluster.cut_stream()
    step_until(cluster, lambda: first.state is not None and first.state.link is Link.CLAIMING, 5.0)
    first.record_fails = True
    cluster.run(1.0)
    cluster.network.stream_cut = False
    becomes(cluster, first, STOP)
    becomes(cluster, second, ALONE)
    first.record_fails = False
    assert first.state is not None and "record cannot be written" in first.state.reason
    assert first.state.wanted.gen == gen, "a claim that was never written is not taken back"
    cluster.act("n1", "start")
    at_rest(cluster)


def test_f47_the_secondary_cannot_write_its_record() -> None:
    cluster, first, second = pair(13)
    second.record_fails = True
    cluster.cut_stream()
    cluster.run(1.0)
    cluster.network.stream_cut = False
    becomes(cluster, second, STOP)
    assert cluster.until(lambda: cluster.is_shown("n1", first.state.state, Status.READY), 30)  # type: ignore[union-attr]
    assert first.shown == ALONE
    second.record_fails = False
    cluster.act("n2", "start")
    at_rest(cluster)


def empty_directory() -> None:
    """K14, F48: after a crash the file system of the only up to date copy is not mounted."""
    cluster, first, second = pair(22)
    second.power_off()
    becomes(cluster, first, ALONE)
    cluster.run(3.0)
    first.power_off()
    real = (first.disk.tree, first.disk.stable)
    first.unmounted, first.disk.tree, first.disk.stable = True, set(), set()
    first.power_on()
    second.power_on()
    cluster.run(20.0)
    assert (first.shown, second.shown) == (STOP, WAIT), cluster.tail()
    assert second.disk.tree, "nothing is deleted on the other node"
    first.unmounted = False
    first.disk.tree, first.disk.stable = real
    cluster.act("n1", "start")
    at_rest(cluster)


def test_f48_k14_an_empty_directory_is_not_taken_for_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty_directory()
    monkeypatch.setattr(Node, "tree_is_ours", lambda self: True)
    with pytest.raises(Broken, match="without acknowledged writes"):
        empty_directory()


def dead_worker() -> None:
    """K15: the replication process dies while the application may run."""
    cluster, first, _ = pair(25)
    first.kill_worker()
    cluster.run(0.2)
    at_rest(cluster)


def test_k15_the_cover_stays_while_the_application_may_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead_worker()
    stop_broken = plans.stop_broken

    def clean_up_first(*args: object) -> plans.Plan:
        return (plans.Work.UNCOVER, *stop_broken(*args))  # type: ignore[arg-type]

    monkeypatch.setattr(plans, "stop_broken", clean_up_first)
    uncover = progress._work

    def at_once(t: Turn, step: plans.Work) -> bool:
        again, t.s.start_again = t.s.start_again, t.s.start_again and step is not plans.Work.UNCOVER
        changed = uncover(t, step)
        t.s.start_again = again
        return changed

    monkeypatch.setattr(progress, "_work", at_once)
    with pytest.raises(Broken, match="I18"):
        dead_worker()


def late_frames() -> None:
    """K16: frames of the old primary are under way when the connection breaks and the other node
    takes over; they arrive afterwards."""
    cluster, first, second = pair(23, write_every_s=0.05)
    cluster.network.stream_delay_s = (8.0, 8.0)
    cluster.run(1.0)
    first.power_off()
    cluster.network.stream_delay_s = (0.0002, 0.002)
    becomes(cluster, second, ALONE)
    cluster.run(10.0)
    at_rest(cluster)


def test_k16_a_frame_of_a_former_connection_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    late_frames()
    monkeypatch.setattr(Worker, "belongs", lambda self, stream: True)
    with pytest.raises(Broken, match="former connection"):
        late_frames()


def test_f54_configurations_that_differ() -> None:
    """The nodes do not pair, and say both digests."""
    cluster = Cluster(14)
    first, second = cluster.nodes.values()
    second.params = replace(second.params, config_digest="bb")
    second.kill_daemon(0.1)
    cluster.run(1.0)
    cluster.act("n1", "prim")
    becomes(cluster, first, ALONE)
    cluster.act("n2", "start")
    cluster.run(20.0)
    assert first.shown == ALONE and second.shown == WAIT
    assert second.state is not None
    told = snapshot(second.state, 0.0)
    assert "configurations of the two nodes differ" in told.waiting_for
    assert "bb" in told.waiting_for and "safekit config" in told.remedy


def test_f57_a_cloned_node_with_the_same_id() -> None:
    """D0: nothing that it says is taken for the other node's; neither knows the other one."""
    cluster, first, second = pair(15)
    clone = replace(second.params, node="n1", peer="n2")
    second.power_off()
    becomes(cluster, first, ALONE)
    second.params = clone
    second.disk.record = replace(second.disk.record, node="n1", peer="n2")
    # Both are called n1 now: who is the other one goes by the machine.
    cluster.other = lambda node: second if node is first else first  # type: ignore[method-assign]
    second.power_on()
    has = set(second.disk.tree)
    cluster.run(20.0)
    assert first.shown == ALONE
    assert second.shown == WAIT and second.disk.tree == has, "nothing is taken from us"
    for node in (first, second):
        assert node.state is not None
        assert node.state.links.dropped > 20, "it is heard, and counted"
        assert node.state.peer is None or node.state.peer.node == "n2", "no view of a stranger"
        assert snapshot(node.state, 0.0, node.clock_now()).peer_state == "UNKNOWN", node.name


# -- flapping (protocol 9) ------------------------------


def losses(cluster: Cluster, first: Node, second: Node, times: int) -> list[float]:
    """How long the pair takes to form again after each of several losses."""
    took = []
    for _ in range(times):
        second.power_off()
        becomes(cluster, first, ALONE)
        second.power_on()
        began = cluster.clock.now
        assert cluster.until(cluster.pair_ready, 120.0), cluster.tail()
        took.append(cluster.clock.now - began)
    return took


def test_a_secondary_that_flaps_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, first, second = pair(16)
    took = losses(cluster, first, second, 5)
    assert max(took[:2]) < TIMEOUT_S
    assert took[2] > 0.6 * TIMEOUT_S and took[3] > 1.6 * TIMEOUT_S and took[4] > 3.5 * TIMEOUT_S
    cluster.run(pairing.FLAPPING_S + 1.0)
    assert max(losses(cluster, first, second, 2)) < TIMEOUT_S, "forgotten after ten minutes"
    at_rest(cluster)
    monkeypatch.setattr(pairing, "FLAPPING_LOSSES", 100)
    cluster, first, second = pair(16)
    assert max(losses(cluster, first, second, 5)) < TIMEOUT_S


def test_a_secondary_that_is_stopped_on_purpose_does_not_flap() -> None:
    cluster, first, second = pair(17)
    for _ in range(5):
        cluster.act("n2", "stop")
        becomes(cluster, second, STOP)
        cluster.act("n2", "start")
        began = cluster.clock.now
        assert cluster.until(cluster.pair_ready, 60.0), cluster.tail()
        assert cluster.clock.now - began < TIMEOUT_S
    assert first.state is not None and not first.state.losses


# -- pause detection taken out (K18) ------------------------------


def wakes_up() -> None:
    """The primary sleeps, the secondary takes over; heartbeats need a while to arrive."""
    cluster, first, second = pair(18, write_every_s=0.05)
    first.freeze()
    becomes(cluster, second, ALONE)
    for lane in cluster.network.lanes.values():
        lane.delay_s = (0.4, 0.4)
    cluster.run(2.0)
    first.awake()
    cluster.run(5.0)
    at_rest(cluster)


def test_k18_a_node_that_was_asleep_declares_nobody_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    wakes_up()
    monkeypatch.setattr(machine, "_paused", lambda t: None)
    with pytest.raises(Broken, match="two gates"):
        wakes_up()


# -- disks ------------------------------


def test_f42_a_secondary_whose_disk_is_full_says_so_and_the_primary_goes_on() -> None:
    cluster, first, second = pair(19)
    second.disk_full = True
    becomes(cluster, first, ALONE, 20.0)
    assert second.disk.record.disk is Disk.OUTDATED
    before = cluster.checks.acknowledged_count
    cluster.run(10.0)
    assert cluster.checks.acknowledged_count > before
    second.disk_full = False
    at_rest(cluster)


def test_f43_f44_a_primary_that_cannot_trust_its_disk_hands_over() -> None:
    """EIO of a write or an fsync (I16): the other copy is good, this one is durably OUTDATED."""
    cluster, first, second = pair(20)
    assert first.worker is not None
    first.worker.report(e.DiskFault(first.worker.epoch, Disk.OUTDATED, "fsync: EIO"))
    becomes(cluster, second, ALONE, 10.0)
    assert first.disk.record.disk is not Disk.UPTODATE
    at_rest(cluster)


def test_f43_alone_it_is_never_called_outdated() -> None:
    """It is the newest copy there is."""
    cluster, first, second = pair(21)
    second.power_off()
    becomes(cluster, first, ALONE)
    assert first.worker is not None
    first.worker.report(e.DiskFault(first.worker.epoch, Disk.OUTDATED, "EIO"))
    cluster.run(5.0)
    assert first.disk.record.disk is Disk.UPTODATE


def led_alone_and_gave_way(seed: int) -> tuple[Cluster, Node, Node]:
    """n1 went on alone and slept; an operator made n2 lead without its data; n1 gives way."""
    cluster, n1, n2 = pair(seed)
    cluster.act("n2", "stop")
    becomes(cluster, n2, STOP)
    cluster.run(1.0)
    n1.freeze()
    cluster.run(2 * TIMEOUT_S)
    cluster.act("n2", "start")
    cluster.run(2 * TIMEOUT_S)
    cluster.act("n2", "prim")
    becomes(cluster, n2, ALONE)
    cluster.run(2.0)
    n1.awake()
    becomes(cluster, n1, SECOND)
    return cluster, n1, n2


@pytest.mark.parametrize("seed", range(4))
def test_what_was_given_up_is_kept_aside_though_the_node_dies_while_it_gives_way(seed: int) -> None:
    """I19: that a node went on alone is told by its record, not by its memory."""
    cluster, n1, n2 = led_alone_and_gave_way(seed)
    step_until(cluster, lambda: n1.disk.record.disk is Disk.OUTDATED, 5.0)
    only_here = n1.disk.tree - n2.disk.tree
    n1.kill_daemon(0.5)
    at_rest(cluster)
    assert only_here and only_here <= n1.disk.kept


def test_a_node_that_slept_while_it_started_listens_before_it_leads() -> None:
    """What the other node said before is no word of today: it leads meanwhile."""
    cluster, n1, n2 = pair(1)
    cluster.act("n2", "stop")
    becomes(cluster, n2, STOP)
    cluster.run(1.0)
    n1.script_s = (0.5, 0.6)
    n1.kill_daemon(0.1)
    becomes(cluster, n1, WAIT)
    n1.freeze()
    cluster.run(2 * TIMEOUT_S)
    cluster.act("n2", "start")
    cluster.run(2 * TIMEOUT_S)
    cluster.act("n2", "prim")
    becomes(cluster, n2, ALONE)
    n1.awake()
    cluster.until(lambda: n1.shown not in (STOP, WAIT), 30.0)
    assert n1.shown == SECOND, cluster.tail()
    at_rest(cluster)
