"""One node: a booted Debian of its own over the machine's root, with power, cables and a disk."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from . import mounts
from .cage import Cage, unified
from .layout import STATE, Layout, lan_name, lan_number, node_number
from .network import Network
from .procs import LabError, Process, children, run, wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
BOOT_S = 60.0
#: With --keep-unit systemd-nspawn leaves a reboot to whoever started it, by exit code 133.
AGAIN = ("/bin/sh", "-c", '"$@"; while [ $? = 133 ]; do "$@"; done', "power")


class Node:
    def __init__(self, layout: Layout, name: str, lans: int) -> None:
        self.layout = layout
        self.name = name
        self.number = node_number(name)
        self.lans = lans
        self.place = layout.node(name)
        self.cage = Cage(layout.name, name)
        self._network = Network(layout)

    # -- what it is ------------------------------------------------------------------------

    @property
    def addresses(self) -> dict[str, str]:
        lans = range(1, self.lans + 1)
        return {lan_name(lan): self.layout.address(lan, self.number) for lan in lans}

    @property
    def root(self) -> Path:
        """The node's files, seen from the machine (its own mounts are not in it)."""
        return self.place / "root"

    @property
    def data(self) -> Path:
        """The node's data disk: /data inside. Real files, beneath any replication."""
        return self.place / "data"

    def _container(self) -> Process | None:
        """systemd-nspawn itself, if it is running."""
        try:
            saved = json.loads((self.place / "process.json").read_text())
        except FileNotFoundError:
            return None
        process = Process(saved["pid"], saved["started"])
        return process if process.alive() else None

    def leader(self) -> Process | None:
        """PID 1 of the node. Another one after each boot, also after a reboot from inside."""
        container = self._container()
        waiting = children(container.pid) if container else []
        while waiting:
            pid = waiting.pop()
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
            if len(ids) > 2 and ids[-1] == "1":
                process = Process.of(pid)
                return process if process and process.alive() else None
            waiting += children(pid)
        return None

    @property
    def state(self) -> str:
        """off, booting, running or frozen."""
        if self.leader() is None:
            return "off" if self._container() is None else "booting"
        if self.cage.frozen():
            return "frozen"
        return "running" if self._reached_multi_user() else "booting"

    def describe(self) -> dict[str, object]:
        leader = self.leader()
        return {
            "name": self.name,
            "state": self.state,
            "leader": leader.pid if leader else None,
            "root": str(self.root),
            "data": str(self.data),
            "addresses": self.addresses,
        }

    # -- its disk --------------------------------------------------------------------------

    def create(self, layers: list[Path], data_size: str, hosts: str) -> None:
        """Lay out a disk over the machine's root, begun with a copy of `layers` (lowest first).

        A copy, as the kernel refuses a lower layer that lies inside another one, here /.
        """
        for part in ("upper", "work", "root", "data"):
            (self.place / part).mkdir(parents=True)
        for layer in layers:
            run("cp", "--archive", f"{layer}/.", str(self.place / "upper"))
        etc = self.place / "upper/etc"
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text(hosts)
        # Without an id of its own systemd would think it is the first boot and enable everything.
        (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        mounts.mount_image(self.place / "data.img", self.data, data_size)
        options = f"lowerdir=/,upperdir={self.place / 'upper'},workdir={self.place / 'work'}"
        run("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))

    # -- its power -------------------------------------------------------------------------

    def power_on(self) -> None:
        if self._container() is not None:
            raise LabError(f"{self.name} is on already")
        for lan in range(1, self.lans + 1):
            self._network.power(self.name, lan, on=True)
        self.cage.create()
        argv = [
            *AGAIN,
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.root}",
            "--boot",
            "--register=no",
            "--keep-unit",
            f"--machine={self.layout.name}-{self.name}",
            f"--hostname={self.name}",
            "--capability=all",
            "--bind=/dev/fuse",
            f"--bind={self.data}:/data",
            f"--bind={self.layout.shared}:/lab",
            *(f"--bind-ro={venv}" for venv in sorted(STATE.glob("venv-*[0-9a-f]"))),
            f"--network-namespace-path=/run/netns/{self.layout.namespace(self.name)}",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
        ]
        environment = {"PATH": PATH, "LANG": "C.UTF-8"}
        if not unified():
            environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "0"
        with (self.place / "console.log").open("ab") as console:
            child = subprocess.Popen(
                self.cage.entering("boot", argv),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=environment,
                start_new_session=True,
            )
        process = Process.of(child.pid)
        if process is None:
            raise LabError(f"{self.name} did not start: {self.place / 'console.log'}")
        saved = json.dumps({"pid": process.pid, "started": process.started})
        (self.place / "process.json").write_text(saved)

    def wait_booted(self, at_most_s: float = BOOT_S) -> float:
        def booted() -> bool:
            if self._container() is None:
                tail = (self.place / "console.log").read_text(errors="replace")[-2000:]
                raise LabError(f"{self.name} went off while booting:\n{tail}")
            return self._reached_multi_user()

        return wait_until(f"{self.name} has booted", booted, at_most_s, 0.2)

    def _reached_multi_user(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        # systemd's own file descriptor of a running unit: cheaper than a systemctl each time.
        if not Path(f"/proc/{leader.pid}/root/run/systemd/private").exists():
            return False
        if self.cage.frozen():
            return True
        done = self.run("systemctl", "is-active", "multi-user.target", check=False)
        return done.stdout.strip() == "active"

    def power_cut(self) -> None:
        """Everything in the node dies at once; its disks stay as they are."""
        leader = self.leader()
        if leader is None:
            raise LabError(f"{self.name} has no power to cut: it is {self.state}")
        connections = mounts.fuse_connections(leader.pid)
        leader.kill()
        self.cage.thaw()
        self._wait_off(connections)
        for lan in range(1, self.lans + 1):
            self._network.power(self.name, lan, on=False)

    def _wait_off(self, connections: set[str]) -> None:
        """Wait for the last process; end waits for dead FUSE servers of this node if need be."""
        try:
            wait_until(f"{self.name} is off", lambda: not self._running(), 3.0, 0.02)
        except LabError:
            mounts.abort_fuse(connections)
            self.cage.kill()
            wait_until(f"{self.name} is off", lambda: not self._running(), 10.0, 0.02)

    def _running(self) -> bool:
        return self._container() is not None or any(one.alive() for one in self.cage.processes())

    def power_off(self, at_most_s: float = 60.0) -> None:
        """Orderly: units stop in their order."""
        self.run("systemctl", "poweroff", "--no-block")
        wait_until(f"{self.name} is off", lambda: not self._running(), at_most_s)

    def reboot(self, at_most_s: float = BOOT_S) -> None:
        """Orderly, by the node itself; returns when it has booted again."""
        before = self.leader()
        if before is None:
            raise LabError(f"{self.name} is off")
        self.run("systemctl", "reboot", "--no-block")
        wait_until(f"{self.name} went down", lambda: not before.alive(), at_most_s)
        self.wait_booted(at_most_s)

    def freeze(self) -> None:
        if self.leader() is None:
            raise LabError(f"{self.name} is off")
        self.cage.freeze()

    def thaw(self) -> None:
        self.cage.thaw()

    # -- its cables ------------------------------------------------------------------------

    def cut(self, lan: str | None = None) -> None:
        self._plug(lan, connected=False)

    def heal(self, lan: str | None = None) -> None:
        self._plug(lan, connected=True)

    def _plug(self, lan: str | None, *, connected: bool) -> None:
        for number in [lan_number(lan)] if lan else range(1, self.lans + 1):
            if number > self.lans:
                raise LabError(f"this lab has {self.lans} lans")
            self._network.plug(self.name, number, connected=connected)

    # -- commands in it --------------------------------------------------------------------

    def entering(self, argv: list[str], environment: dict[str, str] | None = None) -> list[str]:
        """`argv`, run in the node as root from the node's / with a clean environment."""
        leader = self.leader()
        if leader is None:
            raise LabError(f"{self.name} is {self.state}")
        if self.cage.frozen():
            raise LabError(f"{self.name} is frozen")
        variables = [f"{key}={value}" for key, value in (ENVIRONMENT | (environment or {})).items()]
        enter = ["nsenter", "--all", f"--target={leader.pid}", "--"]
        clean = ["/usr/bin/env", "--chdir=/root", "-i", *variables]
        return self.cage.entering("exec", [*enter, *clean, *argv])

    def run(
        self,
        *argv: str,
        check: bool = True,
        stdin: str | bytes | None = None,
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        return run(*self.entering(list(argv)), check=check, stdin=stdin, timeout_s=timeout_s)

    def shell(self, script: str, *, check: bool = True, timeout_s: float = 120.0) -> str:
        """Run a piece of shell in the node; its standard output."""
        return self.run("sh", "-ec", script, check=check, timeout_s=timeout_s).stdout

    def popen(self, *argv: str, output: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command in the node and leave it running; output to a file of the machine."""
        with (output or Path(os.devnull)).open("ab") as sink:
            return subprocess.Popen(
                self.entering(list(argv)), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file inside the node."""
        script = 'umask 077; mkdir -p "$(dirname "$1")"; cat > "$1"; chmod "$2" "$1"'
        self.run("sh", "-ec", script, "write", path, f"{mode:o}", stdin=content)

    def wait_until(self, what: str, holds: Callable[[], object], at_most_s: float) -> float:
        return wait_until(f"{self.name}: {what}", holds, at_most_s, 0.3)

    # -- its end ---------------------------------------------------------------------------

    def destroy(self) -> None:
        """End what runs and unmount; also on the remains of a lab that was killed half-way."""
        connections = set()
        for process in self.cage.processes():
            connections |= mounts.fuse_connections(process.pid)
        leader = self.leader()
        if leader is not None:
            leader.kill()
        begun = time.monotonic()
        # Again and again: a process may fork, or be on its way in, while the others are ended.
        # One that comes after the group is gone cannot enter it, and starts nothing.
        while not self.cage.removed():
            if time.monotonic() - begun > 2.0:
                mounts.abort_fuse(connections)
            if time.monotonic() - begun > 20.0:
                raise LabError(f"{self.name}: processes do not end: {self.cage.processes()}")
            self.cage.kill()
            time.sleep(0.02)
        mounts.unmount_below(self.place)
