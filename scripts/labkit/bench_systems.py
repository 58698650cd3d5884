"""What the bench compares: each system as a directory of node n1; and the nodes' cable."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import modules, need
from .lab import Lab
from .layout import lan_name
from .network import SWITCH
from .procs import LabError, run, wait_until
from .safekit import safekit, wait_pair

NOTHING = "#!/bin/sh\nexit 0\n"

EXT4 = "ext4"
PASSTHROUGH = "passthrough_ll"
GLUSTER = "GlusterFS"
SECOND = "safepy second"
NONE = "safepy none"
#: Those that have something to send to the other node.
REPLICATED = (GLUSTER, SECOND, NONE)
ALL = (EXT4, PASSTHROUGH, *REPLICATED)

#: Files that libfuse's example is given at once: it keeps a descriptor of each that it was asked
#: for, and a container may allow no more than 20,000.
MOST_OF_PASSTHROUGH = 15_000

MODULES = {SECOND: "second", NONE: "none"}


def spread(lab: Lab, directory: str) -> None:
    """Make a directory on every node whose subdirectories lie apart on the disk.

    ext4 does not use the inode of a file again that was removed within the last minutes, and looks
    at each of them at every creation: in one place, each round would be slower than the last.
    """
    for node in lab.nodes.values():
        node.shell(f"mkdir -p {directory}; chattr +T {directory}")


def set_up(lab: Lab, wanted: tuple[str, ...]) -> dict[str, str]:
    """Each system's directory on n1; all of them go away with the lab."""
    spread(lab, "/data")
    places: dict[str, str] = {}
    for system in wanted:
        if system == EXT4:
            spread(lab, "/data/bare")
            places[system] = "/data/bare"
        elif system == PASSTHROUGH:
            place = _passthrough(lab)
            if place:
                places[system] = place
        elif system == GLUSTER:
            places[system] = _gluster(lab)
        else:
            places[system] = _safepy(lab, MODULES[system])
    return places


def compile_c(source: Path, to: Path, *options: str) -> None:
    need.commands("gcc")
    run("gcc", "-O2", "-o", str(to), str(source), *options)


def _passthrough(lab: Lab) -> str:
    """libfuse's example file system, from Debian's package of headers; "" if it cannot be had."""
    need.commands("gcc", "dpkg-deb", "fusermount3")
    binary = lab.shared_path("passthrough_ll")
    with tempfile.TemporaryDirectory(prefix="safepy-bench-") as folder:
        try:
            fetch = [
                "sh",
                "-ec",
                f"cd {folder}; apt-get download libfuse3-dev; dpkg-deb -x *.deb x",
            ]
            run(*fetch, timeout_s=300)
            source = Path(folder, "x/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c")
            headers = f"-I{folder}/x/usr/include/fuse3"
            large = "-D_FILE_OFFSET_BITS=64"
            compile_c(source, binary, large, headers, "-l:libfuse3.so.3", "-lpthread")
        except LabError as error:
            print(f"without passthrough_ll: {error}")
            return ""
    spread(lab, "/data/beneath")
    options = "source=/data/beneath,cache=always,timeout=86400,allow_other"
    lab["n1"].shell(
        f"mkdir -p /mnt/passthrough; /lab/passthrough_ll -s -o {options} /mnt/passthrough"
    )
    return "/mnt/passthrough"


def _gluster(lab: Lab) -> str:
    """A replica 2 volume between the nodes, mounted on n1.

    As it comes, GlusterFS answers a write before the other node has it (write-behind). That is
    switched off: what it is compared with promises that the other node has it.
    """
    need.commands("gluster")
    for node in lab.nodes.values():
        # The machine's own identity, seen through the overlay, would be the same on both.
        node.shell("rm -rf /var/lib/glusterd/glusterd.info; mkdir -p /data/brick; glusterd")
    n1 = lab["n1"]
    probed = ("gluster", "peer", "probe", "n2")
    wait_until("glusterd answers", lambda: n1.run(*probed, check=False).returncode == 0, 30.0, 0.5)

    def joined() -> bool:
        return "Peer in Cluster (Connected)" in n1.shell("gluster peer status")

    wait_until("both glusterd are joined", joined, 30.0, 0.5)
    spread(lab, "/data/brick/sync")
    bricks = [f"{node}:/data/brick/sync" for node in lab.nodes]
    for words in (
        ["create", "sync", "replica", "2", *bricks, "force"],
        ["set", "sync", "performance.write-behind", "off"],
        ["start", "sync"],
    ):
        n1.run("gluster", "--mode=script", "volume", *words)
    n1.shell("mkdir -p /mnt/sync; mount -t glusterfs n1:/sync /mnt/sync")
    return "/mnt/sync"


def _safepy(lab: Lab, module: str) -> str:
    directory = f"/data/{module}"
    install(lab, module, directory, module)
    safekit(lab["n2"], "start", "-m", module)
    safekit(lab["n1"], "prim", "-m", module)
    wait_pair(lab, module, "n1", "n2")
    return directory


def install(lab: Lab, module: str, directory: str, acknowledge: str) -> None:
    """A module without an application on both nodes."""
    spread(lab, directory)
    config = modules.userconfig(directory, acknowledge=acknowledge, lans=lab.lans)
    scripts = dict.fromkeys(("prestart", "start_prim", "stop_prim"), NOTHING)
    modules.install(lab, module, config, scripts)


@contextmanager
def slow_cable(lab: Lab, round_trip_ms: float) -> Iterator[None]:
    """While this lasts, everything between n1 and the others takes so much longer, both ways."""
    if not round_trip_ms:
        yield
        return
    binary = lab.shared_path("delay")
    if not binary.exists():
        compile_c(Path(__file__).parent / "programs/delay.c", binary)
    switch = lab.layout.namespace(SWITCH)
    # Before everybody else: it is a cable, not one more program that wants a processor.
    inside = ["ip", "netns", "exec", switch, "chrt", "-f", "10"]
    bridge, cable = lan_name(1), "n1.1"
    ip = ["ip", "-n", switch, "link"]
    run(*ip, "add", "slow", "type", "veth", "peer", "slow.far")
    one_way_us = str(round(round_trip_ms * 500))
    program = subprocess.Popen(
        [*inside, str(binary), cable, "slow", one_way_us],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        run(*ip, "set", "slow", "up")
        run(*ip, "set", cable, "nomaster")
        run(*ip, "set", "slow.far", "master", bridge, "up")
        if program.stdout.readline() != "delaying\n":
            raise LabError("the program that delays ended at once")
        yield
    finally:
        program.kill()
        program.wait()
        run(*ip, "delete", "slow", check=False)
        run(*ip, "set", cable, "master", bridge, check=False)
