"""What logs and resources may take of the disk, and what is told of what was lost."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from safepy.model import Level
from safepy.storage import modulelog, resources
from safepy.storage.database import Database
from safepy.storage.modulelog import ALL, CommandLog, Filter, ModuleLog
from safepy.storage.resources import CHANGES_PER_S, HISTORY_OF_ONE_MAX, Resources
from safepy.storage.retention import DAY_S, Retention, clean_up


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "log.db")


def texts(path: str, wanted: Filter = ALL) -> list[str]:
    return [line.text for line in modulelog.read(path, 1_000_000, wanted)]


def age(path: str, below: int, seconds: float) -> None:
    """Lines with a number below this one are so much older."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE log SET time = time - ? WHERE id < ?", (seconds, below))


def filled(path: str, count: int, text: str = "line") -> None:
    log = ModuleLog(path)
    for number in range(1, count + 1):
        log.write("heart", Level.EVENT, f"{text} {number}")
    log.close()


def test_a_line_goes_after_thirty_days(path: str) -> None:
    filled(path, 3_000)
    age(path, 1_500, 31 * DAY_S)
    again = ModuleLog(path)
    again.write("heart", Level.EVENT, "today")
    again.close()
    left = texts(path)
    assert left[0] == "line 1500" and left[-1] == "today"


def test_the_newest_thousand_stay_whatever_the_clock_says(path: str) -> None:
    filled(path, 3_000)
    age(path, 10_000, 400 * DAY_S)
    again = ModuleLog(path)
    again.write("heart", Level.EVENT, "today")
    again.close()
    assert len(texts(path)) == 1_000 and texts(path)[-1] == "today"


def test_the_file_does_not_outgrow_its_bytes(path: str) -> None:
    keep = Retention(bytes_max=1 << 20, kept_min=10, every=50)
    log = ModuleLog(path, keep)
    for number in range(2_000):
        log.write("userplug", Level.EVENT, f"{number} " + "x" * 3_900)
    log.close()
    assert Path(path).stat().st_size < 3 << 20
    assert texts(path)[-1].startswith("1999 ") and len(texts(path)) >= 100


def test_a_clean_up_takes_a_portion_at_a_time(path: str) -> None:
    filled(path, 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO log (time, origin, level, message) VALUES (?, 'o', 'E', 'm')",
            [(0.0,)] * 50_000,
        )
        clean_up(connection, "log", Retention(), DAY_S * 1_000)
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (30_001,)


