"""What an administrator sees of a node that is not well: true at each moment, and said once."""

from __future__ import annotations

import base64
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pair import MODULE, Daemon, config, until
from test_daemon_pair import MODULE_ID, PULSE_MS, TIMEOUT_MS, Pair

from safepy.errors import SafekitError
from safepy.model import Snapshot

HEART_PORT = 8888 + MODULE_ID - 1


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        yield made
    finally:
        made.n1.end()
        made.n2.end()


def look(node: Daemon) -> Snapshot:
    (snapshot,) = node.ask("state")
    assert isinstance(snapshot, Snapshot)
    return snapshot


def resources(node: Daemon) -> dict[str, str]:
    return {name: value for name, value, _ in look(node).resources}


def key_of(node: Daemon) -> Path:
    return node.var / "cluster" / "cluster.key"


def test_another_cluster_key_over_there_is_said(pair: Pair) -> None:
    good = key_of(pair.n2).read_bytes()
    key_of(pair.n2).write_bytes(base64.b64encode(secrets.token_bytes(32)) + b"\n")
    pair.begin()
    until(lambda: look(pair.n1).notes, lambda: pair.story("a note"))
    assert "compare the fingerprints" in look(pair.n1).notes[0]
    assert look(pair.n1).peer_state == "UNKNOWN"
    told = [line for line in pair.n1.lines() if "compare the fingerprints" in line]
    assert len(told) == 1
    key_of(pair.n2).write_bytes(good)
    pair.n2.ask("cluster.config", content=None, source="")
    until(lambda: look(pair.n1).peer_state == "STOP", lambda: pair.story("the peer is heard"))
    assert look(pair.n1).notes == () == look(pair.n2).notes


def test_a_heartbeat_port_in_use_is_named_until_it_is_free(pair: Pair) -> None:
    pair.begin()
    pair.n1.terminate()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((pair.n1.address, HEART_PORT))
        pair.n1.start()
        until(lambda: look(pair.n1).notes, lambda: pair.story("a note"))
        assert look(pair.n1).notes == (
            f"Heartbeat default: UDP port {HEART_PORT} of {pair.n1.address} cannot be used: "
            "Address already in use",
        )
        assert resources(pair.n1)["heartbeatlocaladdr.default"] == "down"
    until(lambda: not look(pair.n1).notes, lambda: pair.story("no note"))
    assert [line for line in pair.n1.lines() if f"UDP port {HEART_PORT}" in line]


def test_nothing_old_is_shown_as_if_it_were_known(pair: Pair) -> None:
    pair.begin()
    until(
        lambda: resources(pair.n1)["heartbeat.default"] == "up",
        lambda: pair.story("the lane is up"),
    )
    pair.n2.kill()
    pair.n1.terminate()
    pair.n1.start()
    found = resources(pair.n1)
    assert found["heartbeat.default"] in ("init", "down")
    assert found["state.remote"] == "UNKNOWN"
    renamed = config(PULSE_MS, TIMEOUT_MS).replace('name="default"', 'name="default" ident="other"')
    pair.n1.install(renamed, MODULE_ID)
    pair.n1.configure()
    found = resources(pair.n1)
    assert "heartbeat.other" in found and "heartbeat.default" not in found


def test_a_process_is_not_called_up_while_nobody_looks(pair: Pair) -> None:
    errd = (
        '<errd polltimer="1"><proc name="sh" class="prim" action="noaction" atleast="-1"/></errd>'
    )
    pair.begin(config(PULSE_MS, TIMEOUT_MS, extra=errd))
    assert resources(pair.n1)["proc.sh"] == "init"
    pair.n1.act("prim")
    until(lambda: resources(pair.n1)["proc.sh"] == "up", lambda: pair.story("errd looks"))
    pair.n1.act("stop")
    until(lambda: pair.n1.shown == "STOP NotReady", lambda: pair.story(f"{MODULE} stops"))
    assert resources(pair.n1)["proc.sh"] == "init"


