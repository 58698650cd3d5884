"""A join that the secondary never confirmed drops no mark: what it costs is what was marked."""

from __future__ import annotations

from dataclasses import replace

from test_core_machine import BASE, Node, alone, pair

from safepy.core import events as e
from safepy.core import records, syncmode
from safepy.model import Active, Disk, PeerView, Record, State, Status, SyncMode


def left_alone(node: Node) -> None:
    """The secondary is lost, and says itself that it is behind."""
    node.happen(e.ReplicaLost(node.state.record.epoch, "reset"))
    claim = node.state.record
    told = replace(claim, disk=Disk.OUTDATED, promised=claim.epoch, node="n2", peer="n1")
    node.hear(State.SECOND, told)


def chosen(node: Node, target: Record) -> syncmode.Choice:
    behind = replace(target, node="n2", peer="n1", disk=Disk.INCONSISTENT, active=Active.SECONDARY)
    return syncmode.choose(node.state.record, PeerView("n2", State.WAIT, Status.TRANSIENT, behind))


def joining() -> tuple[Node, Record, Record]:
    """(a primary whose secondary was told to join once more, the record that both had when they
    were last in sync, that with which it shall join)"""
    node = pair()
    synced = node.state.record
    left_alone(node)
    node.hear(State.WAIT, replace(BASE, gen=synced.gen), ready_to_follow=True)
    node.happen(e.CaughtUp(node.state.record.epoch))
    return node, synced, node.state.record


def test_a_target_that_did_not_adopt_gets_what_was_marked() -> None:
    node, synced, _ = joining()
    left_alone(node)
    assert chosen(node, synced).mode is SyncMode.ZONES
    assert not chosen(node, synced).abnormal


def test_so_does_one_that_adopted_and_could_not_say_so() -> None:
    node, _, offered = joining()
    left_alone(node)
    assert chosen(node, offered).mode is SyncMode.ZONES


def test_over_several_joins_that_failed() -> None:
    node, synced, first = joining()
    for _ in range(3):
        left_alone(node)
        node.hear(State.WAIT, replace(BASE, gen=synced.gen), ready_to_follow=True)
        node.happen(e.CaughtUp(node.state.record.epoch))
    left_alone(node)
    for target in (synced, first):
        assert chosen(node, target).mode is SyncMode.ZONES
    older = replace(synced, gen="0" * 32)
    assert chosen(node, older).mode is SyncMode.EVERYTHING


def test_after_a_join_that_was_confirmed_older_marks_are_gone() -> None:
    """A target from before it is a snapshot: the primary has dropped what it marked until then."""
    node, synced, offered = joining()
    node.happen(e.Joined(offered.epoch))
    left_alone(node)
    assert chosen(node, synced).mode is SyncMode.EVERYTHING
    assert chosen(node, offered).mode is SyncMode.ZONES


def test_a_confirmation_that_comes_after_the_loss_counts() -> None:
    """The daemon has noticed the silence first; the worker has dropped its marks all the same."""
    node, synced, offered = joining()
    node.happen(e.ReplicaLost(node.state.record.epoch, "silence"))
    assert node.state.record.marks_base == synced.gen
    node.happen(e.Joined(offered.epoch))
    assert node.state.record.marks_base == ""
    assert chosen(node, synced).mode is SyncMode.EVERYTHING
    assert chosen(node, offered).mode is SyncMode.ZONES


def test_a_primary_that_crashed_while_it_joined_knows_less() -> None:
    """Its record cannot say whether the marks had gone."""
    _, synced, offered = joining()
    led = records.lead(offered, "s", "boot", same=False, forced=False)
    assert records.marked_since(led) == {led.gen, offered.gen}
    assert synced.gen not in records.marked_since(led)


def test_nothing_was_joined_before() -> None:
    node = alone()
    node.hear(State.WAIT, BASE, ready_to_follow=True)
    node.happen(e.CaughtUp(node.state.record.epoch))
    left_alone(node)
    assert node.state.record.marks_base == ""
