"""Two real daemons play a mirror module without replication, with a fast heart."""

from __future__ import annotations

import base64
import http.client
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from pair import LIMIT_S, MODULE, Daemon, config, until

from safepy.errors import SafekitError

PULSE_MS, TIMEOUT_MS = 200, 1000
MODULE_ID = 37


class Pair:
    def __init__(self, root: Path) -> None:
        # 127/8 is all of this host: addresses of our own keep the ports free.
        net = f"127.{os.getpid() % 250 + 1}.{secrets.randbelow(250) + 1}"
        nodes = "".join(f'<node name="n{n}" addr="{net}.{n}"/>' for n in (1, 2))
        cluster = f'<cluster><lans><lan name="default">{nodes}</lan></lans></cluster>'
        key = base64.b64encode(secrets.token_bytes(32)) + b"\n"
        self.n1, self.n2 = (Daemon(root, f"n{n}", f"{net}.{n}", key, cluster) for n in (1, 2))

    def begin(self, xml: str = "") -> None:
        for node in (self.n1, self.n2):
            node.start()
            node.install(xml or config(PULSE_MS, TIMEOUT_MS), MODULE_ID)
            node.configure()

    def become(self, one: str, two: str, limit_s: float = LIMIT_S) -> float:
        """Wait until the nodes show these states; the seconds it took."""
        return until(
            lambda: (self.n1.shown, self.n2.shown) == (one, two),
            lambda: self.story(f"wanted {one} and {two}"),
            limit_s,
        )

    def story(self, wanted: str) -> str:
        parts = [wanted]
        for node in (self.n1, self.n2):
            parts += [f"--- {node.name}: {node.shown}", *node.lines()]
            parts += [node.log.read_text()[-3000:]]
        return "\n".join(parts)

    @property
    def trace(self) -> list[str]:
        return self.n1.trace.read_text().split() if self.n1.trace.exists() else []


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        yield made
    finally:
        made.n1.end()
        made.n2.end()


def probe(node: Daemon) -> int:
    connection = http.client.HTTPConnection(node.address, 9010, timeout=LIMIT_S)
    connection.request("GET", f"/var/modules/{MODULE}/ready.txt")
    status = connection.getresponse().status
    connection.close()
    return status


def test_start_stop_take_over_and_return(pair: Pair) -> None:
    pair.begin()
    pair.become("STOP NotReady", "STOP NotReady")
    assert probe(pair.n1) == 404
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("n1 alone"))
    assert probe(pair.n1) == 200
    pair.n2.act("start")
    pair.become("PRIM Ready", "SECOND Ready")
    assert (probe(pair.n1), probe(pair.n2)) == (200, 404)
    assert pair.trace == ["n1"]
    # The resources of both sides travel in the heartbeats.
    until(
        lambda: (
            pair.n1.peer_resources.get("state.local") == "SECOND Ready"
            and pair.n2.peer_resources.get("state.local") == "PRIM Ready"
        ),
        lambda: pair.story("resources"),
    )
    assert "state.remote" not in pair.n1.peer_resources

    # A clean stop hands over at once, and after the application has stopped here.
    pair.n1.act("stop")
    took_s = pair.become("STOP NotReady", "ALONE Ready")
    assert pair.trace == ["n1", "-n1", "n2"], pair.story("order")
    assert took_s < LIMIT_S
    pair.n1.act("start")
    pair.become("SECOND Ready", "PRIM Ready")

    # The crash of the primary's daemon: the other one takes over after the time-out.
    pair.n2.kill()
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("take-over"))
    assert pair.trace == ["n1", "-n1", "n2", "n1"]

    # It comes back by itself: prestart first, then it follows.
    pair.n2.start()
    pair.become("PRIM Ready", "SECOND Ready")
    assert pair.n2.calls[0].startswith("transition STOP WAIT start")
    assert any(line.startswith("prestart") for line in pair.n2.calls)

    pair.n2.act("swap")
    pair.become("SECOND Ready", "PRIM Ready")
    for node in (pair.n1, pair.n2):
        assert not [line for line in node.log.read_text().splitlines() if "Traceback" in line]


