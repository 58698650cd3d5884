"""How far a synchronisation is, is known on both nodes: an administrator looks at either."""

from __future__ import annotations

import select
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from worker_pair import HandledWorker, free_ports

from safepy.worker import messages

pytestmark = pytest.mark.kernel


def heard_progress(worker: HandledWorker, limit_s: float = 10.0) -> dict[str, object]:
    """The progress in the first `Alive` that tells of copied files."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        if not select.select([worker.sock], [], [], until_s - time.monotonic())[0]:
            continue
        report = messages.REPORT.decode(worker.sock.recv(1 << 16))
        if isinstance(report, messages.Alive) and report.progress:
            if report.progress["files_copied"]:
                return dict(report.progress)
        elif not isinstance(report, messages.Alive):
            worker.reports.append(report)
    pytest.fail(f"{worker.name} tells no progress")


def test_both_nodes_know_how_far_the_synchronisation_is() -> None:
    base = Path(tempfile.mkdtemp(prefix="safepy-progress-", dir="/tmp"))
    workers: list[HandledWorker] = []
    ports = free_ports()
    try:
        a = HandledWorker("a", "b", base, ports)
        workers.append(a)
        b = HandledWorker("b", "a", base, ports)
        workers.append(b)
        for number in range(20):
            (a.door / f"f{number}").write_bytes(bytes([number]) * 10_000)
        a.step(lambda n: messages.Serve(n, 1))
        a.open_gate("alone", 1)
        a.send(messages.AllowFollower(1, False))
        b.step(lambda n: messages.Follow(n, 1, False))
        # The source is held at its end until somebody says `Join`, so there is time to look.
        theirs = heard_progress(b)
        assert theirs["files_copied"] == 20 and theirs["bytes_copied"] == 200_000
        begun = b.wait(lambda r: isinstance(r, messages.Log) and "Updating" in r.text)
        assert isinstance(begun, messages.Log)
        assert begun.text == f"Updating directory tree from {b.public}"
        copied = a.wait(lambda r: isinstance(r, messages.Log) and "Copied" in r.text)
        assert isinstance(copied, messages.Log)
        assert copied.text.startswith("Copied 20 files of 20, 195.3 KiB in ")
        a.wait(lambda r: isinstance(r, messages.CaughtUp))
    finally:
        for worker in workers:
            worker.close()
        shutil.rmtree(base)
