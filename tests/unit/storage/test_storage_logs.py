"""Module log, command log and resources: what is written is read, and nothing grows for ever."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from safepy.model import Level
from safepy.storage import modulelog, resources
from safepy.storage.database import Database
from safepy.storage.modulelog import ALL, CommandLog, ModuleLog
from safepy.storage.resources import Resources
from safepy.storage.retention import Retention

LINE = re.compile(
    r"\| \d{4}-\d\d-\d\d \d\d:\d\d:\d\d:\d{6} \| heart \| E \| Local state ALONE Ready\Z"
)


def test_a_line_looks_as_in_the_reference(tmp_path: Path) -> None:
    log = ModuleLog(str(tmp_path / "log.db"))
    log.write("heart", Level.EVENT, "Local state ALONE Ready")
    assert log.flush()
    lines = modulelog.read(str(tmp_path / "log.db"))
    log.close()
    assert len(lines) == 1
    assert LINE.match(str(lines[0]))


def test_levels_counts_and_following(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    log = ModuleLog(path)
    for number in range(10):
        log.write("errd", Level.INFO if number % 2 else Level.CRITICAL, f"line {number}")
    log.close()
    assert [line.text for line in modulelog.read(path)] == [f"line {n}" for n in range(0, 10, 2)]
    everything = modulelog.read(path, wanted=ALL)
    assert [line.text for line in everything] == [f"line {n}" for n in range(10)]
    assert [line.text for line in modulelog.read(path, 2, ALL)] == ["line 8", "line 9"]
    after = everything[6].number
    assert [line.text for line in modulelog.read(path, 100, ALL, after)] == [
        "line 7",
        "line 8",
        "line 9",
    ]


def test_a_message_is_one_bounded_line(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    log = ModuleLog(path)
    log.write("userplug", Level.EVENT, "a\nb\x1b[31m" + "c" * 100_000)
    log.close()
    (line,) = modulelog.read(path)
    assert "\n" not in line.text and "\x1b" not in line.text
    assert len(line.text) <= 4_000


def test_old_lines_go(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    log = ModuleLog(path, Retention(lines_max=50, every=50))
    for number in range(230):
        log.write("heart", Level.EVENT, f"line {number}")
    log.close()
    lines = modulelog.read(path, 10_000, ALL)
    assert 50 <= len(lines) <= 100
    assert lines[-1].text == "line 229"


def test_no_file_is_an_empty_log(tmp_path: Path) -> None:
    assert modulelog.read(str(tmp_path / "none.db")) == []


def test_a_slow_disk_never_blocks_the_writer(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "x.db"), "")
    release = threading.Event()
    database.submit(lambda _: release.wait(10) and None)
    for _ in range(20_000):
        database.submit(lambda _: None)
    assert database.dropped > 0
    release.set()
    database.close()


def test_a_file_that_cannot_be_written_costs_lines_only(tmp_path: Path) -> None:
    (tmp_path / "log.db").mkdir()
    database = Database(str(tmp_path / "log.db"), "")
    database.submit(lambda _: None)
    database.close()
    assert database.dropped == 1


def test_the_command_log(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    log = CommandLog(path)
    log.start("mirror", 7017, "prim -m mirror")
    log.end(7017, 0)
    log.close()
    first, second = map(str, modulelog.read_commands(path))
    assert first.endswith("| safekit | mirror | 7017 | START | prim -m mirror")
    assert second.endswith("|  |  | 7017 | END | 0")


def test_resources_are_remembered_with_their_history(tmp_path: Path) -> None:
    path = str(tmp_path / "resource.db")
    first = Resources(path)
    assert first.set("heartbeat.default", "up", "heart")
    assert not first.set("heartbeat.default", "up", "heart")
    assert first.set("heartbeat.default", "down", "heart")
    first.set("custom.load", "7", "checker", log=False)
    first.set("custom.load", "7", "checker", log=True)
    first.close()
    again = Resources(path)
    assert again.get("heartbeat.default") == "down"
    assert [each.name for each in again.all()] == ["custom.load", "heartbeat.default"]
    again.close()
    values = [each.value for each in resources.history(path, "heartbeat.default")]
    assert values == ["down", "up"]
    assert len(resources.history(path, "custom.load")) == 1


def test_the_history_is_bounded(tmp_path: Path) -> None:
    path = str(tmp_path / "resource.db")
    some = Resources(path, history_max=20)
    for number in range(100):
        some.set(f"custom.n{number % 25}", str(number), "test")
    some.close()
    names = [f"custom.n{number}" for number in range(25)]
    found = [each for name in names for each in resources.history(path, name, 1_000)]
    assert "99" in [each.value for each in found]
    assert 20 <= len(found) <= 40


@pytest.mark.parametrize("damage", ["noise", "torn"])
def test_a_damaged_file_is_put_aside_and_costs_no_service(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "resource.db"
    first = Resources(str(path))
    for number in range(200):
        first.set(f"custom.r{number}", "x" * 100, "test")
    first.close()
    whole = path.read_bytes()
    noise = bytes(range(256)) * 64
    path.write_bytes(noise if damage == "noise" else whole[:4096] + noise[: len(whole) - 4096])
    again = Resources(str(path))
    again.set("custom.a", "1", "test")
    again.flush()
    again.set("custom.b", "2", "test")
    again.close()
    assert "custom.b" in [each.name for each in resources.read(str(path))]
    assert len(list(tmp_path.glob("resource.db.damaged-*"))) == 1
