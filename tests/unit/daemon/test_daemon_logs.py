"""Where the daemon's words go, and that a flood of them or a reader that hangs stops nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
from pathlib import Path

import pytest

from safepy.core.events import Event
from safepy.daemon.logs import Background, Sparing, Voice
from safepy.daemon.reporting import Reporter
from safepy.host.scripts import ScriptRunner
from safepy.model import Level
from safepy.storage import modulelog
from safepy.storage.modulelog import ALL, ModuleLog
from safepy.storage.resources import Resources


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("safekit", logging.INFO, "", 0, text, (), None)


class Stuck(io.StringIO):
    """A journald that does not read."""

    def __init__(self) -> None:
        super().__init__()
        self.going = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str, /) -> int:
        self.reached.set()
        assert self.going.wait(10)
        return super().write(text)


def test_a_system_log_that_hangs_keeps_nobody_waiting_and_says_what_it_lost() -> None:
    stream = Stuck()
    handler = Background(stream, queue_max=5)
    handler.emit(record("first"))
    assert stream.reached.wait(5)
    for number in range(50):
        handler.emit(record(f"line {number}"))
    assert not handler.written(0.05)
    stream.going.set()
    assert handler.written(5)
    handler.emit(record("after"))
    assert handler.written(5)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "first" and lines[-1] == "after" and "line 0" in lines
    lost = sum(int(line[3:].split()[0]) for line in lines if line.endswith("were lost"))
    assert lost + len([line for line in lines if line.startswith("line ")]) == 50


def test_a_stream_that_refuses_costs_the_line_only() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = open(writer, "w")  # noqa: SIM115 - closing it fails too
    try:
        handler = Background(stream)
        for number in range(2):
            handler.emit(record(f"nobody reads line {number}"))
            assert handler.written(5)
    finally:
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def test_sparing_says_the_first_ones_and_then_one_now_and_then() -> None:
    sparing = Sparing()
    said = [sparing.say("tcp.a", "down", 0.001 * n) for n in range(1_000)]
    assert [text for text in said if text] == ["down"] * Sparing.BURST
    assert sparing.say("tcp.b", "up", 1.0) == "up"
    kept = 1_000 - Sparing.BURST
    later = sparing.say("tcp.a", "up", 1.0 + Sparing.REFILL_S)
    assert later == f"up (and {kept} changes before it that were too many to log)"
    assert sparing.say("tcp.a", "down", 1_000.0) == "down"


def test_a_flood_of_resource_changes_is_a_few_lines_and_the_right_value(tmp_path: Path) -> None:
    log = ModuleLog(str(tmp_path / "log.db"))
    resources = Resources(str(tmp_path / "resource.db"))
    posted: list[Event] = []
    reporter = Reporter(resources, Voice("demo", log), posted.append)
    for number in range(5_000):
        reporter.report("custom.x", "up" if number % 2 else "down", "checker")
    log.close()
    resources.close()
    lines = modulelog.read(str(tmp_path / "log.db"), 10_000, ALL)
    assert Sparing.BURST <= len(lines) <= Sparing.BURST + 10
    assert resources.get("custom.x") == "up"


def test_the_level_decides_what_the_system_log_gets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = ModuleLog(str(tmp_path / "log.db"))
    voice = Voice("demo", log)
    with caplog.at_level(logging.DEBUG, "safekit"):
        for level in Level:
            voice.say("heart", level, f"a line {level}")
    log.close()
    told = {r.getMessage(): r.levelname for r in caplog.records}
    assert told == {
        "demo | heart | a line U": "INFO",
        "demo | heart | a line C": "WARNING",
        "demo | heart | a line E": "INFO",
        "demo | heart | a line S": "INFO",
    }
    assert len(modulelog.read(str(tmp_path / "log.db"), 10, ALL)) == len(Level)


def test_script_logs_are_bounded_by_number_and_by_size(tmp_path: Path) -> None:
    names = [f"userlog_2026-01-01T0000{n:02}_start_prim.ulog" for n in range(30)]
    for name in names:
        (tmp_path / name).write_bytes(b"x" * 1_000)
    assert ScriptRunner.drop_old_logs(tmp_path, 20, 1 << 20, 5) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == names[10:]
    assert ScriptRunner.drop_old_logs(tmp_path, 20, 8_000, 5) == 12
    assert ScriptRunner.drop_old_logs(tmp_path, 20, 0, 5) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == names[25:]


def test_a_script_log_that_is_still_written_stays(tmp_path: Path) -> None:
    import fcntl

    names = [f"userlog_2026-01-01T0000{n:02}_start_prim.ulog" for n in range(3)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with open(tmp_path / names[0], "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert ScriptRunner.drop_old_logs(tmp_path, 1, 1 << 20, 1) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[0], names[2]]
