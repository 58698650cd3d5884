"""A command loads little, and comes back when the daemon does not answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_manager import FakeManager

from safepy.admin.api import VERBS
from safepy.model import Snapshot

ROOT = Path(__file__).resolve().parents[3]
#: Never in the process of a command.
HEAVY = {
    "aiohttp", "asyncio", "asyncio_dgram", "concurrent", "cronsim", "cryptography", "email", "http",
    "lxml", "psutil", "sqlite3", "ssl", "xxhash", "yaml",
}  # fmt: skip
#: All of ours that a command needs that only says "do it" to the daemon.
PLAIN = {
    "safepy", "safepy.errors", "safepy.config", "safepy.config.names", "safepy.config.paths",
    "safepy.wire", "safepy.wire.admin", "safepy.admin", "safepy.admin.client",
    "safepy.admin.limits", "safepy.admin.names", "safepy.cli", "safepy.cli.main",
    "safepy.cli.context", "safepy.cli.output", "safepy.cli.table", "safepy.cli.unsupported",
}  # fmt: skip


def imported(*words: str) -> set[str]:
    code = (
        "import sys, json\n"
        "import safepy.cli.main as m\n"
        "try: m.safekit(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["start", "-m", "demo"], {"control", "consent"}),
        (["stop", "-m", "demo"], {"control", "consent"}),
        (["prim", "-m", "demo"], {"control", "consent"}),
        (["printe", "-m", "demo", "text"], {"printing"}),
        (["set", "-m", "demo", "-r", "custom.x", "-v", "up", "-i", "c"], {"resources"}),
        (["get", "-m", "demo", "-r", "rfs.uptodate"], {"resources"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_plain_command_loads_what_it_needs_and_nothing_else(
    safe: Path, daemon: FakeManager, words: list[str], more: set[str]
) -> None:
    found = imported(*words)
    ours = {name for name in found if name.split(".")[0] == "safepy"}
    assert ours <= PLAIN | {f"safepy.cli.{name}" for name in more}
    assert not found & HEAVY


@pytest.mark.parametrize(
    "words",
    [["state"], ["state", "-m", "demo", "-v"], ["level"], ["confinfo", "-m", "demo"], ["--help"]],
    ids=" ".join,
)
def test_no_command_loads_what_the_daemon_is_made_of(
    safe: Path, daemon: FakeManager, words: list[str]
) -> None:
    found = imported(*words)
    assert not found & HEAVY
    layers = {name.split(".")[1] for name in found if name.startswith("safepy.")}
    assert not layers & {"daemon", "worker", "net", "host", "fuse", "dataplane", "checkers", "web"}


def test_the_state_of_a_module_is_shown_without_the_table_of_verbs(
    safe: Path, daemon: FakeManager
) -> None:
    found = imported("state", "-m", "demo")
    assert not found & {"safepy.admin.api", "safepy.admin.values", "safepy.admin.manager"}
    assert VERBS["state"].answer == list[Snapshot]


LISTENER = """
import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["state"], "systemctl status safeadmin shows whether it hangs"),
        (["waitstop", "-m", "demo", "-t", "1"], "systemctl status safeadmin shows whether it"),
        (["restart", "-m", "demo"], "the command may still be under way: see safekit state"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_daemon_that_hangs_is_left_after_a_bounded_time(
    process: Any, safe: Path, words: list[str], hint: str
) -> None:
    """SIGSTOP, as a debugger or a machine that thrashes would do: the socket takes the connection,
    and nobody answers."""
    (safe / "var" / "run").mkdir()
    socket = str(safe / "var" / "run" / "safeadmin.sock")
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER, socket], stdout=subprocess.PIPE
    ) as listener:
        try:
            assert listener.stdout is not None and listener.stdout.readline() == b"ready\n"
            listener.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            done = process(*words, SAFEKIT_ANSWER_S="0.5")
            assert time.monotonic() - began < 15
            assert done.returncode == 1 and done.stdout == ""
            assert "safeadmin did not answer within 0.5 seconds" in done.stderr
            assert hint in done.stderr
        finally:
            listener.kill()


def test_without_a_daemon_a_command_says_so_and_ends(process: Any) -> None:
    done = process("state", SAFEKIT_WAIT_S="0.3")
    assert done.returncode == 1 and "systemctl start safeadmin" in done.stderr
    assert done.stderr.startswith("Waiting for safeadmin .")


def test_what_is_in_files_is_read_without_a_daemon(process: Any) -> None:
    for words in (["log", "-m", "demo"], ["cmdlog"], ["resource", "-m", "demo"], ["level"]):
        done = process(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
