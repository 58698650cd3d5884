"""Resynchronisation beside `rsync -aHAX` over a socket: the same trees, the same two nodes.

rsync's time is that of the command. safepy's is from the moment when the second node begins to
follow until it is Ready, by its module log; what users wait for besides, from `safekit start` to
that moment (the two daemons meet and decide), is in the line "in all".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from . import need
from .bench_cases import Scale, drop_caches
from .bench_systems import install, spread
from .lab import Lab
from .procs import LabError
from .safekit import module_log, safekit, wait_pair, wait_state

MODULE = "resync"
DIRECTORY = f"/data/{MODULE}"
SOURCE = "/data/rsyncsource"
COPY = "/data/rsynccopy"

SAFEPY, RSYNC, DISK = "safepy", "rsync -aHAX", "the disk"
SMALL = "first synchronisation, small files"
LARGE = "first synchronisation, large files"
NOTHING = "again, nothing changed"
TEN_ZONES = "again, ten zones changed"
IN_ALL = "return with ten zones changed, in all"
STALL = "longest stall of a writer meanwhile"
#: In the order of the table.
NAMES = (SMALL, NOTHING, TEN_ZONES, IN_ALL, LARGE, STALL)

_RSYNCD = f"""\
uid = root
gid = root
use chroot = no
[tree]
path = {SOURCE}
read only = yes
"""


@dataclass
class Timed:
    """One figure: seconds, or milliseconds for the stall."""

    what: str
    system: str
    value: float


class Resynchronisations:
    """Set up once in a lab; every round begins with an empty second node."""

    def __init__(self, lab: Lab, scale: Scale) -> None:
        self.lab, self.scale = lab, scale
        self.n1, self.n2 = lab["n1"], lab["n2"]

    def set_up(self) -> None:
        need.commands("rsync")
        install(self.lab, MODULE, DIRECTORY, "second")
        for place in (SOURCE, COPY):
            spread(self.lab, place)
        self.n1.write("/etc/rsyncd.conf", _RSYNCD)
        self.n1.shell("rsync --daemon")
        safekit(self.n1, "prim", "-m", MODULE)
        wait_state(self.n1, MODULE, "ALONE Ready", at_most_s=60)

    def round(self, number: int) -> Iterator[Timed]:
        small = (str(self.scale.small_files), "4096")
        large = (str(self.scale.large_files), str(self.scale.large_mib << 20))
        for first, tree in ((SMALL, small), (LARGE, large)):
            self._fill(tree)
            yield from self._both(first)
            if first == LARGE:
                yield Timed(first, DISK, self._disk())
            if first == SMALL:
                yield from self._both(NOTHING)
                for place in (DIRECTORY, SOURCE):
                    self._on_n1("zones.py", f"{place}/tree", str(number))
                yield from self._both(TEN_ZONES)
            self._empty()
        self._fill(large)
        yield self._stall()
        self._empty()

    def _both(self, what: str) -> Iterator[Timed]:
        yield Timed(what, RSYNC, self._rsync())
        begun, follows, ready = self._safepy()
        yield Timed(what, SAFEPY, (ready - follows).total_seconds())
        if what == TEN_ZONES:
            yield Timed(IN_ALL, SAFEPY, (ready - begun).total_seconds())

    def _rsync(self) -> float:
        drop_caches()
        begun = time.monotonic()
        argv = ["rsync", "-aHAX", "--delete", "rsync://n1/tree/", f"{COPY}/"]
        self.n2.run(*argv, timeout_s=3600)
        return time.monotonic() - begun

    def _disk(self) -> float:
        """As many bytes as there are in the large files, written to the second node's disk."""
        drop_caches()
        mib = self.scale.large_files * self.scale.large_mib
        begun = time.monotonic()
        self.n2.shell(f"dd if=/dev/zero of={COPY}/dd bs=1M count={mib} conv=fsync", timeout_s=900)
        took_s = time.monotonic() - begun
        self.n2.shell(f"rm {COPY}/dd")
        return took_s

    def _safepy(self) -> tuple[datetime, datetime, datetime]:
        """The second node's module starts, follows, and is stopped again: when it was started,
        followed, was ready."""
        drop_caches()
        self._follow()
        log = module_log(self.n2, MODULE)
        started = "Action start called", "Local state SECOND Transient", "Local state SECOND Ready"
        moments = tuple(_last(log, text) for text in started)
        self._leave()
        begun, follows, ready = moments
        if not begun < follows < ready:
            raise LabError(f"the log of {MODULE} on n2 does not tell of a synchronisation:\n{log}")
        return begun, follows, ready

    def _follow(self) -> None:
        safekit(self.n2, "start", "-m", MODULE)
        # One command that waits: commands that look again and again need a tenth of the processors.
        self.n2.run("safekit", "waitstate", "SECOND", "-m", MODULE, timeout_s=3600)
        wait_pair(self.lab, MODULE, "n1", "n2", at_most_s=3600)

    def _leave(self) -> None:
        safekit(self.n2, "stop", "-m", MODULE)
        wait_state(self.n1, MODULE, "ALONE Ready", at_most_s=60)

    def _stall(self) -> Timed:
        """A writer's longest wait while everything is copied for the first time."""
        end = "/tmp/bench-stall-end"
        self.n1.shell(f"rm -f {end} /lab/stall")
        output = self.lab.shared_path("stall")
        writer = ["/usr/bin/python3", "/lab/programs/stall.py", f"{DIRECTORY}/written", end]
        process = self.n1.popen(*writer, output=output)
        try:
            time.sleep(1.0)
            self._follow()
            time.sleep(0.5)
        finally:
            self.n1.shell(f"touch {end}")
            process.wait(60)
        self._leave()
        return Timed(STALL, SAFEPY, float(output.read_text().split()[0]))

    def _fill(self, tree: tuple[str, str]) -> None:
        for place in (DIRECTORY, SOURCE):
            self._on_n1("maketree.py", f"{place}/tree", *tree)

    def _empty(self) -> None:
        """Both sides of both: what follows is a first synchronisation again."""
        self.n1.shell(f"rm -rf {DIRECTORY}/* {SOURCE}/*", timeout_s=3600)
        self.n2.shell(f"rm -rf {COPY}/*", timeout_s=3600)
        self._follow()
        self._leave()

    def _on_n1(self, program: str, *arguments: str) -> None:
        argv = ["/usr/bin/python3", f"/lab/programs/{program}", *arguments]
        self.n1.run(*argv, timeout_s=3600)


def _last(log: str, text: str) -> datetime:
    """When the module log told this last; its lines are `| date time | who | level | text`."""
    lines = [line.split(" | ") for line in log.splitlines() if text in line]
    if not lines:
        raise LabError(f"the log of {MODULE} never says {text!r}")
    return datetime.strptime(lines[-1][0].lstrip("| "), "%Y-%m-%d %H:%M:%S:%f")
