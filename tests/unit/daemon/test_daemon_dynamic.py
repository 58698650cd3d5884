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


def two_lans(node: One) -> None:
    """A second network for heartbeats, with other loopback addresses."""
    base = node.address.rpartition(".")[0]
    lans = "".join(
        f'<lan name="{lan}">'
        + "".join(f'<node name="n{n}" addr="{base}.{n + shift}"/>' for n in (1, 2))
        + "</lan>"
        for lan, shift in (("default", 0), ("second", 100))
    )
    path = node.var / "cluster" / "cluster.xml"
    path.write_text(f"<cluster><lans>{lans}</lans></cluster>")


def hears_on(node: One) -> set[tuple[str, int]]:
    """Addresses and ports on which heartbeats are taken in."""
    found = set()
    base = node.address.rpartition(".")[0]
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        words = line.split()[1].split(":")
        address = ".".join(map(str, bytes.fromhex(words[0])[::-1]))
        if address.startswith(f"{base}."):
            found.add((address.removeprefix(f"{base}."), int(words[1], 16)))
    return found


def test_each_dynamic_element_has_its_effect_at_once(node: One) -> None:
    """Beside those of the test before, and of `<rfs>` (tests/fuse/test_fuse_daemon_dynamic.py):
    reference 18.3."""
    told = fake_systemctl(node, 0)
    two_lans(node)
    slow = mirror("", 'maxloop="0"').replace('nicestoptimeout="5"', 'nicestoptimeout="300"')
    node.begin(slow)
    node.act("start")
    node.become("ALONE Ready")
    (_, port), *others = hears_on(node)
    assert not others
    assert node.ask("loop", change="inc", identity="x").reached
    assert node.ask("resource.get", name="usersetting.boot") == "off"
    with pytest.raises(SafekitError, match=r"no resource tcp\.new"):
        node.ask("resource.get", name="tcp.new")

    heart = (
        f'<heart port="{port + 1}" pulse="200" timeout="1000">'
        '<heartbeat name="default"/><heartbeat name="second" ident="cable"/></heart>'
    )
    user = '<user nicestoptimeout="1" forcestoptimeout="1" logging="none"/>'
    check = (
        '<check><tcp ident="new" when="prim" action="noaction">'
        '<to addr="127.0.0.1" port="1" interval="1"/></tcp></check>'
    )
    service = 'mode="mirror" maxloop="0" loop_interval="0" automatic_reboot="on" boot="on"'
    changed = f'<safe><service {service} boot_delay="3">{heart}{user}{check}</service></safe>'
    node.put(changed, stop_prim='[ "$1" = force ] || exec sleep 60\n')
    logs = node.var / "modules" / MODULE
    written = set(logs.glob("userlog_*"))
    node.configure()
    node.until_called("update ALONE ALONE")
    until(
        lambda: hears_on(node) == {("1", port + 1), ("101", port + 1)},
        lambda: node.story(hears_on(node)),
    )
    until(lambda: node.ask("resource.get", name="tcp.new") == "down", node.story)
    assert "cable" in {name for name, _ in node.ask("state")[0].lanes}
    assert not node.ask("loop", change="check", identity="").reached, "an interval of 0 counts none"
    assert node.ask("resource.get", name="usersetting.boot") == "on"
    node.act("stopstart", identity="watcher")
    until(lambda: told.exists() and told.read_text().endswith("\n"), node.story)
    node.act("stop")
    node.become("STOP NotReady")
    late = "userplug Script stop_prim: time limit passed, killed with everything it had started"
    assert late in node.lines(), node.story()
    assert set(logs.glob("userlog_*")) == written, "logging is none"


def test_a_module_that_waits_is_changed_too(node: One) -> None:
    """WAIT NotReady: what held it is taken out, and it goes on by itself."""
    held = (
        '<check><tcp ident="held" when="pre" action="wait">'
        '<to addr="127.0.0.1" port="1" interval="1"/></tcp></check>'
    )
    node.begin(mirror(held))
    node.act("start")
    node.become("WAIT NotReady")
    node.put(mirror(held, 'defaultprim="lastprim"'))
    with pytest.raises(SafekitError, match="only in STOP: <service defaultprim>"):
        node.configure()
    node.put(mirror())
    node.configure()
    node.become("ALONE Ready")
    with pytest.raises(SafekitError, match=r"no resource tcp\.held"):
        node.ask("resource.get", name="tcp.held")
    assert node.calls.count("prestart STOP WAIT start") == 1, "no second start"
