import os
from collections.abc import Iterator

import pytest
from power_disk import Disk, seam

from safepy.storage.intentlog import IntentLog
from safepy.worker.knowledge import Knowledge
from safepy.worker.main import Worker
from safepy.worker.serving import Serving


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Disk]]:
    """The seam is in place. Small logs and windows, so that they come to their ends; nothing is
    mounted; a worker that loses its daemon does not end the test."""
    if os.geteuid() != 0:
        pytest.skip("needs root (trusted attributes)")
    monkeypatch.setattr(Serving, "mount", lambda self: None)
    monkeypatch.setattr(Worker, "_daemon_gone", lambda self: None)
    monkeypatch.setattr(IntentLog.__init__, "__defaults__", (48,))
    monkeypatch.setattr(Knowledge.keeper, "__defaults__", (8,))
    with seam() as disks:
        yield disks
