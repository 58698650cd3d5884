"""Loads on the lab, and the two questions about them: what is missing, how long was the pause."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import trees
from .lab import Lab
from .procs import LabError, wait_until
from .programs.writer import RECORD_BYTES, record


def longest_pause(moments: Iterable[float]) -> float:
    """The longest time (s) between two successive acknowledgements."""
    ordered = sorted(moments)
    return max((b - a for a, b in itertools.pairwise(ordered)), default=0.0)


def equal_trees(lab: Lab, directory: str, at_most_s: float = 30.0) -> list[str]:
    """Differences between the real files of n1 and n2 once what is in flight has settled."""
    inside = directory.removeprefix("/data/")
    one, other = (node.data / inside for node in lab.nodes.values())
    found: list[str] = []

    def equal() -> bool:
        nonlocal found
        try:
            found = trees.differences(one, other)
        except FileNotFoundError:  # a file went away between listing and reading
            return False
        return not found

    try:
        wait_until(f"equal trees of {directory}", equal, at_most_s, 0.5)
    except LabError:
        return found or ["the trees do not come to rest"]
    return []


# -- PostgreSQL --------------------------------------------------------------------------------


class PostgresLoad:
    """programs/pgload.py on the lab's client."""

    def __init__(self, lab: Lab, connections: int = 4) -> None:
        self.lab = lab
        self.hosts = [node.addresses["lan1"] for node in lab.nodes.values()]
        self.record = lab.shared_path("pgload.record")
        self.record.unlink(missing_ok=True)
        self._log = lab.shared_path("pgload.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._connections = connections

    def start(self) -> None:
        argv = [sys.executable, "-m", "labkit.programs.pgload", str(self.record)]
        self._process = self.lab.client_popen(
            *argv, str(self._connections), *self.hosts, output=self._log
        )
        self.wait_for_commits(20)

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise LabError("the load did not end within 30 s") from None

    def acknowledged(self) -> list[tuple[int, int, float]]:
        """(worker, number, moment) of every commit the load was told succeeded."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        parts = [line.split() for line in lines]
        return [(int(p[0]), int(p[1]), float(p[2])) for p in parts if len(p) == 3]

    def wait_for_commits(self, more: int, at_most_s: float = 60.0) -> float:
        """Wait until `more` further commits were acknowledged; the seconds it took."""
        before = len(self.acknowledged())

        def enough() -> bool:
            if self._process is not None and self._process.poll() is not None:
                raise LabError(f"the load ended early: {self._log.read_text()[-500:]}")
            return len(self.acknowledged()) >= before + more

        return wait_until(f"{more} more commits", enough, at_most_s, 0.05)

    def ask(self, query: str) -> list[list[str]]:
        done = self.lab.client(sys.executable, "-m", "labkit.programs.pgask", query, *self.hosts)
        rows: list[list[str]] = json.loads(done.stdout)
        return rows

    def missing(self) -> list[tuple[int, int]]:
        """Acknowledged commits that the database does not have. The load may be running."""
        acknowledged = [(worker, number) for worker, number, _ in self.acknowledged()]
        rows = self.ask("SELECT worker, number FROM history")
        present = {(int(worker), int(number)) for worker, number in rows}
        return [key for key in acknowledged if key not in present]

    def accounts_balance(self) -> bool:
        """Every balance is the sum of its history: no transaction is there by half."""
        wrong = self.ask(
            "SELECT count(*) FROM accounts a LEFT JOIN "
            "(SELECT account, sum(delta) AS sum FROM history GROUP BY account) h "
            "ON h.account = a.id WHERE balance <> coalesce(sum, 0)"
        )
        return wrong == [["0"]]


# -- the writer --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Note:
    """One acknowledged record of programs/writer.py; moments of the machine's clock."""

    worker: str
    number: int
    node: str
    begun: float
    ended: float


def notes(lab: Lab, module: str) -> list[Note]:
    found = []
    for path in lab.shared_path("acknowledged/x").parent.glob(f"{module}.*"):
        worker = path.suffix[1:]
        for line in path.read_text().splitlines():
            number, node, begun, ended = line.split()
            found.append(Note(worker, int(number), node, float(begun), float(ended)))
    return sorted(found, key=lambda note: note.ended)


def wait_for_notes(lab: Lab, module: str, more: int = 50, at_most_s: float = 60.0) -> float:
    before = len(notes(lab, module))

    def enough() -> bool:
        return len(notes(lab, module)) >= before + more

    return wait_until(f"{more} more records of {module}", enough, at_most_s, 0.2)


def missing_records(acknowledged: list[Note], directory: Path) -> list[Note]:
    """Acknowledged records that the tree in `directory` does not hold as they were written."""
    contents: dict[str, bytes] = {}
    lost = []
    for note in acknowledged:
        if note.worker not in contents:
            path = directory / f"records-{note.worker}"
            contents[note.worker] = path.read_bytes() if path.exists() else b""
        at = note.number * RECORD_BYTES
        if contents[note.worker][at : at + RECORD_BYTES] != record(note.number, note.node):
            lost.append(note)
    return lost


def turns(acknowledged: list[Note]) -> list[str]:
    """Which node wrote, in order of the moments at which records were begun: ["n1", "n2"].

    Two nodes that accept writes at the same time show as many turns. A record begun before the
    other node's first may be acknowledged late: that node had it already (protocol F35).
    """
    order: list[str] = []
    for note in sorted(acknowledged, key=lambda note: note.begun):
        if not order or order[-1] != note.node:
            order.append(note.node)
    return order
