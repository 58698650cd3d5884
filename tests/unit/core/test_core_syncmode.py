"""How much a resynchronisation looks at (protocol 6), row by row; and what operators may say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_core_election import BAD, NEW, UP, record, situation, view
from test_core_machine import PARAMS, Node, alone

from safepy.core import commands as c
from safepy.core import events as e
from safepy.core.election import Verdict, decide
from safepy.core.reunion import reunion
from safepy.core.syncmode import Choice, applicable, choose, in_words, objection, policy_in_words
from safepy.model import Active, Beat, Disk, Record, State, SyncMode, SyncPolicy

ZONES, WALK, EVERYTHING = SyncMode.ZONES, SyncMode.WALK, SyncMode.EVERYTHING
SOURCE = record("a", UP, "h", "g", history=((1, "g"),), checkpoint=4, checkpoint_started=5)
TARGET = record("b", BAD, "g", checkpoint=5, checkpoint_started=5)


def chosen(source: Record, target: Record, **fields: object) -> Choice:
    return choose(source, replace(view(target), **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "target", "mode", "row"),
    [
        (SOURCE, TARGET, ZONES, "D7"),
        (SOURCE, replace(TARGET, gen="h"), ZONES, "D6"),
        (SOURCE, record("b", NEW, ""), EVERYTHING, "D2"),
        (SOURCE, replace(TARGET, gen="else"), EVERYTHING, "D11"),
        (SOURCE, replace(TARGET, gen="x", base="g"), EVERYTHING, "D9"),
        (SOURCE, replace(TARGET, gen="x", base="w", history=((1, "g"),)), EVERYTHING, "D10"),
        (replace(SOURCE, history=((2, "g"), (1, "f"))), replace(TARGET, gen="f"), EVERYTHING, "D8"),
        (replace(SOURCE, forced=True), TARGET, EVERYTHING, "D7"),
        (SOURCE, replace(TARGET, forced=True), EVERYTHING, "D7"),
        (SOURCE, replace(TARGET, crashed_primary=True), WALK, "D7"),
        (SOURCE, replace(TARGET, active=Active.PRIMARY), WALK, "D7"),
        (SOURCE, replace(TARGET, active=Active.SECONDARY), ZONES, "D7"),
    ],
)
def test_the_least_that_the_records_allow(
    source: Record, target: Record, mode: SyncMode, row: str
) -> None:
    choice = chosen(source, target)
    assert (choice.mode, choice.row, choice.abnormal) == (mode, row, False)
    assert choice.reason


@pytest.mark.parametrize("counters", [(3, 3), (6, 6)])
def test_d6_and_d7_compare_everything_if_the_checkpoints_do_not_agree(
    counters: tuple[int, int],
) -> None:
    done, started = counters
    target = replace(TARGET, checkpoint=done, checkpoint_started=started)
    choice = chosen(SOURCE, target)
    assert (choice.mode, choice.abnormal) == (EVERYTHING, True)


@pytest.mark.parametrize("where", ["source", "target"])
def test_full_is_full_on_whichever_side_it_was_said(where: str) -> None:
    full = SyncPolicy("full", why="second fullsync")
    source = replace(SOURCE, policy=full) if where == "source" else SOURCE
    target = replace(TARGET, policy=full) if where == "target" else TARGET
    choice = chosen(source, target)
    assert choice.mode is EVERYTHING and "second fullsync" in choice.reason


def test_a_date_asks_for_a_walk_with_it() -> None:
    choice = chosen(SOURCE, record("b", NEW, ""), copy_since=1000.0)
    assert (choice.mode, choice.since) == (WALK, 1000.0)


def external(role: str, uid: str = "u") -> SyncPolicy:
    return SyncPolicy("external", role, uid)


def test_an_external_synchronisation_looks_at_zones_whatever_was_here() -> None:
    target = record("b", NEW, "", policy=external("second"))
    assert chosen(replace(SOURCE, policy=external("prim")), target).mode is ZONES


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        (external("second"), SyncPolicy(), "knows of no external synchronisation u"),
        (external("second"), external("second"), "knows of no external synchronisation u"),
        (external("second"), external("prim", "v"), "is v, not u"),
        (external("prim"), external("prim"), "is the prim of"),
        (external("second"), external("prim"), ""),
        (SyncPolicy(), external("prim"), ""),
        (SyncPolicy("full"), SyncPolicy(), ""),
    ],
)
def test_an_external_synchronisation_needs_its_other_half(
    mine: SyncPolicy, theirs: SyncPolicy, words: str
) -> None:
    peer = view(replace(SOURCE, policy=theirs), State.ALONE)
    said = objection(replace(TARGET, policy=mine), peer)
    assert words in said and bool(words) is bool(said)
    wanted = not said or mine.role == "prim"
    assert applicable(replace(TARGET, policy=mine), peer) is wanted


def test_an_external_synchronisation_waits_for_the_other_node() -> None:
    assert not applicable(replace(TARGET, policy=external("second")), None)


def test_words() -> None:
    assert in_words("zones", "all is marked").endswith(": all is marked")
    assert in_words("later", "") == "later" and in_words("", "") == ""
    assert policy_in_words(SyncPolicy()) == ""
    assert "not looked for" in policy_in_words(replace(external("second"), detect=False))


# In the core.


def wait_beside(node: Node, **fields: object) -> list[c.Command]:
    """The other node is ready to follow; what the worker is told about it."""
    begin = len(node.told)
    record_ = replace(
        node.state.record, disk=Disk.OUTDATED, policy=SyncPolicy(), active=Active.NONE
    )
    node.hear(State.WAIT, record_, ready_to_follow=True, **fields)
    return [command for command in node.told[begin:] if isinstance(command, c.AllowFollower)]


def test_the_worker_is_told_once_how_much_and_why() -> None:
    node = alone()
    (order,) = wait_beside(node)
    assert isinstance(order, c.AllowFollower)
    assert order.mode is ZONES and "(D6)" in order.reason
    assert wait_beside(node) == []
    (order,) = wait_beside(node, copy_since=5.0)
    assert isinstance(order, c.AllowFollower) and order.since == 5.0


def test_a_wish_for_everything_outlives_a_synchronisation_that_looked_at_less() -> None:
    node = alone()
    wait_beside(node)
    epoch = node.state.record.epoch
    node.happen(e.SyncChosen(epoch, "zones", "all is marked"))
    node.happen(e.PolicySet(SyncPolicy("full", why="rfssync full")))
    node.happen(e.CaughtUp(epoch))
    assert node.state.record.policy.mode == "full"


def test_the_policy_is_the_default_again_after_it_was_followed() -> None:
    node = alone()
    node.happen(e.PolicySet(SyncPolicy("full", why="rfssync full")))
    (order,) = wait_beside(node)
    assert isinstance(order, c.AllowFollower) and order.mode is EVERYTHING
    epoch = node.state.record.epoch
    node.happen(e.SyncChosen(epoch, "everything", "asked for"))
    node.happen(e.CaughtUp(epoch))
    assert node.state.record.policy == SyncPolicy()
    assert node.state.told_resources["usersetting.rfssyncmode"] == "default"


def test_rfs_rfssync_is_up_only_while_the_policy_can_be_applied() -> None:
    node = Node(record=replace(TARGET, node="n1", peer="n2", cluster_id="cid", module="AM"))
    leader = replace(SOURCE, node="n2", peer="n1", cluster_id="cid", module="AM")

    def shown() -> str:
        return node.state.told_resources["rfs.rfssync"]

    node.hear(State.ALONE, leader)
    assert shown() == "up"
    node.happen(e.PolicySet(external("second")))
    node.hear(State.ALONE, leader)
    assert shown() == "down"
    node.hear(State.ALONE, replace(leader, policy=external("prim")))
    assert shown() == "up"
    node.hear(State.ALONE, replace(leader, policy=external("prim", "v")))
    assert shown() == "down"
    node.happen(e.PolicySet(SyncPolicy()))
    assert shown() == "up"


def test_rfs_synced_says_whether_syncdelta_would_let_it_lead() -> None:
    """Up in sync, up after the loss of the other node as long as that is younger, then down; and
    without `syncdelta` there is no such resource."""
    for synced_at, told in ((1000.0, "up"), (500.0, "down")):
        node = fallen(synced_at, 600.0, wall=1200.0)
        assert node.state.told_resources["rfs.synced"] == told
    assert "rfs.synced" not in fallen(1000.0, 0.0, wall=1200.0).state.told_resources


def test_a_follower_begins_when_the_source_can_know_what_was_said_here() -> None:
    node = Node()
    leader = replace(SOURCE, node="n2", peer="n1", cluster_id="cid", module="AM", peer_behind=True)
    node.keep_back = (c.SaveRecord,)
    node.happen(e.ActionRequested("second", "root", fullsync=True))
    node.hear(State.ALONE, leader)
    assert not node.commands(c.Follow)
    early = node.last_beat
    node.keep_back = ()
    node.now += 0.1
    for save in [x for x in node.kept if isinstance(x, c.SaveRecord)]:
        node.happen(e.StepDone(save.step_id, True))
    assert node.state.record.policy.mode == "full"
    node.now += 0.1
    answered = view(leader, State.ALONE)
    for _ in range(2):
        node.peer_counter += 1
        beat = Beat("theirs", node.peer_counter, "mine", early, answered)
        node.happen(e.BeatReceived("default", beat))
    assert not node.commands(c.Follow), "that beat answers one from before"
    node.wait(1.0)
    node.hear(State.ALONE, leader)
    assert node.commands(c.Follow)


def test_a_forced_start_that_came_to_nothing_leaves_no_wish() -> None:
    node = Node(record=replace(TARGET, node="n1", peer="n2", cluster_id="cid", module="AM"))
    node.happen(e.ActionRequested("prim", "root", fullsync=True))
    node.wait(6.0)
    assert "Requested prim start aborted" in node.texts()
    assert node.state.record.policy == SyncPolicy()


@pytest.mark.parametrize("disk", [Disk.INCONSISTENT, Disk.OUTDATED, Disk.UPTODATE])
def test_primforce_leads_with_whatever_is_there(disk: Disk) -> None:
    here = replace(TARGET, node="n1", peer="n2", cluster_id="cid", module="AM", disk=disk)
    node = Node(record=here)
    node.happen(e.ActionRequested("primforce", "root"))
    node.wait(6.0)
    assert node.state.state is State.ALONE
    assert node.state.record.forced is (disk is not Disk.UPTODATE)
    assert node.state.record.policy.mode == "full" and not node.state.record.crashed_primary


def fallen(synced_at: float, delta_s: float, disk: Disk = Disk.OUTDATED, wall: float = 0.0) -> Node:
    """Started alone after a crash, in sync until `synced_at`; the wall shows `wall` at 0."""
    here = record("n1", disk, "g", peer="n2", cluster_id="cid", module="AM", synced_at=synced_at)
    node = Node(replace(PARAMS, syncdelta_s=delta_s, wall_offset_s=wall), here)
    node.happen(e.ActionRequested("start", "root"))
    node.wait(15.0)
    return node


@pytest.mark.parametrize(
    ("synced_at", "delta_s", "disk", "leads"),
    [
        (1000.0, 600.0, Disk.OUTDATED, True),
        (1000.0, 600.0, Disk.UPTODATE, True),
        (1000.0, 600.0, Disk.INCONSISTENT, False),
        (1000.0, 100.0, Disk.OUTDATED, False),
        (1000.0, 60.0, Disk.OUTDATED, False),
        (0.0, 1e9, Disk.OUTDATED, False),
        (9000.0, 600.0, Disk.OUTDATED, False),
    ],
)
def test_syncdelta(synced_at: float, delta_s: float, disk: Disk, leads: bool) -> None:
    node = fallen(synced_at, delta_s, disk, wall=1200.0)
    assert (node.state.state is State.ALONE) is leads, node.texts()
    if leads:
        assert node.state.record.forced


def test_the_moment_in_sync_is_kept_fresh_for_syncdelta_only() -> None:
    for delta_s, fresh in ((0.0, False), (600.0, True)):
        node = Node(replace(PARAMS, syncdelta_s=delta_s))
        node.happen(e.ActionRequested("prim", "root"))
        node.wait(5.0)
        wait_beside(node)
        node.happen(e.CaughtUp(node.state.record.epoch))
        node.happen(e.Joined(node.state.record.epoch))
        joined_at = node.state.record.synced_at
        for _ in range(60):
            second = replace(node.state.record, active=Active.SECONDARY)
            node.hear(State.SECOND, second)
            node.wait(1.0)
        assert node.state.state is State.PRIM
        assert (node.state.record.synced_at > joined_at + 20) is fresh


def test_a_node_that_cannot_be_replicated_from_fills_nobody() -> None:
    node = alone()
    node.happen(e.DiskFault(node.state.record.epoch, Disk.OUTDATED, "EIO"))
    assert node.state.told_resources["rfs.degraded"] == "up"
    assert c.SetResource("rfs.degraded", "up", "nfsadmin") in node.commands(c.SetResource)
    assert wait_beside(node) == []
    peer = node.commands(c.SendBeat)[-1]
    assert isinstance(peer, c.SendBeat) and peer.beat.view.degraded


def test_f43_a_fault_while_the_secondary_joins_is_a_hand_over_once_it_has() -> None:
    node = alone()
    wait_beside(node)
    epoch = node.state.record.epoch
    node.happen(e.CaughtUp(epoch))
    node.happen(e.DiskFault(epoch, Disk.OUTDATED, "EIO"))
    assert node.state.serving
    node.happen(e.Joined(node.state.record.epoch))
    assert not node.state.serving and node.state.record.disk is Disk.OUTDATED


def test_nobody_follows_a_node_that_runs_without_replication() -> None:
    node = Node()
    leader = replace(SOURCE, node="n2", peer="n1", cluster_id="cid", module="AM", peer_behind=True)
    node.happen(e.ActionRequested("start", "root"))
    node.hear(State.ALONE, leader, degraded=True)
    node.wait(1.0)
    node.hear(State.ALONE, leader, degraded=True)
    assert "Action wait from failover rule degraded_server" in node.texts()
    assert not node.commands(c.Follow)


def test_a_failed_synchronisation_shows_in_a_resource() -> None:
    node = alone()
    wait_beside(node)
    node.happen(e.ResyncFailed(node.state.record.epoch, "no room"))
    assert node.state.told_resources["rfs.reintegre_failed"] == "true"


# A node that was put back to an older state (F50).

AHEAD = replace(record("a", UP, "g"), checkpoint=9, checkpoint_started=9)
OLD = replace(record("b", UP, "g"), checkpoint=4, checkpoint_started=4, last_role="P")


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (AHEAD, OLD),
        (OLD, AHEAD),
        (replace(AHEAD, disk=Disk.OUTDATED), OLD),
        (OLD, replace(AHEAD, disk=BAD)),
        (replace(AHEAD, gen="g"), replace(OLD, gen="h", base="g", history=((1, "g"),))),
    ],
)
def test_f50_a_node_that_was_put_back_is_no_source(mine: Record, theirs: Record) -> None:
    found = reunion(mine, False, view(theirs))
    assert (found.row, found.source) == ("D10", None) and "put back" in found.sentence


def test_f50_a_node_that_was_put_back_may_be_the_target() -> None:
    newer = replace(AHEAD, gen="h", base="g", history=((1, "g"),))
    assert reunion(newer, False, view(OLD)).source is True
    assert chosen(newer, OLD).abnormal


def test_f50_an_operator_may_say_that_the_old_data_are_right() -> None:
    decision = decide(situation(OLD, view(AHEAD), wish="prim"))
    assert (decision.verdict, decision.forced) == (Verdict.LEAD, True)
    leader = view(replace(OLD, gen="x", base="g", forced=True), State.ALONE)
    followed = decide(situation(AHEAD, leader))
    assert (followed.verdict, followed.keep_aside) == (Verdict.FOLLOW, True)
    waits = decide(situation(AHEAD, view(OLD, State.ALONE)))
    assert (waits.verdict, waits.blocked, waits.remedy) == (Verdict.WAIT, True, "second")
    asked = decide(situation(AHEAD, view(OLD, State.ALONE), wish="second"))
    assert (asked.verdict, asked.keep_aside) == (Verdict.FOLLOW, True)


def test_a_callback_that_took_too_long_leaves_the_data_as_they_were() -> None:
    """Its primary is gone meanwhile: nobody would bring this node up to date again (I10)."""
    here = replace(TARGET, node="n1", peer="n2", cluster_id="cid", module="AM", disk=Disk.OUTDATED)
    node = Node(replace(PARAMS, callbacks=True), here)
    leader = replace(SOURCE, node="n2", peer="n1", cluster_id="cid", module="AM", peer_behind=True)
    node.happen(e.ActionRequested("start", "root"))
    node.wait(1.0)
    node.keep_back = (c.RunScript,)
    for _ in range(3):
        node.hear(State.ALONE, leader)
        node.wait(1.0)
    (callback,) = node.kept
    assert isinstance(callback, c.RunScript) and callback.arguments == ("_rfs_startsynch",)
    node.wait(30.0)
    node.happen(e.StepDone(callback.step_id, True))
    assert not node.commands(c.Follow) and node.state.record.disk is Disk.OUTDATED