def test_what_a_full_disk_cost_is_told_when_it_has_room_again(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.mkdir()  # nothing can be written there
    log = ModuleLog(str(path))
    for number in range(7):
        log.write("heart", Level.EVENT, f"lost {number}")
    assert log.flush()
    path.rmdir()
    log.write("heart", Level.EVENT, "kept")
    log.write("heart", Level.EVENT, "kept too")
    log.close()
    found = texts(str(path))
    assert [text for text in found if text.startswith("kept")] == ["kept", "kept too"]
    (told,) = [text for text in found if not text.startswith("kept")]
    assert told.startswith("7 lines of this log were lost: ")


def test_the_command_log_tells_too(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.mkdir()
    log = CommandLog(str(path))
    log.start("demo", 7, "stop")
    assert log.flush()
    path.rmdir()
    log.end(7, 0)
    log.close()
    marks = [(line.mark, line.text) for line in modulelog.read_commands(str(path))]
    assert ("END", "0") in marks
    assert any(text.startswith("1 lines of this log were lost") for _, text in marks)


def test_of_a_flood_the_newest_lines_are_kept(path: str) -> None:
    database = Database(path, "CREATE TABLE IF NOT EXISTS t (n INTEGER)")
    release, held = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        held.set()
        release.wait(10)

    def insert(number: int) -> None:
        database.submit(lambda c: c.execute("INSERT INTO t VALUES (?)", (number,)) and None)

    database.submit(hold)
    assert held.wait(5)
    for number in range(15_000):
        insert(number)
    release.set()
    database.close()
    with closing(sqlite3.connect(path)) as connection:
        found = [number for (number,) in connection.execute("SELECT n FROM t ORDER BY n")]
    assert found[-1] == 14_999 and len(found) + database.dropped == 15_000
    assert database.dropped >= 5_000


def test_the_log_is_filtered_by_time_level_and_text(path: str) -> None:
    filled(path, 10)
    log = ModuleLog(path)
    log.write("errd", Level.CRITICAL, "Process postgres not running")
    log.close()
    age(path, 6, 3_600.0)
    times = [line.time_s for line in modulelog.read(path, 100, ALL)]
    assert len(texts(path, Filter(since_s=times[5]))) == 6
    assert texts(path, Filter(until_s=times[4])) == [f"line {n}" for n in range(1, 6)]
    assert texts(path, Filter(levels=("C",))) == ["Process postgres not running"]
    assert texts(path, Filter(text="POSTGRES")) == ["Process postgres not running"]
    assert texts(path, Filter(text="errd")) == ["Process postgres not running"]
    assert texts(path, Filter(text="%")) == []
    assert texts(path, Filter(levels=("C", "E"), since_s=times[5], text="line 1")) == ["line 10"]


def test_a_resource_that_is_set_thousands_of_times_a_second(path: str) -> None:
    some = Resources(path)
    for number in range(20_000):
        some.set("custom.load", str(number), "checker")
        some.set("custom.other", "up", "checker")
    some.close()
    values = [each.value for each in resources.history(path, "custom.load", 100_000)][::-1]
    assert values[:CHANGES_PER_S] == [str(n) for n in range(CHANGES_PER_S)]
    assert values[-1] == "19999"
    seconds = 1 + int(
        max(each.time_s for each in resources.history(path, "custom.load"))
        - min(each.time_s for each in resources.history(path, "custom.load", 100_000))
    )
    assert len(values) <= (CHANGES_PER_S + 1) * (seconds + 1)
    stored = {each.name: each.value for each in resources.read(path)}
    assert stored == {"custom.load": "19999", "custom.other": "up"}


def test_the_last_value_of_a_burst_reaches_the_history_by_itself(path: str) -> None:
    some = Resources(path)
    for number in range(100):
        some.set("custom.load", str(number), "checker")
    late = threading.Event()
    for _ in range(100):
        found = resources.history(path, "custom.load") if Path(path).exists() else []
        if found and found[0].value == "99":
            break
        late.wait(0.05)
    else:
        pytest.fail("the last value never came")
    some.close()


def test_the_history_of_one_resource_does_not_push_out_the_others(path: str) -> None:
    some = Resources(path)
    some.set("rfs.uptodate", "up", "heart")
    some.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO history (time, name, value, who) VALUES (?, 'custom.n', ?, 'x')",
            [(9e9, str(n)) for n in range(5_000)],
        )
    again = Resources(path)
    again.set("custom.n", "last", "x")
    again.close()
    found = resources.history(path, "custom.n", 100_000)
    assert len(found) == HISTORY_OF_ONE_MAX and found[0].value == "last"
    assert [each.value for each in resources.history(path, "rfs.uptodate")] == ["up"]


def test_after_a_failure_the_disk_gets_all_values(tmp_path: Path) -> None:
    path = tmp_path / "resource.db"
    path.mkdir()
    some = Resources(str(path))
    some.set("usersetting.failover", "off", "root")
    some.set("custom.gone", "up", "root")
    assert some.flush()
    path.rmdir()
    some.drop("custom.gone")
    some.set("custom.x", "up", "root")
    some.close()
    stored = {each.name: each.value for each in resources.read(str(path))}
    assert stored == {"usersetting.failover": "off", "custom.x": "up"}


def test_cleared_means_forgotten(path: str) -> None:
    some = Resources(path)
    some.set("custom.x", "up", "root")
    some.clear()
    some.close()
    assert resources.read(path) == [] and resources.history(path, "custom.x") == []


def test_what_the_next_run_depends_on_is_written_at_once(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that is killed has no second chance: nothing waits for the pause between writes."""
    monkeypatch.setattr(resources, "PACE_S", 60.0)
    store = Resources(path)
    try:
        store.set("heart.started", "no", "safeadmin", log=False)
        store.hurry()
        assert written(path, "no")
        # Once only: what comes after it may gather again.
        store.set("heart.started", "yes", "safeadmin", log=False)
        assert not written(path, "yes", at_most_s=0.3)
    finally:
        store.close()
    assert written(path, "yes")


def written(path: str, value: str, at_most_s: float = 10.0) -> bool:
    end_s = time.monotonic() + at_most_s
    while time.monotonic() < end_s:
        if [each.value for each in resources.read(path)] == [value]:
            return True
        time.sleep(0.01)
    return False
