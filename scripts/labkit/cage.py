"""The control group of a node: every process that belongs to it, whatever it did to itself.

Found again by its name, so a lab whose scripts were killed half-way leaves nothing unknown.
Works with the freezer of legacy control groups and with unified ones.
"""

from __future__ import annotations

import time
from pathlib import Path

from .procs import LabError, Process, wait_until

GROUPS = Path("/sys/fs/cgroup")


def unified() -> bool:
    return (GROUPS / "cgroup.controllers").exists()


class Cage:
    """Two leaves: `boot` holds the container, `exec` what the lab runs in it from outside."""

    def __init__(self, lab: str, node: str) -> None:
        top = GROUPS if unified() else GROUPS / "freezer"
        self.path = top / "safepy-lab" / lab / node

    def create(self) -> None:
        if not unified() and not (GROUPS / "freezer").is_dir():
            raise LabError("no freezer control group is mounted at /sys/fs/cgroup/freezer")
        for leaf in ("boot", "exec"):
            (self.path / leaf).mkdir(parents=True, exist_ok=True)

    def entering(self, leaf: str, argv: list[str]) -> list[str]:
        """`argv`, run inside the leaf from its first instruction on."""
        join = f'echo 0 > "{self.path / leaf}/cgroup.procs" && exec "$@"'
        return ["/bin/sh", "-c", join, "lab", *argv]

    def processes(self) -> list[Process]:
        found = []
        for listing in self.path.rglob("cgroup.procs"):
            try:
                pids = listing.read_text().split()
            except OSError:  # a group that vanished while we looked
                continue
            found += [one for pid in pids if (one := Process.of(int(pid))) is not None]
        return found

    def freeze(self) -> None:
        """Stop everything; processes that wait inside the kernel count as stopped."""
        if unified():
            (self.path / "cgroup.freeze").write_text("1")
            state = self.path / "cgroup.events"
            wait_until("frozen", lambda: "frozen 1" in state.read_text(), 5.0, 0.01)
            return
        state = self.path / "freezer.state"
        state.write_text("FROZEN")
        deadline = time.monotonic() + 2.0
        while state.read_text().strip() != "FROZEN" and time.monotonic() < deadline:
            time.sleep(0.01)

    def thaw(self) -> None:
        if not self.path.is_dir():
            return
        if unified():
            (self.path / "cgroup.freeze").write_text("0")
        else:
            (self.path / "freezer.state").write_text("THAWED")

    def frozen(self) -> bool:
        try:
            if unified():
                return (self.path / "cgroup.freeze").read_text().strip() == "1"
            return (self.path / "freezer.state").read_text().strip() != "THAWED"
        except FileNotFoundError:
            return False

    def kill(self) -> None:
        """SIGKILL to all; a frozen process takes it when thawed."""
        for process in self.processes():
            process.kill()
        self.thaw()

    def removed(self) -> bool:
        """Remove the groups; false while there are processes in them."""
        for listing in sorted(self.path.rglob("cgroup.procs"), key=lambda at: -len(at.parts)):
            if not _rmdir(listing.parent):
                return False
        for parent in (self.path.parent, self.path.parent.parent):
            if parent.is_dir() and not any(at.is_dir() for at in parent.iterdir()):
                _rmdir(parent)
        return True


def _rmdir(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def kill_processes(pids: list[int]) -> None:
    """End processes of a network namespace of ours (the client's load, for example)."""
    for pid in pids:
        process = Process.of(pid)
        if process is not None:
            process.kill()
