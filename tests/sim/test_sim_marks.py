"""Marks, checkpoints and modes of resynchronisation: each rule taken out once (protocol 14, K1 to
K5, K8, K13), and a checkpoint cut at every moment (F11).

A schedule is played three times: as it is; without the rule, when the check that bears its number
must notice; and, where that check looks at the rule itself, without both, when the data differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from checks import Broken
from cluster import NAMES, TIMEOUT_S, Cluster
from disk import Key, extents, key_of
from markchecks import MarkChecks
from marking import Marking
from twin import Worker, Write

from safepy.core import records, syncmode
from safepy.model import Active, State

Patch = pytest.MonkeyPatch
DIFFERS = "did not look at"
#: A byte of an extent of an older file.
NUMBER = 1001


def quiet_pair(seed: int) -> Cluster:
    """A pair that has written for a while, and now writes only what a test says."""
    cluster = Cluster(seed, write_every_s=0.1)
    cluster.stable_share = 0.0
    cluster.form_pair()
    cluster.run(3.0)
    cluster.write_every_s = 0.0
    cluster.run(2 * cluster.checkpoint_s + 1.0)
    assert cluster.quiet, cluster.tail()
    return cluster


def put(cluster: Cluster, name: str, number: int = NUMBER) -> list[bool]:
    """Write; the answer appears in the list."""
    answers: list[bool] = []
    worker = cluster.nodes[name].worker
    assert worker is not None
    worker.write(Write(number, False, answers.append))
    return answers


def has_not(cluster: Cluster, name: str, number: int = NUMBER) -> None:
    """The power loss that just happened took this write with it."""
    disk = cluster.nodes[name].disk
    disk.tree.discard(number)
    disk.stable.discard(number)


def finds_together(cluster: Cluster) -> None:
    assert cluster.until(cluster.pair_ready, 90), cluster.tail()
    cluster.run(1.0)
    cluster.checks.at_rest()


def both_lose_power(cluster: Cluster) -> None:
    """What the primary wrote last survives, the secondary loses it."""
    first, second = cluster.nodes.values()
    first.disk.fsync(NUMBER)
    first.power_off()
    second.power_off()
    has_not(cluster, "n2")
    cluster.run(1.0)
    first.power_on()
    second.power_on()


def soon(cluster: Cluster, condition: Callable[[], bool], at_most_s: float = 10.0) -> None:
    """To the millisecond."""
    end = cluster.clock.now + at_most_s
    while not condition():
        assert cluster.clock.now < end, cluster.tail()
        cluster.run(0.001)


def without(monkeypatch: Patch, check: str) -> None:
    monkeypatch.setattr(MarkChecks, check, lambda *arguments: None)


def crash_before_sending() -> None:
    """K1, F8: the primary applies a write and loses power before anything of it was sent."""
    cluster = quiet_pair(21)
    first = cluster.nodes["n1"]
    cluster.network.stream_delay_s = (0.5, 0.5)
    answers = put(cluster, "n1")
    cluster.run(0.1)
    assert not answers and NUMBER in first.disk.tree
    first.disk.fsync(NUMBER)
    first.power_off()
    cluster.network.heal()
    assert cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30), cluster.tail()
    first.power_on()
    finds_together(cluster)
    assert NUMBER not in first.disk.tree


def test_k1_a_mark_is_durable_before_the_write_is_applied(monkeypatch: Patch) -> None:
    crash_before_sending()
    monkeypatch.setattr(Marking, "missing", lambda self: set())
    with pytest.raises(Broken, match="I5"):
        crash_before_sending()
    without(monkeypatch, "i5_marked_before_it_begins")
    with pytest.raises(Broken, match=DIFFERS):
        crash_before_sending()


def crash_during_the_commit() -> None:
    """K2: the secondary has the write in its page cache, the primary's mark is on its way to the
    disk. Both lose power; only the primary's page had been written."""
    cluster = quiet_pair(22)
    cluster.commit_s = (0.5, 0.5)
    put(cluster, "n1")
    cluster.run(0.2)
    both_lose_power(cluster)
    finds_together(cluster)


