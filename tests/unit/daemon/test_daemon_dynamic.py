"""A real daemon whose module changes while it runs: what may, what is refused by name, the script
`update`; maintenance; and a reboot that never reboots this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from one import One
from pair import MODULE, until

from safepy.errors import SafekitError


def mirror(children: str = "", attributes: str = "", timeout_ms: int = 1000, user: str = "") -> str:
    return (
        f'<safe><service mode="mirror" {attributes}>'
        f'<heart pulse="100" timeout="{timeout_ms}"><heartbeat name="default"/></heart>'
        f'<user nicestoptimeout="5" forcestoptimeout="5">{user}</user>{children}</service></safe>'
    )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[One]:
    made = One(tmp_path)
    try:
        yield made
    finally:
        made.end()


def missing(action: str, name: str = "safepy-none") -> str:
    return f'<errd polltimer="1"><proc name="{name}" class="prim" action="{action}"/></errd>'


def test_what_is_dynamic_changes_without_a_stop(node: One) -> None:
    node.begin(mirror())
    node.act("start")
    node.become("ALONE Ready")
    before = node.ask("confinfo").active
    seen = len(node.calls)
    # Scripts, their variables, the heart, errd, maxloop: all at once.
    node.put(
        mirror(
            missing("restart"),
            'maxloop="1" boot="on"',
            3000,
            '<var name="COLOUR" value="blue"/>',
        ),
        update='echo "$COLOUR" >>"$SAFEUSERVAR/calls"\n',
        start_prim='echo "new $COLOUR" >>"$SAFEUSERVAR/calls"\n',
    )
    node.configure()
    assert node.ask("confinfo").active.signature != before.signature
    until(lambda: node.called(seen)[:2] == ["update ALONE ALONE", "blue"], node.story)
    # errd is a new one and works at once; the counter has a new limit.
    until(lambda: "new blue" in node.calls, node.story)
    node.become("STOP NotReady", 30.0)
    assert "heart Action stop called by maxloop" in node.lines()
    assert node.calls.count("start_prim ALONE ALONE start") == 1, node.story("one restart")
    assert "Traceback" not in node.log.read_text()


def test_what_is_not_dynamic_is_refused_by_name(node: One) -> None:
    node.begin(mirror())
    node.act("start")
    node.become("ALONE Ready")
    before, seen = node.ask("confinfo").active, len(node.calls)
    data = node.root / "data"
    data.mkdir()
    for xml, name in (
        (mirror("", 'failover="off"'), "<service failover>"),
        (mirror("", 'defaultprim="lastprim"'), "<service defaultprim>"),
        (mirror('<vhost><virtualhostname name="a" envfile="env"/></vhost>'), "<vhost>"),
        (
            mirror("<failover><![CDATA[mine: if (custom.a == down) then stop();]]></failover>"),
            "<failover>",
        ),
        (mirror(f'<rfs><replicated dir="{data}"/></rfs>', timeout_ms=2000), "<rfs>"),
    ):
        node.put(xml)
        with pytest.raises(SafekitError, match="only in STOP") as caught:
            node.configure()
        assert name in caught.value.message, caught.value.message
        assert node.ask("confinfo").active == before
    assert (node.shown, node.called(seen)) == ("ALONE Ready", [])
    # What is the same in other words is no change: an attribute that says its default.
    node.put(mirror("", 'failover="on" defaultprim="alone" maxloop="7"'))
    node.configure()
    node.until_called("update ALONE ALONE")
    # A postconfig that refuses leaves everything as it was.
    active = node.ask("confinfo").active
    node.put(mirror("", 'maxloop="9"'))
    refusing = node.source / "bin" / "postconfig"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    seen = len(node.calls)
    with pytest.raises(SafekitError, match="postconfig"):
        node.configure()
    assert node.ask("confinfo").active.signature == active.signature
    assert (node.shown, node.called(seen)) == ("ALONE Ready", [])


def test_update_is_for_alone_and_up(node: One) -> None:
    node.begin(mirror())
    with pytest.raises(SafekitError, match="STOP NotReady"):
        node.ask("update")
    node.act("start")
    node.become("ALONE Ready")
    node.ask("update")
    node.until_called("update ALONE ALONE")
    # Switches call it too (reference 9.6).
    node.ask("failover", on=False)
    until(lambda: node.calls.count("update ALONE ALONE") == 2, node.story)
    node.ask("errd", on=False)
    until(lambda: node.calls.count("update ALONE ALONE") == 3, node.story)
    # Applying the configuration undoes the switches.
    node.configure()
    until(lambda: node.ask("resource.get", name="usersetting.failover") == "on", node.story)
    assert node.shown == "ALONE Ready"


def test_maintenance_outlives_the_daemon_and_ends_by_itself(node: One) -> None:
    node.begin(mirror(missing("stopstart"), 'maxloop="100"'))
    node.ask("maintenance", on=True, for_s=3600.0, reason="new kernel")
    node.act("start")
    node.become("ALONE Ready")
    held = "heart Action stopstart of errd is not carried out: maintenance"
    until(lambda: held in node.lines(), node.story)
    (shown,) = node.ask("state")
    assert (shown.maintenance_reason, shown.maintenance_by) == ("new kernel", "root")
    assert 3500 < shown.maintenance_until - shown.since < 3700
    assert dict(entry[:2] for entry in shown.resources)["usersetting.maintenance"] == "on"
    node.kill()
    node.start()
    node.become("ALONE Ready")
    (again,) = node.ask("state")
    assert abs(again.maintenance_until - shown.maintenance_until) <= 1
    until(lambda: node.lines().count(held) == 2, node.story)
    assert not any("stopstart" in call for call in node.calls)
    # With another end it goes on; then it is over by itself, and what was held back happens.
    node.ask("maintenance", on=True, for_s=1.0, reason="")
    node.until_called("stop_prim ALONE WAIT stopstart")
    lines = node.lines()
    assert "heart Maintenance is over: automatic actions are possible again" in lines
    with pytest.raises(SafekitError, match="not in maintenance"):
        node.ask("maintenance", on=False)


def fake_systemctl(node: One, code: int) -> Path:
    """The daemon finds this one before the machine's own; it only writes down its arguments."""
    folder = node.root / "bin"
    folder.mkdir()
    told = node.root / "told"
    fake = folder / "systemctl"
    fake.write_text(
        f'#!/bin/sh\necho "$@" >>{told}\n[ {code} = 0 ] || echo "no rights" >&2\nexit {code}\n'
    )
    fake.chmod(0o755)
    node.launcher = ["env", f"PATH={folder}:{os.environ['PATH']}"]
    return told


