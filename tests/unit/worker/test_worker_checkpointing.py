"""Checkpoints of a primary, step by step (protocol 4.3): what ends a window, and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safepy.dataplane.keeper import Keeper
from safepy.dataplane.pathmarks import PathMarks
from safepy.host.loop import Loop
from safepy.wire import replication as wire
from safepy.worker import checkpointing, messages
from safepy.worker.checkpointing import Checkpoints
from safepy.worker.common import Context
from safepy.worker.knowledge import Knowledge

EPOCH = 7


class Bench:
    """A primary's checkpoints on a real directory; the test is the daemon and the secondary."""

    def __init__(self, folder: Path, interval_s: float) -> None:
        self.loop = Loop()
        self.fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        setup = messages.Setup(
            step_id=0,
            module="AM",
            node="n1",
            peer="n2",
            key="",
            listen=("", 1),
            dial=("", 1),
            paths=[],
            doors=[],
            acknowledge_on="receipt",
            acl=False,
            transfers=1,
            locktimeout_s=1.0,
            sendtimeout_s=1.0,
            keep_dir="",
            checkpoint_interval_s=interval_s,
        )
        self.reports: list[object] = []
        knowledge = Knowledge(self.loop, setup, [self.fd], lambda *_: None)
        context = Context(self.loop, setup, [self.fd], self.reports.append, knowledge)
        self.paths = PathMarks(1)
        self.sent: list[object] = []
        self.faults: list[str] = []
        self.checkpoints = Checkpoints(
            context, Keeper([], self.paths, None), self.sent.append, self.faults.append
        )

    def until(self, condition: Callable[[], bool]) -> None:
        limit_s = self.loop.now_s + 10
        while not condition():
            assert self.loop.now_s < limit_s, "not in time"
            self.loop.turn(0.01)

    def marked(self) -> set[bytes]:
        """What a secondary that is lost now would have to be compared in."""
        return {path for path, *_ in self.paths.saved()[0]}

    def reached(self) -> bool:
        return messages.CheckpointReached(EPOCH, 1) in self.reports


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, 3600.0)
    made.checkpoints.joined(EPOCH)
    made.paths.add(0, "full", b"before")
    yield made
    os.close(made.fd)


def test_marks_go_when_both_nodes_have_recorded_it_and_not_earlier(bench: Bench) -> None:
    bench.checkpoints.want()
    bench.checkpoints.want()
    assert bench.reports == [messages.CheckpointWanted(EPOCH)]
    assert bench.sent == []
    bench.checkpoints.begun(1)
    assert bench.sent == [wire.Checkpoint(1)]
    bench.paths.add(0, "full", b"after")
    bench.checkpoints.recorded(1)  # out of turn: nobody has flushed yet
    assert bench.marked() == {b"before", b"after"}
    bench.checkpoints.done_there(1)
    bench.until(bench.reached)
    assert bench.marked() == {b"before", b"after"}
    bench.checkpoints.recorded(1)
    assert bench.marked() == {b"after"}


def test_it_is_reached_only_when_both_nodes_have_flushed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Callable[[str], None]] = []
    monkeypatch.setattr(checkpointing, "in_thread", lambda *args: flushed.append(args[3]))
    bench.checkpoints.want()
    bench.checkpoints.begun(1)
    bench.checkpoints.done_there(1)
    assert not bench.reached()
    flushed[0]("")
    assert bench.reached()


def test_the_answer_of_another_checkpoint_does_not_count(bench: Bench) -> None:
    bench.checkpoints.want()
    bench.checkpoints.begun(2)
    bench.checkpoints.done_there(1)
    for _ in range(20):
        bench.loop.turn(0.01)
    assert not any(isinstance(each, messages.CheckpointReached) for each in bench.reports)


def test_a_secondary_that_is_lost_meanwhile_keeps_the_marks(bench: Bench) -> None:
    bench.checkpoints.want()
    bench.checkpoints.begun(1)
    bench.checkpoints.left()
    bench.checkpoints.done_there(1)
    bench.checkpoints.recorded(1)
    for _ in range(20):
        bench.loop.turn(0.01)
    assert bench.marked() == {b"before"}
    assert not bench.reached()
    bench.checkpoints.want()
    assert bench.reports == [messages.CheckpointWanted(EPOCH)]


def test_what_a_broken_connection_may_have_lost_is_said_again(bench: Bench) -> None:
    bench.checkpoints.resumed()
    assert bench.sent == []
    bench.checkpoints.want()
    bench.checkpoints.begun(1)
    bench.checkpoints.resumed()
    assert bench.sent == [wire.Checkpoint(1)] * 2
    bench.checkpoints.done_there(1)
    bench.checkpoints.resumed()
    assert bench.sent == [wire.Checkpoint(1)] * 2


def test_i16_a_flush_that_fails_is_a_fault_and_no_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpointing, "sync_all", fails)
    bench.checkpoints.want()
    bench.checkpoints.begun(1)
    bench.checkpoints.done_there(1)
    bench.until(lambda: bool(bench.faults))
    assert not bench.reached()


def test_it_is_asked_for_until_it_begins(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "ASK_AGAIN_S", 0.02)
    bench.checkpoints.want()
    bench.until(lambda: len(bench.reports) == 3)
    bench.checkpoints.begun(1)
    for _ in range(10):
        bench.loop.turn(0.02)
    assert len(bench.reports) == 3


def test_it_is_asked_for_in_time_if_anything_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.05)
    bench.checkpoints.joined(EPOCH)
    limit_s = bench.loop.now_s + 0.3
    while bench.loop.now_s < limit_s:
        bench.loop.turn(0.01)
    assert bench.reports == []
    bench.paths.add(0, "attributes", b"f")
    bench.until(lambda: bool(bench.reports))
    os.close(bench.fd)


def test_writers_that_wait_too_long_for_it_are_noticed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keeper, "window_full", True)
    assert not bench.checkpoints.overdue(100.0, 10.0)
    assert not bench.checkpoints.overdue(110.0, 10.0)
    assert bench.checkpoints.overdue(110.1, 10.0)
    monkeypatch.setattr(Keeper, "window_full", False)
    assert not bench.checkpoints.overdue(200.0, 10.0)
    monkeypatch.setattr(Keeper, "window_full", True)
    assert not bench.checkpoints.overdue(200.0, 10.0)
    bench.checkpoints.left()
    assert not bench.checkpoints.overdue(300.0, 10.0)
