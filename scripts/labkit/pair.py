"""A mirror module on n1 and n2 whose application is the numbered writer."""

from __future__ import annotations

from pathlib import Path

from . import load, modules
from .lab import Lab
from .node import Node
from .procs import LabError, wait_until
from .safekit import safekit, state, wait_pair, wait_state


class Pair:
    def __init__(self, lab: Lab, module: str = "app", **settings: str) -> None:
        self.lab = lab
        self.module = module
        self.directory = f"/data/{module}"
        modules.install_writer(lab, module, self.directory, **settings)

    def files(self, node: str) -> Path:
        """The real files of a node, beneath the replication, seen from the machine."""
        return self.lab[node].data / self.module

    def start(self, *, at_most_s: float = 60.0) -> None:
        """First start: n1's files are the good ones. Returns when PRIM and SECOND are Ready."""
        self("n2", "start")
        self("n1", "prim")
        wait_pair(self.lab, self.module, "n1", "n2", at_most_s)
        load.wait_for_notes(self.lab, self.module)

    def __call__(self, node: str, verb: str, *arguments: str) -> str:
        return safekit(self.lab[node], verb, *arguments, "-m", self.module)

    def wait(self, node: str, *wanted: str, at_most_s: float = 30.0) -> float:
        return wait_state(self.lab[node], self.module, *wanted, at_most_s=at_most_s)

    def wait_pair(self, prim: str, second: str, at_most_s: float = 60.0) -> float:
        return wait_pair(self.lab, self.module, prim, second, at_most_s)

    def wait_work(self, more: int = 50, at_most_s: float = 30.0) -> float:
        return load.wait_for_notes(self.lab, self.module, more, at_most_s)

    def state(self, node: str) -> str:
        now = state(self.lab[node], self.module)
        return f"{now.get('state')} {now.get('status')}"

    def log(self, node: str) -> str:
        return safekit(self.lab[node], "log", "-m", self.module, "-s", "1000", "-A")

    def wait_log(self, node: str, text: str, at_most_s: float = 15.0) -> None:
        wait_until(f"{node} logs {text!r}", lambda: text in self.log(node), at_most_s, 0.5)

    def kept(self, node: str, name: str) -> list[str]:
        """Contents of everything called `name` that was kept aside in a dated folder."""
        folder = self.lab[node].root / f"var/safekit/modules/{self.module}/kept"
        return [path.read_text() for path in sorted(folder.glob(f"20??-*/*{self.module}/{name}"))]

    def notes(self) -> list[load.Note]:
        return load.notes(self.lab, self.module)

    def pause_since(self, moment: float) -> float:
        """The longest time without an acknowledged record, from just before `moment` on."""
        ended = [note.ended for note in self.notes()]
        before = max((end for end in ended if end <= moment), default=moment)
        return load.longest_pause([before, *(end for end in ended if end > moment)])

    def assert_whole(self, prim: str, turns: list[str]) -> None:
        """No acknowledged record is missing, the nodes wrote in `turns`, the trees are equal."""
        self.hold(prim)
        try:
            found = load.equal_trees(self.lab, self.directory)
            notes = self.notes()
            for node in self.lab.nodes:
                lost = load.missing_records(notes, self.files(node))
                assert not lost, f"{len(lost)} of {len(notes)} not on {node}: {lost[:3]}"
            assert not found, f"{len(found)} differences: {found[:5]}"
            assert load.turns(notes) == turns
        finally:
            self.release(prim)

    def hold(self, node: str) -> None:
        """Keep the application still without stopping it."""
        self.lab[node].run("pkill", "-STOP", "-f", "programs/[w]riter.py")

    def release(self, node: str) -> None:
        self.lab[node].run("pkill", "-CONT", "-f", "programs/[w]riter.py", check=False)


def kill_worker(node: Node) -> None:
    """SIGKILL to the replication process; returns when another one runs."""
    _kill(node, "pgrep -o -f '[s]afepy.worker' || true")


def kill_daemon(node: Node) -> None:
    """SIGKILL to safeadmin; returns when another one runs."""
    _kill(node, "systemctl show --property MainPID --value safeadmin.service")


def _kill(node: Node, find: str) -> None:
    before = node.shell(find).strip()
    if before in ("", "0"):
        raise LabError(f"{node.name}: nothing to kill: `{find}` finds nothing")
    node.run("kill", "-KILL", before)

    def replaced() -> bool:
        return node.shell(find).strip() not in ("", "0", before)

    node.wait_until("what was killed runs again", replaced, 30)
