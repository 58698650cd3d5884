"""Maintenance, `update`, and how a light module is shown."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from conftest import Run
from fake_manager import READY, FakeManager

from safepy.model import State


def test_maintenance_on_and_off(run: Run, daemon: FakeManager) -> None:
    done = run("maintenance", "on", "-m", "demo", "--for", "2h", "--reason", "new disks")
    assert done.exit_code == 0, done.output
    assert ("maintenance", "demo", True, 7200.0, "new disks", "root") in daemon.asked
    assert "on this node only" in done.stderr
    assert run("maintenance", "off", "-m", "demo").exit_code == 0
    assert ("maintenance", "demo", False, 0.0, "", "root") in daemon.asked


@pytest.mark.parametrize("text", ["", "2", "2w", "-1h", "1e9h", "two hours"])
def test_a_time_that_is_none_is_refused(run: Run, daemon: FakeManager, text: str) -> None:
    done = run("maintenance", "on", "-m", "demo", "--for", text)
    assert done.exit_code == 2
    assert "no time" in done.stderr, done.stderr


def test_it_has_to_have_an_end_and_not_too_late(run: Run, daemon: FakeManager) -> None:
    assert run("maintenance", "on", "-m", "demo").exit_code == 2
    done = run("maintenance", "on", "-m", "demo", "--for", "31d")
    assert done.exit_code == 1
    assert "30 days" in done.stderr


def test_it_is_shown_of_both_nodes(run: Run, daemon: FakeManager) -> None:
    until = time.time() + 3600
    daemon.states["demo"] = [
        replace(
            READY,
            maintenance_until=until,
            maintenance_reason="new disks",
            maintenance_by="root",
            peer_maintenance_until=until,
            peer_resources=(("maintenance.reason", "their disks"),),
        )
    ]
    for words in (("maintenance", "status"), ("state",)):
        shown = run(*words, "-m", "demo").stdout
        assert "by root: new disks" in shown and "their disks" in shown, shown
    said = run("why", "-m", "demo").stdout
    assert "by root (new disks)" in said and "of n2, for another " in said, said
    found = json.loads(run("maintenance", "status", "-m", "demo", "-o", "json").stdout)
    assert found["maintenance"] is True and found["reason"] == "new disks"
    assert json.loads(run("state", "-m", "demo", "-o", "json").stdout)["maintenance_until"] == until
    daemon.states["demo"] = [READY]
    assert run("maintenance", "status", "-m", "demo").stdout == "off\n"


def test_what_is_switched_off_is_a_note(run: Run, daemon: FakeManager) -> None:
    daemon.states["demo"] = [replace(READY, resources=(("usersetting.errd", "off", 1.0),))]
    note = "the process checker is off: no process is watched (safekit errd on -m demo)"
    for words in (("state",), ("state", "-o", "json"), ("why",), ("why", "-o", "json")):
        assert note in run(*words, "-m", "demo").stdout, words


def test_update(run: Run, daemon: FakeManager) -> None:
    assert run("update", "-m", "demo").exit_code == 0
    assert ("update", "demo", "root") in daemon.asked


def test_a_light_module_has_no_peer(run: Run, daemon: FakeManager) -> None:
    daemon.states["demo"] = [
        replace(
            READY, state=State.UP, mode="light", peer="", peer_state="", peer_status="", lanes=()
        )
    ]
    shown = run("state", "-m", "demo", "-v").stdout
    assert "UP Ready" in shown
    assert "peer" not in shown.split("record")[0] and "lanes" not in shown, shown
    assert run("state", "-m", "demo", "-lq").exit_code == 2
