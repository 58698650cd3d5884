"""Checks in real daemons: tcp restarts the application, a program of one's own says where it may
run, one module depends on another, and everything can be switched off."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from one import One
from pair import LIMIT_S, MODULE, Daemon, until
from test_daemon_pair import MODULE_ID, PULSE_MS, TIMEOUT_MS, Pair, pair  # noqa: F401 - a fixture

import safepy
from safepy.admin.client import Client

#: Tells its resource what stands in a file, and only when it changed (reference 11.1).
GATE = f"""#!/bin/sh
last=
while kill -0 $PPID 2>/dev/null; do
    now=$(cat "$3/gate.$NODE" 2>/dev/null || cat "$3/gate")
    if [ "$now" != "$last" ]; then
        PYTHONPATH={Path(safepy.__file__).parents[1]} \
            {sys.executable} -m safepy set -r "$2" -v "$now" -i gate -m "$1" && last=$now
    fi
    sleep 0.1
done
"""
#: A rule acts at once.
AT_ONCE = '<failover period="100" handle_time="0"/>'


def xml(checks: str, service: str = "", mode: str = "mirror") -> str:
    heart = f'<heart pulse="{PULSE_MS}" timeout="{TIMEOUT_MS}"><heartbeat name="default"/></heart>'
    return f"""<safe><service mode="{mode}" {service}>
  {heart if mode == "mirror" else ""}
  <user nicestoptimeout="5" forcestoptimeout="5">
    <var name="NODE" value="%NODE%"/><var name="TRACE" value="%TRACE%"/>
  </user>
  <check>{checks}</check>{AT_ONCE}
</service></safe>"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[One]:
    made = One(tmp_path)
    try:
        yield made
    finally:
        made.end()


def value(node: Daemon, resource: str, module: str = MODULE) -> str:
    text: str = Client(node.socket, wait_s=LIMIT_S).call("resource.get", module, name=resource)
    return text


def story(node: Daemon) -> str:
    return "\n".join([node.shown, *node.lines(), *node.calls, node.log.read_text()[-2000:]])


class Port:
    """A port of this host that is open, or refuses."""

    def __init__(self) -> None:
        self._server = socket.socket()
        self._server.bind(("127.0.0.1", 0))
        self.number: int = self._server.getsockname()[1]

    def open(self) -> None:
        if self._server.fileno() < 0:
            self._server = socket.socket()
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._server.bind(("127.0.0.1", self.number))
        self._server.listen(64)

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    made.close()


def tcp(port: Port) -> str:
    return (
        '<tcp ident="sql" when="prim" action="restart">'
        f'<to addr="127.0.0.1" port="{port.number}" interval="1s" timeout="2s"/></tcp>'
    )


def test_a_port_that_closes_restarts_the_primary_and_the_pair_lives_on(
    pair: Pair,  # noqa: F811
    port: Port,
) -> None:
    port.open()
    pair.begin(xml(tcp(port), 'maxloop="1000"'))
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("alone"))
    pair.n2.act("start")
    pair.become("PRIM Ready", "SECOND Ready")
    until(lambda: value(pair.n1, "tcp.sql") == "up", lambda: pair.story("up"))
    # Nobody looks where the application does not run.
    assert value(pair.n2, "tcp.sql") == "init"
    port.close()
    until(lambda: "start_prim PRIM PRIM start" in pair.n1.calls, lambda: pair.story("restarted"))
    port.open()
    until(lambda: value(pair.n1, "tcp.sql") == "up", lambda: pair.story("up again"))
    pair.become("PRIM Ready", "SECOND Ready")
    lines = pair.n1.lines()
    assert "heart Action restart from failover rule t_sql" in lines
    assert "tcpcheck Resource tcp.sql set to down by tcpcheck" in lines
    assert f"tcpcheck tcp.sql: 127.0.0.1 port {port.number}: Connection refused" in lines


def test_a_program_decides_where_the_application_may_run(
    pair: Pair,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "gate").write_text("up")
    gate = f'<custom ident="gate" exec="gate.sh" arg="{tmp_path}" when="pre" action="wait"/>'
    for each in (pair.n1, pair.n2):
        folder = each.safe.parent / "package" / "bin"
        folder.mkdir(parents=True)
        (folder / "gate.sh").write_text(GATE)
        (folder / "gate.sh").chmod(0o755)
    pair.begin(xml(gate))
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("alone"))
    pair.n2.act("start")
    pair.become("PRIM Ready", "SECOND Ready")
    (tmp_path / "gate.n1").write_text("down")
    pair.become("WAIT NotReady", "ALONE Ready")
    assert "heart Action wait from failover rule c_gate" in pair.n1.lines()
    assert "stop_prim PRIM WAIT stopwait" in pair.n1.calls
    (tmp_path / "gate.n1").write_text("up")
    pair.become("SECOND Ready", "PRIM Ready")


