"""Logs and resources on a file system that is full: lines are lost and told, nothing stops."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from safepy.model import Level
from safepy.storage import modulelog, resources
from safepy.storage.modulelog import ALL, ModuleLog
from safepy.storage.resources import Resources


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for block in (4096, 1):
            try:
                while True:
                    file.write(b"x" * block)
            except OSError:
                continue
    return filler


def test_a_full_disk_costs_lines_that_are_counted_and_told(disk: Path) -> None:
    path = str(disk / "log.db")
    log = ModuleLog(path)
    some = Resources(str(disk / "resource.db"))
    log.write("heart", Level.EVENT, "before")
    some.set("usersetting.failover", "on", "root")
    assert log.flush() and some.flush()
    filler = fill(disk)
    for number in range(500):
        log.write("heart", Level.EVENT, f"{number} " + "x" * 300)
    some.set("usersetting.failover", "off", "root")
    for number in range(100):
        some.set(f"custom.{number}", "x" * 1_000, "root")
    assert log.flush() and some.flush()
    filler.unlink()
    log.write("heart", Level.EVENT, "after")
    some.set("custom.after", "up", "root")
    log.close()
    some.close()
    lines = [line.text for line in modulelog.read(path, 10_000, ALL)]
    assert lines[0] == "before" and "after" in lines
    told = [int(text.split()[0]) for text in lines if "lines of this log were lost" in text]
    written = [text for text in lines if text[0].isdigit() and text.endswith("x")]
    assert told and sum(told) + len(written) == 500
    assert any("full" in text for text in lines if "were lost" in text)
    stored = {each.name: each.value for each in resources.read(str(disk / "resource.db"))}
    assert stored["usersetting.failover"] == "off" and stored["custom.after"] == "up"
    assert len(stored) == 102


def test_a_log_on_a_full_disk_can_be_read_without_the_daemon(disk: Path) -> None:
    path = str(disk / "log.db")
    log = ModuleLog(path)
    log.write("heart", Level.EVENT, "before")
    log.close()
    fill(disk)
    assert [line.text for line in modulelog.read(path, 10, ALL)] == ["before"]
