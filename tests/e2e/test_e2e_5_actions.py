"""Point 5: swap under load; restart; kill of the monitored process, four times."""

from __future__ import annotations

import time

import pytest
from labkit.lab import Lab
from labkit.modules import TIMEOUT_MS
from labkit.pair import Pair

pytestmark = pytest.mark.lab


def test_swap_under_load_there_and_back(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    begun = time.monotonic()
    pair("n1", "swap")
    pair.wait_pair("n2", "n1")
    pair.wait_work()
    pair("n1", "swap")  # asked on the secondary this time
    pair.wait_pair("n1", "n2")
    pair.wait_work()
    assert pair.pause_since(begun) < TIMEOUT_MS / 1000 + 5
    pair.assert_whole("n1", ["n1", "n2", "n1"])


def test_restart_restarts_the_application_in_place(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    before = _writer(lab, "n1")
    pair("n1", "restart")
    _wait_for_another_writer(lab, "n1", before)
    pair.wait_pair("n1", "n2")
    pair.wait_work()
    pair.assert_whole("n1", ["n1"])


def test_a_killed_application_is_restarted_three_times_and_then_stopped(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    for _ in range(3):
        before = _kill_writer(lab, "n1")
        _wait_for_another_writer(lab, "n1", before)
        pair.wait("n1", "PRIM Ready")
    _kill_writer(lab, "n1")
    pair.wait("n1", "STOP NotReady", at_most_s=40)
    assert "Action stop called by maxloop" in pair.log("n1")
    pair.wait("n2", "ALONE Ready")
    pair.wait_work()


def _writer(lab: Lab, node: str) -> str:
    return lab[node].shell("pgrep -o -f 'programs/[w]riter.py' || true").strip()


def _kill_writer(lab: Lab, node: str) -> str:
    pid = _writer(lab, node)
    lab[node].run("kill", "-KILL", pid)
    return pid


def _wait_for_another_writer(lab: Lab, node: str, before: str) -> None:
    lab[node].wait_until("another writer", lambda: _writer(lab, node) not in ("", before), 30)
