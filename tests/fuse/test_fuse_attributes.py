"""Attributes of `<rfs>` whose effect shows between two workers only."""

from __future__ import annotations

import signal
import time

import pytest
from worker_pair import Job, Pair, pair_up, release_held

from safepy.worker import messages
from safepy.worker.serving import SLEPT_S

pytestmark = pytest.mark.kernel


def test_locktimeout_leaves_a_secondary_that_applies_nothing(pair: Pair) -> None:
    a = pair.worker("a", locktimeout_s=1.0, sendtimeout_s=60.0)
    b = pair.worker("b")
    epoch = pair_up(a, b)
    b.process.send_signal(signal.SIGSTOP)
    try:
        job = Job(lambda: (a.public / "held").write_bytes(b"held"))
        lost = a.wait(lambda r: isinstance(r, messages.ReplicaLost), 20)
        assert isinstance(lost, messages.ReplicaLost)
        assert "no acknowledgement for 1 s (locktimeout)" in lost.reason, lost.reason
        assert job.is_alive(), "answered without the secondary"
        release_held(a, epoch + 1)
        job.finish(a)
    finally:
        b.process.send_signal(signal.SIGCONT)


def test_who_slept_does_not_call_the_secondary_late(pair: Pair) -> None:
    """Both are frozen longer than locktimeout, with an answer due, and wake one after the other
    (F38)."""
    a = pair.worker("a", locktimeout_s=2.0, sendtimeout_s=60.0)
    b = pair.worker("b")
    pair_up(a, b)
    b.process.send_signal(signal.SIGSTOP)
    try:
        job = Job(lambda: (a.public / "held").write_bytes(b"held"))
        a.pump(0.5)
        assert job.is_alive(), "answered without the secondary"
        a.process.send_signal(signal.SIGSTOP)
        time.sleep(SLEPT_S + 1.0)
        a.process.send_signal(signal.SIGCONT)
        time.sleep(0.3)
    finally:
        a.process.send_signal(signal.SIGCONT)
        b.process.send_signal(signal.SIGCONT)
    job.finish(a)
    assert not any(isinstance(report, messages.ReplicaLost) for report in a.reports)
