"""Blocking work beside the loop: nothing that goes wrong there stays unheard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from safepy.dataplane.onethread import OneThread
from safepy.errors import LocalFault
from safepy.host.loop import Loop

LIMIT_S = 10.0


class Desk:
    def __init__(self) -> None:
        self.loop = Loop()
        self.faults: list[str] = []
        self.idle = 0
        self.thread = OneThread(self.loop, "test", self.faults.append, self._idle)

    def _idle(self) -> None:
        self.idle += 1

    def until(self, holds: Callable[[], object]) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not holds():
            assert time.monotonic() < end_s
            self.loop.turn(0.01)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.thread.stop()
    made.thread.join()
    made.loop.close()


def raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_jobs_follow_each_other_and_idleness_is_told_once(desk: Desk) -> None:
    done: list[int] = []
    for number in range(3):
        desk.thread.queue(lambda: None, lambda number=number: done.append(number))  # type: ignore[misc]
    desk.until(lambda: desk.idle)
    assert done == [0, 1, 2] and desk.idle == 1 and not desk.thread.busy


def test_a_fault_is_the_end_of_the_queue(desk: Desk) -> None:
    done: list[int] = []
    desk.thread.queue(raising(LocalFault("the log is full")), lambda: done.append(1))
    desk.thread.queue(lambda: None, lambda: done.append(2))
    desk.until(lambda: desk.faults)
    desk.loop.turn(0.01)
    assert desk.faults == ["the log is full"] and not done


def test_what_nobody_expected_is_raised_on_the_loop(desk: Desk) -> None:
    """Operations wait for their marks: with a thread that died in silence they would for ever."""
    desk.thread.queue(raising(OSError(5, "unexpected")), lambda: None)
    with pytest.raises(OSError, match="unexpected"):
        desk.until(lambda: desk.faults or desk.idle)
    assert not desk.faults and not desk.idle
