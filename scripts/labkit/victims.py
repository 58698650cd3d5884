"""The applications that tests/e2e/soak.py torments, and what each of them must not lose."""

from __future__ import annotations

from . import modules
from .lab import Lab
from .load import Note, PostgresLoad
from .node import Node
from .pair import Pair
from .procs import CommandError
from .programs.writer import RECORD_BYTES, record
from .safekit import safekit


class WriterLoad:
    """The numbered writer; remembers what was acknowledged, by incremental reading."""

    module = "app"

    def __init__(self, lab: Lab, acknowledge: str) -> None:
        self.lab = lab
        self.pair = Pair(lab, acknowledge=acknowledge, loop_interval="0")
        self.directory = self.pair.directory
        self._offsets: dict[str, int] = {}
        #: What must be in the files: worker, number, node.
        self.expected: dict[tuple[str, int], str] = {}

    def start(self) -> None:
        self.pair.start()

    def fresh(self) -> list[Note]:
        """The notes since the last call."""
        found = []
        for path in self.lab.shared_path("acknowledged/x").parent.glob(f"{self.module}.*"):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path.name, 0))
                text = file.read()
            text = text[: text.rfind(b"\n") + 1]
            self._offsets[path.name] = self._offsets.get(path.name, 0) + len(text)
            for line in text.decode().splitlines():
                number, node, begun, ended = line.split()
                worker = path.suffix[1:]
                found.append(Note(worker, int(number), node, float(begun), float(ended)))
        return sorted(found, key=lambda note: note.begun)

    def moments(self) -> list[float]:
        return [note.ended for note in self.pair.notes()]

    def expect(self, notes: list[Note]) -> None:
        for note in notes:
            self.expected[(note.worker, note.number)] = note.node

    def missing(self) -> list[str]:
        lost = []
        for name in self.lab.nodes:
            contents = {
                path.name.removeprefix("records-"): path.read_bytes()
                for path in self.pair.files(name).glob("records-*")
            }
            for (worker, number), node in self.expected.items():
                at = number * RECORD_BYTES
                if contents.get(worker, b"")[at : at + RECORD_BYTES] != record(number, node):
                    lost.append(f"record {number} of writer {worker} by {node} is not on {name}")
        return lost

    def not_kept(self, node: str, notes: list[Note]) -> list[Note]:
        """Of the given acknowledged records, those that no file kept aside on `node` holds."""
        kept: dict[str, list[bytes]] = {}
        folder = self.lab[node].root / f"var/safekit/modules/{self.module}/kept"
        for path in folder.glob(f"20??-*/*{self.module}/records-*"):
            kept.setdefault(path.name.removeprefix("records-"), []).append(path.read_bytes())
        return [
            note
            for note in notes
            if not any(
                content[at : at + RECORD_BYTES] == record(note.number, note.node)
                for at in [note.number * RECORD_BYTES]
                for content in kept.get(note.worker, [])
            )
        ]

    def work(self) -> None:
        self.pair.wait_work(10, 30)

    def hold(self, node: str) -> None:
        self.pair.hold(node)

    def release(self, node: str) -> None:
        self.pair.release(node)

    def kill(self, node: Node) -> None:
        node.run("pkill", "-KILL", "-f", "programs/[w]riter.py", check=False)

    def stop(self) -> None:
        pass


class DatabaseLoad:
    """PostgreSQL, with clients on the host that is no node."""

    module = "pg"
    directory = modules.PG_DIRECTORY

    def __init__(self, lab: Lab, acknowledge: str) -> None:
        self.lab = lab
        modules.install_postgres(lab, self.module, acknowledge=acknowledge, loop_interval="0")
        self._load = PostgresLoad(lab)

    def start(self) -> None:
        modules.create_database(self.lab, "n1")
        safekit(self.lab["n2"], "start", "-m", self.module)
        safekit(self.lab["n1"], "prim", "-m", self.module)
        self.lab["n1"].wait_until("the database answers", lambda: self._answers(), 60)
        self._load.start()

    def _answers(self) -> bool:
        try:
            self._load.ask("SELECT 1")
        except CommandError:
            return False
        return True

    def fresh(self) -> list[Note]:
        return []

    def moments(self) -> list[float]:
        return [moment for *_, moment in self._load.acknowledged()]

    def expect(self, notes: list[Note]) -> None:
        pass

    def missing(self) -> list[str]:
        lost = [f"commit {number} of worker {worker}" for worker, number in self._load.missing()]
        if not self._load.accounts_balance():
            lost.append("balances are not the sums of their histories")
        return lost

    def not_kept(self, node: str, notes: list[Note]) -> list[Note]:
        return []

    def work(self) -> None:
        self._load.wait_for_commits(10, 60)

    def hold(self, node: str) -> None:
        self.lab[node].run("pkill", "-STOP", "-u", "postgres", "-x", "postgres")

    def release(self, node: str) -> None:
        self.lab[node].run("pkill", "-CONT", "-u", "postgres", "-x", "postgres", check=False)

    def kill(self, node: Node) -> None:
        node.run("pkill", "-KILL", "-u", "postgres", "-x", "postgres", check=False)

    def stop(self) -> None:
        self._load.stop()
