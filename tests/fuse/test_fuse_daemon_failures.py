"""Rows of the failure table (protocol 10) on two real daemons: records that cannot be written, an
empty disk, a busy directory, configurations that differ. docs/failures.md lists them all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_fuse_daemon_pair import (
    MODULE,
    MODULE_ID,
    PULSE_MS,
    TIMEOUT_MS,
    Mirror,
    config,
    mirror,  # noqa: F401 - a fixture
    pair_up,
    until,
)

pytestmark = pytest.mark.kernel

#: Appends a line to the file every 50 ms and tells after each how many were acknowledged.
WRITER = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
written = failed = 0
while failed < 20:
    try:
        os.write(fd, b"line\\n")
        os.fsync(fd)
        written += 1
    except OSError:
        failed += 1
    print(written, failed, flush=True)
    time.sleep(0.05)
"""


def waits_for(mirror: Mirror, name: str) -> str:  # noqa: F811
    node = mirror.n1 if name == "n1" else mirror.n2
    (snapshot,) = node.ask("state")
    text: str = f"{snapshot.reason} {snapshot.waiting_for} {snapshot.remedy}"
    return text


def test_f47_a_record_that_cannot_be_written_stops_the_node(mirror: Mirror) -> None:  # noqa: F811
    """The primary needs a record to go on alone and cannot write it: it stops, B serves."""
    pair_up(mirror)
    record = mirror.n1.var / "modules" / MODULE / "state" / "record"
    away = record.with_name("record.away")
    record.rename(away)
    record.mkdir()
    (mirror.at(mirror.n1) / "acknowledged").write_text("x")
    mirror.n2.kill()
    try:
        until(lambda: mirror.n1.shown == "STOP NotReady", lambda: mirror.story("stopped"))
        assert "record cannot be written" in waits_for(mirror, "n1")
    finally:
        record.rmdir()
        away.rename(record)
    mirror.n2.start()
    mirror.n1.act("start")
    ready = {("PRIM Ready", "SECOND Ready"), ("SECOND Ready", "PRIM Ready")}
    until(
        lambda: (mirror.n1.shown, mirror.n2.shown) in ready,
        lambda: mirror.story("the pair forms again"),
        60.0,
    )
    assert "acknowledged" in mirror.tree(mirror.n1)
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)


def test_f49_a_node_with_an_empty_disk_is_filled(mirror: Mirror) -> None:  # noqa: F811
    """D2: the new disk has neither data nor a record; nothing of the other node is deleted."""
    pair_up(mirror)
    before = mirror.tree(mirror.n1)
    assert len(before) == 100
    mirror.n2.act("stop")
    mirror.become("ALONE Ready", "STOP NotReady")
    mirror.n2.kill()
    real = mirror.n2.safe.parent / "data"
    shutil.rmtree(real)
    real.mkdir()
    shutil.rmtree(mirror.n2.var / "modules" / MODULE / "state")
    mirror.n2.start()
    mirror.n2.act("start")
    mirror.become("PRIM Ready", "SECOND Ready")
    assert mirror.tree(mirror.n1) == before
    assert mirror.tree(mirror.n2) == before


def test_f53_a_busy_directory_does_not_keep_the_module_from_stopping(
    mirror: Mirror,  # noqa: F811
) -> None:
    """Whoever still has a file open gets errors, and no answer that is not true."""
    node, data = mirror.n1, mirror.data
    node.launcher = []
    mirror.begin(node)
    node.act("prim")
    until(lambda: node.shown == "ALONE Ready", lambda: mirror.story("alone"))
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data / "log")], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout is not None
            for _ in range(5):
                writer.stdout.readline()
            node.act("stop")
            until(lambda: node.shown == "STOP NotReady", lambda: mirror.story("stopped"), 40.0)
            said = [line.split() for line in writer.stdout]
            assert writer.wait(20) == 0
        finally:
            if writer.poll() is None:
                writer.send_signal(signal.SIGKILL)
    written, failed = (int(word) for word in said[-1])
    assert failed == 20
    assert (data / "log").read_text() == "line\n" * written
    assert str(data) not in Path("/proc/self/mountinfo").read_text()
    assert not os.path.ismount(data)


def test_f54_nodes_with_different_configurations_do_not_pair(mirror: Mirror) -> None:  # noqa: F811
    """Both say it, with both digests; the primary goes on."""
    mirror.begin()
    rfs = f'<rfs async="none"><replicated dir="{mirror.data}"/></rfs>'
    mirror.n2.install(config(PULSE_MS, TIMEOUT_MS, "", rfs).replace("%NODE%", "one"), MODULE_ID)
    mirror.n2.configure()
    mirror.n1.act("prim")
    until(lambda: mirror.n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    mirror.n2.act("start")
    until(
        lambda: "configurations of the two nodes differ" in waits_for(mirror, "n2"),
        lambda: mirror.story("refused"),
    )
    said = waits_for(mirror, "n2")
    assert "safekit config" in said and "here" in said and "there" in said
    assert mirror.n2.shown == "WAIT NotReady"
    (mirror.at(mirror.n1) / "goes on").write_text("x")
    assert mirror.n1.shown == "ALONE Ready"
