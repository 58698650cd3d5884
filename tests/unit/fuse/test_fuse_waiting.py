"""Requests that wait: which are remembered, and who is taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from safepy.fuse import waiting
from safepy.fuse.waiting import Waiting, is_being_killed


def answer(number: int, result: object) -> None:
    raise AssertionError("the primary answers, not the list")


class Desk:
    """What the primary would do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.killed: set[int] = set()
        self.withdrawn = 0
        self.waiting = Waiting(self.withdraw)
        monkeypatch.setattr(waiting, "is_being_killed", self.killed.__contains__)

    def withdraw(self, _: object) -> bool:
        self.withdrawn += 1
        return True


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def test_only_a_caller_that_is_being_killed_is_freed(desk: Desk) -> None:
    desk.waiting.add(2, 70, answer, 1)
    desk.waiting.interrupt(2)
    assert desk.withdrawn == 0
    desk.killed.add(70)
    desk.waiting.end_killed()
    desk.waiting.end_killed()
    assert desk.withdrawn == 1


def test_a_request_that_began_is_forgotten(desk: Desk) -> None:
    desk.killed.update((70, 71))
    desk.waiting.add(2, 70, answer, 1)
    desk.waiting.add(4, 71, answer, 1)  # the only one that waits: number 2 has begun
    desk.waiting.interrupt(2)
    assert desk.withdrawn == 0
    desk.waiting.interrupt(4)
    assert desk.withdrawn == 1


def test_a_living_or_unknown_thread_is_not_being_killed() -> None:
    assert not is_being_killed(os.getpid())
    assert not is_being_killed(0)


def test_a_signal_that_only_waits_kills_nobody() -> None:
    blocked = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [2])"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{blocked}; print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert not is_being_killed(process.pid)
    finally:
        process.kill()
        process.communicate()
