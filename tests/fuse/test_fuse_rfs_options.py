"""What `<rfs>` says beyond the directories, with two real daemons: what must hold before a start,
callbacks, the schedule, figures and the tools that look."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "daemon"))

from pair import MODULE, Daemon, config, until
from test_fuse_daemon_pair import MODULE_ID, PULSE_MS, Mirror
from test_fuse_daemon_pair import mirror as mirror  # a fixture

import safepy
from safepy.admin.values import SyncEstimate
from safepy.errors import SafekitError

pytestmark = pytest.mark.kernel

#: Nothing crashes here: patience with a busy machine costs nothing.
TIMEOUT_MS = 15_000

#: Says what it is asked, and refuses while there is a file `refuse`.
CALLBACK = """#!/bin/sh
echo "$(basename "$0") $*" >>"$SAFEUSERVAR/calls"
[ ! -e "$SAFEUSERVAR/refuse" ] || exit 2
"""


def begin(
    mirror: Mirror, attributes: str = "", inside: str = "", timeout_ms: int = TIMEOUT_MS
) -> None:
    rfs = f'<rfs {attributes}><replicated dir="{mirror.data}">{inside}</replicated></rfs>'
    xml = config(PULSE_MS, timeout_ms, "", rfs).replace("%NODE%", "one")
    for node in mirror.nodes:
        node.start()
        node.install(xml, MODULE_ID)
        script = node.safe / "modules" / MODULE / "bin" / "_rfs_callback"
        script.write_text(CALLBACK)
        script.chmod(0o755)
        node.configure()


def resources(node: Daemon) -> dict[str, str]:
    (snapshot,) = node.ask("state")
    return {name: value for name, value, _ in snapshot.resources}


def estimated(node: Daemon, mode: str) -> SyncEstimate:
    """What `rfsdiff` tells once the other node's next heartbeat has come."""
    told: list[SyncEstimate] = []

    def tells() -> bool:
        told.append(node.ask("estimate"))
        return told[-1].mode == mode

    until(tells, lambda: told[-1])
    return told[-1]


def reason(node: Daemon) -> str:
    (snapshot,) = node.ask("state")
    return f"{snapshot.state}: {snapshot.reason}"


@pytest.fixture
def outside() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are no part of a module."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        process.kill()
        process.wait()


def holding(path: Path, mode: str) -> subprocess.Popen[str]:
    code = "import sys, time\nf = open(sys.argv[1], sys.argv[2])\nprint('', flush=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code + "time.sleep(600)", str(path), mode],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_what_must_hold_before_a_start(
    mirror: Mirror, outside: list[subprocess.Popen[str]]
) -> None:
    begin(mirror, inside='<tocheck path="there"/>')
    n1 = mirror.n1
    n1.act("prim")
    until(lambda: reason(n1).startswith("STOP: The rep"), lambda: mirror.story("refused"))
    assert f"there is not in the replicated directory {mirror.data} (tocheck)" in reason(n1)

    real = mirror.data.parent / "n1" / "data"
    (real / "there").touch()
    (real / "busy").touch()
    # Through the directory's own name on this host: what the daemon calls by another one.
    writer, reader = holding(real / "busy", "r+"), holding(real / "there", "r")
    outside += [writer, reader]
    n1.act("prim")
    wanted = f"(pid {writer.pid}) has {mirror.data}/busy open for writing"
    until(lambda: wanted in reason(n1), lambda: mirror.story(wanted))
    assert "would not be replicated" in reason(n1)
    writer.kill()
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    told = f"(pid {reader.pid}) has {mirror.data}/there open"
    assert [line for line in n1.lines() if line.startswith("rfsplug Opened") and told in line]

    # On the node that is to become the secondary, too: it would disturb what is received.
    n2 = mirror.n2
    other = mirror.data.parent / "n2" / "data"
    (other / "there").touch()
    (other / "mine").touch()
    late = holding(other / "mine", "r+")
    outside.append(late)
    n2.act("start")
    named = f"(pid {late.pid}) has {mirror.data}/mine open for writing"
    until(lambda: named in reason(n2), lambda: mirror.story(named))
    assert n2.shown == "STOP NotReady"
    late.kill()
    late.wait()
    n2.act("start")
    mirror.become("PRIM Ready", "SECOND Ready")