def test_k2_a_mark_is_durable_before_the_write_is_sent(monkeypatch: Patch) -> None:
    crash_during_the_commit()
    commit = Marking._commit

    def begin_meanwhile(self: Marking, missing: set[Key]) -> None:
        self.ready |= missing
        commit(self, missing)
        self.committing = False

    monkeypatch.setattr(Marking, "_commit", begin_meanwhile)
    with pytest.raises(Broken, match="I5"):
        crash_during_the_commit()
    without(monkeypatch, "i5_marked_before_it_begins")
    with pytest.raises(Broken, match=DIFFERS):
        crash_during_the_commit()


def crash_of_a_node_that_has_what_was_sent_early() -> None:
    """K2 in its narrow form: the primary applies nothing before its mark is durable, the secondary
    has the write already. Both lose power, and the kernel of the secondary had written the page."""
    cluster = quiet_pair(22)
    first, second = cluster.nodes.values()
    cluster.commit_s = (0.5, 0.5)
    put(cluster, "n1")
    cluster.run(0.2)
    assert NUMBER not in first.disk.tree
    second.disk.fsync(NUMBER)
    first.power_off()
    second.power_off()
    cluster.run(1.0)
    first.power_on()
    second.power_on()
    finds_together(cluster)


def test_k2_also_if_it_is_only_sent_before_the_mark_is_durable(monkeypatch: Patch) -> None:
    crash_of_a_node_that_has_what_was_sent_early()
    commit = Marking._commit

    def send_meanwhile(self: Marking, missing: set[Key]) -> None:
        for write in self.waiting:
            self.worker._send(write)
        commit(self, missing)

    monkeypatch.setattr(Marking, "_commit", send_meanwhile)
    with pytest.raises(Broken, match=DIFFERS):
        crash_of_a_node_that_has_what_was_sent_early()


def secondary_loses_its_page_cache() -> None:
    """K3, F2: acknowledged by the secondary, not yet on its disk when its power fails."""
    cluster = quiet_pair(23)
    second = cluster.nodes["n2"]
    answers = put(cluster, "n1")
    cluster.run(0.2)
    assert answers == [True] and NUMBER in second.disk.tree
    second.power_off()
    has_not(cluster, "n2")
    assert cluster.until(lambda: cluster.is_shown("n1", State.ALONE), 30), cluster.tail()
    second.power_on()
    finds_together(cluster)
    assert NUMBER in second.disk.tree


def test_k3_an_answer_of_the_secondary_is_no_reason_to_drop_a_mark(monkeypatch: Patch) -> None:
    secondary_loses_its_page_cache()

    def drop(self: Marking, number: int) -> None:
        keys = self.disk.previous | self.disk.current
        self.drop(keys)
        self.disk.previous, self.disk.current = set(), set()
        self.previous, self.current = set(), set()

    monkeypatch.setattr(Marking, "acknowledged", drop)
    with pytest.raises(Broken, match="I6"):
        secondary_loses_its_page_cache()
    without(monkeypatch, "i6_dropped_is_durable_on_both")
    with pytest.raises(Broken, match=DIFFERS):
        secondary_loses_its_page_cache()


def write_in_flight_at_a_checkpoint() -> None:
    """K4: the mark of a write is durable in the old window; the log is rotated before it begins,
    and the checkpoint completes. Both lose power, and only one of them had written it."""
    cluster = quiet_pair(24)
    put(cluster, "n1", NUMBER + 1)
    worker = cluster.nodes["n1"].worker
    assert worker is not None
    soon(cluster, lambda: worker.marking.asked)
    cluster.commit_s, cluster.flush_s = (0.3, 0.3), (0.6, 0.6)
    answers = put(cluster, "n1")
    rotated = worker.marking.windows
    soon(cluster, lambda: worker.marking.windows > rotated)
    assert not answers
    soon(cluster, lambda: bool(answers) and not worker.marking.under_way)
    both_lose_power(cluster)
    finds_together(cluster)


def test_k4_a_rotation_carries_what_is_in_flight(monkeypatch: Patch) -> None:
    write_in_flight_at_a_checkpoint()
    monkeypatch.setattr(Marking, "in_flight", lambda self: set())
    with pytest.raises(Broken, match="I7"):
        write_in_flight_at_a_checkpoint()
    without(monkeypatch, "i7_in_flight_is_carried")
    without(monkeypatch, "i6_dropped_is_durable_on_both")
    with pytest.raises(Broken, match=DIFFERS):
        write_in_flight_at_a_checkpoint()


