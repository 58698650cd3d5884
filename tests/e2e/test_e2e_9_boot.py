"""Boot and shutdown: a reboot is a hand-over, a power cut leaves no open door behind it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from labkit.lab import Lab
from labkit.load import missing_records
from labkit.modules import PULSE_MS, TIMEOUT_MS
from labkit.node import Node
from labkit.pair import Pair
from labkit.safekit import safekit, state

pytestmark = pytest.mark.lab
TIMEOUT_S = TIMEOUT_MS / 1000

#: A service that somebody enabled by mistake: it writes to the directory from boot on.
STRAY = """\
[Unit]
Description=Writes to the replicated directory as soon as services start
[Service]
ExecStart=/usr/bin/python3 /lab/programs/acceptor.py {directory} /data /lab/accepted/{node}
[Install]
WantedBy=multi-user.target
"""


def boot_on(pair: Pair) -> None:
    for node in pair.lab.nodes:
        pair(node, "boot", "on")


def add_stray(pair: Pair, node: Node) -> Path:
    """Where the stray service notes how its writes went; it runs from the next boot on."""
    notes = pair.lab.shared_path(f"accepted/{node.name}")
    unit = STRAY.format(directory=pair.directory, node=node.name)
    node.write("/etc/systemd/system/stray.service", unit)
    node.run("systemctl", "enable", "stray.service")
    return notes


def answers(notes: Path) -> set[str]:
    return {line.split()[0] for line in notes.read_text().splitlines()}


def test_a_reboot_of_the_primary_is_a_hand_over_and_it_returns_as_second(lab: Lab) -> None:
    pair = Pair(lab)
    boot_on(pair)
    pair.start()
    begun = time.monotonic()
    lab["n1"].run("systemctl", "reboot", "--no-block")
    pair.wait("n2", "ALONE Ready", "PRIM Ready", at_most_s=TIMEOUT_S)
    pair.wait_work()
    assert pair.pause_since(begun) < TIMEOUT_S, "no detection time in a clean hand-over"
    assert "Action alone called by heart: remote stop" in pair.log("n2")
    pair.wait_pair("n2", "n1", 90)
    assert "Action start called at boot time" in pair.log("n1")
    pair.assert_whole("n2", ["n1", "n2"])


def test_a_module_that_is_not_marked_for_boot_stays_stopped_after_a_clean_reboot(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    lab["n1"].reboot()
    pair.wait("n1", "STOP NotReady")
    time.sleep(TIMEOUT_S)
    assert pair.state("n1") == "STOP NotReady"
    assert pair.state("n2") == "ALONE Ready"


def test_the_service_stops_its_modules_the_last_one_first_and_takes_them_up_again(
    lab: Lab,
) -> None:
    first, last = Pair(lab, "app"), Pair(lab, "web")
    first.start()
    last.start()
    n1 = lab["n1"]
    n1.run("systemctl", "stop", "safeadmin")
    for pair in (first, last):
        pair.wait("n2", "ALONE Ready")
    assert n1.shell("pgrep -f '[w]riter.py|[s]afepy' || true") == "", "nothing of ours runs"
    mounts = n1.shell("cat /proc/self/mountinfo").splitlines()
    assert not [line for line in mounts if "fuse.safe" in line or "/doors/" in line]
    stopped = [
        n1.shell(
            f"journalctl -u safeadmin --no-pager -o short-unix "
            f"| grep '{pair.module} | heart | Local state STOP' | tail -1"
        ).split()[0]
        for pair in (first, last)
    ]
    assert float(stopped[1]) < float(stopped[0]), "started last, stopped first"
    n1.run("systemctl", "start", "safeadmin")
    for pair in (first, last):
        pair.wait_pair("n2", "n1")
        pair.assert_whole("n2", ["n1", "n2"])


def test_after_a_power_cut_nobody_writes_to_the_bare_files(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    notes = add_stray(pair, lab["n1"])
    # The stray service comes long before the daemon: only the guard can keep it out.
    lab["n1"].write(
        "/etc/systemd/system/safeadmin.service.d/late.conf",
        "[Service]\nExecStartPre=/bin/sleep 3\n",
    )
    lab["n1"].power_cut()
    pair.wait("n2", "ALONE Ready", at_most_s=60)
    lab["n1"].power_on()
    lab["n1"].wait_booted()
    pair.wait_pair("n2", "n1", 90)
    pair.wait_work()
    assert answers(notes) == {"refused"}
    pair.assert_whole("n2", ["n1", "n2"])


@pytest.mark.parametrize("first", ["n1", "n2"])
def test_both_without_power_take_up_their_former_roles(lab: Lab, first: str) -> None:
    pair = Pair(lab)
    pair.start()
    for node in lab.nodes.values():
        node.power_cut()
    other = "n2" if first == "n1" else "n1"
    lab[first].power_on()
    lab[first].wait_booted()
    pair.wait(first, "WAIT NotReady", at_most_s=30)
    waiting = state(lab[first], pair.module)
    assert "wait for the start of the remote server" in waiting["reason"]
    assert "safekit prim -m app" in waiting["remedy"]
    lab[other].power_on()
    lab[other].wait_booted()
    pair.wait_pair("n1", "n2", 90)
    pair.wait_work()
    pair.assert_whole("n1", ["n1"])


def test_prim_on_the_node_that_waits_serves_and_keeps_what_the_other_has(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    # n1 goes on alone for a while: what it writes then, n2 does not have.
    lab["n2"].power_cut()
    pair.wait("n1", "ALONE Ready", at_most_s=60)
    lab["n1"].shell(f"echo only here > {pair.directory}/only-n1")
    pair.wait_work()
    lab["n1"].power_cut()
    lab["n2"].power_on()
    lab["n2"].wait_booted()
    pair.wait("n2", "WAIT NotReady", at_most_s=30)
    assert missing_records(pair.notes(), pair.files("n2")), "n2 is behind: the test is pointless"

    # What n1 wrote would be given up: nobody does that without a word.
    refused = f"code=0; safekit prim -m {pair.module} || code=$?; [ $code -eq 3 ]"
    lab["n2"].shell(refused)
    assert pair.state("n2") == "WAIT NotReady"
    safekit(lab["n2"], "prim", "-m", pair.module, "--yes")
    pair.wait("n2", "ALONE Ready")
    pair.wait_work()
    lab["n1"].power_on()
    lab["n1"].wait_booted()
    pair.wait_pair("n2", "n1", 90)
    assert not (pair.files("n1") / "only-n1").exists()
    assert pair.kept("n1", "only-n1") == ["only here\n"]
    assert "kept" in pair.log("n1")


def test_time_limits_of_loss_and_hand_over(lab: Lab) -> None:
    """Protocol 10: what applications on a surviving node may notice, detection time T."""
    pair = Pair(lab)
    pair.start()
    pulse_s, busy_s = PULSE_MS / 1000, 1.5
    moment = time.monotonic()
    pair("n1", "swap")
    pair.wait_pair("n2", "n1")
    pair.wait_work()
    assert pair.pause_since(moment) < 1.0 + busy_s, "a clean hand-over needs no detection"
    moment = time.monotonic()
    lab["n1"].power_cut()
    pair.wait("n2", "ALONE Ready")
    pair.wait_work()
    assert pair.pause_since(moment) < TIMEOUT_S + 1.0 + busy_s, "writers stall T and a moment"
    lab["n1"].power_on()
    lab["n1"].wait_booted()
    pair.wait_pair("n2", "n1", 90)
    pair.wait_work()
    moment = time.monotonic()
    lab["n2"].power_cut()
    pair.wait("n1", "ALONE Ready")
    pair.wait_work()
    taken_s = pair.pause_since(moment)
    assert taken_s < TIMEOUT_S + pulse_s + 1.0 + busy_s, "taken over after T and a moment"