def test_callbacks(mirror: Mirror) -> None:
    begin(mirror, 'scripts="on"')
    refuse = mirror.n2.var / "modules" / MODULE / "refuse"
    mirror.n1.act("prim")
    until(lambda: mirror.n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    refuse.touch()
    mirror.n2.act("start")
    until(
        lambda: resources(mirror.n2).get("rfs.reintegre_failed") == "true",
        lambda: mirror.story("the callback keeps it from being synchronised"),
    )
    assert "_rfs_callback _rfs_startsynch" in mirror.n2.calls
    assert "Ready" not in mirror.n2.shown
    refuse.unlink()
    mirror.become("PRIM Ready", "SECOND Ready")
    assert resources(mirror.n2)["rfs.reintegre_failed"] == "false"
    mirror.n1.act("swap")
    mirror.become("SECOND Ready", "PRIM Ready")
    assert "_rfs_callback _rfs_pritoscd" in mirror.n1.calls


def test_a_scheduled_synchronisation_by_hand(mirror: Mirror) -> None:
    begin(mirror, 'syncat="1 0 29 2 *"')
    n1, n2 = mirror.nodes
    with pytest.raises(SafekitError, match="is STOP"):
        n2.ask("resource.set", name="rfs.syncat", value="up")
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    (mirror.at(n1) / "one").write_text("1")
    n2.act("start")
    until(lambda: n2.shown == "WAIT NotReady", lambda: mirror.story("n2 waits for its date"))
    assert resources(n2)["rfs.syncat"] == "down"
    with pytest.raises(SafekitError, match="up or down"):
        n2.ask("resource.set", name="rfs.syncat", value="now")
    n2.ask("resource.set", name="rfs.syncat", value="up")
    # It is brought up to date, and waits again.
    real = mirror.data.parent / "n2" / "data" / "one"
    until(real.exists, lambda: mirror.story("copied"))
    until(
        lambda: n2.shown == "WAIT NotReady" and resources(n2)["rfs.syncat"] == "down",
        lambda: mirror.story("n2 waits again"),
    )
    assert any("Resource rfs.syncat set to up by root" in line for line in n2.lines())


def test_figures_and_the_tools_that_look(mirror: Mirror) -> None:
    begin(mirror, 'reidetail="on"')
    n1, n2 = mirror.nodes
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    (mirror.at(n1) / "large").write_bytes(os.urandom(4 << 20))
    (mirror.at(n1) / "small").write_bytes(b"small")
    with pytest.raises(SafekitError, match="ALONE Ready, and only PRIM and SECOND Ready"):
        n1.ask("verify")
    first = estimated(n1, "everything")
    assert "(" in first.reason, "the row of the decision table stands behind it"
    assert (first.names, first.files, first.bytes) == (3, 2, (4 << 20) + 5), first
    n2.act("start")
    mirror.become("PRIM Ready", "SECOND Ready")
    with pytest.raises(SafekitError, match="only a node that is ALONE"):
        n1.ask("estimate")

    def shown(node: Daemon, name: str) -> Any:
        return resources(node).get(f"rfs.{name}", "")

    def carries() -> bool:
        with (mirror.at(n1) / "large").open("r+b") as file:
            file.write(os.urandom(100_000))
        return shown(n1, "netout_bandwidth") not in ("", "0")

    until(carries, lambda: mirror.story(f"traffic {resources(n1)}"))

    # rfs.rep_bandwidth: of the application's changes, on the node that sends them and on the one
    # that takes them in.
    def replicates() -> bool:
        return carries() and all(
            shown(node, "rep_bandwidth") not in ("", "0") for node in mirror.nodes
        )

    until(replicates, lambda: mirror.story(f"replication {[*map(resources, mirror.nodes)]}"))
    until(
        lambda: shown(n1, "netout_bandwidth") == "0",
        lambda: mirror.story(f"no traffic {resources(n1)}"),
    )
    for node in mirror.nodes:
        until(
            lambda: shown(node, "rei_copy_count_metric") == "2",  # noqa: B023 - waits here
            lambda: mirror.story(f"copied: {resources(node)}"),  # noqa: B023
        )
        assert shown(node, "rei_copy_size_metric") == "4096"
        assert shown(node, "rei_syncdir_count_metric") == "1 (1/1)"
        assert shown(node, "rei_mode") == "everything"
        assert shown(node, "rei_reason")
    named = [line for line in n1.lines() if line.startswith("reintegre Copied /")]
    assert sorted(named) == [f"reintegre Copied {mirror.data}/{n}" for n in ("large", "small")]

    n2.act("stop")
    mirror.become("ALONE Ready", "STOP NotReady")
    with (mirror.at(n1) / "large").open("r+b") as file:
        file.write(b"x")
    (mirror.at(n1) / "new").write_bytes(b"12345")
    found = estimated(n1, "zones")
    assert found.reason.startswith("what changed since both nodes were in sync is known (D"), found
    assert found.files == 2
    assert 128 * 1024 < found.bytes < 1 << 20
    n2.act("start")
    mirror.become("PRIM Ready", "SECOND Ready")
    until(
        lambda: shown(n1, "rei_mode") == "zones",
        lambda: mirror.story(f"mode: {resources(n1)}"),
    )
    assert int(shown(n1, "rei_copy_size_metric")) < 1024
    assert mirror.tree(n1) == mirror.tree(n2)


def command(node: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    """`safekit` as an administrator types it on this node."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(safepy.__file__).parents[1]),
        "SAFE": str(node.safe),
        "SAFEVAR": str(node.var),
    }
    return subprocess.run(
        [sys.executable, "-m", "safepy", *words, "-m", MODULE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_rfsverify_on_the_command_line(mirror: Mirror) -> None:
    begin(mirror)
    n1, n2 = mirror.nodes
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    refused = command(n1, "rfsverify")
    assert refused.returncode == 1
    assert "only PRIM and SECOND Ready have two copies" in refused.stderr
    (mirror.at(n1) / "one").write_bytes(b"content")
    (mirror.at(n1) / "two").write_bytes(b"content")
    n2.act("start")
    mirror.become("PRIM Ready", "SECOND Ready")
    equal = command(n1, "rfsverify")
    assert equal.returncode == 0, equal.stdout + equal.stderr
    assert equal.stdout.rstrip().endswith("no difference")
    # The disk of the secondary lies.
    (mirror.data.parent / "n2" / "data" / "two").write_bytes(b"cOntent")
    for node in (n1, n2):
        found = command(node, "rfsverify")
        assert found.returncode == 1, found.stdout + found.stderr
        assert found.stdout.splitlines()[0].startswith(f"{mirror.data}/two: content")
        assert "1 differ" in found.stdout
    mended = command(n1, "rfsverify", "--mend", "prim", "-o", "json")
    assert json.loads(mended.stdout)["found"] == 1, mended.stdout + mended.stderr
    until(
        lambda: (mirror.tree(n2) if n2.shown == "SECOND Ready" else {}) == mirror.tree(n1),
        lambda: mirror.story("mended"),
    )
    assert mirror.tree(n2)["two"] == b"content"


def test_a_mount_that_does_not_answer(mirror: Mirror) -> None:
    begin(mirror, 'checktime="1000" checkintv="1"')
    n1 = mirror.n1
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    before = mirror.worker(n1)
    # Found before its silence is: that is waited for longer.
    os.kill(before, signal.SIGSTOP)
    wanted = f"nfsadmin The replicated directory {mirror.data} does not answer (checktime)"
    until(lambda: wanted in n1.lines(), lambda: mirror.story(wanted))
    assert "heart Action stopstart called by nfsadmin" in n1.lines()
    until(
        lambda: n1.shown == "ALONE Ready" and mirror.worker(n1) not in (0, before),
        lambda: mirror.story("alone again, with a new worker"),
        60.0,
    )


def test_what_is_told_beforehand_is_what_follows(mirror: Mirror) -> None:
    """`rfsdiff` names the mode and the reason of the synchronisation that then comes, and counts at
    least what that copies: nothing, zones, a full one that was asked for."""
    begin(mirror, timeout_ms=6_000)
    n1, n2 = mirror.nodes
    n1.act("prim")
    until(lambda: n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    (mirror.at(n1) / "large").write_bytes(os.urandom(2 << 20))
    n2.act("start")
    mirror.become("PRIM Ready", "SECOND Ready")

    def comes(mode: str, row: str) -> SyncEstimate:
        """What n1 tells; n2 then starts, and what was told comes true."""
        told = estimated(n1, mode)
        n2.act("start")
        mirror.become("PRIM Ready", "SECOND Ready")

        def true() -> bool:
            """The figures are refreshed now and then."""
            shown = resources(n1)
            if (told.mode, told.reason) != (shown.get("rfs.rei_mode"), shown.get("rfs.rei_reason")):
                return False
            return (
                int(shown["rfs.rei_copy_size_metric"]) * 1024 <= told.bytes + 1024
                and int(shown["rfs.rei_copy_count_metric"]) <= told.files
            )

        until(true, lambda: mirror.story(f"{told} {resources(n1)}"))
        assert row in told.reason
        assert mirror.tree(n1) == mirror.tree(n2)
        return told

    def stops() -> None:
        n2.act("stop")
        mirror.become("ALONE Ready", "STOP NotReady")

    stops()
    assert comes("zones", "(D").bytes == 0
    stops()
    with (mirror.at(n1) / "large").open("r+b") as file:
        file.write(os.urandom(10))
    assert 0 < comes("zones", "(D").bytes <= 256 * 1024
    stops()
    n1.ask("rfssync", mode="full")
    assert comes("everything", "rfssync full").bytes == 2 << 20
    # Of a node that is not heard only what changed here is known.
    os.kill(mirror.worker(n1), signal.SIGKILL)
    n1.kill()
    until(lambda: n2.shown == "ALONE Ready", lambda: mirror.story("n2 takes over"))
    lost = estimated(n2, "zones")
    assert lost.bytes == 0
    assert "is not heard, may ask for more" in lost.reason
