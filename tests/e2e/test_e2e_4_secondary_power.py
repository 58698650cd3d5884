"""Point 4: power cut of the secondary under load."""

from __future__ import annotations

import time

import pytest
from labkit.lab import Lab
from labkit.modules import TIMEOUT_MS
from labkit.pair import Pair

pytestmark = pytest.mark.lab
#: Frozen for the detection at most (protocol 10, time targets), and room for two busy cores.
STALL_S = TIMEOUT_MS / 1000 + 5


def test_the_application_goes_on_and_the_node_returns(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    cut = time.monotonic()
    lab["n2"].power_cut()
    pair.wait("n1", "ALONE Ready", at_most_s=60)
    pair.wait_work(200)
    assert pair.pause_since(cut) < STALL_S
    lab["n2"].power_on()
    lab["n2"].wait_booted()
    pair.wait_pair("n1", "n2", 90)
    pair.wait_work()
    pair.assert_whole("n1", ["n1"])


def test_a_second_loss_during_the_return_harms_nothing(lab: Lab) -> None:
    pair = Pair(lab)
    (pair.files("n1") / "ballast").write_bytes(b"x" * (64 << 20))
    pair.start()
    lab["n2"].power_cut()
    pair.wait("n1", "ALONE Ready", at_most_s=60)
    lab["n2"].power_on()
    lab["n2"].wait_booted()
    lab["n2"].power_cut()
    pair.wait_work(50, 60)
    lab["n2"].power_on()
    lab["n2"].wait_booted()
    pair.wait_pair("n1", "n2", 90)
    pair.assert_whole("n1", ["n1"])