def test_a_start_waits_for_the_first_word_of_a_program_that_is_killed_meanwhile(
    node: One, tmp_path: Path
) -> None:
    gate = f'<custom ident="gate" exec="gate.sh" arg="{tmp_path}" when="pre" action="wait"/>'
    node.source.joinpath("bin").mkdir(parents=True)
    path = node.source / "bin" / "gate.sh"
    path.write_text("#!/bin/sh\nexit 7\n")
    path.chmod(0o755)
    node.begin(xml(gate).replace("%NODE%", "n1").replace("%TRACE%", str(node.trace)))
    node.act("prim")
    text = "The checker of custom.gate died: exit code 7"
    until(lambda: f"customcheck {text}; again in 1 s" in node.lines(), node.story)
    (shown,) = node.ask("state")
    assert (node.shown, value(node, "custom.gate")) == ("WAIT Transient", "init")
    assert text in shown.notes
    # Whoever else knows may say so (a checker of one's own that runs elsewhere).
    node.ask("resource.set", name="custom.gate", value="up", identity="somebody")
    node.become("ALONE Ready")


def test_switched_off_nothing_is_tested_and_nothing_holds(node: One, port: Port) -> None:
    check = tcp(port).replace('when="prim" action="restart"', 'when="pre" action="wait"')
    node.begin(xml(check).replace("%NODE%", "n1").replace("%TRACE%", str(node.trace)))
    node.act("prim")
    node.become("WAIT NotReady")
    (shown,) = node.ask("state")
    assert "t_sql" in shown.reason and "checker off" in shown.remedy
    node.ask("checker", on=False)
    node.become("ALONE Ready")
    assert (value(node, "tcp.sql"), value(node, "usersetting.checker")) == ("init", "off")
    # It holds over a restart of the daemon, until the opposite is said.
    node.act("stop")
    node.become("STOP NotReady")
    assert node.terminate() == 0
    node.start()
    node.act("prim")
    node.become("ALONE Ready")
    assert value(node, "usersetting.checker") == "off"
    node.ask("checker", on=True)
    until(lambda: value(node, "tcp.sql") == "down", node.story)
    node.become("WAIT NotReady")
    port.open()
    until(lambda: value(node, "tcp.sql") == "up", node.story)


def test_a_module_follows_another_one(node: One) -> None:
    """Not started before it is ready, restarted when it was restarted (userconfig 15.6)."""
    leader = '<safe><service mode="light"><user/></service></safe>'
    node.begin(leader)
    depends = (
        '<safe><service mode="light"><user/><check><module name="web">'
        f'<to addr="{node.address}" interval="1s" timeout="2s"/></module></check>{AT_ONCE}'
        "</service></safe>"
    )
    package = node.root / "dependent"
    (package / "conf").mkdir(parents=True)
    (package / "bin").mkdir()
    (package / "conf" / "userconfig.xml").write_text(depends)

    def ask(verb: str, **args: Any) -> Any:
        return Client(node.socket, wait_s=LIMIT_S).call(verb, "dep", **args)

    def shown() -> str:
        (snapshot,) = ask("state")
        return f"{snapshot.state} {snapshot.status}"

    def lines() -> list[str]:
        log = node.var / "modules" / "dep" / "log.db"
        from safepy.storage import modulelog

        found = modulelog.read(str(log), 1000, modulelog.Filter(None))
        return [f"{line.origin} {line.text}" for line in found]

    ask("module.install", source=str(package), module_id=MODULE_ID, replace=True)
    ask("config")
    ask("action", action="start")
    until(lambda: shown() == "WAIT NotReady", lambda: f"{shown()} {lines()}")
    assert value(node, f"module.web_{node.address}", "dep") == "down"
    node.act("start")
    node.become("UP Ready")
    until(lambda: shown() == "UP Ready", lambda: f"{shown()} {lines()}")
    node.act("restart")
    wanted = "heart Action stopstart called by modulecheck"
    until(lambda: wanted in lines(), lambda: "\n".join(lines()))
    until(lambda: shown() == "UP Ready", lambda: f"{shown()} {lines()}")