def test_a_configured_module_lives_on_without_its_edited_folder(pair: Pair) -> None:
    """Only `config` needs it; a start of the daemon, and the guard at boot, do not."""
    pair.begin()
    source = pair.n1.safe / "modules" / MODULE / "conf" / "userconfig.xml"
    kept = source.read_bytes()
    source.unlink()
    pair.n1.terminate()
    pair.n1.start()
    assert look(pair.n1).state == "STOP"
    with pytest.raises(SafekitError, match=r"userconfig\.xml is missing"):
        pair.n1.ask("config")
    assert look(pair.n1).state == "STOP"
    source.write_bytes(kept)
    pair.n1.configure()


def test_a_package_overwrites_nothing(pair: Pair, tmp_path: Path) -> None:
    pair.begin()
    target = tmp_path / "web.safe"
    target.write_text("precious")
    with pytest.raises(SafekitError, match="is there already"):
        pair.n1.ask("module.package", path=str(target))
    assert target.read_text() == "precious"


def watched(pair: Pair) -> bool:
    """Whether somebody looks for the process of the module, beside the product's own."""
    return any(each.enabled for each in pair.n1.ask("errd.list") if each.name == "sh")


def test_settings_have_values_before_somebody_sets_them(pair: Pair) -> None:
    """Scripts ask for them (reference 12)."""
    pair.begin(config(PULSE_MS, TIMEOUT_MS, 'boot="on"'))
    names = ("boot", "checker", "errd", "failover", "encryption")
    found = resources(pair.n1)
    assert [found.get(f"usersetting.{name}") for name in names] == ["on"] * len(names)
    pair.n1.ask("boot", on=False)
    assert resources(pair.n1)["usersetting.boot"] == "on", "the attribute comes first"
    # And the two answers about one configuration are the same.
    (line,) = pair.n1.ask("cluster.state")
    assert line.signature == pair.n1.ask("confinfo").active.signature


def test_settings_of_an_operator_hold_until_the_next_config(pair: Pair) -> None:
    errd = (
        '<errd polltimer="1"><proc name="sh" class="prim" action="noaction" atleast="-1"/></errd>'
    )
    pair.begin(config(PULSE_MS, TIMEOUT_MS, extra=errd))
    pair.n1.act("prim")
    until(lambda: resources(pair.n1)["proc.sh"] == "up", lambda: pair.story("errd looks"))
    pair.n1.ask("errd", on=False)
    assert resources(pair.n1)["proc.sh"] == "init"
    assert not watched(pair)
    pair.n1.ask("failover", on=False)
    pair.n1.act("stop")
    until(lambda: pair.n1.shown == "STOP NotReady", lambda: pair.story("n1 stops"))
    pair.n1.terminate()
    pair.n1.start()
    found = resources(pair.n1)
    assert (found["usersetting.errd"], found["usersetting.failover"]) == ("off", "off")
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("n1 starts"))
    assert not watched(pair) and resources(pair.n1)["proc.sh"] == "init"
    pair.n1.ask("errd", on=True)
    until(lambda: resources(pair.n1)["proc.sh"] == "up", lambda: pair.story("errd looks again"))
    pair.n1.act("stop")
    until(lambda: pair.n1.shown == "STOP NotReady", lambda: pair.story("n1 stops"))
    pair.n1.configure()
    found = resources(pair.n1)
    assert (found["usersetting.errd"], found["usersetting.failover"]) == ("on", "on")


def test_a_module_that_was_restarted_too_often_says_so_in_its_state(pair: Pair) -> None:
    pair.begin(config(PULSE_MS, TIMEOUT_MS, 'maxloop="0"'))
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("n1 alone"))
    pair.n1.act("restart", identity="tester")
    until(lambda: pair.n1.shown == "STOP NotReady", lambda: pair.story("n1 stops"))
    assert "maxloop" in look(pair.n1).reason