def test_an_orderly_end_of_the_daemon_stops_its_modules(pair: Pair) -> None:
    pair.begin()
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("n1 alone"))
    pair.n2.act("start")
    pair.become("PRIM Ready", "SECOND Ready")
    assert pair.n1.terminate() == 0
    until(lambda: pair.n2.shown == "ALONE Ready", lambda: pair.story("n2 alone"))
    assert pair.trace == ["n1", "-n1", "n2"], pair.story("order")
    assert "stop_prim PRIM WAIT stop" in pair.n1.calls, pair.story(str(pair.n1.calls))
    # The same boot of the host: what ran before runs again.
    pair.n1.start()
    pair.become("SECOND Ready", "PRIM Ready")


def test_a_frozen_daemon_notices_that_it_slept(pair: Pair) -> None:
    pair.begin()
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("n1 alone"))
    pair.n2.act("start")
    pair.become("PRIM Ready", "SECOND Ready")
    pair.n1.freeze(True)
    until(lambda: pair.n2.shown == "ALONE Ready", lambda: pair.story("n2 alone"))
    pair.n1.freeze(False)
    # Without replicated files both led for a moment, and the split brain rule decides (7.5).
    until(
        lambda: {pair.n1.shown, pair.n2.shown} == {"PRIM Ready", "SECOND Ready"},
        lambda: pair.story("one of them leads"),
    )
    assert "stood still" in pair.n1.log.read_text()


def test_two_daemons_of_one_root(pair: Pair) -> None:
    pair.n1.start()
    second = Daemon.__new__(Daemon)
    second.__dict__.update(pair.n1.__dict__)
    second.process = None
    try:
        second.start()
        assert second.process is not None
        assert second.process.wait(LIMIT_S) == 1
        assert "another safeadmin answers" in pair.n1.log.read_text()
    finally:
        second.end()
    assert pair.n1.ask("modules") == []


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (config(PULSE_MS, TIMEOUT_MS).replace('name="default"', 'name="other"'), "no lan"),
        (config(PULSE_MS, TIMEOUT_MS).replace("</safe>", ""), "line"),
        (config(PULSE_MS, TIMEOUT_MS, 'failover="perhaps"'), "failover"),
        (
            config(PULSE_MS, TIMEOUT_MS, "", '<rfs><replicated dir="/no/such/dir"/></rfs>'),
            "no such directory",
        ),
    ],
)
def test_a_broken_configuration_changes_nothing(pair: Pair, broken: str, says: str) -> None:
    pair.n1.start()
    pair.n1.install(config(PULSE_MS, TIMEOUT_MS), MODULE_ID)
    pair.n1.configure()
    before = pair.n1.ask("confinfo")
    pair.n1.install(broken, MODULE_ID)
    with pytest.raises(SafekitError, match=says):
        pair.n1.configure()
    assert pair.n1.ask("confinfo").active == before.active
    assert pair.n1.shown == "STOP NotReady"


def test_a_postconfig_that_refuses_puts_everything_back(pair: Pair) -> None:
    pair.n1.start()
    pair.n1.install(config(PULSE_MS, TIMEOUT_MS), MODULE_ID)
    pair.n1.configure()
    before = pair.n1.ask("confinfo")
    pair.n1.install(config(PULSE_MS, 3 * TIMEOUT_MS), MODULE_ID)
    script = pair.n1.safe / "modules" / MODULE / "bin" / "postconfig"
    script.write_text('#!/bin/sh\ngrep -q heartbeat "$SAFEUSERCONF/safeconf.xml" && exit 1\n')
    script.chmod(0o755)
    with pytest.raises(SafekitError, match="postconfig"):
        pair.n1.configure()
    assert pair.n1.ask("confinfo").active.signature == before.active.signature
    script.write_text("#!/bin/sh\nexit 0\n")
    pair.n1.configure()
    assert pair.n1.ask("confinfo").active.signature != before.active.signature
