"""How much a resynchronisation looks at, on two real daemons: chosen from the records, carried out
by the workers, shown to people; and the commands of operators about it (reference 6.4 to 6.6)."""

from __future__ import annotations

import os
import shutil
import signal
import time

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
    pair_up,
    until,
)

from safepy.errors import SafekitError
from safepy.model import Snapshot

pytestmark = pytest.mark.kernel


def state_of(node: Daemon) -> Snapshot:
    (snapshot,) = node.ask("state")
    assert isinstance(snapshot, Snapshot)
    return snapshot


def chosen(node: Daemon) -> str:
    """The last word of the log about how much was looked at."""
    lines = [line for line in node.lines() if line.startswith("reintegre Reintegration: ")]
    return lines[-1].removeprefix("reintegre Reintegration: ") if lines else ""


def resource(node: Daemon, name: str) -> str:
    return {name: value for name, value, _ in state_of(node).resources}.get(name, "")


def away(mirror: Mirror) -> None:  # noqa: F811
    """The secondary stops in order, and the primary changes something."""
    mirror.n2.act("stop")
    mirror.become("ALONE Ready", "STOP NotReady")
    (mirror.at(mirror.n1) / "while away").write_text(str(time.monotonic()))


def back(mirror: Mirror, action: str = "start", **words: object) -> None:  # noqa: F811
    mirror.n2.act(action, **words)
    mirror.become("PRIM Ready", "SECOND Ready")
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)


def test_a_clean_return_looks_at_zones_and_a_crash_at_names(mirror: Mirror) -> None:  # noqa: F811
    pair_up(mirror)
    assert chosen(mirror.n1).startswith("everything"), mirror.story("the first one")
    # A join is a checkpoint.
    assert [state_of(node).record.checkpoint for node in mirror.nodes] == [1, 1]
    away(mirror)
    back(mirror)
    assert [state_of(node).record.checkpoint for node in mirror.nodes] == [2, 2]
    assert "zones only" in chosen(mirror.n1), mirror.story("zones")
    assert "zones only" in state_of(mirror.n1).synchronisation
    # The primary's daemon and worker are killed: it comes back as one that crashed.
    os.kill(mirror.worker(mirror.n1), signal.SIGKILL)
    until(lambda: mirror.n2.shown in ("ALONE Ready", "PRIM Ready"), lambda: mirror.story("lead"))
    mirror.become("SECOND Ready", "PRIM Ready")
    assert "names and attributes" in chosen(mirror.n2), mirror.story("a walk")
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)


