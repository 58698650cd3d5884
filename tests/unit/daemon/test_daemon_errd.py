"""errd with a real daemon, real processes and real scripts; systemd is a script that reads a
folder (its real answers: tests/e2e)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pair import MODULE, config, until
from test_daemon_pair import PULSE_MS, TIMEOUT_MS, Pair

from safepy.errors import SafekitError

MODULE_ID = 61
#: Prints the states that the test wrote, as `systemctl show` does.
SYSTEMCTL = """#!/bin/sh
cd "$(dirname "$0")/units" || exit 1
[ ! -e hang ] || sleep 60
[ ! -e broken ] || { echo "Failed to connect to bus" >&2; exit 1; }
for unit in "$@"; do
    case $unit in
    *.service)
        load=not-found active=inactive sub=dead
        [ ! -e "$unit" ] || read -r load active sub <"$unit"
        printf 'Id=%s\\nNames=%s\\nLoadState=%s\\nActiveState=%s\\nSubState=%s\\n\\n' \\
            "$unit" "$unit" "$load" "$active" "$sub" ;;
    esac
done
"""
RUNS, FAILED = "loaded active running", "loaded failed failed"


class Node:
    """One daemon, alone; its application are copies of sleep under names of this test."""

    def __init__(self, pair: Pair, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.daemon = pair.n1
        self.root = root
        self.units = root / "path" / "units"
        self.units.mkdir(parents=True)
        stub = root / "path" / "systemctl"
        stub.write_text(SYSTEMCTL)
        stub.chmod(0o755)
        monkeypatch.setenv("PATH", f"{root / 'path'}:{os.environ['PATH']}")
        tag = f"{os.getpid() % 100_000}{os.urandom(2).hex()}"
        self.app, self.agent, self.rogue = (f"{what}{tag}" for what in ("app", "agt", "rog"))
        self.started: list[int] = []

    def begin(self, errd: str, start_prim: str = "", **handlers: str) -> None:
        """The module runs ALONE."""
        for name, value in (("APP", self.app), ("AGENT", self.agent), ("ROGUE", self.rogue)):
            errd = errd.replace(name, value)
        self.daemon.start()
        self.daemon.install(config(PULSE_MS, TIMEOUT_MS, "", errd), MODULE_ID)
        folder = self.daemon.safe / "modules" / MODULE / "bin"
        with (folder / "start_prim").open("a") as script:
            script.write(start_prim)
        for name, text in handlers.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        self.daemon.configure()
        self.daemon.act("prim")
        self.becomes("ALONE Ready")

    def story(self, wanted: str) -> str:
        node = self.daemon
        return "\n".join(
            [wanted, node.shown, *node.calls, *node.lines(), node.log.read_text()[-3000:]]
        )

    def becomes(self, shown: str) -> None:
        until(lambda: self.daemon.shown == shown, lambda: self.story(shown))

    def program(self, name: str) -> Path:
        path = self.root / name
        sleep = shutil.which("sleep")
        assert sleep is not None
        if not path.exists():
            shutil.copy(sleep, path)
        return path

    def launch(self, name: str) -> int:
        """A process of that name that is no child of ours or of the daemon."""
        command = f"{self.program(name)} 600 >/dev/null 2>&1 & echo $!"
        pid = int(subprocess.check_output(["/bin/sh", "-c", command]))
        self.started.append(pid)
        return pid

    def unit(self, name: str, state: str) -> None:
        fresh = self.units / ".new"
        fresh.write_text(f"{state}\n")
        fresh.rename(self.units / f"{name}.service")

    def says(self, line: str, times: int = 1) -> None:
        until(
            lambda: self.daemon.lines().count(line) >= times,
            lambda: self.story(f"{times} times: {line}"),
        )

    def resource(self, name: str) -> str:
        (snapshot,) = self.daemon.ask("state")
        return {each[0]: each[1] for each in snapshot.resources}[name]

    def resource_becomes(self, name: str, value: str) -> None:
        until(lambda: self.resource(name) == value, lambda: self.story(f"{name} {value}"))

    def end(self) -> None:
        for pid in self.started:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        names = {self.app, self.agent, self.rogue}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "comm").read_text().strip() in names:
                    os.kill(int(entry.name), 9)
            except OSError:
                continue  # it has ended meanwhile


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    pair = Pair(tmp_path)
    made = Node(pair, tmp_path, monkeypatch)
    try:
        yield made
    finally:
        pair.n1.end()
        made.end()


def test_a_process_missing_after_each_restart_ends_the_module(node: Node) -> None:
    """The observed sequence of the reference (15.5)."""
    node.begin(
        '<errd polltimer="1"><proc name="APP" class="prim" action="restart"/>'
        '<proc name="AGENT" class="prim" action="restart"/></errd>'
    )
    node.becomes("STOP NotReady")
    lines = node.daemon.lines()
    app = node.app
    for line, times in (
        (f"errd Process {app} not running", 4),
        (f"errd Process {node.agent} not running", 4),  # two that are missing are one detection
        ("heart Action restart called by errd", 4),
        ("heart Action stop called by maxloop", 2),
        ("heart Action stop called by heart : local fault", 1),
        (f"errd Resource proc.{app} set to down by errd", 4),
    ):
        assert lines.count(line) == times, node.story(line)
    # The order of the reference: what was seen, what is done, and what the resource is.
    told = [
        lines.index(line)
        for line in (
            f"errd Process {app} not running",
            f"errd Process {node.agent} not running",
            "heart Action restart called by errd",
            f"errd Resource proc.{app} set to down by errd",
            f"errd Resource proc.{node.agent} set to down by errd",
        )
    ]
    assert told == sorted(told), node.story("order")
    last = lines.index("heart Action stop called by maxloop")
    assert "heart Local state ALONE Transient" in lines[last:]
    assert lines[-2:] == ["heart Action stop called by maxloop", "heart Local state STOP NotReady"]
    assert (node.resource("heart.maxloop"), node.resource(f"proc.{app}")) == ("true", "init")


def test_the_restart_of_a_service_names_what_is_to_be_restarted(node: Node) -> None:
    node.unit("front", RUNS)
    node.unit("worker", RUNS)
    node.begin(
        '<errd polltimer="1">'
        '<proc name="front" service="yes" class="prim" action="restart" restart_services="front"/>'
        '<proc name="worker" service="yes" class="prim" action="restart"'
        ' restart_services="worker, cache"/></errd>'
    )
    node.resource_becomes("proc.front", "up")
    node.resource_becomes("proc.worker", "up")
    rows = {row.name: row for row in node.daemon.ask("errd.list")}
    assert (rows["front"].kind, rows["front"].running, rows["front"].enabled) == (
        "service",
        1,
        True,
    )
    assert rows["safeadmin"].kind == "safekit"
    # A systemd that cannot be asked is no service that is down.
    (node.units / "broken").touch()
    node.says("errd The services cannot be looked at: systemctl: Failed to connect to bus")
    assert (node.resource("proc.front"), node.daemon.shown) == ("up", "ALONE Ready")
    for name in ("front", "worker"):
        node.unit(name, FAILED)
    (node.units / "broken").unlink()
    node.says("errd Service worker not running")
    node.says("heart Action restart called by errd")
    node.unit("front", RUNS)
    node.unit("worker", "loaded activating start")
    node.becomes("ALONE Ready")
    tail = "-Services front, worker, cache"
    until(
        lambda: f"start_prim ALONE ALONE start {tail}" in node.daemon.calls,
        lambda: node.story("start_prim"),
    )
    calls = node.daemon.calls
    assert f"stop_prim ALONE ALONE stop {tail}" in calls
    assert f"stop_prim force ALONE ALONE stop {tail}" in calls
    node.resource_becomes("proc.worker", "up")
    assert "heart Action stop called by maxloop" not in node.daemon.lines()


def test_a_handler_in_a_class_of_its_own(node: Node) -> None:
    node.begin(
        '<errd polltimer="1"><proc name="AGENT" class="agents" action="repair"/>'
        '<proc name="ROGUE" class="both" action="noaction" atleast="-1" atmax="0"/></errd>',
        repair=f'echo "repair $SAFEMODULE $NODE" >>"$SAFEUSERVAR/calls"\n'
        f"{node.program(node.agent)} 600 >/dev/null 2>&1 &",
    )
    with pytest.raises(SafekitError, match="has the class nobody"):
        node.daemon.ask("errd.class", checker_class="nobody", on=True)
    time.sleep(1.5)
    assert node.resource(f"proc.{node.agent}") == "init"  # nobody has enabled its class
    node.daemon.ask("errd.class", checker_class="agents", on=True)
    node.says(f"errd Process {node.agent} not running")
    node.resource_becomes(f"proc.{node.agent}", "up")
    assert node.daemon.calls.count(f"repair {MODULE} n1") == 1
    listed = node.daemon.var / "modules" / MODULE / "errdlist"
    until(
        lambda: f"process {node.agent} class=agents action=repair" in listed.read_text(),
        lambda: listed.read_text(),
    )
    # As many as atmax are too many: said once, and nothing else.
    node.resource_becomes(f"proc.{node.rogue}", "up")
    pid = node.launch(node.rogue)
    node.says(f"errd Process {node.rogue} running 1 times, atmax is 0")
    assert node.resource(f"proc.{node.rogue}") == "down"
    os.kill(pid, 9)
    node.resource_becomes(f"proc.{node.rogue}", "up")
    # Off, it stays off over a restart of the daemon, and a class is not watched in STOP.
    node.daemon.ask("errd", on=False)
    assert node.resource(f"proc.{node.agent}") == "init"
    assert node.resource("usersetting.errd") == "off"
    node.daemon.act("stop")
    node.becomes("STOP NotReady")
    with pytest.raises(SafekitError, match="is STOP: nothing is watched"):
        node.daemon.ask("errd.class", checker_class="agents", on=True)
    node.daemon.ask("errd", on=True)
    node.daemon.act("prim")
    node.becomes("ALONE Ready")
    rows = {row.name: row for row in node.daemon.ask("errd.list")}
    assert not rows[node.agent].enabled and rows[node.rogue].enabled
    assert "heart Action stopstart called by errd" not in node.daemon.lines()


def test_a_class_whose_processes_cannot_be_here_is_not_enabled(node: Node) -> None:
    """On a secondary `errd enable prim` would restart what nobody started; here the class of the
    other role."""
    node.begin(
        '<errd polltimer="1"><proc name="AGENT" class="second" action="restart"/>'
        '<proc name="APP" class="prim" action="noaction" atleast="-1"/></errd>',
        # Redundant, and no error: the class begins when the script is over.
        start_prim='safekit() { :; }; safekit errd enable prim -m "$SAFEMODULE"\n',
    )
    with pytest.raises(SafekitError, match="class second is not watched in ALONE"):
        node.daemon.ask("errd.class", checker_class="second", on=True)
    rows = {row.name: row.enabled for row in node.daemon.ask("errd.list")}
    assert (rows[node.agent], rows[node.app]) == (False, True)
    # What was taken out by hand is taken in again.
    node.daemon.ask("errd.class", checker_class="prim", on=False)
    assert node.resource(f"proc.{node.app}") == "init"
    node.daemon.ask("errd.class", checker_class="prim", on=True)
    node.resource_becomes(f"proc.{node.app}", "up")
    assert not [line for line in node.daemon.lines() if "called by errd" in line]


def test_a_handler_that_fails_or_hangs_is_a_stopstart_and_a_stop_ends_it(node: Node) -> None:
    node.begin(
        '<errd polltimer="1"><proc name="AGENT" class="agents" action="repair"/>'
        '<proc name="APP" class="apps" action="hangs"/></errd>',
        repair="exit 3",
        hangs='echo "hangs $$" >>"$SAFEUSERVAR/calls"\nsleep 4713\n'
        'echo late >>"$SAFEUSERVAR/calls"',
    )
    node.daemon.ask("errd.class", checker_class="agents", on=True)
    node.says("heart Action stopstart called by errd")
    assert "userplug Script repair: exit code 3" in node.daemon.lines()
    until(
        lambda: node.daemon.calls.count("prestart STOP WAIT start") == 2,
        lambda: node.story("again"),
    )
    node.becomes("ALONE Ready")
    rows = {row.name: row for row in node.daemon.ask("errd.list")}
    assert not rows[node.agent].enabled  # nobody enabled it since
    node.daemon.ask("errd.class", checker_class="apps", on=True)
    until(
        lambda: any(call.startswith("hangs") for call in node.daemon.calls),
        lambda: node.story("the handler runs"),
    )
    node.daemon.act("stop")
    node.becomes("STOP NotReady")
    (pid,) = (int(call.split()[1]) for call in node.daemon.calls if call.startswith("hangs"))
    assert not Path(f"/proc/{pid}").exists()
    assert "late" not in node.daemon.calls


def test_kill_ends_what_is_meant_and_nothing_else(node: Node) -> None:
    node.daemon.start()
    one, other = node.launch(node.app), node.launch(node.app)

    def ask(level: str, argregex: str = "", caller: int = 0) -> list[int]:
        rows = node.daemon.ask("kill", name=node.app, level=level, argregex=argregex, caller=caller)
        return [row.pid for row in rows]

    assert ask("test") == sorted([one, other])
    assert ask("9", argregex="no such argument") == []
    assert ask("terminate", caller=one) == [other]
    until(lambda: ask("test") == [one], lambda: ask("test"))
    assert ask("9") == [one]
    until(lambda: ask("test") == [], lambda: ask("test"))
