"""Random faults on a pair under load, and the judge of what comes after each: tests/e2e/soak.py."""

from __future__ import annotations

import itertools
import random
import re
import time
from dataclasses import dataclass

from .faults import FAULTS, Pain
from .lab import Lab
from .load import Note, equal_trees, longest_pause
from .node import Node
from .procs import LabError, wait_until
from .safekit import safekit, state
from .victims import DatabaseLoad, WriterLoad

#: After everything is mended the pair is whole again within this time, on two busy cores.
RETURN_S = 120.0
#: So long it must stay whole to count.
LASTING_S = 2.0
#: No lead can go to the other node and come back in less; two nodes that both accept do that.
THERE_AND_BACK_S = 0.5
#: What no journal may hold.
BAD_JOURNAL = re.compile(
    r"Traceback|AssertionError|Task exception|never retrieved|Watchdog timeout|core-dump"
)
ACCEPTOR_UNIT = """\
[Unit]
Description=Tries to write to the replicated directory, like a service enabled by mistake
[Service]
ExecStart=/usr/bin/python3 /lab/programs/acceptor.py {directory} /data /lab/accepted/{node}
KillMode=mixed
TimeoutStopSec=2
[Install]
WantedBy=multi-user.target
"""


class Violation(Exception):
    """Something that was promised did not hold."""


@dataclass(frozen=True)
class Attempt:
    """One line of programs/acceptor.py."""

    answer: str
    node: str
    begun: float
    ended: float


