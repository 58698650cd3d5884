"""A real daemon with a light module: UP, its scripts, its checks, the probe, maxloop, restarts of
the daemon and forced stops."""

from __future__ import annotations

import http.client
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from one import One
from pair import LIMIT_S, MODULE, until

from safepy.admin.client import Client
from safepy.errors import SafekitError
from safepy.storage import resources


def light(children: str = "", attributes: str = "") -> str:
    return (
        f'<safe><service mode="light" {attributes}>'
        f'<user nicestoptimeout="5" forcestoptimeout="1"/>{children}</service></safe>'
    )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[One]:
    made = One(tmp_path)
    try:
        yield made
    finally:
        made.end()


def probe(node: One) -> int:
    connection = http.client.HTTPConnection(node.address, 9010, timeout=LIMIT_S)
    connection.request("GET", f"/var/modules/{MODULE}/ready.txt")
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_light_module_from_start_to_stop(node: One) -> None:
    node.begin(light())
    node.become("STOP NotReady")
    assert probe(node) == 404
    (row,) = node.ask("modules")
    assert (row.mode, node.ask("ports").heart, node.ask("ports").rfs) == ("light", None, None)
    node.act("start")
    node.become("UP Ready")
    assert node.calls == [
        "transition STOP WAIT start",
        "prestart STOP WAIT start",
        "transition WAIT UP start",
        "start_both WAIT UP start",
    ]
    until(lambda: probe(node) == 200, node.story)
    (shown,) = node.ask("state")
    assert (shown.mode, shown.peer, shown.peer_state) == ("light", "", "")
    assert not any(
        name.startswith(("heartbeat", "rfs", "state.remote")) for name, _, _ in shown.resources
    )

    seen = len(node.calls)
    node.act("restart")
    until(lambda: len(node.calls) == seen + 3 and node.shown == "UP Ready", node.story)
    assert node.called(seen) == [
        "stop_both UP UP stop",
        "stop_both force UP UP stop",
        "start_both UP UP start",
    ]
    for action in ("prim", "second", "swap", "primforce"):
        with pytest.raises(SafekitError, match="light"):
            node.act(action)
        (said,) = node.ask("plan", action=action)
        assert said.startswith("refused, nothing happens: ") and "light" in said
    with pytest.raises(SafekitError, match="light"):
        node.ask("failover", on=False)

    seen = len(node.calls)
    node.act("stopstart")
    until(
        lambda: node.calls[-1] == "start_both WAIT UP start" and len(node.calls) > seen, node.story
    )
    node.become("UP Ready")
    assert node.called(seen)[:2] == ["stop_both UP WAIT stopstart", "transition UP WAIT stopstart"]

    seen = len(node.calls)
    Client(node.socket, wait_s=LIMIT_S).call("shutdown")
    assert node.shown == "STOP NotReady"
    assert list(node.ask("plan", action="stop")) == ["nothing happens: the module is STOP"]
    assert node.called(seen) == [
        "stop_both UP WAIT stop",
        "transition UP WAIT stop",
        "stop_sec force WAIT STOP stop",
        "stop_prim force WAIT STOP stop",
        "stop_second force WAIT STOP stop",
        "stop_both force WAIT STOP stop",
        "poststop WAIT STOP stop",
        "transition WAIT STOP stop",
    ]
    assert any("Action shutdown called by " in line for line in node.lines())
    assert "Traceback" not in node.log.read_text()


def test_errd_restarts_a_light_module_until_maxloop(node: One) -> None:
    watched = '<errd polltimer="1"><proc name="safepy-none" class="both" action="restart"/></errd>'
    node.begin(light(watched, 'maxloop="2"'))
    node.act("start")
    node.become("STOP NotReady", 40.0)
    starts = [call for call in node.calls if call.startswith("start_both")]
    assert starts == ["start_both WAIT UP start"] + 2 * ["start_both UP UP start"]
    assert "heart Action stop called by maxloop" in node.lines()
    # The next daemon knows it, too, until somebody starts the module.
    why = "stopped by maxloop: a detector asked for too many restarts"
    assert node.ask("state")[0].reason == why
    node.kill()
    node.start()
    node.become("STOP NotReady")
    assert node.ask("state")[0].reason == why
    node.act("start")
    node.become("UP Ready")
    noted = str(node.var / "modules" / MODULE / "resource.db")
    kept = [each.value for each in resources.read(noted) if each.name == "heart.fault"]
    assert kept == [""]


def test_it_is_taken_up_when_the_daemon_comes_back(node: One) -> None:
    node.begin(light())
    node.act("start")
    node.become("UP Ready")
    # What a mirror has in its record, a light module has in its resources.
    noted = str(node.var / "modules" / MODULE / "resource.db")
    until(lambda: "heart.started" in [each.name for each in resources.read(noted)], node.story)
    node.kill()
    node.start()
    node.become("UP Ready")
    assert node.calls.count("start_both WAIT UP start") == 2
    assert node.terminate() == 0
    assert node.calls[-2:] == ["poststop WAIT STOP stop", "transition WAIT STOP stop"]


HANGS = 'trap "" TERM\nwhile :; do sleep 0.1; done\n'


def test_a_forced_stop_in_every_state(node: One) -> None:
    """When `stop` has no effect: also of a start script that hangs, and of a stop script that
    ignores signals."""
    node.begin(light())
    node.ask("forcestop")
    assert node.shown == "STOP NotReady"
    node.act("start")
    node.become("UP Ready")
    node.ask("forcestop")
    assert node.shown == "STOP NotReady"
    assert node.calls[-1] == "stop_both force WAIT STOP stop"

    node.put(light(), start_both=HANGS)
    node.configure()
    node.act("start")
    node.become("UP Transient")
    began = time.monotonic()
    node.ask("forcestop")
    assert node.shown == "STOP NotReady"
    assert time.monotonic() - began < LIMIT_S

    node.put(light(), stop_both='[ "$1" = force ] && exit 0\n' + HANGS)
    node.configure()
    node.act("start")
    node.become("UP Ready")
    node.act("stop")
    node.until_called("stop_both UP WAIT stop")
    node.ask("forcestop")
    assert node.shown == "STOP NotReady"
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(node.root) + "/n1/safe/private" not in running.stdout, "no script is left"


def test_a_forced_stop_script_that_hangs_is_called_once_more(node: One) -> None:
    node.begin(light(), stop_both='[ "$1" = force ] || exit 0\n' + HANGS)
    node.act("start")
    node.become("UP Ready")
    node.act("stop")
    node.become("STOP NotReady", 30.0)
    forced = [call for call in node.calls if call.startswith("stop_both force")]
    assert len(forced) == 2, node.story()
    assert len([call for call in node.calls if call.startswith("stop_prim force")]) == 1
    assert node.calls[-2:] == ["poststop WAIT STOP stop", "transition WAIT STOP stop"]
