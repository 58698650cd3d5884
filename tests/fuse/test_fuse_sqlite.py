"""SQLite under load when the primary dies: no committed transaction is missing, nothing broken."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from labkit.programs import sqliteload
from worker_pair import Job, Pair, pair_up

from safepy.worker import messages

pytestmark = pytest.mark.kernel

WRITERS = 2
COMMITS = 60


@pytest.mark.parametrize(
    ("journal_mode", "acknowledge_on"),
    [("WAL", "receipt"), ("WAL", "apply"), ("DELETE", "receipt")],
)
def test_a_database_survives_its_primary(
    pair: Pair, journal_mode: str, acknowledge_on: str
) -> None:
    a, b = (pair.worker(name, acknowledge_on=acknowledge_on) for name in "ab")
    epoch = pair_up(a, b)
    numbers = pair.base / "numbers"
    numbers.touch()
    load = [sys.executable, sqliteload.__file__, str(a.public / "db"), journal_mode, str(numbers)]
    writers = [
        subprocess.Popen([*load, str(writer)], stderr=subprocess.DEVNULL)
        for writer in range(WRITERS)
    ]
    try:
        until_s = time.monotonic() + 60
        while len(numbers.read_bytes().splitlines()) < COMMITS:
            assert time.monotonic() < until_s, "too few transactions"
            a.pump(0.02)
            b.pump(0.01)
        a.kill()
        for writer in writers:
            assert writer.wait(60) != 0
        b.wait(lambda r: isinstance(r, messages.SourceLost))
        b.step(lambda n: messages.StopFollowing(n, epoch + 1))
        b.step(lambda n: messages.Serve(n, epoch + 1))
        b.open_gate("alone", epoch + 1)
        found: list[str] = []
        Job(lambda: found.extend(whole(b.public / "db", numbers))).finish(b)
        assert found == []
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def whole(database: Path, numbers: Path) -> list[str]:
    assert os.path.getsize(database) > 0
    return sqliteload.complaints(str(database), str(numbers))
