"""Commands to a real daemon: a flood, a daemon that hangs, clean, the command log, scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pair import LIMIT_S, MODULE, config, until
from test_daemon_pair import MODULE_ID, PULSE_MS, TIMEOUT_MS, Pair

from safepy.admin.client import Client
from safepy.errors import DaemonAbsent, SafekitError
from safepy.storage import modulelog, resources
from safepy.storage.modulelog import ALL, Filter
from safepy.storage.resources import CHANGES_PER_S

SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        made.n1.start()
        made.n1.install(config(PULSE_MS, TIMEOUT_MS), MODULE_ID)
        made.n1.configure()
        yield made
    finally:
        made.n1.end()
        made.n2.end()


def typed(pair: Pair, *words: str) -> subprocess.CompletedProcess[str]:
    """`safekit WORDS` on n1."""
    return subprocess.run(
        [sys.executable, "-m", "safepy", *words],
        env=os.environ
        | {
            "PYTHONPATH": str(SOURCE),
            "SAFE": str(pair.n1.safe),
            "SAFEVAR": str(pair.n1.var),
            "SAFEMODULE": MODULE,
            "SSH_CLIENT": "10.9.8.7 1 22",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_a_resource_that_is_set_without_pause_disturbs_nothing(pair: Pair) -> None:
    pair.n2.start()
    pair.n2.install(config(PULSE_MS, TIMEOUT_MS), MODULE_ID)
    pair.n2.configure()
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("n1 alone"))
    pair.n2.act("start")
    pair.become("PRIM Ready", "SECOND Ready")
    count = 1_500

    def flood(name: str) -> None:
        client = Client(pair.n1.socket)
        for number in range(count):
            value = "down" if number % 2 else "up"
            client.call("resource.set", MODULE, name=name, value=value, identity="mad")
        client.call("resource.set", MODULE, name=name, value="last", identity="mad")

    names = [f"custom.mad{number}" for number in range(3)]
    threads = [threading.Thread(target=flood, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert pair.n1.shown == "PRIM Ready", pair.story("disturbed")
        threading.Event().wait(0.05)
    pair.become("PRIM Ready", "SECOND Ready")
    log = str(pair.n1.var / "modules" / MODULE / "log.db")
    said = modulelog.read(log, 100_000, Filter(text="custom.mad"))
    assert 0 < len(said) < 200
    database = str(pair.n1.var / "modules" / MODULE / "resource.db")
    for name in names:
        until(
            lambda name=name: (
                resources.history(database, name)[:1]  # type: ignore[misc]
                and resources.history(database, name)[0].value == "last"
            ),
            lambda: "the last value never reached the history",
        )
        history = resources.history(database, name, 100_000)
        span_s = history[0].time_s - history[-1].time_s
        assert len(history) <= (CHANGES_PER_S + 1) * (span_s + 2)
    lost = [line for line in pair.n2.lines() if "heartbeat" in line and "down" in line]
    assert not lost, pair.story("a heartbeat was lost")
    commands = modulelog.read_commands(str(pair.n1.var / "log.db"), 100_000, ALL)
    assert len(commands) < 100


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("state.local", "custom, tcp and so on"),
        ("heart.started", "custom, tcp and so on"),
        ("usersetting.failover", "safekit failover on|off"),
        ("rfs.uptodate", "custom, tcp and so on"),
    ],
)
def test_what_safepy_says_of_itself_nobody_else_says(pair: Pair, name: str, hint: str) -> None:
    before = typed(pair, "get", "-r", name).stdout
    done = typed(pair, "set", "-r", name, "-v", "PRIM")
    assert done.returncode == 1 and hint in done.stderr
    assert f"{name} is set by safepy itself" in done.stderr
    assert typed(pair, "get", "-r", name).stdout == before


def test_a_daemon_that_is_stopped_by_a_signal_is_left_in_time(pair: Pair) -> None:
    pair.n1.freeze(True)
    with pytest.raises(DaemonAbsent, match=r"did not answer within 0\.3 seconds"):
        Client(pair.n1.socket, answer_s=0.3).call("state", MODULE)
    pair.n1.freeze(False)
    assert Client(pair.n1.socket).call("state", MODULE)


def test_the_command_log_says_who_did_what_from_where_and_how_it_ended(pair: Pair) -> None:
    assert typed(pair, "restart").returncode == 1
    assert typed(pair, "failover", "off").returncode == 0
    assert typed(pair, "state").returncode == 0
    found: list[modulelog.CommandLine] = []

    def written() -> bool:
        found[:] = [
            line
            for line in modulelog.read_commands(str(pair.n1.var / "log.db"), 100, ALL)
            if line.mark == "END" or "10.9.8.7" in line.text
        ]
        return len([line for line in found if line.mark == "START"]) == 2

    until(written, lambda: str(found))
    (refused, off) = [line for line in found if line.mark == "START"]
    user = "-u root@10.9.8.7"
    assert (refused.module, refused.text) == (MODULE, f"restart {user}")
    assert off.text == f"failover off {user}"
    until(
        lambda: (
            {line.pid: line.text for line in found if line.mark == "END"}.keys()
            >= {refused.pid, off.pid}
            or written() is None
        ),
        lambda: str(found),
    )
    ends = {line.pid: line.text for line in found if line.mark == "END"}
    assert (ends[refused.pid], ends[off.pid]) == ("1", "0")


def test_clean_forgets_and_ends_what_is_left(pair: Pair) -> None:
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("n1 alone"))
    with pytest.raises(SafekitError, match="its resources are in use"):
        pair.n1.ask("clean", what="resource")
    pair.n1.ask("clean", what="process")
    until(lambda: pair.n1.shown == "STOP NotReady", lambda: pair.story("stopped"))
    assert "stop_prim force WAIT STOP stop" in " / ".join(pair.n1.calls), pair.n1.calls
    pair.n1.ask("resource.set", name="custom.x", value="up")
    assert pair.n1.ask("resource.get", name="custom.x") == "up"
    pair.n1.ask("clean", what="all")
    with pytest.raises(SafekitError, match=r"no resource custom\.x"):
        pair.n1.ask("resource.get", name="custom.x")
    until(
        lambda: not [line for line in pair.n1.lines() if "prim" in line],
        lambda: pair.story("the log is not empty"),
    )
    pair.n1.act("start")
    until(lambda: pair.n1.shown != "STOP NotReady", lambda: pair.story("usable again"))


def test_the_modules_own_scripts_speak_and_are_bounded(pair: Pair) -> None:
    folder = pair.n1.safe / "private" / "modules" / MODULE / "bin"
    for name, text in {
        "level": 'echo "level of $SAFEMODULE in $SAFEUSERBIN on $NODE"',
        "state": "echo begun; exit 3",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    said = typed(pair, "level")
    assert said.returncode == 0 and said.stdout.splitlines()[-1] == (
        f"level of {MODULE} in {folder} on n1"
    )
    said = typed(pair, "state", "-v")
    assert said.returncode == 0 and said.stdout.splitlines()[-1] == "begun"
    assert "begun" not in typed(pair, "state").stdout
