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
