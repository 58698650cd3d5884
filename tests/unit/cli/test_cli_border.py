"""The border to the user: usage, errors, exit codes, speed. Never a stack trace."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_manager import FakeManager

from safepy.cli.table import WHERE

HEAVY = ("aiohttp", "lxml", "asyncio", "asyncio_dgram", "psutil", "cryptography", "yaml", "sqlite3")


def one_line(stderr: str) -> bool:
    return stderr.startswith("safekit: error: ") and stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["bogus"], 2, "No such command 'bogus' (safekit --help)"),
        (["state", "-z"], 2, "No such option '-z' (safekit state --help)"),
        (["start"], 2, "no module is named: add -m AM or set SAFEMODULE"),
        (["start", "-m"], 2, "requires an argument"),
        (["start", "-m", "a/b"], 1, "cannot be the name of a module"),
        (["start", "-m", "x" * 65], 1, "cannot be the name of a module"),
        (["start", "-m", ""], 1, "cannot be the name of a module"),
        (["start", "-m", "é"], 1, "cannot be the name of a module"),
        (["stop", "-m", "demo", "-i", "a b"], 1, "name of a caller"),
        (["start", "-m", "nope"], 1, "no module is called nope"),
        (["prim", "quick", "-m", "demo"], 2, "'quick' is not"),
        (["log", "-m", "nope"], 1, "no module is called nope"),
        (["log", "-s", "-1", "-m", "demo"], 2, "-1 is not in the range"),
        (["log", "-m", "demo", "--since", "yesterday"], 2, "or how long ago: 90s, 10m, 2h, 3d"),
        (["printi", "-m", "demo"], 2, "Missing argument"),
        (["printi", "-m", "demo", "x" * 300_000], 1, "at most 262144"),
        (["module", "package", "-m", "demo", "x.safe"], 1, "not an absolute path"),
        (["module", "genkey", "-m", "demo"], 1, "not supported yet"),
        (["cluster", "config", "x.zip"], 1, "not supported yet"),
        (["cluster", "config", "lock"], 1, "not supported yet"),
        (["cluster", "delkey"], 1, "not supported yet"),
        (["-H", "*", "state"], 1, "safekit -H is not supported yet"),
        (["-r", "none-such", "list"], 1, "safekit -r none-such is not supported"),
        (["-m", "demo", "-r"], 2, "-r stands first"),
        (["-G"], 1, "safekit -G is not supported yet"),
        (["set", "-m", "demo", "-r", "a.b", "-v", "x", "-n", "-l"], 2, "exclude each other"),
        (["set", "-m", "demo", "-r", "plain", "-v", "x"], 1, "a resource is called CLASS.ID"),
        (["resource", "-m", "demo", "-r", "a.b"], 1, "module demo has no resource a.b"),
    ],
    ids=lambda value: " ".join(map(str, value))[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_line(
    run: Any, daemon: FakeManager, words: list[str], code: int, text: str
) -> None:
    done = run(*words)
    assert done.exit_code == code, done.output
    assert done.stdout == "" and one_line(done.stderr) and text in done.stderr
    assert not [asked for asked in daemon.asked if asked[0] not in ("action", "snapshot")]


@pytest.mark.parametrize(
    "name",
    [
        "webserver",
        "webservercfg",
        "safeagent",
        "notification",
        "uninstall",
    ],
)
def test_what_this_version_has_not_is_refused_by_name(run: Any, safe: Path, name: str) -> None:
    done = run(name, "anything", "-x", "--long", "-m", "demo")
    assert done.exit_code == 1 and one_line(done.stderr)
    assert f"safekit {name} is not supported yet" in done.stderr


def test_no_daemon(process: Any) -> None:
    done = process("start", "-m", "demo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Waiting for safeadmin .\nsafekit: error: safeadmin administrator daemon not running"
        " (systemctl start safeadmin)\n"
    )


def test_a_real_process_talks_to_the_daemon(process: Any, daemon: FakeManager) -> None:
    done = process("-m", "demo", "state", "-lq")
    assert (done.returncode, done.stdout, done.stderr) == (3, "PRIM Ready\n", "")
    assert process("stop", SAFEMODULE="demo").returncode == 0
    assert daemon.asked[-1] == ("action", "demo", "stop", "root", "", False)
    assert daemon.commands[-2] == ("START", "demo", ["stop", "-u", "root"])


def test_a_bug_of_the_daemon_is_one_line(run: Any, daemon: FakeManager) -> None:
    daemon.failure = RuntimeError("boom")
    done = run("config", "-m", "demo")
    assert done.exit_code == 1 and one_line(done.stderr)
    assert "journalctl -u safeadmin" in done.stderr and "boom" not in done.stderr


def test_a_bug_of_ours_is_one_line(run: Any, safe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("secret\nof two lines")

    monkeypatch.setattr("safepy.cli.context.App.call", broken)
    done = run("config", "-m", "demo")
    assert done.exit_code == 1 and one_line(done.stderr) and "KeyError" in done.stderr


def test_an_error_cannot_smuggle_control_characters(run: Any, daemon: FakeManager) -> None:
    done = run("cluster", "config", "/\x1b[31mred\nline")
    assert done.exit_code == 1 and one_line(done.stderr) and "\x1b" not in done.stderr


def test_a_reader_that_went_away_is_no_error_to_shout_about(safe: Path) -> None:
    source = str(Path(__file__).resolve().parents[3] / "src")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "safepy", "level"],
            env={"PYTHONPATH": source},
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            timeout=20,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_light_imports(safe: Path) -> None:
    """The start of `safekit` stays below 150 ms as long as it loads nothing heavy."""
    source = str(Path(__file__).resolve().parents[3] / "src")
    code = (
        "import sys, safepy.cli.main as m\n"
        "try: m.safekit(['level'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_completion_names_the_installed_modules(process: Any) -> None:
    done = process(_SAFEKIT_COMPLETE="bash_complete", COMP_WORDS="safekit stop -m ", COMP_CWORD="3")
    assert done.stdout.split() == ["plain,demo", "plain,other"]


def test_random_words_never_show_a_stack_trace(run: Any, daemon: FakeManager) -> None:
    """Every combination is a success or one line, whatever is typed."""
    names = [name for name in WHERE if name not in ("waitstop", "waitstate", "log")]
    words = [
        *names, "list", "config", "on", "off", "status", "-m", "demo", "-m", "demo", "-v", "-o",
        "json", "-r", "x.y", "-i", "-A", "-s", "3", "", "-", "--", "\udcff", "\0", "💥", "-lq",
        "9" * 400, "%s%n", "/tmp", "a\nb", "-p", "--help",
    ]  # fmt: skip
    chance = random.Random(20261123)
    for _ in range(400):
        typed = [chance.choice(words) for _ in range(chance.randint(1, 5))]
        if "waitstart" in typed or "shutdown" in typed:
            continue
        done = run(*typed)
        assert isinstance(done.exception, SystemExit | None), typed
        assert "Traceback" not in done.output and "internal error" not in done.output, (
            typed,
            done.output,
        )
        assert 0 <= done.exit_code <= 10, typed
