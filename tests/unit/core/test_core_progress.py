"""What the plan's front does with its steps, beside what scenarios and simulator show."""

from __future__ import annotations

from dataclasses import replace

from test_core_machine import PARAMS, Node, pair

from safepy.core import commands as c
from safepy.core import events as e
from safepy.model import State


def test_a_dead_worker_is_replaced_without_showing_the_bare_directory() -> None:
    """F16, I18: stop and automatic start follow each other; the cover stays in between."""
    node = pair()
    before = len(node.told)
    node.happen(e.WorkerDied("killed"))
    node.wait(5.0)
    after = [type(command) for command in node.told[before:]]
    assert c.StopWorker in after
    assert c.StartWorker in after
    assert c.Uncover not in after


def test_a_stopstart_never_shows_the_bare_directory() -> None:
    node = pair()
    before = len(node.told)
    node.happen(e.ActionRequested("stopstart", "root"))
    node.wait(5.0)
    after = [type(command) for command in node.told[before:]]
    assert c.StartWorker in after
    assert c.Uncover not in after


def test_a_stop_uncovers() -> None:
    node = pair()
    node.happen(e.ActionRequested("stop", "root"))
    node.wait(5.0)
    assert node.state.state is State.STOP
    assert node.commands(c.Uncover)


def test_a_worker_that_died_too_often_is_not_replaced_and_the_directory_is_free() -> None:
    node = Node(replace(PARAMS, maxloop=0))
    node.happen(e.ActionRequested("prim", "root"))
    node.wait(5.0)
    assert node.state.state is State.ALONE
    node.happen(e.WorkerDied("killed"))
    node.wait(5.0)
    assert node.state.state is State.STOP
    assert node.commands(c.Uncover)


def test_why_a_reintegration_fails_is_said_once_on_each_node() -> None:
    node = pair()
    node.happen(e.ReplicaLost(node.state.record.epoch, "gone"))
    node.wait(30.0)
    assert node.state.state is State.ALONE
    for _ in range(3):
        node.happen(e.ResyncFailed(node.state.record.epoch, "f: No space left on device (ENOSPC)"))
    assert [text for text in node.texts() if "No space left" in text] == [
        "The reintegration of the other node failed: f: No space left on device (ENOSPC)"
    ]
    follower = Node()
    follower.happen(e.ActionRequested("start", "root"))
    follower.hear(State.ALONE, node.state.record)
    follower.hear(State.ALONE, node.state.record)
    assert follower.state.state is State.SECOND
    for _ in range(3):
        follower.happen(e.ResyncFailed(follower.state.follow_epoch, "f: ENOSPC"))
    assert [text for text in follower.texts() if "ENOSPC" in text] == [
        "Reintegration failed, it is tried again: f: ENOSPC"
    ]


def test_the_log_says_who_called_in_plain_words() -> None:
    node = Node()
    node.happen(e.ActionRequested("start", "at boot time"))
    node.happen(e.ActionRequested("shutdown", "at shutdown"))
    node.happen(e.ActionRequested("start", "root"))
    called = [text for text in node.texts() if text.startswith("Action")]
    assert called[:3] == [
        "Action start called at boot time",
        "Action shutdown called by root",
        "Action start called by root",
    ]
