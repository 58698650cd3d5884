from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from safepy.model import Level
from safepy.storage.modulelog import CommandLog, ModuleLog


@pytest.fixture
def log(safe: Path) -> Any:
    path = str(safe / "var/modules/demo/log.db")
    opened = ModuleLog(path)
    for level in Level:
        opened.write("heart", level, f"line {level}")
    assert opened.flush(), "the lines were never written"
    yield opened
    opened.close()


def levels(output: str) -> str:
    return "".join(line.split(" | ")[2] for line in output.splitlines())


def test_the_log_shows_the_normal_levels_or_all(run: Any, log: ModuleLog) -> None:
    assert levels(run("log", "-m", "demo").stdout) == "UCES"
    assert levels(run("log", "-A", "-m", "demo").stdout) == "UCESIWD"
    assert levels(run("log", "-s", "2", "-m", "demo").stdout) == "ES"
    assert run("log", "-s", "0", "-m", "demo").stdout == ""
    assert run("log", "-m", "demo").stdout.startswith("| 20")


def test_an_empty_log_is_no_error(run: Any, safe: Path) -> None:
    done = run("log", "-m", "demo")
    assert (done.exit_code, done.output) == (0, "")


def test_another_language_is_refused_by_name(run: Any, log: ModuleLog) -> None:
    done = run("log", "-l", "fr", "-m", "demo")
    assert done.exit_code == 1 and "-l fr is not supported yet" in done.stderr
    assert run("log", "-l", "en", "-m", "demo").exit_code == 0


def test_a_log_that_is_just_being_made_is_empty(run: Any, safe: Path) -> None:
    (safe / "var/modules/demo/log.db").touch()
    done = run("log", "-m", "demo")
    assert (done.exit_code, done.output) == (0, "")


def test_a_log_that_is_none_is_one_clear_line(run: Any, safe: Path) -> None:
    (safe / "var/modules/demo/log.db").write_bytes(b"not a database" * 100)
    done = run("log", "-m", "demo")
    assert done.exit_code == 1
    assert done.stderr.startswith("safekit: error: the log ") and done.stderr.count("\n") == 1


def test_logsave_makes_a_new_file_for_root_only(run: Any, log: ModuleLog, safe: Path) -> None:
    target = safe / "saved"
    assert run("logsave", "-m", "demo", "-A", str(target)).exit_code == 0
    assert levels(target.read_text()) == "UCESIWD"
    assert target.stat().st_mode & 0o777 == 0o600
    again = run("logsave", "-m", "demo", str(target))
    assert again.exit_code == 1 and "exists already" in again.stderr
    (safe / "link").symlink_to(safe / "elsewhere")
    assert run("logsave", "-m", "demo", str(safe / "link")).exit_code == 1
    assert not (safe / "elsewhere").exists()
    assert "not an absolute path" in run("logsave", "-m", "demo", "rel").stderr
    assert "No such file" in run("logsave", "-m", "demo", "/none/such/file").stderr


def test_cmdlog(run: Any, safe: Path) -> None:
    assert run("cmdlog").stdout == ""
    commands = CommandLog(str(safe / "var/log.db"))
    commands.start("demo", 7, "prim -m demo")
    commands.end(7, 0)
    commands.close()
    first, second = run("cmdlog").stdout.splitlines()
    assert first.endswith("| safekit | demo | 7 | START | prim -m demo")
    assert second.endswith("| 7 | END | 0")


def test_following_prints_new_lines_and_ends_by_interrupt(safe: Path, log: ModuleLog) -> None:
    source = str(Path(__file__).resolve().parents[3] / "src")
    with subprocess.Popen(
        [sys.executable, "-m", "safepy", "logview", "-s", "1", "-m", "demo"],
        env=os.environ | {"PYTHONPATH": source, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has interrupts ignored for all of them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as follower:
        try:
            assert follower.stdout is not None and follower.stderr is not None
            assert follower.stdout.readline().endswith("line S\n")
            for number in range(3):
                log.write("safekit", Level.EVENT, f"new {number}")
                log.write("safekit", Level.DEBUG, "not shown")
                assert follower.stdout.readline().endswith(f"new {number}\n")
            follower.send_signal(signal.SIGINT)
            assert follower.wait(10) == 130
            assert follower.stderr.read().strip() == ""
        finally:
            follower.kill()