def test_what_was_said_of_the_next_synchronisation(mirror: Mirror) -> None:  # noqa: F811
    pair_up(mirror)
    away(mirror)
    back(mirror, "second", fullsync=True)
    assert "second fullsync" in chosen(mirror.n1), mirror.story("second fullsync")
    assert resource(mirror.n2, "usersetting.rfssyncmode") == "default"
    away(mirror)
    mirror.n1.ask("rfssync", mode="full")
    until(
        lambda: resource(mirror.n1, "usersetting.rfssyncmode") == "full",
        lambda: mirror.story("full"),
    )
    assert state_of(mirror.n1).sync_policy == "full (rfssync full)"
    # It holds over a restart of the daemon.
    mirror.n1.act("stop")
    mirror.become("STOP NotReady", "STOP NotReady")
    mirror.n1.terminate()
    mirror.n1.start()
    mirror.n1.act("start")
    until(lambda: mirror.n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    back(mirror)
    assert "rfssync full" in chosen(mirror.n1), mirror.story("rfssync full")
    assert resource(mirror.n1, "usersetting.rfssyncmode") == "default"
    with pytest.raises(SafekitError, match="must be ALONE or STOP"):
        mirror.n1.ask("rfssync", mode="external", role="prim", uid="b1")


def test_secondforce_takes_older_files_as_equal(mirror: Mirror) -> None:  # noqa: F811
    """Directories that an operator has filled by other means, and answers for."""
    n1, n2 = mirror.nodes
    here, there = (mirror.data.parent / node.name / "data" for node in mirror.nodes)
    for number in range(30):
        (here / f"file {number}").write_bytes(os.urandom(5000))
    shutil.copytree(here, there, dirs_exist_ok=True)
    when = (there / "file 7").stat().st_mtime_ns
    wrong = os.urandom(5000)
    (there / "file 7").write_bytes(wrong)
    os.utime(there / "file 7", ns=(when, when))
    mirror.begin()
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    since = time.time()
    (mirror.at(n1) / "file 8").write_bytes(os.urandom(5000))
    n2.act("secondforce", since=since)
    mirror.become("PRIM Ready", "SECOND Ready")
    assert "secondforce" in chosen(n1), mirror.story("secondforce")
    assert any("taken as equal" in line for line in n2.lines())
    first, second = mirror.tree(n1), mirror.tree(n2)
    assert second.pop("file 7") == wrong and first.pop("file 7") != wrong
    assert first == second
    # It was a wish of that one time, and rfsverify or everything shows what it has cost.
    away(mirror)
    back(mirror, "second", fullsync=True)


def test_primforce_after_an_interrupted_synchronisation(mirror: Mirror) -> None:  # noqa: F811
    pair_up(mirror)
    away(mirror)
    for number in range(20):
        (mirror.at(mirror.n1) / f"big {number}").write_bytes(os.urandom(4 << 20))
    mirror.n2.act("second", fullsync=True)
    until(lambda: "second fullsync" in chosen(mirror.n1), lambda: mirror.story("begun"))
    mirror.n1.freeze(True)
    os.kill(mirror.worker(mirror.n1), signal.SIGKILL)
    mirror.n1.kill()
    until(lambda: mirror.n2.shown == "WAIT NotReady", lambda: mirror.story("nobody to follow"))
    mirror.n2.act("stop")
    until(lambda: mirror.n2.shown == "STOP NotReady", lambda: mirror.story("stop"))
    mirror.n2.act("prim")
    until(
        lambda: any("Requested prim start aborted" in line for line in mirror.n2.lines()),
        lambda: mirror.story("refused"),
    )
    until(lambda: mirror.n2.shown == "STOP NotReady", lambda: mirror.story("stop"))
    mirror.n2.act("primforce")
    until(lambda: mirror.n2.shown == "ALONE Ready", lambda: mirror.story("forced"))
    assert "forced by an operator" in state_of(mirror.n2).reason
    (mirror.at(mirror.n2) / "after the force").write_text("x")
    mirror.n1.frozen = False
    mirror.n1.start()
    if mirror.n1.shown == "STOP NotReady":
        mirror.n1.act("start")
    mirror.become("SECOND Ready", "PRIM Ready")
    assert "primforce" in chosen(mirror.n2), mirror.story("primforce")
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)
    assert "after the force" in mirror.tree(mirror.n1)


def test_external_synchronisation_from_a_backup(mirror: Mirror) -> None:  # noqa: F811
    mirror.begin()
    n1, n2 = mirror.n1, mirror.n2
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    for number in range(30):
        (mirror.at(n1) / f"file {number}").write_bytes(os.urandom(100_000))
    n1.ask("rfssync", mode="external", role="prim", uid="b1")
    shutil.copytree(mirror.at(n1), mirror.at(n2), dirs_exist_ok=True)
    (mirror.at(n1) / "file 3").write_bytes(b"changed since the backup")
    n2.ask("rfssync", mode="external", role="second", uid="other")
    n2.act("second")
    until(
        lambda: any("is b1, not other" in line for line in n2.lines()),
        lambda: mirror.story("refused"),
    )
    until(lambda: n2.shown == "STOP NotReady", lambda: mirror.story("stopped with an error"))
    n2.ask("rfssync", mode="external", role="second", uid="b1", detect=False)
    back(mirror, "second")
    assert mirror.tree(n2)["file 3"] == b"changed since the backup"
    assert resource(n1, "usersetting.rfssyncuid") == resource(n2, "usersetting.rfssyncuid")
    assert resource(n2, "usersetting.rfssyncuid") == "default"


