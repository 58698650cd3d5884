"""scripts/labkit/bench_lab.py: a bench that is interrupted leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from labkit.bench_failover import is_alarm
from labkit.bench_lab import in_lab


class _Lab:
    """Notes what was asked of it; somebody impatient sends `again` while it goes down."""

    def __init__(self, again: int) -> None:
        self.again = again
        self.did: list[str] = []

    def up(self, lans: int) -> None:
        self.did.append("up")

    def down(self) -> None:
        os.kill(os.getpid(), self.again)
        self.did.append("down")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_bench_takes_its_lab_down(number: int) -> None:
    lab: Any = _Lab(number)
    before = signal.getsignal(number)

    def work() -> None:
        lab.did.append("work")
        os.kill(os.getpid(), number)
        lab.did.append("never")

    assert in_lab(lab, [], work) == 130
    assert lab.did == ["up", "work", "down"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("text", "alarm"),
    [
        ("Local state ALONE Ready", True),
        ("Local state WAIT Transient", True),
        ("Remote state UNKNOWN", True),
        ("Action alone called by heart: no heartbeat", True),
        ("Resource node.delay set to down by delaycheck", False),
    ],
)
def test_what_a_busy_pair_must_not_say(text: str, alarm: bool) -> None:
    assert is_alarm(text) is alarm
