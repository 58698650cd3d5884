"""Checkpoints in the core (protocol 4.3): what is durable before what, and what makes one void."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_core_machine import BASE, Node, alone, pair

from safepy.core import commands as c
from safepy.core import events as e
from safepy.core import records
from safepy.model import Active, Disk, Record, State


def following() -> Node:
    """A second in sync."""
    node = Node()
    node.happen(e.ActionRequested("start", "root"))
    leader = replace(BASE, disk=Disk.UPTODATE, gen="g", epoch=4, promised=4, peer_behind=True)
    node.hear(State.ALONE, leader)
    node.wait(2.0)
    node.hear(State.ALONE, leader)
    node.wait(2.0)
    node.hear(State.ALONE, leader)
    assert node.commands(c.Follow), node.texts()
    node.happen(e.AdoptRequested(5, "g", "", (), 7))
    node.happen(e.Joined(5))
    node.hear(State.PRIM, replace(leader, epoch=5, promised=5, peer_behind=False))
    assert node.state.synced and node.state.state is State.SECOND
    return node


def counters(node: Node) -> tuple[int, int]:
    return node.state.record.checkpoint, node.state.record.checkpoint_started


def test_a_join_is_a_checkpoint_beyond_all_that_either_node_began() -> None:
    node = alone()
    node.hear(State.WAIT, replace(BASE, checkpoint=3, checkpoint_started=9), ready_to_follow=True)
    node.happen(e.CaughtUp(node.state.record.epoch))
    (join,) = node.commands(c.Join)
    assert isinstance(join, c.Join) and join.checkpoint == 10
    assert counters(node) == (10, 10)


def test_the_target_takes_the_number_of_the_join_for_both() -> None:
    assert counters(following()) == (7, 7)


def test_the_primary_records_the_beginning_before_it_begins() -> None:
    node = pair()
    before = node.state.record.checkpoint_started
    node.keep_back = (c.SaveRecord,)
    node.happen(e.CheckpointWanted(node.state.record.epoch))
    assert not node.commands(c.CheckpointBegun)
    (save,) = node.kept
    assert isinstance(save, c.SaveRecord) and save.record.checkpoint_started == before + 1
    assert save.record.checkpoint == before
    node.happen(e.StepDone(save.step_id, True))
    (begun,) = node.commands(c.CheckpointBegun)
    assert begun == c.CheckpointBegun(node.state.record.epoch, before + 1)


def test_the_primary_drops_nothing_before_the_end_is_recorded() -> None:
    node = pair()
    epoch, number = node.state.record.epoch, node.state.record.checkpoint_started + 1
    node.happen(e.CheckpointWanted(epoch))
    node.keep_back = (c.SaveRecord,)
    node.happen(e.CheckpointReached(epoch, number))
    assert not node.commands(c.CheckpointRecorded)
    (save,) = node.kept
    assert isinstance(save, c.SaveRecord) and save.record.checkpoint == number
    node.happen(e.StepDone(save.step_id, True))
    assert node.commands(c.CheckpointRecorded) == [c.CheckpointRecorded(epoch, number)]
    assert counters(node) == (number, number)


def test_one_checkpoint_at_a_time() -> None:
    node = pair()
    epoch = node.state.record.epoch
    node.happen(e.CheckpointWanted(epoch))
    node.happen(e.CheckpointWanted(epoch))
    assert len(node.commands(c.CheckpointBegun)) == 1
    number = node.state.record.checkpoint_started
    node.happen(e.CheckpointReached(epoch, number + 1))
    assert not node.commands(c.CheckpointRecorded), "the end of another one"
    node.happen(e.CheckpointReached(epoch, number))
    node.happen(e.CheckpointWanted(epoch))
    assert len(node.commands(c.CheckpointBegun)) == 2


@pytest.mark.parametrize("off", [-1, 1])
def test_words_of_another_epoch_are_ignored(off: int) -> None:
    node = pair()
    epoch = node.state.record.epoch
    node.happen(e.CheckpointWanted(epoch + off))
    assert not node.commands(c.CheckpointBegun)
    second = following()
    second.happen(e.CheckpointReached(5 + off, 8))
    assert counters(second) == (7, 7) and not second.commands(c.CheckpointRecorded)


def test_a_checkpoint_is_void_when_the_secondary_is_lost() -> None:
    node = pair()
    epoch = node.state.record.epoch
    node.happen(e.CheckpointWanted(epoch))
    number = node.state.record.checkpoint_started
    node.happen(e.ReplicaLost(epoch, "gone"))
    node.happen(e.CheckpointReached(epoch, number))
    assert not node.commands(c.CheckpointRecorded)
    assert counters(node) == (number - 1, number)


def test_alone_there_is_no_checkpoint() -> None:
    node = alone()
    node.happen(e.CheckpointWanted(node.state.record.epoch))
    assert not node.commands(c.CheckpointBegun) and counters(node) == (0, 0)


def test_the_secondary_records_before_it_answers() -> None:
    node = following()
    node.keep_back = (c.SaveRecord,)
    node.happen(e.CheckpointReached(5, 8))
    assert not node.commands(c.CheckpointRecorded)
    (save,) = node.kept
    assert isinstance(save, c.SaveRecord)
    assert (save.record.checkpoint, save.record.checkpoint_started) == (8, 8)
    node.happen(e.StepDone(save.step_id, True))
    assert node.commands(c.CheckpointRecorded) == [c.CheckpointRecorded(5, 8)]


def test_a_secondary_that_is_not_in_sync_records_none() -> None:
    node = following()
    node.happen(e.DiskFault(5, Disk.OUTDATED, "full"))
    node.happen(e.CheckpointReached(5, 8))
    assert counters(node) == (7, 7) and not node.commands(c.CheckpointRecorded)


@pytest.mark.parametrize(
    ("a", "b", "agree"),
    [
        ((4, 4), (4, 4), True),
        ((4, 5), (4, 4), True),
        ((4, 5), (5, 5), True),
        ((5, 5), (4, 4), False),
        ((4, 4), (5, 5), False),
    ],
)
def test_checkpoints_agree_if_nobody_is_ahead_of_what_was_begun(
    a: tuple[int, int], b: tuple[int, int], agree: bool
) -> None:
    one, other = (
        Record(disk=Disk.UPTODATE, checkpoint=done, checkpoint_started=started)
        for done, started in (a, b)
    )
    assert records.checkpoints_agree(one, other) is agree
    assert records.checkpoints_agree(other, one) is agree
    assert agree is not (records.put_back(one, other) or records.put_back(other, one))


def test_a_forced_generation_was_not_put_back() -> None:
    forced = Record(disk=Disk.UPTODATE, forced=True)
    assert not records.put_back(forced, Record(disk=Disk.UPTODATE, checkpoint=3))
    assert not records.put_back(Record(), Record(disk=Disk.UPTODATE, checkpoint=3))


def test_a_primary_that_crashed_is_remembered_until_it_is_up_to_date() -> None:
    crashed = Record(disk=Disk.UPTODATE, active=Active.PRIMARY, gen="g")
    followed = records.follow(crashed, 5, "boot", True)
    again = records.follow(followed, 6, "boot", True)
    assert followed.crashed_primary and again.crashed_primary
    assert not records.adopt(again, 7, "h", "g", ()).crashed_primary