class Torment(Pain):
    def __init__(self, lab: Lab, draw: random.Random, load: str, acknowledge: str) -> None:
        super().__init__(lab, draw)
        self._kind = WriterLoad if load == "writer" else DatabaseLoad
        self._acknowledge = acknowledge
        self.module = self._kind.module
        self._offsets: dict[str, int] = {}
        self._bad_lines: dict[str, int] = {}
        self._begun = self._released = time.monotonic()

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:7.1f} s  {text}", flush=True)

    # -- the course --------------------------------------------------------------------------

    def prepare(self) -> None:
        self.lab.up(data_size="1G")
        self.load = self._kind(self.lab, self._acknowledge)
        (self.lab.shared_path("accepted/x")).touch()
        for node in self.lab.nodes.values():
            unit = ACCEPTOR_UNIT.format(directory=self.load.directory, node=node.name)
            node.write("/etc/systemd/system/acceptor.service", unit)
        self.load.start()
        for node in self.lab.nodes.values():
            safekit(node, "boot", "on", "-m", self.module)
            node.run("systemctl", "enable", "--now", "acceptor.service")
        self._settle()
        self.load.work()
        self._judge(time.monotonic(), bare=set(), split=False)
        self.tell("prepared")

    def round(self, chosen: list[str], *, second_fault: bool) -> list[str]:
        """One fault, perhaps another one, and the judgement. Names of what was done."""
        # Drawn all at once, so that a seed tells the same story whatever the timing is.
        name = self.draw.choice(chosen)
        seconds = [each for each in chosen if FAULTS[each].second]
        again = self.draw.choice(seconds) if seconds and self.draw.random() < 0.35 else ""
        on_prim, again_on_prim = self.draw.random() < 0.5, self.draw.random() < 0.5
        delay_s = self.draw.uniform(0, 12)
        if not second_fault or FAULTS[name].splits:
            again = ""
        prim, second = self.prim, self.second
        begun = time.monotonic()
        done = [name]
        bare: set[str] = set()
        struck = [(name, prim if on_prim else second)]
        if again:
            struck.append((again, prim if again_on_prim else second))
            done.append(again)
        for number, (each, node) in enumerate(struck):
            if number:
                time.sleep(delay_s)
                self._mend(node)
            if FAULTS[each].stops:
                bare.add(node)
            self.tell(f"{each} on {node} ({'PRIM' if node == self.prim else 'SECOND'})")
            text = FAULTS[each].act(self, node)
            self.tell(f"    {text}")
        for node in self.lab.nodes:
            self._mend(node)
        for each, node in struck:
            if each == "stop":
                self._start(node)
        mended = time.monotonic()
        self._settle()
        settled_s = time.monotonic() - mended
        self.load.work()
        pause_s = self._judge(begun, bare=bare, split=any(FAULTS[each].splits for each in done))
        self.tell(
            f"    {self.prim} PRIM, {self.second} SECOND after {settled_s:.1f} s; "
            f"the longest pause was {pause_s:.1f} s"
        )
        return done

    def _mend(self, name: str) -> None:
        """Whatever the faults took away is given back."""
        node = self.lab[name]
        node.thaw()
        node.heal()
        if node.state == "off":
            node.power_on()
        # Also when it is just going down for a reboot: until it has come up again.
        wait_until(f"{name} has booted", lambda: _booted(node), 90, 0.5)
        node.run("nft", "delete", "table", "inet", "torment", check=False)

    def _start(self, name: str) -> None:
        """After `safekit stop`: start, as an administrator does, when it has stopped."""
        node = self.lab[name]
        safekit(node, "waitstop", "-t", "60", "-m", self.module, check=False)
        safekit(node, "start", "-m", self.module, check=False)

    def _settle(self) -> None:
        last: dict[str, str] = {}
        whole_since: float | None = None
        begun = time.monotonic()

        def lasting() -> bool:
            """Whole, and still so a while later: a command returns before its work begins."""
            nonlocal whole_since
            if not whole():
                whole_since = None
                return False
            whole_since = whole_since or time.monotonic()
            return time.monotonic() - max(begun, whole_since) > LASTING_S

        def whole() -> bool:
            for name, node in self.lab.nodes.items():
                try:
                    now = state(node, self.module)
                except LabError:
                    now = {}
                last[name] = f"{now.get('state')} {now.get('status')} ({now.get('reason')})"
            roles = {name: text.split(" (")[0] for name, text in last.items()}
            for name in roles:
                if roles[name] == "PRIM Ready" and roles[self.other(name)] == "SECOND Ready":
                    self.prim, self.second = name, self.other(name)
                    return True
            return False

        try:
            wait_until("PRIM and SECOND Ready", lasting, RETURN_S, 0.5)
        except LabError as error:
            raise Violation(f"{error}: {last}") from error

    def _judge(self, begun: float, *, bare: set[str], split: bool) -> float:
        """Everything that must hold when the pair is whole. Returns the longest pause."""
        prim = self.prim
        begun = max(begun, self._released)
        pause_s = longest_pause(moment for moment in self.load.moments() if moment > begun)
        for node in self.lab.nodes.values():
            node.run("systemctl", "kill", "--signal=STOP", "acceptor.service", check=False)
        try:
            if isinstance(self.load, DatabaseLoad):
                self._check_missing()
            self.load.hold(prim)
            time.sleep(0.3)
            self._check_notes(self.load.fresh(), split)
            found = equal_trees(self.lab, self.load.directory)
            if found:
                raise Violation(f"{len(found)} differences: {found[:5]}")
            if isinstance(self.load, WriterLoad):
                self._check_missing()
            self._check_attempts(begun, bare, split)
            self._check_journals()
        finally:
            self.load.release(prim)
            for node in self.lab.nodes.values():
                node.run("systemctl", "kill", "--signal=CONT", "acceptor.service", check=False)
            self._released = time.monotonic()
        return pause_s

    def _check_missing(self) -> None:
        lost = self.load.missing()
        if lost:
            raise Violation(f"{len(lost)} acknowledged writes are missing: {lost[:5]}")

    def _check_notes(self, notes: list[Note], split: bool) -> None:
        if not split:
            _one_at_a_time([(note.node, note.begun, note.ended) for note in notes], "the writers")
            self.load.expect(notes)
            return
        # What the one that gave way wrote, from the moment on at which the other one wrote too.
        first = min((note.begun for note in notes if note.node == self.prim), default=0.0)
        aside = [note for note in notes if note.node == self.second and note.ended > first]
        lost = self.load.not_kept(self.second, aside)
        if lost:
            raise Violation(f"{len(lost)} records of a split brain were not kept: {lost[:3]}")
        self.load.expect([note for note in notes if note not in set(aside)])

    def _check_attempts(self, begun: float, bare: set[str], split: bool) -> None:
        attempts = self._attempts()
        open_bare = [each for each in attempts if each.answer == "bare" and each.node not in bare]
        if open_bare:
            raise Violation(f"bare files were writable: {open_bare[:3]} (fault at {begun:.1f})")
        if not split:
            served = [(a.node, a.begun, a.ended) for a in attempts if a.answer == "served"]
            _one_at_a_time(served, "the probes")

    def _attempts(self) -> list[Attempt]:
        found = []
        for name in self.lab.nodes:
            path = self.lab.shared_path(f"accepted/{name}")
            if not path.exists():
                continue
            text = path.read_bytes()[self._offsets.get(name, 0) :]
            text = text[: text.rfind(b"\n") + 1]
            self._offsets[name] = self._offsets.get(name, 0) + len(text)
            for line in text.decode().splitlines():
                answer, node, begun, ended = line.split()
                found.append(Attempt(answer, node, float(begun), float(ended)))
        return sorted(found, key=lambda each: each.begun)

    def _check_journals(self) -> None:
        for name, node in self.lab.nodes.items():
            journal = node.run(
                "journalctl", "--no-pager", "-u", "safeadmin", "-u", "safekit-guard", check=False
            ).stdout
            bad = [line for line in journal.splitlines() if BAD_JOURNAL.search(line)]
            if len(bad) > self._bad_lines.get(name, 0):
                raise Violation(f"in the journal of {name}: {bad[-3:]}")
            self._bad_lines[name] = len(bad)


def _booted(node: Node) -> bool:
    try:
        if node.state == "off":
            node.power_on()
        # A node that goes down still answers; systemd knows.
        if node.state != "running":
            return False
        done = node.run("systemctl", "is-system-running", check=False, timeout_s=20)
        return done.stdout.strip() in ("running", "degraded")
    except LabError:
        return False


def _one_at_a_time(done: list[tuple[str, float, float]], who: str) -> None:
    """Two nodes that accept writes at the same time alternate faster than any lead can move. A
    write that was begun before the other node's first one may be acknowledged late (F35)."""
    ordered = sorted(done, key=lambda each: each[1])
    turns = [list(group) for _, group in itertools.groupby(ordered, key=lambda each: each[0])]
    for before, between, after in zip(turns, turns[1:], turns[2:], strict=False):
        away_s = after[0][1] - before[-1][1]
        if away_s < THERE_AND_BACK_S:
            raise Violation(
                f"{who}: {before[-1]} and {after[0]} with {between[0]} in between ({away_s:.2f} s)"
            )
