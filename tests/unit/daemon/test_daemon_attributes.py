"""Attributes of `<service>`, `<heart>` and `<user>` whose effect shows in a whole daemon only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from one import MODULE_ID, One
from pair import MODULE, until

from safepy.config import cluster, userconfig
from safepy.config.paths import Paths
from safepy.daemon.plan import plan_module


@pytest.fixture
def node(tmp_path: Path) -> Iterator[One]:
    made = One(tmp_path)
    try:
        yield made
    finally:
        made.end()


def light(service: str = "", user: str = "") -> str:
    return f'<safe><service mode="light" {service}><user {user}/></service></safe>'


def test_boot_delay_comes_before_the_start_at_boot(node: One) -> None:
    node.begin(light('boot="on" boot_delay="3s"'))
    assert node.terminate() == 0
    # The next start of the daemon is the first one since the host booted.
    noted = Paths(node.safe, node.var).run / "boot_id"
    noted.unlink()
    before_s = time.monotonic()
    node.start()
    assert node.shown == "STOP NotReady"
    until(lambda: "prestart STOP WAIT start" in node.calls, node.story)
    assert time.monotonic() - before_s >= 3.0


def logs(node: One) -> list[Path]:
    return sorted(Paths(node.safe, node.var).module(MODULE).var.glob("userlog_*_prestart.ulog"))


@pytest.mark.parametrize(
    ("user", "kept"), [('logging="none"', 0), ('logging="userlog" userlogsize="1"', 1)]
)
def test_logging_and_userlogsize(node: One, user: str, kept: int) -> None:
    node.begin(light(user=user), prestart="head -c 100000 /dev/zero | tr '\\0' x\n")
    node.act("start")
    until(lambda: any("prestart" in line for line in node.calls), node.story)
    node.act("stop")
    node.become("STOP NotReady")
    assert len(logs(node)) == kept, logs(node)
    # What is too long is cut, a little later: a sentence says so.
    until(lambda: all(0 < log.stat().st_size < 1_200 for log in logs(node)), node.story)
    assert all("the rest is discarded" in log.read_text() for log in logs(node))


def test_heartbeats_have_the_addresses_of_their_lan_and_the_port_of_heart(tmp_path: Path) -> None:
    lans = "".join(
        f'<lan name="{lan}"><node name="a" addr="127.0.{net}.1"/>'
        f'<node name="b" addr="127.0.{net}.2"/></lan>'
        for net, lan in enumerate(("default", "private"), 1)
    )
    nodes = cluster.parse(f"<cluster><lans>{lans}</lans></cluster>".encode(), "cluster.xml")
    beats = '<heartbeat name="default"/><heartbeat name="private" ident="flow"/>'
    xml = f'<safe><service mode="mirror"><heart port="9001">{beats}</heart>'
    xml += f'<rfs><replicated dir="{tmp_path}"/></rfs></service></safe>'
    paths = Paths(tmp_path / "safe", tmp_path / "var").module(MODULE)
    found = userconfig.parse(xml.encode(), "userconfig.xml", {})
    plan = plan_module(paths, MODULE_ID, found, nodes, "a", "b")
    assert [(lane.name, lane.local, lane.peer, lane.port) for lane in plan.lanes] == [
        ("default", "127.0.1.1", "127.0.1.2", 9001),
        ("flow", "127.0.2.1", "127.0.2.2", 9001),
    ]
    # The replication goes over the lan of the ident "flow".
    assert (plan.flow_local, plan.flow_peer) == ("127.0.2.1", "127.0.2.2")
