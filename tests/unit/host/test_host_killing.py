"""Signals to processes found by name, and whom they never reach."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from safepy.host import killing
from safepy.host.processes import Process, look, scan

STUBBORN = (
    "import signal,time\nsignal.signal(15, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(60)"
)
POLITE = "import time\nprint(1, flush=True)\ntime.sleep(60)"


class Child:
    def __init__(self, code: str) -> None:
        self.popen = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert self.popen.stdout is not None
        self.popen.stdout.readline()
        found = look(self.popen.pid)
        assert found is not None
        self.seen: Process = found

    def end(self) -> int:
        self.popen.kill()
        return self.popen.wait()


@pytest.fixture
def children() -> Iterator[list[Child]]:
    made = [Child(POLITE), Child(STUBBORN)]
    yield made
    for each in made:
        each.end()


def test_terminate_asks_first_and_kills_who_does_not_listen(children: list[Child]) -> None:
    polite, stubborn = children
    began = time.monotonic()
    assert killing.terminate([polite.seen, stubborn.seen], grace_s=0.3) == []
    assert 0.3 <= time.monotonic() - began < killing.GRACE_S
    assert (polite.popen.wait(5), stubborn.popen.wait(5)) == (-signal.SIGTERM, -signal.SIGKILL)


def test_terminate_does_not_wait_longer_than_needed(children: list[Child]) -> None:
    polite, _ = children
    assert killing.terminate([polite.seen], grace_s=60) == []
    assert polite.popen.wait(5) == -signal.SIGTERM


def test_another_process_with_the_same_pid_gets_no_signal(children: list[Child]) -> None:
    polite, _ = children
    earlier = replace(polite.seen, started=polite.seen.started - 1)
    assert not killing.send(earlier, signal.SIGKILL)
    assert killing.kill([earlier]) == []
    assert polite.popen.poll() is None
    assert killing.send(polite.seen, signal.SIGKILL)
    assert polite.popen.wait(5) == -signal.SIGKILL
    assert not killing.send(polite.seen, signal.SIGKILL)


def test_who_is_spared(children: list[Child]) -> None:
    processes = scan()
    polite, stubborn = (each.popen.pid for each in children)
    # A daemon that is our own process: its children are its workers and scripts.
    assert {0, 1, os.getpid(), polite, stubborn} <= killing.spared(0, os.getpid(), processes)
    # No daemon: the caller and what it was called from, up to init.
    spared = killing.spared(polite, 0, processes)
    assert {0, 1, polite, os.getpid(), os.getppid()} <= spared
    assert stubborn not in spared
