"""Point 2: a clean stop of the primary is taken over at once; it returns as secondary."""

from __future__ import annotations

import time

import pytest
from labkit.lab import Lab
from labkit.modules import TIMEOUT_MS
from labkit.pair import Pair

pytestmark = pytest.mark.lab


def test_stop_of_the_primary_is_taken_over_without_waiting_for_a_timeout(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    begun = time.monotonic()
    pair("n1", "stop")
    pair.wait("n2", "ALONE Ready")
    pair.wait("n1", "STOP NotReady")
    pair.wait_work()
    assert pair.pause_since(begun) < TIMEOUT_MS / 1000
    pair("n1", "start")
    pair.wait_pair("n2", "n1")
    pair.wait_work()
    pair.assert_whole("n2", ["n1", "n2"])


def test_stop_of_the_secondary_leaves_the_application_alone(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    begun = time.monotonic()
    pair("n2", "stop")
    pair.wait("n2", "STOP NotReady")
    pair.wait("n1", "ALONE Ready")
    pair.wait_work()
    assert pair.pause_since(begun) < TIMEOUT_MS / 1000
    pair("n2", "start")
    pair.wait_pair("n1", "n2")
    pair.assert_whole("n1", ["n1"])


def test_a_stopped_directory_is_free_and_changes_in_it_reach_the_other(lab: Lab) -> None:
    """F52"""
    pair = Pair(lab)
    pair.start()
    pair("n2", "stop")
    pair.wait("n2", "STOP NotReady")
    lab["n2"].shell(f"echo stray > {pair.directory}/stray")
    pair("n2", "start")
    pair.wait_pair("n1", "n2")
    assert not (pair.files("n2") / "stray").exists()
    pair.assert_whole("n1", ["n1"])