def test_k5_no_decision_discards_a_mark(monkeypatch: Patch) -> None:
    secondary_loses_its_page_cache()

    def nothing(self: Marking, follower: Worker, mode: str) -> Callable[[Key], bool]:
        return lambda key: False

    monkeypatch.setattr(Marking, "looked_at", nothing)
    with pytest.raises(Broken, match=DIFFERS):
        secondary_loses_its_page_cache()


def unanswered_write_of_a_frozen_primary() -> None:
    """K6: a primary is cut off with a write that only it has; the other one leads; both marks."""
    cluster = quiet_pair(26)
    first = cluster.nodes["n1"]
    cluster.network.stream_delay_s = (0.5, 0.5)
    answers = put(cluster, "n1")
    cluster.run(0.1)
    assert not answers and NUMBER in first.disk.tree
    first.freeze()
    cluster.cut_stream()
    cluster.run(2 * TIMEOUT_S)
    cluster.network.heal()
    assert cluster.is_shown("n2", State.ALONE), cluster.tail()
    first.awake()
    finds_together(cluster)
    assert NUMBER not in first.disk.tree


def test_k6_the_marks_of_both_nodes_count(monkeypatch: Patch) -> None:
    unanswered_write_of_a_frozen_primary()
    monkeypatch.setattr(Marking, "theirs", lambda self, follower: set())
    with pytest.raises(Broken, match=DIFFERS):
        unanswered_write_of_a_frozen_primary()


def power_fails_after_a_resynchronisation(who: str) -> None:
    """K8: brought up to date and joined; then the power of the target, or of the source, fails."""
    cluster = quiet_pair(28)
    second, loser = cluster.nodes["n2"], cluster.nodes[who]
    second.power_off()
    assert cluster.until(lambda: cluster.is_shown("n1", State.ALONE), 30), cluster.tail()
    put(cluster, "n1")
    cluster.run(0.2)
    second.power_on()
    assert cluster.until(cluster.pair_ready, 60), cluster.tail()
    loser.power_off()
    if NUMBER not in loser.disk.stable:
        has_not(cluster, who)
    cluster.run(2 * TIMEOUT_S)
    loser.power_on()
    finds_together(cluster)
    assert NUMBER in loser.disk.tree


@pytest.mark.parametrize("who", NAMES)
def test_k8_both_nodes_flush_before_the_marks_go(monkeypatch: Patch, who: str) -> None:
    power_fails_after_a_resynchronisation(who)
    monkeypatch.setattr(Marking, "flush_both", lambda self, follower: None)
    with pytest.raises(Broken, match="I12"):
        power_fails_after_a_resynchronisation(who)
    without(monkeypatch, "i12_flushed_before_marks_go")
    monkeypatch.setattr("disk.Disk.power_loss", _keeps_only_what_is_stable)
    with pytest.raises(Broken, match=DIFFERS):
        power_fails_after_a_resynchronisation(who)


def _keeps_only_what_is_stable(self: object, rng: object) -> None:
    self.tree = set(self.stable)  # type: ignore[attr-defined]


def snapshot_of_the_secondary() -> None:
    """K13, F50: the secondary is put back to yesterday, inside the same generation."""
    cluster = quiet_pair(33)
    second = cluster.nodes["n2"]
    yesterday = second.disk.snapshot()
    put(cluster, "n1")
    cluster.run(2 * cluster.checkpoint_s + 1.0)
    assert cluster.nodes["n1"].disk.record.checkpoint > yesterday.record.checkpoint
    second.power_off()
    second.disk = yesterday
    cluster.run(2 * TIMEOUT_S)
    second.power_on()
    finds_together(cluster)
    assert NUMBER in second.disk.tree


def test_k13_equal_generations_with_other_checkpoints_are_compared(monkeypatch: Patch) -> None:
    """F50"""
    snapshot_of_the_secondary()
    monkeypatch.setattr(syncmode, "checkpoints_agree", lambda a, b: True)
    with pytest.raises(Broken, match=DIFFERS):
        snapshot_of_the_secondary()


#: Saving, sending, flushing, saving there, answering, saving here, done.
STEPS_S = tuple(0.02 + 0.03 * step for step in range(13))