def test_a_callback_can_keep_a_synchronisation_from_beginning(mirror: Mirror) -> None:  # noqa: F811
    rfs = f'<rfs scripts="on"><replicated dir="{mirror.data}"/></rfs>'
    xml = config(PULSE_MS, TIMEOUT_MS, "", rfs).replace("%NODE%", "one")
    for node in mirror.nodes:
        node.start()
        node.install(xml, MODULE_ID)
        callback = node.safe / "modules" / MODULE / "bin" / "_rfs_callback"
        callback.write_text(
            '#!/bin/sh\necho "$*" >>"$SAFEUSERVAR/callbacks"\n'
            '[ ! -e "$SAFEUSERVAR/no" ] || exit 2\n'
        )
        callback.chmod(0o755)
        node.configure()
    var = mirror.n2.var / "modules" / MODULE
    (var / "no").touch()
    mirror.n1.act("prim")
    until(lambda: mirror.n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    mirror.n2.act("start")
    until(
        lambda: any("_rfs_callback _rfs_startsynch failed" in x for x in mirror.n2.lines()),
        lambda: mirror.story("failed"),
    )
    assert state_of(mirror.n2).record.disk == "UNCONFIGURED"
    assert resource(mirror.n2, "rfs.reintegre_failed") == "true"
    (var / "no").unlink()
    mirror.become("PRIM Ready", "SECOND Ready")
    assert resource(mirror.n2, "rfs.reintegre_failed") == "false"
    assert set((var / "callbacks").read_text().split()) == {"_rfs_startsynch"}
    mirror.n1.act("swap")
    mirror.become("SECOND Ready", "PRIM Ready")
    seen = (mirror.n1.var / "modules" / MODULE / "callbacks").read_text().split()
    assert seen == ["_rfs_pritoscd", "_rfs_startsynch"]


def test_checkpoints_go_on_while_the_pair_lives(mirror: Mirror) -> None:  # noqa: F811
    pair_up(mirror)
    place = mirror.at(mirror.n1) / "before 50"

    def counted() -> bool:
        with place.open("r+b") as file:
            file.write(os.urandom(10))
        return all(state_of(node).record.checkpoint >= 2 for node in mirror.nodes)

    until(counted, lambda: mirror.story("a checkpoint"), 60.0)


def test_syncat_and_syncdelta(mirror: Mirror) -> None:  # noqa: F811
    rfs = f'<rfs syncat="0 0 1 1 *" syncdelta="10"><replicated dir="{mirror.data}"/></rfs>'
    xml = config(PULSE_MS, TIMEOUT_MS, "", rfs).replace("%NODE%", "one")
    for node in mirror.nodes:
        node.start()
        node.install(xml, MODULE_ID)
        node.configure()
    mirror.n1.act("prim")
    until(lambda: mirror.n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    (mirror.at(mirror.n1) / "first").write_text("x")
    mirror.n2.act("start")
    until(
        lambda: any("failover rule rfs_syncat_wait" in line for line in mirror.n2.lines()),
        lambda: mirror.story("waits for the date"),
    )
    assert "rfs.syncat -v up" in state_of(mirror.n2).remedy
    mirror.n2.ask("resource.set", name="rfs.syncat", value="up")
    until(
        lambda: any("Synchronised as scheduled" in line for line in mirror.n2.lines()),
        lambda: mirror.story("synchronised"),
    )
    mirror.become("ALONE Ready", "WAIT NotReady")
    assert mirror.tree(mirror.n2) == mirror.tree(mirror.n1) == {"first": b"x"}
    # The primary is gone for good; the other one was in sync a moment ago.
    mirror.n1.kill()
    until(lambda: mirror.n2.shown == "ALONE Ready", lambda: mirror.story("by consent"))
    assert "forced by syncdelta" in state_of(mirror.n2).reason
    assert resource(mirror.n2, "rfs.synced") == "up"
