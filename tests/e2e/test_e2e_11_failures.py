"""Rows of the failure table (protocol 10) that need a real network or a real disk: F27, F46."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from labkit import load
from labkit.lab import Lab
from labkit.modules import TIMEOUT_MS
from labkit.pair import Pair

pytestmark = pytest.mark.lab

NO_DATAGRAMS = """
table inet torment {
  chain in { type filter hook input priority 0; meta l4proto udp drop; }
  chain out { type filter hook output priority 0; meta l4proto udp drop; }
}
"""


def test_f27_all_heartbeats_lost_and_the_stream_lives(lab: Lab) -> None:
    """Not a loss: authentic traffic arrives. Said once, and nobody changes its role."""
    pair = Pair(lab)
    pair.start()
    lab["n2"].run("nft", "-f", "-", stdin=NO_DATAGRAMS)
    try:
        pair.wait_log(
            "n1", "All heartbeats are down, the replication stream lives", TIMEOUT_MS / 1000 + 15
        )
        pair.wait_work(200, 2 * TIMEOUT_MS / 1000 + 20)
        assert pair.state("n1") == "PRIM Ready"
        assert pair.state("n2") == "SECOND Ready"
    finally:
        lab["n2"].run("nft", "delete", "table", "inet", "torment")
    pair.assert_whole("n1", ["n1"])


def turn_read_only(data: Path) -> None:
    """As the kernel does by itself when it meets an error of the file system: ext4 on the loop
    device that is the node's data disk. No remount, which open files would refuse."""
    subprocess.run(["mount", "-o", "remount,errors=remount-ro", str(data)], check=True)
    device = subprocess.check_output(["findmnt", "-no", "SOURCE", str(data)], text=True)
    name = Path(device.split()[0].partition("[")[0]).name
    Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("1")


def test_f46_the_primarys_file_system_turns_read_only(lab: Lab) -> None:
    """It hands over at once, without waiting for the detection time, and loses nothing."""
    pair = Pair(lab)
    pair.start()
    turn_read_only(lab["n1"].data)
    pair.wait("n2", "ALONE Ready", at_most_s=TIMEOUT_MS / 1000 + 20)
    pair.wait_work()
    assert "cannot be trusted" in pair.log("n1")
    lost = load.missing_records(pair.notes(), pair.files("n2"))
    assert not lost, lost[:3]
    # It says what is wrong with it whenever it is tried again, and never joins.
    pair.wait_log("n1", "Reintegration failed, it is tried again")
    assert "Read-only file system" in pair.log("n1")
    assert pair.state("n1") != "SECOND Ready"
    assert pair.state("n2") == "ALONE Ready"