def test_automatic_reboot_is_told_to_systemd_and_counted(node: One) -> None:
    told = fake_systemctl(node, 0)
    node.begin(mirror("", 'automatic_reboot="on" maxloop="1"'))
    node.act("start")
    node.become("ALONE Ready")
    node.act("stopstart")
    until(lambda: node.calls.count("start_prim WAIT ALONE start") == 2, node.story)
    node.become("ALONE Ready")
    assert not told.exists(), "never for an administrator"
    node.act("stopstart", identity="watcher")
    # The shell makes the file before it writes.
    until(lambda: told.exists() and told.read_text().endswith("\n"), node.story)
    assert told.read_text() == f"reboot --message=stopstart of {MODULE} called by watcher\n"
    assert "heart Action reboot called by watcher: automatic_reboot" in node.lines()
    assert node.shown == "ALONE Ready", "the end of the daemon stops the modules"
    assert node.terminate() == 0
    # The count goes on after the reboot: the next detection is one too many.
    node.start()
    node.become("ALONE Ready")
    node.act("stopstart", identity="watcher")
    node.become("STOP NotReady")
    assert "heart Action stop called by maxloop" in node.lines()
    assert told.read_text().count("\n") == 1


def test_a_server_that_does_not_reboot_stops_and_starts_the_module(node: One) -> None:
    told = fake_systemctl(node, 1)
    node.begin(mirror("", 'automatic_reboot="on"'))
    node.act("start")
    node.become("ALONE Ready")
    node.act("stopstart", identity="watcher")
    until(lambda: node.calls.count("start_prim WAIT ALONE start") == 2, node.story)
    assert told.exists()
    assert any(
        "The server does not reboot" in line and "no rights" in line for line in node.lines()
    )
