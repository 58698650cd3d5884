"""The lab itself: what the other tests rely on. Plain nodes, without safepy."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from labkit import layers, trees
from labkit.lab import Lab
from labkit.layout import Layout
from labkit.mounts import mounted_below
from labkit.node import Node
from labkit.procs import LabError, wait_until

pytestmark = pytest.mark.lab
COMMAND = Path(__file__).resolve().parents[2] / "scripts" / "lab"


@pytest.fixture
def plain() -> Iterator[Lab]:
    lab = Lab("e2eplain")
    try:
        lab.up(product=False)
        yield lab
    finally:
        lab.down()


def command(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(COMMAND), "--name", "e2eplain", *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def reaches(lab: Lab, node: str, lan: str) -> bool:
    """Whether the client gets an answer at all (a refused connection is one)."""
    program = (
        "import socket, sys\n"
        "s = socket.socket(); s.settimeout(1)\n"
        "sys.exit(0 if s.connect_ex((sys.argv[1], 5)) == 111 else 1)"
    )
    done = lab.client(sys.executable, "-c", program, lab[node].addresses[lan], check=False)
    return done.returncode == 0


def remains(name: str) -> list[str]:
    layout = Layout(name)
    spaces = [path.name for path in Path("/run/netns").glob(f"{layout.namespace_prefix}*")]
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/safepy-lab/{name}")]
    return [*mounted_below(layout.root), *spaces, *groups]


def test_output_and_exit_code_pass_through(plain: Lab) -> None:
    done = command("exec", "n1", "--", "sh", "-c", "hostname; echo wrong >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "n1\n", "wrong\n")
    done = command("client", "--", "sh", "-c", "echo out; exit 5")
    assert (done.returncode, done.stdout) == (5, "out\n")
    listed = json.loads(command("list", "-o", "json").stdout)
    assert [(node["name"], node["state"]) for node in listed] == [
        ("n1", "running"),
        ("n2", "running"),
    ]
    assert listed[0]["addresses"] == plain["n1"].addresses
    refused = command("exec", "n9", "--", "true")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_disks_survive_a_power_cut_and_processes_do_not(plain: Lab) -> None:
    n1 = plain["n1"]
    n1.shell("echo kept > /data/file; echo too > /root/file")
    sleeper = n1.popen("sleep", "1000")
    n1.power_cut()
    assert sleeper.wait(5) != 0
    assert n1.state == "off"
    with pytest.raises(LabError, match="off"):
        n1.run("true")
    n1.power_on()
    n1.wait_booted()
    assert n1.shell("cat /data/file /root/file") == "kept\ntoo\n"
    assert n1.run("pgrep", "sleep", check=False).returncode == 1


def test_a_reboot_boots_again(plain: Lab) -> None:
    before = plain["n2"].leader()
    plain["n2"].reboot()
    assert plain["n2"].state == "running"
    assert plain["n2"].leader() != before


def test_a_frozen_node_does_nothing_and_goes_on(plain: Lab) -> None:
    n1, beats = plain["n1"], plain.shared_path("beats")
    n1.popen("sh", "-c", "while :; do echo x >> /lab/beats; sleep 0.02; done")
    n1.wait_until("it beats", beats.exists, 5)
    n1.freeze()
    assert n1.state == "frozen"
    before = beats.stat().st_size
    time.sleep(0.5)
    assert beats.stat().st_size == before
    n1.thaw()
    n1.wait_until("it beats again", lambda: beats.stat().st_size > before, 5)
    n1.freeze()
    n1.power_cut()
    assert n1.state == "off"


def test_cables_are_pulled_one_by_one(plain: Lab) -> None:
    assert reaches(plain, "n1", "lan1")
    plain["n1"].cut("lan1")
    assert not reaches(plain, "n1", "lan1")
    assert reaches(plain, "n1", "lan2")
    assert reaches(plain, "n2", "lan1")
    plain["n1"].heal("lan1")
    plain["n1"].wait_until("the cable is in", lambda: reaches(plain, "n1", "lan1"), 10)


def test_labs_of_other_names_are_left_alone(plain: Lab) -> None:
    other = Lab("e2eother")
    try:
        other.up(1, 1, product=False)
        assert other["n1"].addresses["lan1"] != plain["n1"].addresses["lan1"]
    finally:
        other.down()
    assert remains("e2eother") == []
    assert plain["n1"].state == "running"


@pytest.mark.parametrize("after_s", [0.2, 0.5, 1.0])
def test_the_remains_of_a_killed_lab_are_cleaned(after_s: float) -> None:
    lab = Lab("e2eplain")
    try:
        raising = subprocess.Popen(
            [sys.executable, str(COMMAND), "--name", "e2eplain", "up", "--plain"],
            stdout=subprocess.DEVNULL,
        )
        time.sleep(after_s)
        os.kill(raising.pid, signal.SIGKILL)
        raising.wait()
        (lab.layout.node("n1") / "process.json").unlink(missing_ok=True)
        lab.up(product=False)
        assert lab["n1"].state == "running"
    finally:
        lab.down()
    assert remains("e2eplain") == []


def test_processes_that_are_still_on_their_way_into_a_node_end_with_it() -> None:
    """A lab that is killed just when it starts a container leaves such a one."""
    lab = Lab("e2eplain")
    node = Node(lab.layout, "n1", 1)
    node.cage.create()
    entering = shlex.join(node.cage.entering("boot", ["sleep", "300"]))
    script = f"for again in $(seq 100); do {entering} 2> /dev/null & sleep 0.005; done; wait"
    late = subprocess.Popen(["/bin/sh", "-c", script])
    try:
        wait_until("the first is in", node.cage.processes, 5.0, 0.01)
        node.destroy()
        assert remains("e2eplain") == []
        assert late.wait(10.0) == 0, "those that come later cannot enter, and end"
    finally:
        late.kill()
        late.wait()
        lab.down()


def test_the_judge_sees_every_kind_of_difference(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    trees.make(one, 300)
    (one / "f").write_bytes(b"content")
    subprocess.run(["cp", "--archive", one, other], check=True)
    assert trees.differences(one, other) == []
    mtime = (one / "f").stat().st_mtime_ns
    changes: dict[str, Callable[[], object]] = {
        "content": lambda: (other / "f").write_bytes(b"CONTENT"),
        "mode": lambda: (other / "f").chmod(0o604),
        "uid": lambda: os.chown(other / "f", 77, -1),
        "attributes": lambda: os.setxattr(other / "f", "user.x", b"1"),
        "same_as": lambda: os.link(other / "f", other / "g"),
    }
    for name, change in changes.items():
        change()
        os.utime(other / "f", ns=(mtime, mtime))
        found = " ".join(trees.differences(one, other))
        assert "only in" in found if name == "same_as" else f"b'f': {name}" in found, found
    os.utime(other / "f", ns=(1, 1))
    assert "b'f': mtime_ns" in " ".join(trees.differences(one, other))


def test_labs_that_go_up_at_the_same_time_make_the_product_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both need the same layer, which does not exist yet."""
    monkeypatch.setattr(layers, "LAYERS", tmp_path / "layers")
    checkout = Path(__file__).resolve().parents[2]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: layers.product(checkout), range(3)))
    assert len(set(made)) == 1
    assert (made[0] / "opt/safekit/safekit").exists()
    assert [path.name for path in (tmp_path / "layers").iterdir()] == [made[0].name]