@pytest.mark.parametrize("who", ["n1", "n2", "both"])
def test_f11_a_checkpoint_may_be_cut_at_any_moment(who: str) -> None:
    """A record, a flush, a message take 50 ms each: the cuts fall into all of them."""
    stages: set[tuple[int, int, int]] = set()
    for step_s in STEPS_S:
        cluster = Cluster(int(step_s * 1000), write_every_s=0.05)
        cluster.form_pair()
        first, second = cluster.nodes.values()
        for node in (first, second):
            node.save_s = (0.05, 0.05)
        cluster.flush_s = cluster.network.stream_delay_s = (0.05, 0.05)
        started = first.disk.record.checkpoint_started

        worker = first.worker
        assert worker is not None
        marking = worker.marking
        soon(cluster, lambda marking=marking: marking.asked)  # type: ignore[misc]
        cluster.run(step_s)
        for node in (first, second) if who == "both" else (cluster.nodes[who],):
            node.power_off()
        record, other = first.disk.record, second.disk.record
        stages.add(
            (
                record.checkpoint_started - started,
                other.checkpoint - started,
                record.checkpoint - started,
            )
        )
        cluster.run(1.0)
        first.power_on()
        second.power_on()
        assert cluster.until(cluster.pair_ready, 60), cluster.tail()
        cluster.write_every_s = 0.0
        cluster.run(1.0)
        cluster.checks.at_rest()
    assert {(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)} <= stages, stages


def test_a_window_holds_extents_only() -> None:
    assert extents({("name", 3), ("extent", 4)}) == {("extent", 4)}


@pytest.mark.parametrize("both", [False, True], ids=["one", "both"])
def test_f50_a_random_node_is_put_back_at_a_random_time(both: bool) -> None:
    """Whatever it was and knew: it leads only if an operator says so, and ends equal."""
    waited = 0
    for seed in range(500, 508):
        cluster = Cluster(seed, write_every_s=0.1)
        rng = cluster.rng
        cluster.form_pair()
        cluster.run(rng.uniform(1.0, 6.0))
        node = cluster.nodes[rng.choice(NAMES)]
        other = cluster.other(node)
        backup = node.disk.snapshot()
        if rng.random() < 0.5:
            cluster.act(rng.choice(NAMES), "swap")
        cluster.run(3 * cluster.checkpoint_s + rng.uniform(1.0, 6.0))
        for each in (node, other) if both else (node,):
            each.power_off()
        node.disk = backup
        cluster.checks.put_back(node)
        cluster.run(rng.uniform(0.1, 2 * TIMEOUT_S))
        for each in (node, other):
            each.power_on()
        if not cluster.until(cluster.pair_ready, 5 * TIMEOUT_S):
            assert node.state is not None and other.state is not None
            assert not node.state.serving, cluster.tail()
            waited += 1
            cluster.act(other.name, "prim")
        else:
            assert node.shown is State.SECOND, cluster.tail()
        finds_together_writing(cluster)
    assert both or not waited, "the other one had gone on, and knew what to do"


def finds_together_writing(cluster: Cluster) -> None:
    cluster.write_every_s = 0.0
    assert cluster.until(lambda: cluster.pair_ready() and cluster.quiet, 90), cluster.tail()
    cluster.run(1.0)
    cluster.checks.at_rest()


def name_of_a_primary_that_gave_way() -> None:
    """A name is made on the primary and reaches nobody (an extent would be in its log); another
    node leads when the primary is stopped, so its end is no clean one, and then it follows."""
    cluster = quiet_pair(21)
    first = cluster.nodes["n1"]
    cluster.network.stream_notice_s = (0.5, 0.5)
    cluster.network.cut_lanes(*NAMES)
    cluster.cut_stream()
    put(cluster, "n1", number=NUMBER + 1)
    cluster.run(0.6)
    assert key_of(NUMBER + 1)[0] == "name" and NUMBER + 1 in first.disk.tree
    first.freeze()
    cluster.network.heal()
    assert cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30), cluster.tail()
    first.awake()
    cluster.act("n1", "stop")
    assert cluster.until(lambda: first.shown is State.STOP, 30), cluster.tail()
    assert first.disk.record.active is Active.NONE
    cluster.act("n1", "start")
    finds_together(cluster)


def test_a_primary_that_gave_way_and_stops_has_ended_without_a_clean_stop(
    monkeypatch: Patch,
) -> None:
    name_of_a_primary_that_gave_way()
    gave_way = records.gave_way
    monkeypatch.setattr(
        records, "gave_way", lambda record: replace(gave_way(record), crashed_primary=False)
    )
    with pytest.raises(Broken, match=DIFFERS):
        name_of_a_primary_that_gave_way()
