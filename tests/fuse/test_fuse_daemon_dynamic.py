"""A replicated module whose configuration changes while it is ALONE, and WAIT on the other
node: the worker goes on with other figures, and its replication moves to another network."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_fuse_daemon_pair import (
    MODULE,
    MODULE_ID,
    PULSE_MS,
    TIMEOUT_MS,
    Daemon,
    Mirror,
    config,
    mirror,  # noqa: F401 - a fixture
    until,
)

from safepy.daemon.plan import rfs_port
from safepy.errors import SafekitError

pytestmark = pytest.mark.kernel


def two_lans(mirror: Mirror) -> None:  # noqa: F811
    """A second network, with other loopback addresses."""
    lans = ""
    for lan, shift in (("default", 0), ("second", 100)):
        nodes = ""
        for node in mirror.nodes:
            base, _, last = node.address.rpartition(".")
            nodes += f'<node name="{node.name}" addr="{base}.{int(last) + shift}"/>'
        lans += f'<lan name="{lan}">{nodes}</lan>'
    for node in mirror.nodes:
        (node.var / "cluster" / "cluster.xml").write_text(f"<cluster><lans>{lans}</lans></cluster>")


def xml(mirror: Mirror, attributes: str = "", flow: str = "") -> str:  # noqa: F811
    rfs = f'<rfs {attributes}>{flow}<replicated dir="{mirror.data}"/></rfs>'
    made = config(PULSE_MS, TIMEOUT_MS, "", rfs).replace("%NODE%", "one")
    if not flow:
        return made
    beat = '<heartbeat name="default"/>'
    return made.replace(beat, f'{beat}<heartbeat name="second"/>')


def change(node: Daemon, text: str) -> None:
    source = node.safe / "modules" / MODULE / "conf" / "userconfig.xml"
    source.write_text(text.replace("%TRACE%", str(node.trace)))
    node.configure()


def listens_on(node: Daemon) -> list[str]:
    """The addresses on which the replication is offered."""
    port = f"{rfs_port(MODULE_ID):04X}"
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A" and local.endswith(f":{port}"):
            parts = bytes.fromhex(local.split(":")[0])[::-1]
            found.append(".".join(map(str, parts)))
    own = node.address.rsplit(".", 1)[1]
    return [address for address in found if int(address.rsplit(".", 1)[1]) % 100 == int(own)]


def test_the_replication_changes_while_alone(mirror: Mirror) -> None:  # noqa: F811
    two_lans(mirror)
    n1, n2 = mirror.nodes
    for node in mirror.nodes:
        node.start()
        node.install(xml(mirror), MODULE_ID)
        node.configure()
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("n1 alone"))
    (mirror.at(n1) / "first").write_bytes(b"1" * 100_000)
    worker = mirror.worker(n1)
    assert listens_on(n1) == [n1.address]

    with pytest.raises(SafekitError, match="only in STOP") as caught:
        change(n1, xml(mirror, 'locktimeout="50" acl="on" nbrei="3"'))
    assert "<rfs locktimeout>" in caught.value.message and "<rfs acl>" in caught.value.message
    assert n1.shown == "ALONE Ready"

    changed = xml(
        mirror, 'async="none" nbrei="2" reidetail="on" reitimeout="60"', '<flow name="second"/>'
    )
    change(n1, changed)
    moved = n1.address.rsplit(".", 1)[0] + ".101"
    until(lambda: listens_on(n1) == [moved], lambda: mirror.story(str(listens_on(n1))))
    assert mirror.worker(n1) == worker, "the application's mount was not touched"
    (mirror.at(n1) / "second").write_bytes(b"2" * 100_000)

    # The other node does not work with what differs, and is changed while it waits.
    n2.act("start")
    until(lambda: n2.shown == "WAIT NotReady", lambda: mirror.story("n2 waits"))
    change(n2, changed)
    mirror.become("PRIM Ready", "SECOND Ready")
    until(lambda: mirror.tree(n1) == mirror.tree(n2), lambda: mirror.story("equal"))
    assert mirror.worker(n1) == worker
    until(
        lambda: f"reintegre Copied {mirror.data}/first" in n1.lines() + n2.lines(),
        lambda: mirror.story("reidetail names the files"),
    )
    with pytest.raises(SafekitError, match="PRIM Ready"):
        change(n1, xml(mirror))
    assert "heartbeat.second" in {name for name, _ in n2.ask("state")[0].peer_resources}
